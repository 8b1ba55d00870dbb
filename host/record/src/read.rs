//! Reads what runs have left.

use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use loom_contract::event::EventLine;
use loom_contract::layout::{self, RuntimeDir};
use rustix::fs::OFlags;
use serde::de::DeserializeOwned;

use crate::RecordError;

/// The longest document that is read, in bytes: more than the receipt of a run of 100,000 jobs.
const MOST_DOCUMENT: u64 = 64 << 20;
/// The longest stream of events that is read as a whole, in bytes.
const MOST_EVENTS: u64 = 256 << 20;

/// The bytes of the file at `path`. It may have come with a repository that somebody else has made: nothing
/// is waited for, and nothing without end is read.
///
/// # Errors
/// It cannot be read, is no regular file, or is longer than `most` bytes. The path is not in the error.
pub fn bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let regular = |kind: &std::fs::Metadata| match kind.file_type() {
        kind if kind.is_dir() => Err(ErrorKind::IsADirectory.into()),
        kind if kind.is_file() => Ok(()),
        _ => Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file")),
    };
    // Before it is opened, since a device may act on that; and after, since it may have become another.
    regular(&std::fs::metadata(path)?)?;
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let mut open = std::fs::OpenOptions::new();
    let file = open.read(true).custom_flags(i32::try_from(flags).unwrap_or_default()).open(path)?;
    let stat = file.metadata()?;
    regular(&stat)?;
    let too_large = || io::Error::new(ErrorKind::FileTooLarge, format!("longer than {most} bytes"));
    if stat.len() > most {
        return Err(too_large());
    }
    // It may grow meanwhile.
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    let is_longer = u64::try_from(bytes.len()).is_ok_and(|length| length > most);
    if is_longer { Err(too_large()) } else { Ok(bytes) }
}

/// The events of a stream. A last line that was torn when Loom was killed is dropped.
///
/// # Errors
/// The file cannot be read, or a whole line is not an event.
pub fn events(path: &Path) -> Result<Vec<EventLine>, RecordError> {
    let bytes = bytes(path, MOST_EVENTS).map_err(|e| RecordError::new("read", path, e))?;
    let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
    let lines = bytes[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|e| RecordError::new("read", path, e))).collect()
}

/// The receipts of the runs of the repository at `repo_root`, the newest first; those of runs that did not
/// end are not among them.
pub fn receipts(repo_root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(RuntimeDir::of_repo(repo_root).receipts_dir());
    let mut receipts: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("loom-run-local-")
                && name.ends_with(".json")
                && !name.ends_with(layout::CACHE_DIFF_SUFFIX)
        })
        .collect();
    // Names are stamps of one length: their order is that of time.
    receipts.sort_unstable_by(|one, other| other.cmp(one));
    receipts
}

/// A document.
///
/// # Errors
/// The file cannot be read, or does not hold one of that kind.
pub fn document<T: DeserializeOwned>(path: &Path) -> Result<T, RecordError> {
    let bytes = bytes(path, MOST_DOCUMENT).map_err(|e| RecordError::new("read", path, e))?;
    serde_json::from_slice(&bytes).map_err(|e| RecordError::new("read", path, e))
}

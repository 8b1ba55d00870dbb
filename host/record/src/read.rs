//! Reads what runs have left.

use std::io::{self, ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use loom_contract::event::EventLine;
use loom_contract::id::{JobId, RunId};
use loom_contract::layout::{self, RuntimeDir};
use loom_contract::summary::JobSummary;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
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

/// A run that has left a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The receipt.
    pub receipt: PathBuf,
    /// The run's log folder.
    pub logs: PathBuf,
    /// Whether the receipt is final. One of a run that goes on, or that was killed, is not.
    pub has_ended: bool,
}

/// The runs of the repository at `repo_root`, the newest first, whatever became of them.
pub fn runs(repo_root: &Path) -> Vec<Left> {
    let runtime = RuntimeDir::of_repo(repo_root);
    let mut runs: Vec<Left> = fs::read_dir(runtime.receipts_dir())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let name = name.to_str()?;
            let whole = name.strip_suffix(layout::PARTIAL_SUFFIX);
            let run_id = RunId::new(whole.unwrap_or(name).strip_suffix(".json")?).ok()?;
            let logs = runtime.run_dir(&run_id);
            Some(Left { receipt: entry.path(), logs, has_ended: whole.is_none() })
        })
        .collect();
    // Names are stamps of one length: their order is that of time. A run that was killed while it ended has both
    // receipts, of which the final one counts.
    runs.sort_unstable_by(|one, other| (&other.logs, other.has_ended).cmp(&(&one.logs, one.has_ended)));
    runs.dedup_by(|one, other| one.logs == other.logs);
    runs
}

/// The final receipts of the runs of the repository at `repo_root`, the newest first.
pub fn receipts(repo_root: &Path) -> Vec<PathBuf> {
    runs(repo_root).into_iter().filter(|run| run.has_ended).map(|run| run.receipt).collect()
}

/// Whether the run with the log folder `logs` still writes to it.
pub fn is_written_to(logs: &Path) -> bool {
    open_folder(logs).is_some_and(|folder| flock(&folder, FlockOperation::NonBlockingLockShared).is_err())
}

/// What the jobs that ended have left in the log folder `logs`, also where the run was killed.
pub fn job_summaries(logs: &Path) -> Vec<JobSummary> {
    let jobs = fs::read_dir(logs.join(layout::JOBS)).into_iter().flatten().flatten();
    let ids = jobs.filter_map(|job| JobId::new(job.file_name().to_str()?).ok());
    ids.filter_map(|id| document(&logs.join(layout::job(&id).summary())).ok()).collect()
}

/// Opens the folder at `path`; nothing else that may be there, which could let the caller wait for ever.
pub(crate) fn open_folder(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}

/// A document.
///
/// # Errors
/// The file cannot be read, or does not hold one of that kind.
pub fn document<T: DeserializeOwned>(path: &Path) -> Result<T, RecordError> {
    let bytes = bytes(path, MOST_DOCUMENT).map_err(|e| RecordError::new("read", path, e))?;
    serde_json::from_slice(&bytes).map_err(|e| RecordError::new("read", path, e))
}

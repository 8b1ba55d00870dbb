//! Reads what runs have left.

use std::path::{Path, PathBuf};

use fs_err as fs;
use loom_contract::event::EventLine;
use loom_contract::layout::RuntimeDir;
use serde::de::DeserializeOwned;

use crate::RecordError;

/// The events of a stream. A last line that was torn when Loom was killed is dropped.
///
/// # Errors
/// The file cannot be read, or a whole line is not an event.
pub fn events(path: &Path) -> Result<Vec<EventLine>, RecordError> {
    let bytes = fs::read(path).map_err(|e| RecordError::new("read", path, e))?;
    let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
    let lines = bytes[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|e| RecordError::new("read", path, e))).collect()
}

/// The receipts of the runs of the repository at `repo_root`, the newest first; those of runs that did not end are not
/// among them.
pub fn receipts(repo_root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(RuntimeDir::of_repo(repo_root).receipts_dir());
    let mut receipts: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("loom-run-local-") && name.ends_with(".json")
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
    let bytes = fs::read(path).map_err(|e| RecordError::new("read", path, e))?;
    serde_json::from_slice(&bytes).map_err(|e| RecordError::new("read", path, e))
}

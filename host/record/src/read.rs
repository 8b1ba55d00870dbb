//! Reads what runs have left.

use std::path::Path;

use fs_err as fs;
use loom_contract::event::EventLine;
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

/// A document.
///
/// # Errors
/// The file cannot be read, or does not hold one of that kind.
pub fn document<T: DeserializeOwned>(path: &Path) -> Result<T, RecordError> {
    let bytes = fs::read(path).map_err(|e| RecordError::new("read", path, e))?;
    serde_json::from_slice(&bytes).map_err(|e| RecordError::new("read", path, e))
}

//! What a comparison of runs found.

use std::path::{Path, PathBuf};

use loom_contract::cache_diff::CacheDiff;
use loom_contract::layout::RuntimePath;
use loom_contract::receipt::RunReceipt;
use loom_contract::redacted::{Mask, Redacted};

use crate::RecordError;
use crate::atomic::{Durability, pretty};
use crate::folders;
use crate::read;
use crate::writer::place;

/// Writes `found` to `path`, and to each of `receipts`, which stand beside it, where it is.
///
/// # Errors
/// Something cannot be read or written.
pub fn write_cache_diff(
    repo_root: &Path,
    path: &Path,
    found: &Redacted<CacheDiff>,
    receipts: &[PathBuf],
    mask: &dyn Mask,
) -> Result<(), RecordError> {
    let write = |path: &Path, bytes: Vec<u8>| -> Result<(), RecordError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        place(path.parent().unwrap_or(path), vec![(name, bytes)]).write(Durability::Sync)?;
        folders::give_to_owner(repo_root, path).map_err(|error| RecordError::new("write", path, error))
    };
    write(path, pretty(found))?;
    for receipt in receipts {
        let mut read: RunReceipt = read::document(receipt)?;
        read.cache_diff_path = Some(RuntimePath::new(repo_root, path));
        write(receipt, pretty(&Redacted::new(read, mask)))?;
    }
    Ok(())
}

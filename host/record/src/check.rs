//! Receipts of checks.

use std::path::{Path, PathBuf};

use loom_contract::receipt::CheckReceipt;
use loom_contract::redacted::Redacted;
use loom_contract::time::Timestamp;

use crate::RecordError;
use crate::atomic::{Durability, pretty};
use crate::folders;
use crate::retain::retain_checks;
use crate::writer::place;

/// Writes the receipt of a check of the repository at `repo_root` that was made at `now`. Returns where it
/// stands.
///
/// # Errors
/// It cannot be written.
pub fn write_check_receipt(
    repo_root: &Path,
    now: Timestamp,
    receipt: &Redacted<CheckReceipt>,
) -> Result<PathBuf, RecordError> {
    let runtime = folders::make(repo_root)?;
    let path = runtime.check_receipt(&now.basic_iso(), std::process::id());
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    place(&runtime.receipts_dir(), vec![(name, pretty(receipt))]).write(Durability::Rename)?;
    folders::give_to_owner(repo_root, &path).map_err(|e| RecordError::new("write", &path, e))?;
    if let Err(error) = retain_checks(repo_root) {
        tracing::warn!(%error, "old receipts of checks stay");
    }
    Ok(path)
}

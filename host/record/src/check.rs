//! Receipts of checks.

use std::path::{Path, PathBuf};

use loom_contract::layout::RuntimeDir;
use loom_contract::receipt::CheckReceipt;
use loom_contract::time::Timestamp;

use crate::RecordError;
use crate::atomic::{Durability, make_folder, pretty};
use crate::open::ignore_in_git;
use crate::writer::place;

/// Writes the receipt of a check of the repository at `repo_root` that was made at `now`. Returns where it stands.
///
/// # Errors
/// It cannot be written.
pub fn write_check_receipt(
    repo_root: &Path,
    now: Timestamp,
    receipt: &CheckReceipt,
) -> Result<PathBuf, RecordError> {
    let runtime = RuntimeDir::of_repo(repo_root);
    make_folder(&runtime.receipts_dir())?;
    ignore_in_git(&runtime)?;
    let path = runtime.check_receipt(&now.basic_iso(), std::process::id());
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    place(&runtime.receipts_dir(), vec![(name, pretty(receipt))]).write(Durability::Rename)?;
    Ok(path)
}

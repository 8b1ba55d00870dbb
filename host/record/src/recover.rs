//! Runs whose Loom was killed.

use std::path::Path;

use fs_err as fs;
use loom_contract::id::RunId;
use loom_contract::layout::{self, RuntimeDir};
use loom_contract::receipt::RunReceipt;
use rustix::fs::{FlockOperation, flock};

use crate::{RecordError, read};

/// Closes the receipts of the runs of the repository at `repo_root` that were killed, which from then on say
/// `interrupted` for good. `is_alive` says of a run whether it lives. Returns the runs.
///
/// Nothing is decided here that reaches out of the record: what is in a repository can be copied, committed
/// and removed.
///
/// # Errors
/// A receipt could not be closed. The others are closed all the same.
pub fn recover(repo_root: &Path, is_alive: impl Fn(&RunId) -> bool) -> Result<Vec<RunId>, RecordError> {
    let runtime = RuntimeDir::of_repo(repo_root);
    let mut dead = Vec::new();
    let mut result = Ok(());
    // No folder of receipts: no run has ever been here.
    for entry in fs::read_dir(runtime.receipts_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(run_id) = name
            .to_str()
            .and_then(|name| name.strip_suffix(layout::PARTIAL_SUFFIX)?.strip_suffix(".json"))
            .and_then(|name| RunId::new(name).ok())
        else {
            continue;
        };
        // Held until the receipt is closed, so that two recoveries do not meet. A run of somebody else, in a
        // container with this repository mounted for example, is not known here, and holds it while it lives.
        let folder = runtime.run_dir(&run_id);
        let lock = match read::open_folder(&folder) {
            Some(opened) => match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => Some(opened),
                Err(_) => continue,
            },
            // Its logs were removed by hand, or something else is called so.
            None => None,
        };
        if is_alive(&run_id) {
            continue;
        }
        if lock.is_some() {
            let _ = fs::remove_file(folder.join(layout::BALLAST));
        }
        let closed = close(&entry.path(), &runtime.receipt(&run_id));
        drop(lock);
        match closed {
            Ok(()) => dead.push(run_id),
            Err(error) => result = Err(error),
        }
    }
    result.map(|()| dead)
}

fn close(partial: &Path, receipt: &Path) -> Result<(), RecordError> {
    // A run that was killed between its receipt and the removal of the partial one has both: the whole one
    // counts.
    let result = if read::document::<RunReceipt>(receipt).is_ok() {
        fs::remove_file(partial)
    } else {
        fs::rename(partial, receipt)
    };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(RecordError::new("close the receipt", partial, error))
        }
        _ => Ok(()),
    }
}

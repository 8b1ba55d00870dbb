//! Runs whose Loom was killed.

use std::path::{Path, PathBuf};

use fs_err as fs;
use loom_contract::id::RunId;
use loom_contract::layout::{self, RuntimeDir};
use loom_contract::receipt::RunReceipt;
use rustix::fs::{FlockOperation, flock};

use crate::{RecordError, read};

/// A run that ended without a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadRun {
    /// The run.
    pub run_id: RunId,
    /// Its log folder.
    pub dir: PathBuf,
}

/// Finds the runs of the repository at `repo_root` that were killed, lets `clean` remove what they left outside their
/// record, and closes their receipts, which from then on say `interrupted` for good.
///
/// A run is dead only when the lock on its log folder is free: nothing is ever taken from one that lives.
///
/// # Errors
/// A receipt could not be closed. The others are closed all the same.
pub fn recover(repo_root: &Path, mut clean: impl FnMut(&DeadRun)) -> Result<Vec<DeadRun>, RecordError> {
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
        let run = DeadRun { dir: runtime.run_dir(&run_id), run_id };
        // Held until the receipt is closed, so that two recoveries do not meet.
        let lock = match fs::File::open(&run.dir) {
            Ok(folder) => match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => Some(folder),
                Err(_) => continue,
            },
            // Its logs were removed by hand.
            Err(_) => None,
        };
        clean(&run);
        let _ = fs::remove_file(run.dir.join(layout::BALLAST));
        let closed = close(&entry.path(), &runtime.receipt(&run.run_id));
        drop(lock);
        match closed {
            Ok(()) => dead.push(run),
            Err(error) => result = Err(error),
        }
    }
    result.map(|()| dead)
}

fn close(partial: &Path, receipt: &Path) -> Result<(), RecordError> {
    // A run that was killed between its receipt and the removal of the partial one has both: the whole one counts.
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

/// Whether the run of the repository at `repo_root` that is named `run_id` lives.
pub fn is_alive(repo_root: &Path, run_id: &str) -> bool {
    let Ok(run_id) = RunId::new(run_id) else {
        return false;
    };
    let Ok(folder) = fs::File::open(RuntimeDir::of_repo(repo_root).run_dir(&run_id)) else {
        return false;
    };
    flock(&folder, FlockOperation::NonBlockingLockShared).is_err()
}

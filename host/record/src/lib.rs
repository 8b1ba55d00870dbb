//! Events to files, and files back to values.
//!
//! ```text
//!  Event ──> Record::write ──(bounded channel)──> writer thread ──> events.jsonl, step and section summaries
//!                                                     │
//!                                                     └──(channel)──> document thread ──> job and pipeline documents,
//!                                                                     with fsync, so that no event waits for a disk
//!  Record::finish ──> phase-report.json, then the receipt: the last word on a run
//! ```
//!
//! A file that cannot be written is an error that the next call reports; a run that cannot write its contract
//! fails.

mod atomic;
mod cache_diff;
mod check;
mod documents;
mod fault;
mod folders;
mod jsonl;
mod open;
mod pin;
pub mod read;
mod recover;
mod retain;
#[cfg(test)]
mod tests;
mod writer;

pub use cache_diff::write_cache_diff;
pub use check::write_check_receipt;
pub use open::{Ended, Record, RunFacts};
pub use pin::{pin, unpin};
pub use recover::recover;
pub use retain::{Limits, Retained, Retention, retain};

use std::path::PathBuf;

use loom_contract::error::{ErrorInfo, code};

/// A file of the contract that could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct RecordError {
    /// The action that failed.
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The reason.
    pub source: std::io::Error,
}

impl RecordError {
    pub(crate) fn new(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<std::io::Error>,
    ) -> Self {
        Self { action, path: path.into(), source: source.into() }
    }

    /// The error as documents carry it; for a full disk with what is left on it.
    pub fn to_info(&self) -> ErrorInfo {
        let info = ErrorInfo::new(code::RECORD_FAILED, self.to_string());
        if self.source.kind() != std::io::ErrorKind::StorageFull {
            return info;
        }
        let folder = self.path.ancestors().find(|p| p.is_dir());
        match folder.and_then(|folder| rustix::fs::statvfs(folder).ok()) {
            Some(free) => info.with_hint(format!(
                "the disk is full: {} bytes and {} inodes are free; free some and run again",
                free.f_bavail.saturating_mul(free.f_frsize),
                free.f_favail
            )),
            None => info.with_hint("the disk is full: free some space and run again"),
        }
    }
}

//! For whom something is made, as its labels say.

use std::collections::HashMap;

/// With which all labels of Loom begin.
pub(crate) const LABELS: &str = "loom.";
pub(crate) const RUN_ID: &str = "loom.run_id";
const JOB_ID: &str = "loom.job_id";
const REPO: &str = "loom.repo";

/// For whom something was made: what its labels say to people. Nothing is decided by them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// `loom.run_id`.
    pub run_id: String,
    /// `loom.job_id`.
    pub job_id: String,
    /// `loom.repo`: the path of the repository.
    pub repo: String,
}

impl Owner {
    pub(crate) fn labels(&self) -> HashMap<String, String> {
        let pairs = [(RUN_ID, &self.run_id), (JOB_ID, &self.job_id), (REPO, &self.repo)];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }
}

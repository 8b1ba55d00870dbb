//! What a daemon is known to see of this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// The paths that the daemon is known to see, and those that it is known not to see.
#[derive(Debug, Default)]
pub(crate) struct Visibility(Mutex<BTreeMap<PathBuf, bool>>);

impl Visibility {
    /// Whether it sees `path`, where that is known.
    pub(crate) fn of(&self, path: &Path) -> Option<bool> {
        self.0.lock().get(path).copied()
    }

    pub(crate) fn set(&self, path: &Path, seen: bool) {
        self.0.lock().insert(path.to_owned(), seen);
    }
}

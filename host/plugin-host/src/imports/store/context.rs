//! What `loom:workspace/store` keeps for one guest.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use loom_cache::key::FilesHash;

use crate::caches::Caches;

/// The run's caches, and what the guest had hashed.
#[derive(Default)]
pub(crate) struct StoreContext {
    /// None for a guest that does not have them.
    caches: Option<Arc<Caches>>,
    /// With the globs.
    pub(super) hashed: Vec<(String, FilesHash)>,
}

impl StoreContext {
    pub(crate) fn new(caches: Arc<Caches>) -> Self {
        Self { caches: Some(caches), hashed: Vec::new() }
    }

    pub(super) fn caches(&self) -> wasmtime::Result<&Arc<Caches>> {
        self.caches.as_ref().ok_or_else(|| wasmtime::format_err!("the run has no store"))
    }

    /// The files that `key` was made from, and how.
    pub(super) fn inputs(&self, key: &str) -> (String, Vec<(String, String)>) {
        let used = self.hashed.iter().filter(|(_, hash)| key.contains(&hash.hex));
        let (mut recipe, mut inputs) = (String::new(), Vec::new());
        for (globs, hash) in used {
            let _ = write!(recipe, "{}{globs}", if recipe.is_empty() { "" } else { " " });
            let file =
                |(path, digest): &(PathBuf, String)| (path.to_string_lossy().into_owned(), digest.clone());
            inputs.extend(hash.files.iter().map(file));
        }
        (recipe, inputs)
    }
}

//! The one door to other files: this crate reads none itself.

/// Gives the text of files that a workflow includes.
pub trait Loader {
    /// The text of the file at `path`, relative to the repository's root. `path` starts with `.loom/templates/` and has
    /// no `..`; whether it leads out of the repository by a symlink is for the loader to refuse.
    ///
    /// # Errors
    /// The file is absent, unreadable, or no UTF-8.
    fn load(&self, path: &str) -> Result<String, LoadError>;
}

/// Why an included file could not be had: a lowercase fragment, as in "no such file".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct LoadError {
    reason: String,
}

impl LoadError {
    /// An error that says `reason`.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// A loader that has no files: for a workflow that includes none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFiles;

impl Loader for NoFiles {
    fn load(&self, _: &str) -> Result<String, LoadError> {
        Err(LoadError::new("there are no files to include here"))
    }
}

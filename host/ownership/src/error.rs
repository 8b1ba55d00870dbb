use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// A folder or a ledger that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else could replace what is in a folder.
    #[error("{} is not safe to use: {} {why}", path.display(), culprit.display())]
    NotPrivate {
        /// The folder that was to be used.
        path: PathBuf,
        /// The folder on the way to it, or itself, that is not safe.
        culprit: PathBuf,
        /// What is wrong with it, as the rest of a sentence.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// The system refused something.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried, as in "make the folder".
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path, source: impl Into<std::io::Error>) -> Self {
        Self::Io { doing, path: path.to_owned(), source: source.into() }
    }

    /// For closures that map an error of the system.
    pub(crate) fn doing(doing: &'static str, path: &Path) -> impl Fn(Errno) -> Self {
        move |errno| Self::io(doing, path, errno)
    }

    /// What to do, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::NotPrivate { hint, .. } => Some(hint),
            Self::Io { .. } => None,
        }
    }
}

use std::io;
use std::path::PathBuf;

use loom_tree::{FileError, ReplicateError};

/// The reason why a snapshot could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The run was cancelled while the copy was made.
    #[error("cancelled while the repository was copied")]
    Cancelled,
    /// Something stands where the copy should go.
    #[error("cannot copy the repository: `{}` exists already", path.display())]
    Exists {
        /// The destination of the copy.
        path: PathBuf,
    },
    /// The copy would be part of what is copied.
    #[error("cannot copy the repository `{}` into itself: `{}`", root.display(), dest.display())]
    InsideRepository {
        /// The repository's root.
        root: PathBuf,
        /// The destination of the copy.
        dest: PathBuf,
    },
    /// The folder belongs to a git repository, but there is no git to read it with.
    #[error("cannot read the git repository at `{}`: no `git` on PATH", marker.display())]
    GitMissing {
        /// The `.git` that was found.
        marker: PathBuf,
    },
    /// Git could not be started.
    #[error("cannot start git in `{}`: {source}", root.display())]
    GitStart {
        /// The folder in which it was to be started.
        root: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Git was asked and refused.
    #[error("`git {command}` failed in `{}`: {words}", root.display())]
    Git {
        /// The folder about which git was asked.
        root: PathBuf,
        /// The command, without its options.
        command: &'static str,
        /// The text that git wrote to its stderr, or the status with which it ended where it wrote nothing.
        words: String,
    },
    /// A file or folder of the repository, or of the copy, could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<ReplicateError> for Error {
    fn from(error: ReplicateError) -> Self {
        match error {
            ReplicateError::Cancelled => Self::Cancelled,
            ReplicateError::File(error) => Self::File(error),
        }
    }
}

impl Error {
    /// The remedy, where that is not plain from the error itself: a sentence without full stop.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::InsideRepository { .. } => {
                "set XDG_CACHE_HOME to a folder outside the repository".to_owned()
            }
            Self::GitMissing { .. } => "install git, or put the folder that holds it on PATH".to_owned(),
            Self::File(FileError::Read { path, source })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                format!("make `{}` readable, or have git ignore it", path.display())
            }
            Self::File(FileError::NoSpace { .. }) => {
                "free some space, or set XDG_CACHE_HOME to a folder on a larger file system".to_owned()
            }
            _ => return None,
        })
    }

    pub(crate) fn read(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        FileError::read(path, source).into()
    }

    pub(crate) fn write(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        FileError::write(path, source).into()
    }
}

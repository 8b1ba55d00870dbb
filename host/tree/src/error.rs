//! What can go wrong, and what is worth telling although nothing did.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use crate::pattern::BadPattern;

/// Why files could not be taken from a tree or put into one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller asked to stop.
    #[error("cancelled while files were copied")]
    Cancelled,
    /// A pattern is none that a tree may be searched by.
    #[error("the path `{pattern}` {why}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong with it: the end of a sentence.
        why: String,
    },
    /// A file would have been written where it must not be.
    #[error("refused to place `{}`: it {why}", path.display())]
    Refused {
        /// As it was given.
        path: PathBuf,
        /// The rule: the end of a sentence.
        why: &'static str,
    },
    /// There is something where a file or folder is to be.
    #[error("cannot place `{}`: there is {what} in its way", path.display())]
    InTheWay {
        /// What was to be written.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// A file or folder could not be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file or folder could not be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file system is full, or the user's quota on it is used up.
    #[error("no space left: cannot write `{}`: {source}", path.display())]
    NoSpace {
        /// What could not be written.
        path: PathBuf,
        /// The file system's own words.
        source: io::Error,
    },
    /// A file or folder could not be removed.
    #[error("cannot remove `{}`: {source}", path.display())]
    Remove {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl From<BadPattern> for Error {
    fn from(BadPattern { pattern, why }: BadPattern) -> Self {
        Self::Pattern { pattern, why }
    }
}

impl Error {
    pub(crate) fn read(path: impl Into<PathBuf>, errno: Errno) -> Self {
        Self::Read { path: path.into(), source: errno.into() }
    }

    pub(crate) fn remove(path: impl Into<PathBuf>, errno: Errno) -> Self {
        Self::Remove { path: path.into(), source: errno.into() }
    }

    pub(crate) fn write(path: impl Into<PathBuf>, errno: Errno) -> Self {
        Self::write_io(path, errno.into())
    }

    pub(crate) fn write_io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let (path, source) = (path.into(), plain(source));
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path, source },
            _ => Self::Write { path, source },
        }
    }
}

/// The system's own words alone: what `fs_err` adds, the path, is in our errors already.
fn plain(error: io::Error) -> io::Error {
    let code = error.raw_os_error();
    let inner = error.get_ref().and_then(|inner| inner.source()).and_then(|source| source.downcast_ref());
    match code.or_else(|| inner.and_then(io::Error::raw_os_error)) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error,
    }
}

/// What went otherwise than one would think, while the act itself went well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Something that was to be copied was not.
    #[error("`{}` was left out: {why}", path.display())]
    LeftOut {
        /// Below the root of the tree.
        path: PathBuf,
        /// Why.
        why: LeftOut,
    },
    /// The caller refused names, or targets of symlinks; they are not repeated here.
    #[error("{0} of the files were left out: their names hold what must not be written")]
    Refused(u64),
    /// More warnings than are worth listing.
    #[error("{0} more files were left out")]
    More(u64),
}

/// Why a file was not copied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeftOut {
    /// It, or a folder above it, was removed before it was read.
    #[error("it went away before it was read")]
    Vanished,
    /// The system did not let it be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// It is neither file nor folder nor symlink.
    #[error("it is a {0}")]
    Special(&'static str),
    /// A symlink that leads, or could lead, outside the tree.
    #[error("it is a symlink to `{}`, which {why}", target.display())]
    Link {
        /// Where it points.
        target: PathBuf,
        /// The end of a sentence.
        why: &'static str,
    },
    /// A pattern names something behind a symlink, which is not followed.
    #[error("it is a symlink, and what is behind a symlink is not looked at")]
    Behind,
    /// It has the name under which the archive is kept.
    #[error("the archive of all files has its name")]
    Archive,
}

impl LeftOut {
    /// What to say of `path`, of the tree, that could not be read; an error where that is no matter of this file alone: a
    /// disk that fails, or too many open files.
    pub(crate) fn of(path: &[u8], errno: Errno) -> Result<Self, Error> {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Ok(Self::Vanished),
            Errno::ACCESS | Errno::PERM => Ok(Self::Unreadable(io::Error::from(errno).to_string())),
            _ => Err(Error::read(OsStr::from_bytes(path), errno)),
        }
    }
}

/// The first error of many threads, which tells the others to stop, as the caller's wish to cancel does.
pub(crate) struct FirstError<'a> {
    cancel: &'a AtomicBool,
    set: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl<'a> FirstError<'a> {
    pub(crate) fn new(cancel: &'a AtomicBool) -> Self {
        Self { cancel, set: AtomicBool::new(false), error: Mutex::default() }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.set.load(Ordering::Relaxed) || self.cancel.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, error: Error) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.set.store(true, Ordering::Relaxed);
    }

    pub(crate) fn into_result(self) -> Result<(), Error> {
        match self.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None if self.cancel.load(Ordering::Relaxed) => Err(Error::Cancelled),
            None => Ok(()),
        }
    }
}

/// Warnings of one act, the first of them in full.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    list: Vec<Warning>,
    more: u64,
    refused: u64,
}

impl Warnings {
    /// So many are listed: enough to see a pattern, few enough to read.
    const LISTED: usize = 50;

    pub(crate) fn push(&mut self, path: PathBuf, why: LeftOut) {
        if self.list.len() < Self::LISTED {
            self.list.push(Warning::LeftOut { path, why });
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn refuse(&mut self) {
        self.refused += 1;
    }

    pub(crate) fn take(warnings: Mutex<Self>) -> Vec<Warning> {
        let Self { mut list, more, refused } = warnings.into_inner().unwrap_or_else(PoisonError::into_inner);
        list.sort_by_cached_key(Warning::to_string);
        list.extend((more > 0).then_some(Warning::More(more)));
        list.extend((refused > 0).then_some(Warning::Refused(refused)));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_files_own_matter_leaves_a_file_out() {
        let of = |errno| LeftOut::of(b"a/b", errno);
        for errno in [Errno::NOENT, Errno::NOTDIR, Errno::LOOP] {
            assert_eq!(of(errno).unwrap(), LeftOut::Vanished);
        }
        for errno in [Errno::ACCESS, Errno::PERM] {
            assert!(matches!(of(errno).unwrap(), LeftOut::Unreadable(_)));
        }
        for errno in [Errno::IO, Errno::MFILE, Errno::NOMEM, Errno::STALE, Errno::NOTCONN, Errno::TIMEDOUT] {
            let error = of(errno).unwrap_err().to_string();
            assert!(error.starts_with("cannot read `a/b`: "), "{error}");
        }
    }
}

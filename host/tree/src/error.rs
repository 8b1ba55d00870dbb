//! What can go wrong, and what is worth telling although nothing did.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::pattern::BadPattern;

/// A failure to read or write one file or folder.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A failure to read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A failure to write or to remove.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file system is full, or the user's quota on it is used up.
    #[error("no space left: cannot write `{}`: {source}", path.display())]
    NoSpace {
        /// The file that could not be written.
        path: PathBuf,
        /// The file system's own words.
        source: io::Error,
    },
}

impl FileError {
    /// A failure to read `path`.
    pub fn read(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Read { path: path.into(), source: without_path(source.into()) }
    }

    /// A failure to write or remove `path`: for want of space, or for another reason.
    pub fn write(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.into(), without_path(source.into()));
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path, source },
            _ => Self::Write { path, source },
        }
    }
}

/// The system's own words alone: what `fs_err` adds, the path, is in our errors already.
fn without_path(error: io::Error) -> io::Error {
    let code = error.raw_os_error();
    let inner = error.get_ref().and_then(|inner| inner.source()).and_then(|source| source.downcast_ref());
    match code.or_else(|| inner.and_then(io::Error::raw_os_error)) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error,
    }
}

/// The reason why files could not be taken from a tree or put into one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller asked to stop.
    #[error("cancelled while files were copied")]
    Cancelled,
    /// A pattern is none that a tree may be searched by.
    #[error("the path `{pattern}` {why}")]
    Pattern {
        /// The text as it was given.
        pattern: String,
        /// The fault: the end of a sentence.
        why: String,
    },
    /// A file would have been written where it must not be.
    #[error("refused to place `{}`: it {why}", path.display())]
    Refused {
        /// The text as it was given.
        path: PathBuf,
        /// The rule: the end of a sentence.
        why: &'static str,
    },
    /// There is something where a file or folder is to be.
    #[error("cannot place `{}`: there is {what} in its way", path.display())]
    InTheWay {
        /// The file that was to be written.
        path: PathBuf,
        /// The kind of what is there.
        what: &'static str,
    },
    /// A file or folder could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file or folder could not be removed.
    #[error("cannot remove `{}`: {source}", path.display())]
    Remove {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl From<BadPattern> for Error {
    fn from(BadPattern { pattern, why }: BadPattern) -> Self {
        Self::Pattern { pattern, why }
    }
}

impl Error {
    pub(crate) fn read(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        FileError::read(path, source).into()
    }

    pub(crate) fn write(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        FileError::write(path, source).into()
    }

    pub(crate) fn remove(path: impl Into<PathBuf>, errno: Errno) -> Self {
        Self::Remove { path: path.into(), source: errno.into() }
    }
}

/// The reason why a tree could not be replicated.
#[derive(Debug)]
pub enum ReplicateError {
    /// The caller asked to stop.
    Cancelled,
    /// A file or folder could not be read or written.
    File(FileError),
}

impl From<FileError> for ReplicateError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

/// Something worth telling, while the act itself went well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Something that was to be copied was not.
    #[error("`{}` was left out: {why}", path.display())]
    LeftOut {
        /// Below the root of the tree.
        path: PathBuf,
        /// The reason.
        why: LeftOut,
    },
    /// The caller refused names, or targets of symlinks; they are not repeated here.
    #[error("{0} of the files were left out: their names hold what must not be written")]
    Refused(u64),
    /// The number of warnings that are not listed.
    #[error("{0} more files were left out")]
    More(u64),
}

/// The reason why a file was left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeftOut {
    /// A file that changed while it was read, twice.
    #[error("it changed while it was read")]
    Changing,
    /// A file that was removed, or a folder above it, before it was read.
    #[error("it went away before it was read")]
    Vanished,
    /// The system did not let it be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// Neither file nor folder nor symlink.
    #[error("it is a {0}")]
    Special(&'static str),
    /// A symlink that leads, or could lead, outside the tree.
    #[error("it is a symlink to `{}`, which {why}", target.display())]
    Link {
        /// The target of the symlink.
        target: PathBuf,
        /// The end of a sentence.
        why: &'static str,
    },
    /// A pattern names something behind a symlink, which is not followed.
    #[error("it is a symlink, and what is behind a symlink is not looked at")]
    Behind,
    /// A file by the name of the archive.
    #[error("the archive of all files has its name")]
    Archive,
}

impl LeftOut {
    /// The reason to leave out `path`, which could not be read; an error where that is no matter of this file
    /// alone: a disk that fails, or too many open files.
    ///
    /// # Errors
    /// It is no matter of this file alone.
    pub fn of(path: &Path, errno: Errno) -> Result<Self, FileError> {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Ok(Self::Vanished),
            Errno::ACCESS | Errno::PERM => Ok(Self::Unreadable(io::Error::from(errno).to_string())),
            _ => Err(FileError::read(path, errno)),
        }
    }

    /// The reason to leave out what is neither file nor symlink.
    pub fn special(kind: FileType) -> Self {
        Self::Special(match kind {
            FileType::Directory => "folder",
            FileType::Fifo => "fifo",
            FileType::Socket => "socket",
            FileType::CharacterDevice | FileType::BlockDevice => "device",
            _ => "file of an unknown kind",
        })
    }
}

/// The first error of many threads. It tells the others to stop, as the caller's wish to cancel does.
#[derive(Debug)]
pub struct FirstError<'a, E> {
    cancel: &'a AtomicBool,
    set: AtomicBool,
    error: Mutex<Option<E>>,
}

impl<'a, E> FirstError<'a, E> {
    /// No error so far.
    pub fn new(cancel: &'a AtomicBool) -> Self {
        Self { cancel, set: AtomicBool::new(false), error: Mutex::new(None) }
    }

    /// Whether there is an error, or the caller cancelled.
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Relaxed) || self.cancel.load(Ordering::Relaxed)
    }

    /// Keeps `error`, unless there is one already.
    pub fn set(&self, error: E) {
        self.error.lock().get_or_insert(error);
        self.set.store(true, Ordering::Relaxed);
    }

    /// The end of all threads.
    ///
    /// # Errors
    /// The first error; `cancelled` where there is none and the caller cancelled.
    pub fn into_result(self, cancelled: E) -> Result<(), E> {
        match self.error.into_inner() {
            Some(error) => Err(error),
            None if self.cancel.load(Ordering::Relaxed) => Err(cancelled),
            None => Ok(()),
        }
    }
}

/// Warnings of one act: the first of them in full, and the number of the others.
#[derive(Debug)]
pub struct WarningList<W> {
    listed: Vec<W>,
    more: u64,
}

impl<W> Default for WarningList<W> {
    fn default() -> Self {
        Self { listed: Vec::new(), more: 0 }
    }
}

impl<W: ToString> WarningList<W> {
    /// Enough to see a pattern, few enough to read.
    const LISTED: usize = 50;

    /// Adds a warning.
    pub fn push(&mut self, warning: W) {
        if self.listed.len() < Self::LISTED {
            self.listed.push(warning);
        } else {
            self.more += 1;
        }
    }

    /// All warnings in the order of their texts; at the end what `more` says of those that are not listed, if
    /// there are any.
    pub fn into_list(mut self, more: impl FnOnce(u64) -> W) -> Vec<W> {
        self.listed.sort_by_cached_key(W::to_string);
        self.listed.extend((self.more > 0).then(|| more(self.more)));
        self.listed
    }
}

/// Warnings of a copy.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    list: WarningList<Warning>,
    refused: u64,
}

impl Warnings {
    pub(crate) fn push(&mut self, path: PathBuf, why: LeftOut) {
        self.list.push(Warning::LeftOut { path, why });
    }

    pub(crate) fn refuse(&mut self) {
        self.refused += 1;
    }

    pub(crate) fn into_list(self) -> Vec<Warning> {
        let mut list = self.list.into_list(Warning::More);
        list.extend((self.refused > 0).then_some(Warning::Refused(self.refused)));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_files_own_matter_leaves_a_file_out() {
        let of = |errno| LeftOut::of(Path::new("a/b"), errno);
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

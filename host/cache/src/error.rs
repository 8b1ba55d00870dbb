//! What can go wrong, and what is worth telling although nothing did.

use std::io;
use std::path::PathBuf;

use loom_tree::dir::to_path;
use loom_tree::{BadPattern, FileError, LeftOut};

/// The reason why the store could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller asked to stop.
    #[error("cancelled while the cache was at work")]
    Cancelled,
    /// A damaged file of the store's format.
    #[error("`{}` does not say which format the cache store has", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// The store was written by an older Loom.
    #[error("the cache store `{}` has format {found}, and this Loom's is {known}", root.display())]
    Older {
        /// The store's folder.
        root: PathBuf,
        /// The number in its format file.
        found: u32,
        /// The format that this Loom reads.
        known: u32,
    },
    /// The store was written by a later Loom.
    #[error(
        "the cache store `{}` has format {found}, but this Loom knows formats up to {known}",
        root.display()
    )]
    Newer {
        /// The store's folder.
        root: PathBuf,
        /// The number in its format file.
        found: u32,
        /// The newest format that this Loom reads.
        known: u32,
    },
    /// A declared path is none that a cache may have.
    #[error("the cache path `{pattern}` {why}")]
    Pattern {
        /// The text as it was given.
        pattern: String,
        /// The fault: the end of a sentence.
        why: String,
    },
    /// The declared paths name the store, or a part of it: a restore would remove it.
    #[error("the cache store `{}` lies within the declared paths", root.display())]
    StoreWithin {
        /// The store's folder.
        root: PathBuf,
    },
    /// Something would have been written where it must not be, or through something that it must not go
    /// through.
    #[error("refused to restore `{}`: {why}", path.display())]
    Refused {
        /// The file that was to be restored.
        path: PathBuf,
        /// The rule.
        why: String,
    },
    /// Content of the entry is not what was saved. The entry has been set aside; what the restore had written
    /// is gone again.
    #[error("the cache entry `{key}` of `{name}` is damaged and was set aside: `{}` {why}", what.display())]
    Damaged {
        /// The cache's name.
        name: String,
        /// The entry's key.
        key: String,
        /// The file of the store.
        what: PathBuf,
        /// The fault: the end of a sentence.
        why: String,
    },
    /// The entry was evicted, or set aside, after it was found.
    #[error("the cache entry `{key}` of `{name}` was removed from the store by another process")]
    Gone {
        /// The cache's name.
        name: String,
        /// The entry's key.
        key: String,
    },
    /// Content that a save relied on was removed from the store while it ran, also while the store's lock was
    /// held: not by a collection.
    #[error("the cache store `{}` was emptied by something other than Loom while an entry was saved", root.display())]
    Emptied {
        /// The store's folder.
        root: PathBuf,
    },
    /// A file or folder, of the store or of the tree, could not be read, written or removed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<BadPattern> for Error {
    fn from(BadPattern { pattern, why }: BadPattern) -> Self {
        Self::Pattern { pattern, why }
    }
}

impl Error {
    /// The remedy, where that is not plain from the error itself: a sentence without full stop.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Format { .. } => "the next run puts it right",
            Self::Older { .. } => "the next run begins it anew",
            Self::Newer { .. } => "use the newer Loom, or set `runtime.cacheDir` to another folder",
            Self::StoreWithin { .. } => "set `runtime.cacheDir` to a folder outside the declared paths",
            Self::Damaged { .. } => "the next save makes the entry anew",
            Self::File(FileError::NoSpace { .. }) => {
                "free some space, lower `runtime.cacheMaxBytes`, or run `loom cache gc`"
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

    pub(crate) fn refused(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self::Refused { path: path.into(), why: why.into() }
    }
}

/// Something worth telling, while the act itself went well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A file under the declared paths is not in the entry.
    #[error("`{}` was left out of the cache: {why}", path.display())]
    LeftOut {
        /// Below the tree that was saved.
        path: PathBuf,
        /// The reason.
        why: LeftOut,
    },
    /// A damaged part of the store was found. What it belonged to is a miss from now on.
    #[error("`{}` in the cache store is damaged and was set aside: it {why}", what.display())]
    Damaged {
        /// The file of the store, where it was.
        what: PathBuf,
        /// The fault: the end of a sentence.
        why: String,
        /// The cache's name and the key of the entry, where the file is one entry's own.
        entry: Option<(String, String)>,
    },
    /// The declared paths name files that git tracks; they were left as they are.
    #[error("{}", tracked(*count, first))]
    Tracked {
        /// The number of files.
        count: usize,
        /// The first of them, below the workspace.
        first: Vec<PathBuf>,
    },
    /// The entry holds files that the declared paths do not name; they were not restored.
    #[error("what the declared paths do not name was not restored from the cache entry: `{}` first, {count} in all", first.display())]
    Undeclared {
        /// The number of files.
        count: u64,
        /// The first of them.
        first: PathBuf,
    },
    /// A folder that a restore could not look into. What the declared paths name in it, and the entry does
    /// not hold, is still there.
    #[error("`{}` cannot be looked into, so that files of it that the cache entry does not hold may be left", path.display())]
    NotSeen {
        /// The folder.
        path: PathBuf,
    },
    /// The number of warnings that are not listed.
    #[error("{0} more warnings of this kind")]
    More(u64),
}

/// The number of tracked files that are named.
const TRACKED: usize = 5;

impl Warning {
    /// The warning that the declared paths name these files, which git tracks; nothing where there are none.
    pub(crate) fn of_tracked<'p>(paths: impl Iterator<Item = &'p [u8]>) -> Option<Self> {
        let (mut count, mut first) = (0, Vec::new());
        for path in paths {
            count += 1;
            if first.len() < TRACKED {
                first.push(to_path(path));
            }
        }
        (count > 0).then_some(Self::Tracked { count, first })
    }
}

fn tracked(count: usize, first: &[PathBuf]) -> String {
    let names: Vec<String> = first.iter().map(|path| format!("`{}`", path.display())).collect();
    let more = match count - first.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "the cache leaves alone what git tracks under its paths, and keeps the rest: {}{more}",
        names.join(", ")
    )
}

//! The store of one repository: entries by cache name and key.

use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::entry::Entry;
use crate::evictions::{self, Eviction};
use crate::io::{self, Sync};
use crate::layout::{FORMAT, Layout};
use crate::pointer::{self, Info};
use crate::quarantine::{self, Quarantined, Reason};
use crate::{Error, Warning};

/// A store of cache entries in a folder. Any number of processes may use it at once.
#[derive(Debug, Clone)]
pub struct Store {
    layout: Layout,
}

/// The entry that was found under a key.
#[derive(Debug, Default)]
pub struct Found {
    /// The entry; nothing if it is a miss.
    pub entry: Option<Entry>,
    /// Damage that was met on the way.
    pub warnings: Vec<Warning>,
}

/// The content of the store.
#[derive(Debug, Default)]
pub struct Listed {
    /// The entries, by name, then the newest first.
    pub entries: Vec<Info>,
    /// Damage that was met on the way.
    pub warnings: Vec<Warning>,
}

/// A store that was opened for a run.
#[derive(Debug, Default)]
pub struct Opened {
    /// The store; none where this Loom cannot use it.
    pub store: Option<Store>,
    /// The fault of the store.
    pub trouble: Option<Error>,
}

impl Store {
    /// The store in the folder `root`, which need not exist: the first save makes it.
    ///
    /// # Errors
    /// It was written by a later Loom, or its format cannot be read.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let root = std::path::absolute(root).map_err(|error| Error::read(root, error))?;
        let layout = Layout::new(root);
        match io::read_text(&layout.format()) {
            Ok(text) => match text.trim().parse::<u32>() {
                Ok(FORMAT) => Ok(Self { layout }),
                Ok(found) if (1..FORMAT).contains(&found) => {
                    Err(Error::Older { root: layout.root().to_owned(), found, known: FORMAT })
                }
                Ok(found) if found > FORMAT => {
                    Err(Error::Newer { root: layout.root().to_owned(), found, known: FORMAT })
                }
                _ => Err(Error::Format { path: layout.format() }),
            },
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                Err(Error::Format { path: layout.format() })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self { layout }),
            Err(error) => Err(Error::read(layout.format(), error)),
        }
    }

    /// The store in the folder `root`, for who goes on without one where it cannot be used. What says its
    /// format is put right where it is damaged: what lies there is checked whenever it is read. One of an
    /// older Loom is emptied.
    pub fn open_or_none(root: &Path) -> Opened {
        let trouble = match Self::open(root) {
            Ok(store) => return Opened { store: Some(store), trouble: None },
            Err(error) => error,
        };
        let write = |format: PathBuf| io::replace(&format, format!("{FORMAT}\n").as_bytes(), Sync::Yes);
        let repaired = match &trouble {
            Error::Format { path } => write(path.clone()),
            Error::Older { root, .. } => {
                let layout = Layout::new(root.clone());
                let emptied =
                    layout.folders().iter().try_for_each(|folder| match fs::remove_dir_all(folder) {
                        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::write(folder, error)),
                        _ => Ok(()),
                    });
                emptied.and_then(|()| write(layout.format()))
            }
            _ => return Opened { store: None, trouble: Some(trouble) },
        };
        let store = repaired.and_then(|()| Self::open(root)).ok();
        Opened { store, trouble: Some(trouble) }
    }

    /// The entry of exactly this key. A damaged one is a miss and is set aside. A key in quarantine is found
    /// all the same, see [`is_quarantined`](Self::is_quarantined).
    ///
    /// # Errors
    /// The store is there but cannot be read.
    pub fn find(&self, name: &str, key: &str) -> Result<Found, Error> {
        let mut found = Found::default();
        found.entry = Entry::open(&self.layout, &self.layout.entry(name, key), &mut found.warnings)?;
        Ok(found)
    }

    /// Finds, of the entries whose keys begin with `prefix`, the one that was saved last. Damaged ones are
    /// set aside; keys in quarantine are passed over.
    ///
    /// # Errors
    /// The store is there but cannot be read.
    pub fn newest_with_prefix(&self, name: &str, prefix: &str) -> Result<Found, Error> {
        let mut found = Found::default();
        let mut candidates =
            pointer::all_in(&self.layout, &self.layout.entries_of(name), &mut found.warnings)?;
        candidates.retain(|(_, pointer)| pointer.key.starts_with(prefix));
        candidates.sort_unstable_by(|(_, one), (_, other)| {
            (other.saved(), &one.key).cmp(&(one.saved(), &other.key))
        });
        for (path, pointer) in candidates {
            if !matches!(self.is_quarantined(name, &pointer.key), Ok(None)) {
                continue;
            }
            found.entry = Entry::open(&self.layout, &path, &mut found.warnings)?;
            if found.entry.is_some() {
                break;
            }
        }
        Ok(found)
    }

    /// All entries.
    ///
    /// # Errors
    /// The store is there but cannot be read.
    pub fn list(&self) -> Result<Listed, Error> {
        let mut listed = Listed::default();
        for (path, pointer) in pointer::all(&self.layout, &mut listed.warnings)? {
            // Gone since: not an entry any more.
            if let Ok(used) = pointer::used(&path) {
                listed.entries.push(pointer.into_info(used));
            }
        }
        listed.entries.sort_unstable_by(|one, other| (&one.name, other.saved).cmp(&(&other.name, one.saved)));
        Ok(listed)
    }

    /// Puts a key in quarantine, whether or not there is an entry; a later reason replaces an earlier one.
    /// The entry stays, [`find`](Self::find) still finds it: it is for the caller to ask first.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn quarantine(&self, name: &str, key: &str, reason: &Reason) -> Result<(), Error> {
        self.create()?;
        quarantine::put(&self.layout, name, key, reason)
    }

    /// The reason why a key is in quarantine; nothing if it is not.
    ///
    /// # Errors
    /// It is, but the reason cannot be read. The key counts as being in quarantine.
    pub fn is_quarantined(&self, name: &str, key: &str) -> Result<Option<Reason>, Error> {
        quarantine::get(&self.layout, name, key)
    }

    /// All keys in quarantine, by name and key.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn quarantined(&self) -> Result<(Vec<Quarantined>, Vec<Warning>), Error> {
        quarantine::all(&self.layout)
    }

    /// Ends a quarantine; false if there was none.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn lift(&self, name: &str, key: &str) -> Result<bool, Error> {
        quarantine::lift(&self.layout, name, key)
    }

    /// The entries that were removed, the last one last: what to look at when a key is not found.
    ///
    /// # Errors
    /// The log is there but cannot be read.
    pub fn evictions(&self) -> Result<Vec<Eviction>, Error> {
        evictions::read(&self.layout)
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes the folders of the store, as far as they are missing.
    pub(crate) fn create(&self) -> Result<(), Error> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        let root = self.layout.root().to_owned();
        for folder in std::iter::once(root).chain(self.layout.folders()) {
            let created = io::fault("create", &folder).and_then(|()| builder.create(&folder));
            created.map_err(|error| Error::write(folder, error))?;
        }
        if self.layout.format().exists() {
            return Ok(());
        }
        io::replace(&self.layout.format(), format!("{FORMAT}\n").as_bytes(), Sync::Yes)
    }
}

//! Which repositories the folders are for that are named after them: a name is a hash, and says nothing of a repository that
//! is gone.
//!
//! ```text
//!  <cacheDir>/repositories/<kind>.<folder's name>    a note: the folder's path and stamp, the roots of who has used it
//! ```

use std::fs::File;
use std::io::Write as _;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, renameat, unlinkat};
use serde::{Deserialize, Serialize};

use crate::folder::parent_of;
use crate::ledger::gone;
use crate::system::random_word;
use crate::{Error, PrivateFolder, Stamp, json_file};

const FOLDER: &str = "repositories";
const FORMAT: u32 = 1;
/// Work trees of one repository that are remembered: those that were used last.
const MOST_ROOTS: usize = 100;

/// The notes beside the folders that are named after repositories.
#[derive(Debug, Clone)]
pub struct Notes {
    folder: PrivateFolder,
}

/// What kind of thing a folder holds for its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldFor {
    /// Its caches.
    Cache,
    /// Copies of it.
    Workspaces,
}

/// Whose a folder is.
#[derive(Debug, Clone)]
pub struct Note {
    name: String,
    held: HeldFor,
    text: Text,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Text {
    format: u32,
    folder: PathBuf,
    own: Stamp,
    roots: Vec<PathBuf>,
}

impl HeldFor {
    const ALL: [Self; 2] = [Self::Cache, Self::Workspaces];

    fn word(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Workspaces => "workspaces",
        }
    }
}

impl Notes {
    /// The notes in the folder `repositories` of `cache_dir`, which is made where it does not exist.
    ///
    /// # Errors
    /// It is not the user's alone, or cannot be made.
    pub fn open(cache_dir: &PrivateFolder) -> Result<Self, Error> {
        Ok(Self { folder: cache_dir.folder(FOLDER)? })
    }

    /// The same for who only looks; `None` where there are none.
    ///
    /// # Errors
    /// It is not the user's alone.
    pub fn existing(cache_dir: &PrivateFolder) -> Result<Option<Self>, Error> {
        Ok(cache_dir.existing(FOLDER)?.map(|folder| Self { folder }))
    }

    /// Notes that `folder` is for the repository at `repo_root`, too. Another file in the place of the note stays.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, held: HeldFor, folder: &PrivateFolder, repo_root: &Path) -> Result<(), Error> {
        let name = name_of(held, folder.path());
        let path = self.folder.path().join(&name);
        let own = Stamp::of(folder.fd()).map_err(Error::doing("look at", folder.path()))?;
        let new = Text { format: FORMAT, folder: folder.path().to_owned(), own, roots: Vec::new() };
        let mut text = match read(self.folder.fd(), &name) {
            Ok(Some(text)) => text,
            Ok(None) => new.clone(),
            Err(()) => return Ok(()),
        };
        let before = text.clone();
        if text.own != own || text.folder != new.folder {
            // The folder of that time is gone.
            text = new;
        }
        if text.roots.iter().any(|root| root == repo_root) && text == before {
            return Ok(());
        }
        text.roots.retain(|root| root != repo_root);
        text.roots.push(repo_root.to_owned());
        let surplus = text.roots.len().saturating_sub(MOST_ROOTS);
        text.roots.drain(..surplus);
        let temporary = format!(".{}.tmp", random_word());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let write = || -> std::io::Result<()> {
            let mut file = File::from(openat(self.folder.fd(), &temporary, flags, Mode::RUSR | Mode::WUSR)?);
            file.write_all(&serde_json::to_vec(&text)?)?;
            Ok(renameat(self.folder.fd(), &temporary, self.folder.fd(), &name)?)
        };
        write().map_err(|error| {
            let _ = unlinkat(self.folder.fd(), &temporary, AtFlags::empty());
            Error::io("write", &path, error)
        })
    }

    /// All notes, by name. What is none is passed over.
    pub fn all(&self) -> Vec<Note> {
        let listed = Dir::read_from(self.folder.fd()).into_iter().flatten().flatten();
        let names = listed.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        let mut notes: Vec<Note> = names
            .filter_map(|name| {
                let held = HeldFor::ALL
                    .into_iter()
                    .find(|held| name.split_once('.').is_some_and(|(word, _)| word == held.word()))?;
                let text = read(self.folder.fd(), &name).ok()??;
                (name_of(held, &text.folder) == name).then_some(Note { name, held, text })
            })
            .collect();
        notes.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        notes
    }

    /// Removes a note, whose folder is gone.
    ///
    /// # Errors
    /// It stays.
    pub fn remove(&self, note: &Note) -> Result<(), Error> {
        let removed = unlinkat(self.folder.fd(), &note.name, AtFlags::empty());
        removed.or_else(gone).map_err(Error::doing("remove", &self.folder.path().join(&note.name)))
    }
}

impl Note {
    /// What the folder holds.
    pub fn held(&self) -> HeldFor {
        self.held
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.text.folder
    }

    /// The roots of the repositories, or of work trees of one, that have used it; the last one last.
    pub fn roots(&self) -> &[PathBuf] {
        &self.text.roots
    }

    /// Opens the folder, where it still is the one that was noted; `None` where it is gone.
    ///
    /// # Errors
    /// Somebody else could write there.
    pub fn open(&self) -> Result<Option<PrivateFolder>, Error> {
        let parent = match parent_of(&self.text.folder) {
            Ok((parent, _)) => parent,
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let folder = PrivateFolder::existing_in(&parent, &self.text.folder)?;
        Ok(folder.filter(|folder| Stamp::of(folder.fd()).is_ok_and(|stamp| stamp == self.text.own)))
    }

    /// Removes the folder, where it is empty; says whether it is gone.
    pub fn remove_empty(&self) -> bool {
        let Ok((parent, name)) = parent_of(&self.text.folder) else { return false };
        let is_own = matches!(self.open(), Ok(Some(_)));
        is_own && unlinkat(&parent, name.as_encoded_bytes(), AtFlags::REMOVEDIR).is_ok()
    }
}

fn name_of(held: HeldFor, folder: &Path) -> String {
    format!("{}.{}", held.word(), folder.file_name().unwrap_or_default().to_string_lossy())
}

/// The note `name`; `None` where there is none, an error where something else is called so.
fn read(folder: BorrowedFd<'_>, name: &str) -> Result<Option<Text>, ()> {
    let text: Option<Text> = json_file::read(folder, name)?;
    if text.as_ref().is_none_or(|text| text.format == FORMAT) { Ok(text) } else { Err(()) }
}

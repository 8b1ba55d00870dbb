//! Documents that appear whole or not at all: a temporary file in the same folder, then a rename.

use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::Serialize;

use crate::RecordError;
use crate::fault::{fault, write_all};

/// The durability of a document: whether it must survive a power cut from the moment at which it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// A SIGKILL loses nothing; a power cut may.
    Rename,
    /// The file and its folder are synced.
    Sync,
}

/// Documents of one folder that are written together.
#[derive(Debug)]
pub(crate) struct Documents {
    pub(crate) folder: PathBuf,
    /// File names and contents.
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

impl Documents {
    /// Writes all of them, the last one named last. An error leaves no temporary file.
    pub(crate) fn write(&self, durability: Durability) -> Result<(), RecordError> {
        make_folder(&self.folder)?;
        self.try_write(durability == Durability::Sync).inspect_err(|_| {
            for (name, _) in &self.files {
                let _ = fs::remove_file(self.temporary(name));
            }
        })
    }

    fn try_write(&self, sync: bool) -> Result<(), RecordError> {
        for (name, bytes) in &self.files {
            let temporary = self.temporary(name);
            let written = new_file(&temporary).and_then(|mut file| {
                write_all(&mut file, &temporary, bytes)?;
                if sync {
                    fault("sync", &temporary)?;
                    file.sync_all()?;
                }
                Ok(())
            });
            written.map_err(|error| RecordError::new("write", self.folder.join(name), error))?;
        }
        for (name, _) in &self.files {
            let path = self.folder.join(name);
            let renamed = fault("rename", &path).and_then(|()| fs::rename(self.temporary(name), &path));
            renamed.map_err(|e| RecordError::new("write", path, e))?;
        }
        if sync {
            let sync = || fs::File::open(&self.folder)?.sync_all();
            let synced = fault("sync", &self.folder).and_then(|()| sync());
            synced.map_err(|e| RecordError::new("sync", &self.folder, e))?;
        }
        Ok(())
    }

    fn temporary(&self, name: &str) -> PathBuf {
        self.folder.join(format!(".{name}.tmp"))
    }
}

/// A file that is new: what is left of one that was torn goes, and a link is not followed.
fn new_file(path: &Path) -> std::io::Result<fs::File> {
    fault("create", path)?;
    let new = || fs::OpenOptions::new().write(true).create_new(true).open(path);
    match new() {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            new()
        }
        made => made,
    }
}

/// Makes `folder` and those above it.
pub(crate) fn make_folder(folder: &Path) -> Result<(), RecordError> {
    let made = fault("make", folder).and_then(|()| fs::create_dir_all(folder));
    made.map_err(|e| RecordError::new("make the folder", folder, e))
}

/// `document` as it stands in a file: pretty-printed, with a final line break.
pub(crate) fn pretty(document: &impl Serialize) -> Vec<u8> {
    // Serialising the contract's types into memory cannot fail: their keys are texts.
    let mut bytes = serde_json::to_vec_pretty(document).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

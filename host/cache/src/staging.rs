//! The folder in which a save writes what is not published yet.

use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::Error;
use crate::io::{self, random_name};
use crate::layout::Layout;

/// The folder of one save. It is locked as long as the save lives, so that a collection knows; dropping it
/// removes it.
pub(crate) struct Staging {
    path: PathBuf,
    /// Holds the lock.
    _folder: fs::File,
}

impl Staging {
    pub(crate) fn new(layout: &Layout) -> Result<Self, Error> {
        let path = layout.tmp().join(random_name());
        let create = || -> std::io::Result<fs::File> {
            io::fault("create", &path)?;
            fs::create_dir(&path)?;
            io::fault("lock", &path)?;
            let folder = fs::File::open(&path)?;
            folder.lock()?;
            Ok(folder)
        };
        match create() {
            Ok(folder) => Ok(Self { path, _folder: folder }),
            Err(error) => {
                let _ = fs::remove_dir(&path);
                Err(Error::write(path, error))
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

//! A store that begins as another one is: its files are shared, and what is done to it is not seen in the
//! other.

use std::io::ErrorKind;
use std::path::Path;

use fs_err as fs;

use crate::layout::Layout;
use crate::lock::lock_store;
use crate::store::Store;
use crate::{Error, io};

impl Store {
    /// Makes a store in the folder `root`, which exists and is empty, that holds what this one holds at this
    /// moment, quarantines too. Files of a store are replaced and never changed, so they are hard links where
    /// that can be, else copies. What becomes of either store afterwards, the other does not see, but for
    /// when an entry was last used.
    ///
    /// # Errors
    /// This store cannot be read, or the other cannot be written.
    pub fn linked(&self, root: &Path) -> Result<Self, Error> {
        let linked = Self::open(root)?;
        if !self.layout().root().is_dir() {
            return Ok(linked);
        }
        linked.create()?;
        self.create()?;
        // Nothing is published or removed meanwhile.
        let _lock = lock_store(self.layout())?;
        let folders = |layout: &Layout| [layout.manifests(), layout.packs(), layout.objects()];
        for (from, to) in folders(self.layout()).iter().zip(&folders(linked.layout())) {
            link_all(from, to)?;
        }
        let (from, to) = (self.layout().entries(), linked.layout().entries());
        for folder in io::files(&from).map_err(|error| Error::read(&from, error))? {
            let beside = to.join(folder.file_name().unwrap_or_default());
            fs::create_dir_all(&beside).map_err(|error| Error::write(&beside, error))?;
            link_all(&folder, &beside)?;
        }
        Ok(linked)
    }
}

/// Links the files in the folder `from` into the folder `to`.
fn link_all(from: &Path, to: &Path) -> Result<(), Error> {
    let files = match io::files(from) {
        Ok(files) => files,
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(()),
        Err(error) => return Err(Error::read(from, error)),
    };
    for file in files {
        let is_file = fs::symlink_metadata(&file).is_ok_and(|stat| stat.is_file());
        if !is_file {
            continue;
        }
        let beside = to.join(file.file_name().unwrap_or_default());
        let linked = fs::hard_link(&file, &beside).or_else(|_| fs::copy(&file, &beside).map(drop));
        linked.map_err(|error| Error::write(&beside, error))?;
    }
    Ok(())
}

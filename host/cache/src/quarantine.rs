//! Keys whose entries are not to be used: a run with them differed from one without.

use std::io;
use std::time::SystemTime;

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::layout::{self, QUARANTINE};
use crate::sealed::{self, Sync};
use crate::store::Store;
use crate::{Error, Warning};

/// Why a key is in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The run in which it showed.
    pub run: String,
    /// The job that differed.
    pub job: String,
    /// What differed, a line each.
    pub differences: Vec<String>,
    /// When it was found out.
    pub when: SystemTime,
}

/// A key that is in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The cache's name.
    pub name: String,
    /// The entry's key.
    pub key: String,
    /// Why.
    pub reason: Reason,
}

impl Store {
    /// Puts a key in quarantine, whether or not there is an entry; a later reason replaces an earlier one. The entry
    /// stays, [`find`](Self::find) still finds it: it is for the caller to ask first.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn quarantine(&self, name: &str, key: &str, reason: &Reason) -> Result<(), Error> {
        self.create()?;
        let folder = self.layout().entries_of(name);
        fs::create_dir_all(&folder).map_err(|error| Error::write_io(&folder, error))?;
        let quarantined = Quarantined { name: name.to_owned(), key: key.to_owned(), reason: reason.clone() };
        sealed::replace(&self.layout().quarantine(name, key), &sealed::encode(&quarantined), Sync::Yes)
    }

    /// Why a key is in quarantine; nothing if it is not.
    ///
    /// # Errors
    /// It is, but the reason cannot be read. The key counts as being in quarantine.
    pub fn is_quarantined(&self, name: &str, key: &str) -> Result<Option<Reason>, Error> {
        let path = self.layout().quarantine(name, key);
        match layout::read(&path) {
            Ok(bytes) => match sealed::decode::<Quarantined>(&bytes) {
                Ok(quarantined) => Ok(Some(quarantined.reason)),
                Err(why) => Err(Error::read_io(path, io::Error::other(format!("it {why}")))),
            },
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(Error::read_io(path, error)),
        }
    }

    /// All keys in quarantine, by name and key.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn quarantined(&self) -> Result<(Vec<Quarantined>, Vec<Warning>), Error> {
        let (mut found, mut warnings) = (Vec::new(), Vec::new());
        let entries = self.layout().entries();
        for folder in layout::files(&entries).map_err(|error| Error::read_io(entries, error))? {
            for file in layout::files(&folder).map_err(|error| Error::read_io(folder, error))? {
                if file.extension().is_none_or(|extension| extension != QUARANTINE) {
                    continue;
                }
                match layout::read(&file).map(|bytes| sealed::decode::<Quarantined>(&bytes)) {
                    Ok(Ok(quarantined)) => found.push(quarantined),
                    Ok(Err(why)) => {
                        warnings.push(Warning::Damaged { what: file, why: why.to_owned(), entry: None });
                    }
                    Err(_) => {}
                }
            }
        }
        found.sort_unstable_by(|one, other| (&one.name, &one.key).cmp(&(&other.name, &other.key)));
        Ok((found, warnings))
    }

    /// Ends a quarantine; false if there was none.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn lift(&self, name: &str, key: &str) -> Result<bool, Error> {
        let path = self.layout().quarantine(name, key);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::write_io(path, error)),
        }
    }
}

//! Keys whose entries are not to be used: a run with them differed from one without.

use std::io::ErrorKind;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::io::{self, Sync};
use crate::layout::{Layout, QUARANTINE};
use crate::{Error, Warning, sealed};

/// The reason why a key is in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The run in which it showed.
    pub run: String,
    /// The job that differed.
    pub job: String,
    /// The differences, a line each.
    pub differences: Vec<String>,
    /// The time at which it was found out.
    pub when: SystemTime,
}

/// A key that is in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The cache's name.
    pub name: String,
    /// The entry's key.
    pub key: String,
    /// The reason.
    pub reason: Reason,
}

/// Puts a key in quarantine; a later reason replaces an earlier one. The store is there.
pub(crate) fn put(layout: &Layout, name: &str, key: &str, reason: &Reason) -> Result<(), Error> {
    let folder = layout.entries_of(name);
    io::create_folders(&folder)?;
    let quarantined = Quarantined { name: name.to_owned(), key: key.to_owned(), reason: reason.clone() };
    io::replace(&layout.quarantine(name, key), &sealed::encode(&quarantined), Sync::Yes)
}

/// The reason why a key is in quarantine; nothing if it is not.
///
/// # Errors
/// It is, but the reason cannot be read.
pub(crate) fn get(layout: &Layout, name: &str, key: &str) -> Result<Option<Reason>, Error> {
    let path = layout.quarantine(name, key);
    match io::read(&path) {
        Ok(bytes) => match sealed::decode::<Quarantined>(&bytes) {
            Ok(quarantined) => Ok(Some(quarantined.reason)),
            Err(why) => Err(Error::read(path, std::io::Error::other(format!("it {why}")))),
        },
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::read(path, error)),
    }
}

/// All keys in quarantine, by name and key.
pub(crate) fn all(layout: &Layout) -> Result<(Vec<Quarantined>, Vec<Warning>), Error> {
    let (mut found, mut warnings) = (Vec::new(), Vec::new());
    let entries = layout.entries();
    for folder in io::files(&entries).map_err(|error| Error::read(entries, error))? {
        for file in io::files(&folder).map_err(|error| Error::read(folder, error))? {
            if file.extension().is_none_or(|extension| extension != QUARANTINE) {
                continue;
            }
            match io::read(&file).map(|bytes| sealed::decode::<Quarantined>(&bytes)) {
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
pub(crate) fn lift(layout: &Layout, name: &str, key: &str) -> Result<bool, Error> {
    let path = layout.quarantine(name, key);
    match io::remove(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::write(path, error)),
    }
}

//! What unlocks something: passwords, tokens and key files that the user's configuration names.

use crate::bindings::loom::credentials::credentials;
use crate::error::{Error, Result};

/// The bytes of the credential `slot`, which the manifest lists under `capabilities.credentials`. None where the user's
/// configuration names none.
///
/// # Errors
/// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) where what the configuration names is not there.
pub fn get(slot: &str) -> Result<Option<Vec<u8>>> {
    credentials::get(slot, None).map_err(Error::from_host)
}

/// As [`get`], where each of several owners has one: the vault of that name, for example.
///
/// # Errors
/// As [`get`].
pub fn get_of(slot: &str, owner: &str) -> Result<Option<Vec<u8>>> {
    credentials::get(slot, Some(owner)).map_err(Error::from_host)
}

//! The environment of `loom`.

use crate::bindings::loom::net::env;
use crate::error::{Error, Result};

/// The value of the variable `name`; none where it is not set.
///
/// # Errors
/// [`ErrorKind::Denied`](crate::ErrorKind::Denied) where `capabilities.env` of the manifest does not grant it.
pub fn get(name: &str) -> Result<Option<Vec<u8>>> {
    env::get(name).map_err(Error::from_host)
}

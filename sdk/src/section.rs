//! The section that a wrapper's call is recorded in.

use crate::bindings::loom::host::section;
use crate::error::{Error, Result};

/// The section was deliberately left out, for one of the reasons that the runtime contract lists. Of several calls the
/// last counts.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for what is no such reason.
pub fn skip(reason: &str) -> Result<()> {
    section::skip(reason).map_err(Error::from_host)
}

/// What the section counted: a JSON object. Of several calls the last counts.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for what is no JSON object, and above 1 MiB.
pub fn metrics(json: &str) -> Result<()> {
    section::metrics(json).map_err(Error::from_host)
}

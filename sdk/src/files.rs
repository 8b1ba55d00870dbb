//! Single files of the user's, by absolute path, as far as `capabilities.files` of the manifest grants them.

use crate::bindings::loom::workspace::files;
use crate::error::{Error, Result};

/// Whether there is a file at `path`.
///
/// # Errors
/// [`ErrorKind::Denied`](crate::ErrorKind::Denied) where it is not granted.
pub fn exists(path: &str) -> Result<bool> {
    files::exists(path).map_err(Error::from_host)
}

/// All of the file at `path`.
///
/// # Errors
/// [`ErrorKind::Denied`](crate::ErrorKind::Denied) where it is not granted, [`ErrorKind::NotFound`](crate::ErrorKind::NotFound),
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) above 256 MiB and for what is no regular file.
pub fn read(path: &str) -> Result<Vec<u8>> {
    files::read(path).map_err(Error::from_host)
}

/// Puts `content` into the file at `path` at once, so that whoever opens it finds all of the old content or all of the
/// new.
///
/// # Errors
/// [`ErrorKind::Denied`](crate::ErrorKind::Denied) where it is not granted, or the file cannot be written.
pub fn write(path: &str, content: &[u8]) -> Result<()> {
    files::write(path, content).map_err(Error::from_host)
}

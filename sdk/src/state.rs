//! What survives a plugin's instance: kept by Loom, for one job and one plugin.
//!
//! A panic, or being stopped, loses the instance and everything in it. [`Provider::cleanup`](crate::Provider::cleanup)
//! then runs in a new one, and finds here what it has to give back.

use crate::bindings::loom::host::context;
use crate::error::{Error, Result};

/// What was kept under `key`.
pub fn get(key: &str) -> Option<Vec<u8>> {
    context::get_state(key)
}

/// Keeps `value` under `key`.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) above 1 MiB in all.
pub fn set(key: &str, value: impl AsRef<[u8]>) -> Result<()> {
    context::set_state(key, value.as_ref()).map_err(Error::from_host)
}

//! The places of calls to the system that unit tests let fail.

use std::path::PathBuf;

use rustix::io::Errno;

/// The place of a call to the system that does `doing` to `path`, which a unit test may let fail; in any
/// other build nothing.
pub(crate) fn fault(doing: &'static str, path: impl FnOnce() -> PathBuf) -> Result<(), Errno> {
    #[cfg(test)]
    loom_faults::point(doing, &path()).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    #[cfg(not(test))]
    drop((doing, path));
    Ok(())
}

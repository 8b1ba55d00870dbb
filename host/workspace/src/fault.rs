//! The places of calls to the system that unit tests let fail.

use std::io;
use std::path::Path;

/// The place of a call to the system that does `doing` to `path`, which a unit test may let fail; in any
/// other build nothing.
pub(crate) fn fault(doing: &'static str, path: &Path) -> io::Result<()> {
    #[cfg(test)]
    loom_faults::point(doing, path)?;
    let _ = (doing, path);
    Ok(())
}

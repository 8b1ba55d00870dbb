//! The places of calls to the system that unit tests let fail.

use std::io::{self, Write as _};
use std::path::Path;

use fs_err as fs;

/// The place of a call to the system that does `doing` to `path`, which a unit test may let fail; in any
/// other build nothing.
pub(crate) fn fault(doing: &'static str, path: &Path) -> io::Result<()> {
    #[cfg(test)]
    loom_faults::point(doing, path)?;
    let _ = (doing, path);
    Ok(())
}

/// Writes all of `bytes` to the file at `path`. A write that a test lets fail has written half of them.
pub(crate) fn write_all(file: &mut fs::File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Err(error) = fault("write", path) {
        file.write_all(&bytes[..bytes.len() / 2])?;
        return Err(error);
    }
    file.write_all(bytes)
}

//! Pins: records that stay whatever the limits say.

use std::path::Path;

use loom_contract::id::RunId;
use loom_contract::layout::PINNED_SUFFIX;
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use crate::RecordError;
use crate::retain::Place;

/// Pins the record of the run `id` of the repository at `repo_root`; says whether it was not pinned before.
///
/// # Errors
/// The repository has no records, or the file that pins it cannot be made.
pub fn pin(repo_root: &Path, id: &RunId) -> Result<bool, RecordError> {
    change(repo_root, id, "pin", Errno::EXIST, |place, name| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        openat(&place.receipts, name, flags, Mode::from_raw_mode(0o644)).map(drop)
    })
}

/// Takes the pin of the run `id` of the repository at `repo_root` away, so that its record goes when its turn
/// comes; says whether there was one.
///
/// # Errors
/// The repository has no records, or the file that pins it cannot be removed.
pub fn unpin(repo_root: &Path, id: &RunId) -> Result<bool, RecordError> {
    change(repo_root, id, "unpin", Errno::NOENT, |place, name| {
        unlinkat(&place.receipts, name, AtFlags::empty())
    })
}

/// Whether `act` did something; that there was nothing to do it says by `no_change`.
fn change(
    repo_root: &Path,
    id: &RunId,
    action: &'static str,
    no_change: Errno,
    act: impl FnOnce(&Place, &str) -> Result<(), Errno>,
) -> Result<bool, RecordError> {
    let error = |errno| RecordError::new(action, id.as_str(), errno);
    let place = Place::open(repo_root)?.ok_or_else(|| error(Errno::NOENT))?;
    match act(&place, &format!("{id}{PINNED_SUFFIX}")) {
        Ok(()) => Ok(true),
        Err(errno) if errno == no_change => Ok(false),
        Err(errno) => Err(error(errno)),
    }
}

//! Removal of what a ledger proves.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use crate::folder::parent_of;
use crate::line::OwnedFolder;
use crate::{Error, Stamp};

/// Removes `folder` with everything in it. What stands in its place and is not it stays; so does one of which it is not
/// known that it was made, unless it is empty.
pub(crate) fn folder(folder: &OwnedFolder) -> Result<(), Error> {
    let (parent, name) = match parent_of(&folder.path) {
        Ok(found) => found,
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let Some(found) = stamp_of(&parent, &name) else { return Ok(()) };
    match folder.stamp {
        // Its first file is made after it was written down that it was: what was not written down is empty.
        None => {
            let _ = unlinkat(&parent, name.as_bytes(), AtFlags::REMOVEDIR);
            Ok(())
        }
        Some(stamp) if stamp == found => remove_tree(&folder.path),
        Some(_) => Ok(()),
    }
}

/// Whether `folder` is where it was made.
pub(crate) fn stands(folder: &OwnedFolder) -> bool {
    let found = parent_of(&folder.path).ok().and_then(|(parent, name)| stamp_of(&parent, &name));
    found.is_some() && found == folder.stamp
}

fn remove_tree(path: &Path) -> Result<(), Error> {
    loom_tree::remove(path).map_err(|error| match error {
        loom_tree::Error::Remove { path, source } => Error::Io { doing: "remove", path, source },
        other => Error::Io { doing: "remove", path: path.to_owned(), source: std::io::Error::other(other) },
    })
}

/// The stamp of the folder `name`; `None` where there is none, or something else.
fn stamp_of(parent: &OwnedFd, name: &OsStr) -> Option<Stamp> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened: Result<OwnedFd, Errno> = openat(parent, name.as_bytes(), flags, Mode::empty());
    Stamp::of(opened.ok()?).ok()
}

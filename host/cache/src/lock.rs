//! Locks: of the store, and of a tree, where who restores to it and who reads it wait for one another.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use fs_err as fs;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::layout::Layout;
use crate::{Error, io};

/// Waits for the store's lock, which is held until the file is dropped.
pub(crate) fn lock_store(layout: &Layout) -> Result<fs::File, Error> {
    let path = layout.lock();
    let lock = || -> std::io::Result<fs::File> {
        io::fault("open", &path)?;
        let file = io::options().write(true).create(true).truncate(false).open(&path)?;
        io::regular(&file)?;
        io::fault("lock", &path)?;
        file.lock()?;
        Ok(file)
    };
    lock().map_err(|error| Error::write(&path, error))
}

/// The access to a tree that a lock is for.
#[derive(Clone, Copy)]
pub(crate) enum TreeAccess {
    Read,
    Write,
}

/// Waits until nobody restores to the tree that is open as `root`, or, to restore to it, until nobody does
/// anything to it. The lock is held as long as `root` is open.
pub(crate) fn lock_tree(root: BorrowedFd<'_>, access: TreeAccess, cancel: &AtomicBool) -> Result<(), Error> {
    let operation = match access {
        TreeAccess::Read => FlockOperation::NonBlockingLockShared,
        TreeAccess::Write => FlockOperation::NonBlockingLockExclusive,
    };
    loop {
        match flock(root, operation) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            // Also where the file system has no locks: better without than not at all.
            _ => return Ok(()),
        }
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        sleep(Duration::from_millis(5));
    }
}

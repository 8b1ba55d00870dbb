//! Who restores to a tree, and who reads it: one waits for the other.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::Error;

/// What one wants to do to a tree.
#[derive(Clone, Copy)]
pub(crate) enum To {
    Read,
    Write,
}

/// Waits until nobody restores to the tree that is open as `root`, or, to restore to it, until nobody does anything to
/// it. The lock is held as long as `root` is open.
pub(crate) fn lock_tree(root: BorrowedFd<'_>, to: To, cancel: &AtomicBool) -> Result<(), Error> {
    let operation = match to {
        To::Read => FlockOperation::NonBlockingLockShared,
        To::Write => FlockOperation::NonBlockingLockExclusive,
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

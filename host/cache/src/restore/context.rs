//! What every part of a restore knows, and how it speaks of the tree.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use loom_tree::dir::to_path;
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::plan::Plan;
use crate::entry::Entry;
use crate::manifest::Manifest;
use crate::{Error, Tracked, io};

/// All rights of the owner.
pub(super) const RWX: u16 = 0o700;

/// The context that every part of a restore knows.
#[derive(Clone, Copy)]
pub(super) struct RestoreContext<'a> {
    pub(super) entry: &'a Entry,
    pub(super) manifest: &'a Manifest,
    pub(super) tree: &'a Path,
    pub(super) root: BorrowedFd<'a>,
    pub(super) plan: &'a Plan,
    pub(super) tracked: &'a Tracked,
    pub(super) cancel: &'a AtomicBool,
}

impl RestoreContext<'_> {
    /// The error that a file or folder of the tree does not let itself be changed.
    pub(super) fn cannot(&self, path: &[u8], errno: Errno) -> Error {
        let path = self.tree.join(to_path(path));
        match errno {
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV => {
                Error::refused(path, "something that is no folder came in its way")
            }
            Errno::EXIST => Error::refused(
                path,
                "something came into its place meanwhile, or the file system takes another name for the same",
            ),
            errno => Error::write(path, errno),
        }
    }
}

impl RestoreContext<'_> {
    /// The same as [`io::fault`] for a call that changes the tree.
    pub(super) fn fault(&self, doing: &'static str, path: &[u8]) -> Result<(), Errno> {
        // The path is made for tests alone.
        if cfg!(test) {
            let fault = io::fault(doing, &self.tree.join(to_path(path)));
            fault.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        }
        Ok(())
    }
}

/// Removes a name if it is there.
pub(super) fn unlink(folder: BorrowedFd<'_>, name: &[u8]) {
    let _ = unlinkat(folder, name, AtFlags::empty());
}

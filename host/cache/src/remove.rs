//! What is in the way of an entry, removed with everything below it, however deep.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use loom_tree::dir;
use rustix::fs::{AtFlags, FileType, Mode, fchmod, fstat, renameat, unlinkat};
use rustix::io::Errno;

/// Folders are opened one in the other up to here. What is deeper is first moved up.
const DEEPEST: usize = 24;

/// Removes the folder `name` in `parent` and all that is in it. Symlinks are removed, not followed. Returns
/// how many files and symlinks that were.
pub(crate) fn remove_folder(parent: BorrowedFd<'_>, name: &[u8]) -> Result<u64, Errno> {
    let top = open(parent, name)?;
    let mut removal = Removal { top: top.as_fd(), removed: 0, moved: 0 };
    loop {
        let moved = removal.moved;
        // Opened anew, since a folder is listed once.
        removal.empty(dir::open_child(top.as_fd(), b".")?.as_fd(), 0)?;
        // What was moved up is among the entries of the top now.
        if removal.moved == moved {
            break;
        }
    }
    let removed = removal.removed;
    unlinkat(parent, name, AtFlags::REMOVEDIR)?;
    Ok(removed)
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    removed: u64,
    moved: u64,
}

impl Removal<'_> {
    fn empty(&mut self, folder: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
        let mut folders: Vec<Box<[u8]>> = Vec::new();
        let mut files: Vec<Box<[u8]>> = Vec::new();
        dir::for_each_entry(folder, |name, kind| {
            if kind == FileType::Directory { &mut folders } else { &mut files }.push(name.into());
        })?;
        for name in files {
            gone(unlinkat(folder, &*name, AtFlags::empty()))?;
            self.removed += 1;
        }
        for name in folders {
            if depth < DEEPEST {
                self.empty(open(folder, &name)?.as_fd(), depth + 1)?;
                gone(unlinkat(folder, &*name, AtFlags::REMOVEDIR))?;
            } else {
                self.move_up(folder, &name)?;
            }
        }
        Ok(())
    }

    fn move_up(&mut self, folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        // Moving a folder rewrites its own entry for the one above it.
        drop(open(folder, name)?);
        loop {
            self.moved += 1;
            let free = format!(".removed-{}", self.moved);
            match renameat(folder, name, self.top, free.as_bytes()) {
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                done => return done,
            }
        }
    }
}

/// Opens a folder and makes sure that what is in it may be removed.
fn open(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let folder = match dir::open_child(parent, name) {
        Err(Errno::ACCESS) => dir::open_up(parent, name)?,
        opened => opened?,
    };
    let mode = fstat(&folder)?.st_mode & 0o7777;
    if mode & 0o700 != 0o700 {
        // Another user's folder refuses this, and then what is in it.
        let _ = fchmod(&folder, Mode::from_raw_mode(mode | 0o700));
    }
    Ok(folder)
}

/// Takes what is gone already for removed.
fn gone(done: Result<(), Errno>) -> Result<(), Errno> {
    match done {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

//! Folders by descriptor: below an open folder, through no symlink, and as deep as one likes.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RawDir, ResolveFlags, chmod, flock, openat,
    openat2, statat,
};
use rustix::io::Errno;

/// Below the kernel's limit of 4096 bytes with its final NUL.
const LONGEST_HOP: usize = 4000;

const OPEN_DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

const INSIDE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Opens the folder at `path`, absolute or relative to the current folder; a symlink there is followed.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OPEN_DIR.difference(OFlags::NOFOLLOW), Mode::empty())
}

/// Waits until nobody restores to the tree that is open as `root`, or, to restore to it, until nobody does anything to
/// it. The lock is held as long as `root` is open.
pub(crate) fn lock_tree(root: BorrowedFd<'_>, to: To, cancel: &AtomicBool) -> Result<(), Cancelled> {
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
            return Err(Cancelled);
        }
        sleep(Duration::from_millis(5));
    }
}

/// What one wants to do to a tree.
#[derive(Clone, Copy)]
pub(crate) enum To {
    Read,
    Write,
}

/// The caller did not want to wait any longer.
pub(crate) struct Cancelled;

/// Opens the folder `name` in `folder`; fails with `LOOP` or `NOTDIR` if it is a symlink.
pub(crate) fn open_child(folder: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(folder, name, OPEN_DIR, Mode::empty())
}

/// Gives the owner of the folder `name` all rights to it, and opens it. A symlink is not followed.
pub(crate) fn open_up(folder: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let itself = openat(folder, name, flags, Mode::empty())?;
    // What cannot be opened can only be changed by a path, and this one cannot come to mean something else.
    chmod(format!("/proc/self/fd/{}", itself.as_raw_fd()), Mode::RWXU)?;
    open_child(folder, name)
}

/// Opens the folder at `path` below `root`, empty for `root` itself, and fails where any part of it is a symlink.
pub(crate) fn open_beneath(root: BorrowedFd<'_>, mut path: &[u8]) -> Result<OwnedFd, Errno> {
    if path.is_empty() {
        return open_child(root, b".");
    }
    let mut hop: Option<OwnedFd> = None;
    loop {
        let from = hop.as_ref().map_or(root, AsFd::as_fd);
        if path.len() <= LONGEST_HOP {
            return open_hop(from, path);
        }
        let Some(cut) = path[..LONGEST_HOP].iter().rposition(|&byte| byte == b'/') else {
            return Err(Errno::NAMETOOLONG);
        };
        let next = open_hop(from, &path[..cut])?;
        hop = Some(next);
        path = &path[cut + 1..];
    }
}

fn open_hop(from: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    match openat2(from, path, OPEN_DIR, Mode::empty(), INSIDE) {
        // An old kernel, or a sandbox that has never heard of the call: name by name, which means the same.
        Err(Errno::NOSYS | Errno::PERM) => {}
        opened => return opened,
    }
    let mut at: Option<OwnedFd> = None;
    for name in path.split(|&byte| byte == b'/') {
        if name == b".." {
            return Err(Errno::XDEV);
        }
        let next = open_child(at.as_ref().map_or(from, AsFd::as_fd), name)?;
        at = Some(next);
    }
    at.ok_or(Errno::NOENT)
}

/// Calls `visit` with the name and type of each entry of an open folder, `.` and `..` left out. `visit` may not list
/// another folder. A folder is listed once: opened anew it can be listed again.
pub(crate) fn for_each_entry(
    folder: BorrowedFd<'_>,
    mut visit: impl FnMut(&[u8], FileType),
) -> Result<(), Errno> {
    thread_local! {
        static ENTRIES: RefCell<Vec<MaybeUninit<u8>>> = const { RefCell::new(Vec::new()) };
    }
    ENTRIES.with_borrow_mut(|buffer| {
        buffer.resize(32 << 10, MaybeUninit::uninit());
        let mut entries = RawDir::new(folder, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                kind = match statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(errno),
                };
            }
            visit(name, kind);
        }
        Ok(())
    })
}

/// The entries of one folder, in no order.
#[derive(Default)]
pub(crate) struct Listing {
    names: Vec<u8>,
    entries: Vec<(u32, u16, FileType)>,
}

impl Listing {
    pub(crate) fn of(folder: BorrowedFd<'_>) -> Result<Self, Errno> {
        let mut listing = Self::default();
        for_each_entry(folder, |name, kind| {
            // Both fit: a name has at most 255 bytes, and a folder's listing is far from 4 GiB.
            if let (Ok(at), Ok(length)) = (u32::try_from(listing.names.len()), u16::try_from(name.len())) {
                listing.names.extend_from_slice(name);
                listing.entries.push((at, length, kind));
            }
        })?;
        Ok(listing)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn name(&self, index: usize) -> &[u8] {
        let (at, length, _) = self.entries[index];
        &self.names[at as usize..at as usize + usize::from(length)]
    }

    pub(crate) fn kind(&self, index: usize) -> FileType {
        self.entries[index].2
    }
}

/// `name` below the relative path `folder`.
pub(crate) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(folder.len() + 1 + name.len());
    path.extend_from_slice(folder);
    if !folder.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

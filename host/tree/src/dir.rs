//! Folders by descriptor: below an open folder, through no symlink, and as deep as one likes.

use std::cell::Cell;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, chmod, openat, openat2, statat,
};
use rustix::io::Errno;

/// Below the kernel's limit of 4096 bytes with its final NUL.
const LONGEST_HOP: usize = 4000;

const OPEN_DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

const INSIDE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Opens the folder at `path`, absolute or relative to the current folder; a symlink there is followed.
///
/// # Errors
/// It cannot be opened.
pub fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OPEN_DIR.difference(OFlags::NOFOLLOW), Mode::empty())
}

/// Opens the folder `name` in `folder`.
///
/// # Errors
/// It cannot be opened; with `LOOP` or `NOTDIR` because it is a symlink.
pub fn open_child(folder: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(folder, name, OPEN_DIR, Mode::empty())
}

/// Gives the owner of the folder `name` all rights to it, and opens it. A symlink is not followed.
///
/// # Errors
/// It is no folder, or another user's.
pub fn open_up(folder: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let itself = openat(folder, name, flags, Mode::empty())?;
    // What cannot be opened can only be changed by a path, and this one cannot come to mean something else.
    chmod(format!("/proc/self/fd/{}", itself.as_raw_fd()), Mode::RWXU)?;
    open_child(folder, name)
}

/// Opens the folder at `path` below `root`, empty for `root` itself. The path may be longer than the system's
/// limit.
///
/// # Errors
/// It cannot be opened; with `LOOP` or `NOTDIR` because a part of it is a symlink.
pub fn open_beneath(root: BorrowedFd<'_>, mut path: &[u8]) -> Result<OwnedFd, Errno> {
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

/// Opens the file `name` in `folder` for reading, whatever it is: a fifo waits for no writer, and no terminal
/// becomes that of this process.
///
/// # Errors
/// It cannot be opened; with `LOOP` because it is a symlink, with `NXIO` or `NODEV` because it is a socket,
/// or a device that nothing serves.
pub fn open_file(folder: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::empty())
}

/// Calls `act` with the open folder above `path`, which is below `root`, and the last name of `path`.
///
/// # Errors
/// As [`open_beneath`], and those of `act`.
pub fn at<T>(
    root: BorrowedFd<'_>,
    path: &[u8],
    act: impl FnOnce(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
) -> Result<T, Errno> {
    match split(path) {
        (b"", name) => act(root, name),
        (above, name) => act(open_beneath(root, above)?.as_fd(), name),
    }
}

fn open_hop(from: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    match openat2(from, path, OPEN_DIR, Mode::empty(), INSIDE) {
        // An old kernel, or a sandbox that has never heard of the call.
        Err(Errno::NOSYS | Errno::PERM) => open_by_names(from, path),
        opened => opened,
    }
}

/// Opens one folder after the other, which means the same.
fn open_by_names(from: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
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

/// Calls `visit` with the name and type of each entry of an open folder, `.` and `..` left out, in no order.
/// A folder is listed once: opened anew it can be listed again.
///
/// # Errors
/// The folder cannot be read; some entries may have been visited.
pub fn for_each_entry(folder: BorrowedFd<'_>, mut visit: impl FnMut(&[u8], FileType)) -> Result<(), Errno> {
    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    // Taken, so that `visit` may list another folder.
    let mut buffer = BUFFER.take();
    buffer.reserve(32 << 10);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
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
    BUFFER.set(buffer);
    Ok(())
}

/// The entries of one folder, in no order.
#[derive(Debug, Default)]
pub struct Listing {
    names: Vec<u8>,
    entries: Vec<(u32, u16, FileType)>,
}

impl Listing {
    /// Lists an open folder.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(folder: BorrowedFd<'_>) -> Result<Self, Errno> {
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

    /// The entries.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], FileType)> {
        (0..self.entries.len()).map(|index| (self.name(index), self.kind(index)))
    }

    /// The name of an entry by its number.
    pub fn name(&self, index: usize) -> &[u8] {
        let (at, length, _) = self.entries[index];
        &self.names[at as usize..at as usize + usize::from(length)]
    }

    /// The kind of an entry when the folder was read, by its number.
    pub fn kind(&self, index: usize) -> FileType {
        self.entries[index].2
    }
}

/// `name` below the relative path `folder`.
pub fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(folder.len() + 1 + name.len());
    path.extend_from_slice(folder);
    if !folder.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The folder of a relative path, empty for the root, and the name there.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// The path that these bytes are.
pub fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use fs_err as fs;

    use super::*;

    #[test]
    fn a_folder_below_is_opened_through_no_link_and_from_nowhere_else() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::write(root.path().join("a/file"), "").unwrap();
        symlink("a", root.path().join("link")).unwrap();
        let open = open_root(root.path()).unwrap();
        let both = |path: &[u8]| [open_beneath(open.as_fd(), path), open_by_names(open.as_fd(), path)];
        for opened in both(b"a/b") {
            assert!(opened.is_ok());
        }
        assert!(open_beneath(open.as_fd(), b"").is_ok());
        for path in [&b"link"[..], b"link/b", b"a/file", b"a/file/x", b"../x", b"a/../../x", b"a/none"] {
            for opened in both(path) {
                let errno = opened.unwrap_err();
                assert!(
                    matches!(errno, Errno::LOOP | Errno::NOTDIR | Errno::XDEV | Errno::NOENT),
                    "{path:?}"
                );
            }
        }
    }
}

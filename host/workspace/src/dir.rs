//! Folders by descriptor: a path below an open folder may be longer than the system's limit for one path.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, openat, statat};
use rustix::io::Errno;

/// Below the kernel's limit of 4096 bytes with its final NUL.
const LONGEST_HOP: usize = 4000;

const OPEN_DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens the folder at `path`, absolute or relative to the current folder; a symlink there is followed.
pub(crate) fn open_root(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OPEN_DIR.difference(OFlags::NOFOLLOW), Mode::empty())
}

/// Opens the folder at `path` below `root`: empty for `root` itself. The last name is not followed if it is a symlink.
pub(crate) fn open(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    if path.is_empty() {
        return openat(root, c".", OPEN_DIR, Mode::empty());
    }
    at(root, path, |folder, name| openat(folder, name, OPEN_DIR, Mode::empty()))
}

/// Calls `act` with a folder and a short path that together mean `path` below `root`.
pub(crate) fn at<T>(
    root: BorrowedFd<'_>,
    mut path: &[u8],
    act: impl FnOnce(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let mut hop: Option<OwnedFd> = None;
    while path.len() > LONGEST_HOP {
        let Some(cut) = path[..LONGEST_HOP].iter().rposition(|&byte| byte == b'/') else {
            return Err(Errno::NAMETOOLONG);
        };
        let from = hop.as_ref().map_or(root, AsFd::as_fd);
        let next = openat(from, &path[..cut], OPEN_DIR, Mode::empty())?;
        hop = Some(next);
        path = &path[cut + 1..];
    }
    act(hop.as_ref().map_or(root, AsFd::as_fd), path)
}

/// Calls `visit` with the name and type of each entry of an open folder, `.` and `..` left out.
pub(crate) fn for_each_entry<E: From<Errno>>(
    folder: BorrowedFd<'_>,
    mut visit: impl FnMut(&[u8], FileType) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffer: Vec<MaybeUninit<u8>> = Vec::new();
    buffer.resize(32 << 10, MaybeUninit::uninit());
    let mut entries = RawDir::new(folder, &mut buffer);
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
                Err(errno) => return Err(errno.into()),
            };
        }
        visit(name, kind)?;
    }
    Ok(())
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

//! Keys from files: which of the workspace's files a key depends on, and the hash of their content.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use loom_tree::{Patterns, dir};
use rustix::fs::{FileType, fstat, readlinkat};
use rustix::io::{Errno, read};
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::io::fault;

/// The hash of files, and what it was computed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesHash {
    /// The hash of all files, in hex: what goes into the key.
    pub hex: String,
    /// Each file that went into it, in the order in which it did, with the sha256 of its content in hex: what
    /// to compare when a key is not what it was.
    pub files: Vec<(PathBuf, String)>,
}

/// Selects those of `paths` that a glob matches, in their order. Globs are as in declared cache paths: `*`
/// stays within one name, `**` spans folders, hidden names match, and what names a folder means everything in
/// it.
///
/// # Errors
/// A glob is none, or leads outside the workspace.
pub fn select<'a, P: AsRef<Path>, G: AsRef<str>>(
    paths: &'a [P],
    globs: &[G],
) -> Result<Vec<&'a Path>, Error> {
    let patterns = Patterns::new(globs)?;
    let paths = paths.iter().map(AsRef::as_ref);
    Ok(paths.filter(|path| patterns.cover(path.as_os_str().as_bytes())).collect())
}

/// Hashes the files at `paths` below `root`.
///
/// The recipe: sha256 over, for each path in the order of its bytes, each once: the length of the path, the
/// path, the length of the content, the content; lengths in bytes as 64-bit little-endian numbers. The
/// content of a symlink is its target, as in git. Passed over is what is not a file of the work tree: paths
/// that are not there or lie behind a symlink, and folders.
///
/// # Errors
/// A file cannot be read or changes its length meanwhile, or a path leads outside `root`.
pub fn hash_files<P: AsRef<Path>>(root: &Path, paths: &[P]) -> Result<FilesHash, Error> {
    let top = dir::open_root(root).map_err(|errno| Error::read(root, errno))?;
    let sorted: BTreeSet<&[u8]> = paths.iter().map(|path| path.as_ref().as_os_str().as_bytes()).collect();
    let mut all = Sha256::new();
    let mut files = Vec::new();
    for path in sorted {
        let full = root.join(dir::to_path(path));
        let mut one = Sha256::new();
        let mut take = |piece: KeyInput<'_>| match piece {
            KeyInput::Length(length) => {
                all.update((path.len() as u64).to_le_bytes());
                all.update(path);
                all.update(length.to_le_bytes());
            }
            KeyInput::Content(bytes) => {
                all.update(bytes);
                one.update(bytes);
            }
        };
        match content(top.as_fd(), path, &full, &mut take) {
            Ok(true) => files.push((dir::to_path(path), hex(&one.finalize()))),
            Ok(false) => {}
            Err(Errno::STALE) => {
                return Err(Error::read(full, std::io::Error::other("it changed while it was read")));
            }
            Err(errno) => return Err(Error::read(full, errno)),
        }
    }
    Ok(FilesHash { hex: hex(&all.finalize()), files })
}

enum KeyInput<'a> {
    /// Once, before the content.
    Length(u64),
    Content(&'a [u8]),
}

/// Hands out the content of a file or symlink, which has the path `full`; false if it is neither.
fn content(
    root: BorrowedFd<'_>,
    path: &[u8],
    full: &Path,
    take: &mut impl FnMut(KeyInput<'_>),
) -> Result<bool, Errno> {
    if path.starts_with(b"/") {
        return Err(Errno::XDEV);
    }
    let (folder, name) = dir::split(path);
    if name == b".." {
        return Err(Errno::XDEV);
    }
    let folder = match dir::open_beneath(root, folder) {
        Ok(folder) => folder,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        Err(errno) => return Err(errno),
    };
    let file = match dir::open_file(folder.as_fd(), name) {
        Ok(file) => file,
        Err(Errno::LOOP) => {
            let target = readlinkat(&folder, name, Vec::new())?.into_bytes();
            take(KeyInput::Length(target.len() as u64));
            take(KeyInput::Content(&target));
            return Ok(true);
        }
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NXIO | Errno::NODEV) => return Ok(false),
        Err(errno) => return Err(errno),
    };
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(false);
    }
    let mut left = u64::try_from(stat.st_size).unwrap_or(0);
    take(KeyInput::Length(left));
    let mut buffer = vec![0; 64 << 10];
    fault("read", full).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    loop {
        match read(&file, &mut buffer[..]) {
            Ok(0) if left == 0 => return Ok(true),
            Ok(got) if got > 0 && got as u64 <= left => {
                left -= got as u64;
                take(KeyInput::Content(&buffer[..got]));
            }
            // Shorter or longer than it was a moment ago: the hash would be of no file that there was.
            Ok(_) => return Err(Errno::STALE),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

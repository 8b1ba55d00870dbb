//! Whole trees, removed level by level: the files of all folders of a level in parallel, then the folders
//! from below.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use parking_lot::Mutex;
use rayon::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, fchmod, fstat, statat, unlinkat};
use rustix::io::Errno;

use crate::fault::fault;
use crate::{Error, dir};

/// Another pass helps where the folder changed while it was emptied; it does not where someone keeps on
/// filling it.
const PASSES: usize = 3;

/// Removes what is at `path` with everything in it, read-only folders too. Symlinks are removed, not
/// followed. What can be removed is, whatever cannot; a path that is gone already is fine.
///
/// This asks nobody whether it may: callers hold the proof that it is theirs to remove.
///
/// # Errors
/// Something could not be removed: the first of it.
pub fn remove(path: &Path) -> Result<(), Error> {
    remove_in(CWD, path.as_os_str(), path)
}

/// Removes what is called `name` in an open folder, whatever has become of the way to it; errors call it
/// `path`.
///
/// # Errors
/// As there.
pub fn remove_in(folder: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), Error> {
    let name = name.as_bytes();
    let cannot = |errno| Error::remove(path, errno);
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
        Ok(_) => return gone(unlinkat(folder, name, AtFlags::empty())).map_err(cannot),
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(cannot(errno)),
    }
    for _ in 1..PASSES {
        match remove_folder(folder, name, path) {
            Err(Error::Remove { source, .. }) if is_not_empty(&source) => {}
            done => return done,
        }
    }
    remove_folder(folder, name, path)
}

fn remove_folder(folder: BorrowedFd<'_>, name: &[u8], path: &Path) -> Result<(), Error> {
    let opened = match dir::open_child(folder, name) {
        Err(Errno::ACCESS) => dir::open_up(folder, name),
        opened => opened,
    };
    let root = match opened {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(Error::remove(path, errno)),
    };
    let device = fstat(&root).map_err(|errno| Error::remove(path, errno))?.st_dev;
    let removal = Removal { path, root, device, error: Mutex::default() };
    // The folders of each level, the root's own first.
    let mut levels: Vec<Vec<Vec<u8>>> = vec![vec![Vec::new()]];
    while let Some(level) = levels.last().filter(|level| !level.is_empty()) {
        let below = if level.len() == 1 {
            removal.empty(&level[0])
        } else {
            level.par_iter().flat_map_iter(|folder| removal.empty(folder)).collect()
        };
        levels.push(below);
    }
    // The levels above were opened for it.
    for level in levels.iter().skip(1).rev() {
        level.par_iter().with_min_len(16).for_each(|folder| {
            let root = removal.root.as_fd();
            let done = removal.fault("remove", folder).and_then(|()| {
                dir::at(root, folder, |above, name| unlinkat(above, name, AtFlags::REMOVEDIR))
            });
            removal.note(folder, done);
        });
    }
    match removal.error.into_inner() {
        Some(error) => Err(error),
        None => {
            let done = unlinkat(folder, name, AtFlags::REMOVEDIR);
            gone(done).map_err(|errno| Error::remove(path, errno))
        }
    }
}

struct Removal<'a> {
    path: &'a Path,
    root: OwnedFd,
    /// The file system that it is on: what is mounted in it is somewhere else, too.
    device: u64,
    /// The first failure.
    error: Mutex<Option<Error>>,
}

impl Removal<'_> {
    /// Removes the files of one folder. Returns the folders in it.
    fn empty(&self, folder: &[u8]) -> Vec<Vec<u8>> {
        let mut below = Vec::new();
        let open = match self.open(folder) {
            Ok(open) => open,
            Err(errno) => {
                self.note(folder, Err(errno));
                return below;
            }
        };
        let mut visit = |name: &[u8], kind| {
            if kind == FileType::Directory {
                below.push(dir::join(folder, name));
            } else {
                let path = dir::join(folder, name);
                let removed =
                    self.fault("remove", &path).and_then(|()| unlinkat(&open, name, AtFlags::empty()));
                self.note(&path, removed);
            }
        };
        let done = self.fault("list", folder).and_then(|()| dir::for_each_entry(open.as_fd(), &mut visit));
        self.note(folder, done);
        below
    }

    /// Opens a folder and makes sure that its entries may be removed.
    fn open(&self, folder: &[u8]) -> Result<OwnedFd, Errno> {
        let root = self.root.as_fd();
        let open = match dir::open_beneath(root, folder) {
            Err(Errno::ACCESS) => dir::at(root, folder, dir::open_up)?,
            opened => opened?,
        };
        let stat = fstat(&open)?;
        if stat.st_dev != self.device {
            return Err(Errno::XDEV);
        }
        let mode = stat.st_mode & 0o7777;
        if mode & 0o700 != 0o700 {
            // Another user's folder refuses this, and then what is in it.
            let _ = fchmod(&open, Mode::from_raw_mode(mode | 0o700));
        }
        Ok(open)
    }

    fn fault(&self, doing: &'static str, path: &[u8]) -> Result<(), Errno> {
        fault(doing, || self.path.join(dir::to_path(path)))
    }

    fn note(&self, path: &[u8], done: Result<(), Errno>) {
        if let Err(errno) = gone(done) {
            let path = || self.path.join(dir::to_path(path));
            self.error.lock().get_or_insert_with(|| Error::remove(path(), errno));
        }
    }
}

/// Takes what is gone already for removed.
fn gone(done: Result<(), Errno>) -> Result<(), Errno> {
    match done {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

fn is_not_empty(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOTEMPTY | Errno::EXIST))
}

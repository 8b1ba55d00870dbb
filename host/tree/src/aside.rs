//! A place for what has to go at once and may be removed later.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, mkdirat, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::{Error, dir, remove};

/// A folder beside a tree, on the same file system, into which folders of the tree are moved that are no part
/// of it any more.
#[derive(Debug)]
pub struct Aside {
    path: PathBuf,
    folder: OwnedFd,
    next: AtomicU64,
}

impl Aside {
    /// Opens the folder at `path`, which exists.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let folder = dir::open_root(path)?;
        let mut next = 0;
        // What somebody has left that was killed has numbers.
        dir::for_each_entry(folder.as_fd(), |name, _| {
            let number = std::str::from_utf8(name).ok().and_then(|name| name.parse::<u64>().ok());
            next = next.max(number.map_or(0, |number| number.saturating_add(1)));
        })?;
        Ok(Self { path: path.to_owned(), folder: dir::open_root(path)?, next: AtomicU64::new(next) })
    }

    /// Takes what is called `name` out of `folder`: a folder comes here, anything else is removed. That
    /// there is none is fine.
    ///
    /// # Errors
    /// It stays, since it is another user's, or a file system is mounted there.
    pub fn take(&self, folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return unlinkat(folder, name, AtFlags::empty());
        }
        // An empty one is not worth the way; it mostly is not.
        if unlinkat(folder, name, AtFlags::REMOVEDIR).is_ok() {
            return Ok(());
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        match renameat(folder, name, &self.folder, &number) {
            // To move a folder is to write to it.
            Err(Errno::ACCESS) => {
                dir::open_up(folder, name)?;
                renameat(folder, name, &self.folder, number)
            }
            done => done,
        }
    }

    /// The mode bits that new folders here do not get, whatever is asked for.
    ///
    /// # Errors
    /// No folder can be made here.
    pub fn umask(&self) -> Result<u32, Errno> {
        let number = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        mkdirat(&self.folder, &number, Mode::from_raw_mode(0o777))?;
        let mode = statat(&self.folder, &number, AtFlags::SYMLINK_NOFOLLOW)?.st_mode;
        unlinkat(&self.folder, &number, AtFlags::REMOVEDIR)?;
        Ok(0o777 & !mode)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes all that was taken.
    ///
    /// # Errors
    /// Something stays: the first of it.
    pub fn empty(&self) -> Result<(), Error> {
        let mut names = Vec::new();
        let listed = dir::open_child(self.folder.as_fd(), b".")
            .and_then(|folder| dir::for_each_entry(folder.as_fd(), |name, _| names.push(name.to_owned())));
        listed.map_err(|errno| Error::remove(&self.path, errno))?;
        let mut first = Ok(());
        for name in names {
            let name = dir::to_path(&name);
            let removed = remove::remove_in(self.folder.as_fd(), name.as_os_str(), &self.path.join(&name));
            first = first.and(removed);
        }
        first
    }
}

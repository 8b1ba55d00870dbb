//! A copy that others have worked in, brought up to date without undoing their work: only what was changed of
//! the original since it was copied is changed in the copy, too.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, statat, unlinkat};
use rustix::io::Errno;

use crate::copied::{Copied, Recording};
use crate::fault::fault;
use crate::{FileError, dir};

/// Removes from the copy at `to` the files of which `copied` knows and `now` does not: their originals are
/// gone. Folders that are empty then go with them. Returns the number of files that were gone from the
/// original.
///
/// # Errors
/// A file stays.
pub fn remove_gone(to: &Path, copied: &Copied, now: &Recording) -> Result<u64, FileError> {
    let names = now.names();
    let root = dir::open_root(to).map_err(|errno| FileError::write(to, errno))?;
    let mut gone = 0;
    for folder in copied.folders() {
        let none = HashSet::new();
        let names_now = names.get(folder).unwrap_or(&none);
        let mut removed = false;
        for row in copied.rows(folder).iter().filter(|row| !names_now.contains(row.name)) {
            gone += 1;
            let path = dir::join(folder, row.name);
            let done = fault("remove", || to.join(dir::to_path(&path)))
                .and_then(|()| remove_file(root.as_fd(), folder, row.name));
            removed |= done.map_err(|errno| FileError::write(to.join(dir::to_path(&path)), errno))?;
        }
        if removed {
            remove_empty(root.as_fd(), folder, &names);
        }
    }
    Ok(gone)
}

/// Removes what is called `name` unless that is a folder by now. Whether there was anything to remove.
fn remove_file(root: BorrowedFd<'_>, folder: &[u8], name: &[u8]) -> Result<bool, Errno> {
    let folder = match dir::open_beneath(root, folder) {
        Ok(folder) => folder,
        // The way there is another now.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        Err(errno) => return Err(errno),
    };
    match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Ok(false),
        Ok(_) => unlinkat(&folder, name, AtFlags::empty()).map(|()| true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Removes `folder` and those above it, as long as they are empty and the original has no file there.
fn remove_empty(root: BorrowedFd<'_>, mut folder: &[u8], names: &BTreeMap<Vec<u8>, HashSet<Vec<u8>>>) {
    while !folder.is_empty() {
        let is_below =
            |path: &Vec<u8>| path.strip_prefix(folder).is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
        // What begins alike stands together; `a-b` may stand between `a` and `a/b`.
        let mut from_here = names.range(folder.to_vec()..).map(|(path, _)| path);
        if from_here.by_ref().take_while(|path| path.starts_with(folder)).any(is_below) {
            return;
        }
        let (above, name) = dir::split(folder);
        let removed =
            dir::open_beneath(root, above).and_then(|above| unlinkat(&above, name, AtFlags::REMOVEDIR));
        if removed.is_err() {
            return;
        }
        folder = above;
    }
}

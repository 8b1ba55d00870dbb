//! Files that were collected, put into a tree.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use crate::copy::{CopyJob, OpenTree, copy};
use crate::error::Warnings;
use crate::{Error, Warning, dir, link};

/// The result of placing files in a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placed {
    /// The number of files and symlinks.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The files that were left out.
    pub warnings: Vec<Warning>,
}

/// Puts files of an earlier [`collect`](fn@crate::collect), `files` of the folder `from`, into `tree`, with
/// their permissions and times.
///
/// What is there is replaced, a symlink by the file and not what it leads to; nothing else is touched.
/// Folders are made where they are missing. A symlink is not placed if it could lead out of the tree.
/// `cancel` ends it early; what was placed by then stays.
///
/// # Errors
/// - [`Error::Refused`]: a path is none below the tree, or one into its `.git`; nothing was written.
/// - [`Error::InTheWay`]: a file or symlink is where a folder must be, or a folder where a file must be.
/// - `from` cannot be read, `tree` cannot be written, or the caller cancelled.
pub fn place(from: &Path, files: &[PathBuf], tree: &Path, cancel: &AtomicBool) -> Result<Placed, Error> {
    for path in files {
        let mut names = path.as_os_str().as_bytes().split(|&byte| byte == b'/');
        let refused = |why| Error::Refused { path: path.clone(), why };
        names.clone().try_for_each(link::check_name).map_err(refused)?;
        if names.next() == Some(b".git") {
            return Err(refused("would change what git keeps of the repository"));
        }
    }
    let source = dir::open_root(from).map_err(|errno| Error::read(from, errno))?;
    let target = dir::open_root(tree).map_err(|errno| Error::write(tree, errno))?;
    let what = CopyJob {
        from: OpenTree { path: from, root: source.as_fd() },
        to: OpenTree { path: tree, root: target.as_fd() },
        refuse: &|_| false,
        cancel,
    };
    let warnings = Mutex::<Warnings>::default();
    let paths = files.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
    let copied = copy(what, paths, &warnings)?;
    Ok(Placed {
        files: copied.files.len() as u64,
        bytes: copied.bytes,
        warnings: warnings.into_inner().into_list(),
    })
}

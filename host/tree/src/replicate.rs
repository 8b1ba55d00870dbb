//! A tree, replicated into a new folder in parallel: folders first, then the files folder by folder. Nobody
//! else writes to the new one, and it is as good as nothing until it is whole.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rayon::prelude::*;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, readlinkat, statat, symlinkat,
};
use rustix::io::Errno;

use crate::fault::fault;
use crate::file::{self, CopyError, Filled, Source};
use crate::outline::{Outline, OutlineFolder};
use crate::{FileError, ReplicateError as Error, dir};

/// Names of one folder that one task copies: enough to pay for opening the folder, few enough to share a big
/// one out.
const CHUNK: usize = 256;
/// Below this many names the other threads cost more than they give.
const PARALLEL_FROM: usize = 128;

const RWX_USER: u32 = 0o700;
const ALL_MODES: u32 = 0o7777;

/// A replication under way: what the trees that belong to it share.
#[derive(Debug)]
pub struct Replicator<'a> {
    cancel: &'a AtomicBool,
    umask: u32,
    files: AtomicU64,
    bytes: AtomicU64,
    shared: AtomicU64,
    /// Devices of the original that cannot share data with the copy.
    unshared: Mutex<Vec<u64>>,
    /// Folders whose own mode would be in the way of filling them.
    late_modes: Mutex<Vec<(PathBuf, Mode)>>,
}

/// The sum of what was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// The number of files and symlinks.
    pub files: u64,
    /// The size of the files in bytes.
    pub bytes: u64,
    /// The number of files that share their data with the original.
    pub shared: u64,
}

impl<'a> Replicator<'a> {
    /// Begins a replication, which setting `cancel` ends early. `umask` is the mode bits that new files of
    /// the copy do not get, whatever is asked for.
    pub fn new(cancel: &'a AtomicBool, umask: u32) -> Self {
        Self {
            cancel,
            umask,
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            unshared: Mutex::default(),
            late_modes: Mutex::default(),
        }
    }

    /// A replication of its own that ends with this one, for what does not count as part of it.
    pub fn aside(&self) -> Self {
        Self::new(self.cancel, self.umask)
    }

    /// Copies what `outline` names from `from` to the folder `to`, which exists: files with their permissions
    /// and times, symlinks as they are. What is gone, or is neither file nor symlink, is passed over. Returns
    /// the names that turned out to be folders, relative to `from`: what is in them is not part of the
    /// outline.
    ///
    /// # Errors
    /// Something cannot be read or written, or the caller cancelled. What was copied by then stays.
    pub fn copy(&self, outline: &Outline<'_>, from: &Path, to: &Path) -> Result<Vec<PathBuf>, Error> {
        let source = fault("open", || from.to_owned()).and_then(|()| dir::open_root(from));
        let source = source.map_err(|errno| FileError::read(from, errno))?;
        let target = fault("open", || to.to_owned()).and_then(|()| dir::open_root(to));
        let target = target.map_err(|errno| FileError::write(to, errno))?;
        let whole = Whole { replicator: self, from, to, source, target, nested: Mutex::default() };
        let devices = whole.make_folders(outline.folders())?;
        let tasks: Vec<(&OutlineFolder<'_>, u64, &[&[u8]])> = outline
            .folders()
            .iter()
            .zip(devices)
            .filter_map(|(folder, device)| Some((folder, device?)))
            .flat_map(|(folder, device)| folder.names.chunks(CHUNK).map(move |names| (folder, device, names)))
            .collect();
        let copy = |(folder, device, names)| whole.copy_names(folder, device, names);
        if outline.names() < PARALLEL_FROM {
            tasks.into_iter().try_for_each(copy)?;
        } else {
            tasks.into_par_iter().with_max_len(1).try_for_each(copy)?;
        }
        Ok(whole.nested.into_inner())
    }

    /// Gives the folder `to` the mode `mode`: now, or when everything is copied if it could not be filled
    /// else.
    ///
    /// # Errors
    /// The mode cannot be set.
    pub fn set_folder_mode(&self, to: PathBuf, mode: u32) -> Result<(), FileError> {
        let mode = mode & ALL_MODES;
        if mode & RWX_USER == RWX_USER {
            return set_mode(&to, Mode::from_raw_mode(mode));
        }
        self.late_modes.lock().push((to, Mode::from_raw_mode(mode)));
        Ok(())
    }

    /// Ends the replication: sets the modes that had to wait.
    ///
    /// # Errors
    /// One cannot be set.
    pub fn finish(self) -> Result<Totals, FileError> {
        for (path, mode) in self.late_modes.into_inner() {
            set_mode(&path, mode)?;
        }
        Ok(Totals {
            files: self.files.into_inner(),
            bytes: self.bytes.into_inner(),
            shared: self.shared.into_inner(),
        })
    }

    /// Makes sure that the caller wants it still.
    ///
    /// # Errors
    /// The caller cancelled.
    pub fn check_cancel(&self) -> Result<(), Error> {
        if self.cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn may_share(&self, device: u64) -> bool {
        !self.unshared.lock().contains(&device)
    }

    fn cannot_share(&self, device: u64) {
        let mut unshared = self.unshared.lock();
        if !unshared.contains(&device) {
            unshared.push(device);
        }
    }
}

fn set_mode(folder: &Path, mode: Mode) -> Result<(), FileError> {
    let set = fault("set the mode of", || folder.to_owned()).and_then(|()| rustix::fs::chmod(folder, mode));
    set.map_err(|errno| FileError::write(folder, errno))
}

/// One tree on its way.
struct Whole<'a> {
    replicator: &'a Replicator<'a>,
    from: &'a Path,
    to: &'a Path,
    source: OwnedFd,
    target: OwnedFd,
    nested: Mutex<Vec<PathBuf>>,
}

/// A folder in which others are made, open on both sides.
struct Above<'p> {
    path: &'p [u8],
    source: OwnedFd,
    target: OwnedFd,
}

impl Whole<'_> {
    /// Makes the folders. Returns the device that each is on in the original; `None` for one that is no
    /// folder any more, and for all below it: what is behind a symlink is not in the tree.
    fn make_folders(&self, folders: &[OutlineFolder<'_>]) -> Result<Vec<Option<u64>>, Error> {
        let root = fstat(&self.source).map_err(|errno| FileError::read(self.from, errno))?;
        let mut devices = vec![Some(root.st_dev)];
        devices.reserve(folders.len());
        // Many folders in a row are in the same one.
        let mut above: Option<Above<'_>> = None;
        self.replicator.check_cancel()?;
        for (index, folder) in folders.iter().enumerate().skip(1) {
            if index % CHUNK == 0 {
                self.replicator.check_cancel()?;
            }
            if devices[folder.parent].is_none() {
                devices.push(None);
                continue;
            }
            let (parent, name) = dir::split(folder.path);
            if above.as_ref().is_none_or(|above| above.path != parent) {
                above = self.open_above(parent)?;
            }
            devices.push(match &above {
                Some(above) => self.make_folder(above, name, folder.path)?,
                None => None,
            });
        }
        Ok(devices)
    }

    /// Opens a folder on both sides; nothing where the original is none any more.
    fn open_above<'p>(&self, path: &'p [u8]) -> Result<Option<Above<'p>>, Error> {
        let opened = fault("open", || path_in(self.from, path));
        let source = match opened.and_then(|()| dir::open_beneath(self.source.as_fd(), path)) {
            Ok(source) => source,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(FileError::read(path_in(self.from, path), errno).into()),
        };
        let target = dir::open_beneath(self.target.as_fd(), path)
            .map_err(|errno| FileError::write(path_in(self.to, path), errno))?;
        Ok(Some(Above { path, source, target }))
    }

    /// Makes one folder, and returns the device that it is on in the original; nothing where that is no
    /// folder.
    fn make_folder(&self, above: &Above<'_>, name: &[u8], path: &[u8]) -> Result<Option<u64>, Error> {
        let stat = match statat(&above.source, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => stat,
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(FileError::read(path_in(self.from, path), errno).into()),
        };
        let mode = stat.st_mode & ALL_MODES;
        let asked = Mode::from_raw_mode((mode & 0o777) | RWX_USER);
        fault("create", || path_in(self.to, path))
            .and_then(|()| mkdirat(&above.target, name, asked))
            .map_err(|errno| FileError::write(path_in(self.to, path), errno))?;
        if mode & RWX_USER != RWX_USER || mode & (self.replicator.umask | !0o777) != 0 {
            self.replicator.set_folder_mode(path_in(self.to, path), mode)?;
        }
        Ok(Some(stat.st_dev))
    }

    fn copy_names(&self, folder: &OutlineFolder<'_>, device: u64, names: &[&[u8]]) -> Result<(), Error> {
        let replicator = self.replicator;
        replicator.check_cancel()?;
        let opened = fault("open", || path_in(self.from, folder.path));
        let source = match opened.and_then(|()| dir::open_beneath(self.source.as_fd(), folder.path)) {
            Ok(source) => source,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(errno) => return Err(FileError::read(path_in(self.from, folder.path), errno).into()),
        };
        let target = dir::open_beneath(self.target.as_fd(), folder.path)
            .map_err(|errno| FileError::write(path_in(self.to, folder.path), errno))?;
        let could_share = replicator.may_share(device);
        let share = AtomicBool::new(could_share);
        let (mut files, mut bytes, mut shared) = (0, 0, 0);
        for name in names {
            replicator.check_cancel()?;
            let file = File { whole: self, folder, share: &share, name };
            if let Some(filled) = file.copy(source.as_fd(), target.as_fd())? {
                (files, bytes, shared) =
                    (files + 1, bytes + filled.bytes, shared + u64::from(filled.is_shared));
            }
        }
        if could_share && !share.into_inner() {
            replicator.cannot_share(device);
        }
        replicator.files.fetch_add(files, Ordering::Relaxed);
        replicator.bytes.fetch_add(bytes, Ordering::Relaxed);
        replicator.shared.fetch_add(shared, Ordering::Relaxed);
        Ok(())
    }
}

/// One name of a folder.
struct File<'a> {
    whole: &'a Whole<'a>,
    folder: &'a OutlineFolder<'a>,
    /// Whether the data may be shared with the copy, as far as is known.
    share: &'a AtomicBool,
    name: &'a [u8],
}

impl File<'_> {
    /// Copies it; nothing where it is gone, or of a kind that is passed over.
    fn copy(&self, source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<Option<Filled>, Error> {
        let opened = fault("open", || path_in(self.whole.from, &self.path()));
        match opened.and_then(|()| Source::open(source, self.name)) {
            Ok(Source::File(from, stat)) => self.copy_file(from.as_fd(), target, &stat).map(Some),
            Ok(Source::Symlink) => self.copy_symlink(source, target),
            Ok(Source::Other(FileType::Directory)) => {
                self.whole.nested.lock().push(dir::to_path(&self.path()));
                Ok(None)
            }
            Ok(Source::Other(_)) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(self.cannot_read(errno)),
        }
    }

    fn copy_file(&self, from: BorrowedFd<'_>, target: BorrowedFd<'_>, stat: &Stat) -> Result<Filled, Error> {
        let Replicator { umask, cancel, .. } = self.whole.replicator;
        let mode = stat.st_mode & ALL_MODES;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = fault("create", || path_in(self.whole.to, &self.path()))
            .and_then(|()| openat(target, self.name, flags, Mode::from_raw_mode(mode & 0o777)))
            .map_err(|errno| self.cannot_write(errno))?;
        let set_mode = (mode & (umask | !0o777) != 0).then_some(Mode::from_raw_mode(mode));
        let filled = fault("write", || path_in(self.whole.to, &self.path()))
            .map_err(CopyError::Write)
            .and_then(|()| file::fill(from, to.as_fd(), stat, set_mode, self.share, cancel));
        filled.map_err(|failed| match failed {
            CopyError::Read(errno) => self.cannot_read(errno),
            CopyError::Write(errno) => self.cannot_write(errno),
            CopyError::Cancelled => Error::Cancelled,
        })
    }

    fn copy_symlink(&self, source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<Option<Filled>, Error> {
        let link = match readlinkat(source, self.name, Vec::new()) {
            Ok(link) => link,
            // Gone, or no symlink any more.
            Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(self.cannot_read(errno)),
        };
        fault("create", || path_in(self.whole.to, &self.path()))
            .and_then(|()| symlinkat(&link, target, self.name))
            .map_err(|errno| self.cannot_write(errno))?;
        Ok(Some(Filled { bytes: 0, is_shared: false }))
    }

    fn cannot_read(&self, errno: Errno) -> Error {
        FileError::read(path_in(self.whole.from, &self.path()), errno).into()
    }

    fn cannot_write(&self, errno: Errno) -> Error {
        FileError::write(path_in(self.whole.to, &self.path()), errno).into()
    }

    /// Relative to the root.
    fn path(&self) -> Vec<u8> {
        dir::join(self.folder.path, self.name)
    }
}

fn path_in(root: &Path, path: &[u8]) -> PathBuf {
    root.join(dir::to_path(path))
}

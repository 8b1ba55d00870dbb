//! Files of a tree, copied in parallel: folders first, then the files folder by folder.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rayon::prelude::*;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, UTIME_OMIT, copy_file_range,
    fchmod, fstat, ftruncate, futimens, ioctl_ficlone, mkdirat, openat, readlinkat, seek, statat, symlinkat,
};
use rustix::io::{Errno, read, write};

use crate::tree::{Folder, Tree};
use crate::{Error, dir};

/// Names of one folder that one task copies: enough to pay for opening the folder, few enough to share a big one out.
const CHUNK: usize = 256;
/// Below this many names the other threads cost more than they give.
const PARALLEL_FROM: usize = 128;
/// Above this size a file is copied inside the kernel, below it with one read and one write, which is faster there.
const BIG: u64 = 1 << 20;
/// How much of a big file is copied between two looks at the cancel flag.
const BIG_STEP: usize = 8 << 20;
const BUFFER: usize = 128 << 10;

const RWX_USER: u32 = 0o700;
const ALL_MODES: u32 = 0o7777;

/// What all copying for one snapshot shares.
pub(crate) struct Copier<'a> {
    pub(crate) cancel: &'a AtomicBool,
    /// Mode bits that the file system of the copy drops from what is asked for: the umask's.
    pub(crate) dropped: u32,
    files: AtomicU64,
    bytes: AtomicU64,
    /// Files whose data the copy shares with the original.
    shared: AtomicU64,
    /// Devices of the original that cannot share data with the copy.
    unshared: Mutex<Vec<u64>>,
    /// Folders whose own mode would be in the way of filling them.
    late_modes: Mutex<Vec<(PathBuf, Mode)>>,
}

/// What was copied, in sum.
pub(crate) struct Sum {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) shared: u64,
}

impl<'a> Copier<'a> {
    pub(crate) fn new(cancel: &'a AtomicBool, dropped: u32) -> Self {
        Self {
            cancel,
            dropped,
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            unshared: Mutex::default(),
            late_modes: Mutex::default(),
        }
    }

    /// Copies `tree` from `from` to the folder `to`, which exists. Returns the names that turned out to be folders,
    /// relative to `from`: what is in them is not part of the tree.
    pub(crate) fn copy(&self, tree: &Tree<'_>, from: &Path, to: &Path) -> Result<Vec<PathBuf>, Error> {
        let source = dir::open_root(from).map_err(|errno| Error::read(from, errno))?;
        let target = dir::open_root(to).map_err(|errno| Error::write(to, errno))?;
        let whole = Whole { copier: self, from, to, source, target, nested: Mutex::default() };
        let devices = whole.make_folders(tree)?;
        let tasks: Vec<(&Folder<'_>, u64, &[&[u8]])> = tree
            .folders
            .iter()
            .zip(devices)
            .filter_map(|(folder, device)| Some((folder, device?)))
            .flat_map(|(folder, device)| folder.names.chunks(CHUNK).map(move |names| (folder, device, names)))
            .collect();
        if tree.len() < PARALLEL_FROM {
            tasks
                .into_iter()
                .try_for_each(|(folder, device, names)| whole.copy_names(folder, device, names))?;
        } else {
            tasks
                .into_par_iter()
                .with_max_len(1)
                .try_for_each(|(folder, device, names)| whole.copy_names(folder, device, names))?;
        }
        Ok(whole.nested.into_inner().unwrap_or_default())
    }

    /// Gives the folder `to` the mode `mode`: now, or when everything is copied if it could not be filled else.
    pub(crate) fn set_folder_mode(&self, to: PathBuf, mode: u32) -> Result<(), Error> {
        let mode = mode & ALL_MODES;
        if mode & RWX_USER == RWX_USER {
            return rustix::fs::chmod(&to, Mode::from_raw_mode(mode))
                .map_err(|errno| Error::write(to, errno));
        }
        if let Ok(mut late) = self.late_modes.lock() {
            late.push((to, Mode::from_raw_mode(mode)));
        }
        Ok(())
    }

    /// Ends the copy: sets the modes that had to wait.
    pub(crate) fn finish(self) -> Result<Sum, Error> {
        for (path, mode) in self.late_modes.into_inner().unwrap_or_default() {
            rustix::fs::chmod(&path, mode).map_err(|errno| Error::write(path, errno))?;
        }
        Ok(Sum {
            files: self.files.into_inner(),
            bytes: self.bytes.into_inner(),
            shared: self.shared.into_inner(),
        })
    }

    pub(crate) fn check_cancel(&self) -> Result<(), Error> {
        if self.cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn may_share(&self, device: u64) -> bool {
        self.unshared.lock().is_ok_and(|unshared| !unshared.contains(&device))
    }

    fn cannot_share(&self, device: u64) {
        if let Ok(mut unshared) = self.unshared.lock()
            && !unshared.contains(&device)
        {
            unshared.push(device);
        }
    }
}

/// One tree on its way.
struct Whole<'a> {
    copier: &'a Copier<'a>,
    from: &'a Path,
    to: &'a Path,
    source: OwnedFd,
    target: OwnedFd,
    nested: Mutex<Vec<PathBuf>>,
}

impl Whole<'_> {
    /// Makes the folders of `tree`. Returns the device that each is on in the original; `None` for one that is no folder
    /// any more, and for all below it: what git tracks behind a symlink is not in the work tree.
    fn make_folders(&self, tree: &Tree<'_>) -> Result<Vec<Option<u64>>, Error> {
        let copier = self.copier;
        let mut devices: Vec<Option<u64>> = Vec::with_capacity(tree.folders.len());
        for (index, folder) in tree.folders.iter().enumerate() {
            if index > 0 && devices[folder.parent].is_none() {
                devices.push(None);
                continue;
            }
            if index % CHUNK == 0 {
                copier.check_cancel()?;
            }
            let stat = if index == 0 {
                fstat(&self.source)
            } else {
                dir::at(self.source.as_fd(), folder.path, |at, name| {
                    statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
                })
            };
            let stat = match stat {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => stat,
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {
                    devices.push(None);
                    continue;
                }
                Err(errno) => return Err(Error::read(path_in(self.from, folder.path), errno)),
            };
            if index > 0 {
                self.make_folder(folder.path, stat.st_mode & ALL_MODES)?;
            }
            devices.push(Some(stat.st_dev));
        }
        Ok(devices)
    }

    fn make_folder(&self, path: &[u8], mode: u32) -> Result<(), Error> {
        let asked = Mode::from_raw_mode((mode & 0o777) | RWX_USER);
        dir::at(self.target.as_fd(), path, |at, name| mkdirat(at, name, asked))
            .map_err(|errno| Error::write(path_in(self.to, path), errno))?;
        if mode & RWX_USER != RWX_USER || mode & (self.copier.dropped | !0o777) != 0 {
            self.copier.set_folder_mode(path_in(self.to, path), mode)?;
        }
        Ok(())
    }

    fn copy_names(&self, folder: &Folder<'_>, device: u64, names: &[&[u8]]) -> Result<(), Error> {
        self.copier.check_cancel()?;
        let source = match dir::open(self.source.as_fd(), folder.path) {
            Ok(source) => source,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(errno) => return Err(Error::read(path_in(self.from, folder.path), errno)),
        };
        let target = dir::open(self.target.as_fd(), folder.path)
            .map_err(|errno| Error::write(path_in(self.to, folder.path), errno))?;
        let share = Cell::new(self.copier.may_share(device));
        let (mut files, mut bytes, mut shared) = (0, 0, 0);
        for name in names {
            self.copier.check_cancel()?;
            let file = File { whole: self, folder, device, share: &share, name };
            match file.copy(source.as_fd(), target.as_fd())? {
                Copied::Nothing => {}
                Copied::Symlink => files += 1,
                Copied::Data(size) => (files, bytes) = (files + 1, bytes + size),
                Copied::Shared(size) => (files, bytes, shared) = (files + 1, bytes + size, shared + 1),
            }
        }
        self.copier.files.fetch_add(files, Ordering::Relaxed);
        self.copier.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.copier.shared.fetch_add(shared, Ordering::Relaxed);
        Ok(())
    }
}

enum Copied {
    /// It is gone, or of a kind that is left out.
    Nothing,
    Symlink,
    Data(u64),
    Shared(u64),
}

/// One name of a folder.
struct File<'a> {
    whole: &'a Whole<'a>,
    folder: &'a Folder<'a>,
    device: u64,
    /// Its data may be shared with the copy, as far as is known.
    share: &'a Cell<bool>,
    name: &'a [u8],
}

impl File<'_> {
    fn copy(&self, source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<Copied, Error> {
        // Without NONBLOCK a fifo would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let from = match openat(source, self.name, flags, Mode::empty()) {
            Ok(from) => from,
            Err(Errno::LOOP) => return self.copy_symlink(source, target),
            // NXIO: a socket, or a device without a driver.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NXIO | Errno::NODEV) => return Ok(Copied::Nothing),
            Err(errno) => return Err(self.cannot_read(errno)),
        };
        let stat = fstat(&from).map_err(|errno| self.cannot_read(errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => {
                if let Ok(mut nested) = self.whole.nested.lock() {
                    nested.push(PathBuf::from(OsStr::from_bytes(&dir::join(self.folder.path, self.name))));
                }
                return Ok(Copied::Nothing);
            }
            _ => return Ok(Copied::Nothing),
        }
        let mode = stat.st_mode & ALL_MODES;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = openat(target, self.name, flags, Mode::from_raw_mode(mode & 0o777))
            .map_err(|errno| self.cannot_write(errno))?;
        let shared = self.copy_data(from.as_fd(), to.as_fd(), &stat)?;
        // The time last: writing sets it. Tools that compare times, git and make among them, then see what they would
        // see in the original.
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ },
        };
        if mode & (self.whole.copier.dropped | !0o777) != 0 {
            fchmod(&to, Mode::from_raw_mode(mode)).map_err(|errno| self.cannot_write(errno))?;
        }
        futimens(&to, &times).map_err(|errno| self.cannot_write(errno))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Ok(if shared { Copied::Shared(size) } else { Copied::Data(size) })
    }

    fn copy_symlink(&self, source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<Copied, Error> {
        let link = match readlinkat(source, self.name, Vec::new()) {
            Ok(link) => link,
            // Gone, or no symlink any more.
            Err(Errno::NOENT | Errno::INVAL) => return Ok(Copied::Nothing),
            Err(errno) => return Err(self.cannot_read(errno)),
        };
        symlinkat(&link, target, self.name).map_err(|errno| self.cannot_write(errno))?;
        Ok(Copied::Symlink)
    }

    /// Copies as much as the file held when it was opened; true if its data is shared instead.
    fn copy_data(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Result<bool, Error> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size == 0 {
            return Ok(false);
        }
        if self.share.get() {
            match ioctl_ficlone(to, from) {
                Ok(()) => return Ok(true),
                Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => return Err(self.cannot_write(errno)),
                Err(_) => {
                    self.share.set(false);
                    self.whole.copier.cannot_share(self.device);
                }
            }
        }
        if size <= BIG {
            self.copy_by_buffer(from, to, size)?;
        } else if u64::try_from(stat.st_blocks).unwrap_or(0) * 512 < size {
            self.copy_sparse(from, to, size)?;
        } else {
            self.copy_in_kernel(from, to, size)?;
        }
        Ok(false)
    }

    fn copy_by_buffer(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, size: u64) -> Result<(), Error> {
        thread_local! {
            static COPY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        COPY.with_borrow_mut(|buffer| {
            buffer.resize(BUFFER, 0);
            let mut left = size;
            while left > 0 {
                let wanted = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
                let got = match read(from, &mut buffer[..wanted]) {
                    Ok(0) => break,
                    Ok(got) => got,
                    Err(Errno::INTR) => continue,
                    Err(errno) => return Err(self.cannot_read(errno)),
                };
                left -= got as u64;
                let mut rest = &buffer[..got];
                while !rest.is_empty() {
                    match write(to, rest) {
                        Ok(written) => rest = &rest[written..],
                        Err(Errno::INTR) => {}
                        Err(errno) => return Err(self.cannot_write(errno)),
                    }
                }
                if size > BIG {
                    self.whole.copier.check_cancel()?;
                }
            }
            Ok(())
        })
    }

    fn copy_in_kernel(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, size: u64) -> Result<(), Error> {
        let mut left = size;
        while left > 0 {
            self.whole.copier.check_cancel()?;
            let wanted = usize::try_from(left).unwrap_or(BIG_STEP).min(BIG_STEP);
            match copy_file_range(from, None, to, None, wanted) {
                // Some file systems answer 0 instead of saying that they cannot.
                Ok(0) => return self.copy_by_buffer(from, to, left),
                Ok(copied) => left -= copied as u64,
                Err(Errno::INTR) => {}
                Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => return Err(self.cannot_write(errno)),
                Err(errno @ Errno::IO) => return Err(self.cannot_read(errno)),
                // Not between these two file systems, or not in this kernel.
                Err(_) => return self.copy_by_buffer(from, to, left),
            }
        }
        Ok(())
    }

    /// Copies only the parts of a file that hold data, so that a file with holes does not grow.
    fn copy_sparse(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, size: u64) -> Result<(), Error> {
        let mut end = 0;
        while end < size {
            let start = match seek(from, SeekFrom::Data(end)) {
                Ok(start) => start.min(size),
                // No data after `end`.
                Err(Errno::NXIO) => break,
                Err(errno) => return Err(self.cannot_read(errno)),
            };
            end = match seek(from, SeekFrom::Hole(start)) {
                Ok(hole) => hole.min(size),
                Err(Errno::NXIO) => break,
                Err(errno) => return Err(self.cannot_read(errno)),
            };
            seek(from, SeekFrom::Start(start)).map_err(|errno| self.cannot_read(errno))?;
            seek(to, SeekFrom::Start(start)).map_err(|errno| self.cannot_write(errno))?;
            self.copy_in_kernel(from, to, end.saturating_sub(start))?;
        }
        ftruncate(to, size).map_err(|errno| self.cannot_write(errno))
    }

    fn cannot_read(&self, errno: Errno) -> Error {
        Error::read(path_in(self.whole.from, &dir::join(self.folder.path, self.name)), errno)
    }

    fn cannot_write(&self, errno: Errno) -> Error {
        Error::write(path_in(self.whole.to, &dir::join(self.folder.path, self.name)), errno)
    }
}

fn path_in(root: &Path, path: &[u8]) -> PathBuf {
    root.join(OsStr::from_bytes(path))
}

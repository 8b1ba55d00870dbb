//! One name of a folder: whether the copy has it as it is to be, and how it comes there.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicBool;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat, symlinkat};
use rustix::io::Errno;

use super::{ALL_MODES, Replicator, Whole, path_in};
use crate::copied::{Known, Rows, Seen};
use crate::fault::fault;
use crate::file::{self, CopyError, Filled, Source};
use crate::outline::OutlineFolder;
use crate::{FileError, ReplicateError as Error, dir};

/// Whether the older copy has a file as it is to be.
pub(super) enum Stands {
    /// It does.
    As(Seen, Seen),
    /// There is none to copy.
    Gone,
    /// It does not, and nothing stands in its place.
    No,
}

/// A file or symlink that was copied.
pub(super) struct FilledFile {
    pub(super) from: Seen,
    pub(super) to: Seen,
    pub(super) is_shared: bool,
}

/// One name of a folder.
pub(super) struct File<'a> {
    pub(super) whole: &'a Whole<'a>,
    pub(super) folder: &'a OutlineFolder<'a>,
    /// Whether the data may be shared with the copy, as far as is known.
    pub(super) share: &'a AtomicBool,
    pub(super) name: &'a [u8],
}

impl File<'_> {
    /// Looks whether it has to be copied, and takes away what stands in its place where it has to.
    pub(super) fn stands(
        &self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        known: &Rows<'_>,
    ) -> Result<Stands, Error> {
        let to = match statat(target, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(to) => to,
            Err(Errno::NOENT) => return Ok(Stands::No),
            Err(errno) => return Err(self.cannot_write(errno)),
        };
        let opened = fault("look at", || path_in(self.whole.from, &self.path()));
        let from = match opened.and_then(|()| statat(source, self.name, AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(from) => from,
            Err(Errno::NOENT) => {
                self.whole.take_away(target, self.name, &self.path())?;
                return Ok(Stands::Gone);
            }
            Err(errno) => return Err(self.cannot_read(errno)),
        };
        let seen = (Seen::of(&from), Seen::of(&to));
        let is_same = match known.look_up(self.name, &seen.0, &seen.1) {
            Known::Same => true,
            Known::InDoubt => file::is_equal(source, target, self.name, self.whole.replicator.cancel),
            Known::Other => false,
        };
        if is_same {
            return Ok(Stands::As(seen.0, seen.1));
        }
        self.make_room(target, &from, &to)?;
        Ok(Stands::No)
    }

    /// Looks whether its original is what was copied, whatever has become of the copy, and takes away what
    /// stands in its place where it is not.
    pub(super) fn is_unedited(
        &self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        known: &Rows<'_>,
    ) -> Result<Stands, Error> {
        let opened = fault("look at", || path_in(self.whole.from, &self.path()));
        let from = match opened.and_then(|()| statat(source, self.name, AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(from) => from,
            // Its row goes, and with it the copy.
            Err(Errno::NOENT) => return Ok(Stands::Gone),
            Err(errno) => return Err(self.cannot_read(errno)),
        };
        let seen = Seen::of(&from);
        let row = known.original(self.name, &seen);
        if let Some((row, Known::Same)) = row {
            return Ok(Stands::As(row.from, row.to));
        }
        let to = match statat(target, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(to) => to,
            Err(Errno::NOENT) => return Ok(Stands::No),
            Err(errno) => return Err(self.cannot_write(errno)),
        };
        // A symlink has a time of its own.
        let time = |stat: &Stat| match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => None,
            _ => Some((stat.st_mtime, stat.st_mtime_nsec)),
        };
        let looks_equal = (from.st_mode, time(&from)) == (to.st_mode, time(&to));
        if looks_equal && file::is_equal(source, target, self.name, self.whole.replicator.cancel) {
            return Ok(Stands::As(seen, Seen::of(&to)));
        }
        self.make_room(target, &from, &to)?;
        Ok(Stands::No)
    }

    /// Takes away what stands in its place.
    fn make_room(&self, target: BorrowedFd<'_>, from: &Stat, to: &Stat) -> Result<(), Error> {
        let is_folder = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        // What is in a folder that is none of the outline is not looked at here.
        if !(is_folder(from) && is_folder(to)) {
            self.whole.take_away(target, self.name, &self.path())?;
        }
        Ok(())
    }

    /// Copies it; nothing where it is gone, or of a kind that is passed over.
    pub(super) fn copy(
        &self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
    ) -> Result<Option<FilledFile>, Error> {
        let opened = fault("open", || path_in(self.whole.from, &self.path()));
        match opened.and_then(|()| Source::open(source, self.name)) {
            Ok(Source::File(from, stat)) => self.copy_file(from.as_fd(), target, stat).map(Some),
            Ok(Source::Symlink) => self.copy_symlink(source, target),
            Ok(Source::Other(FileType::Directory)) => {
                self.whole.nested.lock().push(dir::to_path(&self.path()));
                Ok(None)
            }
            Ok(Source::Other(_)) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(self.cannot_read(errno)),
        }
    }

    fn copy_file(
        &self,
        from: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        stat: Stat,
    ) -> Result<FilledFile, Error> {
        let Replicator { umask, cancel, .. } = self.whole.replicator;
        let mode = stat.st_mode & ALL_MODES;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = fault("create", || path_in(self.whole.to, &self.path()))
            .and_then(|()| openat(target, self.name, flags, Mode::from_raw_mode(mode & 0o777)))
            .map_err(|errno| self.cannot_write(errno))?;
        let set_mode = (mode & (umask | !0o777) != 0).then_some(Mode::from_raw_mode(mode));
        let filled = fault("write", || path_in(self.whole.to, &self.path()))
            .map_err(CopyError::Write)
            .and_then(|()| file::fill(from, to.as_fd(), &stat, set_mode, self.share, cancel));
        let Filled { is_shared, .. } = filled.map_err(|failed| match failed {
            CopyError::Read(errno) => self.cannot_read(errno),
            CopyError::Write(errno) => self.cannot_write(errno),
            CopyError::Cancelled => Error::Cancelled,
        })?;
        let to = fstat(&to).map_err(|errno| self.cannot_write(errno))?;
        Ok(FilledFile { from: Seen::of(&stat), to: Seen::of(&to), is_shared })
    }

    fn copy_symlink(
        &self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
    ) -> Result<Option<FilledFile>, Error> {
        let looked = statat(source, self.name, AtFlags::SYMLINK_NOFOLLOW);
        let (from, link) =
            match looked.and_then(|stat| Ok((stat, readlinkat(source, self.name, Vec::new())?))) {
                Ok(found) => found,
                // Gone, or no symlink any more.
                Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
                Err(errno) => return Err(self.cannot_read(errno)),
            };
        let to = fault("create", || path_in(self.whole.to, &self.path()))
            .and_then(|()| symlinkat(&link, target, self.name))
            .and_then(|()| statat(target, self.name, AtFlags::SYMLINK_NOFOLLOW))
            .map_err(|errno| self.cannot_write(errno))?;
        Ok(Some(FilledFile { from: Seen::of(&from), to: Seen::of(&to), is_shared: false }))
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

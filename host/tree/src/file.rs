//! One file: its content, permissions and times, copied into another. Content is shared where the file system
//! can, else copied, holes as holes.

use std::cell::RefCell;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    FileType, Mode, SeekFrom, Stat, Timespec, Timestamps, UTIME_OMIT, copy_file_range, fchmod, fstat,
    ftruncate, futimens, ioctl_ficlone, readlinkat, seek,
};
use rustix::io::{Errno, pread, pwrite};

use crate::dir;

/// Above this size a file is copied inside the kernel, below it with one read and one write, which is faster
/// there.
const BIG: u64 = 1 << 20;
/// The number of bytes that are copied inside the kernel between two looks at the cancel flag.
const STEP: usize = 8 << 20;
const BUFFER: usize = 128 << 10;

/// Something that is to be copied, as it is by now.
pub(crate) enum Source {
    /// A regular file, opened for reading.
    File(OwnedFd, Stat),
    Symlink,
    /// A folder, or what nobody copies.
    Other(FileType),
}

impl Source {
    /// Opens what is called `name` in `folder`.
    pub(crate) fn open(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Self, Errno> {
        let file = match dir::open_file(folder, name) {
            Ok(file) => file,
            Err(Errno::LOOP) => return Ok(Self::Symlink),
            Err(Errno::NXIO | Errno::NODEV) => return Ok(Self::Other(FileType::Unknown)),
            Err(errno) => return Err(errno),
        };
        let stat = fstat(&file)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Self::File(file, stat),
            kind => Self::Other(kind),
        })
    }
}

/// The reason why a copy was not made.
pub(crate) enum CopyError {
    Read(Errno),
    Write(Errno),
    Cancelled,
}

/// The content that a copy has got.
pub(crate) struct Filled {
    pub(crate) bytes: u64,
    /// Whether the data is shared with the original.
    pub(crate) is_shared: bool,
}

/// Makes the empty file `to` hold what `from` does, with its time, and with the permissions `mode` where they
/// have to be set. `share` says whether the two can share data, as far as is known.
pub(crate) fn fill(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    stat: &Stat,
    mode: Option<Mode>,
    share: &AtomicBool,
    cancel: &AtomicBool,
) -> Result<Filled, CopyError> {
    let filled = copy(from, to, stat, share, cancel)?;
    let finish = || {
        if let Some(mode) = mode {
            fchmod(to, mode)?;
        }
        // The time last: writing sets it. Tools that compare times, git and make among them, then see what
        // they would see in the original.
        futimens(to, &modified(stat))
    };
    finish().map_err(CopyError::Write)?;
    Ok(filled)
}

/// Whether two files of one name hold the same: files the same bytes, symlinks the same text. False where that
/// cannot be told.
pub(crate) fn is_equal(one: BorrowedFd<'_>, other: BorrowedFd<'_>, name: &[u8], cancel: &AtomicBool) -> bool {
    match (Source::open(one, name), Source::open(other, name)) {
        (Ok(Source::File(one, _)), Ok(Source::File(other, _))) => {
            is_equal_content(&one, &other, cancel).unwrap_or(false)
        }
        (Ok(Source::Symlink), Ok(Source::Symlink)) => {
            let text = |folder| readlinkat(folder, name, Vec::new()).ok();
            text(one).is_some_and(|link| text(other) == Some(link))
        }
        _ => false,
    }
}

fn is_equal_content(one: &OwnedFd, other: &OwnedFd, cancel: &AtomicBool) -> Result<bool, Errno> {
    let mut buffers = [vec![0; BUFFER], vec![0; BUFFER]];
    let [first, second] = &mut buffers;
    let mut at = 0;
    while !cancel.load(Ordering::Relaxed) {
        let (had, has) = (read_whole(one, first, at)?, read_whole(other, second, at)?);
        if first[..had] != second[..has] {
            return Ok(false);
        }
        if had == 0 {
            return Ok(true);
        }
        at += had as u64;
    }
    Ok(false)
}

/// Reads until the buffer is full or the file ends.
fn read_whole(file: &OwnedFd, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
    let mut got = 0;
    while got < buffer.len() {
        match pread(file, &mut buffer[got..], at + got as u64) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(got)
}

/// The times that give another file the same time of modification.
pub(crate) fn modified(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ },
    }
}

/// Copies the content, and no more than there was at `stat`: a file that grows all the time has an end too.
fn copy(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    stat: &Stat,
    share: &AtomicBool,
    cancel: &AtomicBool,
) -> Result<Filled, CopyError> {
    let copied = |bytes| Filled { bytes, is_shared: false };
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size == 0 {
        return Ok(copied(0));
    }
    if share.load(Ordering::Relaxed) {
        match ioctl_ficlone(to, from) {
            // The whole file, as it is by now.
            Ok(()) => {
                let bytes = u64::try_from(fstat(to).map_err(CopyError::Write)?.st_size).unwrap_or(0);
                return Ok(Filled { bytes, is_shared: true });
            }
            Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => return Err(CopyError::Write(errno)),
            Err(_) => share.store(false, Ordering::Relaxed),
        }
    }
    if size <= BIG {
        return by_buffer(from, to, 0..size, cancel).map(copied);
    }
    if u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) >= size {
        return in_kernel(from, to, 0..size, cancel).map(copied);
    }
    let mut at = 0;
    while at < size {
        let data = next_data(from, at, size);
        at = data.end;
        in_kernel(from, to, data, cancel)?;
    }
    ftruncate(to, size).map_err(CopyError::Write)?;
    Ok(copied(size))
}

type Range = std::ops::Range<u64>;

/// The next part of a file that is no hole; empty at the end if there is none.
fn next_data(from: BorrowedFd<'_>, at: u64, size: u64) -> Range {
    match seek(from, SeekFrom::Data(at)) {
        Ok(start) if start < size => {
            let end = seek(from, SeekFrom::Hole(start)).map_or(size, |end| end.min(size));
            // A file system that does not know holes says anything.
            start..if end > start { end } else { size }
        }
        Ok(_) | Err(Errno::NXIO) => size..size,
        Err(_) => at..size,
    }
}

/// Copies a part of a file and returns where it ended: earlier if the file is shorter by now.
fn in_kernel(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    part: Range,
    cancel: &AtomicBool,
) -> Result<u64, CopyError> {
    let (mut read_at, mut write_at) = (part.start, part.start);
    while read_at < part.end {
        if cancel.load(Ordering::Relaxed) {
            return Err(CopyError::Cancelled);
        }
        let wanted = usize::try_from(part.end - read_at).unwrap_or(STEP).min(STEP);
        match copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), wanted) {
            // Some file systems answer 0 instead of saying that they cannot.
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => return Err(CopyError::Write(errno)),
            // Not between these two file systems, or not in this kernel; what else there is shows then.
            Err(_) => break,
        }
    }
    by_buffer(from, to, read_at..part.end, cancel)
}

/// Copies a part of a file through a buffer; else as [`in_kernel`].
fn by_buffer(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    part: Range,
    cancel: &AtomicBool,
) -> Result<u64, CopyError> {
    thread_local! {
        static COPY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    COPY.with_borrow_mut(|buffer| {
        buffer.resize(BUFFER, 0);
        let mut at = part.start;
        while at < part.end {
            if cancel.load(Ordering::Relaxed) {
                return Err(CopyError::Cancelled);
            }
            let wanted = usize::try_from(part.end - at).unwrap_or(BUFFER).min(BUFFER);
            let got = match pread(from, &mut buffer[..wanted], at) {
                Ok(0) => break,
                Ok(got) => got,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(CopyError::Read(errno)),
            };
            let mut rest = &buffer[..got];
            while !rest.is_empty() {
                match pwrite(to, rest, at) {
                    Ok(written) => {
                        rest = &rest[written..];
                        at += written as u64;
                    }
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(CopyError::Write(errno)),
                }
            }
        }
        Ok(at)
    })
}

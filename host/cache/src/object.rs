//! Big files: copied or shared as they are, hashed on the way, holes kept.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::fs::{SeekFrom, Stat, fstat, ftruncate, ioctl_ficlone, seek};
use rustix::io::{Errno, pread, pwrite};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::digest::Digest;
use crate::io::{self, ReadError, new_file};
use crate::layout::Layout;
use crate::staging::Staging;

/// The number of bytes that are read, hashed and written at once: small enough to stay in a core's own cache.
const STEP: usize = 256 << 10;

/// A big file that an entry needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ObjectRef {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// The reason why a copy was not made.
pub(crate) enum CopyError {
    Read(Errno),
    Write(Errno),
    /// The file ended before it should.
    Short,
    Cancelled,
}

/// The same as [`io::fault`] for a call that writes.
fn fault(doing: &'static str, path: &Path) -> Result<(), CopyError> {
    let fault = io::fault(doing, path);
    fault.map_err(|error| CopyError::Write(Errno::from_io_error(&error).unwrap_or(Errno::IO)))
}

/// Takes big files into the store.
pub(crate) struct Objects<'a> {
    layout: &'a Layout,
    staging: &'a Staging,
    cancel: &'a AtomicBool,
    /// Whether the tree and the store can share data, as far as is known.
    share: AtomicBool,
    /// The sizes of the objects that the store has.
    sizes: OnceLock<HashSet<u64>>,
    /// The objects that were added, with their sizes.
    staged: Mutex<HashMap<Digest, u64>>,
    next: AtomicU64,
}

impl<'a> Objects<'a> {
    pub(crate) fn new(layout: &'a Layout, staging: &'a Staging, cancel: &'a AtomicBool) -> Self {
        Self {
            layout,
            staging,
            cancel,
            share: AtomicBool::new(true),
            sizes: OnceLock::new(),
            staged: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    /// Takes an open file as it is now, unless the store has it; nothing if it got shorter meanwhile.
    pub(crate) fn add(&self, from: BorrowedFd<'_>, stat: &Stat) -> Result<Option<ObjectRef>, ReadError> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let sizes = self.sizes.get_or_init(|| {
            let files = io::files(&self.layout.objects()).unwrap_or_default();
            files.iter().filter_map(|file| Some(fs_err::metadata(file).ok()?.len())).collect()
        });
        if sizes.contains(&size) {
            let digest = match copy(from, None, size, is_sparse(stat), self.cancel) {
                Ok(digest) => digest,
                Err(failed) => return self.failed(failed),
            };
            if self.has(digest, size) {
                return Ok(Some(ObjectRef { digest, size }));
            }
        }
        let path = self.staging.file(&format!("object-{}", self.next.fetch_add(1, Ordering::Relaxed)));
        let to = new_file(&path)?;
        let shared = self.share.load(Ordering::Relaxed) && ioctl_ficlone(&to, from).is_ok();
        self.share.store(shared, Ordering::Relaxed);
        // What is shared is hashed where it comes from: that is what the page cache holds.
        let copied = fault("write", &path)
            .and_then(|()| copy(from, (!shared).then(|| to.as_fd()), size, is_sparse(stat), self.cancel));
        let digest = match copied {
            Ok(digest) => digest,
            Err(failed) => {
                let _ = fs_err::remove_file(&path);
                return self.failed(failed);
            }
        };
        let new = self.staged.lock().insert(digest, size).is_none();
        if new && !self.has(digest, size) {
            let place = self.staging.file(&digest.to_string());
            io::rename(&path, &place).map_err(|error| Error::write(&path, error))?;
        } else {
            let _ = fs_err::remove_file(&path);
        }
        Ok(Some(ObjectRef { digest, size }))
    }

    /// The objects that were added and are not in the store yet, with their sizes.
    pub(crate) fn staged(self) -> HashMap<Digest, u64> {
        let mut staged = self.staged.into_inner();
        staged.retain(|digest, _| self.staging.file(&digest.to_string()).exists());
        staged
    }

    fn has(&self, digest: Digest, size: u64) -> bool {
        fs_err::metadata(self.layout.object(digest)).is_ok_and(|meta| meta.len() == size)
    }

    fn failed<T>(&self, failed: CopyError) -> Result<Option<T>, ReadError> {
        match failed {
            CopyError::Short => Ok(None),
            CopyError::Read(errno) => Err(ReadError::File(errno)),
            CopyError::Write(errno) => Err(Error::write(self.staging.path(), errno).into()),
            CopyError::Cancelled => Err(Error::Cancelled.into()),
        }
    }
}

/// Makes the empty file `to`, open for reading too, hold what `from` does, shared where the file systems can,
/// and returns the hash of it.
pub(crate) fn restore(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    size: u64,
    share: &AtomicBool,
    cancel: &AtomicBool,
) -> Result<Digest, CopyError> {
    let sparse = is_sparse(&fstat(from).map_err(CopyError::Read)?);
    if share.load(Ordering::Relaxed) {
        match ioctl_ficlone(to, from) {
            // Read where it will be read again.
            Ok(()) => return copy(to, None, size, sparse, cancel),
            Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => return Err(CopyError::Write(errno)),
            Err(_) => share.store(false, Ordering::Relaxed),
        }
    }
    copy(from, Some(to), size, sparse, cancel)
}

/// The hash of an open file.
pub(crate) fn hash(from: BorrowedFd<'_>, stat: &Stat, cancel: &AtomicBool) -> Result<Digest, CopyError> {
    copy(from, None, u64::try_from(stat.st_size).unwrap_or(0), is_sparse(stat), cancel)
}

/// Whether a file's size is larger than what it takes on the disk.
fn is_sparse(stat: &Stat) -> bool {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < u64::try_from(stat.st_size).unwrap_or(0)
}

/// Hashes `size` bytes of `from`, and writes them to `to` if there is one: holes as holes.
fn copy(
    from: BorrowedFd<'_>,
    to: Option<BorrowedFd<'_>>,
    size: u64,
    sparse: bool,
    cancel: &AtomicBool,
) -> Result<Digest, CopyError> {
    thread_local! {
        static COPY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    COPY.with_borrow_mut(|buffer| {
        buffer.resize(STEP, 0);
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        // Up to here there is data, as far as is known.
        let mut data_end = if sparse { 0 } else { size };
        while at < size {
            if cancel.load(Ordering::Relaxed) {
                return Err(CopyError::Cancelled);
            }
            if at >= data_end {
                let (start, end) = next_data(from, at, size);
                if start > at {
                    hash_zeros(&mut hasher, start - at, cancel)?;
                }
                (at, data_end) = (start, end);
                continue;
            }
            let wanted = usize::try_from(data_end - at).unwrap_or(STEP).min(STEP);
            let got = match pread(from, &mut buffer[..wanted], at) {
                Ok(0) => return Err(CopyError::Short),
                Ok(got) => got,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(CopyError::Read(errno)),
            };
            hasher.update(&buffer[..got]);
            if let Some(to) = to {
                write_at(to, &buffer[..got], at).map_err(CopyError::Write)?;
            }
            at += got as u64;
        }
        if let (Some(to), true) = (to, sparse) {
            ftruncate(to, size).map_err(CopyError::Write)?;
        }
        Ok(hasher.finalize().into())
    })
}

/// The place where data begins and ends from `at` on; both `size` if there is none.
fn next_data(from: BorrowedFd<'_>, at: u64, size: u64) -> (u64, u64) {
    let start = match seek(from, SeekFrom::Data(at)) {
        Ok(start) => start.min(size),
        Err(Errno::NXIO) => return (size, size),
        // A file system that does not know: all of it is data.
        Err(_) => return (at, size),
    };
    let end = seek(from, SeekFrom::Hole(start)).map_or(size, |end| end.min(size));
    (start, end.max(start))
}

fn hash_zeros(hasher: &mut blake3::Hasher, mut count: u64, cancel: &AtomicBool) -> Result<(), CopyError> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while count > 0 {
        if cancel.load(Ordering::Relaxed) {
            return Err(CopyError::Cancelled);
        }
        let step = usize::try_from(count).unwrap_or(ZEROS.len()).min(ZEROS.len());
        hasher.update(&ZEROS[..step]);
        count -= step as u64;
    }
    Ok(())
}

/// Writes all of `bytes`.
pub(crate) fn write_at(to: BorrowedFd<'_>, mut bytes: &[u8], mut at: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match pwrite(to, bytes, at) {
            Ok(written) => {
                bytes = &bytes[written..];
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

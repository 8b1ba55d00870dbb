//! The whole store, read and checked.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fs_err as fs;
use parking_lot::Mutex;
use rayon::prelude::*;
use rustix::fs::fstat;

use crate::damage::move_aside;
use crate::digest::Digest;
use crate::object::{self, CopyError};
use crate::pack::{PackIndex, Unpacker, Unreadable};
use crate::sealed::Broken;
use crate::store::Store;
use crate::{Error, Warning, io, layout, pointer};

/// The result of a check of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// The number of entries that are whole.
    pub entries: u64,
    /// The number of packs and objects that were read.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The damaged files. Each was set aside, with the entries that need it.
    pub warnings: Vec<Warning>,
}

impl Store {
    /// Reads everything in the store and sets aside what is damaged.
    ///
    /// # Errors
    /// The store cannot be read, or the caller cancelled.
    pub fn verify(&self, cancel: &AtomicBool) -> Result<Verified, Error> {
        let layout = self.layout();
        let mut verified = Verified::default();
        let list = |folder| io::files(folder).map_err(|error| Error::read(folder, error));
        let (packs, objects) = (list(&layout.packs())?, list(&layout.objects())?);
        let bytes = AtomicU64::new(0);
        let broken = Mutex::new(Vec::new());
        let check = |path: &Path, check: &dyn Fn() -> Result<Option<Broken>, Error>| {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            bytes.fetch_add(fs::metadata(path).map_or(0, |meta| meta.len()), Ordering::Relaxed);
            if let Some(why) = check()? {
                broken.lock().push((path.to_owned(), why));
            }
            Ok(())
        };
        packs.par_iter().try_for_each(|path| check(path, &|| check_pack(path)))?;
        objects.par_iter().try_for_each(|path| check(path, &|| check_object(path, cancel)))?;
        for (what, why) in broken.into_inner() {
            move_aside(layout, &what);
            verified.warnings.push(Warning::Damaged { what, why: why.to_owned(), entry: None });
        }
        // Entries that need what was set aside are missing something now.
        for (_, pointer) in pointer::all(layout, &mut verified.warnings)? {
            let found = self.find(&pointer.name, &pointer.key)?;
            verified.entries += u64::from(found.entry.is_some());
            verified.warnings.extend(found.warnings);
        }
        verified.files = (packs.len() + objects.len()) as u64;
        verified.bytes = bytes.into_inner();
        Ok(verified)
    }
}

/// Says what is wrong with a pack; nothing is with one that is gone.
fn check_pack(path: &Path) -> Result<Option<Broken>, Error> {
    match read_pack(path) {
        Ok(()) => Ok(None),
        Err(Unreadable::Broken(why)) => Ok(Some(why)),
        Err(Unreadable::System(error)) => match error.kind() {
            ErrorKind::NotFound => Ok(None),
            ErrorKind::UnexpectedEof => Ok(Some("is too short")),
            _ => Err(Error::read(path, error)),
        },
    }
}

/// Reads all that a pack holds.
fn read_pack(path: &Path) -> Result<(), Unreadable> {
    let index = PackIndex::read(path)?;
    let records = index.in_order();
    let mut unpacker = Unpacker::new()?;
    for files in records.chunk_by(|one, other| one.block == other.block) {
        let block = index.blocks.get(files[0].block as usize);
        let block = block.ok_or(Unreadable::Broken("has an index that names a block that is not there"))?;
        let content = unpacker.read(path, *block)?;
        let whole = files.iter().all(|file| {
            let bytes = content.get(file.offset as usize..).and_then(|rest| rest.get(..file.size as usize));
            bytes.is_some_and(|bytes| Digest::of(bytes) == file.digest)
        });
        if !whole {
            return Err(Unreadable::Broken("holds a file whose content is not what was saved"));
        }
    }
    Ok(())
}

/// Says what is wrong with an object; nothing is with one that is gone.
fn check_object(path: &Path, cancel: &AtomicBool) -> Result<Option<Broken>, Error> {
    let file = match io::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::read(path, error)),
    };
    let stat = fstat(&file).map_err(|errno| Error::read(path, errno))?;
    match object::hash(file.as_fd(), &stat, cancel) {
        Ok(digest) if layout::digest_of(path) == Some(digest) => Ok(None),
        Ok(_) => Ok(Some("is not what its name says")),
        Err(CopyError::Short) => Ok(Some("is too short")),
        Err(CopyError::Cancelled) => Err(Error::Cancelled),
        Err(CopyError::Read(errno) | CopyError::Write(errno)) => Err(Error::read(path, errno)),
    }
}

//! The whole store, read and checked.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fs_err as fs;
use rayon::prelude::*;
use rustix::fs::fstat;

use crate::digest::Digest;
use crate::layout;
use crate::object::{self, Failed};
use crate::pack::{PackIndex, Unpacker, Unreadable};
use crate::shared::Shared;
use crate::store::Store;
use crate::{Error, Warning};

/// What a check of the store found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many entries are whole.
    pub entries: u64,
    /// How many packs and objects were read.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// What is damaged. It was set aside, with the entries that need it.
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
        let list = |folder| layout::files(folder).map_err(|error| Error::read_io(folder, error));
        let (packs, objects) = (list(&layout.packs())?, list(&layout.objects())?);
        let bytes = AtomicU64::new(0);
        let broken = Shared::new(Vec::new());
        let check = |path: &Path, check: &dyn Fn() -> Result<Result<(), &'static str>, Error>| {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            bytes.fetch_add(fs::metadata(path).map_or(0, |meta| meta.len()), Ordering::Relaxed);
            if let Err(why) = check()? {
                broken.lock().push((path.to_owned(), why));
            }
            Ok(())
        };
        packs.par_iter().try_for_each(|path| check(path, &|| check_pack(path)))?;
        objects.par_iter().try_for_each(|path| check(path, &|| check_object(path, cancel)))?;
        for (what, why) in broken.into_inner() {
            if let Err(error) = layout.set_aside(&what) {
                tracing::debug!("cache: not set aside: {error}");
            }
            verified.warnings.push(Warning::Damaged { what, why: why.to_owned(), entry: None });
        }
        // Entries that need what was set aside are missing something now.
        for (_, pointer) in self.pointers(&mut verified.warnings)? {
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
fn check_pack(path: &Path) -> Result<Result<(), &'static str>, Error> {
    let system = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(Ok(())),
        std::io::ErrorKind::UnexpectedEof => Ok(Err("is too short")),
        _ => Err(Error::read_io(path, error)),
    };
    let index = match PackIndex::read(path) {
        Ok(Ok(index)) => index,
        Ok(Err(why)) => return Ok(Err(why)),
        Err(error) => return system(error),
    };
    let records = index.in_order();
    let mut unpacker = match Unpacker::new() {
        Ok(unpacker) => unpacker,
        Err(error) => return system(error),
    };
    for files in records.chunk_by(|one, other| one.block == other.block) {
        let Some(&block) = index.blocks.get(files[0].block as usize) else {
            return Ok(Err("has an index that names a block that is not there"));
        };
        let content = match unpacker.read(path, block) {
            Ok(content) => content,
            Err(Unreadable::Broken(why)) => return Ok(Err(why)),
            Err(Unreadable::System(error)) => return system(error),
        };
        let whole = files.iter().all(|file| {
            let bytes = content.get(file.offset as usize..).and_then(|rest| rest.get(..file.size as usize));
            bytes.is_some_and(|bytes| Digest::of(bytes) == file.digest)
        });
        if !whole {
            return Ok(Err("holds a file whose content is not what was saved"));
        }
    }
    Ok(Ok(()))
}

fn check_object(path: &Path, cancel: &AtomicBool) -> Result<Result<(), &'static str>, Error> {
    let cannot = |error| Error::read_io(path, error);
    let file = match layout::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Ok(())),
        Err(error) => return Err(cannot(error)),
    };
    let stat = fstat(&file).map_err(|errno| cannot(errno.into()))?;
    match object::hash(file.as_fd(), &stat, cancel) {
        Ok(digest) if layout::digest_of(path) == Some(digest) => Ok(Ok(())),
        Ok(_) => Ok(Err("is not what its name says")),
        Err(Failed::Short) => Ok(Err("is too short")),
        Err(Failed::Cancelled) => Err(Error::Cancelled),
        Err(Failed::Read(errno) | Failed::Write(errno)) => Err(cannot(errno.into())),
    }
}

//! Small files of the store: a value, then its hash, so that a torn or changed one is noticed.

use std::io::Write;
use std::path::Path;

use fs_err as fs;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::digest::Digest;

/// Says why a file is not what was written: the end of a sentence.
pub(crate) type Broken = &'static str;

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Into memory, of plain types: encoding cannot fail.
    let mut bytes = postcard::to_stdvec(value).unwrap_or_default();
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(&digest.0);
    bytes
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Broken> {
    match bytes.split_last_chunk() {
        Some((value, digest)) if Digest::of(value) == Digest(*digest) => {
            postcard::from_bytes(value).map_err(|_| "holds what this Loom cannot read")
        }
        Some(_) => Err("does not match its checksum"),
        None => Err("is too short"),
    }
}

/// Whether a file is on the disk when it has been written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    Yes,
    No,
}

/// Writes a new file; an error leaves none.
pub(crate) fn write_new(path: &Path, bytes: &[u8], sync: Sync) -> Result<(), Error> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(bytes)?;
        if sync == Sync::Yes { file.sync_all() } else { Ok(()) }
    };
    write().map_err(|error| {
        let _ = fs::remove_file(path);
        Error::write_io(path, error)
    })
}

/// Puts a file in its place whole: readers see the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8], sync: Sync) -> Result<(), Error> {
    let beside = path.with_added_extension(format!("{}.tmp", crate::layout::random_name()));
    write_new(&beside, bytes, sync)?;
    fs::rename(&beside, path).map_err(|error| {
        let _ = fs::remove_file(&beside);
        Error::write_io(path, error)
    })?;
    if sync == Sync::Yes { sync_folder(path.parent().unwrap_or(path)) } else { Ok(()) }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Error> {
    let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| Error::write_io(folder, error))
}

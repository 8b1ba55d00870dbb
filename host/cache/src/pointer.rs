//! Pointers: what was saved under a key, by whom and when. An entry exists when its pointer does.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::clock::{from_millis, millis};
use crate::damage::{Damage, set_aside};
use crate::digest::Digest;
use crate::layout::{self, Layout};
use crate::{Error, Warning, io, sealed};

/// The origin of an entry: who saved it, and what its key was made of. The store keeps it and does not look
/// at it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The run.
    pub run: String,
    /// The job.
    pub job: String,
    /// The files that the key was computed from: path and hash.
    pub inputs: Vec<(String, String)>,
    /// The key as it was written down before it was filled in.
    pub recipe: String,
}

/// The facts about an entry that are known without looking at its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The cache's name.
    pub name: String,
    /// The entry's key.
    pub key: String,
    /// The number of files and symlinks in it.
    pub files: u64,
    /// Their size in bytes, as they were in the tree.
    pub bytes: u64,
    /// The time at which it was saved.
    pub saved: SystemTime,
    /// The time at which it was last restored, or saved if it never was.
    pub used: SystemTime,
    /// The hash of its tree: equal in entries whose trees are equal and share their content in the store.
    pub tree: String,
    /// The origin.
    pub origin: Origin,
}

/// The file that makes an entry exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pointer {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) manifest: Digest,
    /// In milliseconds since 1970.
    saved: u64,
    files: u64,
    bytes: u64,
    origin: Origin,
}

impl Pointer {
    pub(crate) fn new(
        name: &str,
        key: &str,
        manifest: Digest,
        (files, bytes): (u64, u64),
        origin: &Origin,
    ) -> Self {
        Self {
            name: name.to_owned(),
            key: key.to_owned(),
            manifest,
            saved: millis(SystemTime::now()),
            files,
            bytes,
            origin: origin.clone(),
        }
    }

    pub(crate) fn saved(&self) -> SystemTime {
        from_millis(self.saved)
    }

    pub(crate) fn into_info(self, used: SystemTime) -> Info {
        Info {
            saved: self.saved(),
            name: self.name,
            key: self.key,
            files: self.files,
            bytes: self.bytes,
            used,
            tree: self.manifest.to_string(),
            origin: self.origin,
        }
    }
}

/// Reads the pointer at `path`, and gives its bytes with it; nothing where there is none. A damaged one is
/// set aside.
pub(crate) fn read(
    layout: &Layout,
    path: &Path,
    warnings: &mut Vec<Warning>,
) -> Result<Option<(Pointer, Vec<u8>)>, Error> {
    let bytes = match io::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::read(path, error)),
    };
    let read = sealed::decode::<Pointer>(&bytes).and_then(|pointer| {
        let place = layout.entry(&pointer.name, &pointer.key);
        if place == path { Ok(pointer) } else { Err("belongs to another key") }
    });
    match read {
        Ok(pointer) => Ok(Some((pointer, bytes))),
        Err(why) => {
            let damage = Damage { what: path.to_owned(), why: why.to_owned() };
            warnings.extend(set_aside(layout, path, |now| now == bytes, None, damage));
            Ok(None)
        }
    }
}

/// The pointers of all caches.
pub(crate) fn all(layout: &Layout, warnings: &mut Vec<Warning>) -> Result<Vec<(PathBuf, Pointer)>, Error> {
    let entries = layout.entries();
    let mut pointers = Vec::new();
    for folder in io::files(&entries).map_err(|error| Error::read(entries, error))? {
        pointers.extend(all_in(layout, &folder, warnings)?);
    }
    Ok(pointers)
}

/// The pointers of one cache.
pub(crate) fn all_in(
    layout: &Layout,
    folder: &Path,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<(PathBuf, Pointer)>, Error> {
    let files = io::files(folder).map_err(|error| Error::read(folder, error))?;
    let mut pointers = Vec::new();
    // What is not named after a hash is a quarantine, or what a killed process left.
    for file in files.into_iter().filter(|file| layout::digest_of(file).is_some()) {
        if let Some((pointer, _)) = read(layout, &file, warnings)? {
            pointers.push((file, pointer));
        }
    }
    Ok(pointers)
}

/// Whether these bytes are a pointer to the manifest `digest`.
pub(crate) fn points_to(bytes: &[u8], digest: Digest) -> bool {
    sealed::decode::<Pointer>(bytes).is_ok_and(|pointer| pointer.manifest == digest)
}

/// The time at which an entry was last used: that of its pointer's modification.
pub(crate) fn used(pointer: &Path) -> std::io::Result<SystemTime> {
    fs::metadata(pointer)?.modified()
}

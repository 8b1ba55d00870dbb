//! How an entry comes to be: everything is written in a folder of the save's own, then moved to its place under the
//! store's lock, what an entry needs before the entry.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::Error;
use crate::digest::Digest;
use crate::entry::Pointer;
use crate::layout::{self, Layout, random_name};
use crate::manifest::{Needs, PackRef};
use crate::sealed::{self, Sync, sync_folder};
use crate::store::Store;

/// The folder of one save. It is locked as long as the save lives, so that a collection knows; dropping it removes it.
pub(crate) struct Staging {
    path: PathBuf,
    /// Holds the lock.
    _folder: fs::File,
}

impl Staging {
    pub(crate) fn new(layout: &Layout) -> Result<Self, Error> {
        let path = layout.tmp().join(random_name());
        let made = fs::create_dir(&path).and_then(|()| {
            let folder = fs::File::open(&path)?;
            folder.lock()?;
            Ok(folder)
        });
        match made {
            Ok(folder) => Ok(Self { path, _folder: folder }),
            Err(error) => Err(Error::write_io(path, error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// What a save has made.
pub(crate) struct Made {
    pub(crate) packs: Vec<(PathBuf, PackRef)>,
    /// Staged under their hashes.
    pub(crate) objects: HashMap<Digest, u64>,
    /// Its bytes; none if the store had it.
    pub(crate) manifest: Option<Vec<u8>>,
    /// What the manifest needs, staged or not.
    pub(crate) needs: Needs,
}

/// How publishing ended.
pub(crate) enum Outcome {
    /// The entry is in its place, with so many new bytes on disk.
    Published(u64),
    /// Another save has published the same meanwhile.
    Unchanged,
    /// Something that the entry needs, and that the store had, was removed meanwhile.
    Emptied,
}

/// Puts the entry in its place, whole, or not at all. `lock` is the store's lock, if the caller has it.
pub(crate) fn publish(
    store: &Store,
    staging: &Staging,
    made: Made,
    pointer: &Pointer,
    lock: Option<fs::File>,
) -> Result<Outcome, Error> {
    let layout = store.layout();
    let pointer_bytes = sealed::encode(pointer);
    let staged_pointer = staging.file("pointer");
    let staged_manifest = staging.file("manifest");
    let manifest_place = layout.manifest(pointer.manifest);
    let is_new = |manifest: &Vec<u8>| {
        fs::metadata(&manifest_place).map_or(true, |meta| meta.len() != manifest.len() as u64)
    };
    let manifest = made.manifest.filter(is_new);
    if let Some(manifest) = &manifest {
        sealed::write_new(&staged_manifest, manifest, Sync::Yes)?;
    }
    sealed::write_new(&staged_pointer, &pointer_bytes, Sync::Yes)?;
    let place = layout.entry(&pointer.name, &pointer.key);
    let folder = layout.entries_of(&pointer.name);
    fs::create_dir_all(&folder).map_err(|error| Error::write_io(&folder, error))?;

    let _lock = match lock {
        Some(lock) => lock,
        None => store.lock()?,
    };
    let there = layout::read(&place).ok().and_then(|bytes| sealed::decode::<Pointer>(&bytes).ok());
    if there.is_some_and(|there| there.manifest == pointer.manifest) {
        return Ok(Outcome::Unchanged);
    }
    let has = |path: PathBuf, len: u64| fs::metadata(path).is_ok_and(|meta| meta.len() == len);
    let packs_there = made.needs.packs.iter().all(|needed| {
        made.packs.iter().any(|(_, pack)| pack.id == needed.id) || has(layout.pack(needed.id), needed.len)
    });
    let objects_there = made.needs.objects.iter().all(|needed| {
        made.objects.contains_key(&needed.digest) || has(layout.object(needed.digest), needed.size)
    });
    if !packs_there || !objects_there || manifest.is_none() && !manifest_place.exists() {
        return Ok(Outcome::Emptied);
    }
    let mut stored = pointer_bytes.len() as u64;
    for (path, pack) in &made.packs {
        move_to(path, &layout.pack(pack.id))?;
        stored += pack.len;
    }
    if !made.packs.is_empty() {
        sync_folder(&layout.packs())?;
    }
    for (&digest, &size) in &made.objects {
        if !has(layout.object(digest), size) {
            move_to(&staging.file(&digest.to_string()), &layout.object(digest))?;
            stored += size;
        }
    }
    if !made.objects.is_empty() {
        sync_folder(&layout.objects())?;
    }
    if let Some(manifest) = &manifest {
        move_to(&staged_manifest, &manifest_place)?;
        sync_folder(&layout.manifests())?;
        stored += manifest.len() as u64;
    }
    move_to(&staged_pointer, &place)?;
    sync_folder(&folder)?;
    Ok(Outcome::Published(stored))
}

fn move_to(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|error| Error::write_io(to, error))
}

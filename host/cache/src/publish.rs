//! How an entry comes to be: everything is written in a folder of the save's own, then moved to its place
//! under the store's lock, what an entry needs before the entry.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::Error;
use crate::digest::Digest;
use crate::io::{self, Sync, sync_folder};
use crate::layout::Layout;
use crate::lock::lock_store;
use crate::manifest::Needs;
use crate::pack::PackRef;
use crate::pointer::Pointer;
use crate::sealed;
use crate::staging::Staging;

/// An entry that a save has staged.
pub(crate) struct StagedEntry {
    pub(crate) packs: Vec<(PathBuf, PackRef)>,
    /// Staged under their hashes.
    pub(crate) objects: HashMap<Digest, u64>,
    /// The bytes of the manifest; none if the store had it.
    pub(crate) manifest: Option<Vec<u8>>,
    /// The needs of the manifest, staged or not.
    pub(crate) needs: Needs,
}

/// The outcome of publishing.
pub(crate) enum PublishOutcome {
    /// The entry is in its place, with so many new bytes on disk.
    Published(u64),
    /// Another save has published the same meanwhile.
    Unchanged,
    /// Something that the entry needs, and that the store had, was removed meanwhile.
    Emptied,
}

/// Puts the entry in its place, whole, or not at all. `lock` is the store's lock, if the caller has it.
pub(crate) fn publish(
    layout: &Layout,
    staging: &Staging,
    staged: StagedEntry,
    pointer: &Pointer,
    lock: Option<fs::File>,
) -> Result<PublishOutcome, Error> {
    let pointer_bytes = sealed::encode(pointer);
    let staged_pointer = staging.file("pointer");
    let staged_manifest = staging.file("manifest");
    let manifest_place = layout.manifest(pointer.manifest);
    let is_new = |manifest: &Vec<u8>| {
        fs::metadata(&manifest_place).map_or(true, |meta| meta.len() != manifest.len() as u64)
    };
    let manifest = staged.manifest.filter(is_new);
    if let Some(manifest) = &manifest {
        io::write_new(&staged_manifest, manifest, Sync::Yes)?;
    }
    io::write_new(&staged_pointer, &pointer_bytes, Sync::Yes)?;
    let place = layout.entry(&pointer.name, &pointer.key);
    let folder = layout.entries_of(&pointer.name);
    io::create_folders(&folder)?;

    let _lock = match lock {
        Some(lock) => lock,
        None => lock_store(layout)?,
    };
    let there = io::read(&place).ok().and_then(|bytes| sealed::decode::<Pointer>(&bytes).ok());
    if there.is_some_and(|there| there.manifest == pointer.manifest) {
        return Ok(PublishOutcome::Unchanged);
    }
    let has = |path: PathBuf, len: u64| fs::metadata(path).is_ok_and(|meta| meta.len() == len);
    let packs_there = staged.needs.packs.iter().all(|needed| {
        staged.packs.iter().any(|(_, pack)| pack.id == needed.id) || has(layout.pack(needed.id), needed.len)
    });
    let objects_there = staged.needs.objects.iter().all(|needed| {
        staged.objects.contains_key(&needed.digest) || has(layout.object(needed.digest), needed.size)
    });
    if !packs_there || !objects_there || manifest.is_none() && !manifest_place.exists() {
        return Ok(PublishOutcome::Emptied);
    }
    let mut stored = pointer_bytes.len() as u64;
    for (path, pack) in &staged.packs {
        move_to(path, &layout.pack(pack.id))?;
        stored += pack.len;
    }
    if !staged.packs.is_empty() {
        sync_folder(&layout.packs())?;
    }
    for (&digest, &size) in &staged.objects {
        if !has(layout.object(digest), size) {
            move_to(&staging.file(&digest.to_string()), &layout.object(digest))?;
            stored += size;
        }
    }
    if !staged.objects.is_empty() {
        sync_folder(&layout.objects())?;
    }
    if let Some(manifest) = &manifest {
        move_to(&staged_manifest, &manifest_place)?;
        sync_folder(&layout.manifests())?;
        stored += manifest.len() as u64;
    }
    move_to(&staged_pointer, &place)?;
    sync_folder(&folder)?;
    Ok(PublishOutcome::Published(stored))
}

fn move_to(from: &Path, to: &Path) -> Result<(), Error> {
    io::rename(from, to).map_err(|error| Error::write(to, error))
}

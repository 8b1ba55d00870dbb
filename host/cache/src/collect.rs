//! What keeps a store small: entries that were not used for long are evicted, what no entry needs is deleted.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err as fs;

use crate::digest::Digest;
use crate::evictions::{self, Cause, Eviction};
use crate::layout::{self, Layout};
use crate::lease::leased;
use crate::lock::lock_store;
use crate::manifest::Needs;
use crate::pointer::{self, Pointer, used};
use crate::store::Store;
use crate::{Error, Warning, index, io, sealed};

/// The age at which is deleted what a killed save left; what is damaged is deleted when it is a week old.
const GRACE: Duration = Duration::from_secs(60 * 60);
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The result of a collection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// The entries that were evicted, in the order in which they were.
    pub evicted: Vec<Eviction>,
    /// The size of the store now, in bytes.
    pub bytes: u64,
    /// The number of bytes that it took more before.
    pub freed: u64,
    /// Damage that was met on the way.
    pub warnings: Vec<Warning>,
}

impl Store {
    /// Makes the store no larger than `max_bytes`, as far as that is possible without the entries in `keep`,
    /// by name and key, and those that are being restored: evicts the entry whose last use is longest ago,
    /// and again. Deletes what no entry needs.
    ///
    /// A save under way that relied on what is deleted starts anew by itself; the store's lock is held all
    /// the while, so that no entry is published meanwhile.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn gc(&self, max_bytes: u64, keep: &[(&str, &str)]) -> Result<GcReport, Error> {
        let layout = self.layout();
        if !layout.format().exists() {
            return Ok(GcReport::default());
        }
        let mut collected = GcReport::default();
        // Before the lock, which setting aside takes itself.
        pointer::all(layout, &mut collected.warnings)?;
        let _lock = lock_store(layout)?;
        let now = SystemTime::now();
        let mut inventory = Inventory::read(layout)?;
        let before = inventory.bytes;
        inventory.sweep(layout, now)?;
        let mut entries = std::mem::take(&mut inventory.entries);
        entries.sort_unstable_by(|one, other| (one.used, &one.path).cmp(&(other.used, &other.path)));
        for StoredPointer { path, pointer, used, .. } in entries {
            if inventory.bytes <= max_bytes {
                break;
            }
            let Pointer { name, key, manifest, .. } = pointer;
            if inventory.leased.contains(&manifest) || keep.contains(&(&*name, &*key)) {
                continue;
            }
            inventory.delete(&path)?;
            inventory.release(layout, manifest)?;
            let cause = Cause::Limit { max_bytes, used };
            collected.evicted.push(Eviction { name, key, when: now, cause });
        }
        inventory.sweep_indexes(layout)?;
        if inventory.bytes > max_bytes {
            for file in files(&layout.damaged())? {
                inventory.delete(&file)?;
            }
        }
        if !collected.evicted.is_empty() {
            evictions::log(layout, &collected.evicted);
        }
        (collected.bytes, collected.freed) = (inventory.bytes, before.saturating_sub(inventory.bytes));
        Ok(collected)
    }

    /// Removes all that the store holds, and then its folder. What is none of the store's stays, and is
    /// returned. Nobody may use the store any more.
    ///
    /// # Errors
    /// Something of it cannot be removed.
    pub fn remove(self) -> Result<Vec<PathBuf>, Error> {
        let layout = self.layout();
        let lock = lock_store(layout)?;
        for folder in layout.folders() {
            loom_tree::remove(&folder).map_err(|error| Error::write(folder, std::io::Error::other(error)))?;
        }
        let is_torn = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "tmp");
        let torn = files(layout.root())?.into_iter().filter(is_torn);
        for path in torn.chain([layout.evictions(), layout.format(), layout.lock()]) {
            match io::remove(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::write(path, error));
                }
                _ => {}
            }
        }
        drop(lock);
        let left = files(layout.root())?;
        if left.is_empty() {
            let root = layout.root().to_owned();
            fs::remove_dir(&root).map_err(|error| Error::write(root, error))?;
        }
        Ok(left)
    }
}

/// A pointer of the store.
struct StoredPointer {
    path: PathBuf,
    pointer: Pointer,
    used: SystemTime,
}

/// Everything that takes room, and who needs it.
struct Inventory {
    entries: Vec<StoredPointer>,
    leased: HashSet<Digest>,
    /// For each manifest: the number of entries and leases that need it, and its needs.
    manifests: HashMap<Digest, (usize, Needs)>,
    /// For each pack or object: the number of manifests that need it.
    contents: HashMap<PathBuf, usize>,
    /// The sizes of all files.
    sizes: HashMap<PathBuf, u64>,
    bytes: u64,
}

impl Inventory {
    fn read(layout: &Layout) -> Result<Self, Error> {
        let leased = leased(layout)?;
        let mut inventory = Self {
            entries: Vec::new(),
            leased,
            manifests: HashMap::new(),
            contents: HashMap::new(),
            sizes: HashMap::new(),
            bytes: 0,
        };
        for folder in files(&layout.entries())? {
            for path in files(&folder)? {
                inventory.measure(&path);
                if layout::digest_of(&path).is_none() {
                    continue;
                }
                let Some((bytes, used)) =
                    known(&path, io::read(&path).and_then(|it| Ok((it, used(&path)?))))?
                else {
                    continue;
                };
                if let Ok(pointer) = sealed::decode::<Pointer>(&bytes) {
                    inventory.entries.push(StoredPointer { path, pointer, used });
                }
            }
        }
        for folder in
            [layout.manifests(), layout.packs(), layout.objects(), layout.indexes(), layout.damaged()]
        {
            for path in files(&folder)? {
                inventory.measure(&path);
            }
        }
        let users: Vec<Digest> = inventory
            .entries
            .iter()
            .map(|entry| entry.pointer.manifest)
            .chain(inventory.leased.iter().copied())
            .collect();
        for manifest in users {
            if let Some((users, _)) = inventory.manifests.get_mut(&manifest) {
                *users += 1;
                continue;
            }
            // One that is damaged needs nothing: its entry is a miss.
            let path = layout.manifest(manifest);
            let needs = known(&path, Needs::of_file(&path))?.flatten().unwrap_or_default();
            for path in paths(layout, &needs) {
                *inventory.contents.entry(path).or_default() += 1;
            }
            inventory.manifests.insert(manifest, (1, needs));
        }
        Ok(inventory)
    }

    fn measure(&mut self, path: &Path) {
        if let Ok(meta) = fs::symlink_metadata(path) {
            self.bytes += meta.len();
            self.sizes.insert(path.to_owned(), meta.len());
        }
    }

    /// Deletes what nothing needs and what is old.
    fn sweep(&mut self, layout: &Layout, now: SystemTime) -> Result<(), Error> {
        for path in files(&layout.manifests())? {
            if layout::digest_of(&path).is_none_or(|digest| !self.manifests.contains_key(&digest)) {
                self.delete(&path)?;
            }
        }
        for folder in [layout.packs(), layout.objects()] {
            for path in files(&folder)? {
                if !self.contents.contains_key(&path) {
                    self.delete(&path)?;
                }
            }
        }
        let is_old = |path: &Path, age| {
            let modified = fs::symlink_metadata(path).and_then(|meta| meta.modified());
            modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|passed| passed > age))
        };
        for path in files(&layout.damaged())? {
            if is_old(&path, WEEK) {
                self.delete(&path)?;
            }
        }
        // What a killed process had not moved to its place.
        let folders = files(&layout.entries())?.into_iter().chain([layout.root().to_owned()]);
        for folder in folders {
            for path in files(&folder)? {
                if path.extension().is_some_and(|extension| extension == "tmp") && is_old(&path, GRACE) {
                    self.delete(&path)?;
                }
            }
        }
        for path in files(&layout.tmp())? {
            let dead = || fs::File::open(&path).is_ok_and(|folder| folder.try_lock().is_ok());
            if is_old(&path, GRACE) && dead() {
                fs::remove_dir_all(&path).map_err(|error| Error::write(path, error))?;
            }
        }
        Ok(())
    }

    /// An entry does not need its manifest any more.
    fn release(&mut self, layout: &Layout, manifest: Digest) -> Result<(), Error> {
        match self.manifests.get_mut(&manifest) {
            Some((users, _)) if *users > 1 => {
                *users -= 1;
                return Ok(());
            }
            _ => {}
        }
        let Some((_, needs)) = self.manifests.remove(&manifest) else { return Ok(()) };
        self.delete(&layout.manifest(manifest))?;
        for path in paths(layout, &needs) {
            match self.contents.get_mut(&path) {
                Some(users) if *users > 1 => *users -= 1,
                _ => {
                    self.contents.remove(&path);
                    self.delete(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Deletes the indexes that speak of a manifest that is gone.
    fn sweep_indexes(&mut self, layout: &Layout) -> Result<(), Error> {
        for path in files(&layout.indexes())? {
            if !index::manifest_of(&path).is_some_and(|digest| self.manifests.contains_key(&digest)) {
                self.delete(&path)?;
            }
        }
        Ok(())
    }

    fn delete(&mut self, path: &Path) -> Result<(), Error> {
        match io::remove(path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::write(path, error)),
        }
        self.bytes -= self.sizes.remove(path).unwrap_or(0);
        Ok(())
    }
}

fn paths(layout: &Layout, needs: &Needs) -> Vec<PathBuf> {
    let packs = needs.packs.iter().map(|pack| layout.pack(pack.id));
    packs.chain(needs.objects.iter().map(|object| layout.object(object.digest))).collect()
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    io::files(folder).map_err(|error| Error::read(folder, error))
}

/// The content that was read of the file at `path`; nothing where there is none, or none that could be the
/// store's. Of what the system does not give now nothing is known, and least of all that nobody needs it.
fn known<T>(path: &Path, read: std::io::Result<T>) -> Result<Option<T>, Error> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if io::is_no_file_of_ours(&error) => Ok(None),
        Err(error) => Err(Error::read(path, error)),
    }
}

//! The store of one repository: entries by cache name and key.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use fs_err as fs;
use loom_tree::Patterns;

use crate::collect::{Cause, Eviction};
use crate::digest::Digest;
use crate::entry::{Entry, Info, Pointer};
use crate::layout::{self, FORMAT, Layout};
use crate::manifest::{Invalid, Manifest, Needs, ObjectRef, PackRef};
use crate::pack::PackIndex;
use crate::sealed::{self, Sync};
use crate::{Error, Warning};

/// A store of cache entries in a folder. Any number of processes may use it at once.
#[derive(Debug, Clone)]
pub struct Store {
    layout: Layout,
}

/// What was found under a key.
#[derive(Debug, Default)]
pub struct Found {
    /// The entry; nothing if it is a miss.
    pub entry: Option<Entry>,
    /// Damage that was met on the way.
    pub warnings: Vec<Warning>,
}

/// What the store holds.
#[derive(Debug, Default)]
pub struct Listed {
    /// The entries, by name, then the newest first.
    pub entries: Vec<Info>,
    /// Damage that was met on the way.
    pub warnings: Vec<Warning>,
}

/// A store that was opened for a run.
#[derive(Debug, Default)]
pub struct Opened {
    /// The store; none where this Loom cannot use it.
    pub store: Option<Store>,
    /// What was the matter with it.
    pub trouble: Option<Error>,
}

/// A file of the store is not as it should be: which, and the end of a sentence about it.
pub(crate) struct Damage {
    pub(crate) what: PathBuf,
    pub(crate) why: String,
}

impl Store {
    /// The store in the folder `root`, which need not exist: the first save makes it.
    ///
    /// # Errors
    /// It was written by a later Loom, or its format cannot be read.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let root = std::path::absolute(root).map_err(|error| Error::read_io(root, error))?;
        let layout = Layout::new(root);
        match layout::read_text(&layout.format()) {
            Ok(text) => match text.trim().parse::<u32>() {
                Ok(FORMAT) => Ok(Self { layout }),
                Ok(found) if (1..FORMAT).contains(&found) => {
                    Err(Error::Older { root: layout.root().to_owned(), found, known: FORMAT })
                }
                Ok(found) if found > FORMAT => {
                    Err(Error::Newer { root: layout.root().to_owned(), found, known: FORMAT })
                }
                _ => Err(Error::Format { path: layout.format() }),
            },
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(Error::Format { path: layout.format() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { layout }),
            Err(error) => Err(Error::read_io(layout.format(), error)),
        }
    }

    /// The store in the folder `root`, for who goes on without one where it cannot be used. What says its format is put
    /// right where it is damaged: what lies there is checked whenever it is read. One of an older Loom is emptied.
    pub fn open_or_none(root: &Path) -> Opened {
        let trouble = match Self::open(root) {
            Ok(store) => return Opened { store: Some(store), trouble: None },
            Err(error) => error,
        };
        let write = |format: PathBuf| sealed::replace(&format, format!("{FORMAT}\n").as_bytes(), Sync::Yes);
        let repaired = match &trouble {
            Error::Format { path } => write(path.clone()),
            Error::Older { root, .. } => {
                let layout = Layout::new(root.clone());
                let emptied =
                    layout.folders().iter().try_for_each(|folder| match fs::remove_dir_all(folder) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            Err(Error::write_io(folder, error))
                        }
                        _ => Ok(()),
                    });
                emptied.and_then(|()| write(layout.format()))
            }
            _ => return Opened { store: None, trouble: Some(trouble) },
        };
        let store = repaired.and_then(|()| Self::open(root)).ok();
        Opened { store, trouble: Some(trouble) }
    }

    /// The entry of exactly this key. A damaged one is a miss and is set aside. A key in quarantine is found all the
    /// same, see [`is_quarantined`](Self::is_quarantined).
    ///
    /// # Errors
    /// The store is there but cannot be read.
    pub fn find(&self, name: &str, key: &str) -> Result<Found, Error> {
        let mut found = Found::default();
        found.entry = self.open_entry(&self.layout.entry(name, key), &mut found.warnings)?;
        Ok(found)
    }

    /// Of the entries whose keys begin with `prefix`, the one that was saved last. Damaged ones are set aside; keys in
    /// quarantine are passed over.
    ///
    /// # Errors
    /// The store is there but cannot be read.
    pub fn newest_with_prefix(&self, name: &str, prefix: &str) -> Result<Found, Error> {
        let mut found = Found::default();
        let mut candidates = self.pointers_in(&self.layout.entries_of(name), &mut found.warnings)?;
        candidates.retain(|(_, pointer)| pointer.key.starts_with(prefix));
        candidates.sort_unstable_by(|(_, one), (_, other)| {
            (other.saved(), &one.key).cmp(&(one.saved(), &other.key))
        });
        for (path, pointer) in candidates {
            if !matches!(self.is_quarantined(name, &pointer.key), Ok(None)) {
                continue;
            }
            found.entry = self.open_entry(&path, &mut found.warnings)?;
            if found.entry.is_some() {
                break;
            }
        }
        Ok(found)
    }

    /// All entries.
    ///
    /// # Errors
    /// The store is there but cannot be read.
    pub fn list(&self) -> Result<Listed, Error> {
        let mut listed = Listed::default();
        for (path, pointer) in self.pointers(&mut listed.warnings)? {
            // Gone since: not an entry any more.
            if let Ok(used) = used(&path) {
                listed.entries.push(pointer.into_info(used));
            }
        }
        listed.entries.sort_unstable_by(|one, other| (&one.name, other.saved).cmp(&(&other.name, one.saved)));
        Ok(listed)
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes the folders of the store, as far as they are missing.
    pub(crate) fn create(&self) -> Result<(), Error> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        let root = self.layout.root().to_owned();
        for folder in std::iter::once(root).chain(self.layout.folders()) {
            builder.create(&folder).map_err(|error| Error::write_io(folder, error))?;
        }
        if self.layout.format().exists() {
            return Ok(());
        }
        sealed::replace(&self.layout.format(), format!("{FORMAT}\n").as_bytes(), Sync::Yes)
    }

    /// Makes sure that what the patterns name below `tree`, a path without symlinks, is not the store, or a part of it.
    pub(crate) fn check_outside(&self, tree: &Path, patterns: &Patterns) -> Result<(), Error> {
        let Ok(below) = self.layout.real_root().strip_prefix(tree) else { return Ok(()) };
        // Any file of each folder, as `packs/**` names them and not the folder.
        let files =
            self.layout.folders().map(|folder| below.join(folder.file_name().unwrap_or_default()).join("0"));
        if files.iter().any(|file| patterns.cover(file.as_os_str().as_bytes())) {
            return Err(Error::StoreWithin { root: self.layout.root().to_owned() });
        }
        Ok(())
    }

    /// Waits for the store's lock, which is held until the file is dropped.
    pub(crate) fn lock(&self) -> Result<fs::File, Error> {
        let path = self.layout.lock();
        let locked =
            layout::options().write(true).create(true).truncate(false).open(&path).and_then(|file| {
                layout::regular(&file)?;
                file.lock()?;
                Ok(file)
            });
        locked.map_err(|error| Error::write_io(path, error))
    }

    /// The pointers of all caches.
    pub(crate) fn pointers(&self, warnings: &mut Vec<Warning>) -> Result<Vec<(PathBuf, Pointer)>, Error> {
        let entries = self.layout.entries();
        let mut pointers = Vec::new();
        for folder in layout::files(&entries).map_err(|error| Error::read_io(entries, error))? {
            pointers.extend(self.pointers_in(&folder, warnings)?);
        }
        Ok(pointers)
    }

    fn pointers_in(
        &self,
        folder: &Path,
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<(PathBuf, Pointer)>, Error> {
        let files = layout::files(folder).map_err(|error| Error::read_io(folder, error))?;
        let mut pointers = Vec::new();
        // What is not named after a hash is a quarantine, or what a killed process left.
        for file in files.into_iter().filter(|file| layout::digest_of(file).is_some()) {
            if let Some((pointer, _)) = self.read_pointer(&file, warnings)? {
                pointers.push((file, pointer));
            }
        }
        Ok(pointers)
    }

    /// Reads a pointer; a damaged one is set aside.
    fn read_pointer(
        &self,
        path: &Path,
        warnings: &mut Vec<Warning>,
    ) -> Result<Option<(Pointer, Vec<u8>)>, Error> {
        let bytes = match layout::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::read_io(path, error)),
        };
        let read = sealed::decode::<Pointer>(&bytes).and_then(|pointer| {
            let place = self.layout.entry(&pointer.name, &pointer.key);
            if place == path { Ok(pointer) } else { Err("belongs to another key") }
        });
        match read {
            Ok(pointer) => Ok(Some((pointer, bytes))),
            Err(why) => {
                let damage = Damage { what: path.to_owned(), why: why.to_owned() };
                warnings.extend(self.set_aside(path, |now| now == bytes, None, damage));
                Ok(None)
            }
        }
    }

    fn open_entry(&self, path: &Path, warnings: &mut Vec<Warning>) -> Result<Option<Entry>, Error> {
        let Some((pointer, bytes)) = self.read_pointer(path, warnings)? else { return Ok(None) };
        match read_manifest(&self.layout, pointer.manifest)? {
            Ok(manifest) => {
                let used = used(path).unwrap_or_else(|_| pointer.saved());
                Ok(Some(Entry {
                    store: self.clone(),
                    digest: pointer.manifest,
                    info: pointer.into_info(used),
                    manifest: Arc::new(manifest),
                }))
            }
            Err(damage) => {
                let whose = (&*pointer.name, &*pointer.key);
                warnings.extend(self.set_aside(path, |now| now == bytes, Some(whose), damage));
                Ok(None)
            }
        }
    }

    /// Moves a damaged pointer, and the damaged file that makes it so, out of the way, if the pointer is `still` the one
    /// that was read. A store that cannot be written keeps them; the entry is a miss all the same.
    pub(crate) fn set_aside(
        &self,
        pointer: &Path,
        still: impl Fn(&[u8]) -> bool,
        entry: Option<(&str, &str)>,
        damage: Damage,
    ) -> Option<Warning> {
        let Damage { what, why } = damage;
        if let Ok(_lock) = self.lock() {
            if !layout::read(pointer).is_ok_and(|now| still(&now)) {
                return None;
            }
            if what != pointer && what.exists() {
                self.note(self.layout.set_aside(&what));
            }
            self.note(self.layout.set_aside(pointer));
            if let Some((name, key)) = entry {
                let cause = Cause::Damaged { why: format!("`{}` {why}", what.display()) };
                let (name, key) = (name.to_owned(), key.to_owned());
                self.log(&[Eviction { name, key, when: SystemTime::now(), cause }]);
            }
        }
        tracing::debug!("cache: `{}` {why}", what.display());
        Some(Warning::Damaged {
            what,
            why,
            entry: entry.map(|(name, key)| (name.to_owned(), key.to_owned())),
        })
    }

    fn note(&self, done: io::Result<()>) {
        if let Err(error) = done {
            tracing::debug!("cache: not set aside: {error}");
        }
    }
}

/// Reads a manifest and makes sure that what it needs is there.
pub(crate) fn read_manifest(layout: &Layout, digest: Digest) -> Result<Result<Manifest, Damage>, Error> {
    let path = layout.manifest(digest);
    let damage = |why: String| Ok(Err(Damage { what: path.clone(), why }));
    let bytes = match layout::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return damage("is missing".to_owned()),
        Err(error) => return Err(Error::read_io(path, error)),
    };
    if Digest::of(&bytes) != digest {
        return damage("is not what its name says".to_owned());
    }
    let Ok(Needs { packs, objects }) = Needs::decode(&bytes) else {
        return damage(Invalid::Unreadable.to_string());
    };
    if let Some(damage) = missing(layout, &packs, &objects)? {
        return Ok(Err(damage));
    }
    let mut system = None;
    let mut read = |pack: &PackRef| {
        let path = layout.pack(pack.id);
        match PackIndex::read(&path) {
            Ok(read) => read.map_err(|why| Invalid::Pack(path, why)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Invalid::Pack(path, "is missing")),
            Err(error) => {
                system = Some(Error::read_io(path, error));
                Err(Invalid::Unreadable)
            }
        }
    };
    match (Manifest::decode(&bytes, &mut read), system) {
        (Ok(manifest), _) => Ok(Ok(manifest)),
        (Err(_), Some(error)) => Err(error),
        (Err(Invalid::Pack(what, why)), None) => Ok(Err(Damage { what, why: why.to_owned() })),
        (Err(invalid), None) => damage(invalid.to_string()),
    }
}

/// The first of what a manifest needs that is missing, or has not the length that it should.
///
/// # Errors
/// It cannot be told: what may not be looked at is not missing.
fn missing(layout: &Layout, packs: &[PackRef], objects: &[ObjectRef]) -> Result<Option<Damage>, Error> {
    let packs = packs.iter().map(|pack| (layout.pack(pack.id), pack.len));
    let objects = objects.iter().map(|object| (layout.object(object.digest), object.size));
    for (what, len) in packs.chain(objects) {
        let why = match fs::metadata(&what) {
            Ok(meta) if meta.len() == len => continue,
            Ok(meta) => format!("has {} bytes instead of {len}", meta.len()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                "is missing".to_owned()
            }
            Err(error) => return Err(Error::read_io(what, error)),
        };
        return Ok(Some(Damage { what, why }));
    }
    Ok(None)
}

/// A pointer's time of modification is when it was last used.
pub(crate) fn used(pointer: &Path) -> io::Result<SystemTime> {
    fs::metadata(pointer)?.modified()
}

impl Needs {
    /// Reads what the manifest at `path` needs, and no more of it.
    pub(crate) fn of_file(path: &Path) -> io::Result<Option<Self>> {
        use std::os::unix::fs::FileExt;
        let file = layout::open(path)?.into_parts().0;
        let length = file.metadata()?.len();
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(16 << 10)];
        file.read_exact_at(&mut bytes, 0)?;
        match Self::decode(&bytes) {
            Ok(needs) => Ok(Some(needs)),
            Err(more) if more > bytes.len() && more as u64 <= length => {
                bytes.resize(more, 0);
                file.read_exact_at(&mut bytes, 0)?;
                Ok(Self::decode(&bytes).ok())
            }
            Err(_) => Ok(None),
        }
    }
}

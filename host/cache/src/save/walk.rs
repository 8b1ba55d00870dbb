//! The walk of a save: folders in parallel, what is new in them read and packed at once.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use loom_tree::dir::{self, to_path};
use loom_tree::{
    Closed, FileError, FirstError, LeftOut, Patterns, Visit, WalkEntry, WalkFolder, Wanted, WarningList,
};
use parking_lot::Mutex;
use rayon::Scope;
use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Stat, readlinkat, statat};
use rustix::io::Errno;

use super::Save;
use crate::clock::{FsClock, Time};
use crate::digest::Digest;
use crate::index::{Index, Seen};
use crate::io::ReadError;
use crate::layout::{BIG, Layout};
use crate::manifest::{Content, Meta};
use crate::object::{ObjectRef, Objects};
use crate::pack::{KnownPacks, Packed, Packer, Spot};
use crate::read::{self, Quiescence, Skipped};
use crate::staging::Staging;
use crate::{Error, GIT, Warning};

/// The result of a walk: what was found and read.
pub(super) struct Walked {
    /// The folders that could be read: the root first, and each after the one that it is in.
    pub(super) folders: Vec<SeenFolder>,
    /// The places of folders whose items are those of the same folder before, and no others.
    pub(super) same: Vec<u32>,
    /// Other items with the place of their folder, in no order.
    pub(super) parts: Vec<(u32, Vec<SeenItem>)>,
    pub(super) packed: Packed,
    pub(super) objects: HashMap<Digest, u64>,
    pub(super) known: KnownPacks,
    pub(super) warnings: WarningList<Warning>,
}

pub(super) struct SeenFolder {
    /// The place of the one that it is in; that of the root is its own.
    pub(super) parent: u32,
    pub(super) name: Arc<[u8]>,
    /// The number of the same folder in the tree that was there before.
    pub(super) base: Option<usize>,
    /// The state; none for a folder that is only on the way.
    pub(super) meta: Option<Meta>,
}

pub(super) enum SeenItem {
    /// The item of this number in the tree that was there before.
    Base(usize),
    New(Box<NewItem>),
}

pub(super) struct NewItem {
    pub(super) name: Box<[u8]>,
    pub(super) meta: Meta,
    pub(super) content: NewContent,
    pub(super) seen: Option<Seen>,
}

pub(super) enum NewContent {
    Empty,
    Packed { at: BlockRef, offset: u32, size: u32, digest: Digest },
    Object(ObjectRef),
    Link(Box<[u8]>),
}

/// A block, by whoever knows of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum BlockRef {
    /// A block of the tree that was there before.
    Base(u32),
    /// A block of one of the known packs.
    Known(u32, u32),
    /// A block that this save writes.
    New(u32),
}

/// Walks what the patterns name below `root`. Content that is in the packs to `avoid` is read and stored
/// anew.
pub(super) fn walk(
    layout: &Layout,
    save: &Save<'_>,
    patterns: &Patterns,
    base: &Index,
    avoid: &HashSet<Digest>,
    root: BorrowedFd<'_>,
    staging: &Staging,
) -> Result<Walked, Error> {
    let walk = SaveWalk {
        layout,
        save,
        base,
        avoid,
        quiescence: Quiescence::new(FsClock::of(root)),
        objects: Objects::new(layout, staging, save.cancel),
        known: OnceLock::new(),
        folders: Mutex::default(),
        same: Mutex::default(),
        parts: Mutex::default(),
        pending: Mutex::default(),
        warnings: Mutex::default(),
        failure: FirstError::new(save.cancel),
    };
    let wanted = Wanted { patterns, exclude: &Patterns::new(&[GIT])? };
    rayon::scope(|tasks| loom_tree::walk(root, wanted, &Visitor { walk: &walk, tasks }))
        .map_err(|errno| Error::read(save.tree, errno))?;
    let packed = walk.pack(root, staging)?;
    walk.failure.into_result(Error::Cancelled)?;
    Ok(Walked {
        folders: walk.folders.into_inner(),
        same: walk.same.into_inner(),
        parts: walk.parts.into_inner(),
        packed,
        objects: walk.objects.staged(),
        known: walk.known.into_inner().unwrap_or_default(),
        warnings: walk.warnings.into_inner(),
    })
}

struct SaveWalk<'a> {
    layout: &'a Layout,
    save: &'a Save<'a>,
    base: &'a Index,
    avoid: &'a HashSet<Digest>,
    quiescence: Quiescence,
    objects: Objects<'a>,
    /// Loaded for the first file that is new to the tree.
    known: OnceLock<KnownPacks>,
    folders: Mutex<Vec<SeenFolder>>,
    same: Mutex<Vec<u32>>,
    parts: Mutex<Vec<(u32, Vec<SeenItem>)>>,
    /// Small files that have to be read.
    pending: Mutex<Vec<Pending>>,
    warnings: Mutex<WarningList<Warning>>,
    failure: FirstError<'a, Error>,
}

/// A small file that has to be read.
struct Pending {
    /// The place of its folder, and the path of that.
    folder: u32,
    path: Arc<[u8]>,
    name: Box<[u8]>,
    base: Option<usize>,
    /// The size of the file when it was found.
    size: u64,
}

/// A small file that was read.
struct ReadFile {
    meta: Meta,
    seen: Option<Seen>,
    content: ReadContent,
}

enum ReadContent {
    /// The store has it.
    There(NewContent),
    /// Content that may be new.
    Bytes(Vec<u8>, Digest),
}

/// Files that are read at once, and the sum of their sizes: what a save holds in memory, beside blocks that
/// are full.
const WAVE: usize = 2048;
const WAVE_BYTES: u64 = 16 << 20;
/// Files that one task reads.
const READS: usize = 32;

/// The result of a look at a file.
enum Looked {
    /// Unchanged: the item of this number in the tree that was there before.
    Same(usize),
    /// A file that has to be read.
    Small(u64),
    Big,
}

/// A note of a folder for what is in it.
#[derive(Clone, Copy)]
struct WalkNote {
    /// Among the folders that were seen.
    at: u32,
    /// The number of the same folder in the tree that was there before.
    base: Option<usize>,
}

struct Visitor<'v, 's> {
    walk: &'s SaveWalk<'s>,
    /// Large files are read by tasks of their own, which may take longer than the walk.
    tasks: &'v Scope<'s>,
}

impl Visit for Visitor<'_, '_> {
    type Note = WalkNote;

    fn folder(&self, folder: &WalkFolder<'_>, parent: Option<&WalkNote>) -> WalkNote {
        let name = folder.name().clone();
        let base = match parent {
            Some(parent) => parent.base.and_then(|base| self.walk.base.manifest.child(base, &name)),
            None => Some(0),
        };
        // The root's own state is not ours.
        let meta = (parent.is_some() && folder.is_inside()).then(|| Meta::of(folder.stat(), 0o7777));
        let parent = parent.map_or(0, |parent| parent.at);
        let mut folders = self.walk.folders.lock();
        folders.push(SeenFolder { parent, name, base, meta });
        WalkNote { at: u32::try_from(folders.len() - 1).unwrap_or(u32::MAX), base }
    }

    fn entries(&self, folder: &WalkFolder<'_>, place: &WalkNote, entries: &[WalkEntry<'_>]) {
        let Self { walk, tasks } = *self;
        let mut items = Vec::with_capacity(entries.len());
        let mut pending = Vec::new();
        let tracked = walk.save.tracked;
        let has_tracked = !tracked.is_empty() && tracked.has_below(&folder.path());
        for &WalkEntry { name, kind } in entries {
            if walk.failure.is_set() {
                return;
            }
            if has_tracked && tracked.has(&dir::join(&folder.path(), name)) {
                continue;
            }
            let base = place.base.and_then(|folder| walk.base.manifest.item(folder, name));
            let found = match kind {
                FileType::RegularFile => match walk.look(folder.as_fd(), name, base) {
                    Ok(Looked::Same(item)) => Ok(SeenItem::Base(item)),
                    Ok(Looked::Small(size)) => {
                        pending.push((name, base, size));
                        continue;
                    }
                    Ok(Looked::Big) => {
                        let (at, open, path) =
                            (place.at, folder.open().clone(), dir::join(&folder.path(), name));
                        tasks.spawn(move |_| walk.big(at, open.as_fd(), &path));
                        continue;
                    }
                    Err(why) => Err(why),
                },
                FileType::Symlink => walk.link(folder.as_fd(), name, base),
                kind => Err(Skipped::LeftOut(LeftOut::special(kind))),
            };
            match found {
                Ok(item) => items.push(item),
                Err(why) => walk.skip(&dir::join(&folder.path(), name), why),
            }
        }
        if !pending.is_empty() {
            let path: Arc<[u8]> = folder.path().into();
            let all = pending.into_iter().map(|(name, base, size)| Pending {
                folder: place.at,
                path: path.clone(),
                name: name.into(),
                base,
                size,
            });
            walk.pending.lock().extend(all);
        }
        let before = place.base.map_or(0, |base| walk.base.manifest.items_of(base).len());
        if !items.is_empty()
            && items.len() == before
            && items.iter().all(|item| matches!(item, SeenItem::Base(_)))
        {
            walk.same.lock().push(place.at);
        } else if !items.is_empty() {
            walk.parts.lock().push((place.at, items));
        }
    }

    fn left_out(&self, path: &[u8], why: Closed) {
        let why = match why {
            Closed::Symlink => Ok(LeftOut::Behind),
            Closed::Errno(Errno::LOOP | Errno::NOTDIR) => Ok(LeftOut::Changing),
            Closed::Errno(errno) => LeftOut::of(&self.walk.save.tree.join(to_path(path)), errno),
        };
        self.walk.leave_out(path, why);
    }

    fn is_over(&self) -> bool {
        self.walk.failure.is_set()
    }
}

impl SaveWalk<'_> {
    /// Looks at a file, and not into it.
    fn look(&self, folder: BorrowedFd<'_>, name: &[u8], base: Option<usize>) -> Result<Looked, Skipped> {
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if let Some(item) = base.filter(|&item| !self.avoids(item))
            && self.base.vouches(item, &stat)
        {
            return Ok(Looked::Same(item));
        }
        match u64::try_from(stat.st_size) {
            Ok(size) if size < BIG => Ok(Looked::Small(size)),
            _ => Ok(Looked::Big),
        }
    }

    /// Reads the small files that have to be, and packs those whose content is new, in the order of their
    /// paths.
    fn pack(&self, root: BorrowedFd<'_>, staging: &Staging) -> Result<Packed, Error> {
        let mut pending = std::mem::take(&mut *self.pending.lock());
        pending.par_sort_unstable_by(|one, other| (&one.path, &one.name).cmp(&(&other.path, &other.name)));
        let mut packer = Packer::new(staging);
        let mut rest = &pending[..];
        while !rest.is_empty() && !self.failure.is_set() {
            let mut bytes = 0;
            let fits = |file: &&Pending| {
                bytes += file.size;
                bytes <= WAVE_BYTES
            };
            let (wave, later) = rest.split_at(rest.iter().take(WAVE).take_while(fits).count().max(1));
            rest = later;
            let read: Vec<_> = wave.par_chunks(READS).flat_map_iter(|files| self.read(root, files)).collect();
            let mut items: Vec<(u32, Vec<SeenItem>)> = Vec::new();
            for (file, read) in wave.iter().zip(read) {
                let Some(ReadFile { meta, seen, content }) = read else { continue };
                let content = match content {
                    ReadContent::There(content) => content,
                    ReadContent::Bytes(bytes, digest) => {
                        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                        let Spot { block, offset } = packer.keep(bytes, digest)?;
                        NewContent::Packed { at: BlockRef::New(block), offset, size, digest }
                    }
                };
                let item = SeenItem::New(Box::new(NewItem { name: file.name.clone(), meta, content, seen }));
                match items.last_mut() {
                    Some((folder, items)) if *folder == file.folder => items.push(item),
                    _ => items.push((file.folder, vec![item])),
                }
            }
            self.parts.lock().append(&mut items);
        }
        packer.finish()
    }

    /// Reads some files; nothing of those that are not to be taken, or turned out to be big.
    fn read(&self, root: BorrowedFd<'_>, files: &[Pending]) -> Vec<Option<ReadFile>> {
        let mut folder: Option<(u32, Result<OwnedFd, Errno>)> = None;
        let read = |file: &Pending| {
            if self.failure.is_set() {
                return None;
            }
            if folder.as_ref().is_none_or(|(at, _)| *at != file.folder) {
                folder = Some((file.folder, dir::open_beneath(root, &file.path)));
            }
            let done = match &folder {
                Some((_, Ok(folder))) => match self.file(folder.as_fd(), &file.name, file.base) {
                    // It has grown since.
                    Err(Skipped::Large) => {
                        let path = dir::join(&file.path, &file.name);
                        self.big(file.folder, folder.as_fd(), &path);
                        return None;
                    }
                    done => done,
                },
                Some((_, Err(Errno::LOOP | Errno::NOTDIR))) => Err(Skipped::LeftOut(LeftOut::Changing)),
                Some((_, Err(errno))) => Err((*errno).into()),
                None => return None,
            };
            done.map_err(|why| self.skip(&dir::join(&file.path, &file.name), why)).ok()
        };
        files.iter().map(read).collect()
    }

    fn file(&self, folder: BorrowedFd<'_>, name: &[u8], base: Option<usize>) -> Result<ReadFile, Skipped> {
        let stable = read::read_stable(folder, name, BIG - 1, &self.quiescence, |file, stat| {
            // One that has grown since its size was looked at is being written.
            let size = usize::try_from(stat.st_size).ok().filter(|&size| (size as u64) < BIG);
            let Some(size) = size else { return Ok(None) };
            let mut bytes = Vec::new();
            let whole = read::append(file, size, &mut bytes).map_err(ReadError::File)?;
            Ok(whole.then_some(bytes))
        })?;
        let (meta, seen) = (Meta::of(&stable.stat, 0o1777), stable.seen);
        Ok(ReadFile { meta, seen, content: self.place(stable.value, base) })
    }

    /// The place at which the store has a content, if it has.
    fn place(&self, bytes: Vec<u8>, base: Option<usize>) -> ReadContent {
        let Some(size) = u32::try_from(bytes.len()).ok().filter(|&size| size > 0) else {
            return ReadContent::There(NewContent::Empty);
        };
        let digest = Digest::of(&bytes);
        let before = base.and_then(|item| match self.base.manifest.items[item].content {
            Content::Packed { block, offset, digest: known, .. } if known == digest && !self.avoids(item) => {
                Some((BlockRef::Base(block), offset))
            }
            _ => None,
        });
        let known = before.or_else(|| {
            let known = self.known.get_or_init(|| KnownPacks::load(self.layout, self.avoid));
            known.find(digest).map(|(pack, record)| (BlockRef::Known(pack, record.block), record.offset))
        });
        match known {
            Some((at, offset)) => ReadContent::There(NewContent::Packed { at, offset, size, digest }),
            None => ReadContent::Bytes(bytes, digest),
        }
    }

    /// The item is in a pack that it should not stay in.
    fn avoids(&self, item: usize) -> bool {
        let manifest = &self.base.manifest;
        match manifest.items[item].content {
            Content::Packed { block, .. } if !self.avoid.is_empty() => {
                self.avoid.contains(&manifest.packs[manifest.blocks[block as usize].pack as usize].id)
            }
            _ => false,
        }
    }

    fn big(&self, folder: u32, open: BorrowedFd<'_>, path: &[u8]) {
        if self.failure.is_set() {
            return;
        }
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        let take = |file: BorrowedFd<'_>, stat: &Stat| self.objects.add(file, stat);
        match read::read_stable(open, name, u64::MAX, &self.quiescence, take) {
            Ok(stable) => {
                let item = NewItem {
                    name: name.into(),
                    meta: Meta::of(&stable.stat, 0o1777),
                    content: NewContent::Object(stable.value),
                    seen: stable.seen,
                };
                self.parts.lock().push((folder, vec![SeenItem::New(Box::new(item))]));
            }
            Err(why) => self.skip(path, why),
        }
    }

    fn skip(&self, path: &[u8], why: Skipped) {
        match why {
            Skipped::LeftOut(why) => self.leave_out(path, Ok(why)),
            Skipped::Unread(errno) => {
                self.leave_out(path, LeftOut::of(&self.save.tree.join(to_path(path)), errno));
            }
            Skipped::Failed(error) => self.failure.set(error),
            // Those are read in another way.
            Skipped::Large => {}
        }
    }

    fn link(&self, folder: BorrowedFd<'_>, name: &[u8], base: Option<usize>) -> Result<SeenItem, Skipped> {
        let read = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
            .and_then(|stat| Ok((stat, readlinkat(folder, name, Vec::new())?)));
        let (stat, target) = match read {
            Ok((stat, target)) => (stat, target.into_bytes()),
            Err(Errno::INVAL) => return Err(Skipped::LeftOut(LeftOut::Changing)),
            Err(errno) => return Err(errno.into()),
        };
        let meta = Meta { mode: 0o777, time: Time::modified(&stat) };
        let manifest = &self.base.manifest;
        if let Some(item) = base
            && manifest.items[item].meta == meta
            && matches!(manifest.items[item].content, Content::Link { .. })
            && manifest.target(item) == target
        {
            return Ok(SeenItem::Base(item));
        }
        let content = NewContent::Link(target.into());
        let new = NewItem { name: name.into(), meta, content, seen: None };
        Ok(SeenItem::New(Box::new(new)))
    }

    fn leave_out(&self, path: &[u8], why: Result<LeftOut, FileError>) {
        match why {
            Ok(why) => {
                self.warnings.lock().push(Warning::LeftOut { path: self.save.tree.join(to_path(path)), why })
            }
            Err(error) => self.failure.set(error.into()),
        }
    }
}

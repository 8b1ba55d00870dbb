//! The walk of a save: folders in parallel, what is new in them read and packed at once.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, OnceLock};

use rayon::Scope;
use rustix::fs::{AtFlags, FileType, Stat, fstat, readlinkat, statat};
use rustix::io::Errno;

use super::Save;
use crate::clock::{FsClock, Time};
use crate::descent::{Child, Descent, Open};
use crate::digest::Digest;
use crate::dir::{self, Listing};
use crate::entry::to_path;
use crate::error::{FirstError, Warnings};
use crate::index::{Index, Seen};
use crate::layout::Layout;
use crate::manifest::{Content, Meta, ObjectRef};
use crate::object::Objects;
use crate::pack::{BIG, Filling, Known, Packed, Packer};
use crate::pattern::Patterns;
use crate::publish::Staging;
use crate::read::{self, NotTaken, Rest, Trouble};
use crate::shared::Shared;
use crate::{Error, LeftOut, Warning, safe};

/// Files of one folder that one task looks at: enough to pay for the task, few enough to share a big folder out.
const CHUNK: usize = 512;

/// What was found and read.
pub(super) struct Walked {
    /// By number, the root first: the folder that each is in, and its name there.
    pub(super) ways: Vec<(u32, Arc<[u8]>)>,
    /// The folders that could be read, in no order.
    pub(super) folders: Vec<SeenFolder>,
    /// The numbers of folders whose items are those of the same folder before, and no others.
    pub(super) same: Vec<u32>,
    /// Other items with the number of their folder, in no order.
    pub(super) parts: Vec<(u32, Vec<SeenItem>)>,
    pub(super) packed: Packed,
    pub(super) objects: HashMap<Digest, u64>,
    pub(super) known: Known,
    pub(super) warnings: Warnings,
}

pub(super) struct SeenFolder {
    pub(super) id: u32,
    /// The same in the tree that was there before.
    pub(super) base: Option<usize>,
    /// None for a folder that is only on the way.
    pub(super) meta: Option<Meta>,
}

pub(super) enum SeenItem {
    /// As the item of this number in the tree that was there before.
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
    Packed { at: At, offset: u32, size: u32, digest: Digest },
    Object(ObjectRef),
    Link(Box<[u8]>),
}

/// A block, by whoever knows of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum At {
    /// A block of the tree that was there before.
    Base(u32),
    /// A block of one of the known packs.
    Known(u32, u32),
    /// A block that this save writes.
    New(u32),
}

/// Walks what the patterns name below `root`. Content that is in the packs to `avoid` is read and stored anew.
pub(super) fn walk(
    layout: &Layout,
    save: &Save<'_>,
    patterns: &Patterns,
    base: &Index,
    avoid: &HashSet<Digest>,
    root: BorrowedFd<'_>,
    staging: &Staging,
) -> Result<Walked, Error> {
    let walk = Walk {
        layout,
        save,
        patterns,
        base,
        avoid,
        rest: Rest::new(FsClock::of(root)),
        descent: Descent::new(root),
        packer: Packer::new(staging),
        objects: Objects::new(layout, staging, save.cancel),
        known: OnceLock::new(),
        folders: Shared::default(),
        same: Shared::default(),
        parts: Shared::default(),
        warnings: Shared::default(),
        failure: FirstError::new(save.cancel),
    };
    let top = walk.descent.root().map_err(|errno| Error::read(save.tree, errno))?;
    let inside = patterns.matches(b"");
    rayon::scope(|scope| walk.entries(scope, &top, Place { base: Some(0), inside, depth: 0 }));
    walk.failure.into_result()?;
    Ok(Walked {
        ways: walk.descent.into_ways(),
        folders: walk.folders.into_inner(),
        same: walk.same.into_inner(),
        parts: walk.parts.into_inner(),
        packed: walk.packer.finish()?,
        objects: walk.objects.taken(),
        known: walk.known.into_inner().unwrap_or_default(),
        warnings: walk.warnings.into_inner(),
    })
}

struct Walk<'a> {
    layout: &'a Layout,
    save: &'a Save<'a>,
    patterns: &'a Patterns,
    base: &'a Index,
    avoid: &'a HashSet<Digest>,
    rest: Rest,
    descent: Descent<'a>,
    packer: Packer<'a>,
    objects: Objects<'a>,
    /// Loaded for the first file that is new to the tree.
    known: OnceLock<Known>,
    folders: Shared<Vec<SeenFolder>>,
    same: Shared<Vec<u32>>,
    parts: Shared<Vec<(u32, Vec<SeenItem>)>>,
    warnings: Shared<Warnings>,
    failure: FirstError<'a>,
}

/// What is known of a folder from the one that it is in.
#[derive(Clone, Copy)]
struct Place {
    base: Option<usize>,
    /// A pattern names it, or one above it.
    inside: bool,
    depth: usize,
}

impl<'a> Walk<'a> {
    fn folder<'s>(&'s self, scope: &Scope<'s>, child: Child, place: Place) {
        if self.failure.is_set() {
            return;
        }
        let id = child.id;
        let left_out = |errno| {
            let why = match errno {
                Errno::LOOP | Errno::NOTDIR => Ok(LeftOut::Changing),
                errno => read::left_out(errno),
            };
            self.leave_out(&self.descent.path(id), why);
        };
        match self.descent.open(child).and_then(|open| Ok((fstat(&open)?, open))) {
            Ok((stat, open)) => {
                let meta = place.inside.then(|| Meta::of(&stat, 0o7777));
                if self.entries(scope, &open, place) {
                    self.folders.lock().push(SeenFolder { id, base: place.base, meta });
                }
            }
            Err(errno) => left_out(errno),
        }
    }

    /// Looks at what is in a folder; false if that cannot be known.
    fn entries<'s>(&'s self, scope: &Scope<'s>, open: &Arc<Open>, place: Place) -> bool {
        let listing = match Listing::of(open.as_fd()) {
            Ok(listing) => Arc::new(listing),
            Err(errno) => {
                self.leave_out(&self.descent.path(open.id), read::left_out(errno));
                return false;
            }
        };
        if open.id == 0 {
            self.folders.lock().push(SeenFolder { id: 0, base: place.base, meta: None });
        }
        let path = if place.inside { Vec::new() } else { self.descent.path(open.id) };
        let mut files = Vec::new();
        for index in 0..listing.len() {
            let name = listing.name(index);
            let (mut inside, mut below) = (place.inside, place.inside);
            if !inside {
                let path = dir::join(&path, name);
                inside = self.patterns.matches(&path);
                below = inside || self.patterns.may_match_below(&path);
            }
            if listing.kind(index) == FileType::Directory {
                if below {
                    let base = place.base.and_then(|base| self.base.manifest.child(base, name));
                    let place = Place { base, inside, depth: place.depth + 1 };
                    let child = self.descent.child(open, name);
                    scope.spawn(move |scope| self.folder(scope, child, place));
                }
            } else if inside {
                files.push(index);
            } else if below && listing.kind(index) == FileType::Symlink {
                self.leave_out(&dir::join(&path, name), Ok(LeftOut::Behind));
            }
        }
        if files.len() <= CHUNK {
            self.files(scope, open, place, &listing, &files);
        } else {
            for files in files.chunks(CHUNK) {
                let (open, listing, files) = (open.clone(), listing.clone(), files.to_vec());
                scope.spawn(move |scope| self.files(scope, &open, place, &listing, &files));
            }
        }
        true
    }

    /// Takes the files of one folder that `which` gives the places of.
    fn files<'s>(
        &'s self,
        scope: &Scope<'s>,
        folder: &Arc<Open>,
        place: Place,
        listing: &Listing,
        which: &[usize],
    ) {
        let mut items = Vec::with_capacity(which.len());
        let mut filling = None;
        for &index in which {
            if self.failure.is_set() {
                return;
            }
            let (name, kind) = (listing.name(index), listing.kind(index));
            let base = place.base.and_then(|folder| self.base.manifest.item(folder, name));
            let taken = match kind {
                FileType::RegularFile => self.file(scope, folder, name, base, &mut filling),
                FileType::Symlink => self.link(folder, name, base, place.depth),
                kind => Ok(Err(LeftOut::Special(special(kind)))),
            };
            match taken {
                Ok(Ok(Some(item))) => items.push(item),
                Ok(Ok(None)) => {}
                Ok(Err(why)) => self.leave_out(&dir::join(&self.descent.path(folder.id), name), Ok(why)),
                Err(error) => self.failure.set(error),
            }
        }
        if let Some(filling) = filling {
            self.packer.put_back(filling);
        }
        let before = place.base.map_or(0, |base| self.base.manifest.items_of(base).len());
        if !items.is_empty()
            && items.len() == before
            && items.iter().all(|item| matches!(item, SeenItem::Base(_)))
        {
            self.same.lock().push(folder.id);
        } else if !items.is_empty() {
            self.parts.lock().push((folder.id, items));
        }
    }

    /// Takes a file; nothing if another task will.
    fn file<'s>(
        &'s self,
        scope: &Scope<'s>,
        folder: &Arc<Open>,
        name: &[u8],
        base: Option<usize>,
        filling: &mut Option<Filling>,
    ) -> Result<Result<Option<SeenItem>, LeftOut>, Error> {
        if let Some(item) = base
            && !self.avoids(item)
        {
            match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if self.base.vouches(item, &stat) => return Ok(Ok(Some(SeenItem::Base(item)))),
                Ok(_) => {}
                Err(errno) => return read::left_out(errno).map(Err),
            }
        }
        let filling = match filling {
            Some(filling) => filling,
            None => filling.insert(self.packer.take()?),
        };
        let start = filling.raw.len();
        let taken = read::take(folder.as_fd(), name, BIG - 1, &self.rest, |file, stat| {
            filling.raw.truncate(start);
            // One that has grown since its size was looked at is being written.
            let size = usize::try_from(stat.st_size).ok().filter(|&size| (size as u64) < BIG);
            let Some(size) = size else { return Ok(None) };
            let whole = read::append(file, size, &mut filling.raw).map_err(Trouble::File)?;
            Ok(whole.then_some(()))
        });
        let taken = match taken {
            Ok(taken) => taken,
            Err(not) => {
                filling.raw.truncate(start);
                return match not {
                    NotTaken::Large => {
                        let (folder, name) = (folder.clone(), Box::<[u8]>::from(name));
                        scope.spawn(move |_| self.big(&folder, &name));
                        Ok(Ok(None))
                    }
                    NotTaken::LeftOut(why) => Ok(Err(why)),
                    NotTaken::Failed(error) => Err(error),
                };
            }
        };
        let content = self.pack(filling, start, base)?;
        let meta = Meta::of(&taken.stat, 0o1777);
        let new = NewItem { name: name.into(), meta, content, seen: taken.seen };
        Ok(Ok(Some(SeenItem::New(Box::new(new)))))
    }

    /// Finds a place for the last bytes of the block that is being filled: they stay there only if they are new.
    fn pack(&self, filling: &mut Filling, start: usize, base: Option<usize>) -> Result<NewContent, Error> {
        let bytes = &filling.raw[start..];
        let Some(size) = u32::try_from(bytes.len()).ok().filter(|&size| size > 0) else {
            return Ok(NewContent::Empty);
        };
        let digest = Digest::of(bytes);
        let before = base.and_then(|item| match self.base.manifest.items[item].content {
            Content::Packed { block, offset, digest: known, .. } if known == digest && !self.avoids(item) => {
                Some((At::Base(block), offset))
            }
            _ => None,
        });
        let known = before.or_else(|| {
            let known = self.known.get_or_init(|| Known::load(self.layout, self.avoid));
            known.find(digest).map(|(pack, record)| (At::Known(pack, record.block), record.offset))
        });
        let (at, offset) = match known {
            Some(known) => {
                filling.raw.truncate(start);
                known
            }
            None => {
                let spot = self.packer.keep(filling, start, digest)?;
                (At::New(spot.block), spot.offset)
            }
        };
        Ok(NewContent::Packed { at, offset, size, digest })
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

    fn big(&self, folder: &Arc<Open>, name: &[u8]) {
        if self.failure.is_set() {
            return;
        }
        let take = |file: BorrowedFd<'_>, stat: &Stat| self.objects.take(file, stat);
        match read::take(folder.as_fd(), name, u64::MAX, &self.rest, take) {
            Ok(taken) => {
                let item = NewItem {
                    name: name.into(),
                    meta: Meta::of(&taken.stat, 0o1777),
                    content: NewContent::Object(taken.value),
                    seen: taken.seen,
                };
                self.parts.lock().push((folder.id, vec![SeenItem::New(Box::new(item))]));
            }
            Err(NotTaken::LeftOut(why)) => {
                self.leave_out(&dir::join(&self.descent.path(folder.id), name), Ok(why));
            }
            Err(NotTaken::Failed(error)) => self.failure.set(error),
            // Nothing is larger than that.
            Err(NotTaken::Large) => {}
        }
    }

    fn link(
        &self,
        folder: &Arc<Open>,
        name: &[u8],
        base: Option<usize>,
        depth: usize,
    ) -> Result<Result<Option<SeenItem>, LeftOut>, Error> {
        let read = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
            .and_then(|stat| Ok((stat, readlinkat(folder, name, Vec::new())?)));
        let (stat, target) = match read {
            Ok((stat, target)) => (stat, target.into_bytes()),
            Err(Errno::INVAL) => return Ok(Err(LeftOut::Changing)),
            Err(errno) => return read::left_out(errno).map(Err),
        };
        if let Err(why) = safe::check_target(&target, depth) {
            return Ok(Err(LeftOut::Link { target: to_path(&target), why }));
        }
        let meta = Meta { mode: 0o777, time: Time::modified(&stat) };
        let manifest = &self.base.manifest;
        if let Some(item) = base
            && manifest.items[item].meta == meta
            && matches!(manifest.items[item].content, Content::Link { .. })
            && manifest.target(item) == target
        {
            return Ok(Ok(Some(SeenItem::Base(item))));
        }
        let content = NewContent::Link(target.into());
        let new = NewItem { name: name.into(), meta, content, seen: None };
        Ok(Ok(Some(SeenItem::New(Box::new(new)))))
    }

    fn leave_out(&self, path: &[u8], why: Result<LeftOut, Error>) {
        match why {
            Ok(why) => {
                self.warnings.lock().push(Warning::LeftOut { path: self.save.tree.join(to_path(path)), why })
            }
            Err(error) => self.failure.set(error),
        }
    }
}

fn special(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "file of an unknown kind",
    }
}

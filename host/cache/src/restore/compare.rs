//! The first pass of a restore: what is there is compared with the entry, what does not belong is removed,
//! and missing folders are made. It ends with what is to be written.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use loom_tree::dir::{self, Listing, to_path};
use loom_tree::{Child, Descent, FirstError, Open, Patterns, WarningList};
use parking_lot::Mutex;
use rayon::Scope;
use rustix::fs::{
    AtFlags, FileType, Mode, Stat, fchmod, fstat, futimens, mkdirat, readlinkat, statat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::context::{RWX, RestoreContext};
use crate::clock::{FsClock, Time};
use crate::digest::Digest;
use crate::index::{Index, Seen};
use crate::io::ReadError;
use crate::layout::BIG;
use crate::manifest::{Content, Meta};
use crate::object;
use crate::read::{self, Quiescence, Skipped};
use crate::remove::remove_folder;
use crate::{Error, GIT, Warning};

/// Files of one folder that one task looks at.
const CHUNK: usize = 512;

/// The result of the first pass.
pub(super) struct Compared {
    /// The items that are to be written.
    pub(super) todo: Vec<(usize, WriteMode)>,
    /// The state in which items that are right were seen, where that is news.
    pub(super) seen: Vec<(usize, Option<Seen>)>,
    /// For each folder: its permissions or time are not, or will not be, the entry's.
    pub(super) dirty: Vec<bool>,
    /// The folders that were made.
    pub(super) made: Vec<usize>,
    /// WriteMode many files and symlinks were removed.
    pub(super) removed: u64,
    pub(super) warnings: WarningList<Warning>,
    /// The reason why it ended early.
    pub(super) failed: Option<Error>,
}

/// WriteMode a file comes to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WriteMode {
    /// A file where there is none.
    New,
    /// Something is there, which it replaces as a whole.
    Replace,
}

/// Compares what `patterns` name with the entry.
pub(super) fn compare(
    context: &RestoreContext<'_>,
    patterns: &Patterns,
    base: &Index,
) -> Result<Compared, Error> {
    let compare = Compare {
        context,
        patterns,
        base,
        is_base: base.digest == context.entry.digest,
        quiescence: Quiescence::new(FsClock::of(context.root)),
        descent: Descent::new(context.root),
        todo: Mutex::default(),
        seen: Mutex::default(),
        dirty: (0..context.manifest.folders.len()).map(|_| AtomicBool::new(false)).collect(),
        made: Mutex::default(),
        removed: AtomicU64::new(0),
        warnings: Mutex::default(),
        failure: FirstError::new(context.cancel),
    };
    let top = compare.descent.root().map_err(|errno| Error::read(context.tree, errno))?;
    let stat = fstat(&top).map_err(|errno| Error::read(context.tree, errno))?;
    let place = FolderPair { folder: Some(0), base: Some(0), inside: patterns.matches(b"") };
    rayon::scope(|scope| {
        if let Err(error) = compare.existing(scope, &top, &stat, place) {
            compare.failure.set(error);
        }
    });
    Ok(Compared {
        todo: compare.todo.into_inner(),
        seen: compare.seen.into_inner(),
        dirty: compare.dirty.into_iter().map(AtomicBool::into_inner).collect(),
        made: compare.made.into_inner(),
        removed: compare.removed.into_inner(),
        warnings: compare.warnings.into_inner(),
        failed: compare.failure.into_result(Error::Cancelled).err(),
    })
}

struct Compare<'a> {
    context: &'a RestoreContext<'a>,
    patterns: &'a Patterns,
    base: &'a Index,
    /// The tree was last seen as the entry wants it.
    is_base: bool,
    quiescence: Quiescence,
    descent: Descent<'a>,
    todo: Mutex<Vec<(usize, WriteMode)>>,
    seen: Mutex<Vec<(usize, Option<Seen>)>>,
    dirty: Vec<AtomicBool>,
    made: Mutex<Vec<usize>>,
    removed: AtomicU64,
    warnings: Mutex<WarningList<Warning>>,
    failure: FirstError<'a, Error>,
}

#[derive(Clone, Copy)]
struct FolderPair {
    /// The folder of the entry that is there.
    folder: Option<usize>,
    /// The folder that was last seen there.
    base: Option<usize>,
    /// A pattern names it, or one above it.
    inside: bool,
}

/// WriteMode a file of the tree compares with the entry.
enum Comparison {
    /// Equal to what the entry wants, which was known.
    Right,
    /// Equal to what the entry wants, which is news; with what vouches for that later, if anything does.
    FoundRight(Option<Seen>),
    Wrong,
}

impl<'a> Compare<'a> {
    /// A folder that was there before.
    fn folder<'s>(&'s self, scope: &Scope<'s>, child: Child, place: FolderPair) {
        if self.failure.is_set() {
            return;
        }
        let id = child.id();
        // What a pattern names is ours to change.
        let opened = if place.inside { self.descent.force_open(child) } else { self.descent.open(child) };
        let done = match opened.and_then(|open| Ok((fstat(&open)?, open))) {
            Ok((stat, open)) => self.existing(scope, &open, &stat, place),
            // It went, or became something else: nobody's business unless the entry has something there.
            Err(Errno::NOENT) if place.folder.is_none() => Ok(()),
            // What it hides may be what the patterns name, but it is not the entry's and not ours.
            Err(Errno::ACCESS) if place.folder.is_none() && !place.inside => {
                let path = self.context.tree.join(to_path(&self.descent.path(id)));
                self.warnings.lock().push(Warning::NotSeen { path });
                Ok(())
            }
            Err(errno) => Err(self.cannot(&self.descent.path(id), errno)),
        };
        if let Err(error) = done {
            self.failure.set(error);
        }
    }

    fn existing<'s>(
        &'s self,
        scope: &Scope<'s>,
        open: &Arc<Open>,
        stat: &Stat,
        place: FolderPair,
    ) -> Result<(), Error> {
        let RestoreContext { manifest, plan, .. } = *self.context;
        let path = |name: &[u8]| dir::join(&self.descent.path(open.id()), name);
        let listing = self.fault("list", open, b"").and_then(|()| Listing::of(open.as_fd()));
        let listing = listing.map_err(|errno| self.cannot(&self.descent.path(open.id()), errno))?;
        let listing = Arc::new(listing);
        let (items, children) = match place.folder {
            Some(folder) => (manifest.items_of(folder), manifest.children_of(folder)),
            None => (0..0, 0..0),
        };
        let mut items_there = vec![false; items.len()];
        let mut children_there = vec![false; children.len()];
        let (mut compare, mut remove) = (Vec::new(), Vec::new());
        let tracked = self.context.tracked;
        let has_tracked = !tracked.is_empty() && tracked.has_below(&self.descent.path(open.id()));
        let here = if place.inside && !has_tracked { Vec::new() } else { self.descent.path(open.id()) };
        for (index, (name, kind)) in listing.iter().enumerate() {
            if open.id() == 0 && name == GIT.as_bytes() {
                continue;
            }
            let (mut inside, mut below) = (place.inside, place.inside);
            if !inside {
                let path = dir::join(&here, name);
                inside = self.patterns.matches(&path);
                below = inside || self.patterns.may_match_below(&path);
            }
            let wanted =
                place.folder.and_then(|folder| manifest.item(folder, name)).filter(|&item| plan.wants(item));
            let wanted_folder = place
                .folder
                .and_then(|folder| manifest.child(folder, name))
                .filter(|&child| plan.wants_folder(child));
            if kind == FileType::Directory {
                let leads = has_tracked && tracked.has_below(&dir::join(&here, name));
                if wanted_folder.is_none() && inside && !leads {
                    remove.push(index);
                } else if below {
                    if let Some(child) = wanted_folder {
                        children_there[child - children.start] = true;
                    }
                    let base = place.base.and_then(|base| self.base.manifest.child(base, name));
                    let place = FolderPair { folder: wanted_folder, base, inside };
                    let child = self.descent.child(open, name);
                    scope.spawn(move |scope| self.folder(scope, child, place));
                }
            } else if has_tracked && tracked.has(&dir::join(&here, name)) {
                // The repository's.
            } else if let Some(item) = wanted {
                items_there[item - items.start] = true;
                compare.push((index, item));
            } else if inside {
                remove.push(index);
            } else if wanted_folder.is_some() {
                let why = match kind {
                    FileType::Symlink => {
                        "a symlink is where a folder should be, and nothing is restored through it"
                    }
                    _ => "a file is where a folder should be",
                };
                return Err(Error::refused(self.context.tree.join(to_path(&path(name))), why));
            }
        }
        let missing: Vec<usize> =
            items.clone().filter(|&item| !items_there[item - items.start] && plan.wants(item)).collect();
        let missing_children: Vec<usize> = children
            .clone()
            .filter(|&child| !children_there[child - children.start] && plan.wants_folder(child))
            .collect();
        if !(remove.is_empty() && missing.is_empty() && missing_children.is_empty()) {
            self.open_up(open, stat, place)?;
        }
        for index in remove {
            self.remove(open, listing.name(index), listing.kind(index))
                .map_err(|errno| self.cannot(&path(listing.name(index)), errno))?;
        }
        if !missing.is_empty() {
            self.todo.lock().extend(missing.into_iter().map(|item| (item, WriteMode::New)));
        }
        for child in missing_children {
            self.make(scope, open, child)?;
        }
        if let Some(folder) = place.folder
            && let Some(meta) = manifest.folders[folder].meta
            && plan.is_inside(folder)
            && meta != Meta::of(stat, 0o7777)
        {
            self.dirty[folder].store(true, Ordering::Relaxed);
        }
        if compare.len() <= CHUNK {
            self.files(scope, open, stat, place, &listing, &compare);
        } else {
            for files in compare.chunks(CHUNK) {
                let (open, listing, files, stat) = (open.clone(), listing.clone(), files.to_vec(), *stat);
                scope.spawn(move |scope| self.files(scope, &open, &stat, place, &listing, &files));
            }
        }
        Ok(())
    }

    /// Makes sure that the entries of a folder can be changed, and notes that it is not as it was.
    fn open_up(&self, open: &Arc<Open>, stat: &Stat, place: FolderPair) -> Result<(), Error> {
        if place.inside && place.folder != Some(0) {
            if let Some(folder) = place.folder {
                self.dirty[folder].store(true, Ordering::Relaxed);
            }
            let mode = Meta::of(stat, 0o7777).mode;
            if mode & RWX != RWX {
                fchmod(open, Mode::from_raw_mode((mode | RWX).into()))
                    .map_err(|errno| self.cannot(&self.descent.path(open.id()), errno))?;
            }
        }
        Ok(())
    }

    fn remove(&self, open: &Arc<Open>, name: &[u8], kind: FileType) -> Result<(), Errno> {
        self.fault("remove", open, name)?;
        let removed = if kind == FileType::Directory {
            remove_folder(open.as_fd(), name)?
        } else {
            match unlinkat(open, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => 1,
                Err(errno) => return Err(errno),
            }
        };
        self.removed.fetch_add(removed, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a folder that the entry has and the tree has not, with the folders in it.
    fn make<'s>(&'s self, scope: &Scope<'s>, parent: &Arc<Open>, folder: usize) -> Result<(), Error> {
        let RestoreContext { manifest, plan, .. } = *self.context;
        let name = manifest.folder_name(folder);
        let mode = match manifest.folders[folder].meta {
            Some(meta) if plan.is_inside(folder) => {
                self.dirty[folder].store(true, Ordering::Relaxed);
                (meta.mode & 0o777) | RWX
            }
            _ => 0o777,
        };
        let made = self.fault("create", parent, name);
        if let Err(errno) = made.and_then(|()| mkdirat(parent, name, Mode::from_raw_mode(mode.into()))) {
            return Err(self.cannot(&manifest.path(folder), errno));
        }
        self.made.lock().push(folder);
        let items: Vec<_> = manifest.items_of(folder).filter(|&item| plan.wants(item)).collect();
        if !items.is_empty() {
            self.todo.lock().extend(items.into_iter().map(|item| (item, WriteMode::New)));
        }
        if manifest.children_of(folder).any(|child| plan.wants_folder(child)) {
            let child = self.descent.child(parent, name);
            scope.spawn(move |scope| self.made(scope, child, folder));
        }
        Ok(())
    }

    /// Goes on in a folder that was made.
    fn made<'s>(&'s self, scope: &Scope<'s>, child: Child, folder: usize) {
        if self.failure.is_set() {
            return;
        }
        let RestoreContext { manifest, plan, .. } = *self.context;
        let done = match self.descent.open(child) {
            Ok(open) => manifest
                .children_of(folder)
                .filter(|&child| plan.wants_folder(child))
                .try_for_each(|child| self.make(scope, &open, child)),
            Err(errno) => Err(self.cannot(&manifest.path(folder), errno)),
        };
        if let Err(error) = done {
            self.failure.set(error);
        }
    }

    fn files<'s>(
        &'s self,
        scope: &Scope<'s>,
        open: &Arc<Open>,
        stat: &Stat,
        place: FolderPair,
        listing: &Listing,
        which: &[(usize, usize)],
    ) {
        let (mut todo, mut news) = (Vec::new(), Vec::new());
        for &(index, item) in which {
            if self.failure.is_set() {
                return;
            }
            let name = listing.name(index);
            let is = match self.context.manifest.items[item].content {
                Content::Link { .. } => self.link(open, name, item),
                _ => match self.file(open, name, item, place) {
                    Some(is) => is,
                    None => {
                        let (open, name, stat) = (open.clone(), Box::<[u8]>::from(name), *stat);
                        scope.spawn(move |_| {
                            let is = self.content(&open, &name, item);
                            let (mut todo, mut news) = (Vec::new(), Vec::new());
                            self.note(is, item, &mut todo, &mut news);
                            self.pass_on(&open, &stat, place, todo, news);
                        });
                        continue;
                    }
                },
            };
            self.note(is, item, &mut todo, &mut news);
        }
        self.pass_on(open, stat, place, todo, news);
    }

    fn note(
        &self,
        is: Result<Comparison, Error>,
        item: usize,
        todo: &mut Vec<(usize, WriteMode)>,
        news: &mut Vec<(usize, Option<Seen>)>,
    ) {
        match is {
            Ok(Comparison::Right) => {}
            Ok(Comparison::FoundRight(seen)) => news.push((item, seen)),
            Ok(Comparison::Wrong) => todo.push((item, WriteMode::Replace)),
            Err(error) => self.failure.set(error),
        }
    }

    fn pass_on(
        &self,
        open: &Arc<Open>,
        stat: &Stat,
        place: FolderPair,
        todo: Vec<(usize, WriteMode)>,
        news: Vec<(usize, Option<Seen>)>,
    ) {
        if !todo.is_empty() {
            if let Err(error) = self.open_up(open, stat, place) {
                self.failure.set(error);
            }
            self.todo.lock().extend(todo);
        }
        if !news.is_empty() {
            self.seen.lock().extend(news);
        }
    }

    fn link(&self, open: &Arc<Open>, name: &[u8], item: usize) -> Result<Comparison, Error> {
        let manifest = self.context.manifest;
        if !readlinkat(open, name, Vec::new()).is_ok_and(|target| target.to_bytes() == manifest.target(item))
        {
            return Ok(Comparison::Wrong);
        }
        let time = manifest.items[item].meta.time;
        match statat(open, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if Time::modified(&stat) == time => Ok(Comparison::Right),
            _ => Ok(match utimensat(open, name, &time.to_set(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(()) => Comparison::Right,
                Err(_) => Comparison::Wrong,
            }),
        }
    }

    /// Compares what can be told quickly; nothing if the content has to be read and there is much of it.
    fn file(
        &self,
        open: &Arc<Open>,
        name: &[u8],
        item: usize,
        place: FolderPair,
    ) -> Option<Result<Comparison, Error>> {
        let manifest = self.context.manifest;
        let (size, digest) = manifest.data(item)?;
        let stat = match statat(open, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => stat,
            _ => return Some(Ok(Comparison::Wrong)),
        };
        if u64::try_from(stat.st_size) != Ok(size) {
            return Some(Ok(Comparison::Wrong));
        }
        let vouched = place
            .base
            .and_then(|base| self.base.manifest.item(base, name))
            .filter(|&before| self.base.vouches(before, &stat));
        match vouched {
            Some(before) if self.base.manifest.data(before) != Some((size, digest)) => {
                Some(Ok(Comparison::Wrong))
            }
            Some(_) if Meta::of(&stat, 0o7777) == manifest.items[item].meta => Some(Ok(match self.is_base {
                true => Comparison::Right,
                false => Comparison::FoundRight(Some(Seen::of(&stat))),
            })),
            Some(_) => Some(Ok(self.set_meta(open, name, item, &stat))),
            None if size < BIG => Some(self.content(open, name, item)),
            None => None,
        }
    }

    /// Compares a file by its content.
    fn content(&self, open: &Arc<Open>, name: &[u8], item: usize) -> Result<Comparison, Error> {
        thread_local! {
            static READ: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let Some((size, digest)) = self.context.manifest.data(item) else { return Ok(Comparison::Wrong) };
        self.fault("read", open, name).map_err(|errno| self.cannot(name, errno))?;
        let stable = read::read_stable(open.as_fd(), name, u64::MAX, &self.quiescence, |file, stat| {
            if u64::try_from(stat.st_size) != Ok(size) {
                return Ok(None);
            }
            if size >= BIG {
                return match object::hash(file, stat, self.context.cancel) {
                    Ok(digest) => Ok(Some(digest)),
                    Err(object::CopyError::Cancelled) => Err(Error::Cancelled.into()),
                    Err(object::CopyError::Read(errno)) => Err(ReadError::File(errno)),
                    Err(_) => Ok(None),
                };
            }
            READ.with_borrow_mut(|buffer| {
                buffer.clear();
                let whole = read::append(file, usize::try_from(size).unwrap_or(0), buffer)
                    .map_err(ReadError::File)?;
                Ok(whole.then(|| Digest::of(buffer)))
            })
        });
        match stable {
            Ok(stable) if stable.value == digest => {
                if Meta::of(&stable.stat, 0o7777) == self.context.manifest.items[item].meta {
                    return Ok(Comparison::FoundRight(stable.seen));
                }
                Ok(self.set_meta(open, name, item, &stable.stat))
            }
            Err(Skipped::Failed(error)) => Err(error),
            // What cannot be read is not known to be right.
            Ok(_) | Err(Skipped::LeftOut(_) | Skipped::Large | Skipped::Unread(_)) => Ok(Comparison::Wrong),
        }
    }

    /// Gives a file whose content is right the permissions and the time that it should have; it is wrong
    /// where it is better replaced.
    fn set_meta(&self, open: &Arc<Open>, name: &[u8], item: usize, stat: &Stat) -> Comparison {
        // Of a file with other names those would change too, and they may be outside the declared paths.
        if stat.st_nlink > 1 {
            return Comparison::Wrong;
        }
        let meta = self.context.manifest.items[item].meta;
        let set = || -> Result<Option<Seen>, Errno> {
            let file = dir::open_file(open.as_fd(), name)?;
            if Seen::of(&fstat(&file)?) != Seen::of(stat) {
                return Ok(None);
            }
            fchmod(&file, Mode::from_raw_mode((meta.mode & 0o1777).into()))?;
            futimens(&file, &meta.time.to_set())?;
            Ok(Some(Seen::of(&fstat(&file)?)))
        };
        match set() {
            Ok(Some(seen)) => Comparison::FoundRight(Some(seen)),
            Ok(None) | Err(_) => Comparison::Wrong,
        }
    }

    fn cannot(&self, path: &[u8], errno: Errno) -> Error {
        self.context.cannot(path, errno)
    }

    /// See [`RestoreContext::fault`].
    fn fault(&self, doing: &'static str, folder: &Open, name: &[u8]) -> Result<(), Errno> {
        // The path is made for tests alone.
        if !cfg!(test) {
            return Ok(());
        }
        self.context.fault(doing, &dir::join(&self.descent.path(folder.id()), name))
    }
}

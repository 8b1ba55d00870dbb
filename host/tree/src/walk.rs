//! A walk through what patterns name: folders in parallel, through no symlink, as deep as one likes.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rayon::Scope;
use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};
use rustix::io::Errno;

use crate::descent::{Child, Descent, Open};
use crate::dir::{self, Listing};
use crate::pattern::Patterns;

/// Entries of one folder that are handed over at once: enough to pay for a task, few enough to share a big
/// folder out.
const CHUNK: usize = 512;

/// The patterns of a walk.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The patterns of what is to be found. A folder that one of them names is meant with everything in it.
    pub patterns: &'a Patterns,
    /// The patterns of what is not, a folder likewise with everything in it.
    pub exclude: &'a Patterns,
}

/// A visitor of what a walk finds, called by several threads at once.
pub trait Visit: Sync {
    /// The note that is kept of a folder for what is in it.
    type Note: Send + Sync;

    /// A folder that was opened and listed, before anything in it. `parent` is nothing for the root.
    fn folder(&self, folder: &WalkFolder<'_>, parent: Option<&Self::Note>) -> Self::Note;

    /// Entries of a folder that are wanted and no folders themselves, some or all of them.
    fn entries(&self, folder: &WalkFolder<'_>, note: &Self::Note, entries: &[WalkEntry<'_>]);

    /// Something below the root that is wanted, or holds what may be, and is left out.
    fn left_out(&self, path: &[u8], why: Closed);

    /// Ends the walk early when it becomes true.
    fn is_over(&self) -> bool;
}

/// An entry of a folder that a walk found.
#[derive(Debug, Clone, Copy)]
pub struct WalkEntry<'a> {
    /// The name in that folder.
    pub name: &'a [u8],
    /// The kind of the entry when the folder was read.
    pub kind: FileType,
}

/// The reason why a walk did not go into a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// A folder that cannot be opened or read. `NOENT`, `LOOP` and `NOTDIR`: it is no folder any more.
    Errno(Errno),
    /// A symlink to a folder, where a pattern names something behind it.
    Symlink,
}

/// A folder on a walk. It is open: what is in it can be reached through its descriptor.
#[derive(Debug)]
pub struct WalkFolder<'a> {
    descent: &'a Descent<'a>,
    open: Arc<Open>,
    name: Arc<[u8]>,
    stat: Stat,
    state: FolderState,
}

/// The state of a folder, as far as it follows from the one that it is in.
#[derive(Debug, Clone, Copy)]
struct FolderState {
    inside: bool,
    /// Something below it may be excluded.
    excluding: bool,
    depth: usize,
}

impl WalkFolder<'_> {
    /// The path of the folder below the root, which is empty.
    pub fn path(&self) -> Vec<u8> {
        self.descent.path(self.open.id())
    }

    /// The name of the folder in the one that it is in; that of the root is empty.
    pub fn name(&self) -> &Arc<[u8]> {
        &self.name
    }

    /// The open folder itself, for what is to go on when the visit is over.
    pub fn open(&self) -> &Arc<Open> {
        &self.open
    }

    /// The number of folders from the root down to it.
    pub fn depth(&self) -> usize {
        self.state.depth
    }

    /// A pattern names it, or one above it; else it is only on the way.
    pub fn is_inside(&self) -> bool {
        self.state.inside
    }

    /// The state of the folder when it was opened.
    pub fn stat(&self) -> &Stat {
        &self.stat
    }
}

impl AsFd for WalkFolder<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.open.as_fd()
    }
}

/// Walks through what is wanted below `root`, in no order. Folders in which nothing wanted can be are not
/// opened.
///
/// # Errors
/// The root cannot be read.
pub fn walk<V: Visit>(root: BorrowedFd<'_>, wanted: Wanted<'_>, visit: &V) -> Result<(), Errno> {
    let descent = Descent::new(root);
    let walk = Walk { descent: &descent, wanted, visit };
    let Wanted { patterns, exclude } = wanted;
    let state =
        FolderState { inside: patterns.matches(b""), excluding: exclude.may_match_below(b""), depth: 0 };
    let open = descent.root()?;
    let (folder, listing) = walk.look(open, Arc::default(), state)?;
    let note = visit.folder(&folder, None);
    rayon::scope(|scope| walk.entries(scope, folder, note, listing));
    Ok(())
}

struct Walk<'a, V> {
    descent: &'a Descent<'a>,
    wanted: Wanted<'a>,
    visit: &'a V,
}

impl<'a, V: Visit> Walk<'a, V> {
    fn folder<'s>(&'s self, scope: &Scope<'s>, child: Child, state: FolderState, parent: &V::Note) {
        if self.visit.is_over() {
            return;
        }
        let (id, name) = (child.id(), child.name().clone());
        match self.descent.open(child).and_then(|open| self.look(open, name, state)) {
            Ok((folder, listing)) => {
                let note = self.visit.folder(&folder, Some(parent));
                self.entries(scope, folder, note, listing);
            }
            Err(errno) => self.visit.left_out(&self.descent.path(id), Closed::Errno(errno)),
        }
    }

    fn look(
        &self,
        open: Arc<Open>,
        name: Arc<[u8]>,
        state: FolderState,
    ) -> Result<(WalkFolder<'a>, Listing), Errno> {
        let stat = fstat(&open)?;
        let listing = Listing::of(open.as_fd())?;
        Ok((WalkFolder { descent: self.descent, open, name, stat, state }, listing))
    }

    fn entries<'s>(&'s self, scope: &Scope<'s>, folder: WalkFolder<'a>, note: V::Note, listing: Listing) {
        let FolderState { inside: all, excluding, depth } = folder.state;
        let Wanted { patterns, exclude } = self.wanted;
        // Paths are made only where they are looked at.
        let by_path = !all || excluding;
        let here = if by_path { folder.path() } else { Vec::new() };
        // Without the folder itself, which would stay open until all below it is done.
        let note = Arc::new(note);
        let mut found = Vec::with_capacity(listing.iter().len());
        for (index, (name, kind)) in listing.iter().enumerate() {
            let path = if by_path { dir::join(&here, name) } else { Vec::new() };
            if excluding && exclude.matches(&path) {
                continue;
            }
            let inside = all || patterns.matches(&path);
            if kind == FileType::Directory {
                if inside || patterns.may_match_below(&path) {
                    let excluding = excluding && exclude.may_match_below(&path);
                    let state = FolderState { inside, excluding, depth: depth + 1 };
                    let child = self.descent.child(&folder.open, name);
                    let note = note.clone();
                    scope.spawn(move |scope| self.folder(scope, child, state, &note));
                }
            } else if inside {
                found.push(index);
            } else if kind == FileType::Symlink
                && patterns.leads_below(&path)
                && leads_to_folder(&folder, name)
            {
                self.visit.left_out(&path, Closed::Symlink);
            }
        }
        if found.len() <= CHUNK {
            self.hand_over(&folder, &note, &listing, &found);
            return;
        }
        let shared = Arc::new((folder, note, listing));
        for found in found.chunks(CHUNK) {
            let (shared, found) = (shared.clone(), found.to_vec());
            scope.spawn(move |_| {
                let (folder, note, listing) = &*shared;
                self.hand_over(folder, note, listing, &found);
            });
        }
    }

    fn hand_over(&self, folder: &WalkFolder<'_>, note: &V::Note, listing: &Listing, found: &[usize]) {
        if found.is_empty() || self.visit.is_over() {
            return;
        }
        let entry = |&index| WalkEntry { name: listing.name(index), kind: listing.kind(index) };
        let entries: Vec<WalkEntry<'_>> = found.iter().map(entry).collect();
        self.visit.entries(folder, note, &entries);
    }
}

fn leads_to_folder(folder: &WalkFolder<'_>, name: &[u8]) -> bool {
    statat(folder, name, AtFlags::empty())
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

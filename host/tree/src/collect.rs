//! Files of a tree, copied out and packed.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err as fs;
use parking_lot::Mutex;

use crate::archive;
use crate::copy::{Copied, CopyJob, OpenTree, copy};
use crate::error::Warnings;
use crate::fault::fault;
use crate::pattern::Patterns;
use crate::walk::{Closed, Visit, WalkEntry, WalkFolder, Wanted, walk};
use crate::{Error, LeftOut, Warning, dir};

/// The files to collect, and their destination.
#[derive(Clone, Copy)]
pub struct Collect<'a> {
    /// The root of the workspace.
    pub tree: &'a Path,
    /// The patterns of what to collect, as [`Patterns`] understands it.
    pub paths: &'a [String],
    /// The patterns of what not to collect of that.
    pub exclude: &'a [String],
    /// The folder that it goes to; made if it is missing, but only for something to put into it.
    pub into: &'a Path,
    /// Says which names must not be written anywhere. It is asked for each path, and for each target of a
    /// symlink, by several threads at once.
    pub refuse: &'a (dyn Fn(&Path) -> bool + Sync),
    /// Ends it early when it becomes true.
    pub cancel: &'a AtomicBool,
}

/// The result of a collection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// The files and symlinks, below the root of the workspace as below the folder that they went to. In the
    /// order of their bytes.
    pub files: Vec<PathBuf>,
    /// Their size in bytes.
    pub bytes: u64,
    /// The archive of all of them, if there are any.
    pub archive: Option<PathBuf>,
    /// The patterns that no file matched, not even one that was left out; what is excluded does not count.
    pub unmatched: Vec<String>,
    /// The files that were left out.
    pub warnings: Vec<Warning>,
}

/// Copies what `paths` match and `exclude` does not from `tree` into `into`, with relative paths kept, and
/// packs the same files into `artifacts.tar.gz` there. Without any file nothing is written.
///
/// Collected are files, with their permissions and times, and symlinks. Hard links become files of their own.
/// The setuid, setgid and sticky bits are not kept, and a file can always be read by its owner. Folders come
/// with the files in them, empty ones not at all. `.git` at the root is never collected.
///
/// A symlink is collected as one, and never followed. It is left out if it leads outside the tree, by its own
/// words or through another symlink. Where it leads to need not be collected, or be there: then it dangles.
///
/// A file that changes while it is read is collected as it was read; the archive holds the same bytes as the
/// folder. What cannot be collected is left out with a warning: what went away, or may not be read, or is no
/// file; and a file at the root by the name of the archive.
///
/// # Errors
/// A pattern is none ([`Error::Pattern`]), the tree cannot be read at all, `into` cannot be written, or the
/// caller cancelled. What was copied by then stays; the archive is there whole or not at all.
pub fn collect(what: &Collect<'_>) -> Result<Collected, Error> {
    let Collect { tree, into, refuse, cancel, .. } = *what;
    let patterns = Patterns::new(what.paths)?;
    let exclude: Vec<&str> = what.exclude.iter().map(String::as_str).chain([".git"]).collect();
    let exclude = Patterns::new(&exclude)?;
    let source = dir::open_root(tree).map_err(|errno| Error::read(tree, errno))?;
    let search = Search { tree, refuse, cancel, seen: Mutex::default(), warnings: Mutex::default() };
    walk(source.as_fd(), Wanted { patterns: &patterns, exclude: &exclude }, &search)
        .map_err(|errno| Error::read(tree, errno))?;
    if cancel.load(Ordering::Relaxed) {
        return Err(Error::Cancelled);
    }
    let Search { seen, warnings, .. } = search;
    let SearchResult { mut files, others, error } = seen.into_inner();
    if let Some(error) = error {
        return Err(error);
    }
    let unmatched = patterns.unmatched(files.iter().chain(&others).map(Vec::as_slice));
    files.retain(|path| {
        let taken = path.split(|&byte| byte == b'/').next() == Some(archive::NAME.as_bytes());
        if taken {
            push(&warnings, path, LeftOut::Archive);
        }
        !taken
    });
    let mut collected = Collected { unmatched, ..Collected::default() };
    if !files.is_empty() {
        let made = !into.exists();
        fault("create", || into.to_owned()).map_err(|errno| Error::write(into, errno))?;
        fs::create_dir_all(into).map_err(|error| Error::write(into, error))?;
        let target = dir::open_root(into).map_err(|errno| Error::write(into, errno))?;
        let from = OpenTree { path: tree, root: source.as_fd() };
        let to = OpenTree { path: into, root: target.as_fd() };
        let Copied { files, bytes } = copy(CopyJob { from, to, refuse, cancel }, files, &warnings)?;
        if !files.is_empty() {
            archive::pack(to, &files, cancel)?;
            collected.archive = Some(into.join(archive::NAME));
        } else if made {
            // All of it went away, or was left out. A folder that was made for what could not be read stays.
            let _ = fs::remove_dir(into);
        }
        let to_path = |path| PathBuf::from(OsString::from_vec(path));
        collected.files = files.into_iter().map(to_path).collect();
        collected.bytes = bytes;
    }
    collected.warnings = warnings.into_inner().into_list();
    Ok(collected)
}

/// The files that a walk has found.
struct Search<'a> {
    /// For messages.
    tree: &'a Path,
    refuse: &'a (dyn Fn(&Path) -> bool + Sync),
    cancel: &'a AtomicBool,
    seen: Mutex<SearchResult>,
    warnings: Mutex<Warnings>,
}

#[derive(Default)]
struct SearchResult {
    files: Vec<Vec<u8>>,
    /// The files that matched and are left out.
    others: Vec<Vec<u8>>,
    error: Option<Error>,
}

impl Visit for Search<'_> {
    type Note = ();

    fn folder(&self, _: &WalkFolder<'_>, _: Option<&()>) {}

    fn entries(&self, folder: &WalkFolder<'_>, (): &(), entries: &[WalkEntry<'_>]) {
        let folder = folder.path();
        let mut paths: Vec<Vec<u8>> = entries.iter().map(|entry| dir::join(&folder, entry.name)).collect();
        let mut refused: Vec<Vec<u8>> = paths.extract_if(.., |path| self.refuses(path)).collect();
        let mut seen = self.seen.lock();
        seen.files.append(&mut paths);
        seen.others.append(&mut refused);
    }

    fn left_out(&self, path: &[u8], why: Closed) {
        if self.refuses(path) {
            return;
        }
        let mut seen = self.seen.lock();
        match why {
            Closed::Symlink => push(&self.warnings, path, LeftOut::Behind),
            Closed::Errno(errno) => match LeftOut::of(&self.tree.join(dir::to_path(path)), errno) {
                Ok(why) => push(&self.warnings, path, why),
                Err(error) => seen.error = Some(error.into()),
            },
        }
        seen.others.push(path.to_owned());
    }

    fn is_over(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

impl Search<'_> {
    fn refuses(&self, path: &[u8]) -> bool {
        let refused = (self.refuse)(&dir::to_path(path));
        if refused {
            self.warnings.lock().refuse();
        }
        refused
    }
}

fn push(warnings: &Mutex<Warnings>, path: &[u8], why: LeftOut) {
    warnings.lock().push(dir::to_path(path), why);
}

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use loom_tree::{Aside, Copied, Kept, Outline, Over, Part, Patterns, Recording, Replicator, remove_gone};
use parking_lot::Mutex;
use rayon::prelude::*;

use crate::fault::fault;
use crate::git::{Head, WorkTree};
use crate::{Error, git, git_dir, listing};

/// The run's own copy of the repository. Dropping it leaves the files.
#[derive(Debug)]
pub struct Snapshot {
    dir: PathBuf,
    path: PathBuf,
    /// The commit that the copy's HEAD is at; none without git, and in a repository without commits.
    pub head_sha: Option<String>,
    /// The branch that the original is on, as in `main` or `feature/x`.
    pub branch: Option<String>,
    /// The number of files and symlinks in the copy, those of submodules too.
    pub files: u64,
    /// The size of those files in bytes.
    pub bytes: u64,
    /// The number of files and symlinks that were not there yet as they are now; of a copy that was resumed,
    /// those that are gone from the original, too.
    pub copied: u64,
    /// The way in which their data came over.
    pub method: Method,
    /// The object folders of the original that the copy reads from, so that git works in it only where they
    /// can be reached by these paths.
    pub borrowed_objects: Vec<PathBuf>,
    /// The files that git could not look at and that are therefore missing from the copy, in git's own words:
    /// an untracked folder that may not be read, for one. A line each, most often none.
    pub warnings: Vec<String>,
}

/// The way in which the data of a snapshot came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The copy shares its data with the original until one of them is written to.
    Reflink,
    /// The data was copied, or most of it.
    Copy,
}

impl Snapshot {
    /// The folder where jobs run: the copy of the repository's root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole copy, which is what to remove. It differs from [`Self::path`] where the repository's root is
    /// below the top of a git work tree.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// The place of a copy that stays: what is in it is brought up to date.
#[derive(Debug, Clone, Copy)]
pub struct Slot<'a> {
    /// The copy: a folder that exists, with whatever an earlier copy and those who worked in it left there.
    pub dir: &'a Path,
    /// The file that says what of the copy is known, outside of it. Nobody else writes it.
    pub record: &'a Path,
    /// Where folders go that must.
    pub aside: &'a Aside,
    /// Folders that are the slot's own, by their paths below the copy of the repository's root: nothing of
    /// the repository comes there, and git in the copy does not see them.
    pub kept: &'a Patterns,
    /// What stands in those stays.
    pub stay: bool,
    /// Whether what others have made or changed in the copy stays everywhere, and only what was edited in the
    /// repository since is brought over. That goes by the record: see [`is_known`].
    pub resumed: bool,
}

/// Whether enough is known of a copy, whose record is `record`, to bring over only what was edited since.
pub fn is_known(record: &Path) -> bool {
    !Copied::load(record).is_empty()
}

/// Copies the repository at `repo_root` to `dest`, which must not exist: the work tree as git sees it with a
/// `.git` of its own, or, where there is no git repository, every file but those of Loom's runtime folder.
/// `make_folder` makes the folder `dest`, which must be new, with the permissions that the umask allows.
/// Setting `cancel` ends it early.
///
/// # Errors
/// See [`Error`]. Nothing is left at `dest` then, nor any folder above it that was made for it.
pub fn create(
    repo_root: &Path,
    dest: &Path,
    make_folder: impl FnOnce(&Path) -> std::io::Result<()>,
    cancel: &AtomicBool,
) -> Result<Snapshot, Error> {
    let root = std::fs::canonicalize(repo_root).map_err(|error| Error::read(repo_root, error))?;
    let dest = std::path::absolute(dest).map_err(|error| Error::write(dest, error))?;
    check_dest(&root, &dest)?;
    let work_tree = WorkTree::of_root(&root, cancel)?;
    let guard = SnapshotGuard::create(&dest, make_folder)?;
    let replicator = Replicator::new(cancel, guard.umask()?, None);
    let kept = Kept { patterns: &Patterns::none(), below: b"" };
    let how = How { kept, resumed: false };
    let (snapshot, _) = copy_whole(&root, &dest, replicator, how, work_tree.as_ref(), cancel)?;
    guard.keep();
    Ok(snapshot)
}

/// Brings the copy in `slot` to what [`create`] would make of the repository at `repo_root`, but for what is
/// kept. Setting `cancel` ends it early.
///
/// # Errors
/// See [`Error`]. The slot can be brought up to date again then, whatever is in it.
pub fn update(repo_root: &Path, slot: &Slot<'_>, cancel: &AtomicBool) -> Result<Snapshot, Error> {
    let root = std::fs::canonicalize(repo_root).map_err(|error| Error::read(repo_root, error))?;
    check_outside(&root, slot.dir)?;
    let work_tree = WorkTree::of_root(&root, cancel)?;
    let copied = Copied::load(slot.record);
    Copied::forget(slot.record)?;
    let aside = slot.aside;
    let umask = aside.umask().map_err(|errno| Error::write(aside.path(), errno))?;
    let kept = Kept { patterns: slot.kept, below: prefix(work_tree.as_ref()) };
    let none = Patterns::none();
    let over = Over {
        copied: &copied,
        aside,
        kept: if slot.stay { kept } else { Kept { patterns: &none, ..kept } },
        resumed: slot.resumed,
    };
    let replicator = Replicator::new(cancel, umask, Some(over));
    replicator.ensure_folder(slot.dir)?;
    let how = How { kept, resumed: slot.resumed };
    let (mut snapshot, recording) = copy_whole(&root, slot.dir, replicator, how, work_tree.as_ref(), cancel)?;
    if slot.resumed {
        snapshot.copied += remove_gone(slot.dir, &copied, &recording)?;
    }
    if let Err(error) = recording.store(slot.record) {
        snapshot.warnings.push(format!("the next run copies the whole repository: {error}"));
    }
    Ok(snapshot)
}

/// Makes sure that a copy at `dest` would not be part of the repository at `repo_root`.
///
/// # Errors
/// [`Error::InsideRepository`].
pub fn check_outside(repo_root: &Path, dest: &Path) -> Result<(), Error> {
    // The nearest folder that exists, without symlinks.
    let nearest = dest.ancestors().find_map(|folder| fs_err::canonicalize(folder).ok());
    let root = fs_err::canonicalize(repo_root).unwrap_or_else(|_| repo_root.to_owned());
    if nearest.is_some_and(|nearest| nearest.starts_with(&root)) {
        return Err(Error::InsideRepository { root, dest: dest.to_owned() });
    }
    Ok(())
}

/// What of a copy is its own.
#[derive(Debug, Clone, Copy)]
struct How<'a> {
    kept: Kept<'a>,
    resumed: bool,
}

/// Copies the repository at `root` into the folder `dest`.
fn copy_whole(
    root: &Path,
    dest: &Path,
    replicator: Replicator<'_>,
    how: How<'_>,
    work_tree: Option<&WorkTree>,
    cancel: &AtomicBool,
) -> Result<(Snapshot, Recording), Error> {
    let path = match prefix(work_tree) {
        b"" => dest.to_owned(),
        prefix => dest.join(OsStr::from_bytes(prefix)),
    };
    let How { kept, resumed } = how;
    let notes = Mutex::default();
    let copy = RepositoryCopy { dest, replicator: &replicator, kept, resumed, cancel, notes };
    copy.copy(root, &path, work_tree)?;
    let notes = copy.notes.into_inner();
    let totals = replicator.finish()?;
    let (head_sha, branch) = match work_tree.map(|work_tree| &work_tree.head) {
        None => (None, None),
        Some(Head::Commit { sha, branch }) => (Some(sha.clone()), branch.clone()),
        Some(Head::Unborn { name }) => (None, name.strip_prefix("refs/heads/").map(str::to_owned)),
    };
    let snapshot = Snapshot {
        dir: dest.to_owned(),
        path,
        head_sha,
        branch,
        files: totals.files,
        bytes: totals.bytes,
        copied: totals.copied,
        method: if totals.shared * 2 > totals.copied { Method::Reflink } else { Method::Copy },
        borrowed_objects: notes.borrowed_objects.into_iter().collect(),
        warnings: notes.warnings.into_iter().collect(),
    };
    Ok((snapshot, totals.recording))
}

impl WorkTree {
    /// The work tree that belongs to the root of a repository. A folder of which git lists nothing at all,
    /// though it is below the top of a work tree, is ignored there and so no part of it.
    fn of_root(root: &Path, cancel: &AtomicBool) -> Result<Option<Self>, Error> {
        let work_tree = git::inspect(root, cancel)?;
        Ok(work_tree.filter(|tree| tree.prefix.as_os_str().is_empty() || !tree.listing.is_empty()))
    }
}

/// The way from the top of a work tree to the repository's root, without a slash at its end.
fn prefix(work_tree: Option<&WorkTree>) -> &[u8] {
    let prefix = work_tree.map_or(&b""[..], |work_tree| work_tree.prefix.as_os_str().as_bytes());
    prefix.strip_suffix(b"/").unwrap_or(prefix)
}

/// The state that the copies of a repository and of those nested in it share.
struct RepositoryCopy<'a> {
    dest: &'a Path,
    replicator: &'a Replicator<'a>,
    kept: Kept<'a>,
    resumed: bool,
    cancel: &'a AtomicBool,
    notes: Mutex<Notes>,
}

/// Notes about a copy; in order and each once, though parts are copied side by side.
#[derive(Default)]
struct Notes {
    borrowed_objects: BTreeSet<PathBuf>,
    warnings: BTreeSet<String>,
}

impl RepositoryCopy<'_> {
    /// Copies the folder `from` to `to`. That exists, or is below the top of a work tree that does.
    fn copy(&self, from: &Path, to: &Path, work_tree: Option<&WorkTree>) -> Result<(), Error> {
        let Some(work_tree) = work_tree else {
            let part = self.part(to, &[]);
            let listing = listing::walk(from, self.cancel)?;
            let listing = listing::without_kept(listing.into(), part.path, &self.kept);
            self.replicator.copy(&listing::outline(&listing, true), from, to, part)?;
            return self.keep_mode(from, to);
        };
        let levels = work_tree.prefix.components().count();
        let top = to.ancestors().nth(levels).unwrap_or(to);
        let objects = if self.resumed && levels == 0 && git_dir::stands(top, work_tree) {
            git_dir::renew_index(top, work_tree)?
        } else {
            self.replicator.take_away(top, ".git")?;
            let objects = git_dir::create(top, work_tree, from, self.replicator, self.cancel)?;
            if top == self.dest {
                git_dir::exclude(top, &self.kept)?;
            }
            objects
        };
        {
            let mut notes = self.notes.lock();
            notes.borrowed_objects.insert(objects);
            notes.warnings.extend(work_tree.warnings.iter().cloned());
        }
        let from = from.ancestors().nth(levels).unwrap_or(from);
        let part = self.part(top, &[b".git"]);
        let listing = match prefix(Some(work_tree)) {
            b"" => Cow::Borrowed(&work_tree.listing[..]),
            prefix => Cow::Owned(listing::below(prefix, &work_tree.listing)),
        };
        let listing = listing::without_kept(listing, part.path, &self.kept);
        let mut outline = listing::outline(&listing, false);
        outline.add_folder(prefix(Some(work_tree)));
        let nested = self.replicator.copy(&outline, from, top, part)?;
        // Not even asked for nothing: the first use starts threads.
        if !nested.is_empty() {
            nested.par_iter().try_for_each(|path| self.copy_nested(&from.join(path), &top.join(path)))?;
        }
        if levels > 0 {
            git::skip_outside(top, &work_tree.prefix, self.cancel)?;
        }
        self.keep_mode(from, top)
    }

    /// Copies a submodule, or a repository that lies untracked in another one. A folder that git lists but
    /// that is none of these is a submodule that was never fetched, or stands where a tracked file was.
    fn copy_nested(&self, from: &Path, to: &Path) -> Result<(), Error> {
        self.replicator.check_cancel()?;
        self.replicator.ensure_folder(to)?;
        let leave_empty = || -> Result<(), Error> {
            self.replicator.copy(&Outline::default(), from, to, self.part(to, &[]))?;
            Ok(())
        };
        if fs_err::symlink_metadata(from.join(".git")).is_err() {
            return leave_empty();
        }
        match git::inspect(from, self.cancel)? {
            // Its `.git` is none: git sees the work tree above.
            Some(work_tree) if !work_tree.prefix.as_os_str().is_empty() => leave_empty(),
            work_tree => self.copy(from, to, work_tree.as_ref()),
        }
    }

    /// The tree at `to`, as a part of the whole.
    fn part<'p>(&self, to: &'p Path, not_ours: &'p [&'p [u8]]) -> Part<'p> {
        let path = to.strip_prefix(self.dest).unwrap_or(Path::new(""));
        Part { path: path.as_os_str().as_bytes(), not_ours }
    }

    fn keep_mode(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let meta = fault("look at", from).and_then(|()| std::fs::metadata(from));
        let meta = meta.map_err(|error| Error::read(from, error))?;
        Ok(self.replicator.set_folder_mode(to.to_owned(), meta.mode())?)
    }
}

fn check_dest(root: &Path, dest: &Path) -> Result<(), Error> {
    if fs_err::symlink_metadata(dest).is_ok() {
        return Err(Error::Exists { path: dest.to_owned() });
    }
    check_outside(root, dest)
}

/// The folder of a copy that is not complete yet: dropped, it goes, and with it the folders made above it.
struct SnapshotGuard {
    dest: PathBuf,
    /// The topmost folder above `dest` that was made for it, and those between.
    above: Vec<PathBuf>,
    complete: bool,
}

impl SnapshotGuard {
    fn create(dest: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<Self, Error> {
        let missing: Vec<&Path> =
            dest.ancestors().skip(1).take_while(|folder| fs_err::symlink_metadata(folder).is_err()).collect();
        let mut guard = Self { dest: dest.to_owned(), above: Vec::new(), complete: false };
        for folder in missing.into_iter().rev() {
            // What is in a repository concerns its user alone, wherever the copies are kept.
            let created = fault("create", folder).and_then(|()| DirBuilder::new().mode(0o700).create(folder));
            match created {
                Ok(()) => guard.above.push(folder.to_owned()),
                // Another run of Loom was faster.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::write(folder, error)),
            }
        }
        match fault("create", dest).and_then(|()| make(dest)) {
            Ok(()) => Ok(guard),
            Err(error) => {
                let error = match error.kind() {
                    ErrorKind::AlreadyExists => Error::Exists { path: dest.to_owned() },
                    _ => Error::write(dest, error),
                };
                guard.remove_above();
                guard.complete = true;
                Err(error)
            }
        }
    }

    /// The mode bits that new files here do not get, whatever is asked for: it was asked for all.
    fn umask(&self) -> Result<u32, Error> {
        let meta = fault("look at", &self.dest).and_then(|()| std::fs::metadata(&self.dest));
        let meta = meta.map_err(|error| Error::read(&self.dest, error))?;
        Ok(0o777 & !meta.mode())
    }

    fn keep(mut self) {
        self.complete = true;
    }

    fn remove_above(&self) {
        for folder in self.above.iter().rev() {
            // Another run may use it by now.
            let _ = fs_err::remove_dir(folder);
        }
    }
}

impl Drop for SnapshotGuard {
    fn drop(&mut self) {
        if !self.complete {
            // The error that ended the copy says more than this one could.
            let _ = loom_tree::remove(&self.dest);
            self.remove_above();
        }
    }
}

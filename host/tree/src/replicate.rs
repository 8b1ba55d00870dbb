//! A tree, replicated into a folder in parallel: folders first, then the files folder by folder. Nobody else
//! writes to it meanwhile, and it is as good as nothing until it is whole.
//!
//! The folder may hold an older copy, and whatever was done to that since. Of its files, those stay of which
//! [`Copied`] says that they and their originals are what they were. All others go, and so does what the
//! outline does not name: files at once, folders to a place from which they are removed in one's own time.
//! A file that stays is the only one that is not made anew: nothing is ever written into one that was there,
//! which might have another name elsewhere.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, fstat, mkdirat, statat, unlinkat};
use rustix::io::Errno;

use self::file::{File, Stands};
use crate::aside::Aside;
use crate::copied::{Copied, Recording, Row, below};
use crate::fault::fault;
use crate::outline::{Outline, OutlineFolder};
use crate::{FileError, Patterns, ReplicateError as Error, dir};

mod file;

/// Names of one folder that one task copies: enough to pay for opening the folder, few enough to share a big
/// one out.
const CHUNK: usize = 256;
/// Below this many names the other threads cost more than they give.
const PARALLEL_FROM: usize = 128;

const RWX_USER: u32 = 0o700;
const ALL_MODES: u32 = 0o7777;

/// A replication under way: what the trees that belong to it share.
#[derive(Debug)]
pub struct Replicator<'a> {
    cancel: &'a AtomicBool,
    umask: u32,
    over: Option<Over<'a>>,
    recording: Recording,
    files: AtomicU64,
    bytes: AtomicU64,
    copied: AtomicU64,
    shared: AtomicU64,
    /// Devices of the original that cannot share data with the copy.
    unshared: Mutex<Vec<u64>>,
    /// Folders whose own mode would be in the way of filling them.
    late_modes: Mutex<Vec<(PathBuf, Mode)>>,
}

/// What a replication into a folder that is not empty goes by.
#[derive(Debug, Clone, Copy)]
pub struct Over<'a> {
    /// What is known of the older copy.
    pub copied: &'a Copied,
    /// Where folders go that must.
    pub aside: &'a Aside,
    /// Folders that stay as they are though no outline names them, where the one that they are in stays.
    pub kept: Kept<'a>,
    /// Whether all that others have made or changed in the copy stays, and only what is not any more what it
    /// was in the original is copied. What is gone from there is for [`remove_gone`](crate::remove_gone).
    pub resumed: bool,
}

/// Folders of a copy that are its own.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    /// Which they are.
    pub patterns: &'a Patterns,
    /// The folder of the whole copy that the patterns begin at.
    pub below: &'a [u8],
}

impl Kept<'_> {
    /// Whether the folder at `path`, in the whole copy, is one of them.
    pub fn has(&self, path: &[u8]) -> bool {
        let below = match self.below {
            b"" => Some(path),
            below => path.strip_prefix(below).and_then(|rest| rest.strip_prefix(b"/")),
        };
        below.is_some_and(|path| self.patterns.matches(path))
    }
}

/// The sum of what was copied.
#[derive(Debug)]
pub struct Totals {
    /// The number of files and symlinks that the tree has now.
    pub files: u64,
    /// The size of the files in bytes.
    pub bytes: u64,
    /// The number of files and symlinks that had to be copied for that.
    pub copied: u64,
    /// The number of those that share their data with the original.
    pub shared: u64,
    /// What is known of the copy from now on, until somebody works in it.
    pub recording: Recording,
}

/// Where a tree that is copied stands in the whole, and what in it is the caller's own business.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The path in the whole copy, empty for all of it.
    pub path: &'a [u8],
    /// Names in the root that are neither copied nor removed.
    pub not_ours: &'a [&'a [u8]],
}

impl Part<'_> {
    /// The whole copy.
    pub const WHOLE: Self = Self { path: b"", not_ours: &[] };
}

impl<'a> Replicator<'a> {
    /// Begins a replication, which setting `cancel` ends early. `umask` is the mode bits that new files of
    /// the copy do not get, whatever is asked for. `over`: where to is not empty.
    pub fn new(cancel: &'a AtomicBool, umask: u32, over: Option<Over<'a>>) -> Self {
        Self {
            cancel,
            umask,
            over,
            recording: Recording::begin(),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            copied: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            unshared: Mutex::default(),
            late_modes: Mutex::default(),
        }
    }

    /// A replication into empty folders that ends with this one, for what does not count as part of it.
    pub fn apart(&self) -> Self {
        Self::new(self.cancel, self.umask, None)
    }

    /// Makes what `outline` names of `from` stand in the folder `to`, which exists, and nothing else: files
    /// with their permissions and times, symlinks as they are. What is gone, or is neither file nor symlink,
    /// is passed over. Returns the names that turned out to be folders, relative to `from`: what is in them
    /// is not part of the outline, and is not touched.
    ///
    /// # Errors
    /// Something cannot be read or written, or the caller cancelled. What was done by then stays.
    pub fn copy(
        &self,
        outline: &Outline<'_>,
        from: &Path,
        to: &Path,
        part: Part<'_>,
    ) -> Result<Vec<PathBuf>, Error> {
        let source = fault("open", || from.to_owned()).and_then(|()| dir::open_root(from));
        let source = source.map_err(|errno| FileError::read(from, errno))?;
        let target = fault("open", || to.to_owned()).and_then(|()| dir::open_root(to));
        let target = target.map_err(|errno| FileError::write(to, errno))?;
        let whole = Whole { replicator: self, from, to, part, source, target, nested: Mutex::default() };
        let folders = whole.make_folders(outline.folders())?;
        let clears = self.over.is_some_and(|over| !over.resumed);
        let below = if clears { folders_below(outline, &folders) } else { Vec::new() };
        let mut tasks: Vec<Task<'_>> = Vec::new();
        for (at, (folder, made)) in outline.folders().iter().zip(&folders).enumerate() {
            let Some(made) = *made else { continue };
            let mut chunks = folder.names.chunks(CHUNK);
            let clear = (clears && !made.is_new).then(|| below.get(at).map_or(&[][..], Vec::as_slice));
            if clear.is_some() || !folder.names.is_empty() {
                tasks.push(Task { folder, made, names: chunks.next().unwrap_or_default(), clear });
            }
            tasks.extend(chunks.map(|names| Task { folder, made, names, clear: None }));
        }
        let act = |task: Task<'_>| whole.fill(&task);
        if outline.names() < PARALLEL_FROM {
            tasks.into_iter().try_for_each(act)?;
        } else {
            tasks.into_par_iter().with_max_len(1).try_for_each(act)?;
        }
        whole.remove_unwanted(outline.folders(), &folders);
        let mut nested = whole.nested.into_inner();
        // A file that became a folder of the tree is named as both.
        nested.retain(|path| !outline.has_folder(path.as_os_str().as_bytes()));
        Ok(nested)
    }

    /// Makes the folder at `to` where it is none, in the place of whatever else is there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn ensure_folder(&self, to: &Path) -> Result<(), FileError> {
        let failed = |errno: Errno| FileError::write(to, errno);
        let (above, name) = to.parent().zip(to.file_name()).ok_or_else(|| failed(Errno::INVAL))?;
        let above = dir::open_root(above).map_err(failed)?;
        let name = name.as_encoded_bytes();
        let made = fault("create", || to.to_owned())
            .and_then(|()| self.ensure(above.as_fd(), name, Mode::from_raw_mode(0o777)));
        made.map_err(failed)?;
        self.set_folder_mode(to.to_owned(), 0o777 & !self.umask)
    }

    /// Takes what is called `name` out of the folder `to` of the copy, if anything is.
    ///
    /// # Errors
    /// It stays.
    pub fn take_away(&self, to: &Path, name: &str) -> Result<(), FileError> {
        let Some(over) = self.over else { return Ok(()) };
        let path = to.join(name);
        let taken = fault("remove", || path.clone())
            .and_then(|()| over.aside.take(dir::open_root(to)?.as_fd(), name.as_bytes()));
        taken.map_err(|errno| FileError::write(path, errno))
    }

    /// Gives the folder `to` the mode `mode`: now, or when everything is copied if it could not be filled
    /// else.
    ///
    /// # Errors
    /// The mode cannot be set.
    pub fn set_folder_mode(&self, to: PathBuf, mode: u32) -> Result<(), FileError> {
        let mode = mode & ALL_MODES;
        if mode & RWX_USER == RWX_USER {
            return set_mode(&to, Mode::from_raw_mode(mode));
        }
        self.late_modes.lock().push((to, Mode::from_raw_mode(mode)));
        Ok(())
    }

    /// Ends the replication: sets the modes that had to wait.
    ///
    /// # Errors
    /// One cannot be set.
    pub fn finish(self) -> Result<Totals, FileError> {
        for (path, mode) in self.late_modes.into_inner() {
            set_mode(&path, mode)?;
        }
        Ok(Totals {
            files: self.files.into_inner(),
            bytes: self.bytes.into_inner(),
            copied: self.copied.into_inner(),
            shared: self.shared.into_inner(),
            recording: self.recording,
        })
    }

    /// Makes sure that the caller wants it still.
    ///
    /// # Errors
    /// The caller cancelled.
    pub fn check_cancel(&self) -> Result<(), Error> {
        if self.cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Makes the folder `name` in `above`, where it is none. One that is there can be worked in afterwards;
    /// returns the mode that it had.
    fn ensure(&self, above: BorrowedFd<'_>, name: &[u8], mode: Mode) -> Result<Option<u32>, Errno> {
        let make = || mkdirat(above, name, mode).map(|()| None);
        let Some(over) = self.over else { return make() };
        // Most are there, and this is the cheapest way to know.
        let stat = match statat(above, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return make(),
            Err(errno) => return Err(errno),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            over.aside.take(above, name)?;
            return make();
        }
        // What is mounted there is not the copy's.
        if stat.st_dev != fstat(above)?.st_dev {
            return Err(Errno::XDEV);
        }
        if stat.st_mode & RWX_USER != RWX_USER {
            dir::open_up(above, name)?;
        }
        Ok(Some(stat.st_mode & ALL_MODES))
    }

    fn may_share(&self, device: u64) -> bool {
        !self.unshared.lock().contains(&device)
    }

    fn cannot_share(&self, device: u64) {
        let mut unshared = self.unshared.lock();
        if !unshared.contains(&device) {
            unshared.push(device);
        }
    }
}

fn set_mode(folder: &Path, mode: Mode) -> Result<(), FileError> {
    let set = fault("set the mode of", || folder.to_owned()).and_then(|()| rustix::fs::chmod(folder, mode));
    set.map_err(|errno| FileError::write(folder, errno))
}

/// What there is to do in one folder.
struct Task<'o> {
    folder: &'o OutlineFolder<'o>,
    made: MadeFolder,
    /// The names to copy.
    names: &'o [&'o [u8]],
    /// Whether what the outline does not name goes first: the folders that stand in this one, and stay.
    clear: Option<&'o [&'o [u8]]>,
}

/// The names of the folders that stand in each folder.
fn folders_below<'o>(outline: &'o Outline<'_>, made: &[Option<MadeFolder>]) -> Vec<Vec<&'o [u8]>> {
    let mut below = vec![Vec::new(); outline.folders().len()];
    for (folder, _) in outline.folders().iter().zip(made).skip(1).filter(|(_, made)| made.is_some()) {
        below[folder.parent].push(dir::split(folder.path).1);
    }
    below
}

/// A folder that stands on both sides.
#[derive(Debug, Clone, Copy)]
struct MadeFolder {
    /// The device that it is on in the original.
    device: u64,
    is_new: bool,
}

/// One tree on its way.
struct Whole<'a> {
    replicator: &'a Replicator<'a>,
    from: &'a Path,
    to: &'a Path,
    part: Part<'a>,
    source: OwnedFd,
    target: OwnedFd,
    nested: Mutex<Vec<PathBuf>>,
}

/// A folder in which others are made, open on both sides.
struct Above<'p> {
    path: &'p [u8],
    source: OwnedFd,
    target: OwnedFd,
}

impl Whole<'_> {
    /// Makes the folders. Returns what each is; `None` for one that is no folder any more, and for all below
    /// it: what is behind a symlink is not in the tree.
    fn make_folders(&self, folders: &[OutlineFolder<'_>]) -> Result<Vec<Option<MadeFolder>>, Error> {
        let root = fstat(&self.source).map_err(|errno| FileError::read(self.from, errno))?;
        let mut made = vec![None; folders.len()];
        made[0] = Some(MadeFolder { device: root.st_dev, is_new: false });
        for level in levels(folders) {
            let make = |places: &[usize]| self.make_some(folders, places, &made);
            let of_level: Vec<_> = if level.len() < PARALLEL_FROM {
                vec![make(&level)?]
            } else {
                level.par_chunks(CHUNK).map(make).collect::<Result<_, _>>()?
            };
            for (place, folder) in level.iter().zip(of_level.into_iter().flatten()) {
                made[*place] = folder;
            }
        }
        Ok(made)
    }

    /// Makes the folders at `places`, of which those above are `made`.
    fn make_some(
        &self,
        folders: &[OutlineFolder<'_>],
        places: &[usize],
        made: &[Option<MadeFolder>],
    ) -> Result<Vec<Option<MadeFolder>>, Error> {
        self.replicator.check_cancel()?;
        // Many folders in a row are in the same one.
        let mut above: Option<Above<'_>> = None;
        let mut some = Vec::with_capacity(places.len());
        for folder in places.iter().map(|place| &folders[*place]) {
            if made[folder.parent].is_none() {
                some.push(None);
                continue;
            }
            let (parent, name) = dir::split(folder.path);
            if above.as_ref().is_none_or(|above| above.path != parent) {
                above = self.open_above(parent)?;
            }
            some.push(match &above {
                Some(above) => self.make_folder(above, name, folder.path)?,
                None => None,
            });
        }
        Ok(some)
    }

    /// Opens a folder on both sides; nothing where the original is none any more.
    fn open_above<'p>(&self, path: &'p [u8]) -> Result<Option<Above<'p>>, Error> {
        let Some(source) = self.open_source(path)? else { return Ok(None) };
        Ok(Some(Above { path, source, target: self.open_target(path)? }))
    }

    fn open_source(&self, path: &[u8]) -> Result<Option<OwnedFd>, Error> {
        let opened = fault("open", || path_in(self.from, path));
        match opened.and_then(|()| dir::open_beneath(self.source.as_fd(), path)) {
            Ok(source) => Ok(Some(source)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(FileError::read(path_in(self.from, path), errno).into()),
        }
    }

    fn open_target(&self, path: &[u8]) -> Result<OwnedFd, Error> {
        let opened = dir::open_beneath(self.target.as_fd(), path);
        Ok(opened.map_err(|errno| FileError::write(path_in(self.to, path), errno))?)
    }

    /// Makes one folder; nothing where the original is none.
    fn make_folder(&self, above: &Above<'_>, name: &[u8], path: &[u8]) -> Result<Option<MadeFolder>, Error> {
        let stat = match statat(&above.source, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => stat,
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(FileError::read(path_in(self.from, path), errno).into()),
        };
        let mode = stat.st_mode & ALL_MODES;
        let asked = Mode::from_raw_mode((mode & 0o777) | RWX_USER);
        let had = fault("create", || path_in(self.to, path))
            .and_then(|()| self.replicator.ensure(above.target.as_fd(), name, asked))
            .map_err(|errno| FileError::write(path_in(self.to, path), errno))?;
        // What had to be opened up is set again, too.
        let is_set = match had {
            None => mode & (self.replicator.umask | !0o777) == 0,
            Some(had) => had == mode,
        };
        if !is_set || mode & RWX_USER != RWX_USER {
            self.replicator.set_folder_mode(path_in(self.to, path), mode)?;
        }
        Ok(Some(MadeFolder { device: stat.st_dev, is_new: had.is_none() }))
    }

    /// Removes folders again that others had removed from a copy that was resumed, as far as nothing had to come there.
    fn remove_unwanted(&self, folders: &[OutlineFolder<'_>], made: &[Option<MadeFolder>]) {
        let Some(over) = self.replicator.over.filter(|over| over.resumed) else { return };
        let is_new = |made: &Option<MadeFolder>| made.is_some_and(|made| made.is_new);
        // Those in it before the folder.
        for (folder, _) in folders.iter().zip(made).skip(1).rev().filter(|(_, made)| is_new(made)) {
            if !over.copied.has_below(&self.in_whole(folder.path)) {
                continue;
            }
            let (above, name) = dir::split(folder.path);
            let removed = dir::open_beneath(self.target.as_fd(), above)
                .and_then(|above| unlinkat(&above, name, AtFlags::REMOVEDIR));
            if removed.is_ok() {
                let path = path_in(self.to, folder.path);
                self.replicator.late_modes.lock().retain(|(late, _)| *late != path);
            }
        }
    }

    /// Does one task.
    fn fill(&self, task: &Task<'_>) -> Result<(), Error> {
        self.replicator.check_cancel()?;
        let target = self.open_target(task.folder.path)?;
        if let Some(below) = task.clear {
            self.clear(target.as_fd(), task.folder, below)?;
        }
        if task.names.is_empty() { Ok(()) } else { self.copy_names(target.as_fd(), task) }
    }

    /// Removes from `target`, a folder of the copy, what the outline does not name.
    fn clear(
        &self,
        target: BorrowedFd<'_>,
        folder: &OutlineFolder<'_>,
        below: &[&[u8]],
    ) -> Result<(), Error> {
        let Some(over) = self.replicator.over else { return Ok(()) };
        let mut named: HashSet<&[u8]> = folder.names.iter().chain(below).copied().collect();
        if folder.path.is_empty() {
            named.extend(self.part.not_ours);
        }
        let in_whole = self.in_whole(folder.path);
        let mut surplus = Vec::new();
        let listed = fault("list", || path_in(self.to, folder.path)).and_then(|()| {
            dir::for_each_entry(target, |name, kind| {
                let is_kept = || kind == FileType::Directory && over.kept.has(&dir::join(&in_whole, name));
                if !named.contains(name) && !is_kept() {
                    surplus.push(name.to_owned());
                }
            })
        });
        listed.map_err(|errno| FileError::write(path_in(self.to, folder.path), errno))?;
        for name in surplus {
            self.take_away(target, &name, &dir::join(folder.path, &name))?;
        }
        Ok(())
    }

    /// Takes out of the copy what is called `name` in a folder of it, if anything is.
    fn take_away(&self, folder: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<(), Error> {
        let Some(over) = self.replicator.over else { return Ok(()) };
        let taken = fault("remove", || path_in(self.to, path)).and_then(|()| over.aside.take(folder, name));
        Ok(taken.map_err(|errno| FileError::write(path_in(self.to, path), errno))?)
    }

    fn in_whole(&self, path: &[u8]) -> Vec<u8> {
        below(self.part.path, path)
    }

    fn copy_names(&self, target: BorrowedFd<'_>, task: &Task<'_>) -> Result<(), Error> {
        let Task { folder, made, names, .. } = *task;
        let replicator = self.replicator;
        let Some(source) = self.open_source(folder.path)? else { return Ok(()) };
        let could_share = replicator.may_share(made.device);
        let share = AtomicBool::new(could_share);
        let known = match replicator.over {
            Some(over) if !made.is_new || over.resumed => Some(over.copied.rows(&self.in_whole(folder.path))),
            _ => None,
        };
        let mut sums = Sums::default();
        let mut rows = Vec::with_capacity(names.len());
        for name in names {
            replicator.check_cancel()?;
            let file = File { whole: self, folder, share: &share, name };
            let source = source.as_fd();
            let stands = match &known {
                Some(known) if replicator.over.is_some_and(|over| over.resumed) => {
                    file.is_unedited(source, target, known)?
                }
                Some(known) => file.stands(source, target, known)?,
                None => Stands::No,
            };
            let row = match stands {
                Stands::As(from, to) => Some((from, to)),
                Stands::Gone => None,
                Stands::No => file.copy(source, target)?.map(|filled| {
                    sums.copied += 1;
                    sums.shared += u64::from(filled.is_shared);
                    (filled.from, filled.to)
                }),
            };
            if let Some((from, to)) = row {
                sums.files += 1;
                sums.bytes += to.file_size();
                rows.push(Row { name, from, to });
            }
        }
        if could_share && !share.into_inner() {
            replicator.cannot_share(made.device);
        }
        replicator.recording.add(self.in_whole(folder.path), &rows);
        replicator.files.fetch_add(sums.files, Ordering::Relaxed);
        replicator.bytes.fetch_add(sums.bytes, Ordering::Relaxed);
        replicator.copied.fetch_add(sums.copied, Ordering::Relaxed);
        replicator.shared.fetch_add(sums.shared, Ordering::Relaxed);
        Ok(())
    }
}

#[derive(Default)]
struct Sums {
    files: u64,
    bytes: u64,
    copied: u64,
    shared: u64,
}

/// The places of the folders but the root's, by how deep they are: each level needs those above it only.
fn levels(folders: &[OutlineFolder<'_>]) -> Vec<Vec<usize>> {
    let mut depths = vec![0; folders.len()];
    let mut levels: Vec<Vec<usize>> = Vec::new();
    for (place, folder) in folders.iter().enumerate().skip(1) {
        let depth: usize = depths[folder.parent];
        depths[place] = depth + 1;
        if levels.len() == depth {
            levels.push(Vec::new());
        }
        levels[depth].push(place);
    }
    levels
}

fn path_in(root: &Path, path: &[u8]) -> PathBuf {
    root.join(dir::to_path(path))
}

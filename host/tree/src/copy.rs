//! Files of one tree, copied into another: in parallel, through no symlink on either side.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use rayon::prelude::*;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, readlinkat, renameat, statat, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::dir::split;
use crate::error::{FirstError, Warnings};
use crate::fault::fault;
use crate::file::{self, CopyError, Source};
use crate::{Error, LeftOut, dir, link};

/// Files of one folder that one task copies at most: enough to pay for opening the folder.
const CHUNK: usize = 64;
/// Tasks that even a few files make, so that big ones are shared out.
const TASKS: usize = 16;

/// An open tree.
#[derive(Clone, Copy)]
pub(crate) struct OpenTree<'a> {
    /// For messages.
    pub(crate) path: &'a Path,
    pub(crate) root: BorrowedFd<'a>,
}

impl OpenTree<'_> {
    pub(crate) fn path_of(&self, path: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(path))
    }
}

/// From where files are copied to where, and what must not be.
#[derive(Clone, Copy)]
pub(crate) struct CopyJob<'a> {
    pub(crate) from: OpenTree<'a>,
    pub(crate) to: OpenTree<'a>,
    /// Targets of symlinks that must not be written.
    pub(crate) refuse: &'a (dyn Fn(&Path) -> bool + Sync),
    pub(crate) cancel: &'a AtomicBool,
}

/// The files that were copied.
#[derive(Default)]
pub(crate) struct Copied {
    /// In the order of their bytes.
    pub(crate) files: Vec<Vec<u8>>,
    pub(crate) bytes: u64,
}

/// Copies the files and symlinks at `paths`, with their permissions and times, over what is there. Folders
/// are made where they are missing. What cannot be copied is left out with a warning.
pub(crate) fn copy(
    what: CopyJob<'_>,
    mut paths: Vec<Vec<u8>>,
    warnings: &Mutex<Warnings>,
) -> Result<Copied, Error> {
    let by_folder = |one: &Vec<u8>, other: &Vec<u8>| split(one).cmp(&split(other));
    paths.par_sort_unstable_by(by_folder);
    paths.dedup();
    let chunk = (paths.len() / TASKS).clamp(1, CHUNK);
    let tasks: Vec<&[Vec<u8>]> = paths
        .chunk_by(|one, other| split(one).0 == split(other).0)
        .flat_map(|paths| paths.chunks(chunk))
        .collect();
    let copying = Copying {
        what,
        warnings,
        share: AtomicBool::new(true),
        copied: Mutex::default(),
        failure: FirstError::new(what.cancel),
    };
    tasks.into_par_iter().with_max_len(1).for_each(|paths| copying.task(paths));
    copying.failure.into_result(Error::Cancelled)?;
    let mut copied = copying.copied.into_inner();
    copied.files.par_sort_unstable();
    Ok(copied)
}

/// A name for what is not to be seen under its own yet.
pub(crate) fn random_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    // Seeded by the system once a process, and never twice the same.
    format!(".loom-{}-{:016x}", std::process::id(), RandomState::new().hash_one(()))
}

struct Copying<'a> {
    what: CopyJob<'a>,
    warnings: &'a Mutex<Warnings>,
    /// Whether the two trees can share data, as far as is known.
    share: AtomicBool,
    copied: Mutex<Copied>,
    failure: FirstError<'a, Error>,
}

/// The outcome for one file: its size in bytes, or the reason why it was left out.
enum Outcome {
    Copied(u64),
    LeftOut(LeftOut),
    Refused,
}

impl From<LeftOut> for Outcome {
    fn from(why: LeftOut) -> Self {
        Self::LeftOut(why)
    }
}

impl Copying<'_> {
    /// Copies files of one folder.
    fn task(&self, paths: &[Vec<u8>]) {
        let mut done = Copied::default();
        if let Err(error) = self.files(paths, &mut done) {
            self.failure.set(error);
        }
        let mut copied = self.copied.lock();
        copied.files.append(&mut done.files);
        copied.bytes += done.bytes;
    }

    fn files(&self, paths: &[Vec<u8>], done: &mut Copied) -> Result<(), Error> {
        let Some(first) = paths.first() else { return Ok(()) };
        let folder = split(first).0;
        let source = dir::open_beneath(self.what.from.root, folder);
        let mut target = None;
        for path in paths {
            if self.failure.is_set() {
                return Ok(());
            }
            let file = match &source {
                Ok(source) => File { copying: self, path, source: source.as_fd() }.copy(&mut target)?,
                Err(errno) => LeftOut::of(&self.what.from.path_of(path), *errno)?.into(),
            };
            let warnings = || self.warnings.lock();
            match file {
                Outcome::Copied(bytes) => {
                    done.files.push(path.clone());
                    done.bytes += bytes;
                }
                Outcome::LeftOut(why) => warnings().push(dir::to_path(path), why),
                Outcome::Refused => warnings().refuse(),
            }
        }
        Ok(())
    }

    /// Opens a folder of the tree that is written to; makes it, and those above it, as they are in the other
    /// tree.
    fn open_target(&self, folder: &[u8]) -> Result<OwnedFd, Error> {
        let CopyJob { from, to, .. } = self.what;
        if let Ok(open) = dir::open_beneath(to.root, folder) {
            return Ok(open);
        }
        // Most often only the last one is missing.
        let above = split(folder).0;
        let begin = |at: &[u8]| {
            Ok::<_, Errno>((dir::open_beneath(from.root, at).ok(), dir::open_beneath(to.root, at)?))
        };
        let (mut source, mut target, mut at) = match begin(above) {
            Ok((source, target)) => (source, target, above.len()),
            Err(_) => {
                let (source, target) = begin(b"").map_err(|errno| Error::write(to.path, errno))?;
                (source, target, 0)
            }
        };
        for name in folder[at..].split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            at += name.len() + usize::from(at > 0);
            let path = || to.path_of(&folder[..at]);
            source = source.and_then(|source| dir::open_child(source.as_fd(), name).ok());
            target = match dir::open_child(target.as_fd(), name) {
                Err(Errno::NOENT) => {
                    let stat = source.as_ref().and_then(|source| fstat(source).ok());
                    // The owner must be able to fill it, and to remove it.
                    let mode = Mode::from_raw_mode(stat.map_or(0, |stat| stat.st_mode & 0o777)) | Mode::RWXU;
                    match fault("create", path).and_then(|()| mkdirat(&target, name, mode)) {
                        // Another task was quicker.
                        Ok(()) | Err(Errno::EXIST) => dir::open_child(target.as_fd(), name),
                        Err(errno) => Err(errno),
                    }
                }
                Err(Errno::LOOP | Errno::NOTDIR) => return Err(in_the_way(target.as_fd(), name, path())),
                opened => opened,
            }
            .map_err(|errno| Error::write(path(), errno))?;
        }
        Ok(target)
    }
}

/// One file or symlink.
struct File<'a> {
    copying: &'a Copying<'a>,
    path: &'a [u8],
    /// The folder that it is in.
    source: BorrowedFd<'a>,
}

impl File<'_> {
    /// `target` is the folder that it comes into, once that is open.
    fn copy(&self, target: &mut Option<OwnedFd>) -> Result<Outcome, Error> {
        let stat = match statat(self.source, self.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) => return self.unreadable(errno),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.copy_data(target),
            FileType::Symlink => self.copy_link(&stat, target),
            kind => Ok(LeftOut::special(kind).into()),
        }
    }

    fn copy_data(&self, target: &mut Option<OwnedFd>) -> Result<Outcome, Error> {
        let Copying { what, share, .. } = self.copying;
        // It may have become something else.
        let opened = fault("open", || what.from.path_of(self.path));
        let (from, stat) = match opened.and_then(|()| Source::open(self.source, self.name())) {
            Ok(Source::File(from, stat)) => (from, stat),
            Ok(Source::Symlink) => return Ok(LeftOut::Vanished.into()),
            Ok(Source::Other(kind)) => return Ok(LeftOut::special(kind).into()),
            Err(errno) => return self.unreadable(errno),
        };
        // The owner must be able to read it: whoever copied it could.
        let mode = Mode::from_raw_mode(stat.st_mode & 0o777) | Mode::RUSR;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = |folder: BorrowedFd<'_>, name: &[u8]| openat(folder, name, flags, mode);
        self.put(target, create, |_, _, to| {
            let there = fstat(&to).map_err(CopyError::Write)?.st_mode & 0o7777;
            let wrong = (Mode::from_raw_mode(there) != mode).then_some(mode);
            Ok(file::fill(from.as_fd(), to.as_fd(), &stat, wrong, share, what.cancel)?.bytes)
        })
    }

    fn copy_link(&self, stat: &Stat, target: &mut Option<OwnedFd>) -> Result<Outcome, Error> {
        let CopyJob { from, refuse, .. } = self.copying.what;
        let to = match readlinkat(self.source, self.name(), Vec::new()) {
            Ok(to) => to.into_bytes(),
            // No symlink any more.
            Err(Errno::INVAL) => return Ok(LeftOut::Vanished.into()),
            Err(errno) => return self.unreadable(errno),
        };
        let shown = Path::new(OsStr::from_bytes(&to));
        if refuse(shown) {
            return Ok(Outcome::Refused);
        }
        if let Err(why) = link::check_link(from.root, self.path, &to) {
            return Ok(LeftOut::Link { target: shown.to_owned(), why }.into());
        }
        let create = |folder: BorrowedFd<'_>, name: &[u8]| symlinkat(&*to, folder, name);
        self.put(target, create, |folder, name, ()| {
            utimensat(folder, name, &file::modified(stat), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(CopyError::Write)?;
            Ok(0)
        })
    }

    /// Creates something and fills it: under another name if there is something in its place, which it then
    /// replaces. So nothing is written through what is there.
    fn put<T>(
        &self,
        target: &mut Option<OwnedFd>,
        create: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
        fill: impl FnOnce(BorrowedFd<'_>, &[u8], T) -> Result<u64, CopyError>,
    ) -> Result<Outcome, Error> {
        let to = self.copying.what.to;
        let cannot = |errno| Error::write(to.path_of(self.path), errno);
        let folder = match target {
            Some(target) => &*target,
            None => target.insert(self.copying.open_target(split(self.path).0)?),
        };
        let folder = folder.as_fd();
        let fault = |doing| fault(doing, || to.path_of(self.path));
        let (name, created) = match fault("create").and_then(|()| create(folder, self.name())) {
            Ok(created) => (None, created),
            Err(Errno::EXIST) => {
                let beside = random_name().into_bytes();
                let created = fault("create").and_then(|()| create(folder, &beside)).map_err(cannot)?;
                (Some(beside), created)
            }
            Err(errno) => return Err(cannot(errno)),
        };
        let first = name.as_deref().unwrap_or(self.name());
        let filled = fault("write").map_err(CopyError::Write).and_then(|()| fill(folder, first, created));
        let made = filled.and_then(|bytes| {
            if name.is_some() {
                fault("rename").map_err(CopyError::Write)?;
                renameat(folder, first, folder, self.name()).map_err(CopyError::Write)?;
            }
            Ok(bytes)
        });
        if made.is_err() {
            // Half a file is none. Where it cannot be removed, the act fails all the same.
            let _ = unlinkat(folder, first, AtFlags::empty());
        }
        match made {
            Ok(bytes) => Ok(Outcome::Copied(bytes)),
            Err(CopyError::Read(errno)) => self.unreadable(errno),
            Err(CopyError::Write(Errno::ISDIR)) => {
                Err(in_the_way(folder, self.name(), to.path_of(self.path)))
            }
            Err(CopyError::Write(errno)) => Err(cannot(errno)),
            Err(CopyError::Cancelled) => Err(Error::Cancelled),
        }
    }

    fn unreadable(&self, errno: Errno) -> Result<Outcome, Error> {
        Ok(Outcome::LeftOut(LeftOut::of(&self.copying.what.from.path_of(self.path), errno)?))
    }

    fn name(&self) -> &[u8] {
        split(self.path).1
    }
}

fn in_the_way(folder: BorrowedFd<'_>, name: &[u8], path: PathBuf) -> Error {
    let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    let what = match stat.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::Directory) => "a folder",
        Ok(FileType::Symlink) => "a symlink",
        _ => "a file",
    };
    Error::InTheWay { path, what }
}

//! The second pass of a restore: what is missing is written, block by block and object by object, in
//! parallel.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicBool;

use loom_tree::{FirstError, dir};
use parking_lot::Mutex;
use rayon::prelude::*;
use rustix::fs::{
    AtFlags, Mode, OFlags, fchmod, fstat, futimens, openat, renameat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::compare::WriteMode;
use super::context::{RestoreContext, unlink};
use crate::digest::Digest;
use crate::index::Seen;
use crate::io::random_name;
use crate::manifest::{Block, Content};
use crate::object::{self, CopyError, write_at};
use crate::pack::{BlockAt, Unpacker, Unreadable};
use crate::{Error, io};

/// Empty files and symlinks that one task makes.
const CHUNK: usize = 256;

/// The files and folders that a restore has made, so that it can be taken back.
#[derive(Default)]
pub(super) struct Created {
    pub(super) folders: Vec<usize>,
    pub(super) files: Vec<usize>,
}

impl Created {
    /// Removes what was made, as far as that is possible.
    pub(super) fn undo(mut self, context: &RestoreContext<'_>) {
        let folder_of = folders_of(context);
        let mut at = OpenFolder::default();
        for item in self.files {
            let folder = folder_of[item];
            if let Ok(open) = at.open(context, folder) {
                unlink(open, context.manifest.name(item));
            }
        }
        // From below.
        self.folders.sort_unstable_by(|one, other| other.cmp(one));
        for folder in self.folders {
            let parent = context.manifest.folders[folder].parent as usize;
            if let Ok(open) = at.open(context, parent) {
                let _ = unlinkat(open, context.manifest.folder_name(folder), AtFlags::REMOVEDIR);
            }
        }
    }
}

/// Files that are written as one.
enum WriteTask<'a> {
    Block(u32, &'a [WriteJob]),
    Object(WriteJob),
    Plain(&'a [WriteJob]),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct WriteJob {
    source: ContentSource,
    item: usize,
    how: WriteMode,
}

/// The source of an item's content, in the order in which that is restored: what takes longest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ContentSource {
    Object,
    Block(u32),
    Nowhere,
}

/// Writes the items of `todo`. Returns what was seen of them; `created` says what there is, also after an
/// error.
pub(super) fn write(
    context: &RestoreContext<'_>,
    todo: Vec<(usize, WriteMode)>,
    created: &mut Created,
) -> Result<Vec<(usize, Option<Seen>)>, Error> {
    if todo.is_empty() {
        return Ok(Vec::new());
    }
    let mut jobs: Vec<WriteJob> = todo
        .into_iter()
        .map(|(item, how)| {
            let source = match context.manifest.items[item].content {
                Content::Packed { block, .. } => ContentSource::Block(block),
                Content::Object(_) => ContentSource::Object,
                Content::Empty | Content::Link { .. } => ContentSource::Nowhere,
            };
            WriteJob { source, item, how }
        })
        .collect();
    jobs.par_sort_unstable();
    let tasks: Vec<WriteTask<'_>> = jobs
        .chunk_by(|one, other| one.source == other.source)
        .flat_map(|jobs| -> Vec<WriteTask<'_>> {
            match jobs[0].source {
                ContentSource::Object => jobs.iter().copied().map(WriteTask::Object).collect(),
                ContentSource::Block(block) => vec![WriteTask::Block(block, jobs)],
                ContentSource::Nowhere => jobs.chunks(CHUNK).map(WriteTask::Plain).collect(),
            }
        })
        .collect();
    let folder_of = folders_of(context);
    let writer = RestoreWriter {
        context,
        folder_of: &folder_of,
        share: AtomicBool::new(true),
        unpackers: Mutex::default(),
        made: Mutex::default(),
        seen: Mutex::default(),
        failure: FirstError::new(context.cancel),
    };
    tasks.into_par_iter().with_max_len(1).for_each(|task| writer.task(&task));
    created.files = writer.made.into_inner();
    writer.failure.into_result(Error::Cancelled)?;
    Ok(writer.seen.into_inner())
}

struct RestoreWriter<'a> {
    context: &'a RestoreContext<'a>,
    folder_of: &'a [usize],
    /// Whether the store and the tree can share data, as far as is known.
    share: AtomicBool,
    unpackers: Mutex<Vec<Unpacker>>,
    made: Mutex<Vec<usize>>,
    seen: Mutex<Vec<(usize, Option<Seen>)>>,
    failure: FirstError<'a, Error>,
}

/// The files that one task has written.
#[derive(Default)]
struct TaskResult {
    made: Vec<usize>,
    seen: Vec<(usize, Option<Seen>)>,
}

impl RestoreWriter<'_> {
    fn task(&self, task: &WriteTask<'_>) {
        if self.failure.is_set() {
            return;
        }
        let mut done = TaskResult::default();
        let result = match *task {
            WriteTask::Block(block, jobs) => self.block(block, jobs, &mut done),
            WriteTask::Object(job) => self.object(job, &mut done),
            WriteTask::Plain(jobs) => self.plain(jobs, &mut done),
        };
        if let Err(error) = result {
            self.failure.set(error);
        }
        self.made.lock().extend(done.made);
        self.seen.lock().extend(done.seen);
    }

    fn block(&self, block: u32, jobs: &[WriteJob], done: &mut TaskResult) -> Result<(), Error> {
        let RestoreContext { manifest, entry, .. } = *self.context;
        let Block { pack, at, stored, raw } = manifest.blocks[block as usize];
        let path = entry.layout.pack(manifest.packs[pack as usize].id);
        let unpacker = self.unpackers.lock().pop();
        let mut unpacker = match unpacker {
            Some(unpacker) => unpacker,
            None => Unpacker::new().map_err(|error| Error::read(&path, error))?,
        };
        let content = match unpacker.read(&path, BlockAt { at, stored, raw }) {
            Ok(content) => content,
            Err(Unreadable::Broken(why)) => return Err(entry.damaged(path, why)),
            Err(Unreadable::System(error)) => return Err(Error::read(path, error)),
        };
        let mut folder = OpenFolder::default();
        for &job in jobs {
            if self.failure.is_set() {
                return Ok(());
            }
            let Content::Packed { offset, size, digest, .. } = manifest.items[job.item].content else {
                continue;
            };
            let bytes = content.get(offset as usize..).and_then(|rest| rest.get(..size as usize));
            let Some(bytes) = bytes.filter(|bytes| Digest::of(bytes) == digest) else {
                return Err(entry.damaged(path, "holds a file whose content is not what was saved"));
            };
            self.file(job, &mut folder, done, |to| {
                write_at(to, bytes, 0).map_err(|errno| self.cannot(job.item, errno))
            })?;
        }
        self.unpackers.lock().push(unpacker);
        Ok(())
    }

    fn object(&self, job: WriteJob, done: &mut TaskResult) -> Result<(), Error> {
        let RestoreContext { manifest, entry, cancel, .. } = *self.context;
        let Some((size, digest)) = manifest.data(job.item) else { return Ok(()) };
        let path = entry.layout.object(digest);
        let from = io::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => entry.damaged(path.clone(), "is missing"),
            _ => Error::read(&path, error),
        })?;
        self.file(job, &mut OpenFolder::default(), done, |to| {
            match object::restore(from.as_fd(), to, size, &self.share, cancel) {
                Ok(found) if found == digest => Ok(()),
                Ok(_) => Err(entry.damaged(path.clone(), "is not what its name says")),
                Err(CopyError::Short) => Err(entry.damaged(path.clone(), "is too short")),
                Err(CopyError::Read(errno)) => Err(Error::read(&path, errno)),
                Err(CopyError::Write(errno)) => Err(self.cannot(job.item, errno)),
                Err(CopyError::Cancelled) => Err(Error::Cancelled),
            }
        })
    }

    fn plain(&self, jobs: &[WriteJob], done: &mut TaskResult) -> Result<(), Error> {
        let mut folder = OpenFolder::default();
        for &job in jobs {
            if self.failure.is_set() {
                return Ok(());
            }
            match self.context.manifest.items[job.item].content {
                Content::Link { .. } => self.link(job, &mut folder, done)?,
                _ => self.file(job, &mut folder, done, |_| Ok(()))?,
            }
        }
        Ok(())
    }

    /// Makes a file, which `fill` fills.
    fn file(
        &self,
        job: WriteJob,
        at: &mut OpenFolder,
        done: &mut TaskResult,
        fill: impl FnOnce(BorrowedFd<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let item = job.item;
        let name = self.context.manifest.name(item);
        let meta = self.context.manifest.items[item].meta;
        let mode = u32::from(meta.mode & 0o1777);
        let folder = at.open(self.context, self.folder_of[item]).map_err(|errno| self.cannot(item, errno))?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let beside = (job.how == WriteMode::Replace).then(|| format!(".loom-{}", random_name()));
        let first = beside.as_ref().map_or(name, |beside| beside.as_bytes());
        let file = self
            .fault("create", item)
            .and_then(|()| openat(folder, first, flags, Mode::from_raw_mode(mode & 0o777)))
            .map_err(|errno| self.cannot(item, errno))?;
        if beside.is_none() {
            done.made.push(item);
        }
        let finish = || -> Result<Seen, Error> {
            self.fault("write", item).map_err(|errno| self.cannot(item, errno))?;
            fill(file.as_fd())?;
            let finish = || -> Result<Seen, Errno> {
                self.fault("set the time of", item)?;
                futimens(&file, &meta.time.to_set())?;
                let mut stat = fstat(&file)?;
                let wrong = stat.st_mode & 0o7777 != mode;
                if wrong {
                    self.fault("set the mode of", item)?;
                    fchmod(&file, Mode::from_raw_mode(mode))?;
                }
                if let Some(beside) = &beside {
                    self.fault("rename", item)?;
                    renameat(folder, beside.as_bytes(), folder, name)?;
                }
                if wrong || beside.is_some() {
                    stat = fstat(&file)?;
                }
                Ok(Seen::of(&stat))
            };
            finish().map_err(|errno| self.cannot(item, errno))
        };
        match finish() {
            Ok(seen) => {
                if beside.is_some() {
                    done.made.push(item);
                }
                done.seen.push((item, Some(seen)));
                Ok(())
            }
            Err(error) => {
                if let Some(beside) = beside {
                    unlink(folder, beside.as_bytes());
                }
                Err(error)
            }
        }
    }

    fn link(&self, job: WriteJob, at: &mut OpenFolder, done: &mut TaskResult) -> Result<(), Error> {
        let item = job.item;
        let manifest = self.context.manifest;
        let (name, target) = (manifest.name(item), manifest.target(item));
        let folder = at.open(self.context, self.folder_of[item]).map_err(|errno| self.cannot(item, errno))?;
        let beside = (job.how == WriteMode::Replace).then(|| format!(".loom-{}", random_name()));
        let first = beside.as_ref().map_or(name, |beside| beside.as_bytes());
        self.fault("create", item)
            .and_then(|()| symlinkat(target, folder, first))
            .map_err(|errno| self.cannot(item, errno))?;
        let finish = || -> Result<(), Errno> {
            self.fault("set the time of", item)?;
            utimensat(folder, first, &manifest.items[item].meta.time.to_set(), AtFlags::SYMLINK_NOFOLLOW)?;
            let Some(beside) = &beside else { return Ok(()) };
            self.fault("rename", item)?;
            renameat(folder, beside.as_bytes(), folder, name)
        };
        if let Err(errno) = finish() {
            unlink(folder, first);
            return Err(self.cannot(item, errno));
        }
        done.made.push(item);
        done.seen.push((item, None));
        Ok(())
    }

    fn cannot(&self, item: usize, errno: Errno) -> Error {
        self.context.cannot(&self.path(item), errno)
    }

    /// See [`RestoreContext::fault`].
    fn fault(&self, doing: &'static str, item: usize) -> Result<(), Errno> {
        // The path is made for tests alone.
        if cfg!(test) { self.context.fault(doing, &self.path(item)) } else { Ok(()) }
    }

    fn path(&self, item: usize) -> Vec<u8> {
        let manifest = self.context.manifest;
        dir::join(&manifest.path(self.folder_of[item]), manifest.name(item))
    }
}

/// The folder that was opened last.
#[derive(Default)]
struct OpenFolder(Option<(usize, OwnedFd)>);

impl OpenFolder {
    fn open(&mut self, context: &RestoreContext<'_>, folder: usize) -> Result<BorrowedFd<'_>, Errno> {
        if self.0.as_ref().is_none_or(|(at, _)| *at != folder) {
            self.0 = Some((folder, dir::open_beneath(context.root, &context.manifest.path(folder))?));
        }
        self.0.as_ref().map(|(_, open)| open.as_fd()).ok_or(Errno::BADF)
    }
}

/// For each item: the folder that it is in.
fn folders_of(context: &RestoreContext<'_>) -> Vec<usize> {
    let mut folders = vec![0; context.manifest.items.len()];
    for folder in 0..context.manifest.folders.len() {
        folders[context.manifest.items_of(folder)].fill(folder);
    }
    folders
}

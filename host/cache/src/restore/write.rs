//! The second pass of a restore: what is missing is written, block by block and object by object, in parallel.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicBool;

use loom_tree::dir;
use rayon::prelude::*;
use rustix::fs::{
    AtFlags, Mode, OFlags, fchmod, fstat, futimens, openat, renameat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::compare::{How, cannot};
use super::{Scene, unlink};
use crate::Error;
use crate::digest::Digest;
use crate::error::FirstError;
use crate::index::Seen;
use crate::layout::{self, random_name};
use crate::manifest::{Block, Content};
use crate::object::{self, Failed, write_at};
use crate::pack::{BlockAt, Unpacker, Unreadable};
use crate::shared::Shared;

/// Empty files and symlinks that one task makes.
const CHUNK: usize = 256;

/// What a restore has made, so that it can be taken back.
#[derive(Default)]
pub(super) struct Made {
    pub(super) folders: Vec<usize>,
    pub(super) files: Vec<usize>,
}

impl Made {
    /// Removes what was made, as far as that is possible.
    pub(super) fn undo(mut self, scene: &Scene<'_>) {
        let folder_of = folders_of(scene);
        let mut at = At::default();
        for item in self.files {
            let folder = folder_of[item];
            if let Ok(open) = at.open(scene, folder) {
                unlink(open, scene.manifest.name(item));
            }
        }
        // From below.
        self.folders.sort_unstable_by(|one, other| other.cmp(one));
        for folder in self.folders {
            let parent = scene.manifest.folders[folder].parent as usize;
            if let Ok(open) = at.open(scene, parent) {
                let _ = unlinkat(open, scene.manifest.folder_name(folder), AtFlags::REMOVEDIR);
            }
        }
    }
}

/// What is written as one.
enum Task<'a> {
    Block(u32, &'a [Job]),
    Object(Job),
    Plain(&'a [Job]),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Job {
    source: Source,
    item: usize,
    how: How,
}

/// Where an item's content comes from, in the order in which that is restored: what takes longest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Object,
    Block(u32),
    Nowhere,
}

/// Writes the items of `todo`. Returns what was seen of them; `made` says what there is, also after an error.
pub(super) fn write(
    scene: &Scene<'_>,
    todo: Vec<(usize, How)>,
    made: &mut Made,
) -> Result<Vec<(usize, Option<Seen>)>, Error> {
    if todo.is_empty() {
        return Ok(Vec::new());
    }
    let mut jobs: Vec<Job> = todo
        .into_iter()
        .map(|(item, how)| {
            let source = match scene.manifest.items[item].content {
                Content::Packed { block, .. } => Source::Block(block),
                Content::Object(_) => Source::Object,
                Content::Empty | Content::Link { .. } => Source::Nowhere,
            };
            Job { source, item, how }
        })
        .collect();
    jobs.par_sort_unstable();
    let tasks: Vec<Task<'_>> = jobs
        .chunk_by(|one, other| one.source == other.source)
        .flat_map(|jobs| -> Vec<Task<'_>> {
            match jobs[0].source {
                Source::Object => jobs.iter().copied().map(Task::Object).collect(),
                Source::Block(block) => vec![Task::Block(block, jobs)],
                Source::Nowhere => jobs.chunks(CHUNK).map(Task::Plain).collect(),
            }
        })
        .collect();
    let folder_of = folders_of(scene);
    let writer = Writer {
        scene,
        folder_of: &folder_of,
        share: AtomicBool::new(true),
        unpackers: Shared::default(),
        made: Shared::default(),
        seen: Shared::default(),
        failure: FirstError::new(scene.cancel),
    };
    tasks.into_par_iter().with_max_len(1).for_each(|task| writer.task(&task));
    made.files = writer.made.into_inner();
    writer.failure.into_result()?;
    Ok(writer.seen.into_inner())
}

struct Writer<'a> {
    scene: &'a Scene<'a>,
    folder_of: &'a [usize],
    /// Whether the store and the tree can share data, as far as is known.
    share: AtomicBool,
    unpackers: Shared<Vec<Unpacker>>,
    made: Shared<Vec<usize>>,
    seen: Shared<Vec<(usize, Option<Seen>)>>,
    failure: FirstError<'a>,
}

/// What one task has done.
#[derive(Default)]
struct Done {
    made: Vec<usize>,
    seen: Vec<(usize, Option<Seen>)>,
}

impl Writer<'_> {
    fn task(&self, task: &Task<'_>) {
        if self.failure.is_set() {
            return;
        }
        let mut done = Done::default();
        let result = match *task {
            Task::Block(block, jobs) => self.block(block, jobs, &mut done),
            Task::Object(job) => self.object(job, &mut done),
            Task::Plain(jobs) => self.plain(jobs, &mut done),
        };
        if let Err(error) = result {
            self.failure.set(error);
        }
        self.made.lock().extend(done.made);
        self.seen.lock().extend(done.seen);
    }

    fn block(&self, block: u32, jobs: &[Job], done: &mut Done) -> Result<(), Error> {
        let Scene { manifest, entry, .. } = *self.scene;
        let Block { pack, at, stored, raw } = manifest.blocks[block as usize];
        let path = entry.store.layout().pack(manifest.packs[pack as usize].id);
        let unpacker = self.unpackers.lock().pop();
        let mut unpacker = match unpacker {
            Some(unpacker) => unpacker,
            None => Unpacker::new().map_err(|error| Error::read_io(&path, error))?,
        };
        let content = match unpacker.read(&path, BlockAt { at, stored, raw }) {
            Ok(content) => content,
            Err(Unreadable::Broken(why)) => return Err(entry.damaged(path, why)),
            Err(Unreadable::System(error)) => return Err(Error::read_io(path, error)),
        };
        let mut folder = At::default();
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

    fn object(&self, job: Job, done: &mut Done) -> Result<(), Error> {
        let Scene { manifest, entry, cancel, .. } = *self.scene;
        let Some((size, digest)) = manifest.data(job.item) else { return Ok(()) };
        let path = entry.store.layout().object(digest);
        let from = layout::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => entry.damaged(path.clone(), "is missing"),
            _ => Error::read_io(&path, error),
        })?;
        self.file(job, &mut At::default(), done, |to| {
            match object::restore(from.as_fd(), to, size, &self.share, cancel) {
                Ok(found) if found == digest => Ok(()),
                Ok(_) => Err(entry.damaged(path.clone(), "is not what its name says")),
                Err(Failed::Short) => Err(entry.damaged(path.clone(), "is too short")),
                Err(Failed::Read(errno)) => Err(Error::read(&path, errno)),
                Err(Failed::Write(errno)) => Err(self.cannot(job.item, errno)),
                Err(Failed::Cancelled) => Err(Error::Cancelled),
            }
        })
    }

    fn plain(&self, jobs: &[Job], done: &mut Done) -> Result<(), Error> {
        let mut folder = At::default();
        for &job in jobs {
            if self.failure.is_set() {
                return Ok(());
            }
            match self.scene.manifest.items[job.item].content {
                Content::Link { .. } => self.link(job, &mut folder, done)?,
                _ => self.file(job, &mut folder, done, |_| Ok(()))?,
            }
        }
        Ok(())
    }

    /// Makes a file, which `fill` fills.
    fn file(
        &self,
        job: Job,
        at: &mut At,
        done: &mut Done,
        fill: impl FnOnce(BorrowedFd<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let item = job.item;
        let name = self.scene.manifest.name(item);
        let meta = self.scene.manifest.items[item].meta;
        let mode = u32::from(meta.mode & 0o1777);
        let folder = at.open(self.scene, self.folder_of[item]).map_err(|errno| self.cannot(item, errno))?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let beside = (job.how == How::Replace).then(|| format!(".loom-{}", random_name()));
        let first = beside.as_ref().map_or(name, |beside| beside.as_bytes());
        let file = openat(folder, first, flags, Mode::from_raw_mode(mode & 0o777))
            .map_err(|errno| self.cannot(item, errno))?;
        if beside.is_none() {
            done.made.push(item);
        }
        let finish = || -> Result<Seen, Error> {
            fill(file.as_fd())?;
            let finish = || -> Result<Seen, Errno> {
                futimens(&file, &meta.time.to_set())?;
                let mut stat = fstat(&file)?;
                let wrong = stat.st_mode & 0o7777 != mode;
                if wrong {
                    fchmod(&file, Mode::from_raw_mode(mode))?;
                }
                if let Some(beside) = &beside {
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

    fn link(&self, job: Job, at: &mut At, done: &mut Done) -> Result<(), Error> {
        let item = job.item;
        let manifest = self.scene.manifest;
        let (name, target) = (manifest.name(item), manifest.target(item));
        let folder = at.open(self.scene, self.folder_of[item]).map_err(|errno| self.cannot(item, errno))?;
        let beside = (job.how == How::Replace).then(|| format!(".loom-{}", random_name()));
        let first = beside.as_ref().map_or(name, |beside| beside.as_bytes());
        symlinkat(target, folder, first).map_err(|errno| self.cannot(item, errno))?;
        let finish = || -> Result<(), Errno> {
            utimensat(folder, first, &manifest.items[item].meta.time.to_set(), AtFlags::SYMLINK_NOFOLLOW)?;
            match &beside {
                Some(beside) => renameat(folder, beside.as_bytes(), folder, name),
                None => Ok(()),
            }
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
        let manifest = self.scene.manifest;
        let path = dir::join(&manifest.path(self.folder_of[item]), manifest.name(item));
        cannot(self.scene, &path, errno)
    }
}

/// The folder that was opened last.
#[derive(Default)]
struct At(Option<(usize, OwnedFd)>);

impl At {
    fn open(&mut self, scene: &Scene<'_>, folder: usize) -> Result<BorrowedFd<'_>, Errno> {
        if self.0.as_ref().is_none_or(|(at, _)| *at != folder) {
            self.0 = Some((folder, dir::open_beneath(scene.root, &scene.manifest.path(folder))?));
        }
        self.0.as_ref().map(|(_, open)| open.as_fd()).ok_or(Errno::BADF)
    }
}

/// By item: the folder that it is in.
fn folders_of(scene: &Scene<'_>) -> Vec<usize> {
    let mut folders = vec![0; scene.manifest.items.len()];
    for folder in 0..scene.manifest.folders.len() {
        folders[scene.manifest.items_of(folder)].fill(folder);
    }
    folders
}

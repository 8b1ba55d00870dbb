//! Restoring: the tree is compared with the entry, what is right is left alone, what does not belong is removed, what is
//! missing is written. Afterwards what the patterns name equals the entry.

mod compare;
mod folders;
mod plan;
mod write;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use fs_err as fs;
use loom_tree::{Patterns, dir};
use rustix::fs::{AtFlags, fstat, unlinkat};

use crate::clock::FsClock;
use crate::digest::Digest;
use crate::entry::{Entry, Pointer};
use crate::index::{self, Index, Seen};
use crate::layout::{self, random_name, real};
use crate::lock::{To, lock_tree};
use crate::manifest::Manifest;
use crate::store::Damage;
use crate::{Error, Tracked, Warning, sealed};
use plan::Plan;

/// Longer than a tick of the clock on a file system of today.
const TICK: Duration = Duration::from_millis(50);

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// How many files and symlinks of the entry the tree now holds.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// How many of them were written.
    pub written: u64,
    /// How many were there already; some may have got other permissions or times.
    pub unchanged: u64,
    /// How many files and symlinks were removed because the entry does not hold them.
    pub removed: u64,
    /// What the entry holds and was not restored, and what could not be looked at.
    pub warnings: Vec<Warning>,
}

impl Entry {
    /// Makes what `patterns` name below `tree` equal to the entry. Files that are right already are left alone; files
    /// that replace others appear whole; files that the entry does not hold are removed; `.git` at the root and what is
    /// `tracked` are left alone. Nothing that the patterns do not name is written or removed, but for folders that lead to what they name, which are made where missing. Restores
    /// to one tree, and saves of it, wait for one another.
    ///
    /// # Errors
    /// Content of the entry is damaged ([`Error::Damaged`]; the entry is set aside) or the entry is no longer there
    /// ([`Error::Gone`]): both mean a miss. The patterns name the store itself ([`Error::StoreWithin`]). Something may not be written ([`Error::Refused`]) or cannot be, or the caller
    /// cancelled. After an error, what the restore had written is removed again; what it removed stays removed.
    pub fn restore(
        &self,
        tree: &Path,
        patterns: &[String],
        tracked: &Tracked,
        cancel: &AtomicBool,
    ) -> Result<Restored, Error> {
        let patterns = Patterns::new(patterns)?;
        let real_tree = real(tree);
        self.store.check_outside(&real_tree, &patterns)?;
        let _lease = Lease::take(self)?;
        let root = dir::open_root(tree).map_err(|errno| Error::read(tree, errno))?;
        lock_tree(root.as_fd(), To::Write, cancel)?;
        let root_stat = fstat(&root).map_err(|errno| Error::read(tree, errno))?;
        let layout = self.store.layout();
        let at_hand = Some((self.digest, &self.manifest));
        let base = Index::load(layout, &real_tree, &root_stat, &self.info.name, at_hand)
            .unwrap_or_else(Index::nothing);
        let plan = Plan::new(&self.manifest, &patterns, tracked, tree);
        let scene = Scene {
            entry: self,
            manifest: &self.manifest,
            tree,
            root: root.as_fd(),
            plan: &plan,
            tracked,
            cancel,
        };

        let mut compared = compare::compare(&scene, &patterns, &base)?;
        let todo = std::mem::take(&mut compared.todo);
        let written = todo.len() as u64;
        let mut made = write::Made { folders: std::mem::take(&mut compared.made), files: Vec::new() };
        let done = match compared.failed.take() {
            Some(error) => Err(error),
            None => write::write(&scene, todo, &mut made)
                .and_then(|seen| folders::finish(&scene, &compared.dirty).map(|()| seen)),
        };
        let seen = match done {
            Ok(seen) => seen,
            Err(error) => {
                made.undo(&scene);
                return Err(self.judge(error));
            }
        };
        if !seen.is_empty() || !compared.seen.is_empty() || base.digest != self.digest {
            let seen = self.remember(&base, root.as_fd(), compared.seen.into_iter().chain(seen));
            index::store(layout, &real_tree, &root_stat, &self.info.name, self.digest, &seen);
        }
        let mut warnings = plan.warnings;
        warnings.extend(compared.warnings.into_list());
        Ok(Restored {
            files: plan.files,
            bytes: plan.bytes,
            written,
            unchanged: plan.files - written,
            removed: compared.removed,
            warnings,
        })
    }

    /// What was seen of each item, where a later change will show.
    fn remember(
        &self,
        base: &Index,
        root: BorrowedFd<'_>,
        seen: impl Iterator<Item = (usize, Option<Seen>)>,
    ) -> Vec<Option<Seen>> {
        let count = self.manifest.items.len();
        let mut all: Vec<Option<Seen>> = if base.digest == self.digest {
            (0..count).map(|item| base.seen(item)).collect()
        } else {
            vec![None; count]
        };
        let mut newest = None;
        for (item, seen) in seen {
            all[item] = seen;
            newest = newest.max(seen.map(|seen| seen.changed));
        }
        let clock = FsClock::of(root);
        if let Some(newest) = newest
            && !clock.wait_past(newest, TICK)
        {
            let now = clock.now();
            for seen in &mut all {
                *seen = seen.filter(|seen| seen.changed < now);
            }
        }
        all
    }

    /// Sets the entry aside if that is what the error means.
    fn judge(&self, error: Error) -> Error {
        if let Error::Damaged { what, why, .. } = &error {
            let Self { store, info, .. } = self;
            let still = |bytes: &[u8]| {
                sealed::decode::<Pointer>(bytes).is_ok_and(|pointer| pointer.manifest == self.digest)
            };
            let damage = Damage { what: what.clone(), why: why.clone() };
            let place = store.layout().entry(&info.name, &info.key);
            store.set_aside(&place, still, Some((&info.name, &info.key)), damage);
        }
        error
    }

    fn damaged(&self, what: std::path::PathBuf, why: impl Into<String>) -> Error {
        Error::Damaged { name: self.info.name.clone(), key: self.info.key.clone(), what, why: why.into() }
    }
}

/// What every part of a restore knows.
#[derive(Clone, Copy)]
struct Scene<'a> {
    entry: &'a Entry,
    manifest: &'a Manifest,
    tree: &'a Path,
    root: BorrowedFd<'a>,
    plan: &'a Plan,
    tracked: &'a Tracked,
    cancel: &'a AtomicBool,
}

/// Keeps a collection from removing what a restore reads: a file that is locked as long as the restore lives.
struct Lease {
    path: std::path::PathBuf,
    _file: fs::File,
}

impl Lease {
    /// Takes a lease and notes the use of the entry. A store that cannot be written is not collected either: none then.
    fn take(entry: &Entry) -> Result<Option<Self>, Error> {
        let Entry { store, info, digest, .. } = entry;
        let Ok(_lock) = store.lock() else { return Ok(None) };
        let place = store.layout().entry(&info.name, &info.key);
        let still = layout::read(&place).is_ok_and(|bytes| {
            sealed::decode::<Pointer>(&bytes).is_ok_and(|pointer| pointer.manifest == *digest)
        });
        if !still {
            return Err(Error::Gone { name: info.name.clone(), key: info.key.clone() });
        }
        let touched =
            fs::File::open(&place).and_then(|pointer| pointer.into_parts().0.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            tracing::debug!("cache: the use of an entry was not noted: {error}");
        }
        let path = store.layout().leases().join(random_name());
        if sealed::write_new(&path, digest.to_string().as_bytes(), sealed::Sync::No).is_err() {
            return Ok(None);
        }
        let file = fs::File::open(&path).and_then(|file| {
            file.lock()?;
            Ok(file)
        });
        Ok(file.ok().map(|file| Self { path, _file: file }))
    }

    /// Which manifest a lease protects; a lease that nobody holds any more is removed.
    fn read(path: &Path) -> Option<Digest> {
        let file = layout::open(path).ok()?;
        if file.try_lock().is_ok() {
            let _ = fs::remove_file(path);
            return None;
        }
        Digest::from_hex(layout::read_text(path).ok()?.trim())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The manifests that restores under way read from.
pub(crate) fn leased(leases: &Path) -> std::io::Result<Vec<Digest>> {
    Ok(crate::layout::files(leases)?.iter().filter_map(|path| Lease::read(path)).collect())
}

/// Removes a name if it is there.
fn unlink(folder: BorrowedFd<'_>, name: &[u8]) {
    let _ = unlinkat(folder, name, AtFlags::empty());
}

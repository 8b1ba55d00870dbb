//! Restoring: the tree is compared with the entry, what is right is left alone, what does not belong is
//! removed, what is missing is written. Afterwards what the patterns name equals the entry.

mod compare;
mod context;
mod folders;
mod plan;
mod write;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use loom_tree::{Patterns, dir};
use rustix::fs::fstat;

use self::context::RestoreContext;
use self::plan::Plan;
use crate::clock::FsClock;
use crate::entry::Entry;
use crate::index::{self, Index, Seen};
use crate::layout::real;
use crate::lease::Lease;
use crate::lock::{TreeAccess, lock_tree};
use crate::{Error, Tracked, Warning};

/// A time longer than a tick of the clock on a file system of today.
const TICK: Duration = Duration::from_millis(50);

/// The result of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The number of files and symlinks of the entry that the tree now holds.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The number of those that were written.
    pub written: u64,
    /// The number of those that were there already; some may have got other permissions or times.
    pub unchanged: u64,
    /// The number of files and symlinks that were removed because the entry does not hold them.
    pub removed: u64,
    /// The files of the entry that were not restored, and what could not be looked at.
    pub warnings: Vec<Warning>,
}

impl Entry {
    /// Makes what `patterns` name below `tree` equal to the entry. Files that are right already are left
    /// alone; files that replace others appear whole; files that the entry does not hold are removed; `.git`
    /// at the root and what is `tracked` are left alone. Nothing that the patterns do not name is written or
    /// removed, but for folders that lead to what they name, which are made where missing. Restores to one
    /// tree, and saves of it, wait for one another.
    ///
    /// # Errors
    /// Content of the entry is damaged ([`Error::Damaged`]; the entry is set aside) or the entry is no longer
    /// there ([`Error::Gone`]): both mean a miss. The patterns name the store itself
    /// ([`Error::StoreWithin`]). Something may not be written ([`Error::Refused`]) or cannot be, or the
    /// caller cancelled. After an error, what the restore had written is removed again; what it removed stays
    /// removed.
    pub fn restore(
        &self,
        tree: &Path,
        patterns: &[String],
        tracked: &Tracked,
        cancel: &AtomicBool,
    ) -> Result<Restored, Error> {
        let patterns = Patterns::new(patterns)?;
        let real_tree = real(tree);
        self.layout.check_outside(&real_tree, &patterns)?;
        let _lease = Lease::take(&self.layout, &self.info.name, &self.info.key, self.digest)?;
        let root = dir::open_root(tree).map_err(|errno| Error::read(tree, errno))?;
        lock_tree(root.as_fd(), TreeAccess::Write, cancel)?;
        let root_stat = fstat(&root).map_err(|errno| Error::read(tree, errno))?;
        let layout = &self.layout;
        let at_hand = Some((self.digest, &self.manifest));
        let base = Index::load(layout, &real_tree, &root_stat, &self.info.name, at_hand)
            .unwrap_or_else(Index::nothing);
        let plan = Plan::new(&self.manifest, &patterns, tracked, tree);
        let context = RestoreContext {
            entry: self,
            manifest: &self.manifest,
            tree,
            root: root.as_fd(),
            plan: &plan,
            tracked,
            cancel,
        };

        let mut compared = compare::compare(&context, &patterns, &base)?;
        let todo = std::mem::take(&mut compared.todo);
        let written = todo.len() as u64;
        let mut created = write::Created { folders: std::mem::take(&mut compared.made), files: Vec::new() };
        let done = match compared.failed.take() {
            Some(error) => Err(error),
            None => write::write(&context, todo, &mut created)
                .and_then(|seen| folders::finish(&context, &compared.dirty).map(|()| seen)),
        };
        let seen = match done {
            Ok(seen) => seen,
            Err(error) => {
                created.undo(&context);
                return Err(self.set_aside_if_damaged(error));
            }
        };
        if !seen.is_empty() || !compared.seen.is_empty() || base.digest != self.digest {
            let seen = self.remember(&base, root.as_fd(), compared.seen.into_iter().chain(seen));
            index::store(layout, &real_tree, &root_stat, &self.info.name, self.digest, &seen);
        }
        let mut warnings = plan.warnings;
        warnings.extend(compared.warnings.into_list(Warning::More));
        Ok(Restored {
            files: plan.files,
            bytes: plan.bytes,
            written,
            unchanged: plan.files - written,
            removed: compared.removed,
            warnings,
        })
    }

    /// The state in which each item was seen, where a later change will show.
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
}

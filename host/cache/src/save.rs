//! Saving: one walk over what the patterns name; what the stat index vouches for is not read, what the store has is not
//! written.

mod assemble;
mod walk;
mod waste;

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use loom_tree::{Patterns, dir};
use rustix::fs::fstat;

use crate::digest::Digest;
use crate::entry::{Origin, Pointer};
use crate::index::{self, Index};
use crate::layout::real;
use crate::lock::{To, lock_tree};
use crate::manifest::{Manifest, Needs};
use crate::publish::{Made, Outcome, Staging, publish};
use crate::store::Store;
use crate::{Error, Warning};

/// What is to be saved.
#[derive(Debug, Clone, Copy)]
pub struct Save<'a> {
    /// The cache's name.
    pub name: &'a str,
    /// The entry's key; any text.
    pub key: &'a str,
    /// The root of the workspace.
    pub tree: &'a Path,
    /// What to save of it: globs relative to the root. What names a folder means everything in it, but never `.git` at
    /// the root.
    pub patterns: &'a [String],
    /// Kept with the entry.
    pub origin: &'a Origin,
    /// Ends the save early when it becomes true.
    pub cancel: &'a AtomicBool,
}

/// How a save ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// The entry was written.
    Stored {
        /// How many files and symlinks it holds.
        files: u64,
        /// Their size in bytes.
        bytes: u64,
        /// How many bytes the store grew by.
        stored_bytes: u64,
        /// What was left out.
        warnings: Vec<Warning>,
    },
    /// The key has an entry already; it was not touched.
    AlreadyThere,
    /// Nothing is there that the patterns name; no entry was written.
    Nothing {
        /// What was left out.
        warnings: Vec<Warning>,
    },
}

/// Who has to wait while a tree is walked and its content is written.
#[derive(Clone, Copy)]
enum KeepOut {
    Nobody,
    /// Whoever wants the store's lock.
    Collections,
}

impl Store {
    /// Saves what the patterns name as a new entry, which exists whole when this returns and not at all before.
    ///
    /// Saved are files, symlinks that stay inside the workspace, and folders, with their permissions and times. Hard
    /// links become files of their own. The setuid and setgid bits of files are not kept: they would give away the
    /// rights of whoever restores. A save waits until no restore to the same tree is under way. What cannot be saved, or
    /// changes while it is read, is left out with a warning. Where a collection takes away what the save relies on, it
    /// begins anew, at last with the store's lock held.
    ///
    /// # Errors
    /// The tree cannot be read at all, the store cannot be written or is itself among what is to be saved
    /// ([`Error::StoreWithin`]), or the caller cancelled.
    pub fn save(&self, save: &Save<'_>) -> Result<Saved, Error> {
        let patterns = Patterns::new(save.patterns)?;
        self.create()?;
        let real_tree = real(save.tree);
        self.check_outside(&real_tree, &patterns)?;
        let place = self.layout().entry(save.name, save.key);
        let mut warnings = Vec::new();
        if place.exists() {
            let found = self.find(save.name, save.key)?;
            if found.entry.is_some() {
                return Ok(Saved::AlreadyThere);
            }
            warnings = found.warnings;
        }
        // Once more if what it relied on was collected meanwhile, and then with collections kept out.
        for keep_out in [KeepOut::Nobody, KeepOut::Nobody, KeepOut::Collections] {
            if let Some(saved) = self.try_save(save, &real_tree, &patterns, &mut warnings, keep_out)? {
                return Ok(saved);
            }
        }
        Err(Error::Emptied { root: self.layout().root().to_owned() })
    }

    fn try_save(
        &self,
        save: &Save<'_>,
        real_tree: &Path,
        patterns: &Patterns,
        warnings: &mut Vec<Warning>,
        keep_out: KeepOut,
    ) -> Result<Option<Saved>, Error> {
        let root = dir::open_root(save.tree).map_err(|errno| Error::read(save.tree, errno))?;
        lock_tree(root.as_fd(), To::Read, save.cancel)?;
        // After the tree's, as in a restore that sets its entry aside.
        let lock = match keep_out {
            KeepOut::Nobody => None,
            KeepOut::Collections => Some(self.lock()?),
        };
        let root_stat = fstat(&root).map_err(|errno| Error::read(save.tree, errno))?;
        #[cfg(test)]
        tests::reached(self, tests::Moment::Walk);
        let base = Index::load(self.layout(), real_tree, &root_stat, save.name, None)
            .filter(|base| self.missing(&base.manifest.packs, &base.manifest.objects).is_none())
            .unwrap_or_else(Index::nothing);
        let mut avoid = HashSet::new();
        let (staging, tree, mut left_out) = loop {
            let staging = Staging::new(self.layout())?;
            let walked = walk::walk(self.layout(), save, patterns, &base, &avoid, root.as_fd(), &staging)?;
            let (tree, left_out) = assemble::assemble(walked, &base);
            let new = tree.as_ref().and_then(|tree| tree.new.as_ref());
            let wasteful = new.map(waste::wasteful).unwrap_or_default();
            if !avoid.is_empty() || wasteful.is_empty() {
                break (staging, tree, left_out);
            }
            avoid = wasteful;
        };
        warnings.append(&mut left_out);
        let Some(tree) = tree else {
            return Ok(Some(Saved::Nothing { warnings: std::mem::take(warnings) }));
        };
        if save.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        // Without a new tree it is the one that was saved or restored here before.
        let encoded = tree.new.as_ref().map(Manifest::encode);
        let digest = encoded.as_ref().map_or(base.digest, |encoded| Digest::of(encoded));
        let manifest = tree.new.as_ref().unwrap_or(&*base.manifest);
        let (files, bytes) = (manifest.items.len() as u64, manifest.bytes());
        let needs = Needs { packs: manifest.packs.clone(), objects: manifest.objects.clone() };
        let made = Made { packs: tree.packs, objects: tree.objects, manifest: encoded, needs };
        let pointer = Pointer::new(save.name, save.key, digest, (files, bytes), save.origin);
        #[cfg(test)]
        tests::reached(self, tests::Moment::Publish);
        match publish(self, &staging, made, &pointer, lock)? {
            Outcome::Emptied => Ok(None),
            Outcome::AlreadyThere => Ok(Some(Saved::AlreadyThere)),
            Outcome::Published(stored_bytes) => {
                if tree.new.is_some() {
                    index::store(self.layout(), real_tree, &root_stat, save.name, digest, &tree.seen);
                }
                let warnings = std::mem::take(warnings);
                Ok(Some(Saved::Stored { files, bytes, stored_bytes, warnings }))
            }
        }
    }
}

#[cfg(test)]
mod tests;

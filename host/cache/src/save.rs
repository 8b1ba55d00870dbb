//! Saving: one walk over what the patterns name; what the stat index vouches for is not read, what the store
//! has is not written.

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
use crate::entry::Entry;
use crate::index::{self, Index};
use crate::layout::{Layout, real};
use crate::lock::{TreeAccess, lock_store, lock_tree};
use crate::manifest::{Manifest, Needs};
use crate::pointer::{Origin, Pointer};
use crate::publish::{PublishOutcome, StagedEntry, publish};
use crate::staging::Staging;
use crate::store::Store;
use crate::{Error, Tracked, Warning};

/// The request to save something.
#[derive(Debug, Clone, Copy)]
pub struct Save<'a> {
    /// The cache's name.
    pub name: &'a str,
    /// The entry's key; any text.
    pub key: &'a str,
    /// The root of the workspace.
    pub tree: &'a Path,
    /// The patterns of what to save of it: globs relative to the root. What names a folder means everything
    /// in it, but never `.git` at the root.
    pub patterns: &'a [String],
    /// The files that are not saved, whatever the patterns name.
    pub tracked: &'a Tracked,
    /// Kept with the entry.
    pub origin: &'a Origin,
    /// Ends the save early when it becomes true.
    pub cancel: &'a AtomicBool,
}

/// The outcome of a save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// The entry was written.
    Stored {
        /// The number of files and symlinks in it.
        files: u64,
        /// Their size in bytes.
        bytes: u64,
        /// The number of bytes by which the store grew.
        stored_bytes: u64,
        /// The files that were left out.
        warnings: Vec<Warning>,
    },
    /// The entry of this key holds just what is there; it was not touched.
    Unchanged,
    /// No file is there that the patterns name; no entry was written.
    Nothing {
        /// The files that were left out.
        warnings: Vec<Warning>,
    },
}

/// The users of the store who have to wait while a tree is walked and its content is written.
#[derive(Clone, Copy)]
enum KeepOut {
    Nobody,
    /// Whoever wants the store's lock.
    Collections,
}

impl Store {
    /// Saves what the patterns name as the key's entry, which is there whole when this returns; until then
    /// there is the one before, or none. Where that one holds the same already, nothing is written.
    ///
    /// Saved are files, symlinks as their text, and folders, with their permissions and times. Hard links
    /// become files of their own. The setuid and setgid bits of files are not kept: they would give away the
    /// rights of whoever restores. A save waits until no restore to the same tree is under way. What cannot
    /// be saved, or changes while it is read, is left out with a warning. Where a collection takes away what
    /// the save relies on, it begins anew, at last with the store's lock held.
    ///
    /// # Errors
    /// The tree cannot be read at all, the store cannot be written or is itself among what is to be saved
    /// ([`Error::StoreWithin`]), or the caller cancelled.
    pub fn save(&self, save: &Save<'_>) -> Result<Saved, Error> {
        let patterns = Patterns::new(save.patterns)?;
        self.create()?;
        let real_tree = real(save.tree);
        self.layout().check_outside(&real_tree, &patterns)?;
        let found = self.find(save.name, save.key)?;
        let (before, mut warnings) = (found.entry, found.warnings);
        // Once more if what it relied on was collected meanwhile, and then with collections kept out.
        for keep_out in [KeepOut::Nobody, KeepOut::Nobody, KeepOut::Collections] {
            if let Some(saved) = try_save(
                self.layout(),
                save,
                &real_tree,
                &patterns,
                before.as_ref(),
                &mut warnings,
                keep_out,
            )? {
                return Ok(saved);
            }
        }
        Err(Error::Emptied { root: self.layout().root().to_owned() })
    }
}

/// Saves once; nothing where something that the save relied on was collected meanwhile.
fn try_save(
    layout: &Layout,
    save: &Save<'_>,
    real_tree: &Path,
    patterns: &Patterns,
    before: Option<&Entry>,
    warnings: &mut Vec<Warning>,
    keep_out: KeepOut,
) -> Result<Option<Saved>, Error> {
    let root = dir::open_root(save.tree).map_err(|errno| Error::read(save.tree, errno))?;
    lock_tree(root.as_fd(), TreeAccess::Read, save.cancel)?;
    // After the tree's, as in a restore that sets its entry aside.
    let lock = match keep_out {
        KeepOut::Nobody => None,
        KeepOut::Collections => Some(lock_store(layout)?),
    };
    let root_stat = fstat(&root).map_err(|errno| Error::read(save.tree, errno))?;
    #[cfg(test)]
    tests::reached(layout, tests::Moment::Walk);
    let base = Index::load(layout, real_tree, &root_stat, save.name, None).unwrap_or_else(Index::nothing);
    let mut avoid = HashSet::new();
    let (staging, tree, mut left_out) = loop {
        let staging = Staging::new(layout)?;
        let walked = walk::walk(layout, save, patterns, &base, &avoid, root.as_fd(), &staging)?;
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
    if let Some(before) = before
        && (before.digest == digest || before.manifest.is_same_tree(manifest))
    {
        if tree.new.is_some() {
            index::store(layout, real_tree, &root_stat, save.name, before.digest, &tree.seen);
        }
        return Ok(Some(Saved::Unchanged));
    }
    let (files, bytes) = (manifest.items.len() as u64, manifest.bytes());
    let needs = Needs { packs: manifest.packs.clone(), objects: manifest.objects.clone() };
    let staged = StagedEntry { packs: tree.packs, objects: tree.objects, manifest: encoded, needs };
    let pointer = Pointer::new(save.name, save.key, digest, (files, bytes), save.origin);
    #[cfg(test)]
    tests::reached(layout, tests::Moment::Publish);
    match publish(layout, &staging, staged, &pointer, lock)? {
        PublishOutcome::Emptied => Ok(None),
        PublishOutcome::Unchanged => Ok(Some(Saved::Unchanged)),
        PublishOutcome::Published(stored_bytes) => {
            if tree.new.is_some() {
                index::store(layout, real_tree, &root_stat, save.name, digest, &tree.seen);
            }
            let warnings = std::mem::take(warnings);
            Ok(Some(Saved::Stored { files, bytes, stored_bytes, warnings }))
        }
    }
}

#[cfg(test)]
mod tests;

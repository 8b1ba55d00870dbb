//! Which parts of an entry the declared paths name.

use std::path::Path;

use loom_tree::Patterns;
use loom_tree::dir::{self, to_path};

use crate::manifest::Manifest;
use crate::{GIT, Tracked, Warning};

/// The parts of an entry that are to be restored.
pub(super) struct Plan {
    /// For each folder: a pattern names it, or one above it.
    inside: Vec<bool>,
    /// For each folder: it is to be there.
    folders: Vec<bool>,
    /// For each item: it is to be there. Empty if all are.
    items: Vec<bool>,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) warnings: Vec<Warning>,
}

impl Plan {
    pub(super) fn new(manifest: &Manifest, patterns: &Patterns, tracked: &Tracked, tree: &Path) -> Self {
        let mut inside = vec![false; manifest.folders.len()];
        let mut items = vec![true; manifest.items.len()];
        let mut folders = vec![false; manifest.folders.len()];
        // By folder: it is git's.
        let mut git = vec![false; manifest.folders.len()];
        // By folder: a tracked file has its name, or that of one above it.
        let mut given_up = vec![false; manifest.folders.len()];
        let (mut undeclared, mut first) = (0, None);
        for folder in 0..manifest.folders.len() {
            let parent = manifest.folders[folder].parent as usize;
            // The root's own state is as little ours as that of a folder on the way.
            git[folder] = git[parent] || parent == 0 && manifest.folder_name(folder) == GIT.as_bytes();
            given_up[folder] = given_up[parent] || !tracked.is_empty() && tracked.has(&manifest.path(folder));
            if given_up[folder] {
                items[manifest.items_of(folder)].fill(false);
                continue;
            }
            inside[folder] = !git[folder] && (inside[parent] || patterns.matches(&manifest.path(folder)));
            folders[folder] = folder > 0 && inside[folder];
            let has_tracked = !tracked.is_empty() && tracked.has_below(&manifest.path(folder));
            if inside[folder] && folder > 0 && !has_tracked {
                continue;
            }
            let path = manifest.path(folder);
            for item in manifest.items_of(folder) {
                let path = dir::join(&path, manifest.name(item));
                let is_declared = inside[folder] || patterns.matches(&path);
                let is_tracked = has_tracked && (tracked.has(&path) || tracked.has_below(&path));
                items[item] = !git[folder] && path != GIT.as_bytes() && is_declared && !is_tracked;
                if items[item] {
                    folders[folder] = true;
                } else if !is_tracked {
                    undeclared += 1;
                    first.get_or_insert(path);
                }
            }
        }
        for folder in (1..manifest.folders.len()).rev() {
            if folders[folder] {
                folders[manifest.folders[folder].parent as usize] = true;
            }
        }
        let wanted = || (0..manifest.items.len()).filter(|&item| items[item]);
        let files = wanted().count() as u64;
        let bytes = wanted().filter_map(|item| manifest.data(item)).map(|(size, _)| size).sum();
        let undeclared =
            first.map(|first| Warning::Undeclared { count: undeclared, first: tree.join(to_path(&first)) });
        let named = Warning::of_tracked(tracked.iter().filter(|path| patterns.cover(path)));
        let warnings = undeclared.into_iter().chain(named).collect();
        Self { inside, folders, items, files, bytes, warnings }
    }

    /// A pattern names the folder, or one above it: its permissions and time are the entry's.
    pub(super) fn is_inside(&self, folder: usize) -> bool {
        folder > 0 && self.inside[folder]
    }

    pub(super) fn wants_folder(&self, folder: usize) -> bool {
        self.folders[folder]
    }

    pub(super) fn wants(&self, item: usize) -> bool {
        self.items[item]
    }
}

//! The outline of a tree that is to be replicated: its folders, and the names in each.

use std::collections::HashMap;

use crate::dir::split;

/// Folders with the names in them, each folder after the one that it is in, the root first.
#[derive(Debug)]
pub struct Outline<'a> {
    folders: Vec<OutlineFolder<'a>>,
    /// The places of the folders, by their paths.
    places: HashMap<&'a [u8], usize>,
    /// The folder to which a name was added last.
    last: usize,
}

/// One folder and what of it is to be copied.
#[derive(Debug)]
pub struct OutlineFolder<'a> {
    /// Relative to the root, without a slash at its end; empty for the root.
    pub path: &'a [u8],
    /// The place of the folder above it; for the root, its own.
    pub parent: usize,
    /// The names in it, each once.
    pub names: Vec<&'a [u8]>,
}

impl Default for Outline<'_> {
    fn default() -> Self {
        let root = OutlineFolder { path: b"", parent: 0, names: Vec::new() };
        Self { folders: vec![root], places: HashMap::from([(&b""[..], 0)]), last: 0 }
    }
}

impl<'a> Outline<'a> {
    /// Adds a name by its path, and the folders that lead to it. The same one twice in a row counts once.
    pub fn add(&mut self, path: &'a [u8]) {
        let (folder, name) = split(path);
        if self.folders[self.last].path != folder {
            self.last = self.place(folder);
        }
        let names = &mut self.folders[self.last].names;
        if names.last() != Some(&name) {
            names.push(name);
        }
    }

    /// Adds a folder by its path, and those that lead to it.
    pub fn add_folder(&mut self, path: &'a [u8]) {
        self.place(path);
    }

    /// The folders, each after the one that it is in.
    pub fn folders(&self) -> &[OutlineFolder<'a>] {
        &self.folders
    }

    pub(crate) fn has_folder(&self, path: &[u8]) -> bool {
        self.places.contains_key(path)
    }

    /// The number of names to copy.
    pub(crate) fn names(&self) -> usize {
        self.folders.iter().map(|folder| folder.names.len()).sum()
    }

    fn place(&mut self, path: &'a [u8]) -> usize {
        // From the nearest known folder down; not by recursion, because an outline may be as deep as it
        // likes.
        let mut missing = Vec::new();
        let mut at = path;
        let mut place = loop {
            match self.places.get(at) {
                Some(&place) => break place,
                None => missing.push(at),
            }
            at = split(at).0;
        };
        for path in missing.into_iter().rev() {
            self.folders.push(OutlineFolder { path, parent: place, names: Vec::new() });
            place = self.folders.len() - 1;
            self.places.insert(path, place);
        }
        place
    }
}

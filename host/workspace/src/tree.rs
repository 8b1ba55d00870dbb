//! What is to be copied: the files of a listing, gathered by folder.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use loom_contract::layout::RUNTIME_DIR;
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::{Error, dir};

/// The folders of a listing, each after the folder it is in, the root first.
pub(crate) struct Tree<'a> {
    pub(crate) folders: Vec<Folder<'a>>,
}

/// One folder and what of it is to be copied.
pub(crate) struct Folder<'a> {
    /// Relative to the root, without a slash at its end; empty for the root.
    pub(crate) path: &'a [u8],
    /// Where in [`Tree::folders`] the folder above it is; for the root, the root.
    pub(crate) parent: usize,
    /// The names in it that the listing has, each once.
    pub(crate) names: Vec<&'a [u8]>,
}

impl<'a> Tree<'a> {
    /// Reads relative paths, each ended by a NUL, without those of Loom's runtime folder. A path that ends in `/` is a
    /// folder: with `descend` one of the tree, else a name like any other.
    pub(crate) fn of_listing(listing: &'a [u8], descend: bool) -> Self {
        let mut tree = Self { folders: vec![Folder { path: b"", parent: 0, names: Vec::new() }] };
        let mut known = HashMap::from([(&b""[..], 0)]);
        let mut last = 0;
        for path in listing.split(|&byte| byte == 0).filter(|path| !path.is_empty() && !is_runtime(path)) {
            let path = match path.strip_suffix(b"/") {
                Some(folder) if descend => {
                    tree.folder(folder, &mut known);
                    continue;
                }
                Some(folder) => folder,
                None => path,
            };
            let (folder, name) = split(path);
            if tree.folders[last].path != folder {
                last = tree.folder(folder, &mut known);
            }
            let names = &mut tree.folders[last].names;
            // Git lists a path with a conflict once for each side, one after the other.
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
        tree
    }

    /// How many files and other names there are to copy.
    pub(crate) fn len(&self) -> usize {
        self.folders.iter().map(|folder| folder.names.len()).sum()
    }

    fn folder(&mut self, path: &'a [u8], known: &mut HashMap<&'a [u8], usize>) -> usize {
        // From the nearest known folder down; not by recursion, because a listing may be as deep as it likes.
        let mut missing = Vec::new();
        let mut at = path;
        let mut index = loop {
            match known.get(at) {
                Some(&index) => break index,
                None => missing.push(at),
            }
            at = split(at).0;
        };
        for path in missing.into_iter().rev() {
            self.folders.push(Folder { path, parent: index, names: Vec::new() });
            index = self.folders.len() - 1;
            known.insert(path, index);
        }
        index
    }
}

/// A listing of everything below `root`, as [`Tree::of_listing`] reads it with `descend`.
pub(crate) fn walk(root: &Path, cancel: &AtomicBool) -> Result<Vec<u8>, Error> {
    let top = dir::open_root(root).map_err(|errno| Error::read(root, errno))?;
    let mut listing = Vec::new();
    let mut folders: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(folder) = folders.pop() {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let mut visit = |name: &[u8], kind| {
            let path = dir::join(&folder, name);
            if !matches!(kind, FileType::RegularFile | FileType::Symlink | FileType::Directory) {
                return Ok(());
            }
            if kind == FileType::Directory && is_runtime(&path) {
                return Ok(());
            }
            listing.extend_from_slice(&path);
            if kind == FileType::Directory {
                listing.push(b'/');
                folders.push(path);
            }
            listing.push(0);
            Ok(())
        };
        match dir::open(top.as_fd(), &folder)
            .and_then(|open| dir::for_each_entry::<Errno>(open.as_fd(), &mut visit))
        {
            // It went, or became something else, since its name was read.
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(Error::read(root.join(OsStr::from_bytes(&folder)), errno)),
        }
    }
    Ok(listing)
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

pub(crate) fn is_runtime(path: &[u8]) -> bool {
    path.strip_prefix(RUNTIME_DIR.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(listing: &[u8], descend: bool) -> Vec<(String, usize, Vec<String>)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Tree::of_listing(listing, descend)
            .folders
            .iter()
            .map(|folder| {
                (text(folder.path), folder.parent, folder.names.iter().map(|name| text(name)).collect())
            })
            .collect()
    }

    fn row(path: &str, parent: usize, names: &[&str]) -> (String, usize, Vec<String>) {
        (path.to_owned(), parent, names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn folders_come_after_the_folder_they_are_in() {
        assert_eq!(
            shown(b"a/b/c/deep\0a/b/x\0top\0a/b/c/other\0", false),
            [
                row("", 0, &["top"]),
                row("a", 0, &[]),
                row("a/b", 1, &["x"]),
                row("a/b/c", 2, &["deep", "other"])
            ]
        );
    }

    #[test]
    fn a_path_with_a_conflict_is_copied_once() {
        assert_eq!(shown(b"f\0f\0f\0g\0", false), [row("", 0, &["f", "g"])]);
    }

    #[test]
    fn the_runtime_folder_is_left_out_but_not_its_neighbours() {
        assert_eq!(
            shown(
                b".loom/.runtime\0.loom/.runtime/x\0.loom/.runtime2\0.loom/workflow.yml\0a/.loom/.runtime/x\0",
                false
            ),
            [
                row("", 0, &[]),
                row(".loom", 0, &[".runtime2", "workflow.yml"]),
                row("a", 0, &[]),
                row("a/.loom", 2, &[]),
                row("a/.loom/.runtime", 3, &["x"]),
            ]
        );
    }

    #[test]
    fn a_listed_folder_is_a_name_or_part_of_the_tree() {
        assert_eq!(shown(b"a/b/\0", false), [row("", 0, &[]), row("a", 0, &["b"])]);
        assert_eq!(shown(b"a/b/\0", true), [row("", 0, &[]), row("a", 0, &[]), row("a/b", 1, &[])]);
    }
}

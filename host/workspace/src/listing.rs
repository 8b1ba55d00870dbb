//! Listings of what is to be copied: relative paths, each ended by a NUL, as git writes them.

use std::borrow::Cow;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use loom_contract::layout::RUNTIME_DIR;
use loom_tree::{Kept, Outline, dir};
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::Error;
use crate::fault::fault;

/// The outline of a listing: relative paths, each ended by a NUL, without those of Loom's runtime folder. A
/// path that ends in `/` is a folder: with `descend` one of the tree, else a name like any other.
pub(crate) fn outline(listing: &[u8], descend: bool) -> Outline<'_> {
    let mut outline = Outline::default();
    for path in listing.split(|&byte| byte == 0).filter(|path| !path.is_empty() && !is_runtime(path)) {
        match path.strip_suffix(b"/") {
            Some(folder) if descend => outline.add_folder(folder),
            Some(folder) => outline.add(folder),
            // Git lists a path with a conflict once for each side, one after the other.
            None => outline.add(path),
        }
    }
    outline
}

/// A listing without what is in kept folders: nothing of the repository comes into those. `part` is where
/// the listed folder is in the whole copy.
pub(crate) fn without_kept<'l>(listing: Cow<'l, [u8]>, part: &[u8], kept: &Kept<'_>) -> Cow<'l, [u8]> {
    if kept.patterns.is_empty() {
        return listing;
    }
    let is_kept = |folder: &[u8]| {
        let mut at = folder;
        while !at.is_empty() {
            let in_whole = if part.is_empty() { at.to_owned() } else { dir::join(part, at) };
            if kept.has(&in_whole) {
                return true;
            }
            at = dir::split(at).0;
        }
        false
    };
    let mut left = Vec::with_capacity(listing.len());
    let mut last: (&[u8], bool) = (b"", false);
    for path in listing.split(|&byte| byte == 0).filter(|path| !path.is_empty()) {
        // A folder that is named itself ends in a slash.
        let folder = dir::split(path).0;
        if folder != last.0 {
            last = (folder, is_kept(folder));
        }
        if !last.1 {
            left.extend_from_slice(path);
            left.push(0);
        }
    }
    left.into()
}

/// A listing as seen from the top of the work tree, of which `prefix` is the folder that was listed. Loom's
/// runtime folder is no part of it.
pub(crate) fn below(prefix: &[u8], listing: &[u8]) -> Vec<u8> {
    let mut paths = Vec::with_capacity(listing.len());
    for path in listing.split(|&byte| byte == 0).filter(|path| !path.is_empty() && !is_runtime(path)) {
        paths.extend_from_slice(&dir::join(prefix, path));
        paths.push(0);
    }
    paths
}

/// A listing of everything below `root`, as [`outline`] reads it with `descend`.
pub(crate) fn walk(root: &Path, cancel: &AtomicBool) -> Result<Vec<u8>, Error> {
    fault("open", root).map_err(|error| Error::read(root, error))?;
    let top = dir::open_root(root).map_err(|errno| Error::read(root, errno))?;
    let mut listing = Vec::new();
    let mut folders: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(folder) = folders.pop() {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let mut visit = |name: &[u8], kind| {
            let path = dir::join(&folder, name);
            let is_copied = matches!(kind, FileType::RegularFile | FileType::Symlink | FileType::Directory);
            if !is_copied || kind == FileType::Directory && is_runtime(&path) {
                return;
            }
            listing.extend_from_slice(&path);
            if kind == FileType::Directory {
                listing.push(b'/');
                folders.push(path);
            }
            listing.push(0);
        };
        match dir::open_beneath(top.as_fd(), &folder)
            .and_then(|open| dir::for_each_entry(open.as_fd(), &mut visit))
        {
            // It went, or became something else, since its name was read.
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(Error::read(root.join(dir::to_path(&folder)), errno)),
        }
    }
    Ok(listing)
}

/// Whether the relative `path` is Loom's runtime folder, or in it.
pub(crate) fn is_runtime(path: &[u8]) -> bool {
    path.strip_prefix(RUNTIME_DIR.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(listing: &[u8], descend: bool) -> Vec<(String, usize, Vec<String>)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        outline(listing, descend)
            .folders()
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

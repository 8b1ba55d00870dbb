//! The files that git tracks: they are the repository's, whatever the declared paths name.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Files of a tree that are neither saved nor restored nor removed, by their paths below its root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tracked(Vec<Box<[u8]>>);

impl Tracked {
    /// These files and no others.
    pub fn new<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Self {
        let mut paths: Vec<Box<[u8]>> =
            paths.into_iter().map(|path| path.as_ref().as_os_str().as_bytes().into()).collect();
        paths.sort_unstable();
        Self(paths)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|path| &**path)
    }

    /// Whether the file at `path` is one of them.
    pub fn contains(&self, path: impl AsRef<Path>) -> bool {
        self.has(path.as_ref().as_os_str().as_bytes())
    }

    pub(crate) fn has(&self, path: &[u8]) -> bool {
        self.0.binary_search_by(|known| (**known).cmp(path)).is_ok()
    }

    /// Whether one of them is in `folder`, or deeper; the root is the empty path.
    pub(crate) fn has_below(&self, folder: &[u8]) -> bool {
        if folder.is_empty() {
            return !self.is_empty();
        }
        let inside = [folder, b"/"].concat();
        let first = self.0.partition_point(|known| **known < *inside);
        self.0.get(first).is_some_and(|path| path.starts_with(&inside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_path_and_by_what_they_are_in() {
        let tracked = Tracked::new(["b/c/d", "a", "b.c", "b-"]);
        for (path, contains, below) in [
            ("", false, true),
            ("a", true, false),
            ("b", false, true),
            ("b/c", false, true),
            ("b/c/d", true, false),
            ("b/c/d/e", false, false),
            ("b.", false, false),
            ("c", false, false),
        ] {
            let path = path.as_bytes();
            assert_eq!((tracked.has(path), tracked.has_below(path)), (contains, below), "{path:?}");
        }
        assert!(!Tracked::default().has_below(b""));
    }
}

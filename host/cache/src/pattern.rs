//! Declared paths: what they match, and in which folders that can be.

use globset::{Candidate, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

use crate::Error;

/// Declared paths of a cache, relative to the workspace. `*` and `?` match within one name, hidden ones too; `**`
/// matches any folders; what names a folder means everything in it.
pub(crate) struct Patterns {
    set: GlobSet,
    /// Each pattern by its parts, to tell which folders need not be looked into.
    parts: Vec<Vec<Part>>,
    /// One of them is the root itself.
    everything: bool,
}

enum Part {
    Name(Vec<u8>),
    Glob(GlobMatcher),
    /// Any number of any names.
    Any,
}

impl Patterns {
    pub(crate) fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, Error> {
        let mut set = GlobSetBuilder::new();
        let mut parts = Vec::new();
        let mut everything = false;
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let bad = |why: String| Error::Pattern { pattern: pattern.to_owned(), why };
            let normal = normal(pattern).map_err(|why| bad(why.to_owned()))?;
            if normal.is_empty() {
                everything = true;
                continue;
            }
            set.add(glob(&normal).map_err(|error| bad(format!("is no glob: {}", error.kind())))?);
            parts.push(split(&normal));
        }
        let set = set.build().map_err(|error| Error::Pattern {
            pattern: error.glob().unwrap_or_default().to_owned(),
            why: format!("is no glob: {}", error.kind()),
        })?;
        Ok(Self { set, parts, everything })
    }

    /// One of the patterns names `path` itself. What is below a path that matches is meant too, but not asked for here.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        self.everything || self.set.is_match_candidate(&Candidate::from_bytes(path))
    }

    /// One of the patterns can match something below `folder`.
    pub(crate) fn may_match_below(&self, folder: &[u8]) -> bool {
        self.everything || self.parts.iter().any(|parts| may_match_below(parts, folder))
    }

    /// `path`, or a folder above it, matches.
    pub(crate) fn cover(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.chain([path.len()]).any(|end| self.matches(&path[..end]))
    }
}

/// The pattern without empty parts and `.`; empty if it is the root.
fn normal(pattern: &str) -> Result<String, &'static str> {
    if pattern.is_empty() {
        return Err("is empty");
    }
    if pattern.starts_with('/') {
        return Err("is absolute, but must be relative to the workspace");
    }
    if pattern.contains('\0') {
        return Err("has a NUL in it");
    }
    let parts: Vec<&str> = pattern.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    // Also where braces hide it, as in `{..,a}/b`.
    if parts.iter().any(|part| part.split(['{', '}', ',']).any(|piece| piece == "..")) {
        return Err("leads up with `..`, but must stay inside the workspace");
    }
    Ok(parts.join("/"))
}

fn glob(pattern: &str) -> Result<globset::Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).build()
}

fn split(pattern: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for part in pattern.split('/') {
        let count = |wanted: char| part.chars().filter(|&c| c == wanted).count();
        // A part that is no glob by itself (`{a/b,c}`): anything from here on.
        let whole = count('{') == count('}') && count('[') == count(']') && !part.contains('\\');
        parts.push(if !part.contains(['*', '?', '[', ']', '{', '}', '\\']) {
            Part::Name(part.as_bytes().to_vec())
        } else {
            match glob(part) {
                Ok(glob) if whole && !part.contains("**") => Part::Glob(glob.compile_matcher()),
                _ => Part::Any,
            }
        });
        if matches!(parts.last(), Some(Part::Any)) {
            break;
        }
    }
    parts
}

fn may_match_below(parts: &[Part], folder: &[u8]) -> bool {
    let mut parts = parts.iter();
    for name in folder.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        let matches = match parts.next() {
            Some(Part::Any) => return true,
            Some(Part::Name(part)) => part == name,
            Some(Part::Glob(glob)) => glob.is_match_candidate(&Candidate::from_bytes(name)),
            None => false,
        };
        if !matches {
            return false;
        }
    }
    parts.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[&str]) -> Patterns {
        Patterns::new(list).unwrap()
    }

    #[test]
    fn a_folder_means_all_below_and_hidden_names_match() {
        let patterns = patterns(&["node_modules/", "./apps/*/dist", "**/*.o", ".cache"]);
        for path in
            ["node_modules", "node_modules/.bin/x", "apps/.a/dist/b/c", "x.o", "a/.b/.o", "a/b.o", ".cache/y"]
        {
            assert!(patterns.cover(path.as_bytes()), "{path}");
        }
        for path in
            ["node_module", "a/node_modules", "apps/dist", "apps/a/b/dist", "x.oo", "NODE_MODULES/x", "cache"]
        {
            assert!(!patterns.cover(path.as_bytes()), "{path}");
        }
        assert!(Patterns::new(&["."]).unwrap().cover(b"any/thing"));
    }

    #[test]
    fn only_folders_that_can_hold_a_match_are_looked_into() {
        let patterns = patterns(&["a/b*/c", "d/**/e", "{f,g/h}/i"]);
        for folder in ["", "a", "a/b", "a/bb", "d", "d/x/y", "f", "g/h"] {
            assert!(patterns.may_match_below(folder.as_bytes()), "{folder}");
        }
        let one = Patterns::new(&["a/b*/c", "d/**/e"]).unwrap();
        for folder in ["b", "a/c", "a/b/c", "a/b/x", "f"] {
            assert!(!one.may_match_below(folder.as_bytes()), "{folder}");
        }
    }

    #[test]
    fn nothing_outside_the_workspace_can_be_named() {
        for pattern in ["", "/etc", "..", "../x", "a/../../b", "a/..", "{..,a}/b", "a\0b", "a[", "{a"] {
            assert!(matches!(Patterns::new(&[pattern]), Err(Error::Pattern { .. })), "{pattern:?}");
        }
    }
}

//! Patterns: what they match, and in which folders that can be.

use std::path::{Component, Path, PathBuf};

use globset::{Candidate, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

/// A pattern is none that a tree may be searched by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` {why}")]
pub struct BadPattern {
    /// The text as it was given.
    pub pattern: String,
    /// The fault: the end of a sentence.
    pub why: String,
}

/// Patterns of paths relative to the root of a tree. `*` and `?` match within one name, hidden ones too; `**`
/// matches any folders, `[ab]` one of the characters, `{a,b}` one of the alternatives; what names a folder
/// means everything in it.
#[derive(Debug)]
pub struct Patterns {
    /// The texts as they were given.
    given: Vec<String>,
    set: GlobSet,
    /// Each pattern by its parts, to tell which folders need not be looked into.
    parts: Vec<Vec<Part>>,
}

#[derive(Debug)]
enum Part {
    Name(Vec<u8>),
    Glob(GlobMatcher),
    /// Any number of any names.
    Any,
}

/// The way on which a pattern leads below a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Not,
    /// A part that stands for any folders.
    Any,
    /// Each part named one folder.
    Named,
}

impl Patterns {
    /// Those that name nothing.
    pub fn none() -> Self {
        Self { given: Vec::new(), set: GlobSet::empty(), parts: Vec::new() }
    }

    /// Whether they name nothing.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// As they were given.
    pub fn given(&self) -> &[String] {
        &self.given
    }

    /// Reads patterns. `./x`, `x/` and `x` mean the same, and `.` means the whole tree.
    ///
    /// # Errors
    /// One is empty, absolute, has a `..` in it, or is no glob.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, BadPattern> {
        let mut set = GlobSetBuilder::new();
        let mut parts = Vec::new();
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let bad = |why: String| BadPattern { pattern: pattern.to_owned(), why };
            let normal = normal(pattern).map_err(|why| bad(why.to_owned()))?;
            set.add(glob(&normal).map_err(|error| bad(format!("is no glob: {}", error.kind())))?);
            parts.push(split(&normal));
        }
        let set = set.build().map_err(|error| BadPattern {
            pattern: error.glob().unwrap_or_default().to_owned(),
            why: format!("is no glob: {}", error.kind()),
        })?;
        let given = patterns.iter().map(|pattern| pattern.as_ref().to_owned()).collect();
        Ok(Self { given, set, parts })
    }

    /// Whether one of the patterns names `path` itself. What is below a path that matches is meant too, but
    /// not asked for here.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.set.is_match_candidate(&Candidate::from_bytes(path))
    }

    /// Whether one of the patterns can match something below `folder`.
    pub fn may_match_below(&self, folder: &[u8]) -> bool {
        self.parts.iter().any(|parts| way_below(parts, folder) != Way::Not)
    }

    /// Whether a pattern leads below `folder`: as [`Self::may_match_below`], but where a `**` would lead into
    /// any folder, that does not count.
    pub(crate) fn leads_below(&self, folder: &[u8]) -> bool {
        self.parts.iter().any(|parts| way_below(parts, folder) == Way::Named)
    }

    /// `path`, or a folder above it, matches.
    pub fn cover(&self, path: &[u8]) -> bool {
        ends(path).any(|end| self.matches(&path[..end]))
    }

    /// The patterns, as they were given, that cover none of `paths`. Quickest if those are sorted.
    pub fn unmatched<'p>(&self, paths: impl IntoIterator<Item = &'p [u8]>) -> Vec<String> {
        let mut matched = vec![false; self.given.len()];
        let mut left = matched.len();
        let mut found = Vec::new();
        let mut last: &[u8] = b"";
        for path in paths {
            if left == 0 {
                break;
            }
            // The folders that this path shares with the one before have been asked about.
            let shared = path.iter().zip(last).take_while(|(one, other)| one == other).count();
            for end in ends(path).filter(|&end| end >= shared) {
                self.set.matches_candidate_into(&Candidate::from_bytes(&path[..end]), &mut found);
                for &index in &found {
                    left -= usize::from(!matched[index]);
                    matched[index] = true;
                }
            }
            last = path;
        }
        let unmatched = self.given.iter().zip(matched).filter(|(_, matched)| !matched);
        unmatched.map(|(pattern, _)| pattern.clone()).collect()
    }
}

/// The ends of the names of a path: each gives the path of a folder, the last one `path` itself.
fn ends(path: &[u8]) -> impl Iterator<Item = usize> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes.chain([path.len()])
}

/// The path that everything a pattern matches is, or lies in: its parts before the first that is a glob.
pub fn glob_base(pattern: &str) -> PathBuf {
    let parts = Path::new(pattern).components().filter(|part| *part != Component::CurDir);
    let is_plain = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']);
    parts.take_while(is_plain).collect()
}

/// The pattern without empty parts and `.`.
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
    // The root.
    if parts.is_empty() { Ok("**".to_owned()) } else { Ok(parts.join("/")) }
}

fn glob(pattern: &str) -> Result<globset::Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).build()
}

fn split(pattern: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for part in pattern.split('/') {
        parts.push(if !part.contains(['*', '?', '[', ']', '{', '}', '\\']) {
            Part::Name(part.as_bytes().to_vec())
        } else {
            match glob(part) {
                Ok(glob) if !part.contains("**") => Part::Glob(glob.compile_matcher()),
                // No glob by itself, as `{a` of `{a/b,c}`: anything from here on.
                _ => Part::Any,
            }
        });
        if matches!(parts.last(), Some(Part::Any)) {
            break;
        }
    }
    parts
}

fn way_below(parts: &[Part], folder: &[u8]) -> Way {
    let mut parts = parts.iter();
    for name in folder.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        let matches = match parts.next() {
            Some(Part::Any) => return Way::Any,
            Some(Part::Name(part)) => part == name,
            Some(Part::Glob(glob)) => glob.is_match_candidate(&Candidate::from_bytes(name)),
            None => false,
        };
        if !matches {
            return Way::Not;
        }
    }
    match parts.next() {
        Some(Part::Any) => Way::Any,
        Some(_) => Way::Named,
        None => Way::Not,
    }
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
    }

    #[test]
    fn the_root_is_everything() {
        for root in [".", "./", ".//.", "**"] {
            let patterns = patterns(&[root]);
            assert!(patterns.matches(b"") && patterns.cover(b"any/thing"), "{root}");
            assert!(patterns.may_match_below(b"") && patterns.may_match_below(b"any/.thing"), "{root}");
        }
        assert!(!patterns(&["a"]).matches(b""));
        assert!(!patterns(&[]).matches(b"") && !patterns(&[]).may_match_below(b""));
    }

    #[test]
    fn only_folders_that_can_hold_a_match_are_looked_into() {
        let all = patterns(&["a/b*/c", "d/**/e", "{f,g/h}/i"]);
        for folder in ["", "a", "a/b", "a/bb", "d", "d/x/y", "f", "g/h"] {
            assert!(all.may_match_below(folder.as_bytes()), "{folder}");
        }
        let two = patterns(&["a/b*/c", "d/**/e"]);
        for folder in ["b", "a/c", "a/b/c", "a/b/x", "f"] {
            assert!(!two.may_match_below(folder.as_bytes()), "{folder}");
        }
        assert!(two.leads_below(b"a/bb"));
        assert!(!two.leads_below(b"d") && two.may_match_below(b"d"));
    }

    #[test]
    fn what_a_pattern_matches_is_below_its_base() {
        for (pattern, base) in [
            ("a/b", "a/b"),
            ("./a/*/b", "a"),
            ("a/b*", "a"),
            ("**", ""),
            (".", ""),
            ("a/{b,c}", "a"),
            ("a[b]/c", ""),
        ] {
            assert_eq!(glob_base(pattern), Path::new(base), "{pattern}");
        }
    }

    #[test]
    fn nothing_outside_the_tree_can_be_named() {
        for pattern in ["", "/etc", "..", "../x", "a/../../b", "a/..", "{..,a}/b", "a\0b", "a[", "{a"] {
            assert_eq!(Patterns::new(&[pattern]).unwrap_err().pattern, pattern);
        }
    }

    #[test]
    fn what_matched_nothing_is_told_as_it_was_given() {
        let patterns = patterns(&["./a/", "a/b/**", "*.log", "c", "a/b", "./"]);
        let paths: [&[u8]; 3] = [b"a/b", b"a/bc", b"c/d.log"];
        assert_eq!(patterns.unmatched(paths), ["a/b/**", "*.log"]);
        assert_eq!(patterns.unmatched([]), ["./a/", "a/b/**", "*.log", "c", "a/b", "./"]);
    }
}

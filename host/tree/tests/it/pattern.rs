//! Patterns, held against a simple reading of what they mean.

use std::path::{Path, PathBuf};

use loom_tree::Patterns;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::Fixture;

const NAMES: [&str; 6] = ["a", "b", "ab", ".a", "ba", "c.a"];
const PARTS: [&str; 16] = [
    "a", "b", "ab", ".a", "*", "a*", "*a", "?", "??", "*.*", "[ab]", "[!a]b", "{a,ab}", "{a,b}*", "**", "**",
];

fn path() -> impl Strategy<Value = Vec<&'static str>> {
    vec(select(&NAMES[..]), 1..5)
}

fn pattern() -> impl Strategy<Value = Vec<&'static str>> {
    vec(select(&PARTS[..]), 1..5)
}

/// Whether the parts of a pattern name a path.
fn names(parts: &[&str], path: &[&str]) -> bool {
    match (parts, path) {
        ([], []) | (["**"], [_, ..]) => true,
        (["**", rest @ ..], _) if !rest.is_empty() => {
            names(rest, path) || !path.is_empty() && names(parts, &path[1..])
        }
        ([part, parts @ ..], [name, path @ ..]) => {
            names_one(part.as_bytes(), name.as_bytes()) && names(parts, path)
        }
        _ => false,
    }
}

/// Whether one part of a pattern names one folder or file.
fn names_one(part: &[u8], name: &[u8]) -> bool {
    let close = |with| part.iter().position(|&byte| byte == with).unwrap();
    match (part, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|at| names_one(rest, &name[at..])),
        ([b'?', rest @ ..], [_, name @ ..]) => names_one(rest, name),
        ([b'[', b'!', ..], [first, name @ ..]) => {
            !part[2..close(b']')].contains(first) && names_one(&part[close(b']') + 1..], name)
        }
        ([b'[', ..], [first, name @ ..]) => {
            part[1..close(b']')].contains(first) && names_one(&part[close(b']') + 1..], name)
        }
        ([b'{', ..], _) => part[1..close(b'}')].split(|&byte| byte == b',').any(|either| {
            name.starts_with(either) && names_one(&part[close(b'}') + 1..], &name[either.len()..])
        }),
        ([byte, rest @ ..], [first, name @ ..]) => byte == first && names_one(rest, name),
        _ => false,
    }
}

/// A path is meant if a folder above it is named.
fn means(parts: &[&str], path: &[&str]) -> bool {
    // The whole tree.
    parts == ["**"] || (1..=path.len()).any(|end| names(parts, &path[..end]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_pattern_means_what_it_says(parts in pattern(), path in path()) {
        let patterns = Patterns::new(&[parts.join("/")]).unwrap();
        let joined = path.join("/");
        prop_assert_eq!(patterns.cover(joined.as_bytes()), means(&parts, &path));
        prop_assert_eq!(patterns.matches(joined.as_bytes()), names(&parts, &path));
    }

    #[test]
    fn no_folder_that_holds_a_match_is_passed_by(parts in pattern(), path in path()) {
        let patterns = Patterns::new(&[parts.join("/")]).unwrap();
        if names(&parts, &path) {
            for end in 0..path.len() {
                prop_assert!(patterns.may_match_below(path[..end].join("/").as_bytes()));
            }
        }
    }

    /// Without negated classes: to those a slash is a character like others.
    #[test]
    fn nor_for_patterns_that_nobody_writes(pattern in "[ab*?{},/.\\\\\\[\\]-]{1,12}", path in path()) {
        if let Ok(patterns) = Patterns::new(&[&pattern]) && patterns.matches(path.join("/").as_bytes()) {
            for end in 0..path.len() {
                prop_assert!(patterns.may_match_below(path[..end].join("/").as_bytes()));
            }
        }
    }

    #[test]
    fn unmatched_is_what_covers_nothing(patterns in vec(pattern(), 0..4), paths in vec(path(), 0..6)) {
        let written: Vec<String> = patterns.iter().map(|parts| parts.join("/")).collect();
        let mut joined: Vec<String> = paths.iter().map(|path| path.join("/")).collect();
        joined.sort();
        let expected: Vec<&String> = patterns
            .iter()
            .zip(&written)
            .filter(|(parts, _)| !paths.iter().any(|path| means(parts, path)))
            .map(|(_, pattern)| pattern)
            .collect();
        let unmatched = Patterns::new(&written).unwrap().unmatched(joined.iter().map(String::as_bytes));
        prop_assert_eq!(unmatched.iter().collect::<Vec<_>>(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_collected_is_what_is_meant(
        patterns in vec(pattern(), 1..4),
        exclude in vec(pattern(), 0..3),
        paths in vec(path(), 0..12),
    ) {
        let tree = Fixture::new();
        let mut there: Vec<Vec<&str>> = Vec::new();
        for path in paths {
            let taken = |other: &Vec<&str>| other.starts_with(&path) || path.starts_with(other);
            if !there.iter().any(taken) {
                tree.write(path.join("/"), "");
                there.push(path);
            }
        }
        let any = |patterns: &[Vec<&str>], path: &[&str]| patterns.iter().any(|parts| means(parts, path));
        let mut expected: Vec<PathBuf> = there
            .iter()
            .filter(|path| any(&patterns, path) && !any(&exclude, path))
            .map(|path| Path::new(&path.join("/")).to_owned())
            .collect();
        expected.sort_by(|one, other| one.as_os_str().cmp(other.as_os_str()));
        let written = |patterns: &[Vec<&str>]| -> Vec<String> {
            patterns.iter().map(|parts| parts.join("/")).collect()
        };
        let (patterns, exclude) = (written(&patterns), written(&exclude));
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        let exclude: Vec<&str> = exclude.iter().map(String::as_str).collect();
        prop_assert_eq!(tree.collect_except(&patterns, &exclude).files, expected);
    }
}

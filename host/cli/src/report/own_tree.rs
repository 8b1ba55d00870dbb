//! Paths in the run's copy of the repository, which is gone or stale when somebody follows them, as those of the files that
//! they are copies of.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

/// Where a repository is.
pub(super) struct Tree<'a> {
    /// Where its files are looked for.
    pub(super) root: &'a Path,
    /// The same, as it may be shown.
    pub(super) shown: &'a Path,
}

/// `line` with each absolute path of a file below `copy` that the tree has, too, as the path there. Others stay: what a job
/// has made is in the copy only.
pub(super) fn in_own_tree<'l>(line: &'l [u8], copy: &Path, tree: &Tree<'_>) -> Cow<'l, [u8]> {
    let copy = copy.as_os_str().as_bytes();
    let mut out = Vec::new();
    let mut from = 0;
    let mut looked = 0;
    // A folder of one letter would be no copy of anybody's.
    while copy.len() > 2
        && let Some(at) = line[looked..].windows(copy.len()).position(|part| part == copy)
    {
        let start = looked + at;
        let below = start + copy.len();
        looked = below;
        let before = without_colour(&line[..start]);
        let begins = before.last().is_none_or(|b| !is_of_path(*b)) || before.ends_with(b"://");
        let length = line[below..].iter().position(|b| !is_of_path(*b)).unwrap_or(line.len() - below);
        let path = without_full_stop(&line[below..below + length]);
        if begins && is_in(path, tree.root) {
            out.extend_from_slice(&line[from..start]);
            out.extend_from_slice(tree.shown.as_os_str().as_bytes());
            from = below;
        }
    }
    if from == 0 {
        return Cow::Borrowed(line);
    }
    out.extend_from_slice(&line[from..]);
    Cow::Owned(out)
}

/// `text` without a change of colour at its end.
fn without_colour(text: &[u8]) -> &[u8] {
    let escape = text.iter().rposition(|b| *b == 0x1b);
    match escape.map(|at| (&text[..at], &text[at + 1..])) {
        Some((before, [b'[', parameters @ .., b'm']))
            if parameters.iter().all(|b| b.is_ascii_digit() || *b == b';') =>
        {
            before
        }
        _ => text,
    }
}

fn without_full_stop(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b != b'.').map_or(0, |at| at + 1);
    &path[..end]
}

/// Whether `path`, the rest of an absolute one, is something below `root`, or `root` itself.
fn is_in(path: &[u8], root: &Path) -> bool {
    if path.is_empty() {
        return true;
    }
    let Some(path) = path.strip_prefix(b"/") else { return false };
    let path = Path::new(OsStr::from_bytes(path));
    path.components().all(|part| matches!(part, Component::Normal(_)))
        && root.join(path).symlink_metadata().is_ok()
}

/// Whether a path that is printed goes on with `byte`.
fn is_of_path(byte: u8) -> bool {
    !byte.is_ascii_whitespace() && !byte.is_ascii_control() && !b"\"'`:()[]{}<>,;=|&*".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_files_that_are_in_the_tree_lead_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs_err::create_dir(root.join("src")).unwrap();
        fs_err::write(root.join("src/lib.rs"), "").unwrap();
        let tree = Tree { root, shown: Path::new("/home/me/app") };
        let shown = |line: &str| {
            let line = in_own_tree(line.as_bytes(), Path::new("/ws/app-1"), &tree).into_owned();
            String::from_utf8(line).unwrap()
        };
        for (line, wanted) in [
            ("at /ws/app-1/src/lib.rs:9:5", "at /home/me/app/src/lib.rs:9:5"),
            ("(file:///ws/app-1/src/lib.rs)", "(file:///home/me/app/src/lib.rs)"),
            ("/ws/app-1 and /ws/app-1/src.", "/home/me/app and /home/me/app/src."),
            ("\x1b[31m/ws/app-1/src/lib.rs\x1b[0m", "\x1b[31m/home/me/app/src/lib.rs\x1b[0m"),
        ] {
            assert_eq!(shown(line), wanted);
        }
        for same in [
            "/ws/app-1/target/made.rs:1",
            "/ws/app-1/../secret",
            "/ws/app-10/src/lib.rs",
            "/mnt/ws/app-1/src/lib.rs",
            "nothing",
        ] {
            assert_eq!(shown(same), same);
        }
        assert_eq!(in_own_tree(b"/x", Path::new(""), &tree), &b"/x"[..]);
    }
}

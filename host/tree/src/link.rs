//! What names and symlinks a tree may be given: the same rules when they are read and when they are written.

use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// Says why `name` cannot be the name of a file or folder: the end of a sentence.
///
/// # Errors
/// It is empty, means another folder, or holds a slash or a NUL.
pub fn check_name(name: &[u8]) -> Result<(), &'static str> {
    match name {
        b"" => Err("has an empty name"),
        b"." | b".." => Err("has a name that means another folder"),
        _ if name.contains(&b'/') => Err("has a name with a slash in it"),
        _ if name.contains(&0) => Err("has a name with a NUL in it"),
        _ => Ok(()),
    }
}

/// Says why no symlink can have the text `target`: the end of a sentence. Where it leads does not matter.
///
/// # Errors
/// It is empty, or holds a NUL.
pub fn check_text(target: &[u8]) -> Result<(), &'static str> {
    match target {
        b"" => Err("leads nowhere"),
        _ if target.contains(&0) => Err("has a NUL in it"),
        _ => Ok(()),
    }
}

/// Says why a symlink `depth` folders below the root may not point to `target`, whatever else is in the tree:
/// the end of a sentence.
///
/// `..` is allowed at the beginning only, and no more often than there are folders above. From a link's own
/// folder, which is a real one, such a target cannot leave the root; where it goes on through another link,
/// that one keeps to the same rule. With `..` after a name it could: `up/../..` leads outside once `up` is
/// itself a link upwards.
///
/// # Errors
/// It leads outside, or could.
fn check_target(target: &[u8], depth: usize) -> Result<(), &'static str> {
    check_text(target)?;
    if target.starts_with(b"/") {
        return Err("leads to an absolute path");
    }
    let mut up = 0;
    let mut down = false;
    for part in target.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if down => {
                return Err("goes up after it went down, so that it could lead outside the workspace");
            }
            b".." => up += 1,
            _ => down = true,
        }
    }
    if up > depth { Err("leads outside the workspace") } else { Ok(()) }
}

/// Says why the symlink at `path` below `root`, which points to `target`, may not be taken out of its tree:
/// the end of a sentence. One that leads to something in the tree may; one that leads nowhere, if no tree
/// could make it lead outside.
pub(crate) fn check_link(root: BorrowedFd<'_>, path: &[u8], target: &[u8]) -> Result<(), &'static str> {
    let depth = path.iter().filter(|&&byte| byte == b'/').count();
    let by_its_words = check_target(target, depth);
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // The kernel gives up where a folder is being moved, since it cannot tell then.
    for _ in 0..8 {
        match openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), inside) {
            Ok(_) => return Ok(()),
            Err(Errno::XDEV) => {
                return Err(by_its_words
                    .err()
                    .unwrap_or("leads outside the workspace through another symlink"));
            }
            Err(Errno::AGAIN) => {}
            // It leads nowhere, or this system cannot tell.
            Err(_) => break,
        }
    }
    by_its_words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_may_point_to_what_is_in_the_tree() {
        for (target, depth) in [
            ("a", 0),
            ("a/b/c", 0),
            ("./a", 0),
            ("../a", 1),
            ("../../a/b", 2),
            ("..", 1),
            ("a//b/", 0),
            (".", 0),
        ] {
            assert_eq!(check_target(target.as_bytes(), depth), Ok(()), "{target} at {depth}");
        }
    }

    #[test]
    fn a_link_may_not_point_outside_it() {
        for (target, depth) in [
            ("", 3),
            ("/", 3),
            ("/etc/shadow", 3),
            ("..", 0),
            ("../../a", 1),
            ("./../a", 0),
            ("a/../b", 3),
            ("up/../..", 3),
            ("a/./..", 3),
        ] {
            assert!(check_target(target.as_bytes(), depth).is_err(), "{target} at {depth}");
        }
    }

    #[test]
    fn a_name_is_one_name() {
        for name in ["", ".", "..", "a/b", "/", "a\0b"] {
            assert!(check_name(name.as_bytes()).is_err(), "{name:?}");
        }
        for name in [&b"..."[..], b"a\nb", b" ", b"\xff\xfe", b".git", b"c:\\x"] {
            assert_eq!(check_name(name), Ok(()), "{name:?}");
        }
    }
}

//! Folders that are the user's alone, and those that only look so.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use loom_ownership::{Error, PrivateFolder};
use tempfile::TempDir;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The folder that is to blame, and why.
fn refused(path: &Path) -> (std::path::PathBuf, String) {
    match PrivateFolder::open_or_make(path) {
        Err(Error::NotPrivate { culprit, why, .. }) => (culprit, why),
        other => panic!("{other:?}"),
    }
}

fn root() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn new_folders_are_for_the_user_alone_whatever_was_asked_for() {
    let root = root();
    let path = root.path().join("a/b/c");
    let folder = PrivateFolder::open_or_make(&path).unwrap();
    assert_eq!(folder.path(), path.canonicalize().unwrap());
    assert_eq!([mode(&root.path().join("a")), mode(&path)], [0o700, 0o700]);
    // There already, and so left as it is.
    set_mode(&path, 0o755);
    PrivateFolder::open_or_make(&path).unwrap();
    assert_eq!(mode(&path), 0o755);
}

#[test]
fn one_that_others_may_write_to_is_refused_wherever_it_is_on_the_way() {
    let root = root();
    let path = root.path().join("a/b/c");
    fs::create_dir_all(&path).unwrap();
    for (part, mode) in [("a/b/c", 0o777), ("a/b/c", 0o1777), ("a/b", 0o757), ("a", 0o772)] {
        let part = root.path().join(part);
        set_mode(&part, mode);
        let (culprit, why) = refused(&path);
        assert_eq!(culprit, part.canonicalize().unwrap());
        assert_eq!(why, format!("is writable by others (mode {mode:o})"));
        set_mode(&part, 0o755);
    }
    // Sticky: what is in it can be replaced by nobody but its owner.
    set_mode(&root.path().join("a/b"), 0o1777);
    PrivateFolder::open_or_make(&path).unwrap();
}

#[test]
fn links_of_the_user_are_followed_and_anything_else_in_the_way_is_not() {
    let root = root();
    let real = root.path().join("real");
    fs::create_dir(&real).unwrap();
    symlink("real", root.path().join("link")).unwrap();
    let folder = PrivateFolder::open_or_make(&root.path().join("link/cache")).unwrap();
    assert_eq!(folder.path(), real.join("cache").canonicalize().unwrap());
    symlink("../real/../link/cache", real.join("round")).unwrap();
    assert_eq!(PrivateFolder::open_or_make(&real.join("round")).unwrap().path(), folder.path());

    symlink("loop", root.path().join("loop")).unwrap();
    fs::write(root.path().join("file"), "").unwrap();
    for path in ["loop", "loop/x", "file", "file/x"] {
        let error = PrivateFolder::open_or_make(&root.path().join(path)).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{path}: {error}");
    }
    // A folder in a private one is never a link, even to a private one.
    symlink(&real, folder.path().join("planted")).unwrap();
    assert!(folder.folder("planted").is_err());
    assert!(!real.join("runs").exists());
}

/// Only root can make what belongs to somebody else.
#[test]
fn what_belongs_to_somebody_else_is_refused() {
    let root = root();
    let (cache, inside) = (root.path().join("cache"), root.path().join("cache/inside"));
    fs::create_dir_all(&inside).unwrap();
    if chown(&cache, Some(23456), None).is_err() {
        eprintln!("skipped: only root can give a folder away");
        return;
    }
    for path in [&cache, &inside] {
        let (culprit, why) = refused(path);
        assert_eq!(culprit, cache.canonicalize().unwrap());
        assert!(why.starts_with("belongs to user 23456"), "{why}");
    }
    // In a folder where all may write, a link of somebody else leads where they like.
    let shared = root.path().join("shared");
    fs::create_dir(&shared).unwrap();
    set_mode(&shared, 0o1777);
    let own = root.path().join("own");
    fs::create_dir(&own).unwrap();
    symlink(&own, shared.join("link")).unwrap();
    PrivateFolder::open_or_make(&shared.join("link")).unwrap();
    std::os::unix::fs::lchown(shared.join("link"), Some(23456), None).unwrap();
    assert_eq!(refused(&shared.join("link")).1, "is a link of user 23456");
}

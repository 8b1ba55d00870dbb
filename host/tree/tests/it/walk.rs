//! The walk by itself, as one who does more than collecting needs it.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use loom_tree::{Closed, Descent, Patterns, Visit, WalkEntry, WalkFolder, Wanted, dir, walk};
use rustix::fs::{FileType, Mode};

use crate::support::{Fixture, set_mode};

/// Notes for each folder the path that it was told of its parents.
#[derive(Default)]
struct Told {
    folders: Mutex<BTreeSet<(String, bool)>>,
    entries: Mutex<BTreeSet<String>>,
    most: AtomicUsize,
    over: AtomicBool,
}

impl Visit for Told {
    type Note = String;

    fn folder(&self, folder: &WalkFolder<'_>, parent: Option<&String>) -> String {
        let path = String::from_utf8(folder.path()).unwrap();
        assert_eq!(folder.depth(), path.split('/').filter(|name| !name.is_empty()).count());
        assert_eq!(FileType::from_raw_mode(folder.stat().st_mode), FileType::Directory);
        assert_eq!(parent.is_none(), path.is_empty());
        if let Some(parent) = parent {
            let name = path.rsplit('/').next().unwrap();
            assert_eq!(path.as_bytes(), dir::join(parent.as_bytes(), name.as_bytes()));
        }
        self.folders.lock().unwrap().insert((path.clone(), folder.is_inside()));
        path
    }

    fn entries(&self, folder: &WalkFolder<'_>, note: &String, entries: &[WalkEntry<'_>]) {
        self.most.fetch_max(entries.len(), Ordering::Relaxed);
        for entry in entries {
            // What is in the folder can be reached through it.
            let stat = rustix::fs::statat(folder, entry.name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
            assert_eq!(FileType::from_raw_mode(stat.st_mode), entry.kind);
            let path = String::from_utf8(dir::join(note.as_bytes(), entry.name)).unwrap();
            assert!(self.entries.lock().unwrap().insert(path));
        }
    }

    fn left_out(&self, path: &[u8], why: Closed) {
        panic!("{path:?} {why:?}");
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

fn told(tree: &Fixture, patterns: &[&str], exclude: &[&str], told: Told) -> Told {
    let root = dir::open_root(tree.tree()).unwrap();
    let (patterns, exclude) = (Patterns::new(patterns).unwrap(), Patterns::new(exclude).unwrap());
    walk(root.as_fd(), Wanted { patterns: &patterns, exclude: &exclude }, &told).unwrap();
    told
}

#[test]
fn a_walk_goes_where_a_match_can_be_and_nowhere_else() {
    let tree = Fixture::with(&["a/b/c/x", "a/b/y", "a/skip/z", "other/x", "top"]);
    let told = told(&tree, &["a/b", "a/skip/*", "top"], &["a/skip"], Told::default());
    let folders: Vec<(String, bool)> = told.folders.into_inner().unwrap().into_iter().collect();
    let expected = [("", false), ("a", false), ("a/b", true), ("a/b/c", true)];
    assert_eq!(folders, expected.map(|(path, inside)| (path.to_owned(), inside)));
    assert_eq!(
        told.entries.into_inner().unwrap().into_iter().collect::<Vec<_>>(),
        ["a/b/c/x", "a/b/y", "top"]
    );
}

#[test]
fn a_big_folder_is_shared_out() {
    let tree = Fixture::new();
    for index in 0..3000 {
        tree.write(format!("big/{index}"), "");
    }
    let told = told(&tree, &["**"], &[], Told::default());
    assert_eq!(told.entries.into_inner().unwrap().len(), 3000);
    assert!(told.most.into_inner() < 1000);
}

#[test]
fn who_has_enough_is_told_nothing_more() {
    let tree = Fixture::with(&["a/b/c", "d"]);
    let told = told(&tree, &["**"], &[], Told { over: AtomicBool::new(true), ..Told::default() });
    assert_eq!(told.entries.into_inner().unwrap().len(), 0);
    assert_eq!(told.folders.into_inner().unwrap().len(), 1);
}

/// Without the limit on folders that are held open, a process would run out of them.
#[test]
fn folders_beside_and_in_one_another_are_not_all_held_open() {
    let tree = Fixture::new();
    let mut folder = dir::open_root(tree.tree()).unwrap();
    for _ in 0..3000 {
        for name in [c"a", c"b", c"c"] {
            rustix::fs::mkdirat(&folder, name, Mode::RWXU).unwrap();
        }
        folder = dir::open_child(folder.as_fd(), b"b").unwrap();
    }
    let told = told(&tree, &["**"], &[], Told::default());
    assert_eq!(told.folders.into_inner().unwrap().len(), 9001);
    let mut rm = std::process::Command::new("rm");
    assert!(loom_deadlines::status(rm.arg("-rf").arg(tree.tree())).unwrap().success());
}

#[test]
fn a_folder_that_is_closed_to_its_owner_can_be_opened_for_good() {
    let tree = Fixture::with(&["closed/x"]);
    let closed = tree.tree().join("closed");
    set_mode(&closed, 0);
    let root = dir::open_root(tree.tree()).unwrap();
    let descent = Descent::new(root.as_fd());
    let child = descent.child(&descent.root().unwrap(), b"closed");
    let id = child.id();
    let open = descent.force_open(child).unwrap();
    assert_eq!((open.id(), descent.path(id)), (id, b"closed".to_vec()));
    assert_eq!(dir::Listing::of(open.as_fd()).unwrap().iter().next().unwrap().0, b"x");
    // What opens it is asked for by itself: root needs no rights.
    dir::open_up(root.as_fd(), b"closed").unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs_err::metadata(closed).unwrap().mode() & 0o777, 0o700);
}

//! Failing I/O: whatever call of a save, a restore or a collection fails, no entry is torn, nothing of the
//! user's is lost, the error names the path, and what comes next works.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use fs_err as fs;
use loom_faults::{Failing, Fault, fail_each, intercept};
use parking_lot::Mutex;
use rustix::io::Errno;
use tempfile::TempDir;

use crate::lease::Lease;
use crate::{Error, FileError, Origin, Reason, Restored, Save, Saved, Store, Tracked, key};

/// The ways in which calls fail here: one of them for want of space, one by itself, and all from one on.
const FAILING: [Failing; 3] =
    [Failing::Once(Errno::NOSPC), Failing::Once(Errno::IO), Failing::FromThenOn(Errno::IO)];

/// A store beside two trees.
struct World {
    dir: TempDir,
    store: Store,
}

/// The content of a tree, by path: the content of a file, or the target of a symlink.
type Content = BTreeMap<PathBuf, Vec<u8>>;

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let world = Self { dir, store };
        for (tree, seed) in [("old", 1), ("new", 2)] {
            let deps = world.path(tree).join("deps");
            fs::create_dir_all(deps.join("below")).unwrap();
            for name in ["a", "b", "below/c"] {
                fs::write(deps.join(name), [seed; 3000]).unwrap();
            }
            fs::write(deps.join("only-").with_file_name(format!("only-{tree}")), tree).unwrap();
            fs::write(deps.join("big"), vec![seed; (1 << 20) + 10]).unwrap();
            symlink(format!("to-{tree}"), deps.join("link")).unwrap();
            fs::write(world.path(tree).join("mine"), "the user's").unwrap();
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn save(&self, tree: &str, key: &str) -> Result<Saved, Error> {
        let (patterns, origin, cancel) = (["deps".to_owned()], Origin::default(), AtomicBool::new(false));
        self.store.save(&Save {
            name: "n",
            key,
            tree: &self.path(tree),
            patterns: &patterns,
            tracked: &Tracked::default(),
            origin: &origin,
            cancel: &cancel,
        })
    }

    /// Restores the entry of a key; nothing where there is none.
    fn restore(&self, key: &str, to: &Path) -> Result<Option<Restored>, Error> {
        let Some(entry) = self.store.find("n", key)?.entry else { return Ok(None) };
        entry.restore(to, &["deps".to_owned()], &Tracked::default(), &AtomicBool::new(false)).map(Some)
    }

    /// The content of an entry, restored to a new folder; nothing where there is none.
    fn content_of(&self, key: &str) -> Option<Content> {
        let fresh = tempfile::tempdir_in(self.dir.path()).unwrap();
        self.restore(key, fresh.path()).unwrap().map(|_| content(&fresh.path().join("deps")))
    }

    fn content(&self, tree: &str) -> Content {
        content(&self.path(tree).join("deps"))
    }
}

fn content(root: &Path) -> Content {
    let mut found = Content::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let content = match path.symlink_metadata().unwrap().file_type() {
                kind if kind.is_symlink() => {
                    fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
                }
                kind if kind.is_dir() => {
                    folders.push(path);
                    continue;
                }
                _ => fs::read(&path).unwrap(),
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), content);
        }
    }
    found
}

/// An error must name a file below the folder of the world, and say what is full where something is.
fn check_error(error: &Error, failing: Failing, world: &World, fault: &Fault<'_>) {
    let named = error.to_string().contains(world.dir.path().to_str().unwrap());
    assert!(named, "{error} {:?}", fault.hit());
    let is_full = matches!(error, Error::File(FileError::NoSpace { .. }));
    let reads = matches!(error, Error::File(FileError::Read { .. }));
    assert!(is_full || reads || failing != Failing::Once(Errno::NOSPC), "{error} {:?}", fault.hit());
}

#[test]
fn a_save_of_which_a_call_fails_leaves_the_entry_before_it_or_the_new_one() {
    for failing in FAILING {
        let world = World::new();
        world.save("old", "k").unwrap();
        let (old, new) = (world.content("old"), world.content("new"));
        let calls = fail_each(world.dir.path(), failing, |fault| {
            world.save("old", "k").unwrap();
            let saved = fault.during(|| world.save("new", "k"));
            let there = world.content_of("k").expect("an entry");
            match &saved {
                Ok(_) => assert!(there == new, "{:?}", fault.hit()),
                Err(error) => {
                    check_error(error, failing, &world, fault);
                    assert!(there == old || there == new, "{:?}", fault.hit());
                }
            }
            // Nothing is left behind that a later save would trip over, or that nobody removes.
            world.save("new", "k").unwrap();
            assert!(world.content_of("k").unwrap() == new, "{:?}", fault.hit());
            assert_eq!(fs::read_dir(world.store.layout().tmp()).unwrap().count(), 0, "{:?}", fault.hit());
            let verified = world.store.verify(&AtomicBool::new(false)).unwrap();
            assert_eq!((verified.entries, verified.warnings), (1, vec![]), "{:?}", fault.hit());
            assert!(world.content("new") == new && world.content("old") == old);
            // The next round begins with the old entry and without the new content.
            world.save("old", "k").unwrap();
            world.store.gc(u64::MAX, &[]).unwrap();
        });
        assert!(calls > 25, "{calls}");
    }
}

#[test]
fn the_first_save_of_which_a_call_fails_leaves_no_entry_or_a_whole_one() {
    for failing in FAILING {
        let world = World::new();
        let new = world.content("new");
        let calls = fail_each(world.dir.path(), failing, |fault| {
            let saved = fault.during(|| world.save("new", "k"));
            match (&saved, world.content_of("k")) {
                (Ok(_), there) => assert!(there.as_ref() == Some(&new), "{:?}", fault.hit()),
                (Err(error), there) => {
                    check_error(error, failing, &world, fault);
                    assert!(there.is_none_or(|there| there == new), "{:?}", fault.hit());
                }
            }
            world.save("new", "k").unwrap();
            assert!(world.content_of("k").unwrap() == new, "{:?}", fault.hit());
            fs::remove_dir_all(world.path("store")).unwrap();
        });
        assert!(calls > 30, "{calls}");
    }
}

#[test]
fn a_restore_of_which_a_call_fails_is_made_good_by_the_next() {
    for failing in FAILING {
        let world = World::new();
        world.save("new", "k").unwrap();
        let (tree, new) = (world.path("tree"), world.content("new"));
        let calls = fail_each(world.dir.path(), failing, |fault| {
            fs::create_dir_all(tree.join("deps")).unwrap();
            fs::write(tree.join("mine"), "the user's").unwrap();
            fs::write(tree.join("deps/a"), "another").unwrap();
            fs::write(tree.join("deps/gone"), "another").unwrap();
            symlink("elsewhere", tree.join("deps/link")).unwrap();
            let before = content(&tree.join("deps"));
            match fault.during(|| world.restore("k", &tree)) {
                Ok(restored) => {
                    assert!(restored.is_some() && content(&tree.join("deps")) == new, "{:?}", fault.hit());
                }
                Err(error) => {
                    let is_gone = matches!(error, Error::Gone { .. });
                    if !is_gone {
                        check_error(&error, failing, &world, fault);
                    }
                    // Each file is what it was, or what it should be, or not there; never a part of it, nor
                    // another.
                    for (path, there) in content(&tree.join("deps")) {
                        let known = [before.get(&path), new.get(&path)].contains(&Some(&there));
                        assert!(known, "{} {:?}", path.display(), fault.hit());
                    }
                }
            }
            assert_eq!(fs::read(tree.join("mine")).unwrap(), b"the user's");
            let restored = world.restore("k", &tree).unwrap().expect("the entry is still there");
            assert_eq!(restored.warnings, []);
            assert!(content(&tree.join("deps")) == new, "{:?}", fault.hit());
            fs::remove_dir_all(&tree).unwrap();
        });
        assert!(calls > 20, "{calls}");
    }
}

#[test]
fn a_collection_of_which_a_call_fails_harms_no_entry_that_it_keeps() {
    for failing in FAILING {
        let world = World::new();
        let (old, new) = (world.content("old"), world.content("new"));
        let calls = fail_each(world.dir.path(), failing, |fault| {
            world.save("old", "old").unwrap();
            world.save("new", "new").unwrap();
            let collected = fault.during(|| world.store.gc(0, &[("n", "new")]));
            if let Err(error) = &collected {
                check_error(error, failing, &world, fault);
            }
            assert!(world.content_of("new").unwrap() == new, "{:?}", fault.hit());
            // It is there whole, or a miss.
            assert!(world.content_of("old").is_none_or(|there| there == old), "{:?}", fault.hit());
            world.store.gc(0, &[("n", "new")]).unwrap();
            let verified = world.store.verify(&AtomicBool::new(false)).unwrap();
            assert_eq!((verified.entries, verified.warnings), (1, vec![]), "{:?}", fault.hit());
        });
        assert!(calls > 15, "{calls}");
    }
}

#[test]
fn a_collection_of_which_a_call_fails_takes_nothing_from_a_restore_under_way() {
    for failing in FAILING {
        let world = World::new();
        let new = world.content("new");
        world.save("new", "new").unwrap();
        let entry = world.store.find("n", "new").unwrap().entry.unwrap();
        let lease = Lease::take(world.store.layout(), "n", "new", entry.digest).unwrap();
        let calls = fail_each(world.dir.path(), failing, |fault| {
            let _ = fault.during(|| world.store.gc(0, &[]));
            assert!(world.content_of("new").unwrap() == new, "{:?}", fault.hit());
        });
        assert!(calls > 10, "{calls}");
        drop(lease);
        world.store.gc(0, &[]).unwrap();
        assert!(world.content_of("new").is_none());
    }
}

fn reason() -> Reason {
    Reason { run: "r".into(), job: "j".into(), differences: vec!["d".into()], when: SystemTime::UNIX_EPOCH }
}

#[test]
fn a_quarantine_of_which_a_call_fails_never_lets_a_key_go() {
    for failing in FAILING {
        let world = World::new();
        world.save("old", "k").unwrap();
        let calls = fail_each(world.dir.path(), failing, |fault| {
            world.store.quarantine("n", "k", &reason()).unwrap();
            // To put it there once more, to ask for it and to end it: none of them makes it free by failing.
            let put = fault.during(|| world.store.quarantine("n", "k", &reason()));
            assert_eq!(put.is_err(), fault.hit().is_some(), "{:?}", fault.hit());
            let files = fs::read_dir(world.store.layout().entries_of("n")).unwrap();
            assert_eq!(files.count(), 2, "the entry and its quarantine: {:?}", fault.hit());
            assert_eq!(world.store.is_quarantined("n", "k").unwrap(), Some(reason()), "{:?}", fault.hit());
        });
        assert!(calls > 10, "{calls}");
        let calls = fail_each(world.dir.path(), failing, |fault| {
            match fault.during(|| world.store.is_quarantined("n", "k")) {
                Ok(found) => assert_eq!(found, Some(reason())),
                Err(error) => check_error(&error, failing, &world, fault),
            }
        });
        assert_eq!(calls, 1);
        let calls = fail_each(world.dir.path(), failing, |fault| {
            world.store.quarantine("n", "k", &reason()).unwrap();
            let lifted = fault.during(|| world.store.lift("n", "k"));
            let there = world.store.is_quarantined("n", "k").unwrap().is_some();
            assert_eq!((lifted.is_err(), there), (fault.hit().is_some(), fault.hit().is_some()));
        });
        assert_eq!(calls, 1);
    }
}

#[test]
fn a_quarantine_that_cannot_be_read_counts() {
    let world = World::new();
    world.save("old", "k").unwrap();
    let place = world.store.layout().quarantine("n", "k");
    fs::create_dir(&place).unwrap();
    for error in [world.store.is_quarantined("n", "k").unwrap_err(), world.store.lift("n", "k").unwrap_err()]
    {
        assert!(error.to_string().contains(place.to_str().unwrap()), "{error}");
    }
    assert!(place.is_dir());
    // Nor is it offered to whoever has another key.
    assert!(world.store.newest_with_prefix("n", "").unwrap().entry.is_none());
}

#[test]
fn what_an_entry_needs_is_on_the_disk_before_the_entry() {
    let world = World::new();
    let calls: std::sync::Arc<Mutex<Vec<(&str, PathBuf)>>> = Default::default();
    let noted = calls.clone();
    let guard = intercept(world.dir.path(), move |doing, path| {
        noted.lock().push((doing, path.to_owned()));
        Ok(())
    });
    world.save("new", "k").unwrap();
    drop(guard);
    let (calls, layout) = (calls.lock(), world.store.layout());
    let at = |doing: &str, is: &dyn Fn(&Path) -> bool| {
        let found = calls.iter().enumerate().filter(|(_, (done, path))| *done == doing && is(path));
        found.map(|(at, _)| at).collect::<Vec<_>>()
    };
    let is = |wanted: PathBuf| move |path: &Path| path == wanted;
    let below = |wanted: PathBuf| move |path: &Path| path.parent() == Some(&wanted);
    let [entry] = at("rename", &is(layout.entry("n", "k")))[..] else { panic!("{calls:?}") };
    let mut last = 0;
    for folder in [layout.packs(), layout.objects(), layout.manifests()] {
        let [moved] = at("rename", &below(folder.clone()))[..] else { panic!("{folder:?} {calls:?}") };
        let [synced] = at("sync", &is(folder.clone()))[..] else { panic!("{folder:?} {calls:?}") };
        assert!(last < moved && moved < synced && synced < entry, "{folder:?} {calls:?}");
        last = synced;
    }
    // The entry itself is, when the save says so.
    assert!(at("sync", &is(layout.entries_of("n"))).iter().any(|synced| *synced > entry), "{calls:?}");
    // And what is moved was synced where it was written.
    let staged = at("sync", &|path| path.starts_with(layout.tmp()));
    assert!(staged.len() >= 3 && staged.iter().all(|synced| *synced < entry), "{calls:?}");
}

#[test]
fn a_tree_that_was_restored_is_not_read_again() {
    let world = World::new();
    world.save("new", "k").unwrap();
    let tree = world.path("tree");
    fs::create_dir(&tree).unwrap();
    let reads = || {
        let reads: std::sync::Arc<Mutex<Vec<PathBuf>>> = Default::default();
        let noted = reads.clone();
        let guard = intercept(&tree, move |doing, path| {
            noted.lock().extend((doing == "read").then(|| path.to_owned()));
            Ok(())
        });
        let restored = world.restore("k", &tree).unwrap().unwrap();
        drop(guard);
        (restored.written, std::mem::take(&mut *reads.lock()))
    };
    assert_eq!(reads(), (6, vec![]));
    assert_eq!(reads(), (0, vec![]));
    // Of a file whose time of change is another one it is not known what it holds.
    let changed = tree.join("deps/a");
    fs::set_permissions(&changed, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(reads(), (0, vec![changed]));
    assert_eq!(reads(), (0, vec![]));
}

#[test]
fn a_file_that_changes_while_a_key_is_made_of_it_is_an_error() {
    let world = World::new();
    let file = world.path("new").join("mine");
    for (now, length) in [("longer", 30), ("shorter", 3), ("empty", 0)] {
        fs::write(&file, [b'x'; 20]).unwrap();
        let guard = intercept(&file, move |doing, path| {
            if doing == "read" {
                fs::OpenOptions::new().write(true).open(path)?.set_len(length)?;
            }
            Ok(())
        });
        let error = key::hash_files(&world.path("new"), &["mine"]).unwrap_err();
        drop(guard);
        assert!(error.to_string().ends_with("it changed while it was read"), "{now}: {error}");
        assert!(error.to_string().contains(file.to_str().unwrap()), "{now}: {error}");
    }
    fs::write(&file, [b'x'; 20]).unwrap();
    assert_eq!(key::hash_files(&world.path("new"), &["mine"]).unwrap().files.len(), 1);
}

//! Names, keys and prefixes.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use loom_cache::{Origin, Save, Saved, Tracked};

use crate::support::{NAME, World, noise};

#[test]
fn any_text_is_a_key() {
    let world = World::new();
    world.write("deps/a", "a");
    let keys = ["", ".", "..", "../../etc", "a/b", "a\0b", "a\nb", "ä", &"long".repeat(2000), "A", "a"];
    for key in keys {
        world.save_all(key);
    }
    for key in keys {
        assert_eq!(world.entry(key).info().key, key);
    }
    assert_eq!(world.store.list().unwrap().entries.len(), keys.len());
    assert!(world.store.find(NAME, "b").unwrap().entry.is_none());
}

#[test]
fn caches_of_different_names_do_not_meet() {
    let world = World::new();
    world.write("deps/a", "a");
    world.save_all("k-1");
    assert!(world.store.find("other", "k-1").unwrap().entry.is_none());
    assert!(world.store.newest_with_prefix("other", "k").unwrap().entry.is_none());
}

#[test]
fn of_the_keys_with_a_prefix_the_newest_is_found() {
    let world = World::new();
    for key in ["npm-b", "npm-a", "npm-c", "pip-d", "npm"] {
        world.write("deps/a", key);
        world.save_all(key);
        std::thread::sleep(Duration::from_millis(5));
    }
    let newest = |prefix: &str| {
        world.store.newest_with_prefix(NAME, prefix).unwrap().entry.map(|e| e.info().key.clone())
    };
    assert_eq!(newest("npm-").as_deref(), Some("npm-c"));
    assert_eq!(newest("npm").as_deref(), Some("npm"));
    assert_eq!(newest("").as_deref(), Some("npm"));
    assert_eq!(newest("npm-b").as_deref(), Some("npm-b"));
    assert_eq!(newest("go"), None);
    // Being used does not make an entry newer.
    world.restore_fresh("npm-a");
    assert_eq!(newest("npm-").as_deref(), Some("npm-c"));
    // A damaged one is passed over.
    let damaged = world.entry("npm-c").info().tree.clone();
    fs_err::remove_file(world.store_dir().join("manifests").join(damaged)).unwrap();
    let found = world.store.newest_with_prefix(NAME, "npm-").unwrap();
    assert_eq!((found.entry.unwrap().info().key.as_str(), found.warnings.len()), ("npm-a", 1));
}

/// All files of the store, as far as a change would show; but not of the indexes, which are no part of entries.
fn files_of(world: &World) -> Vec<(std::path::PathBuf, u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt as _;
    let folders = ["entries", "manifests", "packs", "objects", "damaged", "tmp"];
    let files = folders.into_iter().flat_map(|folder| world.files_in(folder));
    let seen = |path: std::path::PathBuf| {
        let meta = fs_err::metadata(&path).unwrap();
        (path, meta.ino(), meta.ctime(), meta.ctime_nsec())
    };
    files.map(seen).collect()
}

#[test]
fn an_entry_is_replaced_where_the_tree_differs_and_only_there() {
    let world = World::new();
    world.write("deps/a", "first");
    world.write("deps/same", noise(1, 3000));
    world.save_all("k");
    let start = files_of(&world);
    let restored = world.restore_fresh("k");
    let fresh_again = world.restore_fresh("k");
    // In the tree itself, in one that was restored, and in one that nothing is known of.
    let copied = world.folder("copied");
    crate::support::run("cp", &["-a", world.tree().join("deps").to_str().unwrap(), copied.to_str().unwrap()]);
    let used = |files: &[(std::path::PathBuf, u64, i64, i64)]| -> Vec<_> {
        files.iter().map(|file| (file.0.clone(), file.1)).collect()
    };
    for tree in [world.tree(), restored, copied] {
        assert_eq!(world.try_save(&tree, "k", &["deps"]).unwrap(), Saved::Unchanged);
        // A restore notes when the entry was used, and no more.
        assert_eq!(used(&files_of(&world)), used(&start));
    }
    let changes: [(&str, &dyn Fn()); 6] = [
        ("content", &|| drop(world.write("deps/a", "second"))),
        ("a new file", &|| drop(world.write("deps/new", "new"))),
        ("a new folder", &|| drop(world.folder("tree/deps/empty"))),
        ("permissions", &|| crate::support::set_mode(&world.tree().join("deps/a"), 0o755)),
        ("a time", &|| crate::support::set_time(&world.tree().join("deps/a"), 1_000_000, 0)),
        ("one that is gone", &|| fs_err::remove_file(world.tree().join("deps/new")).unwrap()),
    ];
    for (what, change) in changes {
        change();
        let stored = world.save_all("k");
        assert!(stored < 2000, "{what}: {stored} bytes for what the store has already");
        crate::support::assert_same(&world.restore_fresh("k"), &world.tree());
        assert_eq!(world.save("k", &["deps"]), Saved::Unchanged, "{what}");
    }
    assert_eq!(world.store.list().unwrap().entries.len(), 1);
    // The tree that the first entry was restored to is another one now.
    assert!(matches!(world.try_save(&fresh_again, "k", &["deps"]).unwrap(), Saved::Stored { .. }));
    assert_eq!(fs_err::read(world.restore_fresh("k").join("deps/a")).unwrap(), b"first");
    // What no entry needs any more goes with the next collection.
    world.store.gc(u64::MAX, &[]).unwrap();
    assert_eq!(
        (world.files_in("manifests").len(), world.store.verify(&false.into()).unwrap().warnings),
        (1, vec![])
    );
}

#[test]
fn who_saved_an_entry_is_kept_with_it() {
    let world = World::new();
    world.write("deps/a", "a");
    let origin = Origin {
        run: "loom-run-1".to_owned(),
        job: "build".to_owned(),
        inputs: vec![("package-lock.json".to_owned(), "abc".to_owned())],
        recipe: "npm-${files}".to_owned(),
    };
    let (patterns, cancel) = (["deps".to_owned()], AtomicBool::new(false));
    let save = Save {
        name: NAME,
        key: "k",
        tree: &world.tree(),
        patterns: &patterns,
        tracked: &Tracked::default(),
        origin: &origin,
        cancel: &cancel,
    };
    world.store.save(&save).unwrap();
    let listed = world.store.list().unwrap();
    assert_eq!(listed.warnings, []);
    let [info] = &listed.entries[..] else { panic!("{listed:?}") };
    assert_eq!((&info.origin, info.files, info.bytes), (&origin, 1, 1));
    assert!(info.saved.elapsed().unwrap() < Duration::from_secs(60));
    assert_eq!(info, world.entry("k").info());
}

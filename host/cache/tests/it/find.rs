//! Names, keys and prefixes.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use loom_cache::{Origin, Save, Saved};

use crate::support::{NAME, World};

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

#[test]
fn an_entry_is_not_written_again() {
    let world = World::new();
    world.write("deps/a", "first");
    world.save_all("k");
    world.write("deps/a", "second");
    assert_eq!(world.save("k", &["deps"]), Saved::AlreadyThere);
    assert_eq!(fs_err::read(world.restore_fresh("k").join("deps/a")).unwrap(), b"first");
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

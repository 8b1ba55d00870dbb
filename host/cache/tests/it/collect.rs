//! Collections: what goes, what stays, and how one learns of it afterwards; quarantine.

use std::time::{Duration, SystemTime};

use fs_err as fs;
use loom_cache::{Cause, Reason};

use crate::support::{NAME, World, noise};

/// Three entries of 100 kB each, none sharing anything, last used in the order in which they were saved.
fn world() -> World {
    let world = World::new();
    for (number, key) in ["first", "second", "third"].into_iter().enumerate() {
        fs::create_dir_all(world.tree().join("deps")).unwrap();
        world.write("deps/file", noise(number as u64, 100_000));
        world.save_all(key);
        std::thread::sleep(Duration::from_millis(10));
    }
    world
}

fn keys(world: &World) -> Vec<String> {
    let mut keys: Vec<_> = world.store.list().unwrap().entries.into_iter().map(|info| info.key).collect();
    keys.sort();
    keys
}

#[test]
fn the_entry_whose_last_use_is_longest_ago_goes_first() {
    let world = world();
    world.restore_fresh("first");
    let collected = world.store.gc(250_000, &[]).unwrap();
    assert_eq!(keys(&world), ["first", "third"]);
    assert!(collected.bytes <= 250_000 && collected.freed > 100_000, "{collected:?}");
    let log = world.store.evictions().unwrap();
    assert_eq!(log, collected.evicted);
    let [eviction] = &log[..] else { panic!("{log:?}") };
    assert_eq!((&*eviction.name, &*eviction.key), (NAME, "second"));
    assert!(matches!(eviction.cause, Cause::Limit { max_bytes: 250_000, used } if used < eviction.when));
    assert!(eviction.when.elapsed().unwrap() < Duration::from_secs(60));

    // The log goes on.
    world.store.gc(150_000, &[]).unwrap();
    let names: Vec<_> = world.store.evictions().unwrap().into_iter().map(|one| one.key).collect();
    assert_eq!(names, ["second", "third"]);
}

#[test]
fn what_is_large_enough_for_all_takes_nothing() {
    let world = world();
    let collected = world.store.gc(1 << 30, &[]).unwrap();
    assert_eq!((collected.evicted, collected.freed), (vec![], 0));
    assert_eq!(keys(&world), ["first", "second", "third"]);
}

#[test]
fn entries_that_are_kept_stay_whatever_the_limit() {
    let world = world();
    let collected = world.store.gc(0, &[(NAME, "first"), ("other", "third")]).unwrap();
    assert_eq!(keys(&world), ["first"]);
    assert_eq!(collected.evicted.len(), 2);
    world.restore_fresh("first");
}

#[test]
fn content_that_another_entry_needs_stays() {
    let world = World::new();
    for file in 0..20 {
        world.write(&format!("deps/{file}"), noise(file, 5000));
    }
    world.write("deps/big", noise(99, 2 << 20));
    world.save_all("old");
    fs::remove_file(world.tree().join("deps/3")).unwrap();
    world.save_all("new");
    let collected = world.store.gc(1, &[(NAME, "new")]).unwrap();
    assert_eq!(collected.evicted.len(), 1);
    crate::support::assert_same(&world.restore_fresh("new"), &world.tree());
    world.store.gc(0, &[]).unwrap();
    for folder in ["entries", "manifests", "packs", "objects", "index", "leases", "tmp"] {
        assert_eq!(world.files_in(folder), Vec::<std::path::PathBuf>::new(), "{folder}");
    }
}

#[test]
fn what_a_killed_save_left_goes_after_an_hour() {
    let world = world();
    let left = world.store_dir().join("tmp/1-2");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("pack-0"), noise(1, 100)).unwrap();
    world.store.gc(1 << 30, &[]).unwrap();
    assert!(left.exists(), "it may be a save that has just begun");
    let old = SystemTime::now() - Duration::from_secs(2 * 60 * 60);
    fs::File::open(&left).unwrap().into_parts().0.set_modified(old).unwrap();
    let held = fs::File::open(&left).unwrap();
    held.lock().unwrap();
    world.store.gc(1 << 30, &[]).unwrap();
    assert!(left.exists(), "its save is alive");
    drop(held);
    world.store.gc(1 << 30, &[]).unwrap();
    assert!(!left.exists());
}

#[test]
fn content_without_an_entry_goes() {
    let world = world();
    let orphan = world.store_dir().join("objects").join("0".repeat(64));
    fs::write(&orphan, noise(1, 1000)).unwrap();
    for file in world.files_in("entries").into_iter().take(1) {
        fs::remove_file(file).unwrap();
    }
    let collected = world.store.gc(1 << 30, &[]).unwrap();
    assert!(!orphan.exists() && collected.freed > 100_000, "{collected:?}");
    assert_eq!(world.files_in("packs").len(), 2);
    assert_eq!(world.store.verify(&false.into()).unwrap().warnings, []);
}

#[test]
fn a_quarantine_stays_until_it_is_lifted() {
    let world = world();
    let reason = Reason {
        run: "run-1".to_owned(),
        job: "build".to_owned(),
        differences: vec!["dist/app.js: content".to_owned()],
        when: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
    };
    assert_eq!(world.store.is_quarantined(NAME, "third").unwrap(), None);
    world.store.quarantine(NAME, "third", &reason).unwrap();
    world.store.quarantine("other", "no entry", &reason).unwrap();
    assert_eq!(world.store.is_quarantined(NAME, "third").unwrap().as_ref(), Some(&reason));
    assert_eq!(world.store.is_quarantined("other", "third").unwrap(), None);
    let (list, warnings) = world.store.quarantined().unwrap();
    let named: Vec<_> = list.iter().map(|one| (&*one.name, &*one.key)).collect();
    assert_eq!((named, warnings), (vec![(NAME, "third"), ("other", "no entry")], vec![]));
    // It is an entry all the same, but not one to fall back to.
    world.entry("third");
    assert_eq!(world.store.newest_with_prefix(NAME, "").unwrap().entry.unwrap().info().key, "second");
    world.store.gc(0, &[]).unwrap();
    assert!(world.store.is_quarantined(NAME, "third").unwrap().is_some());
    assert!(world.store.lift(NAME, "third").unwrap());
    assert!(!world.store.lift(NAME, "third").unwrap());
    assert_eq!(world.store.is_quarantined(NAME, "third").unwrap(), None);
}

#[test]
fn a_quarantine_that_cannot_be_read_is_one() {
    let world = world();
    let reason =
        Reason { run: String::new(), job: String::new(), differences: vec![], when: SystemTime::UNIX_EPOCH };
    world.store.quarantine(NAME, "third", &reason).unwrap();
    let file = world.files_in("entries").into_iter().find(|file| file.extension().is_some()).unwrap();
    fs::write(file, "torn").unwrap();
    world.store.is_quarantined(NAME, "third").unwrap_err();
    assert_eq!(world.store.newest_with_prefix(NAME, "").unwrap().entry.unwrap().info().key, "second");
    assert_eq!(world.store.quarantined().unwrap().1.len(), 1);
    assert!(world.store.lift(NAME, "third").unwrap());
}

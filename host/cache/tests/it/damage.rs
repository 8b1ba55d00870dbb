//! Whatever happens to a file of the store: a miss that is told, never wrong content, and the next save makes it good.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use loom_cache::{Error, Saved, Store, Warning};

use crate::support::{Mounted, NAME, Node, World, assert_equal, look, noise, restore, save, write};

/// A store with two entries that share most of their content, and what they hold.
fn world() -> (World, BTreeMap<PathBuf, Node>) {
    let world = World::new();
    for file in 0..40 {
        world.write(&format!("deps/{}/{file}", file % 4), noise(file, 3000));
        world.write(&format!("deps/{}/text-{file}", file % 4), format!("line {file}\n").repeat(200));
    }
    world.write("deps/big", noise(77, 2 << 20));
    world.write("deps/bigger", vec![7; 3 << 20]);
    world.save_all("one");
    world.write("deps/late", noise(1234, 3000));
    world.save_all("two");
    let tree = look(&world.tree());
    (world, tree)
}

/// What is done to a file of the store.
fn spoil(kind: &str, file: &Path) {
    let length = fs::metadata(file).unwrap().len();
    match kind {
        "missing" => fs::remove_file(file).unwrap(),
        "empty" => fs::write(file, "").unwrap(),
        "half" => fs::OpenOptions::new().write(true).open(file).unwrap().set_len(length / 2).unwrap(),
        "zeros" => fs::write(file, vec![0; usize::try_from(length).unwrap()]).unwrap(),
        "longer" => {
            let handle = fs::OpenOptions::new().write(true).open(file).unwrap();
            handle.file().write_all_at(b"more", length).unwrap();
        }
        at => {
            let at = length * at.parse::<u64>().unwrap() / 100;
            let handle = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
            let mut byte = [0];
            handle.file().read_exact_at(&mut byte, at).unwrap();
            handle.file().write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        }
    }
}

#[test]
fn a_spoiled_file_of_any_kind_is_a_miss_and_never_wrong_content() {
    for folder in ["entries", "manifests", "packs", "objects"] {
        for kind in ["missing", "empty", "half", "zeros", "longer", "0", "3", "50", "97"] {
            let (world, tree) = world();
            let files: Vec<PathBuf> = world.files_in(folder);
            for file in &files {
                spoil(kind, file);
            }
            let what = format!("{kind} of {folder}");
            let fresh = world.folder("fresh");
            // A pack may be hit where neither entry has anything: then nothing is wrong with them.
            for key in ["one", "two"] {
                let found = world.store.find(NAME, key).unwrap();
                match found.entry.map(|entry| restore(&entry, &fresh, &["deps"])) {
                    None => {
                        let told = !found.warnings.is_empty() || folder == "entries" && kind == "missing";
                        assert!(told, "{what}: a miss without a word");
                    }
                    Some(Err(Error::Damaged { name, key: named, .. })) => {
                        assert_eq!((&*name, &*named), (NAME, key), "{what}");
                        assert!(world.store.find(NAME, key).unwrap().entry.is_none(), "{what}: found again");
                    }
                    Some(Err(other)) => panic!("{what}: {other}"),
                    Some(Ok(_)) => {
                        let wanted = tree.iter().filter(|(path, _)| key == "two" || !path.ends_with("late"));
                        let mut wanted: BTreeMap<_, _> =
                            wanted.map(|(path, node)| (path.clone(), node.clone())).collect();
                        let mut there = look(&fresh);
                        // Its time is that of the later save or of the earlier.
                        wanted.remove(Path::new("deps"));
                        there.remove(Path::new("deps"));
                        assert_equal(&there, &wanted);
                        fs::remove_dir_all(fresh.join("deps")).unwrap();
                    }
                }
                assert_eq!(look(&fresh), BTreeMap::new(), "{what}: something is left of {key}");
            }
            // The next save makes it good; or the one after that, where it relied on what nobody had read yet.
            let good = (0..3).any(|round| {
                let key = format!("again-{round}");
                assert!(matches!(world.save(&key, &["deps"]), Saved::Stored { .. }), "{what}");
                let done = world.restore(&key, &fresh, &["deps"]);
                assert!(matches!(done, Ok(_) | Err(Error::Damaged { .. })), "{what}: {done:?}");
                done.is_ok()
            });
            assert!(good, "{what}: damaged again and again");
            assert_equal(&look(&fresh), &tree);
        }
    }
}

#[test]
fn what_a_damaged_restore_had_written_is_gone_and_what_was_there_stays() {
    let world = World::new();
    // Blocks of their own, so that some are written before the damage is met.
    for file in 0..30 {
        world.write(&format!("deps/{file}"), noise(file, 600_000));
    }
    world.save_all("k");
    let pack = world.files_in("packs").pop().unwrap();
    spoil("60", &pack);
    let tree = world.folder("other");
    write(&tree, "deps/mine", "mine");
    write(&tree, "deps/3", noise(3, 600_000));
    write(&tree, "outside", "outside");
    let entry = world.entry("k");
    let error = restore(&entry, &tree, &["deps/[0-9]*"]).unwrap_err();
    let Error::Damaged { what, .. } = &error else { panic!("{error}") };
    assert_eq!(what, &pack);
    let left: Vec<PathBuf> = look(&tree).into_keys().collect();
    assert_eq!(left, ["deps", "deps/3", "deps/mine", "outside"].map(PathBuf::from));
    assert!(!pack.exists() && world.files_in("damaged").len() == 2, "the pack and the pointer are set aside");
    let log = world.store.evictions().unwrap();
    assert!(
        matches!(&log[..], [one] if one.key == "k" && matches!(one.cause, loom_cache::Cause::Damaged { .. }))
    );
}

#[test]
fn what_goes_bad_after_the_entry_was_found_is_a_miss_too() {
    for folder in ["packs", "objects"] {
        for kind in ["missing", "empty", "half", "50"] {
            let (world, _) = world();
            let entry = world.entry("one");
            for file in world.files_in(folder) {
                spoil(kind, &file);
            }
            let fresh = world.folder("fresh");
            let error = restore(&entry, &fresh, &["deps"]).unwrap_err();
            assert!(
                matches!(&error, Error::Damaged { key, .. } if key == "one"),
                "{kind} of {folder}: {error}"
            );
            assert_eq!(look(&fresh), BTreeMap::new(), "{kind} of {folder}");
        }
    }
}

#[test]
fn damage_in_a_store_that_cannot_be_written_is_a_miss() {
    let world = World::new();
    let Some(mounted) = Mounted::new(&world.path("disk"), "16m") else { return };
    let store = Store::open(&world.path("disk/store")).unwrap();
    for file in 0..40 {
        world.write(&format!("deps/{file}"), noise(file, 3000));
    }
    save(&store, &world.tree(), "content", &["deps"]).unwrap();
    world.write("other/a", "a");
    save(&store, &world.tree(), "pointer", &["other"]).unwrap();
    let pointer = |key: &str| {
        let files = fs::read_dir(world.path("disk/store/entries")).unwrap();
        let files = files.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
        files
            .map(|file| file.unwrap().path())
            .find(|file| fs::read(file).unwrap().windows(key.len()).any(|window| window == key.as_bytes()))
    };
    spoil("50", &pointer("pointer").unwrap());
    for pack in fs::read_dir(world.path("disk/store/packs")).unwrap() {
        spoil("50", &pack.unwrap().path());
    }
    mounted.make_read_only();
    // Each time anew, since nothing can be set aside.
    for _ in 0..2 {
        let found = store.find(NAME, "pointer").unwrap();
        assert!(found.entry.is_none());
        assert!(matches!(found.warnings[..], [Warning::Damaged { .. }]), "{:?}", found.warnings);
        let fresh = world.folder("fresh");
        let entry = store.find(NAME, "content").unwrap().entry.unwrap();
        let error = restore(&entry, &fresh, &["deps"]).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert_eq!(look(&fresh), BTreeMap::new());
    }
}

#[test]
fn a_check_of_the_store_finds_every_flipped_bit() {
    for folder in ["entries", "manifests", "packs", "objects"] {
        for at in ["1", "20", "55", "99"] {
            let (world, _) = world();
            let whole = world.store.verify(&false.into()).unwrap();
            assert_eq!((whole.entries, whole.warnings), (2, vec![]));
            let spoiled = world.files_in(folder).remove(0);
            spoil(at, &spoiled);
            let found = world.store.verify(&false.into()).unwrap();
            let named = found
                .warnings
                .iter()
                .any(|warning| matches!(warning, Warning::Damaged { what, .. } if *what == spoiled));
            assert!(named, "{folder} at {at}: {:?}", found.warnings);
            assert!(!spoiled.exists(), "{folder} at {at}: not set aside");
            let again = world.store.verify(&false.into()).unwrap();
            assert_eq!(again.warnings, [], "{folder} at {at}");
        }
    }
}

#[test]
fn a_pointer_in_the_place_of_another_is_not_believed() {
    let world = World::new();
    world.write("deps/a", "a");
    world.save_all("one");
    let file = world.files_in("entries").remove(0);
    world.save_all("two");
    let other = world.files_in("entries").into_iter().find(|path| *path != file).unwrap();
    fs::copy(&file, &other).unwrap();
    let found = world.store.find(NAME, "two").unwrap();
    assert!(found.entry.is_none() && found.warnings.len() == 1, "{found:?}");
    world.entry("one");
}

#[test]
fn a_damaged_index_costs_time_and_nothing_else() {
    let world = World::new();
    world.write("deps/a", "one");
    world.save_all("k0");
    for (round, kind) in
        ["missing", "empty", "half", "zeros", "longer", "0", "50", "97"].into_iter().enumerate()
    {
        for file in world.files_in("index") {
            spoil(kind, &file);
        }
        world.write("deps/a", round.to_string().repeat(3));
        let key = format!("k{}", round + 1);
        world.save_all(&key);
        crate::support::assert_same(&world.restore_fresh(&key), &world.tree());
    }
}

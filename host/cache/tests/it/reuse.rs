//! What is not done twice: content is stored once, files that are right are left alone.

use std::os::unix::fs::MetadataExt;

use fs_err as fs;
use loom_cache::Saved;

use crate::support::{NAME, World, assert_same, noise, save, set_mode, set_time, write};

/// Each file of the tree, as far as a change would show.
fn inodes(world: &World) -> Vec<(u64, i64, i64)> {
    let mut paths: Vec<_> = crate::support::look(&world.tree()).into_keys().collect();
    paths.sort();
    let stat = |path| fs::symlink_metadata(world.tree().join(path)).unwrap();
    paths.into_iter().map(stat).map(|meta| (meta.ino(), meta.ctime(), meta.ctime_nsec())).collect()
}

#[test]
fn equal_files_are_stored_once_across_entries_keys_and_caches() {
    let world = World::new();
    for file in 0..50 {
        world.write(&format!("deps/{file}"), noise(file, 3000));
    }
    world.write("deps/big", noise(99, 3 << 20));
    let first = world.save_all("one");
    assert!(first > (3 << 20) + 150_000, "{first}");

    // Another tree: nothing vouches for these files, they have to be read. One is new.
    let other = world.folder("other");
    for file in 0..50 {
        write(&other, &format!("deps/moved/{file}"), noise(file, 3000));
    }
    write(&other, "deps/big-too", noise(99, 3 << 20));
    write(&other, "deps/new", noise(1000, 5000));
    let Saved::Stored { stored_bytes, .. } = world.try_save(&other, "two", &["deps"]).unwrap() else {
        panic!()
    };
    assert!((5000..20_000).contains(&stored_bytes), "{stored_bytes}");
    assert_same(&world.restore_fresh("two"), &other);
    assert_eq!(world.files_in("objects").len(), 1);
}

#[test]
fn an_unchanged_tree_under_a_new_key_costs_a_pointer() {
    let world = World::new();
    for file in 0..300 {
        world.write(&format!("deps/{}/{file}", file % 7), noise(file, 500));
    }
    for file in 0..1500 {
        world.write(&format!("deps/one-folder/{file}"), noise(file, 10));
    }
    world.folder("tree/deps/empty");
    crate::support::link(&world.tree(), "deps/link", "empty");
    world.save_all("one");
    assert!(world.save_all("two") < 1000);
    assert_eq!(world.files_in("manifests").len(), 1);
    // And so after a restore, in a workspace that is new.
    let tree = world.restore_fresh("two");
    let Saved::Stored { stored_bytes, files, .. } = world.try_save(&tree, "three", &["deps"]).unwrap() else {
        panic!()
    };
    assert!(stored_bytes < 1000 && files == 1801, "{stored_bytes}");
    assert_eq!(world.entry("one").info().tree, world.entry("three").info().tree);
}

#[test]
fn files_that_are_right_are_left_alone() {
    let world = World::new();
    for file in 0..20 {
        world.write(&format!("deps/{file}"), noise(file, 2000));
    }
    world.write("deps/big", noise(7, 2 << 20));
    world.save_all("k");
    let before = inodes(&world);
    let restored = world.restore("k", &world.tree(), &["deps"]).unwrap();
    assert_eq!((restored.files, restored.written, restored.unchanged, restored.removed), (21, 0, 21, 0));
    assert_eq!(inodes(&world), before);

    world.write("deps/3", noise(3000, 2000));
    world.write("deps/extra/one", "");
    let restored = world.restore("k", &world.tree(), &["deps"]).unwrap();
    assert_eq!((restored.written, restored.unchanged, restored.removed), (1, 20, 1));
    let changed = inodes(&world).iter().zip(&before).filter(|(one, other)| one != other).count();
    assert_eq!(changed, 2, "the file and its folder");
}

#[test]
fn a_file_with_the_same_size_and_time_but_other_content_is_not_trusted() {
    let world = World::new();
    set_time(&world.write("deps/a", "right"), 1_000_000, 5);
    set_time(&world.write("deps/big", noise(1, 1 << 20)), 1_000_000, 5);
    world.save_all("k");
    let other = world.folder("other");
    set_time(&write(&other, "deps/a", "wrong"), 1_000_000, 5);
    set_time(&write(&other, "deps/big", noise(2, 1 << 20)), 1_000_000, 5);
    assert_eq!(world.restore("k", &other, &["deps"]).unwrap().written, 2);
    assert_same(&other, &world.tree());
}

#[test]
fn only_permissions_and_times_are_set_where_only_they_differ() {
    let world = World::new();
    let path = world.write("deps/a", "content");
    world.write("deps/big", noise(1, 1 << 20));
    world.save_all("k");
    let saved = crate::support::look(&world.tree());
    let inode = fs::metadata(&path).unwrap().ino();
    set_mode(&path, 0o600);
    set_time(&world.tree().join("deps/big"), 5, 5);
    set_mode(&world.tree().join("deps"), 0o700);
    let restored = world.restore("k", &world.tree(), &["deps"]).unwrap();
    assert_eq!((restored.written, restored.unchanged), (0, 2));
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    crate::support::assert_equal(&crate::support::look(&world.tree()), &saved);
}

#[test]
fn text_is_compressed_and_noise_is_not() {
    let world = World::new();
    world.write("deps/text", "the same words over and over ".repeat(20_000));
    assert!(world.save_all("text") < 30_000);
    fs::remove_dir_all(world.tree().join("deps")).unwrap();
    world.write("deps/noise", noise(1, 500_000));
    let stored = world.save_all("noise");
    assert!((500_000..502_000).contains(&stored), "{stored}");
}

#[test]
fn an_entry_that_changes_bit_by_bit_does_not_keep_everything_it_ever_held() {
    const FILES: u64 = 1000;
    const SIZE: usize = 12_000;
    let world = World::new();
    for file in 0..FILES {
        world.write(&format!("deps/{}/{file}", file % 10), noise(file, SIZE));
    }
    world.save_all("0");
    for round in 1..=10_u64 {
        // A third of the files, so that of each round a few stay to the end.
        let changes = |file: u64| noise(file * 1000 + round, 1)[0] < 80;
        for file in (0..FILES).filter(|&file| changes(file)) {
            world.write(&format!("deps/{}/{file}", file % 10), noise(file + round * FILES, SIZE));
        }
        let key = round.to_string();
        world.save_all(&key);
        world.store.gc(0, &[(crate::support::NAME, &key)]).unwrap();
    }
    assert_same(&world.restore_fresh("10"), &world.tree());
    let bytes = world.store.gc(u64::MAX, &[]).unwrap().bytes;
    let needed = FILES * SIZE as u64;
    assert!(bytes < 2 * needed + (10 << 20), "{bytes} bytes for {needed}");
}

/// Words of source code, so that it compresses as that does: to about a third.
fn text(seed: u64, size: usize) -> Vec<u8> {
    const WORDS: [&[u8]; 16] = [
        b"const ",
        b"function ",
        b"return ",
        b"export ",
        b"value",
        b"index",
        b"options",
        b"this.",
        b" = ",
        b"(",
        b") {\n",
        b"}\n",
        b";\n  ",
        b"length",
        b"'use strict'",
        b", ",
    ];
    let mut text = Vec::with_capacity(size + 32);
    for byte in noise(seed, size) {
        if text.len() >= size {
            break;
        }
        text.extend_from_slice(WORDS[usize::from(byte) % WORDS.len()]);
        text.push(b'a' + byte / 16);
    }
    text.truncate(size);
    text
}

#[test]
fn two_machines_that_save_one_tree_write_the_same_bytes() {
    const FILES: u64 = 3000;
    let world = World::new();
    let make = |tree: &str, order: &dyn Fn(u64) -> u64| {
        let tree = world.folder(tree);
        for number in 0..FILES {
            let file = order(number);
            // Some are equal, a few are large, some folders are deep.
            let content = match file % 100 {
                0 => noise(file, 2 << 20),
                1..20 => text(file % 7, 900),
                _ => text(file, 200 + (file as usize * 7919) % 9000),
            };
            let name = format!("deps/{}/{}/{}/{file}", file % 11, file % 3, file % 5);
            let path = write(&tree, &name, if file < 2000 { content } else { text(file, 100) });
            set_time(&path, 1_000_000 + file as i64, 5);
        }
        let mut folders: Vec<_> = crate::support::look(&tree).into_keys().collect();
        folders.sort_unstable_by(|one, other| other.cmp(one));
        for path in folders.iter().map(|path| tree.join(path)).filter(|path| path.is_dir()) {
            set_time(&path, 1_000_000, 5);
        }
        tree
    };
    // Files that were made in another order are listed in another order, and read by another number of threads.
    let one = make("one", &|number| number);
    let other = make("other", &|number| (number * 1_777) % FILES);
    let mut stores = Vec::new();
    for (tree, threads) in [(&one, 1), (&other, 7), (&one, 3)] {
        let root = tempfile::tempdir_in(world.path("")).unwrap().keep();
        let store = loom_cache::Store::open(&root).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let saved = pool.install(|| save(&store, tree, "k", &["deps"])).unwrap();
        assert!(matches!(saved, Saved::Stored { files: FILES, .. }), "{saved:?}");
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        for folder in ["packs", "objects", "manifests"] {
            for file in fs::read_dir(root.join(folder)).unwrap().map(|file| file.unwrap().path()) {
                let name = format!("{folder}/{}", file.file_name().unwrap().to_str().unwrap());
                files.push((name, fs::read(file).unwrap()));
            }
        }
        files.sort();
        stores.push(files);
    }
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|file| file.0.clone()).collect::<Vec<_>>();
    for other in &stores[1..] {
        assert_eq!(names(&stores[0]), names(other));
        assert!(stores[0] == *other, "files of one name differ");
    }
    assert_eq!(stores[0].iter().filter(|file| file.0.starts_with("manifests/")).count(), 1);
}

#[test]
fn one_percent_of_changes_in_twenty_thousand_files_costs_half_a_megabyte_at_most() {
    const FILES: u64 = 20_000;
    let world = World::new();
    // As in a package store: half of the files are below a kilobyte and a half, few are large.
    let size = |file: u64| match file % 100 {
        0..50 => 200 + (file as usize * 31) % 1300,
        50..90 => 1500 + (file as usize * 131) % 5000,
        90..99 => 6500 + (file as usize * 1031) % 16_000,
        _ => 40_000 + (file as usize * 7919) % 60_000,
    };
    let name = |file: u64| format!("deps/@scope{}/package-{}/lib/file-{file}.js", file % 20, file / 40);
    for file in 0..FILES {
        world.write(&name(file), text(file, size(file)));
    }
    let first = world.save_all("first");
    for file in (0..FILES).filter(|file| file % 100 == 37 || file % 10_000 == 99) {
        world.write(&name(file), text(file + FILES, size(file)));
    }
    let second = world.save_all("second");
    println!("first save: {first} bytes; with one percent changed: {second}");
    assert!(second <= 500_000, "{second} bytes");
    let verified = world.store.verify(&false.into()).unwrap();
    assert_eq!((verified.entries, verified.warnings), (2, vec![]));
    // Saved once more under the same key, with nothing changed: nothing.
    assert_eq!(world.save("second", &["deps"]), Saved::Unchanged);
}

#[test]
fn an_entry_that_is_replaced_again_and_again_does_not_lie_in_ever_more_packs() {
    let world = World::new();
    for file in 0..300 {
        world.write(&format!("deps/{file}"), noise(file, 300));
    }
    for round in 0..150_u64 {
        world.write(&format!("deps/{round}"), noise(round + 1000, 300));
        world.save_all("k");
        world.store.gc(u64::MAX, &[]).unwrap();
    }
    let packs = world.files_in("packs").len();
    assert!(packs <= 80, "{packs} packs");
    assert_same(&world.restore_fresh("k"), &world.tree());
    assert_eq!(world.store.newest_with_prefix(NAME, "").unwrap().warnings, []);
}

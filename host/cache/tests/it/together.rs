//! Many at once: saves of one key, collections during restores and saves.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use fs_err as fs;
use loom_cache::{Error, Saved};
use loom_deadlines::{HANGS, Running, SetOnDrop, within};

use crate::support::{NAME, World, assert_equal, assert_same, look, noise, restore, save, write};

#[test]
fn of_processes_that_save_one_key_one_wins_and_none_is_harmed() {
    let world = World::new();
    let trees: Vec<_> = (0..4_u64)
        .map(|tree| {
            let path = world.folder(&format!("tree-{tree}"));
            for file in 0..300 {
                // Half of the files are the same in all.
                write(
                    &path,
                    &format!("deps/{}/{file}", file % 5),
                    noise(file + tree * (file % 2) * 1000, 1500),
                );
            }
            write(&path, "deps/big", noise(tree, 2 << 20));
            path
        })
        .collect();
    for round in 0..5 {
        let key = format!("k{round}");
        let children: Vec<_> = trees
            .iter()
            .map(|tree| {
                let args = ["save", NAME, &key, tree.to_str().unwrap(), "deps"];
                Running::start(world.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped())).unwrap()
            })
            .collect();
        let outputs: Vec<_> = children.into_iter().map(Running::output).collect();
        assert!(outputs.iter().all(|output| output.status.success()), "{outputs:?}");
        assert!(outputs.iter().all(|output| output.stdout.starts_with(b"Stored")), "{outputs:?}");
        let restored = look(&world.restore_fresh(&key));
        assert!(trees.iter().any(|tree| look(tree) == restored), "the entry is none of the trees");
    }
    assert_eq!(world.store.verify(&false.into()).unwrap().warnings, []);
    assert!(world.files_in("tmp").is_empty());
}

#[test]
fn a_collection_during_a_restore_means_success_or_a_miss() {
    within(HANGS, collect_during_restores);
}

fn collect_during_restores() {
    let world = World::new();
    for file in 0..400 {
        world.write(&format!("deps/{}/{file}", file % 5), noise(file, 3000));
    }
    world.write("deps/big", noise(7, 4 << 20));
    let wanted = look(&world.tree());
    let stop = AtomicBool::new(false);
    let (hits, misses) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                world.store.gc(0, &[]).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
        });
        let _stop = SetOnDrop(&stop);
        let restorers: Vec<_> = (0..2)
            .map(|restorer| {
                let (world, wanted, hits, misses) = (&world, &wanted, &hits, &misses);
                scope.spawn(move || {
                    for round in 0..40 {
                        let saved = save(&world.store, &world.tree(), "k", &["deps"]).unwrap();
                        assert!(matches!(saved, Saved::Stored { .. } | Saved::Unchanged), "{saved:?}");
                        let fresh = world.folder(&format!("fresh-{restorer}-{round}"));
                        let found = world.store.find(NAME, "k").unwrap();
                        assert_eq!(found.warnings, []);
                        match found.entry.map(|entry| restore(&entry, &fresh, &["deps"])) {
                            Some(Ok(_)) => {
                                assert_equal(&look(&fresh), wanted);
                                hits.fetch_add(1, Ordering::Relaxed);
                            }
                            None | Some(Err(Error::Gone { .. })) => {
                                assert_eq!(look(&fresh), BTreeMap::new());
                                misses.fetch_add(1, Ordering::Relaxed);
                            }
                            Some(Err(other)) => panic!("{other}"),
                        }
                        fs::remove_dir_all(fresh).unwrap();
                    }
                })
            })
            .collect();
        for restorer in restorers {
            restorer.join().unwrap();
        }
    });
    let (hits, misses) = (hits.into_inner(), misses.into_inner());
    assert!(hits > 0 && hits + misses == 80, "{hits} hits, {misses} misses");
}

#[test]
fn a_collection_during_saves_breaks_no_entry() {
    within(HANGS, collect_during_saves);
}

fn collect_during_saves() {
    let world = World::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                world.store.gc(300_000, &[]).unwrap();
            }
        });
        let _stop = SetOnDrop(&stop);
        let savers: Vec<_> = (0..2_u64)
            .map(|saver| {
                let world = &world;
                scope.spawn(move || {
                    let tree = world.folder(&format!("tree-{saver}"));
                    for round in 0..60_u64 {
                        // What the other saves too, so that each relies on what the other stored.
                        for file in 0..20 {
                            write(&tree, &format!("deps/{file}"), noise(round + file, 8000));
                        }
                        let key = format!("{saver}-{round}");
                        let saved = save(&world.store, &tree, &key, &["deps"]).unwrap();
                        assert!(matches!(saved, Saved::Stored { .. }), "{saved:?}");
                        let found = world.store.find(NAME, &key).unwrap();
                        assert_eq!(found.warnings, []);
                        let fresh = world.folder(&format!("fresh-{saver}"));
                        match found.entry.map(|entry| restore(&entry, &fresh, &["deps"])) {
                            Some(Ok(_)) => assert_same(&fresh, &tree),
                            None | Some(Err(Error::Gone { .. })) => {}
                            Some(Err(other)) => panic!("{other}"),
                        }
                    }
                })
            })
            .collect();
        for saver in savers {
            saver.join().unwrap();
        }
    });
    assert_eq!(world.store.verify(&false.into()).unwrap().warnings, []);
}

#[test]
fn restores_to_one_tree_do_not_get_in_each_others_way() {
    within(HANGS, restore_to_one_tree);
}

fn restore_to_one_tree() {
    let world = World::new();
    for file in 0..600 {
        world.write(&format!("deps/{}/{file}", file % 5), noise(file, 2000));
    }
    world.save_all("k");
    let fresh = world.folder("fresh");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(world.restore("k", &fresh, &["deps"]).unwrap().files, 600);
                }
            });
        }
        scope.spawn(|| {
            // Whoever comes first: nothing is there yet, or all of it.
            for round in 0..5 {
                let saved = save(&world.store, &fresh, &format!("round-{round}"), &["deps"]).unwrap();
                assert!(
                    matches!(saved, Saved::Nothing { .. } | Saved::Stored { files: 600, .. }),
                    "{saved:?}"
                );
            }
        });
    });
    assert_same(&fresh, &world.tree());
}

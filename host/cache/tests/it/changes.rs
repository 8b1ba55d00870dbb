//! The stat index never misses a change, and a file that changes while it is read is never torn.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fs_err as fs;
use loom_cache::{LeftOut, Warning};
use loom_deadlines::{HANGS, SetOnDrop, within};
use proptest::prelude::*;

use crate::support::{World, assert_same, noise, set_mode, set_time, warnings};

/// What may be done to a file, with other files and forged times.
#[derive(Debug, Clone, Copy)]
enum Change {
    Write(usize, u8),
    /// Writes as many bytes as there were, and sets the time back to what it was.
    Forge(usize, u8),
    Truncate(usize),
    Rename(usize, usize),
    Swap(usize, usize),
    HardLink(usize, usize),
    Remove(usize),
    Mode(usize),
    /// Writes one byte through a handle, without truncating.
    Poke(usize, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let file = 0..6_usize;
    prop_oneof![
        1 => (file.clone(), any::<u8>()).prop_map(|(file, seed)| Change::Write(file, seed)),
        4 => (file.clone(), any::<u8>()).prop_map(|(file, seed)| Change::Forge(file, seed)),
        1 => file.clone().prop_map(Change::Truncate),
        1 => (file.clone(), file.clone()).prop_map(|(from, to)| Change::Rename(from, to)),
        2 => (file.clone(), file.clone()).prop_map(|(from, to)| Change::Swap(from, to)),
        1 => (file.clone(), file.clone()).prop_map(|(from, to)| Change::HardLink(from, to)),
        1 => file.clone().prop_map(Change::Remove),
        1 => file.clone().prop_map(Change::Mode),
        2 => (file, any::<u8>()).prop_map(|(file, seed)| Change::Poke(file, seed)),
    ]
}

fn apply(deps: &Path, change: Change) {
    let path = |file: usize| deps.join(if file < 3 { format!("{file}") } else { format!("sub/{file}") });
    let there = |file: usize| path(file).exists();
    match change {
        Change::Write(file, seed) => fs::write(path(file), noise(seed.into(), 40)).unwrap(),
        Change::Forge(file, seed) if there(file) => {
            let before = fs::metadata(path(file)).unwrap();
            let length = usize::try_from(before.len()).unwrap();
            let file = (path(file), fs::OpenOptions::new().write(true).open(path(file)).unwrap());
            file.1.file().write_all_at(&noise(seed.into(), length), 0).unwrap();
            set_time(&file.0, before.mtime(), u32::try_from(before.mtime_nsec()).unwrap());
        }
        Change::Truncate(file) if there(file) => fs::write(path(file), "").unwrap(),
        Change::Rename(from, to) if there(from) => fs::rename(path(from), path(to)).unwrap(),
        Change::Swap(one, other) if there(one) && there(other) && one != other => {
            let between = deps.join("between");
            fs::rename(path(one), &between).unwrap();
            fs::rename(path(other), path(one)).unwrap();
            fs::rename(between, path(other)).unwrap();
        }
        Change::HardLink(from, to) if there(from) && !there(to) => {
            fs::hard_link(path(from), path(to)).unwrap()
        }
        Change::Remove(file) if there(file) => fs::remove_file(path(file)).unwrap(),
        Change::Mode(file) if there(file) => set_mode(&path(file), 0o755),
        Change::Poke(file, seed) if there(file) => {
            let file = fs::OpenOptions::new().write(true).open(path(file)).unwrap();
            file.file().write_all_at(&[seed], 3).unwrap();
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 100, ..ProptestConfig::default() })]

    /// Changes right after a save or a restore, with no time in between: each save holds what is there, each restore
    /// brings back what was saved.
    #[test]
    fn every_change_is_seen(changes in prop::collection::vec((change(), any::<bool>()), 1..12)) {
        let world = World::new();
        for file in 0..6_u64 {
            let name = if file < 3 { format!("deps/{file}") } else { format!("deps/sub/{file}") };
            set_time(&world.write(&name, noise(file, 40)), 1_000_000_000, 0);
        }
        world.save_all("start");
        for (step, (change, back)) in changes.into_iter().enumerate() {
            apply(&world.tree().join("deps"), change);
            let key = step.to_string();
            world.save_all(&key);
            assert_same(&world.restore_fresh(&key), &world.tree());
            if back {
                apply(&world.tree().join("deps"), change);
                world.restore(&key, &world.tree(), &["deps"]).unwrap();
                assert_same(&world.restore_fresh(&key), &world.tree());
            }
        }
    }
}

/// A file that is either all one letter or all another is never saved as something in between.
fn never_torn(size: usize) {
    let world = World::new();
    let path = world.write("deps/moving", vec![b'A'; size]);
    world.write("deps/still", "still");
    let stop = AtomicBool::new(false);
    let mut saved = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            let (a, b) = (vec![b'A'; size], vec![b'B'; size]);
            let mut pause = 0;
            while !stop.load(Ordering::Relaxed) {
                file.file().write_all_at(&b, 0).unwrap();
                std::thread::sleep(Duration::from_millis(2));
                file.file().write_all_at(&a, 0).unwrap();
                // At times long enough to be taken.
                std::thread::sleep(Duration::from_millis(pause));
                pause = (pause * 7 + 1) % 300;
            }
        });
        let _stop = SetOnDrop(&stop);
        for round in 0..25 {
            let key = round.to_string();
            let left_out = warnings(world.save(&key, &["deps"]));
            let tree = world.restore_fresh(&key);
            match fs::read(tree.join("deps/moving")) {
                Ok(content) => {
                    assert_eq!(left_out, []);
                    assert_eq!(content.len(), size);
                    assert!(content.iter().all(|byte| *byte == content[0]), "round {round}: torn");
                    saved += 1;
                }
                Err(_) => {
                    let [Warning::LeftOut { path: named, why: LeftOut::Changing }] = &left_out[..] else {
                        panic!("{left_out:?}");
                    };
                    assert_eq!(named, &path);
                }
            }
            assert_eq!(fs::read(tree.join("deps/still")).unwrap(), b"still");
        }
    });
    assert!(saved > 0, "no round held the moving file: nothing was looked at");
}

#[test]
fn a_file_that_grows_and_shrinks_while_it_is_read_is_never_torn() {
    within(HANGS, save_what_grows_and_shrinks);
}

fn save_what_grows_and_shrinks() {
    const LINE: &[u8] = b"0123456789abcde\n";
    let world = World::new();
    let path = world.write("deps/moving", "");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..50 {
                    file.file().write_all_at(&LINE.repeat(100), 0).unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                }
                file.set_len(0).unwrap();
            }
        });
        let _stop = SetOnDrop(&stop);
        for round in 0..3 {
            let key = round.to_string();
            let left_out = warnings(world.save(&key, &["deps"]));
            // What is taken ends with the end of a line: each call writes whole ones.
            match fs::read(world.restore_fresh(&key).join("deps/moving")) {
                Ok(content) => assert!(content.chunks(LINE.len()).all(|line| line == LINE), "round {round}"),
                Err(_) => assert!(
                    matches!(&left_out[..], [Warning::LeftOut { why: LeftOut::Changing, .. }]),
                    "{left_out:?}"
                ),
            }
        }
    });
    // And once it is at rest, it is taken.
    world.save_all("rest");
    assert_same(&world.restore_fresh("rest"), &world.tree());
}

#[test]
fn a_small_file_that_changes_while_it_is_read_is_never_torn() {
    within(HANGS, || never_torn(600 << 10));
}

#[test]
fn a_big_file_that_changes_while_it_is_read_is_never_torn() {
    within(HANGS, || never_torn(3 << 20));
}

//! SIGKILL at any instant: an entry is whole or absent, and the next restore makes the tree whole.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fs_err as fs;
use loom_deadlines::Running;

use crate::support::{NAME, World, assert_same, look, noise};

const KILLS: u32 = 50;

/// Ends what `start` starts after `delay`, and sooner when it was done by then, until it was not.
/// Answers how often it was done.
fn kill(mut delay: Duration, start: impl Fn(u32) -> Command) -> u32 {
    let mut done = 0;
    loop {
        let mut child = Running::start(start(done).stdout(Stdio::null()).stderr(Stdio::null())).unwrap();
        std::thread::sleep(delay);
        let _ = child.kill();
        if !child.exit().success() {
            return done;
        }
        delay /= 2;
        done += 1;
    }
}

/// The time of `round`, of all that `whole` takes.
fn instant(whole: Duration, round: u32) -> Duration {
    whole * round / KILLS
}

fn world() -> World {
    let world = World::new();
    for file in 0..1500 {
        world.write(&format!("deps/{}/{}/{file}", file % 7, file % 31), noise(file, 2000));
    }
    for file in 0..6 {
        world.write(&format!("deps/big/{file}"), noise(file, (2 << 20) + 5));
    }
    world
}

fn time(mut command: Command) -> Duration {
    let started = Instant::now();
    assert!(loom_deadlines::output(&mut command).unwrap().status.success());
    started.elapsed()
}

#[test]
fn a_killed_save_leaves_an_entry_whole_or_absent() {
    let world = world();
    let tree = world.tree();
    let save = |key: &str| world.command(&["save", NAME, key, tree.to_str().unwrap(), "deps"]);
    let empty_store = || {
        let _ = fs::remove_dir_all(world.store_dir());
    };
    let whole = time(save("first"));
    let mut absent = 0;
    for round in 0..KILLS {
        let key = |done: u32| format!("k{round}.{done}");
        let done = kill(instant(whole, round), |done| {
            // Half of them into a new store, so that there is much to write.
            if round % 2 == 0 {
                empty_store();
            }
            save(&key(done))
        });
        let key = key(done);
        let found = world.store.find(NAME, &key).unwrap();
        assert_eq!(found.warnings, [], "round {round}");
        match found.entry {
            Some(_) => assert_same(&world.restore_fresh(&key), &tree),
            None => {
                absent += 1;
                world.save(&key, &["deps"]);
                assert_same(&world.restore_fresh(&key), &tree);
            }
        }
        assert_eq!(world.store.verify(&false.into()).unwrap().warnings, [], "round {round}");
    }
    // How many depends on how even the machine's speed is.
    assert!(absent > 0, "no save was killed before its end");
}

#[test]
fn a_killed_restore_is_made_good_by_the_next() {
    let world = world();
    world.save_all("k");
    let other = world.folder("old");
    for file in 0..1500 {
        crate::support::write(
            &other,
            &format!("deps/{}/{}/{file}", file % 5, file % 31),
            noise(file + 1, 2000),
        );
    }
    world.try_save(&other, "old", &["deps"]).unwrap();
    let tree = world.folder("restored");
    let restore = |key: &str| world.command(&["restore", NAME, key, tree.to_str().unwrap(), "deps"]);
    let whole = time(restore("k"));
    for round in 0..KILLS {
        // From empty, and from another tree.
        if round % 2 == 0 {
            fs::remove_dir_all(tree.join("deps")).unwrap();
        } else {
            world.restore("old", &tree, &["deps"]).unwrap();
        }
        kill(instant(whole, round), |_| restore("k"));
        assert_only_deps(&tree);
        world.restore("k", &tree, &["deps"]).unwrap();
        assert_same(&tree, &world.tree());
        assert_eq!(world.store.verify(&false.into()).unwrap().warnings, [], "round {round}");
    }
}

fn assert_only_deps(tree: &Path) {
    assert!(look(tree).keys().all(|path| path.starts_with("deps")));
}

//! Full disks, stores that may not be written, callers that change their mind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use fs_err as fs;
use loom_cache::{Error, FileError, LeftOut, Origin, Save, Saved, Store, Tracked, Warning};

use crate::support::{Mounted, NAME, World, assert_same, look, noise, restore, save, set_mode, warnings};

#[test]
fn a_full_disk_under_the_store_is_an_error_and_leaves_no_entry() {
    let world = World::new();
    let Some(_mounted) = Mounted::new(&world.path("small"), "4m") else { return };
    let store = Store::open(&world.path("small/store")).unwrap();
    world.write("deps/small", "small");
    save(&store, &world.tree(), "before", &["deps"]).unwrap();
    for (name, size) in [("many", 3000), ("big", 8 << 20)] {
        for file in 0..(8 << 20) / size {
            world.write(&format!("{name}/{file}"), noise(file as u64, size));
        }
        let error = save(&store, &world.tree(), name, &[name]).unwrap_err();
        assert!(matches!(error, Error::File(FileError::NoSpace { .. })), "{error}");
        assert!(error.hint().is_some());
        assert!(store.find(NAME, name).unwrap().entry.is_none());
        assert_eq!(fs::read_dir(world.path("small/store/tmp")).unwrap().count(), 0, "nothing is left behind");
    }
    save(&store, &world.tree(), "after", &["deps"]).unwrap();
    let tree = world.folder("fresh");
    restore(&store.find(NAME, "after").unwrap().entry.unwrap(), &tree, &["deps"]).unwrap();
    assert_same(&tree.join("deps"), &world.tree().join("deps"));
    assert_eq!(store.verify(&false.into()).unwrap().warnings, []);
}

#[test]
fn a_full_disk_under_the_tree_takes_the_restore_back() {
    let world = World::new();
    for file in 0..2000 {
        world.write(&format!("deps/{}/{file}", file % 10), noise(file, 3000));
    }
    world.save_all("many");
    let Some(mounted) = Mounted::new(&world.path("small"), "4m") else { return };
    let tree = world.path("small");
    let error = world.restore("many", &tree, &["deps"]).unwrap_err();
    assert!(matches!(error, Error::File(FileError::NoSpace { .. })), "{error}");
    assert_eq!(look(&tree), BTreeMap::new());
    // The entry is not to blame.
    world.entry("many");
    drop(mounted);
}

#[test]
fn a_store_that_cannot_be_written_can_be_read() {
    let world = World::new();
    let Some(mounted) = Mounted::new(&world.path("disk"), "16m") else { return };
    let store = Store::open(&world.path("disk/store")).unwrap();
    world.write("deps/a", "a");
    world.write("deps/big", noise(1, 1 << 20));
    save(&store, &world.tree(), "k", &["deps"]).unwrap();
    mounted.make_read_only();

    let tree = world.folder("fresh");
    let entry = store.find(NAME, "k").unwrap().entry.unwrap();
    assert_eq!(restore(&entry, &tree, &["deps"]).unwrap().written, 2);
    assert_same(&tree, &world.tree());
    assert_eq!(store.newest_with_prefix(NAME, "").unwrap().entry.unwrap().info().key, "k");
    let error = save(&store, &world.tree(), "other", &["deps"]).unwrap_err();
    assert!(
        matches!(&error, Error::File(FileError::Write { path, .. }) if path.starts_with(world.path("disk"))),
        "{error}"
    );
    let gone = Store::open(&world.path("disk/new")).unwrap();
    assert!(gone.find(NAME, "k").unwrap().entry.is_none());
    assert!(matches!(save(&gone, &world.tree(), "k", &["deps"]), Err(Error::File(FileError::Write { .. }))));
}

#[test]
fn a_store_of_a_later_loom_is_left_alone() {
    let world = World::new();
    world.write("deps/a", "a");
    world.save_all("k");
    let format = world.store_dir().join("format");
    let known = fs::read_to_string(&format).unwrap().trim().parse::<u32>().unwrap();
    fs::write(&format, format!("{}\n", known + 1)).unwrap();
    let error = Store::open(&world.store_dir()).unwrap_err();
    assert!(matches!(error, Error::Newer { .. }));
    let text = error.to_string();
    let wanted = format!("has format {}, but this Loom knows formats up to {known}", known + 1);
    assert!(text.ends_with(&wanted), "{text}");
    let opened = Store::open_or_none(&world.store_dir());
    assert!(opened.store.is_none() && matches!(opened.trouble, Some(Error::Newer { .. })), "{opened:?}");
    assert_eq!(fs::read_to_string(&format).unwrap(), format!("{}\n", known + 1));
}

#[test]
fn what_says_the_format_is_put_right_where_it_is_damaged() {
    let world = World::new();
    world.write("deps/a", "a");
    world.save_all("k");
    let format = world.store_dir().join("format");
    let right = fs::read(&format).unwrap();
    for damaged in [&b""[..], b"\0", b"-1\n", b"0\n", b"1.5", b"\xff\xfe", b"99999999999999999999", b"one"] {
        fs::write(&format, damaged).unwrap();
        let error = Store::open(&world.store_dir()).unwrap_err();
        assert!(matches!(&error, Error::Format { path } if *path == format), "{error}");
        let opened = Store::open_or_none(&world.store_dir());
        assert!(matches!(opened.trouble, Some(Error::Format { .. })), "{opened:?}");
        // What is in it is still there.
        assert!(opened.store.unwrap().find(NAME, "k").unwrap().entry.is_some());
        assert_eq!(fs::read(&format).unwrap(), right);
        assert!(Store::open_or_none(&world.store_dir()).trouble.is_none());
    }
    // A folder in its place, or a file in the store's own.
    fs::remove_file(&format).unwrap();
    fs::create_dir(&format).unwrap();
    let opened = Store::open_or_none(&world.store_dir());
    assert!(
        opened.store.is_none() && matches!(opened.trouble, Some(Error::File(FileError::Read { .. }))),
        "{opened:?}"
    );
}

#[test]
fn a_store_is_made_when_it_is_needed_and_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    assert!(world.store.find(NAME, "k").unwrap().entry.is_none());
    assert_eq!(world.store.list().unwrap().entries, []);
    assert_eq!(world.store.gc(0, &[]).unwrap(), loom_cache::GcReport::default());
    assert!(!world.store_dir().exists());
    world.write("deps/a", "a");
    world.save_all("k");
    assert_eq!(fs::metadata(world.store_dir()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_cancelled_save_or_restore_leaves_nothing() {
    let world = World::new();
    for file in 0..100 {
        world.write(&format!("deps/{file}"), noise(file, 3000));
    }
    world.write("deps/big", noise(1, 5 << 20));
    let (origin, cancel) = (Origin::default(), AtomicBool::new(true));
    let patterns = ["deps".to_owned()];
    let save = Save {
        name: NAME,
        key: "k",
        tree: &world.tree(),
        patterns: &patterns,
        tracked: &Tracked::default(),
        origin: &origin,
        cancel: &cancel,
    };
    assert!(matches!(world.store.save(&save), Err(Error::Cancelled)));
    assert!(world.store.find(NAME, "k").unwrap().entry.is_none());
    assert_eq!(
        world.files_in("tmp").len() + world.files_in("packs").len() + world.files_in("objects").len(),
        0
    );
    world.save_all("k");
    let tree = world.folder("fresh");
    assert!(matches!(
        world.entry("k").restore(&tree, &patterns, &Tracked::default(), &cancel),
        Err(Error::Cancelled)
    ));
    assert_eq!(look(&tree), BTreeMap::new());
}

#[test]
fn what_cannot_be_read_is_left_out_by_name() {
    let world = World::new();
    world.write("deps/fine", "fine");
    let file = world.write("deps/secret", "secret");
    let folder = world.folder("tree/deps/closed");
    world.write("deps/closed/file", "");
    set_mode(&file, 0);
    set_mode(&folder, 0);
    if fs::read(&file).is_ok() {
        println!("skipped: this user may read everything");
        set_mode(&folder, 0o700);
        return;
    }
    let left_out = warnings(world.save("k", &["deps"]));
    set_mode(&folder, 0o700);
    let named: Vec<&Path> = left_out
        .iter()
        .map(|warning| match warning {
            Warning::LeftOut { path, why: LeftOut::Unreadable(_) } => path.as_path(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(named, [folder, file]);
    assert_eq!(look(&world.restore_fresh("k")).len(), 2);
}

#[test]
fn a_folder_that_is_nobodys_business_is_not_in_the_way_of_a_restore() {
    let world = World::new();
    world.write("a/x.o", "x");
    world.save("k", &["**/*.o"]);
    let fresh = world.folder("fresh");
    let closed = world.folder("fresh/closed");
    set_mode(&closed, 0);
    let restored = world.restore("k", &fresh, &["**/*.o"]).unwrap();
    assert_eq!(restored.written, 1);
    if fs::read_dir(&closed).is_ok() {
        println!("skipped in part: this user may read everything");
        return;
    }
    assert_eq!(restored.warnings, [Warning::NotSeen { path: closed }]);
}

#[test]
fn few_open_files_are_enough() {
    let world = World::new();
    for folder in 0..400 {
        world.write(&format!("deps/{}/{folder}/file", folder % 20), noise(folder, 100));
    }
    let tree = world.tree();
    let fresh = world.folder("fresh");
    for args in [
        ["save", NAME, "k", tree.to_str().unwrap(), "deps"],
        ["restore", NAME, "k", fresh.to_str().unwrap(), "deps"],
    ] {
        let command = world.command(&args);
        let mut limited = {
            #[expect(clippy::disallowed_methods, reason = "the limit is set by a shell")]
            std::process::Command::new("sh")
        };
        limited
            .args(["-c", "ulimit -n 40; exec \"$0\" \"$@\""])
            .arg(command.get_program())
            .args(command.get_args());
        let output = loom_deadlines::output(&mut limited).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_same(&fresh, &tree);
    assert_eq!(world.save("k", &["deps"]), Saved::Unchanged);
}

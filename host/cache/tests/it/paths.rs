//! Nothing outside the declared paths is read into an entry or written by one.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err as fs;
use loom_cache::{Error, LeftOut, Saved, Store, Warning};
use loom_deadlines::{HANGS, SetOnDrop, within};

use crate::support::{
    Mounted, NAME, World, assert_equal, assert_same, link, look, noise, restore, restore_untracked, save,
    save_untracked, warnings, write,
};

fn names(tree: &Path) -> Vec<String> {
    look(tree).into_keys().map(|path| path.to_str().unwrap().to_owned()).collect()
}

#[test]
fn only_what_the_patterns_name_is_saved_and_restored() {
    let world = World::new();
    for path in [
        "a/x.o",
        "a/x.c",
        "a/.hidden.o",
        "b/c/d.o",
        "deps/one",
        "deps/sub/two",
        ".cache/z",
        "top.o",
        "other/z",
    ] {
        world.write(path, path);
    }
    world.save("k", &["**/*.o", "deps/", "./.cache"]);
    let fresh = world.folder("fresh");
    world.restore("k", &fresh, &["**/*.o", "deps/", "./.cache"]).unwrap();
    let wanted = [
        ".cache",
        ".cache/z",
        "a",
        "a/.hidden.o",
        "a/x.o",
        "b",
        "b/c",
        "b/c/d.o",
        "deps",
        "deps/one",
        "deps/sub",
        "deps/sub/two",
        "top.o",
    ];
    assert_eq!(names(&fresh), wanted);

    // What the entry does not hold goes, where a pattern names it, and stays elsewhere.
    for path in ["a/new.o", "a/new.c", "deps/three", "deps/sub/x/y", "z/only.o"] {
        write(&fresh, path, "");
    }
    let restored = world.restore("k", &fresh, &["**/*.o", "deps/", "./.cache"]).unwrap();
    assert_eq!(restored.removed, 4);
    let mut stay: Vec<&str> = wanted.to_vec();
    stay.extend(["a/new.c", "z"]);
    stay.sort();
    assert_eq!(names(&fresh), stay);
}

#[test]
fn what_an_entry_holds_beyond_the_declared_paths_is_told_and_not_written() {
    let world = World::new();
    for path in ["deps/a", "deps/b", "more/c", "more/d/e", "top"] {
        world.write(path, path);
    }
    world.save("k", &["."]);
    let fresh = world.folder("fresh");
    write(&fresh, "top", "mine");
    write(&fresh, "more/mine", "mine");
    let restored = world.restore("k", &fresh, &["deps"]).unwrap();
    assert_eq!(names(&fresh), ["deps", "deps/a", "deps/b", "more", "more/mine", "top"]);
    assert_eq!(fs::read(fresh.join("top")).unwrap(), b"mine");
    assert_eq!(restored.files, 2);
    let first = fresh.join("top");
    assert_eq!(restored.warnings, [Warning::Undeclared { count: 3, first }]);
}

/// Where symlinks may lead: nothing of it is there where they are restored, or it is and must stay as it is.
const LINKS: [(&str, &str); 9] = [
    ("deps/near", "a/file"),
    ("deps/a/up", "../../src"),
    ("deps/absolute", "/etc/passwd"),
    ("deps/folder", "/etc"),
    ("deps/out", "../../outside"),
    ("deps/a/out", "../../../outside/precious"),
    ("deps/tricky", "a/up/../../.."),
    ("deps/dangling", "/nowhere/at/all"),
    ("deps/itself", "itself"),
];

#[test]
fn links_are_kept_as_their_text_wherever_they_lead() {
    let world = World::new();
    write(&world.path("outside"), "precious", "as it was");
    world.write("deps/a/file", "");
    let inside = world.tree().join("deps/a/file");
    link(&world.tree(), "deps/inside", inside.to_str().unwrap());
    for (path, target) in LINKS {
        link(&world.tree(), path, target);
    }
    world.save_all("k");
    let fresh = world.restore_fresh("k");
    assert_same(&fresh, &world.tree());
    let again = world.restore("k", &fresh, &["deps"]).unwrap();
    assert_eq!((again.written, again.removed), (0, 0));
    assert_eq!(fs::read(world.path("outside/precious")).unwrap(), b"as it was");
}

#[test]
fn nothing_is_written_or_removed_through_a_link_of_an_entry() {
    let world = World::new();
    let outside = world.folder("outside");
    for path in ["precious", "folder/precious"] {
        write(&outside, path, "as it was");
    }
    let before = look(&outside);
    // One entry has links where the other has folders and files.
    for (path, target) in
        [("deps/file", "outside/precious"), ("deps/folder", "outside/folder"), ("deps/all", "outside")]
    {
        link(&world.tree(), path, world.path(target).to_str().unwrap());
    }
    world.save_all("links");
    let other = world.folder("other");
    for path in ["deps/file", "deps/folder/precious", "deps/folder/new/x", "deps/all/precious", "deps/all/y"]
    {
        write(&other, path, "of the entry");
    }
    world.try_save(&other, "files", &["deps"]).unwrap();
    let fresh = world.folder("fresh");
    for (key, tree) in
        [("links", world.tree()), ("files", other.clone()), ("links", world.tree()), ("files", other)]
    {
        world.restore(key, &fresh, &["deps"]).unwrap();
        assert_same(&fresh, &tree);
        assert_equal(&look(&outside), &before);
    }
    // Also where a link is what the declared paths lead through.
    world.restore("links", &fresh, &["deps"]).unwrap();
    let error = world.restore("files", &fresh, &["deps/*/new", "deps/*/y"]).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert_equal(&look(&outside), &before);
}

#[test]
fn what_git_tracks_is_neither_saved_nor_replaced_nor_removed() {
    let world = World::new();
    let tracked = ["deps/kept", "deps/sub/kept", "deps/only/kept", "deps/was-folder", "deps/was-file/kept"];
    // An entry of before these were tracked.
    for path in ["deps/kept", "deps/sub/kept", "deps/made", "deps/was-folder/x", "deps/was-file"] {
        world.write(path, "of the entry");
    }
    world.save_all("old");
    let tree = world.folder("fresh");
    for path in tracked {
        write(&tree, path, "of the repository");
        crate::support::set_time(&tree.join(path), 1_000_000, 0);
    }
    for path in ["deps/surplus", "deps/only/surplus", "deps/only/more/surplus"] {
        write(&tree, path, "goes");
    }
    crate::support::set_mode(&tree.join("deps/only"), 0o555);
    let kept = |tree: &Path| {
        for path in tracked {
            assert_eq!(fs::read(tree.join(path)).unwrap(), b"of the repository", "{path}");
            let modified = fs::metadata(tree.join(path)).unwrap().modified().unwrap();
            assert_eq!(modified, std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000), "{path}");
        }
    };
    let restored = restore_untracked(&world.entry("old"), &tree, &["deps"], &tracked).unwrap();
    kept(&tree);
    assert_eq!((restored.files, restored.written, restored.removed), (1, 1, 3));
    assert_eq!(fs::read(tree.join("deps/made")).unwrap(), b"of the entry");
    assert!(!tree.join("deps/only/more").exists() && !tree.join("deps/surplus").exists());
    let first = tracked.map(PathBuf::from).to_vec();
    let mut named = first.clone();
    named.sort();
    assert_eq!(restored.warnings, [Warning::Tracked { count: 5, first: named }]);

    // An entry of today does not hold them, and is equal as long as nothing else changes.
    let saved = save_untracked(&world.store, &tree, "new", &["deps"], &tracked).unwrap();
    assert!(matches!(saved, Saved::Stored { files: 1, .. }), "{saved:?}");
    let names: Vec<PathBuf> = world.entry("new").files().map(|file| file.path).collect();
    assert!(!first.iter().any(|path| names.contains(path)), "{names:?}");
    write(&tree, "deps/kept", "changed by the job");
    let saved = save_untracked(&world.store, &tree, "new", &["deps"], &tracked).unwrap();
    assert_eq!(saved, Saved::Unchanged);

    // One that was deleted in the work tree does not come back.
    let other = world.folder("other");
    restore_untracked(&world.entry("old"), &other, &["deps"], &["deps/kept"]).unwrap();
    assert!(!other.join("deps/kept").exists() && other.join("deps/sub/kept").exists());
}

#[test]
fn a_warning_of_tracked_files_is_short() {
    let world = World::new();
    world.write("deps/made", "");
    world.save_all("k");
    let tracked: Vec<String> = (0..1000).map(|number| format!("deps/{number}")).collect();
    let tracked: Vec<&str> = tracked.iter().map(String::as_str).chain(["elsewhere"]).collect();
    let restored = restore_untracked(&world.entry("k"), &world.tree(), &["deps"], &tracked).unwrap();
    let [warning] = &restored.warnings[..] else { panic!("{:?}", restored.warnings) };
    assert_eq!(
        warning.to_string(),
        "the cache leaves alone what git tracks under its paths, and keeps the rest: \
         `deps/0`, `deps/1`, `deps/10`, `deps/100`, `deps/101` and 995 more"
    );
}

#[test]
fn fifos_sockets_and_devices_are_left_out_by_name() {
    let world = World::new();
    world.write("deps/file", "");
    let deps = world.tree().join("deps");
    rustix::fs::mkfifoat(rustix::fs::CWD, deps.join("fifo"), rustix::fs::Mode::RWXU).unwrap();
    let _socket = UnixListener::bind(deps.join("socket")).unwrap();
    let mut wanted = vec![("fifo", "fifo"), ("socket", "socket")];
    let device = rustix::fs::makedev(1, 3);
    let kind = rustix::fs::FileType::CharacterDevice;
    if rustix::fs::mknodat(rustix::fs::CWD, deps.join("null"), kind, rustix::fs::Mode::RWXU, device).is_ok() {
        wanted.insert(1, ("null", "device"));
    }
    let wanted: Vec<Warning> = wanted
        .into_iter()
        .map(|(name, what)| Warning::LeftOut { path: deps.join(name), why: LeftOut::Special(what) })
        .collect();
    assert_eq!(warnings(world.save("k", &["deps"])), wanted);
    assert_eq!(names(&world.restore_fresh("k")), ["deps", "deps/file"]);
}

#[test]
fn what_is_behind_a_symlink_is_neither_saved_nor_written() {
    let world = World::new();
    write(&world.path("outside"), "deps/secret", "secret");
    world.write("real/deps/file", "file");
    link(&world.tree(), "away", "../outside");
    let left_out = warnings(world.save("k", &["away/deps", "*/deps"]));
    let behind = Warning::LeftOut { path: world.tree().join("away"), why: LeftOut::Behind };
    assert_eq!(left_out, [behind]);
    let fresh = world.folder("fresh");
    world.restore("k", &fresh, &["*/deps"]).unwrap();
    assert_eq!(names(&fresh), ["real", "real/deps", "real/deps/file"]);

    // A folder on the way that has become a link: nobody asked for that to be replaced.
    fs::remove_dir_all(fresh.join("real")).unwrap();
    link(&fresh, "real", "../outside");
    let error = world.restore("k", &fresh, &["*/deps"]).unwrap_err();
    assert!(matches!(&error, Error::Refused { path, .. } if *path == fresh.join("real")), "{error}");
    assert_eq!(names(&world.path("outside")), ["deps", "deps/secret"]);

    // One that a pattern names is replaced, and what it points to is not touched.
    fs::remove_file(fresh.join("real")).unwrap();
    fs::create_dir(fresh.join("real")).unwrap();
    link(&fresh, "real/deps", "../../outside/deps");
    world.restore("k", &fresh, &["*/deps"]).unwrap();
    assert_eq!(names(&fresh), ["real", "real/deps", "real/deps/file"]);
    assert_eq!(names(&world.path("outside")), ["deps", "deps/secret"]);
}

#[test]
fn a_folder_that_becomes_a_symlink_during_a_restore_is_not_written_through() {
    within(HANGS, restore_where_folders_become_symlinks);
}

fn restore_where_folders_become_symlinks() {
    let world = World::new();
    for file in 0..200 {
        world.write(&format!("deps/folder/{file}"), noise(file, 100));
    }
    let outside = world.folder("outside");
    // A link of the entry's own, where the folder is at times.
    link(&world.tree(), "deps/aside", outside.to_str().unwrap());
    world.save_all("k");
    write(&outside, "mine", "mine");
    let fresh = world.folder("fresh");
    let deps = world.folder("fresh/deps");
    let stop = AtomicBool::new(false);
    let mut outcomes = [0, 0];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (relative, absolute, mut turn) = (Path::new("../../outside"), outside.clone(), 0);
            while !stop.load(Ordering::Relaxed) {
                let _ = fs::rename(deps.join("folder"), deps.join("aside"));
                let target = if turn % 2 == 0 { relative } else { &*absolute };
                turn += 1;
                let _ = std::os::unix::fs::symlink(target, deps.join("folder"));
                std::thread::yield_now();
                let _ = fs::remove_file(deps.join("folder"));
                let _ = fs::rename(deps.join("aside"), deps.join("folder"));
            }
        });
        let _stop = SetOnDrop(&stop);
        for _ in 0..100 {
            let done = world.restore("k", &fresh, &["deps"]);
            outcomes[usize::from(done.is_ok())] += 1;
            if names(&outside) != ["mine"] {
                break;
            }
        }
    });
    assert_eq!(names(&outside), ["mine"], "{outcomes:?}");
    fs::remove_dir_all(&deps).unwrap();
    world.restore("k", &fresh, &["deps"]).unwrap();
    assert_same(&fresh, &world.tree());
}

#[test]
fn names_that_are_one_to_the_file_system_are_refused() {
    let world = World::new();
    world.write("deps/name", "lower");
    world.write("deps/Name", "upper");
    world.save_all("k");
    let Some(_mounted) = Mounted::new(&world.path("folding"), "16m,casefold") else { return };
    let fresh = world.folder("folding/fresh");
    if crate::support::run("chattr", &["+F", fresh.to_str().unwrap()]).is_none() {
        println!("skipped: no folder here can ignore case");
        return;
    }
    let error = world.restore("k", &fresh, &["deps"]).unwrap_err();
    assert!(matches!(&error, Error::Refused { path, .. } if path.starts_with(fresh.join("deps"))), "{error}");
    assert_eq!(names(&fresh), Vec::<String>::new());
}

#[test]
fn whatever_is_in_the_way_of_an_entry_gives_way() {
    let world = World::new();
    world.write("deps/file", "file");
    world.write("deps/folder/inner/x", "x");
    link(&world.tree(), "deps/link", "file");
    world.write("deps/empty", "");
    world.save_all("k");
    let fresh = world.folder("fresh");
    write(&fresh, "outside", "outside");
    write(&fresh, "deps/file/is/a/folder", "");
    write(&fresh, "deps/folder", "is a file");
    write(&fresh, "deps/link/is/a/folder", "");
    link(&fresh, "deps/empty", "../outside");
    world.restore("k", &fresh, &["deps"]).unwrap();
    assert_eq!(fs::read(fresh.join("outside")).unwrap(), b"outside");
    fs::remove_file(fresh.join("outside")).unwrap();
    assert_same(&fresh, &world.tree());
}

#[test]
fn a_fifo_in_the_way_is_replaced_and_nobody_waits_for_it() {
    let world = World::new();
    world.write("deps/file", "file");
    world.write("deps/folder/x", "x");
    link(&world.tree(), "deps/link", "file");
    world.save_all("k");
    let fresh = world.folder("fresh/deps");
    let fifo = |name: &str| {
        rustix::fs::mkfifoat(rustix::fs::CWD, fresh.join(name), rustix::fs::Mode::RWXU).unwrap();
    };
    ["file", "folder", "link", "extra"].into_iter().for_each(fifo);
    let _socket = UnixListener::bind(fresh.join("socket")).unwrap();
    let restored = world.restore("k", &world.path("fresh"), &["deps"]).unwrap();
    assert_eq!((restored.written, restored.removed), (3, 3));
    assert_same(&world.path("fresh"), &world.tree());
}

#[test]
fn what_git_keeps_of_the_repository_is_neither_saved_nor_touched() {
    let world = World::new();
    for path in [".git/HEAD", ".git/refs/heads/target", "target/a", "vendor/.git/HEAD", "src/a"] {
        world.write(path, "before");
    }
    for (key, patterns) in [("branch", ["**/target"]), ("all", ["."])] {
        world.save(key, &patterns);
        let saved: Vec<PathBuf> = world.entry(key).files().map(|file| file.path).collect();
        assert!(!saved.iter().any(|path| path.starts_with(".git")), "{saved:?}");
        assert!(saved.contains(&"target/a".into()));
        assert_eq!(
            saved.contains(&"vendor/.git/HEAD".into()),
            key == "all",
            "another repository's is content"
        );
        let fresh = world.folder(key);
        for path in [".git/HEAD", ".git/refs/heads/target", ".git/new/target", "target/old"] {
            write(&fresh, path, "after");
        }
        let git = look(&fresh.join(".git"));
        let restored = world.restore(key, &fresh, &patterns).unwrap();
        assert_eq!(restored.removed, 1);
        crate::support::assert_equal(&look(&fresh.join(".git")), &git);
        assert_same(&fresh.join("target"), &world.tree().join("target"));
    }
    // In a linked work tree it is a file.
    let linked = world.folder("linked");
    write(&linked, ".git", "gitdir: elsewhere");
    world.restore("all", &linked, &["."]).unwrap();
    assert_eq!(fs::read(linked.join(".git")).unwrap(), b"gitdir: elsewhere");
}

#[test]
fn a_store_among_its_own_declared_paths_is_told_and_stays() {
    let world = World::new();
    world.write("deps/a", "a");
    link(&world.path(""), "elsewhere", "tree/deps");
    let store = Store::open(&world.path("elsewhere/store")).unwrap();
    save(&store, &world.tree(), "k", &["deps/a"]).unwrap();
    let entry = store.find(NAME, "k").unwrap().entry.unwrap();
    for pattern in ["deps", ".", "**/store", "deps/store/*", "*/store/packs/**"] {
        let within = |error: &Error| matches!(error, Error::StoreWithin { root } if *root == world.path("elsewhere/store"));
        let error = save(&store, &world.tree(), "all", &[pattern]).unwrap_err();
        assert!(within(&error) && error.hint().is_some(), "{pattern}: {error}");
        let error = restore(&entry, &world.tree(), &[pattern]).unwrap_err();
        assert!(within(&error), "{pattern}: {error}");
    }
    // Beside what is declared it is in nobody's way.
    assert_eq!(restore(&entry, &world.tree(), &["deps/a", "**/*.o"]).unwrap().unchanged, 1);
    assert_eq!(store.verify(&false.into()).unwrap().entries, 1);
}

#[test]
fn a_folder_on_the_way_keeps_what_is_its_own() {
    let world = World::new();
    world.write("a/b/out.o", "o");
    world.write("a/b/in.c", "c");
    crate::support::set_time(&world.tree().join("a/b"), 1_000_000, 0);
    world.save("k", &["a/b/*.o"]);
    let fresh = world.folder("fresh");
    write(&fresh, "a/b/in.c", "other");
    crate::support::set_mode(&fresh.join("a/b"), 0o711);
    world.restore("k", &fresh, &["a/b/*.o"]).unwrap();
    let nodes = look(&fresh);
    let Some(crate::support::Node::Folder { mode, time }) = nodes.get(Path::new("a/b")) else { panic!() };
    assert_eq!(*mode, 0o711);
    assert_ne!(time.0, 1_000_000);
    assert_eq!(fs::read(fresh.join("a/b/in.c")).unwrap(), b"other");
}

#[test]
fn a_folder_that_is_named_no_more_keeps_what_is_its_own() {
    let world = World::new();
    world.write("a/b/out.o", "o");
    world.write("a/b/c/out.o", "o");
    for folder in ["a/b/c", "a/b"] {
        crate::support::set_mode(&world.tree().join(folder), 0o700);
        crate::support::set_time(&world.tree().join(folder), 1_000_000, 0);
    }
    // The entry knows the state of the folders, and the patterns name files in them alone.
    world.save("k", &["a"]);
    let state = |root: &Path, path: &str| match look(root).get(Path::new(path)) {
        Some(crate::support::Node::Folder { mode, time }) => (*mode, time.0),
        _ => panic!("no folder {path}"),
    };
    let fresh = world.folder("fresh");
    write(&fresh, "a/b/in.c", "other");
    crate::support::set_mode(&fresh.join("a/b"), 0o711);
    world.restore("k", &fresh, &["a/**/*.o"]).unwrap();
    assert_eq!(state(&fresh, "a/b").0, 0o711);
    assert_ne!(state(&fresh, "a/b").1, 1_000_000);
    // One that was missing is made as any other is.
    assert_ne!(state(&fresh, "a/b/c").0, 0o700);
    // And where nothing is written in it, its time stays.
    crate::support::set_time(&fresh.join("a/b"), 5, 0);
    world.restore("k", &fresh, &["a/**/*.o"]).unwrap();
    assert_eq!(state(&fresh, "a/b"), (0o711, 5));
}

#[test]
fn read_only_folders_are_filled_emptied_and_restored() {
    let world = World::new();
    world.write("deps/ro/a", "a");
    world.write("deps/ro/sub/b", "b");
    world.write("deps/none/c", "c");
    for (folder, mode) in [("deps/ro/sub", 0o555), ("deps/ro", 0o555)] {
        crate::support::set_mode(&world.tree().join(folder), mode);
    }
    world.save_all("k");
    let fresh = world.restore_fresh("k");
    assert_same(&fresh, &world.tree());
    // Over a read-only tree that differs.
    let other = world.folder("other");
    for path in ["deps/ro/a", "deps/ro/old/x", "deps/ro/sub/b"] {
        write(&other, path, "other");
    }
    for folder in ["deps/ro/old", "deps/ro/sub", "deps/ro", "deps"] {
        crate::support::set_mode(&other.join(folder), 0o555);
    }
    world.restore("k", &other, &["deps"]).unwrap();
    assert_same(&other, &world.tree());
}

#[test]
fn patterns_that_lead_outside_are_refused() {
    let world = World::new();
    world.write("deps/a", "");
    world.save_all("k");
    for pattern in ["/etc", "../x", "deps/../..", "", "{..,x}/y", "a\0"] {
        let error = world.try_save(&world.tree(), "other", &[pattern]).unwrap_err();
        assert!(matches!(&error, Error::Pattern { pattern: named, .. } if named == pattern), "{error}");
        let error = world.restore("k", &world.tree(), &[pattern]).unwrap_err();
        assert!(matches!(error, Error::Pattern { .. }), "{error}");
    }
}

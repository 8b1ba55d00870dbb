//! What is restored is what was saved: content, permissions, times, links, names.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use fs_err as fs;
use loom_cache::{Kind, Saved};
use proptest::prelude::*;

use crate::support::{World, assert_equal, assert_same, bytes, link, look, noise, set_mode, set_time, write};

/// A tree to make.
#[derive(Debug, Clone)]
enum Made {
    File { content: Vec<u8>, mode: u32, time: (i64, u32) },
    Link { target: &'static str, time: (i64, u32) },
    Folder { nodes: BTreeMap<Vec<u8>, Made>, mode: u32, time: (i64, u32) },
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    // Few, so that trees share names; some of them strange.
    prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "c", "A", ".hidden"]).prop_map(|name| name.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..12),
        1 => Just(vec![b'x'; 255]),
    ]
    .prop_map(|mut name| {
        name.iter_mut().filter(|byte| matches!(byte, 0 | b'/')).for_each(|byte| *byte = b'_');
        if name == b"." || name == b".." { b"...".to_vec() } else { name }
    })
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..600),
        4 => (0..4_u64, 1..20_000_usize).prop_map(|(seed, length)| noise(seed, length)),
        2 => (1..200_usize).prop_map(|count| b"the same line again and again\n".repeat(count)),
        1 => (0..2_u64, (1_usize << 20) - 1..(1 << 20) + 2).prop_map(|(seed, length)| noise(seed, length)),
    ]
}

fn time() -> impl Strategy<Value = (i64, u32)> {
    (-1000_i64..4_000_000_000, 0_u32..1_000_000_000)
}

fn tree() -> impl Strategy<Value = Made> {
    let targets = vec!["a", "./b", "a/b/../c", "missing", "/etc/passwd", "../../../..", "a b\n"];
    let leaf = prop_oneof![
        6 => (content(), prop::sample::select(vec![0o644, 0o755, 0o400, 0o600, 0o777, 0o1644]), time())
            .prop_map(|(content, mode, time)| Made::File { content, mode, time }),
        1 => (prop::sample::select(targets), time()).prop_map(|(target, time)| Made::Link { target, time }),
    ];
    let folder = |nodes| {
        (
            prop::collection::btree_map(name(), nodes, 0..6),
            prop::sample::select(vec![0o755, 0o700, 0o555, 0o2775]),
            time(),
        )
            .prop_map(|(nodes, mode, time)| Made::Folder { nodes, mode, time })
    };
    folder(leaf.prop_recursive(4, 40, 6, folder).boxed())
}

fn make(path: &Path, made: &Made) {
    match made {
        Made::File { content, mode, time } => {
            fs::write(path, content).unwrap();
            set_mode(path, *mode);
            set_time(path, time.0, time.1);
        }
        Made::Link { target, time } => {
            symlink(target, path).unwrap();
            set_time(path, time.0, time.1);
        }
        Made::Folder { nodes, mode, time } => {
            fs::create_dir(path).unwrap();
            for (name, node) in nodes {
                make(&path.join(bytes(name)), node);
            }
            set_mode(path, *mode);
            set_time(path, time.0, time.1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Any tree comes back as it was, into an empty folder and over any other tree, and two of them share what they can.
    #[test]
    fn a_tree_comes_back_as_it_was(one in tree(), other in tree()) {
        let world = World::new();
        make(&world.tree().join("deps"), &one);
        world.save_all("one");
        let first = look(&world.tree());
        assert_equal(&look(&world.restore_fresh("one")), &first);

        // A folder that is moved has to be writable.
        set_mode(&world.tree().join("deps"), 0o700);
        fs::rename(world.tree().join("deps"), world.path("old")).unwrap();
        make(&world.tree().join("deps"), &other);
        world.save_all("other");
        let second = look(&world.tree());
        assert_equal(&look(&world.restore_fresh("other")), &second);

        for (key, wanted) in [("one", &first), ("other", &second), ("one", &first)] {
            world.restore(key, &world.tree(), &["deps"]).unwrap();
            assert_equal(&look(&world.tree()), wanted);
            let again = world.restore(key, &world.tree(), &["deps"]).unwrap();
            prop_assert_eq!((again.written, again.removed), (0, 0));
        }
        prop_assert_eq!(world.store.verify(&false.into()).unwrap().warnings, []);
    }
}

#[test]
fn an_entry_tells_what_it_holds() {
    let world = World::new();
    world.write("deps/a/one", "1");
    set_mode(&world.write("deps/two", "22"), 0o755);
    link(&world.tree(), "deps/a/link", "../two");
    world.save_all("k");
    let entry = world.entry("k");
    assert_eq!((entry.info().files, entry.info().bytes), (3, 3));
    let mut files: Vec<_> = entry.files().collect();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let shown: Vec<_> = files
        .iter()
        .map(|file| {
            let kind = match &file.kind {
                Kind::Folder => "folder".to_owned(),
                Kind::File { size, hash } => format!("{size} {}", &hash[..8]),
                Kind::Symlink { target } => target.display().to_string(),
            };
            (file.path.to_str().unwrap(), kind, file.mode)
        })
        .collect();
    let hash = |text: &str| format!("{} {}", text.len(), &blake3::hash(text.as_bytes()).to_hex()[..8]);
    assert_eq!(
        shown,
        [
            ("deps", "folder".to_owned(), 0o755),
            ("deps/a", "folder".to_owned(), 0o755),
            ("deps/a/link", "../two".to_owned(), 0o777),
            ("deps/a/one", hash("1"), 0o644),
            ("deps/two", hash("22"), 0o755),
        ]
    );
}

#[test]
fn names_of_every_encoding_come_back() {
    let world = World::new();
    let deps = world.folder("tree/deps");
    let names: [&[u8]; 10] = [
        b"\xff\xfe",
        b"new\nline",
        b"tab\t",
        b" ",
        b"-rf",
        b"\xc3\xa4",
        b"a\xcc\x88",
        "漢字".as_bytes(),
        b"$(id)`;'\"\\",
        &[b'n'; 255],
    ];
    for name in names {
        fs::create_dir(deps.join(bytes(name))).unwrap();
        fs::write(deps.join(bytes(name)).join(bytes(name)), name).unwrap();
    }
    world.save_all("k");
    assert_same(&world.restore_fresh("k"), &world.tree());
}

#[test]
fn a_path_ten_thousand_folders_deep_comes_back() {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    const DEEP: usize = 10_000;
    let world = World::new();
    let mut at = rustix::fs::open(world.tree(), OFlags::DIRECTORY, Mode::empty()).unwrap();
    let step = |at: &rustix::fd::OwnedFd, name: &str| {
        openat(at, name, OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
    };
    for name in std::iter::once("deps").chain(std::iter::repeat_n("d", DEEP)) {
        mkdirat(&at, name, Mode::RWXU).unwrap();
        at = step(&at, name).unwrap();
    }
    let file = openat(&at, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
    rustix::io::write(&file, b"at the bottom").unwrap();
    world.save_all("k");
    assert_eq!(world.entry("k").info().files, 1);

    let there = |tree: &Path| {
        let mut at = rustix::fs::open(tree, OFlags::DIRECTORY, Mode::empty()).unwrap();
        for name in std::iter::once("deps").chain(std::iter::repeat_n("d", DEEP)) {
            at = step(&at, name).unwrap();
        }
        let file = openat(&at, "file", OFlags::RDONLY, Mode::empty()).unwrap();
        let mut content = [0; 20];
        let got = rustix::io::read(&file, &mut content).unwrap();
        content[..got].to_vec()
    };
    let tree = world.restore_fresh("k");
    assert_eq!(there(&tree), b"at the bottom");
    let again = world.restore("k", &tree, &["deps"]).unwrap();
    assert_eq!((again.written, again.unchanged), (0, 1));

    // And an entry without it removes it.
    let other = world.folder("other");
    write(&other, "deps/only", "this");
    world.try_save(&other, "flat", &["deps"]).unwrap();
    let flat = world.restore("flat", &tree, &["deps"]).unwrap();
    assert_eq!((flat.removed, flat.written), (1, 1));
    assert_same(&tree, &other);
    world.restore("flat", &world.tree(), &["deps"]).unwrap();
}

#[test]
fn hard_links_become_files_of_their_own() {
    let world = World::new();
    let one = world.write("deps/one", "shared");
    fs::hard_link(&one, world.tree().join("deps/two")).unwrap();
    world.save_all("k");
    let tree = world.restore_fresh("k");
    assert_same(&tree, &world.tree());
    let inode = |name: &str| fs::metadata(tree.join(name)).unwrap().ino();
    assert_ne!(inode("deps/one"), inode("deps/two"));
}

#[test]
fn a_file_with_another_name_outside_the_declared_paths_is_not_written_through() {
    let world = World::new();
    world.write("deps/one", "as it should be");
    set_time(&world.tree().join("deps/one"), 1_000_000, 0);
    world.save_all("k");
    let tree = world.folder("other");
    let outside = write(&tree, "outside", "as it should be");
    fs::create_dir(tree.join("deps")).unwrap();
    fs::hard_link(&outside, tree.join("deps/one")).unwrap();
    let before = fs::metadata(&outside).unwrap();
    world.restore("k", &tree, &["deps"]).unwrap();
    let after = fs::metadata(&outside).unwrap();
    assert_eq!((after.mtime(), after.mode(), after.nlink()), (before.mtime(), before.mode(), 1));
    assert_eq!(fs::metadata(tree.join("deps/one")).unwrap().mtime(), 1_000_000);
}

#[test]
fn holes_stay_holes() {
    let world = World::new();
    world.write("deps/x", "");
    let path = world.tree().join("deps/sparse");
    let file = fs::File::create(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(file.file(), &noise(1, 70_000), 5 << 20).unwrap();
    file.set_len(64 << 20).unwrap();
    world.save_all("k");
    let tree = world.restore_fresh("k");
    assert_same(&tree, &world.tree());
    let taken = |path: &Path| fs::metadata(path).unwrap().blocks() * 512;
    assert!(taken(&path) < 1 << 20, "the test's own file has holes");
    assert!(taken(&tree.join("deps/sparse")) < 1 << 20, "{}", taken(&tree.join("deps/sparse")));
    let stored: u64 = world.files_in("objects").iter().map(|file| taken(file)).sum();
    assert!(stored < 1 << 20, "{stored}");
}

#[test]
fn the_rights_of_the_owner_are_not_given_away() {
    let world = World::new();
    set_mode(&world.write("deps/tool", "#!"), 0o6755);
    world.save_all("k");
    let tree = world.restore_fresh("k");
    assert_eq!(fs::metadata(tree.join("deps/tool")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn nothing_found_is_no_entry() {
    let world = World::new();
    world.write("src/main.rs", "");
    assert_eq!(world.save("k", &["deps", "**/*.o"]), Saved::Nothing { warnings: vec![] });
    assert!(world.store.find(crate::support::NAME, "k").unwrap().entry.is_none());
    // An empty folder is something.
    world.folder("tree/deps/empty");
    world.save_all("k");
    let names: Vec<PathBuf> = look(&world.restore_fresh("k")).into_keys().collect();
    assert_eq!(names, [Path::new("deps"), Path::new("deps/empty")]);
}

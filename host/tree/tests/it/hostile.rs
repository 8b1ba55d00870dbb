//! Trees that nobody would make on purpose, and trees that change while they are read.

use std::ffi::OsStr;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err as fs;
use loom_deadlines::{HANGS, SetOnDrop, within};
use loom_tree::{LeftOut, Warning, dir};
use rustix::fs::{CWD, FileType, Mode, OFlags, mkdirat, mknodat, openat};

use crate::support::{Fixture, Item, files, is_installed, left_out, set_mode, unpack};

fn make_fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[test]
fn fifos_sockets_and_devices_are_left_out_and_not_waited_for() {
    let tree = Fixture::with(&["out/file"]);
    let out = tree.tree().join("out");
    make_fifo(&out.join("fifo"));
    mknodat(CWD, out.join("socket"), FileType::Socket, Mode::RUSR, 0).unwrap();
    let mut expected =
        vec![("out/fifo", LeftOut::Special("fifo")), ("out/socket", LeftOut::Special("socket"))];
    // Only root makes devices, and not everywhere.
    if mknodat(CWD, out.join("device"), FileType::CharacterDevice, Mode::RUSR, 0x0105).is_ok() {
        expected.insert(0, ("out/device", LeftOut::Special("device")));
    }
    let collected = tree.collect(&["out", "out/fifo"]);
    assert_eq!(files(&collected), ["out/file"]);
    let found: Vec<(&str, LeftOut)> =
        left_out(&collected.warnings).into_iter().map(|(name, why)| (name, why.clone())).collect();
    assert_eq!(found, expected);
    assert_eq!(collected.unmatched, [""; 0]);
}

#[test]
fn names_are_bytes() {
    let tree = Fixture::new();
    let long = [&[0xff; 255][..]].concat();
    let names: [&[u8]; 12] = [
        b"new\nline",
        b"\n",
        b"\xff\xfe",
        b"tab\tquote\"back\\slash",
        b"-rf",
        b" ",
        b"*",
        b"...",
        b"\x1b[31mred",
        "käse-日本".as_bytes(),
        &long,
        b"dir\n/\xc3\x28",
    ];
    for name in names {
        tree.write(OsStr::from_bytes(name), name);
    }
    fs_err::os::unix::fs::symlink(OsStr::from_bytes(&[0xfe; 300]), tree.tree().join("link")).unwrap();
    let collected = tree.collect(&["**"]);
    assert_eq!((collected.files.len(), &collected.warnings[..]), (names.len() + 1, &[][..]));
    for name in names {
        let Some(Item::File { content, .. }) = tree.collected(OsStr::from_bytes(name)) else {
            panic!("{name:?}");
        };
        assert_eq!(content, name);
    }
    if is_installed("tar") {
        let there = tree.beside("unpacked");
        fs::create_dir(&there).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("xzf").arg(collected.archive.unwrap()).current_dir(&there);
        assert!(loom_deadlines::status(&mut tar).unwrap().success());
        for name in names {
            assert_eq!(fs::read(there.join(OsStr::from_bytes(name))).unwrap(), name);
        }
    }
}

#[test]
fn paths_may_be_longer_than_the_system_takes() {
    const DEEP: usize = 10_000;
    let tree = Fixture::with(&["top"]);
    let mut folder = dir::open_root(tree.tree()).unwrap();
    for _ in 0..DEEP {
        mkdirat(&folder, c"d", Mode::RWXU).unwrap();
        folder = dir::open_child(folder.as_fd(), b"d").unwrap();
    }
    let file = openat(&folder, c"file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR | Mode::WUSR).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
    rustix::fs::symlinkat(c"../../up", &folder, c"link").unwrap();
    let path = "d/".repeat(DEEP);

    // Not by the fixture's own, which knows the system's limit.
    let collect = |into: &Path, paths: &[String]| {
        let what = loom_tree::Collect {
            tree: tree.tree(),
            paths,
            exclude: &[],
            into,
            refuse: &|_| false,
            cancel: &AtomicBool::new(false),
        };
        loom_tree::collect(&what).unwrap()
    };
    let collected = collect(tree.out(), &["**/file".to_owned(), "d".to_owned()]);
    let expected = [path.clone() + "file", path.clone() + "link"];
    assert_eq!(files(&collected), expected.each_ref());
    assert_eq!((collected.bytes, &collected.warnings[..]), (4, &[][..]));
    let packed = unpack(&collected.archive.unwrap());
    assert_eq!(packed.len(), 2);
    assert!(matches!(&packed[0].1, Item::File { content, .. } if content == b"deep"));

    let other = Fixture::new();
    let placed = other.place(&tree, &collected.files).unwrap();
    assert_eq!((placed.files, placed.bytes, &placed.warnings[..]), (2, 4, &[][..]));
    let root = dir::open_root(other.tree()).unwrap();
    let there = dir::open_beneath(root.as_fd(), path.trim_end_matches('/').as_bytes()).unwrap();
    assert!(rustix::fs::statat(&there, c"file", rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok());

    // Removing a folder by its path is limited, too.
    for folder in [tree.tree(), tree.out(), other.tree()] {
        assert!(loom_deadlines::status(Command::new("rm").arg("-rf").arg(folder)).unwrap().success());
    }
}

#[test]
fn what_goes_away_before_it_is_read_is_left_out() {
    let tree = Fixture::with(&["out/file", "out/folder/file", "out/here"]);
    // Names are asked for when they are known and nothing has been read.
    let vanish = |path: &Path| {
        match path.to_str() {
            Some("out/file") => fs::remove_file(tree.tree().join(path)).unwrap(),
            Some("out/folder/file") => fs::remove_dir_all(tree.tree().join("out/folder")).unwrap(),
            _ => {}
        }
        false
    };
    let collected = tree.collect_unless(&["out"], &[], &vanish).unwrap();
    assert_eq!(files(&collected), ["out/here"]);
    assert_eq!(
        left_out(&collected.warnings),
        [("out/file", &LeftOut::Vanished), ("out/folder/file", &LeftOut::Vanished)]
    );
    assert_eq!(collected.unmatched, [""; 0]);
}

#[test]
fn if_all_goes_away_nothing_is_written() {
    let tree = Fixture::with(&["out/a/file"]);
    let vanish = |path: &Path| {
        fs::remove_file(tree.tree().join(path)).unwrap();
        false
    };
    let collected = tree.collect_unless(&["out"], &[], &vanish).unwrap();
    assert_eq!((collected.archive, tree.out().exists()), (None, false));
}

#[test]
fn a_file_that_becomes_something_else_is_left_out() {
    let tree = Fixture::with(&["out/fifo", "out/folder"]);
    let change = |path: &Path| {
        let whole = tree.tree().join(path);
        fs::remove_file(&whole).unwrap();
        match path.to_str() {
            Some("out/fifo") => make_fifo(&whole),
            _ => fs::create_dir(&whole).unwrap(),
        }
        false
    };
    let collected = tree.collect_unless(&["out"], &[], &change).unwrap();
    assert_eq!(
        left_out(&collected.warnings),
        [("out/fifo", &LeftOut::Special("fifo")), ("out/folder", &LeftOut::Special("folder"))]
    );
}

/// That the archive holds the same bytes as the folder is asked of every collection here.
#[test]
fn a_file_that_is_being_written_is_the_same_in_folder_and_archive() {
    within(HANGS, collect_what_is_being_written);
}

fn collect_what_is_being_written() {
    let tree = Fixture::with(&["out/growing", "out/shrinking", "out/changing"]);
    let open = |name: &str| fs::File::options().write(true).open(tree.tree().join(name)).unwrap();
    let (mut growing, shrinking, changing) =
        (open("out/growing"), open("out/shrinking"), open("out/changing"));
    changing.set_len(2 << 20).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flag = &over;
        scope.spawn(move || {
            for round in (0_u8..=255).cycle() {
                if flag.load(Ordering::Relaxed) {
                    break;
                }
                if round == 0 {
                    growing.set_len(3 << 20).unwrap();
                    growing.seek(SeekFrom::End(0)).unwrap();
                }
                growing.write_all(&[round; 10_000]).unwrap();
                shrinking.set_len(if round % 2 == 0 { 5 << 20 } else { 1 << 20 }).unwrap();
                changing.file().write_all_at(&[round; 9000], u64::from(round) * 5000).unwrap();
            }
        });
        // Also when an assertion fails, which would wait for the other thread.
        let _over = SetOnDrop(flag);
        for _ in 0..10 {
            assert_eq!(tree.collect(&["out"]).files.len(), 3);
        }
    });
}

#[test]
fn holes_stay_holes() {
    let tree = Fixture::new();
    let file = fs::File::create(tree.tree().join("disk")).unwrap();
    file.set_len(64 << 20).unwrap();
    file.file().write_all_at(b"in the middle", 40 << 20).unwrap();
    tree.collect(&["disk"]);
    let copy = fs::metadata(tree.out().join("disk")).unwrap();
    assert_eq!(copy.len(), 64 << 20);
    // A file system without holes has none in the original either.
    let original = fs::metadata(tree.tree().join("disk")).unwrap();
    assert!(copy.blocks() <= original.blocks() + 2048, "{} of {}", copy.blocks(), original.blocks());
    let mut expected = vec![0; 64 << 20];
    expected[40 << 20..][..13].copy_from_slice(b"in the middle");
    assert!(fs::read(tree.out().join("disk")).unwrap() == expected);
}

#[test]
fn what_may_not_be_read_is_left_out() {
    if rustix::process::geteuid().is_root() {
        println!("skipped: root reads everything");
        return;
    }
    let tree = Fixture::with(&["out/file", "out/locked", "out/closed/x"]);
    set_mode(&tree.tree().join("out/locked"), 0);
    set_mode(&tree.tree().join("out/closed"), 0);
    let collected = tree.collect(&["out"]);
    set_mode(&tree.tree().join("out/closed"), 0o700);
    assert_eq!(files(&collected), ["out/file"]);
    let names: Vec<&str> = left_out(&collected.warnings).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["out/closed", "out/locked"]);
}

#[test]
fn many_warnings_are_counted() {
    let tree = Fixture::with(&["out/file"]);
    for index in 0..60 {
        tree.link(&format!("out/{index}"), "/");
    }
    let warnings = tree.collect(&["out"]).warnings;
    assert_eq!((warnings.len(), warnings.last()), (51, Some(&Warning::More(10))));
}

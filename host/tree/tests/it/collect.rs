//! What is collected, and what it looks like.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use fs_err as fs;
use loom_tree::{Collect, Error, FileError, LeftOut, Warning, collect};

use crate::support::{Fixture, Item, files, is_installed, items, left_out, read, set_mode};

#[test]
fn what_matches_goes_into_the_folder_and_the_archive() {
    let tree = Fixture::with(&["dist/app", "dist/sub/lib.so", "src/main.c", "a.log", "logs/b.log", ".env"]);
    let collected = tree.collect(&["dist", "*.log", ".env"]);
    assert_eq!(files(&collected), [".env", "a.log", "dist/app", "dist/sub/lib.so"]);
    assert_eq!(collected.bytes, ".enva.logdist/appdist/sub/lib.so".len() as u64);
    assert_eq!((&collected.unmatched[..], &collected.warnings[..]), (&[][..], &[][..]));
    assert_eq!(read(tree.out().join("dist/sub/lib.so")), "dist/sub/lib.so");
}

#[test]
fn a_folder_is_meant_with_all_in_it_however_it_is_written() {
    for pattern in ["dist", "dist/", "./dist", "dist/**", "d*", "dist/*", "{dist,other}", "dist/.", "**/dist"]
    {
        let tree = Fixture::with(&["dist/a", "dist/.b/.c", "distant"]);
        fs::remove_file(tree.tree().join("distant")).unwrap();
        assert_eq!(files(&tree.collect(&[pattern])), ["dist/.b/.c", "dist/a"], "{pattern}");
    }
}

#[test]
fn what_is_excluded_is_not_collected_a_folder_with_all_in_it() {
    let tree =
        Fixture::with(&["out/a", "out/b.tmp", "out/tmp/c", "out/sub/tmp/d", "out/sub/e.tmp", "out/sub/f"]);
    let collected = tree.collect_except(&["out"], &["**/*.tmp", "out/tmp/"]);
    assert_eq!(files(&collected), ["out/a", "out/sub/f", "out/sub/tmp/d"]);
}

#[test]
fn the_order_is_that_of_the_bytes() {
    let tree = Fixture::with(&["a/b", "a-b", "a.b", "B", "a/é", "a/z"]);
    assert_eq!(files(&tree.collect(&["."])), ["B", "a-b", "a.b", "a/b", "a/z", "a/é"]);
}

#[test]
fn what_git_keeps_of_the_workspace_is_never_collected() {
    let tree = Fixture::with(&[".git/config", ".git/hooks/x", ".gitignore", "sub/.git/config"]);
    let collected = tree.collect(&["**", ".git", ".git/config"]);
    assert_eq!(files(&collected), [".gitignore", "sub/.git/config"]);
    assert_eq!(collected.unmatched, [".git", ".git/config"]);
}

#[test]
fn a_pattern_without_a_match_is_told() {
    let tree = Fixture::with(&["dist/a", "dist/b"]);
    fs::create_dir(tree.tree().join("empty")).unwrap();
    let collected = tree.collect_except(&["./dist/*.js", "dist/a", "empty/", "dist/b"], &["dist/b"]);
    assert_eq!(files(&collected), ["dist/a"]);
    assert_eq!(collected.unmatched, ["./dist/*.js", "empty/", "dist/b"]);
}

#[test]
fn without_any_match_nothing_is_written() {
    let tree = Fixture::with(&["a"]);
    let collected = tree.collect(&["b", "c/**"]);
    assert_eq!(collected.unmatched, ["b", "c/**"]);
    assert_eq!((collected.archive, tree.beside("jobs").exists()), (None, false));
}

#[test]
fn a_pattern_that_leads_out_of_the_tree_or_is_none_is_refused() {
    let tree = Fixture::with(&["a"]);
    for pattern in ["/etc/passwd", "../a", "a/../../b", "", "a["] {
        for (paths, exclude) in [(&[pattern][..], &[][..]), (&["a"], &[pattern])] {
            let error = tree.try_collect(paths, exclude).unwrap_err();
            assert!(matches!(&error, Error::Pattern { pattern: named, .. } if named == pattern), "{error}");
        }
    }
    assert!(!tree.out().exists());
}

#[test]
fn permissions_and_times_are_kept_and_rights_of_others_are_not_given_away() {
    let tree = Fixture::with(&["script", "plain", "secret", "suid", "private/x"]);
    for (name, mode) in [("script", 0o755), ("plain", 0o640), ("secret", 0o400), ("suid", 0o6711)] {
        set_mode(&tree.tree().join(name), mode);
    }
    set_mode(&tree.tree().join("private"), 0o700);
    tree.link("link", "plain");
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_001, 123_456_789);
    for name in ["script", "plain"] {
        fs::File::options()
            .write(true)
            .open(tree.tree().join(name))
            .unwrap()
            .file()
            .set_modified(time)
            .unwrap();
    }
    // Only root can read it at all; the copy can be read by whoever made it.
    let closed = rustix::process::geteuid().is_root();
    if closed {
        tree.write("closed", "");
        set_mode(&tree.tree().join("closed"), 0);
    }
    tree.collect(&["**"]);
    assert!(!closed || matches!(tree.collected("closed"), Some(Item::File { mode: 0o400, .. })));
    for (name, mode) in [("script", 0o755), ("plain", 0o640), ("secret", 0o400), ("suid", 0o711)] {
        assert!(
            matches!(tree.collected(name), Some(Item::File { mode: found, .. }) if found == mode),
            "{name}"
        );
    }
    let meta = |name: &str| fs::symlink_metadata(tree.out().join(name)).unwrap();
    assert_eq!(meta("script").modified().unwrap(), time);
    assert_eq!(meta("private").mode() & 0o777, 0o700);
    let original = fs::symlink_metadata(tree.tree().join("link")).unwrap();
    assert_eq!(meta("link").modified().unwrap(), original.modified().unwrap());
}

#[test]
fn the_same_files_give_the_same_archive() {
    let first = Fixture::with(&["b/c", "a", "b-c"]);
    let second = Fixture::with(&["b-c", "unrelated", "b/c", "a"]);
    for tree in [&first, &second] {
        for name in ["a", "b/c", "b-c"] {
            let file = fs::File::options().write(true).open(tree.tree().join(name)).unwrap();
            file.file().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000)).unwrap();
        }
    }
    let archive = |tree: &Fixture| fs::read(tree.collect(&["a", "b*"]).archive.unwrap()).unwrap();
    assert_eq!(archive(&first), archive(&second));
}

#[test]
fn the_place_of_the_archive_is_taken() {
    let tree = Fixture::with(&["artifacts.tar.gz", "sub/artifacts.tar.gz"]);
    let collected = tree.collect(&["**"]);
    assert_eq!(files(&collected), ["sub/artifacts.tar.gz"]);
    assert_eq!(left_out(&collected.warnings), [("artifacts.tar.gz", &LeftOut::Archive)]);

    let tree = Fixture::with(&["artifacts.tar.gz/x"]);
    let collected = tree.collect(&["artifacts.tar.gz"]);
    assert_eq!(left_out(&collected.warnings), [("artifacts.tar.gz/x", &LeftOut::Archive)]);
    assert_eq!((&collected.archive, &collected.unmatched[..]), (&None, &[][..]));
}

#[test]
fn refused_names_are_written_nowhere() {
    let tree = Fixture::with(&["out/a", "out/key-hunter2", "out/hunter2/b", "out/hunter2/c"]);
    tree.link("out/link", "hunter2/b");
    tree.link("out/away", "/hunter2");
    let refuse = |path: &Path| path.to_str().is_some_and(|path| path.contains("hunter2"));
    let collected = tree.collect_unless(&["out/*", "out/key*"], &[], &refuse).unwrap();
    assert_eq!(files(&collected), ["out/a"]);
    assert_eq!(collected.warnings, [Warning::Refused(5)]);
    assert_eq!(collected.unmatched, [""; 0]);
    assert_eq!(items(tree.out()).len(), 2);
    assert!(!format!("{collected:?} {}", collected.warnings[0]).contains("hunter2"));
}

#[test]
fn what_was_collected_before_is_replaced() {
    let tree = Fixture::with(&["out/a", "out/b"]);
    tree.collect(&["out"]);
    tree.write("out/a", "new");
    tree.collect(&["out/a"]);
    assert_eq!(read(tree.out().join("out/a")), "new");
    assert_eq!(read(tree.out().join("out/b")), "out/b");
}

#[test]
fn ten_thousand_files_are_all_there() {
    let tree = Fixture::new();
    for index in 0..10_000 {
        tree.write(format!("out/{}/{index}.txt", index % 97), index.to_string());
    }
    let collected = tree.collect(&["out/**/*.txt"]);
    assert_eq!(collected.files.len(), 10_000);
    assert_eq!(read(tree.out().join("out/3/9994.txt")), "9994");
}

#[test]
fn the_systems_tar_reads_the_archive() {
    if !is_installed("tar") {
        return;
    }
    let tree = Fixture::with(&["a", "sub/b"]);
    // Longer than fits into a header; as long as fits; and content over several pieces.
    for length in [99, 100, 101, 200] {
        tree.write("x".repeat(length), length.to_string());
        tree.link(&format!("link{length}"), "y".repeat(length));
    }
    tree.write(format!("{0}/{0}", "d".repeat(200)), "deep");
    tree.write("big", vec![7; 3_000_000]);
    set_mode(&tree.tree().join("a"), 0o751);
    let collected = tree.collect(&["**"]);
    let there = tree.beside("unpacked");
    fs::create_dir(&there).unwrap();
    let mut tar = std::process::Command::new("tar");
    tar.args(["-x", "-z", "-p", "--no-same-owner", "-f"]).arg(collected.archive.unwrap());
    assert!(loom_deadlines::status(tar.current_dir(&there)).unwrap().success());
    let mut expected = items(tree.out());
    expected.remove(Path::new("artifacts.tar.gz"));
    assert!(items(&there) == expected);
}

#[test]
fn who_cancels_gets_no_archive() {
    let tree = Fixture::with(&["a", "b"]);
    let cancel = AtomicBool::new(false);
    // Once the walk is under way.
    let refuse = |_: &Path| {
        cancel.store(true, Ordering::Relaxed);
        false
    };
    let paths = ["**".to_owned()];
    let what = Collect {
        tree: tree.tree(),
        paths: &paths,
        exclude: &[],
        into: tree.out(),
        refuse: &refuse,
        cancel: &cancel,
    };
    assert!(matches!(collect(&what), Err(Error::Cancelled)));
    assert!(!tree.out().join("artifacts.tar.gz").exists());
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let tree = Fixture::with(&["a"]);
    fs::write(tree.beside("jobs"), "").unwrap();
    let error = tree.try_collect(&["a"], &[]).unwrap_err();
    assert!(matches!(&error, Error::File(FileError::Write { path, .. }) if path == tree.out()), "{error}");

    let gone = Fixture::new();
    fs::remove_dir(gone.tree()).unwrap();
    let error = gone.try_collect(&["a"], &[]).unwrap_err();
    assert!(matches!(&error, Error::File(FileError::Read { path, .. }) if path == gone.tree()), "{error}");
}

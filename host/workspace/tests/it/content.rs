//! Which files the copy has, and what they are like.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::support::{Fixture, assert_same_to_git, files, set, write};

#[test]
fn tracked_modified_staged_and_untracked_files_come_ignored_and_deleted_ones_do_not() {
    let repo = Fixture::with([".gitignore", "same", "modified", "deleted", "staged-deleted", "old-name"]);
    repo.write(".gitignore", "*.log\n/target/\n");
    repo.write("modified", "changed");
    repo.write("added", "added");
    repo.write("folder/untracked", "untracked");
    repo.write("noise.log", "ignored");
    repo.write("target/debug/out", "ignored");
    repo.git(["add", "added"]);
    repo.git(["mv", "old-name", "new-name"]);
    repo.git(["rm", "-q", "staged-deleted"]);
    fs_err::remove_file(repo.root().join("deleted")).unwrap();

    let snapshot = repo.snapshot();
    assert_eq!(
        files(snapshot.path()),
        set([".gitignore", "same", "modified", "added", "new-name", "folder/", "folder/untracked"])
    );
    assert_eq!(fs_err::read_to_string(snapshot.path().join("modified")).unwrap(), "changed");
    assert_eq!(fs_err::read_to_string(snapshot.path().join("new-name")).unwrap(), "old-name");
    assert_eq!(snapshot.files, 6);
    assert_eq!(
        snapshot.bytes,
        ["*.log\n/target/\n", "same", "changed", "added", "old-name", "untracked"].concat().len() as u64
    );
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn what_git_is_told_to_ignore_for_one_clone_only_stays_out_and_stays_ignored() {
    let repo = Fixture::with(["a"]);
    repo.write(".git/info/exclude", "*.mine\n");
    repo.write("x.mine", "");
    let snapshot = repo.snapshot();
    assert_eq!(files(snapshot.path()), set(["a"]));
    write(&snapshot.path().join("y.mine"), "");
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn a_tracked_file_comes_though_it_is_ignored() {
    let repo = Fixture::with(["kept.log"]);
    repo.write(".gitignore", "*.log\n");
    repo.write("other.log", "");
    let snapshot = repo.snapshot();
    assert_eq!(files(snapshot.path()), set([".gitignore", "kept.log"]));
}

#[test]
fn the_runtime_folder_never_comes_even_if_git_does_not_ignore_it() {
    for repo in [Fixture::with([".loom/workflow.yml", ".loom/.runtime/tracked"]), Fixture::plain()] {
        repo.write(".loom/workflow.yml", "version: v1");
        repo.write(".loom/.runtime/receipts/r.json", "{}");
        let snapshot = repo.snapshot();
        assert_eq!(files(snapshot.path()), set([".loom/", ".loom/workflow.yml"]));
    }
}

#[test]
fn what_git_could_not_look_at_is_said() {
    let repo = Fixture::with(["a"]);
    assert!(repo.snapshot().warnings.is_empty());
    loom_tree::remove(&repo.beside("copies")).unwrap();
    // Git does not follow such a link, and so does not know what the folder ignores.
    repo.write("folder/file", "");
    symlink("../a", repo.root().join("folder/.gitignore")).unwrap();
    let snapshot = repo.snapshot();
    assert_eq!(snapshot.warnings.len(), 1);
    assert!(snapshot.warnings[0].contains("folder/.gitignore"), "{:?}", snapshot.warnings);
}

#[test]
fn symlinks_stay_symlinks() {
    let repo = Fixture::with(["real/file"]);
    for (link, target) in
        [("to-file", "real/file"), ("to-folder", "real"), ("dangling", "nowhere"), ("absolute", "/etc")]
    {
        symlink(target, repo.root().join(link)).unwrap();
    }
    repo.commit_all("links");
    symlink("real", repo.root().join("untracked-link")).unwrap();

    let snapshot = repo.snapshot();
    for (link, target) in [
        ("to-file", "real/file"),
        ("to-folder", "real"),
        ("dangling", "nowhere"),
        ("absolute", "/etc"),
        ("untracked-link", "real"),
    ] {
        assert_eq!(fs_err::read_link(snapshot.path().join(link)).unwrap(), Path::new(target));
    }
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn a_tracked_folder_that_became_a_symlink_is_not_looked_into() {
    let repo = Fixture::with(["folder/file", "folder/deep/file"]);
    fs_err::rename(repo.root().join("folder"), repo.beside("elsewhere")).unwrap();
    symlink(repo.beside("elsewhere"), repo.root().join("folder")).unwrap();
    let snapshot = repo.snapshot();
    assert_eq!(files(snapshot.path()), set(["folder"]));
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn a_tracked_file_that_became_a_folder_and_the_other_way_round() {
    let repo = Fixture::with(["file", "folder/inner"]);
    fs_err::remove_file(repo.root().join("file")).unwrap();
    repo.write("file/new", "");
    repo.write(".git/info/exclude", "ignored\n");
    repo.write("file/ignored", "");
    fs_err::remove_dir_all(repo.root().join("folder")).unwrap();
    repo.write("folder", "");
    let snapshot = repo.snapshot();
    assert_eq!(files(snapshot.path()), set(["file/", "file/new", "folder"]));
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn modes_are_kept_whatever_the_umask() {
    let repo = Fixture::with(["plain", "run.sh", "read-only", "private", "open/file", "closed/file"]);
    let modes = [
        ("plain", 0o644),
        ("run.sh", 0o775),
        ("read-only", 0o444),
        ("private", 0o600),
        ("open/file", 0o666),
        ("open", 0o777),
        ("closed", 0o500),
    ];
    for (name, mode) in modes {
        set_mode(&repo.root().join(name), mode);
    }
    let snapshot = repo.snapshot();
    for (name, mode) in modes {
        assert_eq!(mode_of(&snapshot.path().join(name)), mode, "{name}");
    }
    assert_eq!(mode_of(snapshot.path()), mode_of(repo.root()));
    assert_same_to_git(repo.root(), snapshot.path());
    set_mode(&repo.root().join("closed"), 0o700);
}

#[test]
fn a_read_only_folder_is_filled_with_its_folders() {
    for repo in [Fixture::with(["a/b/c/file"]), Fixture::plain()] {
        repo.write("a/b/c/file", "x");
        for folder in ["a/b/c", "a/b", "a"] {
            set_mode(&repo.root().join(folder), 0o555);
        }
        let snapshot = repo.snapshot();
        assert_eq!(fs_err::read_to_string(snapshot.path().join("a/b/c/file")).unwrap(), "x");
        for folder in ["a", "a/b", "a/b/c"] {
            assert_eq!(mode_of(&snapshot.path().join(folder)), 0o555);
            set_mode(&repo.root().join(folder), 0o755);
        }
        loom_tree::remove(snapshot.dir()).unwrap();
        assert!(!snapshot.dir().exists());
    }
}

#[test]
fn files_keep_their_times() {
    let repo = Fixture::with(["old"]);
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    let file = fs_err::OpenOptions::new().write(true).open(repo.root().join("old")).unwrap();
    file.file().set_modified(long_ago).unwrap();
    let snapshot = repo.snapshot();
    let copied = fs_err::metadata(snapshot.path().join("old")).unwrap();
    assert_eq!(copied.modified().unwrap(), long_ago);
}

#[test]
fn sockets_fifos_and_devices_stay_out() {
    for repo in [Fixture::with(["file"]), Fixture::plain()] {
        repo.write("file", "");
        let _listener = UnixListener::bind(repo.root().join("socket")).unwrap();
        mknodat(CWD, repo.root().join("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(fs_err::metadata(repo.root().join("fifo")).unwrap().file_type().is_fifo());
        assert_eq!(files(repo.snapshot().path()), set(["file"]));
    }
}

#[test]
fn a_tracked_file_that_became_a_fifo_is_left_out_and_not_waited_for() {
    let repo = Fixture::with(["file", "pipe", "socket"]);
    for name in ["pipe", "socket"] {
        fs_err::remove_file(repo.root().join(name)).unwrap();
    }
    mknodat(CWD, repo.root().join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _listener = UnixListener::bind(repo.root().join("socket")).unwrap();
    assert_eq!(files(repo.snapshot().path()), set(["file"]));
}

#[test]
fn names_are_bytes() {
    let names: [&[u8]; 8] = [
        b"with space",
        b"line\nbreak",
        b"tab\t",
        b"\xff\xfe",
        "grüße/日本".as_bytes(),
        b"-n",
        b"\"quoted\"",
        b"back\\slash",
    ];
    for (repo, is_git) in [(Fixture::empty(), true), (Fixture::plain(), false)] {
        for (index, name) in names.iter().enumerate() {
            repo.write(OsStr::from_bytes(name), name);
            if is_git && index == 4 {
                repo.commit_all("half of them");
            }
        }
        let snapshot = repo.snapshot();
        for name in names {
            assert_eq!(fs_err::read(snapshot.path().join(OsStr::from_bytes(name))).unwrap(), name);
        }
        assert_eq!(files(snapshot.path()), files(repo.root()));
        if is_git {
            assert_same_to_git(repo.root(), snapshot.path());
        }
    }
}

#[test]
fn sizes_around_every_limit_are_copied_whole() {
    let repo = Fixture::empty();
    let sizes = [
        0,
        1,
        4095,
        4096,
        (128 << 10) - 1,
        128 << 10,
        (128 << 10) + 1,
        1 << 20,
        (1 << 20) + 1,
        (17 << 20) + 3,
    ];
    let content =
        |size: usize| -> Vec<u8> { (0..size).map(|at| (at % 251) as u8 ^ (at >> 13) as u8).collect() };
    for size in sizes {
        repo.write(format!("size-{size}"), content(size));
    }
    let snapshot = repo.snapshot();
    for size in sizes {
        assert!(
            fs_err::read(snapshot.path().join(format!("size-{size}"))).unwrap() == content(size),
            "{size}"
        );
    }
    assert_eq!(snapshot.bytes, sizes.iter().sum::<usize>() as u64);
}

#[test]
fn a_file_with_holes_does_not_grow() {
    let repo = Fixture::plain();
    let file = fs_err::File::create(repo.root().join("sparse")).unwrap();
    file.set_len(3 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(file.file(), b"in the middle", 1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(file.file(), b"end", (3 << 30) - 3).unwrap();
    let snapshot = repo.snapshot();
    let copy = fs_err::File::open(snapshot.path().join("sparse")).unwrap();
    let meta = copy.metadata().unwrap();
    assert_eq!(meta.len(), 3 << 30);
    assert!(meta.blocks() * 512 < 16 << 20, "{} blocks", meta.blocks());
    let mut found = [0; 13];
    std::os::unix::fs::FileExt::read_exact_at(copy.file(), &mut found, 1 << 30).unwrap();
    assert_eq!(&found, b"in the middle");
    std::os::unix::fs::FileExt::read_exact_at(copy.file(), &mut found[..3], (3 << 30) - 3).unwrap();
    assert_eq!(&found[..3], b"end");
}

#[test]
fn the_copy_is_independent_of_the_original() {
    let repo = Fixture::with(["file"]);
    let snapshot = repo.snapshot();
    fs_err::write(snapshot.path().join("file"), "changed by a job").unwrap();
    assert_eq!(fs_err::read_to_string(repo.root().join("file")).unwrap(), "file");
    assert_eq!(repo.git(["status", "--porcelain"]), "");
}

#[test]
fn five_thousand_files_in_many_folders_and_in_one() {
    let repo = Fixture::empty();
    for index in 0..2500 {
        repo.write(format!("many/{}/{}/{index}", index % 7, index % 113), index.to_string());
        repo.write(format!("one/{index}"), index.to_string());
    }
    repo.commit_all("many");
    let snapshot = repo.snapshot();
    assert_eq!(snapshot.files, 5000);
    assert_eq!(files(snapshot.path()), files(repo.root()));
    for index in 0..2500 {
        let copied = fs_err::read_to_string(snapshot.path().join(format!("one/{index}"))).unwrap();
        assert_eq!(copied, index.to_string());
    }
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn deep_folders() {
    let repo = Fixture::empty();
    let deep = "d/".repeat(500);
    repo.write(format!("{deep}file"), "deep");
    for level in [1, 100, 400] {
        repo.write(format!("{}beside", "d/".repeat(level)), "beside");
    }
    repo.commit_all("deep");
    let snapshot = repo.snapshot();
    assert_eq!(fs_err::read_to_string(snapshot.path().join(format!("{deep}file"))).unwrap(), "deep");
    assert_eq!(snapshot.files, 4);
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn folders_deeper_than_one_path_may_name() {
    let repo = Fixture::plain();
    // 30 levels of 200 bytes, made one by one.
    let name = "x".repeat(200);
    let mut at = rustix::fs::open(repo.root(), rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
    for _ in 0..30 {
        rustix::fs::mkdirat(&at, &*name, Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, &*name, rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
    }
    rustix::fs::openat(&at, "file", rustix::fs::OFlags::CREATE, Mode::RUSR).unwrap();
    let snapshot = repo.snapshot();
    assert_eq!(snapshot.files, 1);
    loom_tree::remove(snapshot.dir()).unwrap();
    assert!(!snapshot.dir().exists());
}

#[test]
fn a_plain_folder_comes_whole() {
    let folder = Fixture::plain();
    folder.write(".gitignore", "*.log\n");
    folder.write("noise.log", "");
    folder.write("a/b", "");
    fs_err::create_dir_all(folder.root().join("empty/folder")).unwrap();
    let snapshot = folder.snapshot();
    assert_eq!(files(snapshot.path()), files(folder.root()));
    assert_eq!((snapshot.head_sha.as_deref(), snapshot.branch.as_deref()), (None, None));
    assert!(!snapshot.path().join(".git").exists());
    assert_eq!(snapshot.files, 3);
    assert!(snapshot.borrowed_objects.is_empty());
}

fn set_mode(path: &Path, mode: u32) {
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn mode_of(path: &Path) -> u32 {
    fs_err::metadata(path).unwrap().mode() & 0o7777
}

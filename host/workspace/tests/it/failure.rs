//! What goes wrong, what is said about it, and that nothing is left behind.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use loom_deadlines::{HANGS, SetOnDrop, wait_for, within};
use loom_tree::FileError;
use loom_workspace::{Error, create};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};

use crate::support::{Fixture, command, files, git};

#[test]
fn a_copy_does_not_go_where_something_is() {
    let repo = Fixture::with(["a"]);
    let dest = repo.beside("copies/run");
    fs_err::create_dir_all(&dest).unwrap();
    let error = repo.try_snapshot_of(repo.root()).unwrap_err();
    assert!(matches!(&error, Error::Exists { path } if *path == dest), "{error}");
    assert!(dest.exists());
}

#[test]
fn a_copy_does_not_go_into_the_repository() {
    let repo = Fixture::with(["a"]);
    for dest in ["cache/copy", "copy"] {
        let error = create(
            repo.root(),
            &repo.root().join(dest),
            |path| std::fs::create_dir(path),
            &AtomicBool::new(false),
        )
        .unwrap_err();
        assert!(matches!(error, Error::InsideRepository { .. }), "{error}");
        assert!(error.hint().unwrap().contains("XDG_CACHE_HOME"));
    }
    assert_eq!(files(repo.root()).len(), 1);
}

#[test]
fn a_root_that_is_not_there() {
    let repo = Fixture::plain();
    let error = repo.try_snapshot_of(&repo.beside("nowhere")).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot read `{}`: No such file or directory (os error 2)", repo.beside("nowhere").display())
    );
    assert_nothing_left(&repo);
}

#[test]
fn a_broken_git_folder_is_an_error_in_gits_own_words() {
    let repo = Fixture::with(["a"]);
    fs_err::remove_file(repo.root().join(".git/HEAD")).unwrap();
    let error = repo.try_snapshot_of(repo.root()).unwrap_err();
    let Error::Git { root, words, .. } = &error else { panic!("{error}") };
    assert_eq!(root, repo.root());
    assert!(words.contains("not a git repository"), "{words}");
    assert_nothing_left(&repo);
}

#[test]
fn a_broken_index_is_an_error_in_gits_own_words() {
    let repo = Fixture::with(["a"]);
    repo.write(".git/index", "broken");
    let error = repo.try_snapshot_of(repo.root()).unwrap_err();
    assert!(
        matches!(&error, Error::Git { command: "ls-files", words, .. } if words.contains("index")),
        "{error}"
    );
    assert_nothing_left(&repo);
}

#[test]
fn a_broken_submodule_names_the_submodule() {
    let inner = Fixture::with(["inner-file"]);
    let repo = Fixture::with(["a"]);
    repo.git(["submodule", "--quiet", "add", inner.root().to_str().unwrap(), "lib"]);
    fs_err::remove_dir_all(repo.root().join(".git/modules/lib")).unwrap();
    let error = repo.try_snapshot_of(repo.root()).unwrap_err();
    assert!(matches!(&error, Error::Git { root, .. } if *root == repo.root().join("lib")), "{error}");
    assert_nothing_left(&repo);
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    if rustix::process::geteuid().is_root() {
        println!("skipped: root may read everything");
        return;
    }
    let repo = Fixture::with(["folder/secret", "other"]);
    let secret = repo.root().join("folder/secret");
    fs_err::set_permissions(&secret, std::fs::Permissions::from_mode(0o000)).unwrap();
    let error = repo.try_snapshot_of(repo.root()).unwrap_err();
    assert!(matches!(&error, Error::File(FileError::Read { path, .. }) if *path == secret), "{error}");
    assert!(error.hint().unwrap().contains("folder/secret"));
    assert_nothing_left(&repo);
}

#[test]
fn a_folder_of_copies_that_may_not_be_written_is_named() {
    let repo = Fixture::with(["a"]);
    repo.write("in-the-way", "");
    let dest = repo.beside("file/below");
    fs_err::write(repo.beside("file"), "").unwrap();
    let error =
        create(repo.root(), &dest, |path| std::fs::create_dir(path), &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(&error, Error::File(FileError::Write { path, .. }) if *path == dest), "{error}");
}

#[test]
fn cancelled_before_it_starts() {
    let repo = Fixture::with(["a"]);
    let error = create(
        repo.root(),
        &repo.beside("copies/run"),
        |path| std::fs::create_dir(path),
        &AtomicBool::new(true),
    )
    .unwrap_err();
    assert!(matches!(error, Error::Cancelled));
    assert_nothing_left(&repo);
}

#[test]
fn cancelled_while_files_are_copied() {
    within(HANGS, cancel_copies);
}

fn cancel_copies() {
    let repo = Fixture::plain();
    for index in 0..3000 {
        repo.write(format!("{}/{index}", index % 40), "content");
    }
    let dest = repo.beside("copies/run");
    let mut cancelled = 0;
    for _ in 0..20 {
        let (cancel, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let done = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !dest.join("3").exists() && !over.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                cancel.store(true, Ordering::Relaxed);
            });
            let _over = SetOnDrop(&over);
            create(repo.root(), &dest, |path| std::fs::create_dir(path), &cancel)
        });
        match done {
            Err(Error::Cancelled) => {
                cancelled += 1;
                assert_nothing_left(&repo);
            }
            // The other thread was late.
            done => loom_tree::remove(done.unwrap().dir()).unwrap(),
        }
        if cancelled == 3 {
            return;
        }
    }
    assert!(cancelled > 0, "never cancelled in time");
}

#[test]
fn cancelled_while_git_does_not_answer() {
    within(HANGS, cancel_git);
}

fn cancel_git() {
    let repo = Fixture::with(["a"]);
    // Git waits for someone to write to this file.
    mknodat(CWD, repo.root().join(".git/waiting"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    repo.write(".git/config", "[core]\n\trepositoryformatversion = 0\n[include]\n\tpath = waiting\n");
    let cancel = AtomicBool::new(false);
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            let _cancel = SetOnDrop(&cancel);
            let fifo = repo.root().join(".git/waiting");
            let mut held = None;
            // It can be opened like this once git is there to read it.
            wait_for("git", || {
                held = open(&fifo, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()).ok();
                held.is_some()
            });
            cancel.store(true, Ordering::Relaxed);
            // Git waits, as long as somebody could write.
            std::thread::sleep(Duration::from_secs(1));
        });
        create(repo.root(), &repo.beside("copies/run"), |path| std::fs::create_dir(path), &cancel)
            .unwrap_err()
    });
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert_nothing_left(&repo);
}

#[test]
fn files_that_come_and_go_while_they_are_copied() {
    within(HANGS, copy_what_comes_and_goes);
}

fn copy_what_comes_and_goes() {
    let repo = Fixture::with(["stays"]);
    let stop = AtomicBool::new(false);
    let root = repo.root();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0_usize;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                let folder = root.join(format!("folder{}", round % 3));
                let _ = std::fs::create_dir(&folder);
                for index in 0..20 {
                    let _ = std::fs::OpenOptions::new()
                        .create(true)
                        .append(true)
                        .open(folder.join(format!("{index}")));
                }
                let _ = fs_err::remove_dir_all(&folder);
                let _ = std::os::unix::fs::symlink("stays", &folder);
                let _ = fs_err::remove_file(&folder);
            }
        });
        let _stop = SetOnDrop(&stop);
        for _ in 0..40 {
            let snapshot = repo.snapshot();
            assert_eq!(fs_err::read_to_string(snapshot.path().join("stays")).unwrap(), "stays");
            loom_tree::remove(snapshot.dir()).unwrap();
        }
    });
}

#[test]
fn without_git_on_path_a_repository_is_an_error_and_a_folder_is_copied() {
    let repo = Fixture::with(["a"]);
    let said = in_environment(&repo, &[("PATH", "/nonexistent")]);
    let marker = repo.root().join(".git");
    assert_eq!(said, format!("cannot read the git repository at `{}`: no `git` on PATH", marker.display()));
    assert_nothing_left(&repo);

    let folder = Fixture::plain();
    folder.write("a", "");
    assert_eq!(in_environment(&folder, &[("PATH", "/nonexistent")]), "copied 1 files of None");
}

#[test]
fn a_repository_of_someone_else_is_refused_in_gits_own_words() {
    let repo = Fixture::with(["a"]);
    let said = in_environment(
        &repo,
        &[
            ("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
        ],
    );
    assert!(said.contains("dubious ownership") && said.contains("safe.directory"), "{said}");
    assert_nothing_left(&repo);
}

#[test]
fn what_a_git_hook_sets_does_not_lead_elsewhere() {
    // Tracked and ignored: whoever reads another index misses it.
    let repo = Fixture::with(["a"]);
    repo.write(".git/info/exclude", "a\n");
    let other = Fixture::with(["x", "y"]);
    let (git_dir, work_tree) = (other.root().join(".git"), other.root().to_owned());
    let said = in_environment(
        &repo,
        &[
            ("GIT_DIR", git_dir.to_str().unwrap()),
            ("GIT_WORK_TREE", work_tree.to_str().unwrap()),
            ("GIT_INDEX_FILE", git_dir.join("index").to_str().unwrap()),
            ("GIT_OBJECT_DIRECTORY", git_dir.join("objects").to_str().unwrap()),
            ("GIT_PREFIX", "x/"),
        ],
    );
    let head = git(repo.root(), ["rev-parse", "HEAD"]);
    assert_eq!(said, format!("copied 1 files of Some({:?})", head.trim()));
}

/// What [`in_another_environment`] says.
fn in_environment(repo: &Fixture, environment: &[(&str, &str)]) -> String {
    let answer = repo.beside("answer");
    let mut another = command(std::env::current_exe().unwrap());
    another
        .args(["--exact", "failure::in_another_environment", "--ignored"])
        .env("LOOM_TEST_ROOT", repo.root())
        .env("LOOM_TEST_DEST", repo.beside("copies/run"))
        .env("LOOM_TEST_ANSWER", &answer)
        .envs(environment.iter().copied());
    let output = loom_deadlines::output(&mut another).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let said = fs_err::read_to_string(&answer).unwrap();
    fs_err::remove_file(answer).unwrap();
    said
}

#[test]
#[ignore = "started by other tests, as a process of its own"]
#[expect(clippy::disallowed_methods, reason = "how another process of these tests is told what to do")]
fn in_another_environment() {
    let path = |name| std::env::var_os(name).unwrap();
    let (root, dest) = (path("LOOM_TEST_ROOT"), path("LOOM_TEST_DEST"));
    let said = match create(
        Path::new(&root),
        Path::new(&dest),
        |path| std::fs::create_dir(path),
        &AtomicBool::new(false),
    ) {
        Ok(snapshot) => format!("copied {} files of {:?}", snapshot.files, snapshot.head_sha),
        Err(error) => error.to_string(),
    };
    fs_err::write(path("LOOM_TEST_ANSWER"), said).unwrap();
}

/// Neither the copy nor the folder that was made for it.
fn assert_nothing_left(repo: &Fixture) {
    assert!(!repo.beside("copies").exists());
}

//! What goes wrong, what is said about it, and that nothing is left behind.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use loom_workspace::{Error, create};
use rustix::fs::{CWD, FileType, Mode, mknodat};

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
    assert!(matches!(&error, Error::Read { path, .. } if *path == secret), "{error}");
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
    assert!(matches!(&error, Error::Write { path, .. } if *path == dest), "{error}");
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
    let repo = Fixture::plain();
    for index in 0..3000 {
        repo.write(format!("{}/{index}", index % 40), "content");
    }
    let dest = repo.beside("copies/run");
    let mut cancelled = 0;
    for _ in 0..20 {
        let cancel = Arc::new(AtomicBool::new(false));
        let canceller = std::thread::spawn({
            let (cancel, dest) = (Arc::clone(&cancel), dest.clone());
            move || {
                while !dest.join("3").exists() {
                    std::hint::spin_loop();
                }
                cancel.store(true, Ordering::Relaxed);
            }
        });
        match create(repo.root(), &dest, |path| std::fs::create_dir(path), &cancel) {
            Err(Error::Cancelled) => {
                cancelled += 1;
                canceller.join().unwrap();
                assert_nothing_left(&repo);
            }
            // The other thread was late.
            done => {
                canceller.join().unwrap();
                loom_tree::remove(done.unwrap().dir()).unwrap();
            }
        }
        if cancelled == 3 {
            return;
        }
    }
    assert!(cancelled > 0, "never cancelled in time");
}

#[test]
fn cancelled_while_git_does_not_answer() {
    let repo = Fixture::with(["a"]);
    // Git waits for someone to write to this file.
    mknodat(CWD, repo.root().join(".git/waiting"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    repo.write(".git/config", "[core]\n\trepositoryformatversion = 0\n[include]\n\tpath = waiting\n");
    let cancel = Arc::new(AtomicBool::new(false));
    let canceller = std::thread::spawn({
        let cancel = Arc::clone(&cancel);
        move || {
            std::thread::sleep(Duration::from_millis(100));
            cancel.store(true, Ordering::Relaxed);
        }
    });
    let started = Instant::now();
    let error = create(repo.root(), &repo.beside("copies/run"), |path| std::fs::create_dir(path), &cancel)
        .unwrap_err();
    canceller.join().unwrap();
    assert!(matches!(error, Error::Cancelled), "{error}");
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(5), "{took:?}");
    assert_nothing_left(&repo);
}

#[test]
fn files_that_come_and_go_while_they_are_copied() {
    let repo = Fixture::with(["stays"]);
    let stop = Arc::new(AtomicBool::new(false));
    let changer = std::thread::spawn({
        let (stop, root) = (Arc::clone(&stop), repo.root().to_owned());
        move || {
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
        }
    });
    for _ in 0..40 {
        let snapshot = repo.snapshot();
        assert_eq!(fs_err::read_to_string(snapshot.path().join("stays")).unwrap(), "stays");
        loom_tree::remove(snapshot.dir()).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    changer.join().unwrap();
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
    let output = command(std::env::current_exe().unwrap())
        .args(["--exact", "failure::in_another_environment", "--ignored"])
        .env("LOOM_TEST_ROOT", repo.root())
        .env("LOOM_TEST_DEST", repo.beside("copies/run"))
        .env("LOOM_TEST_ANSWER", &answer)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
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

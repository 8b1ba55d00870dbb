//! Failing I/O: whatever call of a snapshot fails, nothing is left of it, the repository is what it was, the
//! error names the path, and the next snapshot works.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use fs_err as fs;
use loom_faults::{Failing, fail_each};
use rustix::io::Errno;

use crate::{Aside, Error, Patterns, Slot, create, update};

/// The ways in which calls fail here: one of them for want of space, one by itself, and all from one on.
const FAILING: [Failing; 3] =
    [Failing::Once(Errno::NOSPC), Failing::Once(Errno::IO), Failing::FromThenOn(Errno::IO)];

fn git(folder: &Path, args: &[&str]) -> String {
    #[expect(clippy::disallowed_methods, reason = "a test makes a repository")]
    let output = Command::new("git")
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"])
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A repository with a submodule, below a folder of its own; a file of it is changed and another one
/// untracked.
fn repository(dir: &Path) -> PathBuf {
    let (inner, root) = (dir.join("inner"), dir.join("repository"));
    for folder in [&inner, &root] {
        fs::create_dir_all(folder.join("folder")).unwrap();
        fs::write(folder.join("folder/file"), "content").unwrap();
        git(folder, &["init", "--quiet"]);
        git(folder, &["add", "."]);
        git(folder, &["commit", "--quiet", "--message", "one"]);
    }
    git(&root, &["submodule", "--quiet", "add", inner.to_str().unwrap(), "lib"]);
    git(&root, &["commit", "--quiet", "--message", "two"]);
    fs::write(root.join("folder/file"), "changed").unwrap();
    fs::write(root.join("untracked"), "untracked").unwrap();
    root
}

fn status(folder: &Path) -> String {
    git(folder, &["status", "--porcelain", "--ignored"]) + &git(folder, &["rev-parse", "HEAD"])
}

#[test]
fn a_snapshot_of_which_a_call_fails_leaves_nothing_and_the_next_works() {
    for failing in FAILING {
        let dir = tempfile::tempdir().unwrap();
        let root = repository(dir.path());
        let dest = dir.path().join("copies/of/this/run");
        let before = status(&root);
        let snapshot = || create(&root, &dest, |path| fs::create_dir(path), &AtomicBool::new(false));
        let calls = fail_each(dir.path(), failing, |fault| {
            match fault.during(snapshot) {
                Ok(snapshot) => assert_eq!(status(snapshot.path()), before, "{:?}", fault.hit()),
                Err(error) => {
                    let hit = fault.hit().expect("a call that failed");
                    let Error::File(error) = &error else { panic!("{error} {hit:?}") };
                    assert!(error.to_string().contains(hit.path.to_str().unwrap()), "{error} {hit:?}");
                    assert!(!dir.path().join("copies").exists(), "{hit:?}");
                }
            }
            assert_eq!(status(&root), before, "{:?}", fault.hit());
            if !dest.exists() {
                assert_eq!(status(snapshot().unwrap().path()), before);
            }
            loom_tree::remove(&dir.path().join("copies")).unwrap();
        });
        assert!(calls > 40, "{calls}");
    }
}

/// Whatever fails while a slot is brought up to date, the next update puts it right, and does not take for done what was not.
#[test]
fn a_slot_of_which_a_call_fails_is_put_right_by_the_next_update() {
    for failing in FAILING {
        let dir = tempfile::tempdir().unwrap();
        let root = repository(dir.path());
        let slots = dir.path().join("slots");
        let (copy, record) = (slots.join("0"), slots.join("0.record"));
        fs::create_dir_all(&copy).unwrap();
        fs::create_dir(slots.join("0.aside")).unwrap();
        let aside = Aside::open(&slots.join("0.aside")).unwrap();
        let kept = Patterns::none();
        let slot =
            Slot { dir: &copy, record: &record, aside: &aside, kept: &kept, stay: true, resumed: false };
        let go = AtomicBool::new(false);
        let bring = || update(&root, &slot, &go);
        bring().unwrap();
        let before = status(&root);
        let mut round = 0_usize;
        let calls = fail_each(dir.path(), failing, |fault| {
            // A change in each place, and what a job does.
            round += 1;
            fs::write(root.join("folder/file"), format!("round {round}")).unwrap();
            fs::write(copy.join("untracked"), format!("of a job {round}")).unwrap();
            fs::create_dir_all(copy.join("made/by/job")).unwrap();
            fs::create_dir_all(copy.join("lib/made/by/job")).unwrap();
            match fault.during(bring) {
                // A record that cannot be written is told, and costs the next one a whole copy.
                Ok(snapshot) => assert!(snapshot.warnings.is_empty() || fault.hit().is_some()),
                Err(Error::File(error)) => {
                    let hit = fault.hit().expect("a call that failed");
                    assert!(error.to_string().contains(hit.path.to_str().unwrap()), "{error} {hit:?}");
                }
                Err(error) => panic!("{error} {:?}", fault.hit()),
            }
            bring().unwrap();
            assert_eq!(status(&copy), before, "{:?}", fault.hit());
            assert_eq!(fs::read_to_string(copy.join("untracked")).unwrap(), "untracked");
            assert_eq!(fs::read_to_string(copy.join("folder/file")).unwrap(), format!("round {round}"));
            assert!(!copy.join("made").exists() && !copy.join("lib/made").exists(), "{:?}", fault.hit());
            aside.empty().unwrap();
        });
        assert!(calls > 20, "{calls}");
    }
}

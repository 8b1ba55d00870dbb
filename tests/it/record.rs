//! When the record cannot be written.

use std::path::Path;
use std::process::Command;

use loom_contract::receipt::RunReceipt;

use crate::env_of_steps;

/// A tmpfs of `size` on `dir`, gone on drop; `None` where this user may not mount one.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn mount(dir: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(dir).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir);
        let status = loom_tests::output(&mut mount);
        if status.is_ok_and(|output| output.status.success()) {
            Some(Self(dir.to_owned()))
        } else {
            println!("skipped: no right to mount a small file system");
            None
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = loom_tests::status(Command::new("umount").arg("-l").arg(&self.0));
    }
}

#[test]
fn a_full_disk_fails_the_run_by_name() {
    let env = env_of_steps(&["seq 1000000", "sleep 100"]);
    let runtime = env.runtime().path().to_owned();
    let Some(_tmpfs) = Tmpfs::mount(&runtime, "size=4m") else { return };
    let output = env.loom(&["run", "--local"]).output();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("loom run: cannot write ") && stderr.contains("events.jsonl"), "{stderr}");
    assert!(stderr.contains("hint: the disk is full: "), "{stderr}");
    // The ballast was enough for the last word, and every line that is there is whole.
    let receipt: RunReceipt = loom_record::read::document(&env.receipts()[0]).unwrap();
    assert!(receipt.error.as_ref().unwrap().contains("cannot write"), "{receipt:?}");
    assert_eq!(receipt.exit_code, 1);
    let stream = env.run_dirs()[0].join("jobs/job/user/execution/script/01/events.jsonl");
    assert!(std::fs::read(&stream).unwrap().ends_with(b"\n"));
    assert!(loom_record::read::events(&stream).unwrap().len() > 1000);
}

#[test]
fn no_inodes_fail_the_run_by_name() {
    let env = env_of_steps(&["true"]);
    let runtime = env.runtime().path().to_owned();
    let Some(_tmpfs) = Tmpfs::mount(&runtime, "nr_inodes=14") else { return };
    let output = env.loom(&["run", "--local"]).output();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("loom run: cannot ") && stderr.contains("inodes are free"), "{stderr}");
}

#[test]
fn a_read_only_place_ends_the_run_before_any_job() {
    let env = env_of_steps(&["echo ran > \"$HOME/ran\""]);
    let runtime = env.runtime().path().to_owned();
    let Some(_tmpfs) = Tmpfs::mount(&runtime, "ro,size=1m") else { return };
    let output = env.loom(&["run", "--local"]).output();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.starts_with("loom run: cannot make the folder ") && stderr.contains(".runtime"),
        "{stderr}"
    );
    assert!(!env.home().join("ran").exists());
}

#[test]
fn eight_runs_at_once_do_not_meet() {
    let env = env_of_steps(&["echo $LOOM_RUN_ID"]);
    let runs: Vec<_> = (0..8).map(|_| env.loom(&["run", "--local"]).spawn()).collect();
    let mut ids = std::collections::BTreeSet::new();
    for run in runs {
        let run = loom_tests::RunOutput::of(&env, &run.output());
        assert_eq!(run.exit_code, 0, "{}", run.stderr);
        assert_eq!(run.run.output("job", "01"), [run.run.run_id()]);
        ids.insert(run.run.run_id());
    }
    assert_eq!(ids.len(), 8);
    assert_eq!(std::fs::read_to_string(env.runtime().path().join(".gitignore")).unwrap(), "*\n");
}

#[test]
fn a_git_status_does_not_show_what_a_run_leaves() {
    let env = env_of_steps(&["true"]);
    env.commit_all();
    assert_eq!(env.run(&[]).exit_code, 0);
    let mut git = Command::new("git");
    let status = loom_tests::output(git.args(["status", "--porcelain"]).current_dir(env.repo())).unwrap();
    assert_eq!(String::from_utf8_lossy(&status.stdout), "");
}

//! `loom clean`: what goes, what stays, and what is only said.

use std::path::{Path, PathBuf};

use fs_err as fs;
use loom_tests::{TestEnv, wait_for};

use crate::planting::listing;
use crate::{LOOM, env, env_of_steps};

/// A job with a cache, which fails.
const FAILS: &str = "version: v1\nstages: [s]\njob: {stage: s, target: linux, \
    cache: {key: k, paths: [c], when: always}, script: ['mkdir -p c; head -c 100000 /dev/urandom > c/x; false']}\n";

struct Cleaned {
    code: i32,
    stdout: String,
    stderr: String,
}

fn clean(env: &TestEnv, args: &[&str]) -> Cleaned {
    let args: Vec<&str> = ["clean"].iter().chain(args).copied().collect();
    let output = env.loom(&args).output();
    Cleaned {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

fn caches(env: &TestEnv) -> PathBuf {
    env.home().join(".cache/loom")
}

/// What the user's cache folder holds of repositories.
fn traces(env: &TestEnv) -> Vec<PathBuf> {
    let folders = ["cache", "workspaces", "staging", "runs", "repositories"];
    folders.iter().flat_map(|folder| entries(&caches(env).join(folder))).collect()
}

/// Runs in a second repository of the same user; returns where it is.
fn other_repository(env: &TestEnv, workflow: &str) -> PathBuf {
    let other = env.repo().with_file_name("other");
    fs::create_dir_all(other.join(".loom")).unwrap();
    fs::write(other.join(".loom/workflow.yml"), workflow).unwrap();
    let mut loom = env.loom(&["run", "--local", "-q"]);
    loom.command.current_dir(&other);
    assert_eq!(loom.output().status.code(), Some(1));
    other
}

#[test]
fn copies_and_old_records_go() {
    let env = env(FAILS);
    for _ in 0..3 {
        assert_eq!(env.run(&["-q"]).exit_code, 1);
    }
    let before = listing(&caches(&env));
    let said = clean(&env, &["--dry-run"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(said.stdout.matches("would remove ").count(), 1, "{}", said.stdout);
    assert_eq!(listing(&caches(&env)), before, "nothing was touched");
    env.write(".loom/config.yml", "runtime: {keepRecords: 2}\n");
    let cleaned = clean(&env, &[]);
    assert_eq!(cleaned.code, 0, "{}", cleaned.stderr);
    assert_eq!(cleaned.stdout.matches("removed ").count(), 2, "{}", cleaned.stdout);
    assert!(cleaned.stdout.contains("1 record of ") && cleaned.stdout.contains("workspaces "));
    assert_eq!(env.run_dirs().len(), 2);
    let copies: Vec<PathBuf> =
        entries(&caches(&env).join("workspaces")).iter().flat_map(|repo| entries(repo)).collect();
    assert!(copies.is_empty(), "{copies:?}");
    // What is of use stays.
    assert_eq!(entries(&caches(&env).join("cache")).len(), 1);
    let cache = env.loom(&["cache", "list"]).output();
    assert!(String::from_utf8(cache.stdout).unwrap().contains("k"));
    let again = clean(&env, &[]);
    assert!(!again.stdout.contains("removed "), "{}", again.stdout);
}

#[test]
fn a_repository_that_is_gone_leaves_nothing() {
    let env = env_of_steps(&["true"]);
    assert_eq!(env.run(&["-q"]).exit_code, 0);
    let own = traces(&env);
    let other = other_repository(&env, FAILS);
    let both = traces(&env);
    assert!(both.len() > own.len() + 3, "{both:?}");
    // It is still there: only the copy of the failed run goes.
    assert_eq!(clean(&env, &["--all"]).code, 0);
    assert!(entries(&caches(&env).join("cache")).len() == 1);
    fs::remove_dir_all(&other).unwrap();
    assert_eq!(clean(&env, &[]).code, 0);
    assert_eq!(entries(&caches(&env).join("cache")).len(), 1, "of this repository alone");
    let said = clean(&env, &["--all", "--dry-run"]);
    assert!(
        said.stdout.contains("would remove ") && said.stdout.contains("/cache/other-"),
        "{}",
        said.stdout
    );
    assert_eq!(entries(&caches(&env).join("cache")).len(), 1);
    let cleaned = clean(&env, &["--all"]);
    assert_eq!(cleaned.code, 0, "{}", cleaned.stderr);
    assert_eq!(traces(&env), own, "{}{}", cleaned.stdout, cleaned.stderr);
    assert!(!cleaned.stderr.contains("left alone"), "{}", cleaned.stderr);
}

#[test]
fn another_repository_at_the_same_path_does_not_keep_the_cache_of_the_first() {
    let env = env_of_steps(&["true"]);
    let other = other_repository(&env, FAILS);
    fs::rename(&other, other.with_file_name("moved")).unwrap();
    fs::create_dir_all(other.join(".loom")).unwrap();
    let old = entries(&caches(&env).join("cache"));
    assert_eq!(old.len(), 1);
    assert_eq!(clean(&env, &["--all"]).code, 0);
    assert!(!old[0].exists());
}

#[test]
fn what_is_foreign_stays_and_is_named() {
    let env = env_of_steps(&["true"]);
    let other = other_repository(&env, FAILS);
    let cache = entries(&caches(&env).join("cache")).remove(0);
    let copies = entries(&caches(&env).join("workspaces")).remove(0);
    let victim = env.home().join("victim");
    fs::create_dir_all(&victim).unwrap();
    fs::write(victim.join("precious"), "precious").unwrap();
    let foreign = [
        cache.join("precious"),
        copies.join("loom-run-local-1700000000000000001"),
        caches(&env).join("cache/other-00000000"),
        caches(&env).join("staging/loom-run-local-1700000000000000001"),
    ];
    fs::write(&foreign[0], "precious").unwrap();
    fs::create_dir(&foreign[1]).unwrap();
    fs::write(foreign[1].join("precious"), "precious").unwrap();
    fs::create_dir(&foreign[2]).unwrap();
    std::os::unix::fs::symlink(&victim, &foreign[3]).unwrap();
    fs::remove_dir_all(other).unwrap();
    let before = listing(&victim);
    let cleaned = clean(&env, &["--all"]);
    assert_eq!(cleaned.code, 0, "{}", cleaned.stderr);
    for path in &foreign {
        assert!(fs::symlink_metadata(path).is_ok(), "{} went", path.display());
        let named = format!("left alone: {}: ", path.display());
        assert!(cleaned.stderr.contains(&named), "{named} is not in {}", cleaned.stderr);
    }
    assert_eq!(fs::read_to_string(foreign[0].with_file_name("precious")).unwrap(), "precious");
    assert_eq!(fs::read_to_string(foreign[1].join("precious")).unwrap(), "precious");
    assert_eq!(listing(&victim), before);
}

#[test]
fn a_folder_in_the_place_of_another_is_not_the_noted_one() {
    let env = env_of_steps(&["true"]);
    let other = other_repository(&env, FAILS);
    let cache = entries(&caches(&env).join("cache")).remove(0);
    fs::rename(&cache, cache.with_file_name("moved-aside")).unwrap();
    fs::create_dir_all(cache.join("packs")).unwrap();
    fs::write(cache.join("packs/precious"), "precious").unwrap();
    fs::remove_dir_all(other).unwrap();
    assert_eq!(clean(&env, &["--all"]).code, 0);
    assert_eq!(fs::read_to_string(cache.join("packs/precious")).unwrap(), "precious");
}

#[test]
fn a_run_under_way_keeps_everything_also_where_its_repository_is_gone() {
    let step = "echo x > c; touch $HOME/runs; while [ ! -e $HOME/go ]; do sleep 0.01; done; test -e c";
    let env = env(&FAILS.replace("mkdir -p c; head -c 100000 /dev/urandom > c/x; false", step));
    let away =
        TestEnv::new(LOOM, "version: v1\nstages: [s]\njob: {stage: s, target: linux, script: ['true']}\n");
    let child = env.loom(&["run", "--local"]).spawn();
    wait_for("the step", || env.home().join("runs").exists());
    let before = traces(&env);
    let moved = env.repo().with_file_name("moved");
    for is_gone in [false, true] {
        if is_gone {
            fs::rename(env.repo(), &moved).unwrap();
        }
        let mut loom = away.loom(&["clean", "--all"]);
        loom.command.env("HOME", env.home());
        let output = loom.output();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(before.iter().all(|path| fs::symlink_metadata(path).is_ok()), "{before:?}");
    }
    fs::rename(&moved, env.repo()).unwrap();
    fs::write(env.home().join("go"), "").unwrap();
    let run = loom_tests::RunOutput::of(&env, &child.output());
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
}

#[test]
fn what_a_killed_run_left_goes() {
    let env = env(&FAILS.replace("false", "touch $HOME/runs; sleep 1000"));
    let mut child = env.loom(&["run", "--local"]).spawn();
    wait_for("the step", || env.home().join("runs").exists());
    let dir = env.run_dirs().remove(0);
    let run_id = dir.file_name().unwrap().to_str().unwrap();
    let mut pkill = std::process::Command::new("pkill");
    pkill.args(["-KILL", "-f", &format!("__guard .*{run_id}")]);
    assert!(loom_tests::status(&mut pkill).unwrap().success());
    child.kill().unwrap();
    child.exit();
    let said = clean(&env, &["--dry-run"]);
    assert!(said.stdout.contains("would remove ") && said.stdout.contains("/workspaces/"), "{}", said.stdout);
    assert!(env.receipts()[0].to_string_lossy().ends_with(".partial"));
    let cleaned = clean(&env, &[]);
    assert_eq!(cleaned.code, 0, "{}", cleaned.stderr);
    assert!(cleaned.stdout.contains("removed "), "{}", cleaned.stdout);
    assert!(env.receipts()[0].to_string_lossy().ends_with(".json"), "its receipt is closed");
    assert!(entries(&caches(&env).join("runs")).is_empty());
    assert!(entries(&caches(&env).join("staging")).is_empty());
}

#[test]
fn a_folder_for_secrets_that_could_not_be_removed_goes_with_the_next_run() {
    let env = env(
        "version: v1\nstages: [s]\njob: {stage: s, target: linux, secrets: {KEY: {ref: 'env://VALUE'}}, \
         script: ['d=$(dirname $KEY)/busy; mkdir $d; mount -t tmpfs none $d && echo $d > $HOME/mounted || rmdir $d']}\n",
    );
    let run = |env: &TestEnv| {
        let output = env.loom(&["run", "--local"]).env("VALUE", "a-value-of-a-secret").output();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(&env);
    let Ok(mounted) = fs::read_to_string(env.home().join("mounted")) else {
        println!("skipped: no right to mount a file system");
        return;
    };
    let mounted = PathBuf::from(mounted.trim());
    let folder = mounted.ancestors().find(|path| path.to_string_lossy().ends_with("-secrets")).unwrap();
    assert!(folder.exists(), "it is busy");
    let unmounted = loom_tests::status(std::process::Command::new("umount").arg(&mounted)).unwrap();
    assert!(unmounted.success());
    env.write(
        ".loom/workflow.yml",
        "version: v1\nstages: [s]\njob: {stage: s, target: linux, script: ['true']}\n",
    );
    run(&env);
    assert!(!folder.exists(), "{}", folder.display());
    assert!(entries(&caches(&env).join("runs")).is_empty());
}

//! The places of copies: they stay from run to run, each is one run's at a time, and what is in them is right.

use std::path::{Path, PathBuf};

use fs_err as fs;
use loom_tests::{Running, TestEnv, wait_for};

use crate::planting::listing;
use crate::{env, env_of_steps};

fn copies(env: &TestEnv) -> PathBuf {
    fs::read_dir(env.home().join(".cache/loom/workspaces")).unwrap().next().unwrap().unwrap().path()
}

/// The names beside and of the copies.
fn names(env: &TestEnv) -> Vec<String> {
    let entries = fs::read_dir(copies(env)).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn step(env: &TestEnv, steps: &[&str]) {
    let script: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
    let script = script.join(", ");
    env.write(
        ".loom/workflow.yml",
        &format!("version: v1\nstages: [s]\nj: {{stage: s, target: linux, script: [{script}]}}\n"),
    );
}

/// A run whose step waits until `go` is in the home folder.
fn waiting(env: &TestEnv, mark: &str) -> Running {
    step(
        env,
        &[&format!(
            "pwd > $HOME/{mark}.new; mv $HOME/{mark}.new $HOME/{mark}; while test ! -e $HOME/go; do sleep 0.02; done"
        )],
    );
    let child = env.loom(&["run", "--local"]).spawn();
    wait_for("the step", || env.home().join(mark).exists());
    child
}

#[test]
fn a_run_finds_the_same_place_and_nothing_of_the_run_before() {
    let env = env_of_steps(&[
        "test ! -e made",
        "pwd; echo x > made; mkdir -p build/deep; echo x > build/deep/x; echo no > file",
    ]);
    env.write("file", "yes");
    let mut places = Vec::new();
    for _ in 0..3 {
        let run = env.run(&[]);
        assert_eq!(run.exit_code, 0, "{}", run.stderr);
        let place = run.run.receipt.snapshot_path.clone().unwrap();
        assert_eq!(run.run.output("job", "02").concat().trim(), place);
        assert!(Path::new(&place).join("made").exists(), "it stays");
        places.push(place);
    }
    assert!(places.iter().all(|place| *place == places[0] && place.ends_with("/0")), "{places:?}");
    assert_eq!(names(&env), ["0", "0.aside", "0.json", "0.lock", "0.record"]);
    assert_eq!(fs::read_dir(copies(&env).join("0.aside")).unwrap().count(), 0, "what had to go is gone");
}

#[test]
fn runs_at_once_have_places_of_their_own() {
    let env = env_of_steps(&["true"]);
    let children = ["one", "two", "three"].map(|mark| waiting(&env, mark));
    let places: Vec<String> = ["one", "two", "three"]
        .iter()
        .map(|mark| fs::read_to_string(env.home().join(mark)).unwrap())
        .collect();
    for (number, place) in places.iter().enumerate() {
        assert!(place.trim().ends_with(&format!("/{number}")), "{places:?}");
    }
    // Nobody takes them away.
    assert_eq!(env.loom(&["clean"]).output().status.code(), Some(0));
    assert!(places.iter().all(|place| Path::new(place.trim()).join(".loom").exists()));
    fs::write(env.home().join("go"), "").unwrap();
    for child in children {
        let run = loom_tests::RunOutput::of(&env, &child.output());
        assert_eq!(run.exit_code, 0, "{}", run.stderr);
    }
    step(&env, &["true"]);
    assert!(
        env.run(&[]).run.receipt.snapshot_path.clone().unwrap().ends_with("/0"),
        "the lowest that is free"
    );
    assert!(copies(&env).join("2").exists());
    assert_eq!(env.loom(&["clean"]).output().status.code(), Some(0));
    assert_eq!(names(&env), [""; 0]);
}

#[test]
fn what_a_failed_run_left_can_be_looked_at_until_the_next() {
    let env = env_of_steps(&["echo found > clue; false"]);
    let run = env.run(&["-q"]);
    assert_eq!(run.exit_code, 1);
    let place = PathBuf::from(run.run.receipt.snapshot_path.clone().unwrap());
    assert_eq!(fs::read_to_string(place.join("clue")).unwrap(), "found\n");
    let state = || fs::read_to_string(copies(&env).join("0.json")).unwrap();
    let last = format!("{{\"run_id\":\"{}\",\"ended\":\"failed\"}}", run.run.run_id());
    assert!(state().contains(&last), "{} {last}", state());
    step(&env, &["test ! -e clue"]);
    assert_eq!(env.run(&["-q"]).exit_code, 0);
    assert!(state().contains("\"ended\":\"passed\""), "{}", state());
}

#[test]
fn no_more_places_stay_than_are_to() {
    let env = env_of_steps(&["true"]);
    for (keep, names_left) in [(1, vec!["2", "2.aside", "2.json", "2.lock", "2.record"]), (0, vec![])] {
        env.write(".loom/config.yml", &format!("runtime: {{keepRuns: {keep}}}\n"));
        let marks = ["one", "two", "three"];
        let children = marks.map(|mark| waiting(&env, mark));
        fs::write(env.home().join("go"), "").unwrap();
        for mut child in children {
            // One after the other, so that it is known which is the last.
            assert_eq!(child.exit().code(), Some(0));
        }
        step(&env, &["true"]);
        fs::remove_file(env.home().join("go")).unwrap();
        marks.iter().for_each(|mark| fs::remove_file(env.home().join(mark)).unwrap());
        // Whichever ended last, it has looked once.
        let left = names(&env);
        assert!(left.len() <= names_left.len(), "keepRuns {keep}: {left:?}");
    }
}

#[test]
fn places_of_a_repository_that_is_gone_go_with_the_next_run_of_another() {
    let env = env_of_steps(&["true"]);
    let other = env.repo().with_file_name("other");
    fs::create_dir_all(other.join(".loom")).unwrap();
    fs::copy(env.repo().join(".loom/workflow.yml"), other.join(".loom/workflow.yml")).unwrap();
    let mut loom = env.loom(&["run", "--local", "-q"]);
    loom.command.current_dir(&other);
    assert_eq!(loom.output().status.code(), Some(0));
    let workspaces = env.home().join(".cache/loom/workspaces");
    let of_other = copies(&env);
    assert!(of_other.join("0").exists());
    fs::remove_dir_all(&other).unwrap();
    assert_eq!(env.run(&["-q"]).exit_code, 0);
    assert!(!of_other.exists());
    assert_eq!(fs::read_dir(workspaces).unwrap().count(), 1);
}

#[test]
fn a_place_whose_run_was_killed_is_put_right() {
    let env = env_of_steps(&["true"]);
    for number in 0..300 {
        env.write(&format!("src/{}/{number}", number % 7), &"text\n".repeat(number));
    }
    assert_eq!(env.run(&["-q"]).exit_code, 0);
    let check = "test ! -e junk && test $(ls src/* | grep -c .) -gt 300 && for i in 0 1 2; do test -e src/$i/$i; done";
    for round in 0..12_u64 {
        env.write(&format!("src/0/new-{round}"), "new");
        step(&env, &["mkdir -p junk/deep; rm -rf src/3; echo bad > src/0/0; chmod 0 src/1; sleep 1000"]);
        let mut child = env.loom(&["run", "--local"]).spawn();
        std::thread::sleep(std::time::Duration::from_millis(round * 25));
        child.kill().unwrap();
        child.exit();
        if round % 3 == 2 {
            step(&env, &[check]);
            let run = env.run(&[]);
            assert_eq!(run.exit_code, 0, "round {round}: {}", run.stderr);
            let place = run.run.receipt.snapshot_path.clone().unwrap();
            let content = |root: &Path| -> Vec<String> {
                let below = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
                let files = listing(&root.join("src"));
                files
                    .keys()
                    .map(|path| format!("{} {}", below(path), fs::read_to_string(path).unwrap_or_default()))
                    .collect()
            };
            assert_eq!(content(Path::new(&place)), content(&env.repo()), "round {round}");
        }
    }
}

#[test]
fn a_place_that_a_job_has_replaced_is_left_alone() {
    let env = env_of_steps(&["cd ..; mv 0 mine; mkdir 0; echo precious > 0/precious"]);
    assert_eq!(env.run(&["-q"]).exit_code, 0);
    step(&env, &["pwd"]);
    let run = env.run(&["-q"]);
    assert!(run.run.receipt.snapshot_path.clone().unwrap().ends_with("/1"));
    assert_eq!(env.loom(&["clean"]).output().status.code(), Some(0));
    assert_eq!(fs::read_to_string(copies(&env).join("0/precious")).unwrap(), "precious\n");
    assert!(copies(&env).join("mine").exists() && !copies(&env).join("1").exists());
}

#[test]
fn compared_runs_find_what_a_new_copy_has() {
    let env = env("version: v1\nstages: [s]\nj: {stage: s, target: linux, cache: {key: k, paths: [c]}, \
         script: ['test ! -e left; echo x > left; mkdir -p c; echo x > c/x']}\n");
    assert_eq!(env.run(&[]).exit_code, 0);
    for _ in 0..2 {
        let output = env.loom(&["run", "--local", "--cache-diff"]).output();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

const KEEPS: &str = "version: v1
stages: [s]
workspace: {keep: [target, 'packages/*/out'], key: {files: [lock]}}
j: {stage: s, target: linux, script: ['git status --porcelain; ls target packages/x/out 2> /dev/null || true; mkdir -p target packages/x/out other; \
    echo x > target/made; echo x > packages/x/out/made; echo x > other/made']}
";

fn keeping() -> TestEnv {
    let env = env(KEEPS);
    env.write("lock", "1");
    env.write("packages/x/source", "");
    env.commit_all();
    env
}

/// What the run's step found.
fn found(env: &TestEnv, args: &[&str]) -> String {
    let run = env.run(args);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    run.run.output("j", "01").join(" ")
}

#[test]
fn kept_folders_stay_until_their_key_changes() {
    let env = keeping();
    // Not ignored, and yet no business of git's.
    let warm = "packages/x/out: made  target: made";
    assert_eq!(found(&env, &[]), "");
    assert_eq!(found(&env, &[]), warm);
    assert_eq!(found(&env, &[]), warm);
    assert_eq!(found(&env, &["--fresh"]), "", "from nothing");
    assert_eq!(found(&env, &[]), warm);
    env.write("lock", "2");
    assert_eq!(found(&env, &[]), " M lock", "another key");
    assert_eq!(found(&env, &[]), format!(" M lock {warm}"));
    // What the user's own folder holds is the user's.
    env.write("target/of-the-user", "");
    assert!(!found(&env, &[]).contains("of-the-user"));
    fs::remove_dir_all(env.repo().join("target")).unwrap();
    // Another list.
    env.write(".loom/workflow.yml", &KEEPS.replace("target, ", ""));
    assert!(!found(&env, &[]).contains("target"));
    assert!(!copies(&env).join("0.aside").read_dir().unwrap().any(|_| true));
    assert_eq!(env.loom(&["clean"]).output().status.code(), Some(0));
    assert_eq!(names(&env), [""; 0]);
}

#[test]
fn kept_folders_are_one_slots_own() {
    let env = keeping();
    assert_eq!(found(&env, &[]), "");
    env.write(
        ".loom/workflow.yml",
        &KEEPS.replace(
            "git status --porcelain;",
            "touch $HOME/on; while test ! -e $HOME/go; do sleep 0.02; done;",
        ),
    );
    let child = env.loom(&["run", "--local"]).spawn();
    wait_for("the step", || env.home().join("on").exists());
    env.write(".loom/workflow.yml", &KEEPS.replace("git status --porcelain;", ""));
    assert_eq!(found(&env, &[]), "", "of the second slot");
    fs::write(env.home().join("go"), "").unwrap();
    assert_eq!(loom_tests::RunOutput::of(&env, &child.output()).exit_code, 0);
}

#[test]
fn what_git_tracks_is_not_kept() {
    let env = env(&KEEPS.replace("target, 'packages/*/out'", "target, 'packages/*'"));
    env.write("packages/x/source", "");
    env.commit_all();
    let place = ".loom/workflow.yml:3:28: WF_SCHEMA_V1 /workspace/keep/1: name only folders that git ignores: git tracks \
                 `packages/x/source`";
    let checked = env.loom(&["check"]).output();
    let stderr = String::from_utf8(checked.stderr).unwrap();
    assert!(checked.status.code() == Some(1) && stderr.contains(place), "{stderr}");
    let run = env.run(&[]);
    assert!(run.exit_code == 1 && run.stderr.contains(place), "{}", run.stderr);
    assert!(!env.home().join(".cache/loom/workspaces").exists());
}

#[test]
fn a_comparison_takes_kept_folders_for_a_cache() {
    let env = env(
        "version: v1\nstages: [s]\nworkspace: {keep: [target]}\nj: {stage: s, target: linux, cache: {key: k, paths: [c]}, \
         script: ['test -e target/x && echo warm > result || echo cold > result; mkdir -p target c; touch target/x c/x']}\n",
    );
    assert_eq!(env.run(&[]).exit_code, 0);
    let output = env.loom(&["run", "--local", "--cache-diff"]).output();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("result: other content"), "{stderr}");
    assert!(stderr.contains("kept folders (target)"), "{stderr}");
    assert!(!stderr.contains("quarantined"), "no key is to blame: {stderr}");
    let place = copies(&env).join("0");
    assert!(place.join("target/x").exists(), "they are still there");
}

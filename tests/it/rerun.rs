//! `--rerun-failed` goes on where the last run failed: in its workspace, with the jobs that passed in it.

use std::path::PathBuf;

use fs_err as fs;
use loom_contract::status::SkipReason;
use loom_tests::{RunOutput, TestEnv, wait_for};

use crate::env;

const BUILD_AND_TEST: &str = "version: v1
stages: [build, test]
default: {target: linux}
build: {stage: build, script: ['mkdir -p dist && cat src/main > dist/app']}
docs: {stage: build, script: ['true']}
unit: {stage: test, script: [test -s dist/app, grep -q good src/check]}
";

fn build_and_test() -> TestEnv {
    let env = env(BUILD_AND_TEST);
    env.write("src/main", "main");
    env.write("src/check", "bad");
    env
}

/// The jobs that ran in `run`, and those that it reused with the run that they are from.
fn split(run: &RunOutput) -> (Vec<String>, Vec<(String, String)>) {
    let (mut ran, mut reused) = (Vec::new(), Vec::new());
    for (name, status) in run.run.statuses() {
        let job = run.run.job(&name);
        match job.reused_from {
            Some(from) => reused.push((name, from.to_string())),
            None if status != "skipped" => ran.push(name),
            None => {}
        }
    }
    (ran, reused)
}

fn ran(run: &RunOutput) -> Vec<String> {
    split(run).0
}

fn reused(run: &RunOutput) -> Vec<String> {
    split(run).1.into_iter().map(|(name, _)| name).collect()
}

fn failed(env: &TestEnv) -> RunOutput {
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    run
}

fn workspace(run: &RunOutput) -> PathBuf {
    run.run.receipt.snapshot_path.as_ref().unwrap().into()
}

#[test]
fn what_passed_is_not_run_again_and_the_record_says_where_it_is_from() {
    let env = build_and_test();
    env.commit_all();
    let first = failed(&env);
    env.write("src/check", "good");
    let run = env.run(&["--rerun-failed"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let from = |job: &str| (job.to_owned(), first.run.run_id());
    assert_eq!(split(&run), (vec!["unit".to_owned()], vec![from("build"), from("docs")]));
    assert_eq!(workspace(&run), workspace(&first));
    for said in [
        format!("goes on with the workspace of {}: 1 file edited since\n", first.run.run_id()),
        "2 jobs that passed before did not see that; `loom run --local` runs everything\n".to_owned(),
        format!("reused  build (passed in {})\n", first.run.run_id()),
        ": 1 passed, 2 reused\n".to_owned(),
    ] {
        assert!(run.stderr.contains(&said), "{said:?} in {}", run.stderr);
    }
    let receipt = &run.run.receipt.executor_receipt.jobs;
    for job in ["build", "docs"] {
        assert_eq!(run.run.job(job).skip_reason, Some(SkipReason::Reused));
        let (_, receipt) = receipt.iter().find(|(id, _)| id.as_str() == job).unwrap();
        assert_eq!(receipt.reused_from.as_ref().map(ToString::to_string), Some(first.run.run_id()));
    }
    let quiet = env.loom(&["run", "--local", "--rerun-failed"]).output();
    assert_eq!(
        String::from_utf8(quiet.stderr).unwrap(),
        "loom run: every job of the last run passed; nothing to run again\n"
    );
    // Without the flag everything runs, on a copy in which nothing of that is left.
    let run = env.run(&[]);
    assert_eq!((run.exit_code, ran(&run).len()), (0, 3), "{}", run.stderr);
}

/// Broken by `src.txt` or by the workflow itself, and mended: jobs without `needs`, but for the last ones. Each is broken at a
/// job that `# broken` or `src.txt` is in.
const WORKFLOWS: [&str; 22] = [
    "build: {stage: a, script: ['mkdir dist; echo x > dist/app']}\ntest: {stage: b, script: [cat dist/app, grep good src.txt]}",
    "install: {stage: a, script: ['mkdir -p node_modules/x; echo 1 > node_modules/x/index']}\nlint: {stage: b, script: [cat node_modules/x/index]}\nbuild: {stage: b, script: ['cp -r node_modules out']}\ntest: {stage: c, script: [cat out/x/index, grep good src.txt]}",
    "one: {stage: a, script: [touch one]}\ntwo: {stage: b, script: [test -e one, grep good src.txt, touch two]}\nthree: {stage: c, script: [test -e one, test -e two]}",
    "x: {stage: a, script: ['true']}\ny: {stage: a, script: [grep good src.txt]}\nz: {stage: a, script: ['true']}",
    "x: {stage: a, script: [touch x]}\ny: {stage: b, script: [grep good src.txt]}\nz: {stage: b, script: [test -e x, grep good src.txt]}\nlast: {stage: c, script: [test -e x]}",
    "first: {stage: a, script: [grep good src.txt]}\nnext: {stage: b, script: ['true']}",
    "t: {stage: a, parallel: {matrix: [{N: ['1', '2', '3']}]}, script: ['test $N != 2 || grep good src.txt']}",
    "b: {stage: a, parallel: {matrix: [{N: [x, y]}]}, script: ['mkdir -p out; echo $N > out/$N']}\nt: {stage: b, script: [cat out/x out/y, grep good src.txt]}",
    "b: {stage: a, artifacts: {paths: [out]}, script: ['mkdir out; echo x > out/x']}\nt: {stage: b, needs: [{job: b, artifacts: true}], script: [cat out/x, grep good src.txt]}",
    "a1: {stage: a, retry: {max: 1}, script: ['mkdir once || true; test -e twice || { touch twice; exit 1; }']}\nt: {stage: b, retry: {max: 1}, script: [test -e twice, grep good src.txt]}",
    "may: {stage: a, allow_failure: true, script: [exit 3]}\nb: {stage: b, script: [touch b]}\nt: {stage: c, script: [test -e b, grep good src.txt]}",
    "b: {stage: a, cache: {key: k, paths: [deps]}, script: ['mkdir -p deps; echo x > deps/x']}\nt: {stage: b, cache: {key: k, paths: [deps], policy: pull}, script: [cat deps/x, grep good src.txt]}",
    "bump: {stage: a, script: ['echo 2 > version']}\nt: {stage: b, script: ['test \"$(cat version)\" = 2', grep good src.txt]}",
    "drop: {stage: a, script: [rm -r old]}\nt: {stage: b, script: [test ! -e old, grep good src.txt]}",
    "b: {stage: a, variables: {TO: here}, script: ['echo $TO > to']}\nt: {stage: b, script: ['test \"$(cat to)\" = here', grep good src.txt]}",
    "b: {stage: a, script: [touch b]}\nt: {stage: b, script: [test -e b, 'exit 1 # broken']}\nlast: {stage: c, script: [test -e b]}",
    ".t: {script: [grep good src.txt]}\nb: {stage: a, script: [touch b]}\nt: {stage: b, extends: .t}\nu: {stage: b, script: [test -e b]}",
    "b: {stage: a, script: [touch b]}\nalone: {stage: b, needs: [], script: ['true']}\nt: {stage: b, script: [test -e b, grep good src.txt]}",
    "tag: {stage: a, script: ['git tag -f v9 && git config loom.test yes']}\nt: {stage: b, script: [git rev-parse v9, git config loom.test, grep good src.txt]}",
    "gen: {stage: a, script: ['mkdir -p src; echo x > src/generated; chmod 755 tool; ln -s tool link']}\nt: {stage: b, script: [cat src/generated, ./link, grep good src.txt]}",
    "a1: {stage: a, script: [touch a1]}\nl: {stage: b, needs: [a1], script: [test -e a1, touch l]}\nr: {stage: b, needs: [a1], script: [grep good src.txt, touch r]}\nend: {stage: c, needs: [l, r], script: [test -e l, test -e r]}",
    "b: {stage: a, timeout: 5m, script: [touch b]}\nt: {stage: b, timeout: 5m, script: [test -e b, sh check.sh]}",
];

#[test]
fn broken_mended_and_run_again_is_green_and_nothing_that_had_passed_runs_again() {
    for jobs in WORKFLOWS {
        let workflow = format!("version: v1\nstages: [a, b, c]\ndefault: {{target: linux}}\n{jobs}\n");
        let env = env(&workflow);
        env.write("src.txt", "bad\n");
        env.write("check.sh", "exit 1\n");
        env.write("version", "1\n");
        env.write("old/file", "");
        env.write("tool", "#!/bin/sh\nexit 0\n");
        env.commit_all();
        let first = failed(&env);
        let passed: Vec<String> = first
            .run
            .statuses()
            .into_iter()
            .filter(|(_, status)| status == "success")
            .map(|(job, _)| job)
            .collect();
        env.write("src.txt", "good\n");
        env.write("check.sh", "exit 0\n");
        env.write(".loom/workflow.yml", &workflow.replace("exit 1 # broken", "exit 0 # mended"));
        let run = env.run(&["--rerun-failed"]);
        assert_eq!(run.exit_code, 0, "{jobs}\n{}\n{}", first.stderr, run.stderr);
        assert_eq!(reused(&run), passed, "{jobs}\n{}", run.stderr);
        let left = run.run.statuses().len() - passed.len();
        assert_eq!(ran(&run).len(), left, "the others ran: {jobs}\n{}", run.stderr);
    }
}

#[test]
fn what_was_edited_arrives_and_what_jobs_made_stays() {
    let env = env("version: v1
stages: [make, test]
default: {target: linux}
make:
  stage: make
  script:
    - mkdir -p dist/deep && echo made > dist/deep/app && echo beside > src/beside
    - echo by-job > src/changed && rm src/removed && rm -r away && echo by-job > src/both
test: {stage: test, script: [test -e go]}
");
    for file in
        ["src/changed", "src/removed", "src/both", "src/edited", "src/gone", "away/x", "empty/only", "kind"]
    {
        env.write(file, "original");
    }
    env.commit_all();
    // Files are edited some time before they are run on.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let first = failed(&env);
    let at = |file: &str| workspace(&first).join(file);
    let read = |file: &str| fs::read_to_string(at(file)).unwrap_or_else(|_| "none".to_owned());
    for (file, text) in
        [("src/edited", "edited"), ("src/both", "edited"), ("new/deep/file", "new"), ("go", "")]
    {
        env.write(file, text);
    }
    fs::remove_file(env.repo().join("src/gone")).unwrap();
    fs::remove_dir_all(env.repo().join("empty")).unwrap();
    fs::remove_file(env.repo().join("kind")).unwrap();
    env.write("kind/is-folder", "new");
    let run = env.run(&["--rerun-failed"]);
    assert_eq!((run.exit_code, reused(&run)), (0, vec!["make".to_owned()]), "{}", run.stderr);
    for (file, text) in [
        ("dist/deep/app", "made\n"),
        ("src/beside", "beside\n"),
        ("src/changed", "by-job\n"),
        ("src/removed", "none"),
        ("away/x", "none"),
        ("src/both", "edited"),
        ("src/edited", "edited"),
        ("src/gone", "none"),
        ("new/deep/file", "new"),
        ("kind/is-folder", "new"),
    ] {
        assert_eq!(read(file), text, "{file}");
    }
    assert!(!at("empty").exists() && !at("src/gone").exists());
    // Edited: src/edited, src/both, new/deep/file, go, kind/is-folder; gone: src/gone, empty/only, kind.
    assert!(run.stderr.contains(": 8 files edited since\n"), "{}", run.stderr);

    // An ordinary run finds nothing of it.
    fs::remove_file(env.repo().join("go")).unwrap();
    env.write(
        ".loom/workflow.yml",
        "version: v1\nstages: [s]\nj: {stage: s, target: linux, script: [exit 1]}\n",
    );
    let run = failed(&env);
    assert_eq!(workspace(&run), workspace(&first));
    for (file, text) in [
        ("dist/deep/app", "none"),
        ("src/beside", "none"),
        ("src/changed", "original"),
        ("src/removed", "original"),
        ("away/x", "original"),
        ("go", "none"),
    ] {
        assert_eq!(read(file), text, "{file}");
    }
}

#[test]
fn a_run_may_be_gone_on_with_again_and_again() {
    let env = build_and_test();
    let first = failed(&env);
    for _ in 0..2 {
        let run = env.run(&["--rerun-failed"]);
        assert_eq!((run.exit_code, ran(&run)), (1, vec!["unit".to_owned()]), "{}", run.stderr);
        assert!(
            split(&run).1.iter().all(|(_, from)| *from == first.run.run_id()),
            "the run that they ran in"
        );
        assert!(run.stderr.contains(": no file edited since\n") && !run.stderr.contains("did not see that"));
    }
    env.write("src/check", "good");
    let run = env.run(&["--rerun-failed", "--no-deps"]);
    assert_eq!((run.exit_code, ran(&run)), (0, vec!["unit".to_owned()]), "{}", run.stderr);
}

#[test]
fn where_the_workspace_is_not_that_of_the_run_any_more_what_is_needed_runs() {
    let all = ["build", "docs", "unit"].map(str::to_owned).to_vec();
    let runs_all = |env: &TestEnv, why: &str, args: &[&str]| {
        let run = env.run(&[&["--rerun-failed"], args].concat());
        assert_eq!((run.exit_code, ran(&run)), (1, all.clone()), "{why}: {}", run.stderr);
        let told = format!(": {why}; what did not pass is run again with what it needs\n");
        assert_eq!(run.stderr.contains(&told), !why.is_empty(), "{told} in {}", run.stderr);
    };
    let env = build_and_test();
    failed(&env);
    env.write("other.yml", "version: v1\nstages: [s]\nj: {stage: s, target: linux, script: ['true']}\n");
    assert_eq!(env.run(&["--workflow", "other.yml"]).exit_code, 0);
    runs_all(&env, "another run has used its workspace since", &[]);

    let run = env.run(&["--rerun-failed"]);
    assert_eq!(ran(&run), ["unit"], "{}", run.stderr);
    fs::remove_dir_all(workspace(&run)).unwrap();
    runs_all(&env, "its workspace is gone", &[]);
    fs::remove_file(workspace(&run).with_extension("record")).unwrap();
    runs_all(&env, "it is not known any more what was copied into its workspace", &[]);
    runs_all(&env, "", &["--fresh"]);
    let run = env.run(&["--rerun-failed", "-q"]);
    assert_eq!(ran(&run), ["unit"]);
    assert!(!run.stderr.contains("goes on"), "{}", run.stderr);
}

#[test]
fn a_job_that_is_another_by_now_runs_again_and_so_do_those_after_it() {
    let workflow = "version: v1
stages: [a, b, c]
default: {target: linux}
variables: {ALL: one}
x: {stage: a, script: [touch x]}
y: {stage: a, variables: {MINE: one}, script: [touch y]}
alone: {stage: b, needs: [], script: ['true']}
after-x: {stage: b, needs: [x], script: [test -e x]}
after-all: {stage: b, script: [test -e x]}
fails: {stage: c, script: [exit 1]}
";
    for (from, to, expected) in [
        ("touch x]", "touch x x2]", &["after-all", "after-x", "fails", "x"][..]),
        ("MINE: one", "MINE: two", &["after-all", "fails", "y"]),
        ("ALL: one", "ALL: two", &["after-all", "after-x", "alone", "fails", "x", "y"]),
        ("needs: []", "needs: [y]", &["alone", "fails"]),
        // Where it stands in the file, and what is said about it there.
        ("x: {", "# comment\n\nx: {", &["fails"]),
    ] {
        let env = env(workflow);
        failed(&env);
        env.write(".loom/workflow.yml", &workflow.replacen(from, to, 1));
        let run = env.run(&["--rerun-failed"]);
        assert_eq!(ran(&run), expected, "{from} to {to}: {}", run.stderr);
    }
}

#[test]
fn artifacts_of_a_reused_job_come_from_the_record_of_its_run() {
    let env = env("version: v1
stages: [build, test]
default: {target: linux}
build: {stage: build, artifacts: {paths: [out]}, script: ['mkdir -p out/deep; echo x > out/deep/x; echo y > out/y']}
eats: {stage: build, needs: [build], script: [rm -r out]}
unit: {stage: test, needs: [eats, {job: build, artifacts: true}], script: [cat out/deep/x out/y, test -e go, rm -r out]}
");
    let first = failed(&env);
    let unit = |run: &RunOutput| run.run.output("unit", "01");
    for _ in 0..2 {
        fs::remove_dir_all(workspace(&first).join("out")).unwrap();
        let run = env.run(&["--rerun-failed"]);
        assert_eq!(
            (run.exit_code, ran(&run), unit(&run)),
            (1, vec!["unit".to_owned()], vec!["x".into(), "y".into()])
        );
    }
    // What others need of it is gone: it makes it anew.
    fs::remove_file(first.run.dir.join("jobs/build/artifacts/out/y")).unwrap();
    env.write("go", "");
    let run = env.run(&["--rerun-failed"]);
    assert_eq!((run.exit_code, ran(&run).len()), (0, 3), "{}", run.stderr);
}

#[test]
fn what_passed_in_a_run_that_was_killed_is_not_run_again() {
    let env = env("version: v1
stages: [build, test]
default: {target: linux}
build: {stage: build, script: [mkdir dist]}
unit: {stage: test, script: [test -d dist, 'touch \"$HOME/at\"; while test -e \"$HOME/wait\"; do sleep 0.05; done']}
last: {stage: test, script: [test -d dist]}
");
    fs::write(env.home().join("wait"), "").unwrap();
    let mut child = env.loom(&["run", "--local", "-q", "--jobs", "1"]).spawn();
    wait_for("the job", || env.home().join("at").exists());
    child.kill().unwrap();
    child.exit();
    fs::remove_file(env.home().join("wait")).unwrap();
    let run = env.run(&["--rerun-failed"]);
    assert_eq!((run.exit_code, reused(&run)), (0, vec!["build".to_owned()]), "{}", run.stderr);
}

#[test]
fn the_failed_job_can_begin_at_a_later_step() {
    let env = env("version: v1
stages: [build, test]
default: {target: linux}
build: {stage: build, script: [mkdir dist]}
unit: {stage: test, script: [mkdir slow, test -d slow && test -e go, touch done]}
docs: {stage: test, script: ['true']}
");
    let refused = |args: &[&str], message: &str| {
        let run = env.loom(&[&["run", "--local"], args].concat()).output();
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stderr.contains(message), "{args:?}: {message:?} in {stderr}");
    };
    refused(&["--job", "unit", "--from-step", "2"], "no earlier run of this workflow to go by");
    failed(&env);
    // The first step would fail now.
    let run = env.run(&["--rerun-failed"]);
    assert_eq!(run.run.job("unit").failing_step.unwrap().to_string(), "01", "{}", run.stderr);
    env.write("go", "");
    refused(&["--job", "unit", "--from-step", "4"], "job `unit` has no step 4: it has 3 steps\n");
    refused(
        &["--job", "unit", "docs", "--from-step", "2"],
        "`--from-step` is for one job, but 2 are chosen\n",
    );
    // A run that did not come to its jobs has changed nothing.
    let run = env.run(&["--rerun-failed", "--from-step", "2"]);
    assert_eq!((run.exit_code, ran(&run)), (0, vec!["unit".to_owned()]), "{}", run.stderr);
    assert!(run.stderr.contains("unit begins at step 2 of 3\n"), "{}", run.stderr);
    let steps = run.run.job("unit").steps;
    let shown: Vec<String> = steps.iter().map(|step| step.status.to_string()).collect();
    assert_eq!(shown, ["skipped", "success", "success"]);
    assert!(workspace(&run).join("done").exists());
    // One that passed may be begun again, too.
    let run = env.run(&["--job", "unit", "--from-step", "3"]);
    assert_eq!((run.exit_code, ran(&run)), (0, vec!["unit".to_owned()]), "{}", run.stderr);
    assert_eq!(reused(&run), ["build", "docs"], "{}", run.stderr);
    fs::remove_dir_all(workspace(&run)).unwrap();
    refused(&["--job", "unit", "--from-step", "2"], "its workspace is gone\nhint: leave out `--from-step`");
    for wrong in [&["--from-step", "2"][..], &["--job", "unit", "--from-step", "0"]] {
        assert_eq!(
            env.loom(&[&["run", "--local"], wrong].concat()).output().status.code(),
            Some(2),
            "{wrong:?}"
        );
    }
    env.write(
        ".loom/workflow.yml",
        "version: v1\nstages: [s]\nj: {stage: s, target: linux, image: none, script: [x, y]}\nh: {stage: s, target: linux, script: [exit 1]}\n",
    );
    assert_eq!(env.run(&["--job", "h"]).exit_code, 1);
    refused(
        &["--job", "j", "--from-step", "2"],
        "job `j` cannot begin at step 2: it runs in a container, and that of the last run is gone\n",
    );
}

#[test]
fn a_job_in_a_container_starts_anew_with_what_host_jobs_made_and_its_artifacts() {
    let Some(image) = crate::docker::busybox() else { return };
    let workflow = format!(
        "version: v1
stages: [host, build, test]
default: {{target: linux}}
made: {{stage: host, script: ['echo by-host > by-host']}}
build: {{stage: build, image: '{image}', artifacts: {{paths: [out]}}, script: ['mkdir out; cat by-host > out/x']}}
unit: {{stage: test, image: '{image}', needs: [made, {{job: build, artifacts: true}}], script: ['cat by-host out/x; touch left', test -e go]}}
"
    );
    let env = env(&workflow);
    failed(&env);
    env.write("go", "");
    let run = env.run(&["--rerun-failed"]);
    assert_eq!(
        (run.exit_code, reused(&run)),
        (0, vec!["build".to_owned(), "made".to_owned()]),
        "{}",
        run.stderr
    );
    assert_eq!(run.run.output("unit", "01"), ["by-host", "by-host"]);
    let told = "in new containers, with their caches and artifacts: unit\n";
    assert!(run.stderr.contains(told), "{}", run.stderr);
}

//! Which jobs run.

use std::process::Output;

use loom_contract::status::SkipReason;
use loom_tests::{RunOutput, Running, TestEnv, wait_for};

use crate::env;

const WORKFLOW: &str = "version: v1
stages: [one, two]
default: {target: linux}
a: {stage: one, script: ['true']}
b: {stage: one, script: [test -e b-may-pass]}
c: {stage: two, needs: [a], script: ['true']}
d: {stage: two, script: ['true']}
";

/// As `loom init` writes them: stages give the order, and no job names its needs.
const STAGED: &str = "version: v1
stages: [prepare, build, test]
default: {target: linux}
install: {stage: prepare, script: [mkdir deps]}
app: {stage: build, script: [test -d deps, mkdir dist]}
docs: {stage: build, script: ['true']}
unit: {stage: test, script: [test -d dist, test -e unit-may-pass]}
unit-slow: {stage: test, script: [test -d dist]}
lint: {stage: test, needs: [], script: ['true']}
";

/// Each job that ran, in order of name, with its status.
fn ran(run: &RunOutput) -> Vec<(String, String)> {
    run.run.statuses().into_iter().filter(|(_, status)| status != "skipped").collect()
}

fn names(run: &RunOutput) -> Vec<String> {
    ran(run).into_iter().map(|(name, _)| name).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_chosen_job_runs_with_what_it_needs_and_others_are_not_talked_of() {
    for (chosen, expected) in [
        (&["--job", "lint"][..], &["lint"][..]),
        (&["--job", "docs"], &["docs", "install"]),
        (&["--job", "unit-slow"], &["app", "docs", "install", "unit-slow"]),
        (&["--job", "unit-slow", "--no-deps", "--job", "docs"], &["docs", "unit-slow"]),
        (&["--job", "do*", "l?nt"], &["docs", "install", "lint"]),
        (&["--job", "{lint,install}"], &["install", "lint"]),
        (&["--stage", "build"], &["app", "docs", "install"]),
        (&["--stage", "b*", "--no-deps"], &["app", "docs"]),
        (&["--stage", "prepare", "--job", "lint"], &["install", "lint"]),
    ] {
        let env = env(STAGED);
        let run = env.run(chosen);
        assert_eq!(names(&run), expected, "{chosen:?}");
        // Alone, they do not find what they need.
        let works = !chosen.contains(&"--no-deps");
        assert_eq!(run.exit_code == 0, works, "{chosen:?}: {}", run.stderr);
        // What was left out stands in the record.
        let left_out = run.run.statuses().into_keys().filter(|name| !expected.contains(&name.as_str()));
        for name in left_out {
            assert_eq!(run.run.job(&name).skip_reason, Some(SkipReason::NotSelected), "{name}");
            let talked_of = run.stderr.split_whitespace().any(|word| word == name);
            assert!(!talked_of, "{chosen:?}: {name} in {}", run.stderr);
        }
        assert!(!run.stderr.contains("skipped"), "{}", run.stderr);
    }
}

#[test]
fn needs_are_followed_where_they_are_named() {
    let env = env(WORKFLOW);
    let run = env.run(&["--job", "c"]);
    assert_eq!((run.exit_code, names(&run)), (0, vec!["a".to_owned(), "c".to_owned()]), "{}", run.stderr);
}

#[test]
fn a_matrix_is_chosen_as_a_whole_or_by_job() {
    let env = env("version: v1
stages: [ci]
unit: {stage: ci, target: linux, parallel: {matrix: [{OS: [a, b]}]}, script: ['true']}
");
    for (chosen, expected) in [
        ("unit", &["unit--a", "unit--b"][..]),
        ("unit--b", &["unit--b"]),
        ("*--a", &["unit--a"]),
        ("un*", &["unit--a", "unit--b"]),
    ] {
        assert_eq!(names(&env.run(&["--job", chosen])), expected, "{chosen}");
    }
}

#[test]
fn an_unknown_name_is_an_error_that_lists_what_there_is_the_nearest_first() {
    let env = env(STAGED);
    for (args, last) in [
        (
            &["--job", "unti"][..],
            "no job is named `unti`\nhint: did you mean `unit`? the jobs are unit, install, app, docs, unit-slow, lint\n",
        ),
        (
            &["--job", "zz*"],
            "no job matches `zz*`\nhint: the jobs are install, app, docs, unit, unit-slow, lint\n",
        ),
        (
            &["--stage", "biuld"],
            "no stage is named `biuld`\nhint: did you mean `build`? the stages are build, prepare, test\n",
        ),
        (&["--stage", "unit"], "no stage is named `unit`, but a job is\nhint: use `--job unit`\n"),
        (&["--job", "test"], "no job is named `test`, but a stage is\nhint: use `--stage test`\n"),
        (&["--job", "a[b"], "--job `a[b` is no glob: unclosed character class; missing ']'\n"),
    ] {
        let run = env.run(args);
        assert_eq!(run.exit_code, 1);
        assert!(run.stderr.ends_with(&format!("loom run: {last}")), "{args:?}: {}", run.stderr);
        let dry = [&["run", "--local", "--dry-run"], args].concat();
        assert_eq!(stderr(&env.loom(&dry).output()), format!("loom run: {last}"));
    }
    let output = env.loom(&["compile", "--explain", "lnit"]).output();
    assert!(stderr(&output).contains("no job is named `lnit`\nhint: did you mean `lint`?"), "{output:?}");
    // A thousand jobs do not fill the terminal.
    let jobs: String =
        (0..1000).map(|n| format!("job-{n}: {{stage: s, target: linux, script: [x]}}\n")).collect();
    env.write(".loom/workflow.yml", &format!("version: v1\nstages: [s]\n{jobs}"));
    let error = stderr(&env.loom(&["run", "--local", "--dry-run", "--job", "jbo-77"]).output());
    assert!(error.contains("the jobs are job-77, "), "{error}");
    assert!(
        error.ends_with(" and 980 more, which `loom run --local --dry-run` lists\n") && error.len() < 400,
        "{error}"
    );
    // Without a choice there is nothing to be left out.
    assert_eq!(env.loom(&["run", "--local", "--no-deps"]).output().status.code(), Some(2));
    let both = ["run", "--local", "--rerun-failed", "--stage", "s"];
    assert_eq!(env.loom(&both).output().status.code(), Some(2));
}

#[test]
fn what_failed_can_be_run_again() {
    let env = env(STAGED);
    assert_eq!(env.run(&["-q"]).exit_code, 1);
    // What `unit` works on is there still, in the workspace of that run.
    let run = env.run(&["--rerun-failed"]);
    assert_eq!((run.exit_code, names(&run)), (1, vec!["unit".to_owned()]), "{}", run.stderr);
    assert_eq!(run.run.job("unit").failing_step.map(|step| step.to_string()), Some("02".to_owned()));
    env.write("unit-may-pass", "");
    // In another one it has to be built again.
    let run = env.run(&["--rerun-failed", "--fresh"]);
    assert_eq!((run.exit_code, ran(&run).len()), (0, 4), "{}", run.stderr);
    for more in [&[][..], &["--dry-run"]] {
        let output = env.loom(&[&["run", "--local", "--rerun-failed"], more].concat()).output();
        assert_eq!(
            (output.status.code(), stderr(&output).as_str()),
            (Some(0), "loom run: every job of the last run passed; nothing to run again\n")
        );
    }
    // What needs nothing runs alone.
    std::fs::remove_file(env.repo().join("unit-may-pass")).unwrap();
    assert_eq!(env.run(&["-q"]).exit_code, 1);
    let run = env.run(&["--rerun-failed", "--no-deps"]);
    assert_eq!((run.exit_code, names(&run)), (1, vec!["unit".to_owned()]));
}

/// What `--rerun-failed` would run.
fn again(env: &TestEnv) -> Result<Vec<String>, String> {
    let output = env.loom(&["run", "--local", "--rerun-failed", "--no-deps", "--dry-run"]).output();
    if output.status.code() != Some(0) {
        return Err(stderr(&output));
    }
    let stdout = String::from_utf8(output.stdout).unwrap();
    let jobs = stdout.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    Ok(jobs.filter(|job| !job.is_empty()).map(str::to_owned).collect())
}

/// A repository whose runs pass, fail at `b`, or wait there.
fn env_of_runs() -> TestEnv {
    env("version: v1
stages: [one, two]
default: {target: linux}
a: {stage: one, script: ['true']}
b: {stage: one, needs: [a], script: [test ! -e b-fails, 'touch \"$HOME/at-b\"; while test -e \"$HOME/b-waits\"; do sleep 0.05; done']}
c: {stage: two, script: ['true']}
other: {stage: two, needs: [], script: ['true']}
")
}

/// Starts a run that waits in `b`.
fn waiting(env: &TestEnv, args: &[&str]) -> Running {
    std::fs::write(env.home().join("b-waits"), "").unwrap();
    let _ = std::fs::remove_file(env.home().join("at-b"));
    let child = env.loom(&[&["run", "--local", "-q"], args].concat()).spawn();
    wait_for("b to wait", || env.home().join("at-b").exists());
    child
}

#[test]
fn the_newest_run_counts_whatever_became_of_it() {
    let env = env_of_runs();
    let passes = || assert_eq!(env.run(&["-q"]).exit_code, 0);
    passes();
    assert_eq!(again(&env), Ok(vec![]));

    // One that goes on.
    let mut child = waiting(&env, &[]);
    let error = again(&env).unwrap_err();
    assert!(error.contains("the last run of this workflow has not ended yet"), "{error}");
    // One that was killed: what is known to have passed has passed, whether its receipt has been closed since or not.
    child.kill().unwrap();
    child.exit();
    std::fs::remove_file(env.home().join("b-waits")).unwrap();
    assert_eq!(again(&env).unwrap(), ["b", "c", "other"]);
    assert_eq!(
        env.loom(&["run", "--local", "--rerun-failed", "--workflow", "gone.yml"]).output().status.code(),
        Some(1)
    );
    let run = env.run(&["--rerun-failed"]);
    assert_eq!((run.exit_code, names(&run).len()), (0, 3), "{}", run.stderr);

    // One whose record cannot be read, in each of its parts.
    type Damage = fn(&str) -> String;
    let newer: Damage = |text| text.replacen("\"v1\"", "\"v2\"", 1);
    let unknown: Damage = |text| text.replacen('{', "{\"new\": 1,", 1);
    let torn: Damage = |text| text[..text.len() / 2].to_owned();
    let empty: Damage = |_| String::new();
    let run = env.run(&["-q"]);
    let manifest = run.run.dir.join("pipeline/manifest.json");
    for (file, damages) in [
        (&run.run.receipt_path, &[newer, unknown, torn, empty][..]),
        (&manifest, &[|text: &str| text.replace("logs.v2", "logs.v3"), unknown, torn, empty]),
    ] {
        let whole = std::fs::read_to_string(file).unwrap();
        for damage in damages {
            std::fs::write(file, damage(&whole)).unwrap();
            let error = again(&env).unwrap_err();
            assert!(error.starts_with("loom run: what failed last time is not known: "), "{error}");
            assert!(error.contains(&*file.to_string_lossy()), "{error}");
            assert!(error.ends_with("\nhint: run everything once: `loom run --local`\n"), "{error}");
        }
        std::fs::write(file, whole).unwrap();
    }
    std::fs::rename(&run.run.dir, env.home().join("moved")).unwrap();
    assert!(again(&env).unwrap_err().contains("what failed last time is not known"));
    std::fs::rename(env.home().join("moved"), &run.run.dir).unwrap();
    assert_eq!(again(&env), Ok(vec![]));

    // One that did not come to its jobs: those that passed before have not passed now.
    assert_eq!(env.run(&["-q", "--job", "nobody"]).exit_code, 1);
    assert_eq!(again(&env).unwrap(), ["a", "b", "c", "other"]);
    passes();

    // One that had other jobs only.
    env.write("b-fails", "");
    assert_eq!(env.run(&["-q"]).exit_code, 1);
    assert_eq!(again(&env).unwrap(), ["b", "c", "other"]);
    assert_eq!(env.run(&["-q", "--job", "other"]).exit_code, 0);
    assert_eq!(again(&env).unwrap(), ["b", "c"]);
    // What did not start says nothing of what failed before it.
    assert_eq!(env.run(&["-q", "--job", "nobody"]).exit_code, 1);
    assert_eq!(again(&env).unwrap(), ["b", "c"]);
    std::fs::remove_file(env.repo().join("b-fails")).unwrap();
    // A killed one of some jobs: the others are as they were.
    let mut child = waiting(&env, &["--job", "b"]);
    child.kill().unwrap();
    child.exit();
    std::fs::remove_file(env.home().join("b-waits")).unwrap();
    assert_eq!(again(&env).unwrap(), ["b", "c"]);
    let run = env.run(&["--rerun-failed"]);
    assert_eq!((run.exit_code, names(&run)), (0, ["b", "c"].map(str::to_owned).into()), "{}", run.stderr);
    assert_eq!(again(&env), Ok(vec![]));
}

#[test]
fn jobs_that_are_gone_do_not_stand_in_the_way_of_others() {
    let env = env(WORKFLOW);
    assert_eq!(again(&env).unwrap_err(), "loom run: no earlier run of this workflow to go by\n");
    assert_eq!(env.run(&["-q"]).exit_code, 1);
    env.write(
        ".loom/workflow.yml",
        "version: v1\nstages: [ci]\nnew: {stage: ci, target: linux, script: ['true']}\n",
    );
    let run = env.run(&["--rerun-failed"]);
    assert_eq!(run.exit_code, 1);
    assert!(
        run.stderr.ends_with("loom run: no job that failed last time exists any more\n"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_dry_run_prints_the_plan_and_runs_nothing() {
    let env = env(WORKFLOW);
    let output = env.loom(&["run", "--local", "--dry-run", "--job", "c"]).output();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout, "stage one\n  a  host\n    $ true\nstage two\n  c  host  after a\n    $ true\n");
    assert!(output.status.success() && env.receipts().is_empty());
}

#[test]
fn the_first_failure_can_be_enough() {
    let env = env(
        "version: v1\nstages: [ci]\ndefault: {target: linux}\na: {stage: ci, script: [exit 1]}\nb: {stage: ci, script: ['true']}\n",
    );
    let run = env.run(&["--jobs", "1", "--fail-fast"]);
    assert_eq!(run.run.statuses()["b"], "skipped");
    let run = env.run(&["--jobs", "1"]);
    assert_eq!(run.run.statuses()["b"], "success");
}

#[test]
fn every_value_says_where_it_came_from() {
    let env = env("version: v1
stages: [ci]
default:
  target: linux
.base:
  variables: {A: from-template}
job:
  extends: .base
  stage: ci
  script: [echo]
");
    let output = env.loom(&["compile", "--explain", "job"]).output();
    let stdout = String::from_utf8(output.stdout).unwrap();
    for (key, from, place) in [
        ("target", "default", ":4:11"),
        ("variables.A", "template .base", ":6:"),
        ("script", "job job", ":10:"),
    ] {
        let line =
            stdout.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key} in {stdout}"));
        assert!(line.contains(from) && line.contains(place), "{line}");
    }
    assert_eq!(env.loom(&["compile", "--explain", "nobody"]).output().status.code(), Some(1));
}

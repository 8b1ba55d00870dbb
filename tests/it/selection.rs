//! Which jobs run.

use loom_contract::status::SkipReason;

use crate::env;

const WORKFLOW: &str = "version: v1
stages: [one, two]
default: {target: linux}
a: {stage: one, script: ['true']}
b: {stage: one, script: [test -e b-may-pass]}
c: {stage: two, needs: [a], script: ['true']}
d: {stage: two, script: ['true']}
";

#[test]
fn a_named_job_runs_with_what_it_needs() {
    let env = env(WORKFLOW);
    let run = env.run(&["--job", "c"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let statuses: Vec<String> = run.run.statuses().into_values().collect();
    assert_eq!(statuses, ["success", "skipped", "success", "skipped"]);
    assert_eq!(run.run.job("b").skip_reason, Some(SkipReason::NotSelected));
}

#[test]
fn a_name_that_no_job_has_is_an_error_with_a_guess() {
    let env = env("version: v1\nstages: [ci]\nbuild: {stage: ci, target: linux, script: ['true']}\n");
    let run = env.run(&["--job", "biuld"]);
    assert_eq!(run.exit_code, 1);
    let last = "loom run: no job is named `biuld`\nhint: did you mean `build`?\n";
    assert!(run.stderr.ends_with(last), "{}", run.stderr);
}

#[test]
fn what_failed_can_be_run_again() {
    let env = env(WORKFLOW);
    let run = env.run(&["-q"]);
    assert_eq!(run.exit_code, 1);
    env.write("b-may-pass", "");
    let run = env.run(&["--rerun-failed"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    // `a` passed, and runs again only because `c` needs it.
    let statuses: Vec<String> = run.run.statuses().into_values().collect();
    assert_eq!(statuses, ["success", "success", "success", "success"]);
    let output = env.loom(&["run", "--local", "--rerun-failed"]).output();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), stderr.as_str()),
        (Some(0), "loom run: every job of the last run passed; nothing to run again\n")
    );
}

#[test]
fn a_run_that_did_not_start_is_not_what_is_run_again() {
    let env = env(WORKFLOW);
    assert_eq!(env.run(&["-q"]).exit_code, 1);
    assert_eq!(env.run(&["-q", "--job", "nobody"]).exit_code, 1);
    env.write("b-may-pass", "");
    let run = env.run(&["--rerun-failed"]);
    assert_eq!((run.exit_code, run.run.statuses()["b"].as_str()), (0, "success"), "{}", run.stderr);
    // Jobs that have gone since do not stand in the way of the others; when all have, that is said.
    std::fs::remove_file(env.repo().join("b-may-pass")).unwrap();
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

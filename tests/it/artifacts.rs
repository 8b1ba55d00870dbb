//! What jobs leave: files in the run's record, and in the workspaces of jobs that need them.

use std::path::Path;

use loom_contract::section::Section;
use loom_contract::status::{SkipReason, Status};
use loom_tests::RunOutput;

use crate::env;

fn run(artifacts: &str, script: &[&str]) -> RunOutput {
    let steps: String =
        script.iter().map(|step| format!("    - {}\n", serde_json::to_string(step).unwrap())).collect();
    let workflow = format!(
        "version: v1\nstages: [ci]\njob:\n  stage: ci\n  target: linux\n  artifacts: {artifacts}\n  script:\n{steps}"
    );
    env(&workflow).run(&[])
}

/// Files below the job's artifacts, the archive included.
fn kept(run: &RunOutput, job: &str) -> Vec<String> {
    let folder = run.run.dir.join(format!("jobs/{job}/artifacts"));
    let mut found = Vec::new();
    walk(&folder, &folder, &mut found);
    found.sort();
    found
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            walk(root, &path, found);
        } else {
            found.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
        }
    }
}

fn outcome(run: &RunOutput) -> (Status, Option<SkipReason>) {
    let job = run.run.job("job");
    let entry = job.system_sections.iter().find(|entry| entry.section == Section::ArtifactExtract).unwrap();
    (entry.status, entry.skip_reason)
}

#[test]
fn matching_files_are_kept_with_their_paths_and_in_an_archive() {
    let run = run(
        "{paths: [out/, '*.log', './deep/**/x'], exclude: ['out/*.tmp']}",
        &[
            "mkdir -p out/sub deep/a/b; echo 1 > out/a; echo 2 > out/b.tmp; echo 3 > out/sub/c; echo 4 > d.log; echo 5 > deep/a/b/x; chmod 755 out/a",
        ],
    );
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let files = ["artifacts.tar.gz", "d.log", "deep/a/b/x", "out/a", "out/sub/c"];
    assert_eq!(kept(&run, "job"), files);
    let artifacts = run.run.job("job").artifacts.unwrap();
    assert_eq!((artifacts.count, artifacts.bytes), (4, 8));
    assert_eq!(artifacts.archive_path, "jobs/job/artifacts/artifacts.tar.gz");
    let expected: Vec<String> = files[1..].iter().map(|file| format!("jobs/job/artifacts/{file}")).collect();
    assert_eq!(artifacts.paths, expected);
    let mode = std::os::unix::fs::MetadataExt::mode(
        &std::fs::metadata(run.run.dir.join("jobs/job/artifacts/out/a")).unwrap(),
    );
    assert_eq!(mode & 0o777, 0o755);
    let mut tar = std::process::Command::new("tar");
    let listed = loom_tests::output(tar.arg("tzf").arg(run.run.dir.join(&artifacts.archive_path))).unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().collect::<Vec<_>>(), files[1..]);
    let job = run.run.job("job");
    let entry = job.system_sections.iter().find(|entry| entry.section == Section::ArtifactExtract).unwrap();
    let metrics = entry.metrics.as_ref().unwrap();
    assert_eq!((&metrics["files"], &metrics["bytes"]), (&4.into(), &8.into()));
}

#[test]
fn when_decides_by_how_the_job_ended() {
    let table = [
        ("on_success", "true", None),
        ("on_success", "false", Some(SkipReason::ArtifactWhenNotMet)),
        ("on_failure", "true", Some(SkipReason::ArtifactWhenNotMet)),
        ("on_failure", "false", None),
        ("always", "true", None),
        ("always", "false", None),
    ];
    for (when, end, reason) in table {
        let run = run(&format!("{{paths: [x], when: {when}}}"), &["echo x > x", end]);
        assert_eq!(outcome(&run).1, reason, "{when} {end}");
        assert_eq!(kept(&run, "job").len(), if reason.is_none() { 2 } else { 0 }, "{when} {end}");
    }
}

#[test]
fn no_match_is_told_and_no_failure() {
    let run = run("{paths: [none, 'x/**']}", &["true"]);
    assert_eq!(run.exit_code, 0);
    assert_eq!(outcome(&run), (Status::Skipped, Some(SkipReason::ArtifactNoMatch)));
    for pattern in ["none", "x/**"] {
        assert!(run.stderr.contains(&format!("no file matches `{pattern}`")), "{}", run.stderr);
    }
    assert!(run.run.job("job").artifacts.is_none());
    assert!(!run.run.dir.join("jobs/job/artifacts").exists());
}

#[test]
fn what_cannot_be_kept_is_named_and_the_rest_is_kept() {
    let run = run(
        "{paths: [out]}",
        &[
            "mkdir out; echo fine > out/fine; ln -s /etc/passwd out/absolute; ln -s ../../.. out/up; ln -s fine out/link; mkfifo out/pipe; touch \"out/two\nlines\"",
        ],
    );
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(kept(&run, "job"), ["artifacts.tar.gz", "out/fine", "out/link", "out/two\nlines"]);
    for name in ["out/absolute", "out/up", "out/pipe"] {
        assert!(run.stderr.contains(&format!("`{name}` was left out")), "{name}: {}", run.stderr);
    }
}

#[test]
fn a_job_whose_artifacts_cannot_be_kept_at_all_has_failed() {
    for (last, exit_code, own) in [("exit 0", 1, false), ("exit 3", 3, true)] {
        let workflow = format!(
            "version: v1\nstages: [ci]\njob:\n  stage: ci\n  target: linux\n  artifacts: {{paths: [out], when: always}}\n  \
             script:\n    - mkdir out; echo fine > out/fine\n    - touch \"$(echo $LOGS/*)/jobs/job/artifacts\"\n    - {last}\n"
        );
        let env = env(&workflow);
        let logs = env.runtime().logs_dir();
        let run = env.loom(&["run", "--local"]).env("LOGS", logs.to_str().unwrap()).run();
        assert_eq!(run.exit_code, 1, "{}", run.stderr);
        let job = run.run.job("job");
        assert_eq!(
            (job.status, outcome(&run)),
            (Status::Failed, (Status::Failed, None)),
            "{last} {}",
            run.stderr
        );
        assert!(job.artifacts.is_none());
        assert_eq!(job.exit_code == Some(exit_code), own, "{last}: {:?}", job.exit_code);
        let error =
            job.error.as_ref().map(|error| (&*error.code, error.message.contains("/jobs/job/artifacts`")));
        assert_eq!(error == Some(("ARTIFACTS_FAILED", true)), !own, "{last}: {error:?}");
    }
}

#[test]
fn ten_thousand_files_are_counted_and_a_thousand_listed() {
    let run = run("{paths: [out]}", &["mkdir out; cd out; seq 10000 | xargs touch"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let artifacts = run.run.job("job").artifacts.unwrap();
    assert_eq!((artifacts.count, artifacts.paths.len()), (10_000, 1_000));
    assert_eq!(kept(&run, "job").len(), 10_001);
}

#[test]
fn a_job_gets_the_artifacts_of_those_that_it_needs_them_from() {
    let env = env("version: v1
stages: [one, two]
default: {target: linux}
make: {stage: one, artifacts: {paths: [out]}, script: ['mkdir out; echo made > out/x; ln -s x out/l']}
none: {stage: one, artifacts: {paths: [no]}, script: ['true']}
spoil: {stage: two, needs: [make], script: [rm -r out]}
use:
  stage: two
  needs: [spoil, {job: make, artifacts: true}, {job: none, artifacts: true}]
  script: [cat out/x out/l]
");
    let run = env.run(&["-v"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("use", "01"), ["made", "made"]);
    assert!(run.stderr.contains("artifacts of job `make`: 2 files"), "{}", run.stderr);
    assert!(run.stderr.contains("job `none` has left no artifacts"), "{}", run.stderr);
}

#[test]
fn each_attempt_keeps_its_own() {
    let env = env(
        "version: v1
stages: [ci]
job: {stage: ci, target: linux, retry: {max: 1}, artifacts: {paths: [x], when: always}, script: ['echo attempt >> x; test $(wc -l < x) = 2']}
",
    );
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let read = |path: &str| std::fs::read_to_string(run.run.dir.join(path)).unwrap();
    assert_eq!(read("jobs/job/attempts/1/artifacts/x"), "attempt\n");
    assert_eq!(read("jobs/job/artifacts/x"), "attempt\nattempt\n");
}

#[test]
fn a_secret_in_an_artifact_is_named_and_one_in_a_name_stays_out() {
    let env = env("version: v1
stages: [ci]
job:
  stage: ci
  target: linux
  secrets: {TOKEN: {ref: env://TOKEN, file: false}}
  artifacts: {paths: [out]}
  script: ['mkdir out; echo $TOKEN > out/inside; echo clean > out/clean; touch out/$TOKEN']
");
    let run = env.loom(&["run", "--local"]).env("TOKEN", "correct-horse-battery").run();
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert!(
        run.stderr.contains("artifact `out/inside` holds the value of the secret `TOKEN`"),
        "{}",
        run.stderr
    );
    assert_eq!(kept(&run, "job"), ["artifacts.tar.gz", "out/clean", "out/inside"]);
    assert!(!run.stderr.contains("correct-horse"), "{}", run.stderr);
}

//! Timeouts, retries, failures that are allowed, matrices.

use loom_contract::status::Status;

use crate::env;

fn workflow(job: &str) -> String {
    format!(
        "version: v1\nstages: [ci, later]\ndefault: {{target: linux}}\njob:\n  stage: ci\n{job}\nafter: {{stage: later, script: [echo after]}}\n"
    )
}

#[test]
fn a_step_that_takes_too_long_is_ended_and_fails_its_job() {
    let env = env(&workflow("  timeout: {step: 5s}\n  script: ['true', sleep 1000, echo never]"));
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 1);
    let job = run.run.job("job");
    assert_eq!(job.error.map(|e| e.code.into_owned()).as_deref(), Some("STEP_TIMEOUT"));
    let statuses: Vec<_> = job.steps.iter().map(|s| (s.status, s.exit_code)).collect();
    assert_eq!(statuses, [(Status::Success, Some(0)), (Status::Failed, Some(143)), (Status::Skipped, None)]);
    assert!(job.duration_ms < 500_000);
    assert!(
        run.stderr.ends_with("failed (STEP_TIMEOUT: the step took longer than its timeout of 5 s)\n"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_job_that_takes_too_long_is_ended() {
    let env = env(&workflow("  timeout: 5s\n  script: ['true', sleep 0.1, sleep 1000]"));
    let run = env.run(&[]);
    let job = run.run.job("job");
    assert_eq!(job.error.map(|e| e.code.into_owned()).as_deref(), Some("JOB_TIMEOUT"));
    assert_eq!(job.failing_step.map(|s| s.number()), Some(3));
}

#[test]
fn a_retried_job_keeps_the_record_of_each_attempt() {
    let env = env(&workflow(
        "  retry: {max: 2}\n  script: ['echo attempt >> log; cat log; test $(wc -l < log) = 3']",
    ));
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let job = run.run.job("job");
    assert_eq!((job.status, job.attempts.len()), (Status::Success, 2));
    assert_eq!(run.run.output("job", "01").len(), 3);
    assert!(
        run.stderr
            .lines()
            .any(|line| line.starts_with("passed  job (") && line.ends_with("), attempt 3 of 3")),
        "{}",
        run.stderr
    );
    for (index, attempt) in job.attempts.iter().enumerate() {
        assert_eq!((attempt.attempt, attempt.exit_code), (index as u32 + 1, Some(1)));
        let events =
            run.run.events(&format!("jobs/job/attempts/{}/user/execution/script/01/events.jsonl", index + 1));
        assert_eq!(events.iter().filter(|e| e.line.is_some()).count(), index + 1);
    }
    assert!(run.stderr.contains("attempt 2 of 3: exit code 1; trying again\n"), "{}", run.stderr);
}

#[test]
fn a_retry_is_only_for_what_it_names() {
    let env = env(&workflow("  retry: {max: 3, when: [timeout]}\n  script: [exit 9]"));
    let run = env.run(&[]);
    assert_eq!((run.exit_code, run.run.job("job").attempts.len()), (1, 0));
    let again = crate::env(&workflow(
        "  timeout: {step: 100ms}\n  retry: {max: 1, when: [timeout]}\n  script: [sleep 1000]",
    ));
    let run = again.run(&[]);
    assert_eq!((run.exit_code, run.run.job("job").attempts.len()), (1, 1));
}

#[test]
fn an_allowed_failure_blocks_nothing() {
    let env = env(&workflow("  allow_failure: true\n  script: [exit 9]"));
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.statuses()["job"], "failed");
    assert_eq!(run.run.output("after", "01"), ["after"]);
    assert_eq!(run.run.pipeline().failing_job_id, None);
    assert!(run.stderr.contains("(allowed to fail)"), "{}", run.stderr);
}

#[test]
fn a_matrix_is_a_job_for_each_combination() {
    let env = env("version: v1
stages: [ci]
default: {target: linux}
job:
  stage: ci
  parallel:
    matrix:
      - {OS: [a, b], ARCH: [x64]}
  script: [echo $OS $ARCH]
after: {stage: ci, needs: [job], script: ['true']}
");
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let ids: Vec<String> = run.run.statuses().into_keys().collect();
    assert_eq!(ids, ["after", "job--x64-a", "job--x64-b"]);
    assert_eq!(run.run.output("job--x64-b", "01"), ["b x64"]);
    let matrix: Vec<_> = run.run.job("job--x64-a").matrix.into_iter().collect();
    assert_eq!(matrix, [("ARCH".to_owned(), "x64".to_owned()), ("OS".to_owned(), "a".to_owned())]);
    let run = env.run(&["--job", "job"]);
    assert_eq!(run.run.statuses()["after"], "skipped");
}

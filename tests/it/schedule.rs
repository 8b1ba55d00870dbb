//! Who runs when.

use loom_contract::event::EventType;
use loom_contract::status::SkipReason;

use crate::env;

#[test]
fn a_job_starts_the_moment_its_last_need_is_over() {
    let env = env("version: v1
stages: [ci]
default: {target: linux}
first: {stage: ci, script: ['true']}
unrelated: {stage: ci, timeout: 100s, script: ['until test -e done; do sleep 0.02; done']}
second: {stage: ci, needs: [first], script: [': > done']}
");
    let run = env.run(&["--jobs", "3"]);
    let edge = |job: &str, kind| {
        let events = run.run.events(&format!("jobs/{job}/events.jsonl"));
        let mut events = events.iter().filter(|e| e.kind == kind);
        match kind {
            EventType::PhaseStart => events.next(),
            _ => events.next_back(),
        }
        .unwrap()
        .ts
    };
    let (over, started) = (edge("first", EventType::PhaseFinish), edge("second", EventType::PhaseStart));
    assert!(over <= started);
    // It did not wait for the other one, which waits for it.
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
}

#[test]
fn a_failure_blocks_what_depends_on_it_and_later_stages_only() {
    let env = env("version: v1
stages: [one, two]
default: {target: linux}
bad: {stage: one, script: [exit 7]}
good: {stage: one, script: ['true']}
needs-bad: {stage: one, needs: [bad], script: ['true']}
needs-that: {stage: one, needs: [needs-bad], script: ['true']}
needs-good: {stage: one, needs: [good], script: ['true']}
later: {stage: two, script: ['true']}
");
    let run = env.run(&["--jobs", "1"]);
    assert_eq!(run.exit_code, 1);
    let reason = |job: &str| run.run.job(job).skip_reason;
    assert_eq!(reason("needs-bad"), Some(SkipReason::UpstreamFailed));
    assert_eq!(reason("needs-that"), Some(SkipReason::UpstreamSkipped));
    assert_eq!(reason("later"), Some(SkipReason::UpstreamFailed));
    let statuses = run.run.statuses();
    assert_eq!(
        [&statuses["bad"], &statuses["good"], &statuses["needs-good"]],
        ["failed", "success", "success"]
    );
    let cleanup = run.run.events("jobs/later/events.jsonl");
    assert_eq!(cleanup.len(), 2, "a job that never runs still closes its cleanup: {cleanup:?}");
    assert_eq!(cleanup[1].skip_reason, Some(SkipReason::UpstreamFailed));
}

#[test]
fn the_first_job_to_fail_is_named_and_the_others_counted() {
    let env = env("version: v1
stages: [ci]
default: {target: linux}
slow:
  stage: ci
  timeout: 100s
  script: ['until test -e \"$HOME\"/../repo/.loom/.runtime/logs/*/jobs/fast/summary.json; do sleep 0.02; done; exit 4']
fast: {stage: ci, script: [exit 5]}
");
    let run = env.run(&["--jobs", "2"]);
    assert!(
        run.stderr.ends_with("loom run: job \"fast\" failed (exit code 5), and 1 more\n"),
        "{}",
        run.stderr
    );
    assert_eq!(run.run.pipeline().failing_job_id.map(|id| id.to_string()).as_deref(), Some("fast"));
}

#[test]
fn no_more_jobs_run_at_once_than_allowed() {
    let jobs: String = (0..6)
        .map(|n| {
            format!(
                "j{n}: {{stage: ci, script: ['touch run-{n}; ls run-* | wc -l; sleep 0.5; rm run-{n}']}}\n"
            )
        })
        .collect();
    let env = env(&format!("version: v1\nstages: [ci]\ndefault: {{target: linux}}\n{jobs}"));
    let run = env.run(&["--jobs", "2"]);
    assert_eq!(run.exit_code, 0);
    let most = (0..6).map(|n| run.run.output(&format!("j{n}"), "01")[0].trim().parse::<u32>().unwrap()).max();
    assert_eq!(most, Some(2));
}

#[test]
fn two_hundred_jobs_are_two_hundred_records() {
    let jobs: String = (0..200).map(|n| format!("j{n}: {{stage: ci, script: ['true']}}\n")).collect();
    let env = env(&format!("version: v1\nstages: [ci]\ndefault: {{target: linux}}\n{jobs}"));
    let run = env.run(&["-q"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.pipeline().jobs.len(), 200);
    assert_eq!(run.stderr.lines().count(), 2, "quiet: {}", run.stderr);
}

#[test]
fn jobs_that_may_start_together_are_told_in_the_order_of_the_file() {
    let names: Vec<String> = (0..12).map(|at| format!("job-{}", (b'l' - at) as char)).collect();
    let jobs: String =
        names.iter().map(|name| format!("{name}: {{stage: ci, script: ['true']}}\n")).collect();
    let env = env(&format!("version: v1\nstages: [ci]\ndefault: {{target: linux}}\n{jobs}"));
    let run = env.run(&["--jobs", "12"]);
    let started: Vec<&str> =
        run.stderr.lines().filter_map(|line| line.strip_prefix("started ")).map(str::trim).collect();
    assert_eq!(started, names);
}

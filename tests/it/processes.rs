//! Nothing outlives its job. (That no process of a run is left is also a law that every test checks.)

use loom_contract::event::Level;

use crate::run_steps;

/// The warnings of the job's cleanup.
fn ended(run: &loom_tests::RunOutput) -> Vec<String> {
    let events = run.run.events("jobs/job/system/cleanup/events.jsonl");
    events.into_iter().filter(|e| e.level == Some(Level::Warn)).filter_map(|e| e.message).collect()
}

#[test]
fn a_background_process_serves_later_steps_and_ends_with_the_job() {
    let run = run_steps(&["sleep 1000 & echo $! > pid", "kill -0 $(cat pid) && echo still there"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("job", "02"), ["still there"]);
    assert_eq!(ended(&run).len(), 1);
    assert!(ended(&run)[0].ends_with("that the job left behind: sleep 1000"), "{:?}", ended(&run));
    let step = run.run.events("jobs/job/user/execution/script/01/events.jsonl");
    assert!(step.iter().any(|e| e.message.as_deref().is_some_and(|m| m.contains("output"))), "{step:?}");
}

#[test]
fn a_step_leads_a_session_without_a_terminal() {
    let run = run_steps(&["cut -d' ' -f5-7 /proc/$$/stat; echo $$ $$ 0"]);
    let output = run.run.output("job", "01");
    assert_eq!(output[0], output[1]);
}

#[test]
fn a_background_process_in_a_group_of_its_own_without_any_mark_is_the_jobs() {
    // `set -m` gives it the group; another job runs beside it, so that being alone does not tell.
    let env = crate::env(
        "version: v1
stages: [ci]
default: {target: linux}
job: {stage: ci, script: ['set -m; env -i /bin/sleep 1006 >/dev/null 2>&1 & sleep 0.1']}
other: {stage: ci, script: [sleep 1]}
",
    );
    let run = env.run(&["--jobs", "2"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert!(ended(&run).concat().contains("sleep 1006"), "{:?}", ended(&run));
}

#[test]
fn the_guard_has_ended_when_loom_has() {
    let run = run_steps(&["pgrep -f \"__guard .*$LOOM_RUN_ID\" | grep -vx $$"]);
    let guard = run.run.output("job", "01").concat();
    assert!(!guard.is_empty());
    assert!(!std::path::Path::new("/proc").join(&guard).exists(), "process {guard} is left");
}

#[test]
fn daemons_do_not_escape() {
    let run = run_steps(&[
        "setsid sleep 1001 >/dev/null 2>&1 & (setsid sh -c 'sleep 1002 & sleep 1003' >/dev/null 2>&1 &)",
        "env -i setsid /bin/sleep 1004 >/dev/null 2>&1 &\n(env -i /bin/sleep 1005 >/dev/null 2>&1 &)\nsleep 0.1",
    ]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let all = ended(&run).join("\n");
    for seconds in 1001..=1005 {
        assert!(all.contains(&format!("sleep {seconds}")), "sleep {seconds} is named in: {all}");
    }
    let mut pgrep = std::process::Command::new("pgrep");
    let left = loom_tests::output(pgrep.args(["-f", "sleep 100[1-5]"])).unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

#[test]
fn one_that_ignores_the_request_to_end_is_killed() {
    let run =
        run_steps(&["sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' >/dev/null 2>&1 & sleep 0.1"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert!(!ended(&run).is_empty());
}

#[test]
fn what_a_detached_process_says_is_heard_in_later_steps() {
    let run = run_steps(&["(sleep 0.5; echo late) & echo early", "sleep 1; echo second"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("job", "01"), ["early"]);
    assert_eq!(run.run.output("job", "02"), ["late", "second"]);
}

#[test]
fn a_step_ends_when_its_shell_ends() {
    let run = run_steps(&["sleep 1000 &"]);
    assert!(run.run.job("job").duration_ms < 500_000, "{}", run.stderr);
}

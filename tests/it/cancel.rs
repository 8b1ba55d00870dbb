//! Signals to Loom.

use std::time::{Duration, Instant};

use loom_contract::receipt::RunReceipt;
use loom_contract::status::{RunStatus, Status};
use loom_tests::{RunOutput, Running, TestEnv, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use crate::{env, env_of_steps};

const TWO_JOBS: &str = "version: v1
stages: [ci, later]
default: {target: linux}
running: {stage: ci, script: [echo > started; sleep 1000, echo never]}
waiting: {stage: ci, needs: [running], script: ['true']}
after: {stage: later, script: ['true']}
";

/// Starts a run and waits until a step has made the file `started` in the workspace.
fn start(env: &TestEnv) -> Running {
    let child = env.loom(&["run", "--local"]).spawn();
    wait_for_file(env, "started");
    child
}

/// Waits until a step has made a file in a workspace.
fn wait_for_file(env: &TestEnv, name: &str) {
    wait_for(&format!("the step to make `{name}`"), || workspaces(env).iter().any(|w| w.join(name).exists()));
}

fn workspaces(env: &TestEnv) -> Vec<std::path::PathBuf> {
    let repos = std::fs::read_dir(env.home().join(".cache/loom/workspaces")).into_iter().flatten().flatten();
    repos
        .flat_map(|repo| std::fs::read_dir(repo.path()).into_iter().flatten().flatten())
        .map(|e| e.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_str().unwrap().parse::<u32>().is_ok()))
        .collect()
}

fn send(child: &Running, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn end(env: &TestEnv, child: Running) -> RunOutput {
    RunOutput::of(env, &child.output())
}

#[test]
fn one_signal_asks_and_everything_is_written() {
    for (signal, code, name) in [(Signal::INT, 130, "SIGINT"), (Signal::TERM, 143, "SIGTERM")] {
        let env = env(TWO_JOBS);
        let child = start(&env);
        send(&child, signal);
        let run = end(&env, child);
        assert_eq!(run.exit_code, code, "{}", run.stderr);
        assert!(run.stderr.ends_with(&format!("loom run: cancelled by {name}\n")), "{}", run.stderr);
        let statuses = run.run.statuses();
        assert_eq!(
            [&statuses["running"], &statuses["waiting"], &statuses["after"]],
            ["cancelled", "skipped", "skipped"]
        );
        let steps = run.run.job("running").steps;
        assert_eq!((steps[0].status, steps[0].exit_code), (Status::Cancelled, Some(143)));
        assert_eq!(steps[1].status, Status::Skipped);
    }
}

#[test]
fn a_step_that_is_stopped_can_end_when_it_is_asked_to() {
    let env = env_of_steps(&["trap 'echo tidied; exit 0' TERM; echo > started; kill -STOP $$; sleep 1000"]);
    let child = start(&env);
    std::thread::sleep(Duration::from_millis(300));
    send(&child, Signal::INT);
    let run = end(&env, child);
    assert_eq!(run.exit_code, 130, "{}", run.stderr);
    assert_eq!(run.run.output("job", "01"), ["tidied"]);
}

#[test]
fn a_second_signal_kills_at_once() {
    let at_once = || {
        let env =
            env_of_steps(&["trap ': > asked' TERM; echo > started; while :; do sleep 0.05 || true; done"]);
        let child = start(&env);
        let asked = Instant::now();
        send(&child, Signal::INT);
        wait_for_file(&env, "asked");
        send(&child, Signal::INT);
        let run = end(&env, child);
        assert_eq!(run.exit_code, 130);
        assert_eq!(run.run.job("job").steps[0].exit_code, Some(137));
        asked.elapsed() < Duration::from_secs(10)
    };
    // After ten seconds it would have been killed anyway; on a machine that is busy for so long, once more.
    assert!((0..5).any(|_| at_once()));
}

#[test]
fn a_step_that_ignores_the_request_is_killed_after_ten_seconds() {
    let env = env_of_steps(&["trap '' TERM; echo > started; while :; do sleep 0.1; done"]);
    let child = start(&env);
    let asked = Instant::now();
    send(&child, Signal::TERM);
    let run = end(&env, child);
    assert!(asked.elapsed() >= Duration::from_secs(10), "{:?}", asked.elapsed());
    assert_eq!((run.exit_code, run.run.job("job").status), (143, Status::Cancelled));
}

#[test]
fn a_reader_that_does_not_read_does_not_keep_a_run_from_ending() {
    let env = env_of_steps(&["seq 200000; echo > started; sleep 1000"]);
    // Nobody reads the pipe of its stderr.
    let mut child = env.loom(&["run", "--local", "--stream"]).spawn();
    wait_for_file(&env, "started");
    send(&child, Signal::INT);
    child.exit();
    let receipt: RunReceipt = loom_record::read::document(&env.receipts()[0]).unwrap();
    assert_eq!(receipt.exit_code, 130);
}

#[test]
fn a_step_may_clean_up_when_it_is_asked_to_end() {
    let env = env_of_steps(&[
        "trap 'echo tidied; exit 0' TERM; echo > started; while :; do sleep 0.1; done",
        "echo never",
    ]);
    let child = start(&env);
    send(&child, Signal::INT);
    let run = end(&env, child);
    assert!(run.run.output("job", "01").contains(&"tidied".to_owned()));
    assert_eq!(run.run.job("job").status, Status::Cancelled);
}

pub(crate) fn marked(run_id: &str) -> usize {
    let mark = format!("LOOM_PROCESS_OF={run_id}/");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|p| {
            let environ = std::fs::read(p.path().join("environ")).unwrap_or_default();
            environ.split(|b| *b == 0).any(|variable| variable.starts_with(mark.as_bytes()))
        })
        .count()
}

#[test]
fn a_killed_loom_leaves_readable_files_and_its_guard_ends_the_rest() {
    let env = env_of_steps(&["setsid sleep 1000 & seq 100000; echo > started; sleep 1000"]);
    let mut child = start(&env);
    let run_id = env.run_dirs()[0].file_name().unwrap().to_string_lossy().into_owned();
    assert!(marked(&run_id) >= 2);
    child.kill().unwrap();
    child.exit();
    wait_for("the guard to end the run's processes", || marked(&run_id) == 0);

    // All that is there can be read; the receipt says that the run was interrupted.
    let receipts = env.receipts();
    assert_eq!(receipts.len(), 1);
    assert!(receipts[0].to_string_lossy().ends_with(".json.partial"));
    let receipt: RunReceipt = loom_record::read::document(&receipts[0]).unwrap();
    assert_eq!((receipt.status, receipt.error.as_deref()), (RunStatus::Failure, Some("interrupted")));
    let dir = &env.run_dirs()[0];
    for stream in ["events.jsonl", "jobs/job/user/execution/events.jsonl"] {
        let events = loom_record::read::events(&dir.join(stream)).unwrap();
        assert!(
            !events.is_empty() && events.iter().enumerate().all(|(at, event)| event.seq == at as u64 + 1)
        );
    }

    // The next run cleans up.
    assert_eq!(workspaces(&env).len(), 1);
    env.write(
        ".loom/workflow.yml",
        "version: v1\nstages: [ci]\njob: {stage: ci, target: linux, script: ['true']}\n",
    );
    assert_eq!(env.run(&[]).exit_code, 0);
    assert_eq!(workspaces(&env).len(), 1, "it works where the killed one did");
    assert!(!workspaces(&env)[0].join("started").exists());
    assert!(env.receipts().iter().all(|r| r.extension().is_some_and(|e| e == "json")));
    let receipt: RunReceipt = loom_record::read::document(&env.receipts()[0]).unwrap();
    assert_eq!(receipt.error.as_deref(), Some("interrupted"));
}

#[test]
fn the_next_run_ends_what_a_killed_loom_and_a_killed_guard_left() {
    let env = env_of_steps(&["echo > started; sleep 1000"]);
    let mut child = start(&env);
    let run_id = env.run_dirs()[0].file_name().unwrap().to_string_lossy().into_owned();
    let mut pkill = std::process::Command::new("pkill");
    pkill.args(["-KILL", "-f", &format!("__guard .*{run_id}")]);
    assert!(loom_tests::status(&mut pkill).unwrap().success());
    child.kill().unwrap();
    child.exit();
    assert!(marked(&run_id) >= 1);
    env.write(
        ".loom/workflow.yml",
        "version: v1\nstages: [ci]\njob: {stage: ci, target: linux, script: ['true']}\n",
    );
    assert_eq!(env.run(&[]).exit_code, 0);
    assert_eq!(marked(&run_id), 0);
}

#[test]
fn a_run_that_lives_is_not_cleaned_up_by_another() {
    let env = env_of_steps(&["echo > started; while ! test -e finish; do sleep 0.05; done"]);
    let first = start(&env);
    let second = env.loom(&["run", "--local"]).spawn();
    wait_for("the second run's step", || {
        workspaces(&env).iter().filter(|w| w.join("started").exists()).count() == 2
    });
    for workspace in workspaces(&env) {
        std::fs::write(workspace.join("finish"), "").unwrap();
    }
    let (first, second) = (end(&env, first), end(&env, second));
    assert_eq!((first.exit_code, second.exit_code), (0, 0), "{}{}", first.stderr, second.stderr);
    assert_ne!(first.run.run_id(), second.run.run_id());
}

//! The system gives Loom little: it runs all the same, or says which limit is too low and what to do.

use loom_tests::{RunOutput, TestEnv, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use crate::{env, env_of_steps};

/// Runs in which this much differs: files that are cached and collected, jobs that run at once.
const WORKFLOW: &str = "version: v1\nstages: [s]\njob: {stage: s, target: linux, \
    cache: {key: {files: [lock]}, paths: [c]}, artifacts: {paths: [c]}, \
    script: ['mkdir -p c; echo x > c/x; sleep 0.2'], parallel: {matrix: [{N: [NUMBERS]}]}}\n";

fn jobs(count: usize) -> TestEnv {
    let numbers: Vec<String> = (0..count).map(|number| format!("'{number}'")).collect();
    let env = env(&WORKFLOW.replace("NUMBERS", &numbers.join(", ")));
    env.write("lock", "1");
    env.commit_all();
    env
}

/// How Loom ended under limits that `script` sets: well, or in an error that says what to do. Never otherwise.
fn ends(env: &TestEnv, script: &str, args: &[&str], ordinary: bool) -> (i32, String) {
    let args: Vec<&str> = ["run", "--local"].iter().chain(args).copied().collect();
    let loom = env.loom(&args).after(script);
    let output = if ordinary { loom.by_ordinary_user() } else { loom }.output();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 1)), "{script}: {}: {stderr}", output.status);
    let code = code.unwrap();
    assert!(!stderr.contains("internal error") && !stderr.contains("panicked"), "{script}: {stderr}");
    // A step that could not fork said so itself.
    if code == 1 && !stderr.contains("Cannot fork") {
        assert!(stderr.contains("hint: "), "{script}: {stderr}");
    }
    (code, stderr)
}

#[test]
fn more_jobs_than_open_files_allow_run_one_after_another() {
    let env = jobs(30);
    let (code, stderr) = ends(&env, "ulimit -n 64", &["--jobs", "30"], false);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("warning: 2 of 30 jobs run at once"), "{stderr}");
    for files in [4, 8, 12, 16, 20, 24, 28, 32, 40, 48] {
        ends(&env, &format!("ulimit -n {files}"), &["--job", "job--0"], false);
    }
}

#[test]
fn a_job_has_the_limit_of_open_files_that_loom_was_started_with() {
    let env = jobs(30);
    let workflow = WORKFLOW.replace("NUMBERS", "a").replace("mkdir", "ulimit -S -n; mkdir");
    let more = "job2: {stage: s, target: linux, script: ['ulimit -S -n; ulimit -H -n; echo $0 | tr -d /']}\n";
    env.write(".loom/workflow.yml", &(workflow + more));
    let output =
        env.loom(&["run", "--local", "--jobs", "30"]).after("ulimit -S -n 100; ulimit -H -n 2000").output();
    let run = RunOutput::of(&env, &output);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert!(!run.stderr.contains("at once"), "{}", run.stderr);
    assert_eq!(run.run.output("job--a", "01"), ["100"]);
    assert_eq!(run.run.output("job2", "01"), ["100", "2000", "sh"]);
}

#[test]
fn a_limit_of_file_sizes_is_named() {
    let env = jobs(2);
    let (code, stderr) = ends(&env, "ulimit -f 1", &[], false);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("File too large") && stderr.contains("`ulimit -f`"), "{stderr}");
    for blocks in [2, 4, 8, 16, 32, 64, 128] {
        ends(&env, &format!("ulimit -f {blocks}"), &[], false);
    }
    let check = env.loom(&["check"]).after("ulimit -f 0").output();
    assert_eq!(check.status.code(), Some(1), "{check:?}");
}

#[test]
fn a_limit_of_addresses_is_named() {
    let env = jobs(6);
    let (code, stderr) = ends(&env, "ulimit -v 900000", &[], false);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("of addresses, and Loom needs 1024") && stderr.contains("`ulimit -v`"),
        "{stderr}"
    );
    let (code, stderr) = ends(&env, "ulimit -v 2500000", &["--jobs", "6"], false);
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn a_limit_of_processes_is_named() {
    let env = jobs(4);
    let mut passed = 0;
    for processes in [1, 2, 3, 5, 8, 12, 16, 17, 18, 19, 20, 21, 22, 24, 28, 32, 40, 100] {
        let (code, stderr) =
            ends(&env, &format!("prlimit --pid $$ --nproc={processes}"), &["--jobs", "4"], true);
        if processes < 12 {
            assert!(stderr.contains("threads that Loom needs"), "{stderr}");
        }
        passed = if code == 0 { passed + 1 } else { 0 };
    }
    assert!(passed > 0, "it does not run with 100 processes");
}

#[test]
fn a_signal_that_was_ignored_when_loom_was_started_stays_ignored() {
    let step = "touch $HOME/runs; while [ ! -e $HOME/go ]; do sleep 0.01; done";
    for ignored in [&[Signal::HUP][..], &[Signal::INT, Signal::HUP]] {
        let env = env_of_steps(&[step, "rm $HOME/runs $HOME/go"]);
        let names: Vec<String> = ignored.iter().map(|signal| signal.as_raw().to_string()).collect();
        let mut loom = env.loom(&["run", "--local"]).after(&format!("trap '' {}", names.join(" ")));
        loom.command.env("HOME", env.home());
        let child = loom.spawn();
        wait_for("the step", || env.home().join("runs").exists());
        for signal in ignored {
            kill_process(Pid::from_child(&child), *signal).unwrap();
        }
        std::fs::write(env.home().join("go"), "").unwrap();
        assert_eq!(RunOutput::of(&env, &child.output()).exit_code, 0, "{ignored:?}");
    }
    // The others still cancel it.
    let env = env_of_steps(&[step]);
    let child = env.loom(&["run", "--local"]).after("trap '' HUP INT").spawn();
    wait_for("the step", || env.home().join("runs").exists());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(RunOutput::of(&env, &child.output()).exit_code, 143);
}

#[test]
fn a_command_is_as_long_as_the_system_lets_it_be() {
    const LONGEST: usize = 128 * 1024 - 1;
    let step = |bytes: usize| format!("true {}", "x".repeat(bytes - "true ".len()));
    let run = env_of_steps(&[&step(LONGEST)]).run(&[]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let output = env_of_steps(&[&step(LONGEST + 1)]).loom(&["check"]).output();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("workflow.yml:7:7") && stderr.contains("put the command into a file"),
        "{stderr:.500}"
    );
}

#[test]
fn a_variable_is_as_long_as_the_system_lets_it_be() {
    let with = |bytes: usize| {
        let value = "x".repeat(bytes);
        env(&format!(
            "version: v1\nstages: [s]\njob:\n  stage: s\n  target: linux\n  variables: {{NAME: '{value}'}}\n  script: ['echo ${{#NAME}}']\n"
        ))
    };
    let longest = 128 * 1024 - "NAME=\0".len();
    let run = with(longest).run(&[]);
    assert_eq!(run.exit_code, 0, "{:.500}", run.stderr);
    assert_eq!(run.run.output("job", "01"), [longest.to_string()]);
    let output = with(longest + 1).loom(&["check"]).output();
    assert_eq!(output.status.code(), Some(1));
}

//! Secrets: what a job is given, and that nobody else sees it. (That a planted value is nowhere is also a law that the
//! harness checks after every run.)

mod canary;
mod edges;
mod errors;
mod everywhere;
mod keepass;
mod mask;
mod op;
mod unlock;

use std::path::{Path, PathBuf};

use loom_contract::event::{EventLine, Level};
use loom_contract::status::Status;
use loom_tests::{RunOutput, Running, TestEnv, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use crate::env;

/// A repository with one job `job`: its secrets as lines of YAML, its steps as YAML texts.
fn env_of_job(secrets: &[&str], steps: &[&str]) -> TestEnv {
    env(&workflow(&job("job", secrets, steps)))
}

fn workflow(jobs: &str) -> String {
    format!("version: v1\nstages: [ci, later]\ndefault: {{target: linux}}\n{jobs}")
}

fn job(name: &str, secrets: &[&str], steps: &[&str]) -> String {
    let secrets: String = secrets.iter().map(|line| format!("    {line}\n")).collect();
    let steps: String =
        steps.iter().map(|step| format!("    - {}\n", serde_json::to_string(step).unwrap())).collect();
    let secrets = if secrets.is_empty() { secrets } else { format!("  secrets:\n{secrets}") };
    format!("{name}:\n  stage: ci\n{secrets}  script:\n{steps}")
}

/// What the section `provider` of `job` says at `level`.
fn said(run: &RunOutput, job: &str, level: Level) -> Vec<EventLine> {
    let events = run.run.events(&format!("jobs/{job}/system/provider/events.jsonl"));
    events.into_iter().filter(|event| event.level == Some(level)).collect()
}

fn messages(run: &RunOutput, job: &str, level: Level) -> Vec<String> {
    said(run, job, level).into_iter().filter_map(|event| event.message).collect()
}

/// What the job's first step wrote, as one text.
fn text(run: &RunOutput) -> String {
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    run.run.output("job", "01").join("\n")
}

#[test]
fn a_secret_is_a_file_that_only_its_user_can_read() {
    let env = env_of_job(
        &["KEY: {ref: env://SOURCE}"],
        &["cksum < \"$KEY\"; stat -c %a:%F \"$KEY\" \"${KEY%/*}\"; echo \"$KEY\" > where; cat where"],
    );
    let value = "a value\nof two lines, and a last empty one\n\n";
    env.plant_variable("SOURCE", value);
    let run = env.run(&[]);
    let lines = text(&run);
    let lines: Vec<&str> = lines.lines().collect();
    assert!(lines[0].ends_with(&format!(" {}", value.len())), "byte for byte: {lines:?}");
    assert_eq!(lines[1..3], ["600:regular file", "700:directory"]);
    let path = Path::new(lines[3]);
    assert_eq!(path.file_name().unwrap(), "KEY");
    assert!(!path.exists() && !path.parent().unwrap().exists(), "{} is still there", path.display());
}

#[test]
fn files_of_secrets_are_in_memory_in_the_users_own_folder_or_everybodys() {
    let kind = |run: &RunOutput| {
        let path = run.run.output("job", "01").concat();
        let kind = run.run.output("job", "02").concat();
        (path, kind)
    };
    let env = env_of_job(&["KEY: {ref: env://SOURCE}"], &["echo $KEY", "stat -f -c %T $KEY"]);
    env.plant_variable("SOURCE", "in memory only");
    // What is a disk depends on the machine; the proc file system is no place for anybody's files.
    for (folder, used) in
        [("/dev/shm", true), ("/proc", false), ("/nowhere", false), ("shm", false), ("", false)]
    {
        let run = env.loom(&["run", "--local"]).env("XDG_RUNTIME_DIR", folder).run();
        assert_eq!(run.exit_code, 0, "{}", run.stderr);
        let (path, kind) = kind(&run);
        let base = if used { folder } else { "/dev/shm" };
        assert_eq!(path, format!("{base}/{}-secrets/job/KEY", run.run.run_id()), "XDG_RUNTIME_DIR={folder}");
        assert_eq!(kind, "tmpfs");
    }
    let run = env.run(&[]);
    let (path, kind) = kind(&run);
    assert_eq!(kind, "tmpfs", "{path}");
}

#[test]
fn a_secret_is_the_value_itself_where_it_is_asked_for() {
    let env = env_of_job(
        &["WORD: {ref: env://SOURCE, file: false}", "FILE: {ref: env://SOURCE, file: true}"],
        &["printf %s \"$WORD\" | cksum; cksum < \"$FILE\"; echo \"$WORD\""],
    );
    env.plant_variable("SOURCE", "two words\nand 'a line' with \"quotes\" ");
    let lines = text(&env.run(&[]));
    let (sums, shown) = lines.rsplit_once('\n').unwrap();
    let (one, other) = sums.split_once('\n').unwrap();
    assert_eq!(one, other);
    assert_eq!(shown, "[REDACTED:SECRET_FILE]", "of two names for one value, the first one counts");
}

#[test]
fn files_are_gone_when_their_job_ends_and_not_when_the_run_does() {
    let look = "test ! -e \"$(cat where)\" && test ! -e \"$(dirname $(cat where))\" && echo gone";
    let first = job("first", &["KEY: {ref: env://SOURCE}"], &["echo $KEY > where; cat $KEY"]);
    let second = job("second", &[], &[look]) + "  needs: [first]\n";
    let env = env(&workflow(&(first + &second)));
    env.plant_variable("SOURCE", "for the first job only");
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("second", "01"), ["gone"]);
}

#[test]
fn a_job_has_its_own_secrets_and_no_others() {
    let mine = job("mine", &["A: {ref: env://SOURCE_A, file: false}"], &["echo \"${A-none} ${B-none}\""]);
    let yours = job("yours", &["B: {ref: env://SOURCE_B, file: false}"], &["echo \"${A-none} ${B-none}\""]);
    let nobodys = job("nobodys", &[], &["echo \"${A-none} ${B-none}\""]);
    let env = env(&workflow(&format!("{mine}{yours}{nobodys}")));
    env.plant_variable("SOURCE_A", "value of the first");
    env.plant_variable("SOURCE_B", "value of the second");
    let run = env.run(&["--jobs", "1"]);
    assert_eq!(run.run.output("mine", "01"), ["[REDACTED:SECRET_A] none"]);
    assert_eq!(run.run.output("yours", "01"), ["none [REDACTED:SECRET_B]"]);
    assert_eq!(run.run.output("nobodys", "01"), ["none none"]);
}

#[test]
fn a_secret_wins_over_a_variable_of_the_user() {
    let env = env_of_job(
        &["TOKEN: {ref: env://SOURCE, file: false}", "OTHER: {ref: env://SOURCE}"],
        &["echo \"$TOKEN\"; cat \"$OTHER\""],
    );
    env.plant_variable("SOURCE", "the value that wins");
    let run = env.loom(&["run", "--local"]).env("TOKEN", "of the user").env("OTHER", "of the user").run();
    assert_eq!(text(&run), "[REDACTED:SECRET_OTHER]\n[REDACTED:SECRET_OTHER]");
}

#[test]
fn only_jobs_that_start_ask_for_their_secrets() {
    let fails = job("fails", &[], &["exit 3"]);
    let never = job("never", &["MISSING: {ref: env://NOT_SET}"], &["echo never"]).replace("ci", "later");
    let env = env(&workflow(&(fails + &never)));
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 1);
    assert_eq!(run.run.statuses()["never"], "skipped");
    assert!(!run.stderr.contains("NOT_SET"), "{}", run.stderr);
    let run = env.run(&["--job", "fails"]);
    assert!(!run.stderr.contains("NOT_SET"), "{}", run.stderr);
    assert_eq!(env.loom(&["run", "--local", "--dry-run"]).output().status.code(), Some(0));
}

#[test]
fn each_attempt_asks_anew_and_finds_its_file() {
    let env = env(&workflow(
        "job:
  stage: ci
  retry: {max: 2}
  secrets:
    KEY: {ref: env://SOURCE}
  script:
    - 'echo x >> log; cat \"$KEY\"; rm \"$KEY\"; test $(wc -l < log) = 3'
",
    ));
    env.plant_variable("SOURCE", "for each attempt");
    let run = env.run(&[]);
    assert_eq!(text(&run), "[REDACTED:SECRET_KEY]");
    for attempt in 1..=2 {
        let events = run.run.events(&format!("jobs/job/attempts/{attempt}/system/provider/events.jsonl"));
        let asked = |event: &EventLine| {
            event.message.as_ref().is_some_and(|m| m.starts_with("secrets KEY from `env://`"))
        };
        assert!(events.iter().any(asked), "{events:#?}");
    }
}

#[test]
fn values_that_cannot_be_masked_are_told() {
    let env = env_of_job(
        &["PIN: {ref: env://PIN_SOURCE, file: false}", "EMPTY: {ref: env://EMPTY_SOURCE, file: false}"],
        &["echo \"$PIN ${EMPTY-unset}\""],
    );
    let run = env.loom(&["run", "--local"]).env("PIN_SOURCE", "042").env("EMPTY_SOURCE", "").run();
    assert_eq!(text(&run), "042 ", "a value that everybody has is not hunted");
    let warnings = messages(&run, "job", Level::Warn);
    assert_eq!(warnings, ["the value of the secret `PIN` is too short to be masked in output"]);
    assert!(
        run.stderr.contains("warning: job | the value of the secret `PIN` is too short"),
        "{}",
        run.stderr
    );
}

#[test]
fn values_that_stand_everywhere_hurt_no_document() {
    let env = env_of_job(&["KEY: {ref: env://SOURCE, file: false}"], &["echo \"$KEY\"", "exit 3"]);
    for value in [
        "loom",
        "success",
        "jobs",
        "job.execution",
        "script",
        "events.jsonl",
        "2026",
        "[REDACTED:SECRET_KEY]",
    ] {
        // The path of the tests' own folder is masked where it holds the value, and then leads nowhere.
        if env.repo().to_string_lossy().contains(value) {
            continue;
        }
        // Not planted: it is everywhere. The laws hold all the same.
        let mut loom = env.loom(&["run", "--local", "-v"]);
        loom.command.env("SOURCE", value);
        let run = loom.run();
        assert_eq!(run.exit_code, 1, "{value}: {}", run.stderr);
        assert_eq!(run.run.output("job", "01"), ["[REDACTED:SECRET_KEY]"]);
        assert!(run.run.diagnose().ends_with("script/02/events.jsonl"), "{value}");
        assert!(
            run.stderr.ends_with("loom run: job \"job\" failed (exit code 3)\n"),
            "{value}: {}",
            run.stderr
        );
    }
}

#[test]
fn a_value_that_somebody_wrote_into_the_workflow_is_in_no_document() {
    let value = "value that stands in the file";
    let env = env(&workflow(&format!(
        "job:
  stage: ci
  variables: {{COPY: 'a {value} b'}}
  secrets:
    KEY: {{ref: env://SOURCE, file: false}}
  script:
    - 'echo \"{value}\"'
    - |
      echo '{value}'
      exit 4
after: {{stage: later, script: ['curl -H \"{value}\"']}}
"
    )));
    env.plant_variable("SOURCE", value);
    for args in [&["--stream", "-v"][..], &[]] {
        let run = env.run(args);
        assert_eq!(run.exit_code, 1);
        let commands: Vec<String> = run.run.job("job").steps.into_iter().map(|step| step.command).collect();
        assert_eq!(commands, ["echo \"[REDACTED:SECRET_KEY]\"", "echo '[REDACTED:SECRET_KEY]'\nexit 4"]);
        let graph = serde_json::to_string(run.run.receipt.graph_ir.as_ref().unwrap()).unwrap();
        assert!(graph.contains("\"ref\":\"env://SOURCE\""), "the reference is there: {graph}");
        assert!(graph.contains("a [REDACTED:SECRET_KEY] b") && graph.contains("curl -H"), "{graph}");
    }
}

#[test]
fn tracing_and_values_in_variables_do_not_go_together() {
    let secret = "KEY: {ref: env://SOURCE, file: false, required: REQUIRED}";
    let traced = |required: &str| job("job", &[&secret.replace("REQUIRED", required)], &["echo \"$KEY\""]);
    let env = env(&workflow(&traced("true")));
    env.plant_variable("SOURCE", "not to be traced");
    for (variable, value, traces) in [
        ("LOOM_DEBUG_TRACE", "1", true),
        ("LOOM_DEBUG_TRACE", "true", true),
        ("CI_DEBUG_TRACE", "1", true),
        ("CI_DEBUG_TRACE", "0", false),
        ("LOOM_DEBUG_TRACE", "false", false),
        ("LOOM_DEBUG_TRACE", "", false),
    ] {
        for required in [true, false] {
            env.write(".loom/workflow.yml", &workflow(&traced(&required.to_string())));
            let run = env.loom(&["run", "--local"]).env(variable, value).run();
            assert_eq!(run.exit_code, i32::from(traces), "{variable}={value}: {}", run.stderr);
            if traces {
                errors::is_told(&run, "SECRETS_UNSAFE_DEBUG_TRACE", "KEY", "env", required);
                assert!(run.stderr.contains("hint: unset LOOM_DEBUG_TRACE"), "{}", run.stderr);
            }
        }
    }
    // The workflow itself can ask for it, too.
    env.write(".loom/workflow.yml", &(workflow(&traced("true")) + "variables: {LOOM_DEBUG_TRACE: '1'}\n"));
    assert_eq!(env.run(&[]).exit_code, 1);
}

#[test]
fn files_of_secrets_may_be_traced() {
    let env = env_of_job(&["KEY: {ref: env://SOURCE}"], &["cat \"$KEY\"; : \"$(cat \"$KEY\")\""]);
    env.plant_variable("SOURCE", "a value that a trace shows");
    let run = env.loom(&["run", "--local"]).env("LOOM_DEBUG_TRACE", "1").run();
    let shown = text(&run);
    assert!(shown.contains("+ cat ") && shown.contains("-secrets/job/KEY"), "{shown}");
    assert_eq!(shown.matches("[REDACTED:SECRET_KEY]").count(), 2, "{shown}");
}

/// Starts a run whose job has a secret's file, and waits until it says where: what is found then.
fn start(env: &TestEnv) -> (Running, PathBuf) {
    let child = env.loom(&["run", "--local"]).spawn();
    let mut path = PathBuf::new();
    wait_for("the step to start", || {
        let said = std::fs::read_to_string(env.home().join("where")).unwrap_or_default();
        path = PathBuf::from(said.trim_end());
        said.ends_with('\n')
    });
    assert!(path.exists(), "{}", path.display());
    (child, path)
}

const HOLDS_ITS_FILE: &str = "echo \"$KEY\" > \"$HOME/where\"; sleep 1000";

#[test]
fn a_killed_loom_leaves_no_file_since_its_guard_removes_it() {
    let prints =
        format!("(while :; do cat \"$KEY\"; echo outlives nobody; done) & sleep 0.3; {HOLDS_ITS_FILE}");
    let env = env_of_job(&["KEY: {ref: env://SOURCE}"], &[&prints, "echo outlives nobody"]);
    env.plant_variable("SOURCE", "outlives nobody");
    let (mut child, path) = start(&env);
    child.kill().unwrap();
    child.exit();
    let folder = path.parent().unwrap().parent().unwrap();
    wait_for("the guard to remove the folder", || !folder.exists());
    env.no_secret_is_left();
}

/// The guard of the run `run_id`.
fn guard(run_id: &str) -> Pid {
    let is_guard = |pid: &i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        words.get(1) == Some(&&b"__guard"[..])
            && words.get(2).is_some_and(|ledger| String::from_utf8_lossy(ledger).contains(run_id))
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Pid::from_raw(pids.into_iter().find(is_guard).unwrap()).unwrap()
}

#[test]
fn the_next_run_removes_what_a_killed_loom_and_a_killed_guard_left() {
    let env = env_of_job(&["KEY: {ref: env://SOURCE}"], &[HOLDS_ITS_FILE]);
    env.plant_variable("SOURCE", "outlives nobody for long");
    let (mut child, path) = start(&env);
    let run_id = env.run_dirs()[0].file_name().unwrap().to_str().unwrap().to_owned();
    kill_process(guard(&run_id), Signal::KILL).unwrap();
    child.kill().unwrap();
    child.exit();
    assert!(path.exists());
    env.write(".loom/workflow.yml", &workflow("job: {stage: ci, script: ['true']}\n"));
    assert_eq!(env.run(&[]).exit_code, 0);
    assert!(!path.parent().unwrap().parent().unwrap().exists());
}

#[test]
fn a_cancelled_run_removes_its_files() {
    // Two signals where the first one is not enough; what says that it has arrived is that the step was asked to end.
    let deaf =
        "trap ': > \"$HOME/asked\"' TERM; echo \"$KEY\" > \"$HOME/where\"; while :; do sleep 0.05; done";
    for (signals, script) in [
        (&[Signal::INT][..], HOLDS_ITS_FILE),
        (&[Signal::TERM], HOLDS_ITS_FILE),
        (&[Signal::INT, Signal::INT], deaf),
    ] {
        let env = env_of_job(&["KEY: {ref: env://SOURCE}"], &[script]);
        env.plant_variable("SOURCE", "outlives no signal");
        let (child, path) = start(&env);
        for (number, signal) in signals.iter().enumerate() {
            if number > 0 {
                wait_for("the step to be asked", || env.home().join("asked").exists());
            }
            kill_process(Pid::from_child(&child), *signal).unwrap();
        }
        // The laws see to it that the folder is gone.
        let run = RunOutput::of(&env, &child.output());
        assert!(run.exit_code > 128 && !path.exists());
        assert_eq!(run.run.job("job").status, Status::Cancelled);
    }
}

#[test]
fn what_a_job_does_to_its_files_hurts_nobody() {
    for steps in [
        "rm \"$KEY\"",
        "rm -r \"${KEY%/*}\"",
        "rm -r \"${KEY%/*/*}\"",
        "chmod 0 \"$KEY\" \"${KEY%/*}\"",
        "mkdir \"${KEY%/*}/more\"; cp \"$KEY\" \"${KEY%/*}/more/copy\"",
        "rm -r \"${KEY%/*}\"; ln -s \"$HOME\" \"${KEY%/*}\"",
        "rm -r \"${KEY%/*/*}\"; ln -s \"$HOME\" \"${KEY%/*/*}\"",
        "rm \"$KEY\"; mkfifo \"$KEY\"",
    ] {
        let env = env_of_job(&["KEY: {ref: env://SOURCE}"], &[steps]);
        env.plant_variable("SOURCE", "in the hands of its job");
        std::fs::write(env.home().join("mine"), "").unwrap();
        let run = env.run(&[]);
        assert_eq!(run.exit_code, 0, "{steps}: {}", run.stderr);
        assert!(env.home().join("mine").exists(), "{steps}: what a link leads to stays");
    }
}

#[test]
fn files_that_a_job_has_kept_are_named_where_they_hold_a_value_and_left_out_where_their_name_does() {
    let env = env(&workflow(
        "job:
  stage: ci
  secrets:
    KEY: {ref: env://SOURCE, file: false}
  cache: {key: k, paths: [store/]}
  artifacts: {paths: [out/**]}
  script:
    - 'mkdir store out; echo \"$KEY\" > store/cached; printf %s \"$KEY\" | base64 > out/coded; echo none > out/clean'
    - 'touch \"out/$KEY\" \"store/$KEY\"; ln -s \"$KEY\" out/link'
",
    ));
    env.plant_variable("SOURCE", "kept in a file");
    env.allow_names_in_caches();
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let named = "the name of `store/[REDACTED:SECRET_KEY]` in the cache holds the value of a secret";
    assert!(run.stderr.contains(named), "{}", run.stderr);
    for file in ["`store/cached` in the cache", "artifact `out/coded`"] {
        assert!(
            run.stderr.contains(&format!("{file} holds the value of the secret `KEY`")),
            "{}",
            run.stderr
        );
    }
    let artifacts = run.run.job("job").artifacts.unwrap().paths;
    assert_eq!(artifacts, ["jobs/job/artifacts/out/clean", "jobs/job/artifacts/out/coded"]);
}

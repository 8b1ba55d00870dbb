//! What steps find and what is recorded of them.

use loom_contract::event::{EventType, Stream};
use loom_contract::status::Status;
use loom_contract::summary::StepSummary;

use crate::{env, env_of_steps, run_steps};

#[test]
fn both_streams_are_recorded_apart_and_in_order() {
    let run = run_steps(&["echo one; sleep 0.05; echo two >&2; sleep 0.05; echo three"]);
    let events = run.run.events("jobs/job/user/execution/script/01/events.jsonl");
    let output: Vec<_> = events.iter().filter_map(|e| Some((e.stream?, e.line.as_deref()?))).collect();
    assert_eq!(output, [(Stream::Stdout, "one"), (Stream::Stderr, "two"), (Stream::Stdout, "three")]);
}

#[test]
fn no_shell_state_passes_from_step_to_step_but_files_do() {
    let run = run_steps(&[
        "x=1; cd /; echo kept > \"$LOOM_PROJECT_DIR/file\"",
        "echo \"x=$x $(cat file)\"; test \"$PWD\" = \"$CI_PROJECT_DIR\"",
    ]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("job", "02"), ["x= kept"]);
}

#[test]
fn stdin_is_empty_and_the_workspace_is_not_the_repository() {
    let env = env_of_steps(&["cat; pwd; echo new > made-by-job"]);
    let run = env.run(&[]);
    let pwd = run.run.output("job", "01").concat();
    assert_eq!(run.receipt_snapshot(), pwd);
    assert!(!pwd.starts_with(env.repo().to_str().unwrap()));
    assert!(!env.repo().join("made-by-job").exists());
    assert!(pwd.ends_with("/0"), "{pwd}");
    assert_eq!(env.run(&[]).receipt_snapshot(), pwd, "the next run works at the same place");
}

trait Snapshot {
    fn receipt_snapshot(&self) -> String;
}

impl Snapshot for loom_tests::RunOutput {
    fn receipt_snapshot(&self) -> String {
        self.run.receipt.snapshot_path.clone().unwrap()
    }
}

#[test]
fn variables_are_layered_and_filled_in() {
    let env = env(
        "version: v1
stages: [ci]
variables:
  A: root
  B: root
  C: root
  PATHS: $LOOM_JOB_STAGE/$LOOM_JOB_NAME
default:
  target: linux
  variables:
    B: default
    C: default
.t:
  variables:
    C: template
    D: $C and ${A}
job:
  stage: ci
  extends: .t
  variables:
    E: $D of $PATHS, $$HOME is $OUTER$NOWHERE.
  script:
    - echo \"$A $B $C $D\"
    - echo \"$E\"
    - echo \"$LOOM_CI $CI $LOOM_PROVIDER $LOOM_JOB_TARGET $LOOM_WORKFLOW_PATH ${LOOM_JOB_IMAGE-none}\"
    - 'test \"$LOOM_RUN_ID\" = \"loom-run-local-${LOOM_PIPELINE_ID#loom-local-}\" && test $LOOM_JOB_ID = $CI_JOB_NAME'
",
    );
    let run =
        env.loom(&["run", "--local"]).env("OUTER", "outside").env("LOOM_JOB_IMAGE", "of an outer run").run();
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("job", "01"), ["root default template template and root"]);
    assert_eq!(run.run.output("job", "02"), ["template and root of ci/job, $HOME is outside."]);
    assert_eq!(run.run.output("job", "03"), ["true true host linux .loom/workflow.yml none"]);
    assert!(run.stderr.contains("variable `NOWHERE` is referred to but not set"), "{}", run.stderr);
}

#[test]
fn git_is_told_and_works_in_the_workspace() {
    let env = env_of_steps(&[
        "git status --porcelain",
        "test \"$(git rev-parse HEAD)\" = \"$LOOM_COMMIT_SHA\"",
        "echo $CI_COMMIT_BRANCH $CI_COMMIT_REF_NAME $CI_COMMIT_REF_SLUG ${#CI_COMMIT_SHORT_SHA}",
    ]);
    env.write("tracked", "1");
    env.commit_all();
    env.write("tracked", "2");
    env.write("untracked", "3");
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("job", "01"), [" M tracked", "?? untracked"]);
    assert_eq!(run.run.output("job", "03"), ["main main main 8"]);
    assert_eq!(run.run.receipt.snapshot_head_sha.as_ref().map(String::len), Some(40));
}

#[test]
fn a_multi_line_step_ends_at_its_first_failing_line() {
    let run = run_steps(&["echo before\nfalse\necho after", "echo never"]);
    assert_eq!(run.exit_code, 1);
    assert_eq!(run.run.output("job", "01"), ["before"]);
    let manifest = run.run.job("job");
    assert_eq!(
        manifest.steps.iter().map(|s| s.status).collect::<Vec<_>>(),
        [Status::Failed, Status::Skipped]
    );
    assert_eq!(manifest.failing_step.map(|s| s.number()), Some(1));
    assert!(run.stderr.ends_with("loom run: job \"job\" failed (exit code 1)\n"), "{}", run.stderr);
}

#[test]
fn a_step_of_one_line_ends_at_its_first_failing_command_too() {
    for step in ["false; echo after", "./no-such-linter;\u{20}\necho after"] {
        let run = run_steps(&[step]);
        assert_eq!(run.exit_code, 1, "{step}");
        assert!(!run.run.output("job", "01").contains(&"after".to_owned()), "{step}");
    }
    let run = run_steps(&["false || echo handled; if false; then echo no; fi; echo after"]);
    assert_eq!(run.run.output("job", "01"), ["handled", "after"]);
}

#[test]
fn state_that_no_other_step_sees_is_warned_of() {
    let env = env_of_steps(&["cd dist", "true"]);
    env.write("dist/file", "");
    let warned = |text: &str| {
        let place = ".loom/workflow.yml:7:7: warning: WF_STEP_STATE /job/script/0: join this entry";
        assert!(text.starts_with(place), "{text}");
        assert!(text.contains("or write `cd dist && …`"), "{text}");
    };
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    warned(&run.stderr);
    let check = env.loom(&["check"]).output();
    assert_eq!(check.status.code(), Some(0));
    warned(&String::from_utf8(check.stderr).unwrap());
}

#[test]
fn a_step_that_a_signal_ends_says_so() {
    let run = run_steps(&["kill -SEGV $$"]);
    let summary: StepSummary = run.run.document("jobs/job/user/execution/script/01/summary.json");
    assert_eq!((summary.status, summary.exit_code, summary.signal), (Status::Failed, Some(139), Some(11)));
    assert_eq!(summary.error.map(|e| e.code.into_owned()).as_deref(), Some("STEP_SIGNALLED"));
}

#[test]
fn tracing_shows_each_command() {
    let env = env_of_steps(&["echo traced"]);
    let run = env.loom(&["run", "--local"]).env("LOOM_DEBUG_TRACE", "true").run();
    let mut output = run.run.output("job", "01");
    // The trace goes to stderr: which of two streams was written first cannot be told from outside.
    output.sort();
    assert_eq!(output, ["+ echo traced", "traced"]);
}

#[test]
fn bytes_of_every_kind_are_kept() {
    let run = run_steps(&[
        r#"printf 'a\377b\n\000\033[31m\t\\ "\r\n'"#,
        "printf 'no end'",
        r"printf 'half \303'; sleep 0.05; printf '\244\n'",
        "true",
    ]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("job", "01"), ["a\u{fffd}b", "\0\x1b[31m\t\\ \"\r"]);
    let first = run.run.events("jobs/job/user/execution/script/01/events.jsonl");
    assert_eq!(first.iter().map(|e| e.lossy).collect::<Vec<_>>(), [false, true, false, false]);
    assert_eq!(run.run.output("job", "02"), ["no end"]);
    assert_eq!(run.run.output("job", "03"), ["half ä"]);
    let summary: StepSummary = run.run.document("jobs/job/user/execution/script/02/summary.json");
    assert_eq!((summary.output_lines, summary.output_bytes), (1, 6));
}

#[test]
fn a_very_long_line_is_split_and_nothing_is_lost() {
    let run = run_steps(&["head -c 104857600 /dev/zero | tr '\\0' x; echo; echo after"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let events = run.run.events("jobs/job/user/execution/script/01/events.jsonl");
    let output: Vec<_> = events.iter().filter(|e| e.kind == EventType::Output).collect();
    assert_eq!(output.len(), 1601);
    assert!(output[..1599].iter().all(|e| e.partial && e.line.as_ref().unwrap().len() == 65536));
    assert!(!output[1599].partial && !output[1600].partial);
    let summary: StepSummary = run.run.document("jobs/job/user/execution/script/01/summary.json");
    assert_eq!((summary.output_lines, summary.output_bytes), (2, 104_857_600 + 7));
}

#[test]
fn a_flood_is_recorded_whole() {
    let run = run_steps(&["seq 1 300000; seq 1 300000 >&2"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let lines = run.run.output("job", "01");
    assert_eq!(lines.len(), 600_000);
    assert!(lines.iter().enumerate().all(|(at, line)| line.parse() == Ok(at % 300_000 + 1)));
}

#[test]
fn a_program_that_is_missing_fails_its_step() {
    let run = run_steps(&["no-such-program-anywhere"]);
    assert_eq!(run.exit_code, 1);
    assert!(run.stderr.contains("exit code 127 (command not found)"), "{}", run.stderr);
}

#[test]
fn a_path_without_a_shell_is_a_clear_error() {
    let env = env_of_steps(&["true"]);
    let run = env.loom(&["run", "--local"]).env("PATH", "/nowhere").run();
    assert_eq!(run.exit_code, 1);
    assert!(run.stderr.contains("sh") && run.stderr.contains("PATH"), "{}", run.stderr);
}

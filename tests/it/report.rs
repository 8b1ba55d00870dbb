//! What a run says of jobs that failed: which command, where it is written, its last lines, what its exit code means, whom
//! it keeps from running, and what all of it comes to.

use loom_tests::TestEnv;

use crate::cli::screen;
use crate::env;

const WORKFLOW: &str = r#"version: v1
stages: [test, release]
include:
  - local: .loom/templates/base.yml
default:
  target: linux
unit:
  stage: test
  script:
    - echo fine
    - |
      # A step of several lines.
      printf '10%%\r90%%\r100%%\n'; echo "at $PWD/src/app.js:3:7"
      echo "made $PWD/made.txt" > made.txt; cat made.txt; printf 'no end' >&2
      exit 7
    - echo never
flaky: {stage: test, retry: {max: 2}, script: [exit 9]}
lint: {stage: test, allow_failure: true, script: [echo untidy; exit 3]}
inherits: {stage: test, extends: [.base]}
killed: {stage: test, script: ['kill -9 $$']}
fine: {stage: test, script: ['true']}
waits: {stage: test, needs: [inherits], script: ['true']}
deploy: {stage: release, script: ['true']}
"#;

fn failing() -> TestEnv {
    let env = env(WORKFLOW);
    env.write(".loom/templates/base.yml", "\n.base:\n  script:\n    - no-such-program\n");
    env.write("src/app.js", "");
    env
}

#[test]
fn what_failed_is_said() {
    let env = failing();
    let run = env.run(&["--jobs", "1"]);
    assert_eq!(run.exit_code, 1);
    // Shells name the program in their own words.
    let copy = run.run.receipt.snapshot_path.clone().unwrap();
    let stamp = run.run.run_id().replace("loom-run-local-", "");
    let told: String = run
        .plain_stderr()
        .replace(&copy.replace(&stamp, "[STAMP]"), "[COPY]")
        .lines()
        .map(|line| match line.ends_with("not found") {
            true => "  | [not found]\n".to_owned(),
            false => format!("{line}\n"),
        })
        .collect();
    insta::assert_snapshot!("failures", told);
    // The record keeps what was printed, and knows the line, too.
    assert!(run.run.output("unit", "02").contains(&format!("at {copy}/src/app.js:3:7")));
    let steps = run.run.job("unit").steps;
    let sources: Vec<String> = steps.iter().map(|step| step.source.as_ref().unwrap().to_string()).collect();
    assert_eq!(sources, [".loom/workflow.yml:10", ".loom/workflow.yml:12", ".loom/workflow.yml:16"]);
    let summary: loom_contract::summary::StepSummary =
        run.run.document("jobs/inherits/user/execution/script/01/summary.json");
    assert_eq!(summary.source.unwrap().to_string(), ".loom/templates/base.yml:4");
}

#[test]
fn output_that_was_shown_is_not_shown_again_and_quiet_is_quiet() {
    let env = failing();
    let run = env.run(&["--jobs", "1", "--stream"]);
    assert_eq!(run.stderr.matches("src/app.js:3:7\n").count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("step 2 of 3, .loom/workflow.yml:12\n  $ printf "), "{}", run.stderr);
    // The same from a folder of the repository.
    let mut loom = env.loom(&["run", "--local", "--stream"]);
    loom.command.current_dir(env.repo().join("src"));
    let run = loom.run();
    assert!(run.stderr.contains("step 2 of 3, .loom/workflow.yml:12\n"), "{}", run.stderr);
    assert_eq!(run.run.job("unit").steps[0].source.as_ref().unwrap().file, ".loom/workflow.yml");
    let run = env.run(&["-q"]);
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("receipt: ") && lines[1].ends_with(", and 3 more"), "{lines:?}");
}

#[test]
fn a_narrow_terminal_without_colour_shows_the_same() {
    let env = failing();
    let loom = env.loom(&["run", "--local", "--jobs", "1"]).env("NO_COLOR", "1");
    let (status, shown) = loom.on_terminal_of(40);
    assert_eq!(status.code(), Some(1));
    let raw = String::from_utf8(shown).unwrap();
    assert!(
        !raw.contains('m')
            || !raw.split('\x1b').skip(1).any(|sequence| {
                sequence
                    .find(|c: char| c.is_ascii_alphabetic())
                    .is_some_and(|at| sequence[at..].starts_with('m'))
            })
    );
    let screen = screen(&raw);
    let lines: Vec<&str> =
        screen.iter().map(|line| line.trim_end()).filter(|line| !line.is_empty()).collect();
    let at = lines.iter().position(|line| line.starts_with("failed  unit (")).unwrap();
    assert_eq!(
        lines[at + 1..at + 4],
        ["  step 2 of 3, .loom/workflow.yml:12", "  $ printf '10%%\\r90%%\\r100%%\\n'; echo …", "  | 100%"]
    );
    let mut commands = lines.iter().filter(|line| line.starts_with("  $ "));
    assert!(commands.all(|line| line.chars().count() <= 40), "{lines:?}");
}

#[test]
fn a_run_that_passed_is_added_up_in_a_line() {
    let env = env(
        "version: v1\nstages: [ci]\ndefault: {target: linux}\na: {stage: ci, script: ['true']}\nb: {stage: ci, script: ['true']}\n",
    );
    let run = env.run(&[]);
    assert!(run.plain_stderr().contains("\n2 jobs in [TIME]: 2 passed\nloom run passed\n"), "{}", run.stderr);
}

#[test]
fn secrets_stay_out_of_commands_and_last_lines() {
    let env = env(
        "version: v1\nstages: [ci]\njob:\n  stage: ci\n  target: linux\n  secrets: {TOKEN: {ref: 'env://REPORT_TOKEN', file: false}}\n  script:\n    - test swordfish-4711 = x || echo $TOKEN && exit 1\n",
    );
    env.plant_variable("REPORT_TOKEN", "swordfish-4711");
    let run = env.run(&[]);
    assert!(
        run.stderr.contains("  $ test [REDACTED:SECRET_TOKEN] = x || echo $TOKEN && exit 1\n"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("  | [REDACTED:SECRET_TOKEN]\n"), "{}", run.stderr);
}

#[test]
fn what_is_written_for_bash_gets_a_way_out() {
    let env = env("version: v1\nstages: [s]\ndefault: {target: linux}\n\
         a: {stage: s, script: [\"echo ok\", \"x=(1 2); echo no\"]}\n\
         b: {stage: s, script: [\"make-nothing\"]}\n");
    for flags in [&["--jobs", "1"][..], &["--stream"]] {
        let run = env.run(flags);
        assert_eq!(run.exit_code, 1);
        let told = run.plain_stderr();
        // Where `sh` is bash, there is nothing to say.
        let is_bash = run.run.output("a", "02").contains(&"no".to_owned());
        let hints = told.matches("  hint: `=(` is of bash, and steps run in `sh`: write").count();
        assert_eq!(hints, usize::from(!is_bash), "{told}");
    }
}

//! Every example runs, and does what its README says.

use loom_tests::{RunOutput, TestEnv};

use crate::{LOOM, top};

fn run(example: &str) -> RunOutput {
    let env = TestEnv::of_example(LOOM, &top().join("examples").join(example));
    env.run(&["--jobs", "1"])
}

/// The files of a run, those of unpredictable number left out.
fn tree(run: &RunOutput) -> String {
    let dir = &run.run.dir;
    run.run.files().iter().map(|file| format!("{}\n", file.strip_prefix(dir).unwrap().display())).collect()
}

#[test]
fn hello() {
    let run = run("hello");
    assert_eq!(run.exit_code, 0);
    assert_eq!(run.run.output("run-it", "01"), ["hello from run-it: it works"]);
    insta::assert_snapshot!("hello stderr", run.plain_stderr());
    insta::assert_snapshot!("hello tree", tree(&run));
}

#[test]
fn dag() {
    let env = TestEnv::of_example(LOOM, &top().join("examples/dag"));
    let run = env.run(&["--jobs", "2"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let order: Vec<&str> =
        run.stderr.lines().filter_map(|line| line.strip_prefix("passed  ")?.split(' ').next()).collect();
    assert_eq!(order, ["fetch", "unit", "package", "lint", "report"]);
}

#[test]
fn failing() {
    let run = run("failing");
    assert_eq!(run.exit_code, 1);
    insta::assert_snapshot!("failing stderr", run.plain_stderr());
    let events = loom_record::read::events(&run.run.diagnose()).unwrap();
    let lines: Vec<_> = events.into_iter().filter_map(|event| event.line).collect();
    assert_eq!(lines, ["checking the answer", "assertion failed: 6 * 9 is not 42"]);
    assert_eq!(run.run.statuses().into_values().collect::<Vec<_>>(), ["success", "skipped", "failed"]);
}

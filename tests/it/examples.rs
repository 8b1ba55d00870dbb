//! Every example runs, and does what its README says.

use loom_docker_testimage::{self as testimage, SOCKET};
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

#[test]
fn secrets() {
    let folder = top().join("examples/secrets");
    let env = TestEnv::of_example(LOOM, &folder);
    // The command that the README shows.
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let line = readme.lines().find(|line| line.contains("loom run --local")).unwrap();
    let (variable, args) = line.split_once(" loom ").unwrap();
    let (name, password) = variable.split_once('=').unwrap();
    env.plant("what is in the vault", "demo-token-8c1f");
    env.plant("what is in the vault", "bm90IGEga2V5LCBqdXN0IGFuIGV4YW1wbGUgb2Ygb25l");
    env.plant_variable(name, password);
    // In the repository the password is published; what a run leaves has none.
    let args: Vec<&str> = args.split(' ').collect();
    let run = env.loom(&args).run();
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    insta::assert_snapshot!("secrets stderr", run.plain_stderr());
    let run = env.loom(&args).env("DEMO_CHAT_TOKEN", "a token that is there").run();
    assert_eq!(run.run.output("deploy", "04"), ["[REDACTED:SECRET_CHAT_TOKEN]"]);
}

#[test]
fn docker() {
    let Some(image) = crate::docker::busybox() else { return };
    // No registry is asked: where the daemon has not what the example builds on, it gets the tests' own image by that name.
    let base = "busybox:1.36";
    let request = |method, path: &str| testimage::request(SOCKET, method, path, b"").unwrap().0;
    let lent = request("GET", &format!("/images/{base}/json")) == 404;
    if lent {
        assert_eq!(request("POST", &format!("/images/{image}/tag?repo=busybox&tag=1.36")), 201);
    }
    let run = run("docker");
    if lent {
        request("DELETE", &format!("/images/{base}"));
    }
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("greet", "01"), ["hello, greet"]);
    assert_eq!(run.run.output("again", "01"), ["hello, greet"]);
    assert_eq!(run.run.output("again", "02"), ["hello, again"]);
}

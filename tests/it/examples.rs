//! Every example runs, and does what its README says.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// The arguments of the command that the README shows, whose variable `env` gives to every `loom` from now on. In the
/// repository its value is published; what a run leaves has none.
fn command_of_readme(env: &TestEnv, folder: &Path) -> String {
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let line = readme.lines().find(|line| line.contains("loom run --local")).unwrap();
    let (variable, args) = line.split_once(" loom ").unwrap();
    let (name, password) = variable.split_once('=').unwrap();
    env.plant_variable(name, password);
    args.to_owned()
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
    env.plant("what is in the vault", "demo-token-8c1f");
    env.plant("what is in the vault", "bm90IGEga2V5LCBqdXN0IGFuIGV4YW1wbGUgb2Ygb25l");
    let command = command_of_readme(&env, &folder);
    let args: Vec<&str> = command.split(' ').collect();
    let run = env.loom(&args).run();
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    insta::assert_snapshot!("secrets stderr", run.plain_stderr());
    let run = env.loom(&args).env("DEMO_CHAT_TOKEN", "a token that is there").run();
    assert_eq!(run.run.output("deploy", "04"), ["[REDACTED:SECRET_CHAT_TOKEN]"]);
}

/// What examples name by the names of a registry, the daemon gets from the tests, and loses afterwards: no registry is
/// asked. What it has already is taken as it is.
struct Lent {
    images: Vec<String>,
    /// One test at a time lends.
    _turn: MutexGuard<'static, ()>,
}

fn lend(images: &[(&str, &str)]) -> Lent {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut lent = Lent { images: Vec::new(), _turn: turn };
    for (image, wanted) in images {
        let (repo, tag) = wanted.split_once(':').unwrap();
        if ask("GET", &format!("/images/{wanted}/json")) == 404 {
            assert_eq!(ask("POST", &format!("/images/{image}/tag?repo={repo}&tag={tag}")), 201);
            lent.images.push((*wanted).to_owned());
        }
    }
    lent
}

fn ask(method: &str, path: &str) -> u16 {
    testimage::request(SOCKET, method, path, b"").unwrap().0
}

impl Drop for Lent {
    fn drop(&mut self) {
        for image in &self.images {
            ask("DELETE", &format!("/images/{image}"));
        }
    }
}

#[test]
fn docker() {
    let Some(image) = crate::docker::busybox() else { return };
    let _lent = lend(&[(&image, "busybox:1.36")]);
    let run = run("docker");
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("greet", "01"), ["hello, greet"]);
    assert_eq!(run.run.output("again", "01"), ["hello, greet"]);
    assert_eq!(run.run.output("again", "02"), ["hello, again"]);
}

#[test]
fn services() {
    let Some(image) = crate::docker::busybox() else { return };
    let postgres = match testimage::postgres() {
        Ok(postgres) => postgres,
        Err(why) => {
            assert!(std::env::var_os("LOOM_TESTS_NEED_POSTGRES").is_none(), "{why}");
            eprintln!("skipped, since there is no image of PostgreSQL to test with: {why}");
            return;
        }
    };
    let _lent = lend(&[(&image, "busybox:1.36"), (&postgres, "postgres:16")]);
    let folder = top().join("examples/services");
    let env = TestEnv::of_example(LOOM, &folder);
    env.plant("what is in the vault", "only-for-the-test-database");
    let command = command_of_readme(&env, &folder);
    let args: Vec<&str> = command.split(' ').collect();
    let run = crate::docker::passed(env.loom(&args).run());
    assert_eq!(run.run.output("build-image", "01"), ["built by loom"]);
    assert!(run.run.output("test-services", "02").contains(&"(1 row)".to_owned()));
    assert_eq!(run.run.output("check", "01"), ["check: nothing to complain about"]);
    let mut said = run.run.events("jobs/test-services/system/services/events.jsonl");
    said.extend(run.run.events("jobs/test-services/system/services/output.jsonl"));
    let ready = "postgres | ";
    assert!(said.iter().filter_map(|event| event.line.as_deref()).any(|line| line.starts_with(ready)));

    // Where the password is another one than the server's, it is refused.
    let workflow = std::fs::read_to_string(folder.join(".loom/workflow.yml")).unwrap();
    env.write(
        ".loom/workflow.yml",
        &workflow.replace("PGPASSWORD=\"$POSTGRES_PASSWORD\"", "PGPASSWORD=wrong"),
    );
    let run = crate::docker::clean(env.loom(&args).run());
    assert_eq!(run.exit_code, 1);
    assert!(run.stderr.contains("password authentication failed"), "{}", run.stderr);
}

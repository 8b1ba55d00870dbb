use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use loom_contract::event::Level;
use loom_engine::cancel::Urgency;
use loom_engine::port::Provider as _;
use loom_plugin_bundle::{HOST, guests};
use loom_plugin_host::{PluginConfig, Runtime};

use crate::support::{Job, MISBEHAVING, appeared, config, marked, with_path};

#[tokio::test]
async fn a_program_that_is_not_granted_is_denied() {
    let mut job = Job::new().await;
    for (order, asked) in [
        ("spawn id", "id"),
        ("spawn sh -x -c true", "sh -x -c true"),
        ("spawn /bin/sh -c true", "/bin/sh -c true"),
        ("spawn ./sh -c true", "./sh -c true"),
        // What a program takes for an option, the pattern has to name.
        ("spawn git show --output=/dev/shm/broken-out", "git show --output=/dev/shm/broken-out"),
        ("spawn sh -c -x", "sh -c -x"),
        ("spawn granted-tool a -x", "granted-tool a -x"),
    ] {
        let error = job.failure(order).await;
        assert_eq!(error.code, "PLUGIN_DENIED");
        assert_eq!(error.message, format!("the plugin `misbehaving` may not start `{asked}`"));
        let hint = error.hint.unwrap();
        assert!(
            hint.starts_with("its manifest grants under `capabilities.exec`: `sh -c *`, `git show *`"),
            "{hint}"
        );
    }
    // An error, not a trap: the plugin goes on.
    assert_eq!(job.exit_code("spawn sh -c true").await, 0);
}

#[tokio::test]
async fn variables_that_are_not_granted_are_denied() {
    let mut job = Job::new().await;
    let deciding = ["PATH", "LD_PRELOAD", "LOOM_PROCESS_OF", "BASH_ENV", "ENV", "GIT_CONFIG_COUNT"];
    for name in deciding.into_iter().chain(["mine", "MINE2", "", "A=B", "A\0B"]) {
        let error = job.failure(&format!("set-env {name}")).await;
        assert_eq!(error.code, "PLUGIN_DENIED");
        let name = name.escape_debug();
        assert_eq!(error.message, format!("the plugin `misbehaving` may not set `{name}` for a process"));
        assert_eq!(error.hint.as_deref(), Some("its manifest grants as `env` of this program: `MINE`"));
    }
    assert_eq!(job.exit_code("set-env MINE").await, 0);
}

/// Puts a program into the job's workspace.
fn plant(job: &Job, name: &str) {
    let file = job.workspace.path().join(name);
    fs_err::write(&file, format!("#!/bin/sh\necho planted {name}\n")).unwrap();
    fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn the_jobs_path_and_workspace_decide_on_no_program_but_for_its_scripts() {
    let mut job = Job::new().await;
    for name in ["sh", "git", "granted-tool", "tool"] {
        plant(&job, name);
    }
    // The shell is the machine's, and finds what the job's own `PATH` leads to.
    assert_eq!(job.exit_code("run tool; sh; git").await, 0);
    assert_eq!(job.output(), "planted tool\nplanted sh\nplanted git\n");
    let error = job.failure("spawn granted-tool a").await;
    assert_eq!(error.code, "SPAWN_FAILED");
    assert_eq!(
        error.message,
        "cannot start `granted-tool`: not found in the PATH of Loom (`/usr/local/bin:/usr/bin:/bin`)"
    );
    // Without the job's environment, its `PATH` is Loom's too.
    assert_eq!(job.exit_code("bare-env echo $PATH; command -v tool || echo none").await, 0);
    assert_eq!(job.output(), "/usr/local/bin:/usr/bin:/bin\nnone\n");
}

#[tokio::test]
async fn a_file_of_the_workspace_is_no_program_wherever_it_was_found() {
    let bin = tempfile::tempdir().unwrap();
    let runtime = Runtime::new(None).unwrap();
    let path = format!("{}:.", bin.path().display());
    let link = bin.path().join("granted-tool");
    fs_err::os::unix::fs::symlink("/bin/true", &link).unwrap();
    let load = || runtime.load_provider(guests::MISBEHAVING, with_path(&path)).unwrap();
    let mut job = Job::with(&load(), &[]).await;
    assert_eq!(job.exit_code("spawn granted-tool a").await, 0);
    // What was found when the plugin was loaded is started, not what has taken its place since.
    fs_err::remove_file(&link).unwrap();
    assert_eq!(job.exit_code("spawn granted-tool a").await, 0);
    assert_eq!(job.failure("spawn sh -c true").await.code, "SPAWN_FAILED");

    plant(&job, "granted-tool");
    fs_err::os::unix::fs::symlink(job.workspace.path().join("granted-tool"), &link).unwrap();
    let again = load();
    job.provider = again.open(Arc::clone(&job.fake.context)).await.unwrap();
    let error = job.failure("spawn granted-tool a").await;
    assert!(error.message.ends_with("what is found is a file of the workspace"), "{error}");
    let repository = Some(job.workspace.path().to_owned());
    let config = PluginConfig { repository, ..with_path(&path) };
    let again = runtime.load_provider(guests::MISBEHAVING, config).unwrap();
    job.provider = again.open(Arc::clone(&job.fake.context)).await.unwrap();
    let error = job.failure("spawn granted-tool a").await;
    assert!(error.message.contains("not found in the PATH of Loom"), "{error}");
}

#[tokio::test]
async fn the_jobs_environment_is_a_capability_of_its_own() {
    let granted = b"\njob_env = true\n";
    let at = HOST.windows(granted.len()).position(|part| part == granted).unwrap();
    let mut without = HOST.to_vec();
    without[at + 1] = b'#';
    let host = Runtime::new(None).unwrap().load_provider(&without, config()).unwrap();
    let mut job = Job::with(&host, &[]).await;
    let error = job.failure("true").await;
    assert_eq!(error.code, "PLUGIN_DENIED");
    assert_eq!(
        error.message,
        "the plugin `host` may not start anything with the job's environment, secrets included"
    );
    assert!(error.hint.unwrap().contains("job_env = true"));
}

#[tokio::test]
async fn what_cannot_be_an_argument_is_an_error() {
    let mut job = Job::new().await;
    assert_eq!(job.failure("run echo \0").await.code, "SPAWN_FAILED");
}

#[tokio::test]
async fn a_process_has_the_jobs_environment_only_when_asked() {
    let mut job = Job::new().await;
    job.exit_code("run echo $TOKEN $MINE").await;
    assert_eq!(job.output(), "hunter2\n");
    job.exit_code("bare-env echo ${TOKEN-none} $MINE ${PATH:+path} ${LOOM_PROCESS_OF:+mark}").await;
    assert_eq!(job.output(), "none 1 path mark\n");
}

#[tokio::test]
async fn a_process_starts_in_the_workspace_and_not_outside() {
    let mut job = Job::new().await;
    let workspace = job.workspace.path().canonicalize().unwrap();
    fs_err::create_dir(workspace.join("sub")).unwrap();
    job.exit_code("run pwd -P").await;
    assert_eq!(job.output(), format!("{}\n", workspace.display()));
    job.exit_code("cwd sub").await;
    assert_eq!(job.output(), format!("{}/sub\n", workspace.display()));
    assert_eq!(job.failure("cwd ..").await.code, "PLUGIN_DENIED");
    assert_eq!(job.failure("cwd /").await.code, "PLUGIN_DENIED");
    let error = job.failure("cwd absent").await;
    assert_eq!(error.code, "PATH_NOT_FOUND");
    assert!(error.message.starts_with("`absent`: No such file"), "{error}");
}

#[tokio::test]
async fn what_a_trapped_plugin_left_running_is_ended() {
    let mut job = Job::new().await;
    let error = job
        .failure("run-then-trap sleep 1000 >/dev/null 2>&1 & setsid sleep 2000 >/dev/null 2>&1 & sleep 0.3")
        .await;
    assert_eq!(error.code, "PLUGIN_TRAPPED");
    job.cleanup().await.unwrap();
    let mut left: Vec<_> = job.fake.sweep().into_iter().map(|p| p.command).collect();
    left.sort();
    assert_eq!(left, ["sleep 1000", "sleep 2000"]);
    assert!(job.fake.sweep().is_empty());
}

#[tokio::test]
async fn what_a_plugin_did_not_wait_for_ends_with_the_job() {
    for order in ["leave-running 3", "then leave-running 3 | trap", "then leave-running 3 | loop"] {
        let mut job = Job::new().await;
        let _ = job.step(order).await;
        wait_for_marked(&job.mark(), 3).await;
        assert_eq!(job.end().await.len(), 3, "{order}");
        assert_eq!(job.fake.context.processes.running(), 0, "{order}");
    }
}

#[tokio::test]
async fn what_a_plugin_started_in_preparing_or_cleaning_up_ends_with_the_job() {
    let mut job =
        Job::with(&MISBEHAVING, &[("PREPARE", "leave-running 1"), ("CLEANUP", "leave-running 2")]).await;
    job.provider.prepare().await.unwrap();
    assert_eq!(job.end().await.len(), 3);
}

#[tokio::test]
async fn what_a_cancelled_call_left_running_is_ended() {
    for urgency in [Urgency::Ask, Urgency::Kill] {
        let mut job = Job::new().await;
        let dropped =
            tokio::time::timeout(Duration::from_millis(300), job.step("then leave-running 2 | sleep 60000"));
        assert!(dropped.await.is_err());
        job.fake.canceller.raise(urgency, None);
        assert_eq!(job.end().await.len(), 2);
    }
}

#[tokio::test]
async fn what_is_left_of_a_job_that_nobody_swept_is_killed() {
    let mut job = Job::new().await;
    job.exit_code("leave-running 2").await;
    let mark = job.mark();
    wait_for_marked(&mark, 2).await;
    drop(job);
    wait_for_marked(&mark, 0).await;
}

/// Waits until `count` processes have the mark: one that has just been started has no environment yet.
async fn wait_for_marked(mark: &str, count: usize) {
    let settled = async {
        while marked(mark) != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(loom_deadlines::PATIENCE, settled).await.unwrap();
}

#[tokio::test]
async fn processes_are_bounded() {
    let mut job = Job::new().await;
    let error = job.failure("leave-running 2000").await;
    assert!(error.message.contains("started more than 100 processes that run at once"), "{error}");
    assert_eq!(error.code, "PLUGIN_FLOODED");
    assert_eq!(job.end().await.len(), 30, "the first ones are named");
}

#[tokio::test]
async fn output_that_is_held_open_is_told_once() {
    let mut job = Job::new().await;
    assert_eq!(job.exit_code("run sleep 1000 & echo up").await, 0);
    let messages = job.messages();
    let [(_, message)] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(message.level, Level::Warn);
    let data = message.data.as_ref().unwrap();
    assert_eq!(data["code"], "output_detached");
    assert_eq!(data["program"], "sh");
    assert!(data["pid"].as_u64().unwrap() > 1);
    assert!(message.message.contains("still holds its output open"), "{}", message.message);
    job.fake.sweep();
}

#[tokio::test]
async fn a_process_ends_when_the_run_is_cancelled() {
    let mut job = Job::new().await;
    let canceller = job.fake.canceller.clone();
    let ready = job.workspace.path().join("ready");
    let (end, ()) = tokio::join!(job.step("run >ready; exec sleep 1000"), async {
        appeared(&ready).await;
        canceller.raise(Urgency::Ask, None);
    });
    assert_eq!(end.unwrap().signal, Some(15));
}

#[tokio::test]
async fn a_plugin_can_stop_its_process() {
    let mut job = Job::new().await;
    assert_eq!(job.step("stop >ready; exec sleep 1000").await.unwrap().signal, Some(15));
    fs_err::remove_file(job.workspace.path().join("ready")).unwrap();
    assert_eq!(
        job.step("stop trap '' TERM; >ready; while :; do sleep 0.05; done").await.unwrap().signal,
        Some(9)
    );
    job.fake.sweep();
}

#[tokio::test]
async fn the_host_shell_runs_a_step_as_documented() {
    let host = Runtime::new(None).unwrap().load_provider(HOST, config()).unwrap();
    let mut job = Job::with(&host, &[]).await;
    job.provider.prepare().await.unwrap();
    // The first command to fail ends a step, on one line and on several.
    assert_eq!(job.exit_code("echo \"$TOKEN\"; false; echo on").await, 1);
    assert_eq!(job.output(), "hunter2\n");
    assert_eq!(job.exit_code("echo one\nfalse\necho two").await, 1);
    assert_eq!(job.output(), "one\n");
    assert_eq!(job.exit_code("exit 42").await, 42);
    // What looks like an option is a command.
    assert_eq!(job.exit_code("-x").await, 127);
    assert_eq!(job.step("kill -TERM $$").await.unwrap().signal, Some(15));
    // No state passes between steps, and nothing can be read.
    assert_eq!(job.exit_code("cd /; X=1").await, 0);
    job.output();
    assert_eq!(job.exit_code("echo \"${X-unset}\"; cat; pwd -P").await, 0);
    assert_eq!(job.output(), format!("unset\n{}\n", job.workspace.path().canonicalize().unwrap().display()));
    job.cleanup().await.unwrap();
}

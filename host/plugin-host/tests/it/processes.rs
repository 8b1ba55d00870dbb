use std::time::Duration;

use loom_contract::event::Level;
use loom_engine::cancel::Urgency;
use loom_plugin_bundle::HOST;
use loom_plugin_host::{PluginConfig, Runtime};

use crate::support::{Job, MISBEHAVING, appeared, marked};

#[tokio::test]
async fn a_program_that_is_not_granted_is_denied() {
    let mut job = Job::new().await;
    for (order, asked) in [
        ("spawn id", "id"),
        ("spawn sh -x -c true", "sh -x -c true"),
        ("spawn /bin/sh -c true", "/bin/sh -c true"),
    ] {
        let error = job.failure(order).await;
        assert_eq!(error.code, "PLUGIN_DENIED");
        assert_eq!(error.message, format!("the plugin `misbehaving` may not start `{asked}`"));
        assert_eq!(error.hint.as_deref(), Some("its manifest grants under `capabilities.exec`: `sh -c *`"));
    }
    // An error, not a trap: the plugin goes on.
    assert_eq!(job.exit_code("spawn sh -c true").await, 0);
}

#[tokio::test]
async fn variables_that_decide_which_code_runs_are_denied() {
    let mut job = Job::new().await;
    for name in ["PATH", "LD_PRELOAD", "LOOM_PROCESS_OF"] {
        let error = job.failure(&format!("set-env {name}")).await;
        assert_eq!(error.code, "PLUGIN_DENIED");
        assert_eq!(error.message, format!("the plugin `misbehaving` may not set `{name}` for a process"));
    }
}

#[tokio::test]
async fn what_cannot_be_a_variable_or_an_argument_is_an_error() {
    let mut job = Job::new().await;
    for name in ["", "A=B", "A\0B"] {
        assert_eq!(job.failure(&format!("set-env {name}")).await.code, "VARIABLE_NAME", "{name:?}");
    }
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
        assert_eq!(marked(&job.mark()), 3, "{order}");
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
    assert_eq!(marked(&mark), 2);
    drop(job);
    let gone = async {
        while marked(&mark) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(loom_deadlines::PATIENCE, gone).await.unwrap();
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
    let host = Runtime::new(None).unwrap().load_provider(HOST, PluginConfig::default()).unwrap();
    let mut job = Job::with(&host, &[]).await;
    job.provider.prepare().await.unwrap();
    // The first command to fail ends a step, on one line and on several.
    assert_eq!(job.exit_code("echo \"$TOKEN\"; false; echo on").await, 1);
    assert_eq!(job.output(), "hunter2\n");
    assert_eq!(job.exit_code("echo one\nfalse\necho two").await, 1);
    assert_eq!(job.output(), "one\n");
    assert_eq!(job.exit_code("exit 42").await, 42);
    assert_eq!(job.step("kill -TERM $$").await.unwrap().signal, Some(15));
    // No state passes between steps, and nothing can be read.
    assert_eq!(job.exit_code("cd /; X=1").await, 0);
    job.output();
    assert_eq!(job.exit_code("echo \"${X-unset}\"; cat; pwd -P").await, 0);
    assert_eq!(job.output(), format!("unset\n{}\n", job.workspace.path().canonicalize().unwrap().display()));
    job.cleanup().await.unwrap();
}

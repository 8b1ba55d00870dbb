use loom_contract::event::{Level, Phase};
use loom_contract::id::StepIndex;
use loom_contract::section::Section;
use loom_engine::port::CleanupReason;
use serde_json::json;

use crate::support::{Job, MISBEHAVING};

#[tokio::test]
async fn errors_of_a_plugin_keep_their_words() {
    let mut job = Job::new().await;
    let error = job.failure("fail MACHINE.ASLEEP").await;
    assert_eq!(error.code, "MACHINE.ASLEEP");
    assert_eq!(error.message, "the machine is asleep");
    assert_eq!(error.hint.as_deref(), Some("wake it"));
    let error = job.failure("fail-io").await;
    assert_eq!((&*error.code, &*error.message), ("FAILED", "the disk is on fire"));
}

#[tokio::test]
async fn a_plugin_cannot_give_codes_of_the_host_or_of_no_kind() {
    let mut job = Job::new().await;
    for code in ["PLUGIN_TRAPPED", "", "with space", "ünder", &"X".repeat(65)] {
        assert_eq!(job.failure(&format!("fail {code}")).await.code, "FAILED", "{code}");
    }
    assert_eq!(job.failure("fail PLUGIN_DENIED").await.code, "PLUGIN_DENIED");
}

#[tokio::test]
async fn exit_codes_and_signals_arrive() {
    let mut job = Job::new().await;
    assert_eq!(job.exit_code("exit 7").await, 7);
    let end = job.step("run kill -9 $$").await.unwrap();
    assert_eq!((end.exit_code, end.signal), (137, Some(9)));
    for impossible in ["256", "-1"] {
        let error = job.failure(&format!("exit {impossible}")).await;
        assert_eq!(error.code, "PLUGIN_INCOMPATIBLE", "{error}");
    }
}

#[tokio::test]
async fn messages_go_to_the_call_that_runs() {
    let mut job =
        Job::with(&MISBEHAVING, &[("PREPARE", "message warming up"), ("CLEANUP", "message wiping")]).await;
    job.provider.prepare().await.unwrap();
    job.exit_code("message at work").await;
    job.provider.cleanup(CleanupReason::Done).await.unwrap();
    let id = job.fake.context.id.clone();
    let messages = job.messages();
    let told: Vec<_> = messages.iter().map(|(phase, m)| (phase.clone(), m.message.as_str())).collect();
    assert_eq!(
        told,
        [
            (Phase::Section(id.clone(), Section::Provider), "warming up"),
            (Phase::Step(id.clone(), StepIndex::at(0)), "at work"),
            (Phase::Section(id.clone(), Section::Cleanup), "cleaned up: Done"),
            (Phase::Section(id, Section::Cleanup), "wiping"),
        ]
    );
    assert_eq!(messages[0].1.level, Level::Warn);
    let data = serde_json::Value::Object(messages[0].1.data.clone().unwrap());
    assert_eq!(data, json!({ "n": 7, "f": 0.5, "t": "x", "b": true }));
}

#[tokio::test]
async fn a_plugin_sees_its_job() {
    let mut job = Job::with(&MISBEHAVING, &[("A", "1"), ("B", "ü 2")]).await;
    job.exit_code("job").await;
    let expected = format!(
        "{} test None [(\"A\", \"1\"), (\"B\", \"ü 2\")] false {}",
        job.fake.context.id,
        job.workspace.path().display()
    );
    assert_eq!(job.said(), [expected]);
}

#[tokio::test]
async fn a_plugin_sees_what_is_in_the_workspace_and_nothing_else() {
    let mut job = Job::new().await;
    fs_err::write(job.workspace.path().join("here"), "").unwrap();
    assert_eq!(job.exit_code("has here").await, 1);
    assert_eq!(job.exit_code("has there").await, 0);
    let error = job.failure("has ../x").await;
    assert_eq!(error.code, "PLUGIN_DENIED");
    assert_eq!(error.message, "`../x` leads out of the workspace");
}

#[tokio::test]
async fn state_is_bounded() {
    let mut job = Job::new().await;
    assert_eq!(job.exit_code("state-fill 1000000").await, 0);
    assert_eq!(job.exit_code("state-fill 1000001").await, 0);
    let error = job.failure("state-fill 1048577").await;
    assert_eq!(error.code, "STATE_TOO_LARGE");
}

#[tokio::test]
async fn a_plugin_writes_lines_into_its_step() {
    let mut job = Job::new().await;
    job.exit_code("line drei Zeilen").await;
    assert_eq!(job.output(), "drei Zeilen\n");
}

#[tokio::test]
async fn a_sink_ends_with_its_step() {
    let mut job = Job::new().await;
    assert_eq!(job.exit_code("keep-sink").await, 0);
    for order in ["kept-line late", "kept-run echo late"] {
        let error = job.failure(order).await;
        assert_eq!(error.code, "SINK_CLOSED", "{order}: {error}");
    }
    // Also where a command got it in time, and is started later.
    assert_eq!(job.exit_code("keep-command echo late").await, 0);
    let error = job.failure("kept-command").await;
    assert_eq!(error.code, "SINK_CLOSED", "{error}");
    assert_eq!(job.output(), "");
}

#[tokio::test]
async fn randomness_works_and_prints_are_no_error() {
    let mut job = Job::new().await;
    assert_eq!(job.exit_code("big-random").await, 0);
    assert_eq!(job.exit_code("print hello").await, 0);
    assert_eq!(job.exit_code("log hello").await, 0);
    assert_eq!(job.output(), "");
}

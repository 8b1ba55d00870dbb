use std::time::{Duration, Instant};

use loom_contract::error::ErrorInfo;
use loom_engine::cancel::Urgency;

use crate::support::{Job, MISBEHAVING, appeared};

/// What every error about the guest itself begins with.
fn named(error: &ErrorInfo, code: &str) {
    let digest = blake3::hash(loom_plugin_bundle::guests::MISBEHAVING).to_string();
    let plugin = format!("plugin `misbehaving` 1.2.3 ({}) ", &digest[..12]);
    assert_eq!(error.code, code, "{error}");
    assert!(error.message.starts_with(&plugin), "{error}");
}

#[tokio::test]
async fn a_loop_without_end_is_stopped() {
    let mut job = Job::new().await;
    let error = job.failure("loop").await;
    named(&error, "PLUGIN_TIMEOUT");
    assert!(
        error.message.ends_with("was stopped: it used more than 300 ms of CPU time in one call"),
        "{error}"
    );
    assert!(error.hint.unwrap().contains("limits.cpu_ms"));
    job.cleanup().await.unwrap();
}

#[tokio::test]
async fn a_busy_guest_lets_others_run() {
    // One thread for both.
    let mut job = Job::new().await;
    let mut others = 0;
    let busy = job.failure("loop");
    tokio::pin!(busy);
    loop {
        tokio::select! {
            biased;
            error = &mut busy => {
                assert_eq!(error.code, "PLUGIN_TIMEOUT");
                break;
            }
            () = tokio::time::sleep(Duration::from_millis(1)) => others += 1,
        }
    }
    assert!(others >= 3, "{others}");
}

#[tokio::test]
async fn waiting_costs_no_cpu_time() {
    let mut job = Job::new().await;
    let started = Instant::now();
    assert_eq!(job.exit_code("sleep 700").await, 0);
    assert_eq!(job.exit_code("run sleep 0.7").await, 0);
    // Each longer than a tick, all together longer than the budget.
    assert_eq!(job.exit_code("naps 60").await, 0);
    assert!(started.elapsed() > Duration::from_millis(2000));
}

#[tokio::test]
async fn each_call_has_its_own_budget() {
    let mut job = Job::new().await;
    for _ in 0..4 {
        assert_eq!(job.exit_code("busy 150").await, 0);
    }
}

#[tokio::test]
async fn a_trap_is_told_with_its_cause() {
    let mut job = Job::new().await;
    let error = job.failure("trap").await;
    named(&error, "PLUGIN_TRAPPED");
    assert!(error.message.ends_with("trapped: wasm `unreachable` instruction executed"), "{error}");
}

#[tokio::test]
async fn the_text_of_a_panic_arrives() {
    let mut job = Job::new().await;
    let error = job.failure("panic the reactor is\nöffen").await;
    named(&error, "PLUGIN_TRAPPED");
    assert!(error.message.contains("the reactor is\nöffen"), "{error}");
    assert!(error.message.contains("misbehaving/src/lib.rs:"), "{error}");
    assert!(!error.message.contains("RUST_BACKTRACE"), "{error}");
}

#[tokio::test]
async fn only_the_end_of_what_was_printed_is_kept() {
    let mut job = Job::new().await;
    let error = job.failure(&format!("panic {}END", "x".repeat(100_000))).await;
    assert!(error.message.ends_with("xEND"), "{error}");
    assert!(error.message.len() < 5000, "{}", error.message.len());
}

#[tokio::test]
async fn a_stack_overflow_is_a_trap() {
    let mut job = Job::new().await;
    let error = job.failure("overflow").await;
    named(&error, "PLUGIN_TRAPPED");
}

#[tokio::test]
async fn leaving_is_a_trap() {
    let mut job = Job::new().await;
    let error = job.failure("leave 0").await;
    named(&error, "PLUGIN_TRAPPED");
    assert!(error.message.contains("called `exit("), "{error}");
}

#[tokio::test]
async fn memory_is_bounded() {
    let mut job = Job::new().await;
    assert_eq!(job.exit_code("hold-mib 20").await, 0);
    let error = job.failure("allocate").await;
    named(&error, "PLUGIN_MEMORY");
    assert!(error.message.ends_with("MiB of memory; it may have 32 MiB"), "{error}");
    assert!(error.hint.unwrap().contains("limits.memory_mib"));
}

#[tokio::test]
async fn floods_are_stopped() {
    let long = "x".repeat(4000);
    let table = [
        ("flood-log x", "sent more than 100000 log lines in one job"),
        (&format!("flood-log {long}"), "sent more than 64 MiB of log lines in one job"),
        ("flood-messages x", "sent more than 10000 messages in one job"),
        (&format!("flood-messages {long}"), "sent more than 16 MiB of messages in one job"),
        ("flood-handles", "it holds more than 1000 things of the host at once"),
        ("big-log 9000000", "handed the host more than 8 MiB in one call"),
    ];
    for (order, expected) in table {
        let mut job = Job::new().await;
        let error = job.failure(order).await;
        named(&error, "PLUGIN_FLOODED");
        assert!(error.message.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn printing_without_end_is_stopped() {
    let mut job = Job::new().await;
    let error = job.failure(&format!("flood-stderr {}", "x".repeat(4000))).await;
    // By whichever limit comes first on this machine.
    assert!(["PLUGIN_FLOODED", "PLUGIN_TIMEOUT"].contains(&&*error.code), "{error}");
}

#[tokio::test]
async fn a_lost_instance_is_not_used_again() {
    let mut job = Job::new().await;
    assert_eq!(job.exit_code("count").await, 1);
    assert_eq!(job.exit_code("count").await, 2);
    assert_eq!(job.failure("trap").await.code, "PLUGIN_TRAPPED");
    let again = job.failure("count").await;
    named(&again, "PLUGIN_TRAPPED");
    assert!(again.message.contains("lost its instance"), "{again}");
}

#[tokio::test]
async fn cleanup_runs_in_a_new_instance_that_finds_the_state() {
    let variables = [("CLEANUP", "state-says")];
    let mut job = Job::with(&MISBEHAVING, &variables).await;
    assert_eq!(job.exit_code("state-set the volume is v7").await, 0);
    assert_eq!(job.exit_code("count").await, 2);
    assert_eq!(job.failure("trap").await.code, "PLUGIN_TRAPPED");
    job.messages();
    job.cleanup().await.unwrap();
    let messages = job.messages();
    let said: Vec<_> = messages.iter().map(|(_, m)| m.message.as_str()).collect();
    assert_eq!(said, ["cleaned up: Failed", "the volume is v7"]);
    // Nothing of the lost instance is there.
    assert_eq!(messages[0].1.data.as_ref().unwrap()["calls"], 0);
}

#[tokio::test]
async fn cleanup_after_an_ordinary_end_is_in_the_same_instance() {
    let mut job = Job::new().await;
    assert_eq!(job.exit_code("count").await, 1);
    assert_eq!(job.failure("fail X").await.code, "X");
    job.messages();
    job.cleanup().await.unwrap();
    assert_eq!(job.messages()[0].1.data.as_ref().unwrap()["calls"], 2);
}

#[tokio::test]
async fn a_trap_in_prepare_or_cleanup_is_told_too() {
    let mut job =
        Job::with(&MISBEHAVING, &[("PREPARE", "panic no machine"), ("CLEANUP", "panic no broom")]).await;
    let error = job.provider.prepare().await.unwrap_err();
    named(&error, "PLUGIN_TRAPPED");
    assert!(error.message.contains("no machine"), "{error}");
    let error = job.cleanup().await.unwrap_err();
    named(&error, "PLUGIN_TRAPPED");
    // The first instance's words are not the second one's.
    assert!(error.message.contains("no broom") && !error.message.contains("no machine"), "{error}");
    // Cleaning up again is possible, and as bad.
    assert_eq!(job.cleanup().await.unwrap_err().code, "PLUGIN_TRAPPED");
}

#[tokio::test]
async fn a_dropped_call_loses_the_instance() {
    let mut job = Job::new().await;
    let dropped = tokio::time::timeout(Duration::from_millis(50), job.step("sleep 60000")).await;
    assert!(dropped.is_err());
    assert!(job.failure("count").await.message.contains("lost its instance"));
    job.cleanup().await.unwrap();
}

#[tokio::test]
async fn a_guest_that_hangs_when_the_run_is_cancelled_is_stopped() {
    let mut job = Job::new().await;
    job.fake.canceller.raise(Urgency::Kill, None);
    let error = job.failure("sleep 60000000").await;
    named(&error, "PLUGIN_TIMEOUT");
    assert!(error.message.ends_with("did not end `run-step` when the run was cancelled"), "{error}");
    job.cleanup().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_guest_has_twelve_seconds_after_the_first_request() {
    let mut job = Job::new().await;
    job.fake.canceller.raise(Urgency::Ask, None);
    let started = tokio::time::Instant::now();
    let error = job.failure("sleep 600000").await;
    named(&error, "PLUGIN_TIMEOUT");
    assert_eq!(started.elapsed().as_secs(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_that_hangs_is_stopped() {
    let mut job = Job::with(&MISBEHAVING, &[("CLEANUP", "sleep 600000")]).await;
    let started = tokio::time::Instant::now();
    let error = job.cleanup().await.unwrap_err();
    named(&error, "PLUGIN_TIMEOUT");
    assert!(error.message.ends_with("did not finish its cleanup within 30 s (`cleanup`)"), "{error}");
    assert_eq!(started.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn a_guest_learns_that_the_run_is_cancelled() {
    let mut job = Job::new().await;
    let canceller = job.fake.canceller.clone();
    let ready = job.workspace.path().join("ready");
    let (code, ()) = tokio::join!(job.exit_code("until-cancelled >ready"), async {
        appeared(&ready).await;
        canceller.raise(Urgency::Ask, None);
    });
    assert_eq!(code, 0);
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_sleeps_while_it_prepares_is_stopped() {
    let mut job = Job::with(&MISBEHAVING, &[("PREPARE", "sleep 600000000")]).await;
    let started = tokio::time::Instant::now();
    let error = job.provider.prepare().await.unwrap_err();
    named(&error, "PLUGIN_TIMEOUT");
    assert!(
        error.message.ends_with(" took longer than 60 s in `prepare`, not counting what the job took"),
        "{error}"
    );
    assert!(error.hint.unwrap().contains("limits.wall_ms"));
    assert_eq!(started.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_step_takes_what_the_job_may_take() {
    let mut job = Job::new().await;
    assert_eq!(job.exit_code("sleep 500000").await, 0);
}

#[tokio::test]
async fn a_process_that_is_to_be_stopped_has_ten_seconds_at_most() {
    let mut job = Job::new().await;
    let started = Instant::now();
    let order = "stop-late trap '' TERM; >ready; while :; do sleep 0.05; done";
    assert_eq!(job.exit_code(order).await, 0);
    assert!(started.elapsed() < loom_deadlines::PATIENCE);
    job.end().await;

    // Nor does it hold up who wants everything to end at once.
    let mut job = Job::new().await;
    let (canceller, ready) = (job.fake.canceller.clone(), job.workspace.path().join("ready"));
    let (ended, ()) = tokio::join!(job.step(order), async {
        appeared(&ready).await;
        canceller.raise(Urgency::Kill, None);
    });
    ended.unwrap();
    job.end().await;
}

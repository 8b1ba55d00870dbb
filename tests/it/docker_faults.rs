//! What can go wrong with jobs in containers: a daemon that is lost, that has no room, and signals in each phase. Each
//! time the job says what happened, the run is closed, and the daemon has nothing of it afterwards.

use std::time::{Duration, SystemTime};

use loom_contract::status::Status;
use loom_docker_testimage::{self as testimage, DaemonOptions, Image, SOCKET};
use loom_tests::{RunOutput, Running, TestEnv, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use crate::docker::{busybox, clean, container_of, image, in_image, of_steps, passed, wait_for_step};
use crate::docker_apart::Second;
use crate::docker_services::server;

fn end(env: &TestEnv, child: Running) -> RunOutput {
    RunOutput::of(env, &child.output())
}

#[test]
fn a_daemon_that_is_killed_fails_the_job_and_the_next_run_removes_what_is_left() {
    let Some(mut second) = Second::start(DaemonOptions::default()) else { return };
    let env = of_steps(&second.image, "", &["echo begun; [ -e go ] || sleep 1000"]);
    let child = env.loom(&["run", "--local"]).env("DOCKER_HOST", &second.address()).spawn();
    wait_for_step(&env, "begun");
    second.daemon.kill();
    let run = end(&env, child);
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    let error = run.run.job("job").error.unwrap();
    assert_eq!(error.code, "DOCKER_WENT_AWAY", "{error:?}");
    assert!(run.stderr.contains("could not be removed"), "{}", run.stderr);

    second.daemon.restart().unwrap();
    assert!(!second.left(&run.run.run_id()).is_empty());
    env.write("go", "");
    let next = second.run(&env);
    assert_eq!(next.exit_code, 0, "{}", next.stderr);
    wait_for("the end of the sweep", || second.left(&run.run.run_id()).is_empty());
    assert_eq!(second.left(&next.run.run_id()), [""; 0]);
}

#[test]
fn a_full_disk_of_the_daemon_is_what_the_job_says() {
    let Some(second) = Second::start(DaemonOptions { disk_mib: Some(48), ..DaemonOptions::default() }) else {
        return;
    };
    let fills = of_steps(&second.image, "", &["dd if=/dev/zero of=big bs=1M count=100"]);
    let run = second.run(&fills);
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("No space left on device"), "{}", run.stderr);
    assert_eq!(second.left(&run.run.run_id()), [""; 0]);

    // Whoever is not root gets files of its own.
    let own = format!("  image: {{name: '{}', user: '1000'}}\n", second.image);
    let brings = of_steps(&second.image, &own, &["echo never"]);
    brings.write("big", &"x".repeat(100_000_000));
    let run = second.run(&brings);
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    let job = run.run.job("job");
    assert_eq!(job.failing_section.unwrap().as_str(), "provider");
    let error = job.error.unwrap();
    assert!(error.message.contains("no space left on device"), "{error:?}");
    assert_eq!(second.left(&run.run.run_id()), [""; 0]);

    // There is room again.
    let small = of_steps(&second.image, "", &["echo fits"]);
    assert_eq!(second.run(&small).exit_code, 0);
}

#[test]
fn a_step_that_uses_up_the_memory_is_told_so() {
    let Some(image) = busybox() else { return };
    let env = of_steps(&image, "", &["echo begun; sleep 1; tail /dev/zero"]);
    let child = env.loom(&["run", "--local"]).spawn();
    let container = container_of(&wait_for_step(&env, "begun"));
    let limit = br#"{"Memory": 16777216, "MemorySwap": 16777216}"#;
    let (status, said) =
        testimage::request(SOCKET, "POST", &format!("/containers/{container}/update"), limit).unwrap();
    assert_eq!(status, 200, "{said}");
    let run = clean(end(&env, child));
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    let step = &run.run.job("job").steps[0];
    assert_eq!(step.exit_code, Some(137));
    let said = run.run.events("jobs/job/user/execution/script/01/events.jsonl");
    let said: Vec<String> = said.into_iter().filter_map(|event| event.message).collect();
    assert!(said.iter().any(|text| text.contains("memory")), "{said:?}");
}

#[test]
fn an_image_of_another_platform_is_named() {
    let Some(image) = busybox() else { return };
    let env = of_steps(
        "",
        &format!("  image: {{name: '{image}', platform: linux/s390x, pull_policy: never}}\n"),
        &["echo never"],
    );
    let run = clean(env.run(&[]));
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    let error = run.run.job("job").error.unwrap();
    assert!(error.message.contains("not for linux/s390x"), "{error:?}");
}

/// Sends SIGINT to a run once the file `milestone` of it is there, `times` times.
fn interrupted(env: &TestEnv, milestone: &str, times: u32) -> RunOutput {
    let mut child = env.loom(&["run", "--local"]).spawn();
    wait_for(milestone, || {
        let begun = env.run_dirs().pop().is_some_and(|run| run.join(milestone).exists());
        begun || child.try_wait().unwrap().is_some()
    });
    for _ in 0..times {
        // It may be over.
        let _ = kill_process(Pid::from_child(&child), Signal::INT);
        std::thread::sleep(Duration::from_millis(50));
    }
    end(env, child)
}

#[test]
fn a_signal_in_any_phase_closes_the_run_and_leaves_nothing() {
    let (Some(image), Some(server)) = (busybox(), server("server", &[])) else { return };
    let phases = [
        "jobs/job/system/image_build/events.jsonl",
        "jobs/job/system/services/events.jsonl",
        "jobs/job/system/provider/events.jsonl",
        "jobs/job/system/cache_restore/events.jsonl",
        "jobs/job/user/execution/script/01/events.jsonl",
        "jobs/job/system/cache_save/events.jsonl",
        "jobs/job/system/artifact_extract/events.jsonl",
        "jobs/job/system/cleanup/events.jsonl",
    ];
    let interrupt = |phase: &str, times: u32| {
        let env = in_image(
            &image,
            &format!(
                "job:
  stage: ci
  image: {{name: loom-test/interrupted, build: {{context: ., dockerfile: Dockerfile}}}}
  services: [{{name: '{server}', alias: db, ready: {{port: 80}}}}]
  cache: {{key: k, paths: [kept]}}
  artifacts: {{paths: [kept]}}
  script: ['mkdir kept; head -c 20000000 /dev/urandom > kept/a; echo x > kept/b']
"
            ),
        );
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        env.write("Dockerfile", &format!("FROM {image}\nRUN echo {now}{times} && sleep 0.3\n"));
        let run = clean(interrupted(&env, phase, times));
        // What has come to its end before the signal is what it is.
        assert!([0, 130].contains(&run.exit_code), "{phase} {times}: {}", run.stderr);
        if run.exit_code == 130 {
            assert!(run.stderr.contains("cancelled by SIGINT"), "{phase} {times}: {}", run.stderr);
            let status = run.run.job("job").status;
            assert!(status == Status::Cancelled || phase.contains("cleanup"), "{phase} {times}: {status:?}");
        }
        run.exit_code
    };
    for phase in phases {
        let codes = std::thread::scope(|scope| {
            let both = [1, 2].map(|times| scope.spawn(move || interrupt(phase, times)));
            both.map(|run| run.join().unwrap())
        });
        // The last ones may be over before the signal comes.
        let ends = ["cache_save", "artifact_extract", "cleanup"].iter().any(|it| phase.contains(it));
        assert!(ends || codes == [130, 130], "{phase}: {codes:?}");
    }
}

#[test]
fn two_runs_at_once_do_not_hurt_each_other() {
    let (Some(image), Some(server)) = (busybox(), server("server", &[])) else { return };
    let env = in_image(
        &image,
        &format!(
            "job:
  stage: ci
  services: [{{name: '{server}', alias: db, variables: {{ANSWER: here}}, ready: {{port: 80}}}}]
  cache: {{key: k, paths: [kept]}}
  script: ['mkdir -p kept; echo x >> kept/file', 'until nc db 80 < /dev/null 2> /dev/null; do sleep 0.1; done']
"
        ),
    );
    let runs =
        std::thread::scope(|scope| [(); 2].map(|()| scope.spawn(|| env.run(&[]))).map(|run| run.join()));
    for run in runs {
        let run = passed(run.unwrap());
        assert_eq!(run.run.output("job", "02"), ["here"]);
        assert_eq!(run.run.job("job").status, Status::Success);
    }
}

#[test]
fn an_image_whose_shell_breaks_off_is_told() {
    // It has a `sh` that is none.
    let Some(image) = image(Image {
        name: "false-shell",
        programs: Some(&["true"]),
        files: &[("bin/sh", b"no program")],
        ..Image::default()
    }) else {
        return;
    };
    let run = clean(of_steps(&image, "", &["echo never"]).run(&[]));
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    // Whether it is noticed before the first step or by it.
    let error = run.run.job("job").error.unwrap();
    assert!(["CONTAINER_NOT_STARTED", "CONTAINER_GONE"].contains(&&*error.code), "{error:?}");
    assert!(error.message.contains("with exit code"), "{error:?}");
}

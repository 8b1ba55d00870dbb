//! Containers: what they may be, how they begin and end.

use std::time::Duration;

use loom_docker::{ContainerSpec, Error, Follow, Gone, Mount, Reason, Signal, Status};
use loom_docker_testimage::{self as testimage, Image, SOCKET};

use crate::support::{labelled, running, sh, spec, stdout, waiting, with_scope, words};

fn says(command: &str) -> ContainerSpec {
    ContainerSpec { command: Some(words(&["sh", "-c", command])), ..spec() }
}

#[tokio::test]
async fn a_container_runs_and_tells_how_it_ended_whenever_it_is_asked() {
    with_scope(async |scope| {
        let container = scope.create_container(&says("echo out; echo err >&2; exit 7")).await.unwrap();
        assert_eq!(container.state().await.unwrap().status, Status::Created);
        container.start().await.unwrap();
        let (first, at_once) = tokio::join!(container.wait(), container.wait());
        let late = container.wait().await;
        for exit in [first, at_once, late] {
            assert_eq!(exit.unwrap().code, 7);
        }
        let mut output = container.output(None, Follow::No);
        let mut text = Vec::new();
        while let Some(chunk) = output.next().await.unwrap() {
            text.push((chunk.stream, chunk.bytes));
        }
        assert_eq!(text.len(), 2);
        assert!(text.contains(&(loom_docker::Stream::Stdout, "out\n".into())), "{text:?}");
        assert!(text.contains(&(loom_docker::Stream::Stderr, "err\n".into())), "{text:?}");
    })
    .await;
}

#[tokio::test]
async fn a_container_gets_what_was_asked_for() {
    with_scope(async |scope| {
        let here = tempfile::tempdir().unwrap();
        fs_err::write(here.path().join("file"), "from outside").unwrap();
        let volume = scope.create_volume("work").await.unwrap();
        let spec = ContainerSpec {
            env: vec![("GREETING".to_owned(), "hello = world".to_owned())],
            working_dir: Some("/work".to_owned()),
            user: Some("1000:1000".to_owned()),
            mounts: vec![
                Mount::Volume { volume, at: "/work".to_owned(), read_only: false },
                Mount::Bind { source: here.path().to_owned(), at: "/here".to_owned(), read_only: true },
                Mount::Tmpfs { at: "/fast".to_owned(), size_bytes: Some(1 << 20), mode: 0o1777 },
            ],
            labels: vec![("note".to_owned(), "mine".to_owned())],
            millicpus: Some(500),
            ..waiting()
        };
        let container = scope.create_container(&spec).await.unwrap();
        container.start().await.unwrap();
        let said = stdout(
            &container,
            "echo $GREETING; pwd; id -u; cat /here/file; echo; echo x >/fast/y && cat /fast/y",
        )
        .await;
        assert_eq!(said, "hello = world\n/work\n1000\nfrom outside\nx\n");
        let written = crate::support::run(&container, &sh("echo no >/here/file")).await.unwrap();
        assert_ne!(written.exit.code, 0);
        let path = format!("/containers/{}/json", container.id());
        let (_, json) = testimage::request(SOCKET, "GET", &path, b"").unwrap();
        for part in [
            "\"note\":\"mine\"",
            "\"loom.job_id\":\"job\"",
            "\"loom.repo\":\"/repo\"",
            "\"NanoCpus\":500000000",
            "\"Privileged\":false",
            "\"CapAdd\":null",
        ] {
            assert!(json.contains(part), "{part} in {json}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_no_job_may_have_is_refused_before_the_daemon_hears_of_it() {
    with_scope(async |scope| {
        let bind = |source: &str| ContainerSpec {
            mounts: vec![Mount::Bind { source: source.into(), at: "/x".to_owned(), read_only: true }],
            ..spec()
        };
        let here = tempfile::tempdir().unwrap();
        let link = here.path().join("link");
        std::os::unix::fs::symlink("/var/run/docker.sock", &link).unwrap();
        let mut bad: Vec<ContainerSpec> =
            ["/", "/run", "/var/run", "/run/../run", SOCKET, link.to_str().unwrap(), "relative"]
                .map(bind)
                .into();
        bad.push(ContainerSpec { labels: vec![("loom.run_id".to_owned(), "other".to_owned())], ..spec() });
        bad.push(ContainerSpec { image: "../containers/create".to_owned(), ..spec() });
        bad.push(ContainerSpec { env: vec![("A=B".to_owned(), String::new())], ..spec() });
        bad.push(ContainerSpec { working_dir: Some("here".to_owned()), ..spec() });
        for spec in bad {
            let error = scope.create_container(&spec).await.unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{spec:?}: {error}");
        }
        assert_eq!(labelled(&scope.owner().run_id), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn an_unknown_image_is_named_and_a_wrong_platform_too() {
    with_scope(async |scope| {
        let unknown = ContainerSpec { image: "loom-test/none:1".to_owned(), ..spec() };
        let error = scope.create_container(&unknown).await.unwrap_err();
        assert!(matches!(error, Error::Refused { reason: Reason::NotFound, .. }), "{error:?}");
        assert!(error.to_string().contains("No such image: loom-test/none:1"), "{error}");
        assert!(error.hint().is_some());
        let platform = ContainerSpec { platform: Some("linux/s390x".to_owned()), ..spec() };
        let error = scope.create_container(&platform).await.unwrap_err();
        assert!(matches!(error, Error::Refused { reason: Reason::Platform, .. }), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    with_scope(async |scope| {
        let spec = ContainerSpec { command: Some(words(&["nothing-like-it"])), ..spec() };
        let container = scope.create_container(&spec).await.unwrap();
        let error = container.start().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot start `nothing-like-it` in the container: the image has no `nothing-like-it`"
        );
    })
    .await;
}

#[tokio::test]
async fn a_container_is_stopped_killed_and_removed_however_often() {
    with_scope(async |scope| {
        let stubborn =
            scope.create_container(&says("trap '' TERM; while :; do sleep 0.1; done")).await.unwrap();
        stubborn.start().await.unwrap();
        stubborn.stop(Duration::ZERO).await.unwrap();
        assert_eq!(stubborn.wait().await.unwrap().code, 137);
        stubborn.stop(Duration::ZERO).await.unwrap();
        stubborn.kill(Signal::Kill).await.unwrap();
        let willing = ContainerSpec { init: true, ..says("echo ready; exec sleep 1000") };
        let willing = scope.create_container(&willing).await.unwrap();
        willing.start().await.unwrap();
        // The kernel drops a signal to a first process that does not listen yet.
        willing.output(None, Follow::Yes).next().await.unwrap().unwrap();
        willing.stop(Duration::from_secs(60)).await.unwrap();
        assert_eq!(willing.wait().await.unwrap().code, 143);
        for _ in 0..2 {
            scope.remove(&willing.resource()).await.unwrap();
        }
        let error = willing.wait().await.unwrap_err();
        assert!(matches!(&error, Error::Gone { how: Gone::Removed, .. }), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_container_that_uses_too_much_memory_says_so() {
    with_scope(async |scope| {
        let script = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";
        let hungry = ContainerSpec { memory_bytes: Some(16 << 20), ..says(script) };
        let container = scope.create_container(&hungry).await.unwrap();
        container.start().await.unwrap();
        let exit = container.wait().await.unwrap();
        assert_eq!((exit.code, exit.oom_killed), (137, true));
    })
    .await;
}

#[tokio::test]
async fn volumes_that_an_image_asks_for_go_too_even_if_somebody_else_removes_the_container() {
    with_scope(async |scope| {
        let image = Image { name: "with-volume", changes: &["VOLUME /data"], ..Image::default() };
        let spec = ContainerSpec { image: testimage::image(image).unwrap(), ..waiting() };
        let container = scope.create_container(&spec).await.unwrap();
        container.start().await.unwrap();
        let mounts = stdout(&container, "grep ' /data ' /proc/mounts").await;
        assert!(!mounts.is_empty());
        let volume = scope
            .resources()
            .into_iter()
            .find(|resource| resource.kind == loom_docker::Kind::Volume)
            .unwrap()
            .id;
        let there =
            |volume: &str| testimage::request(SOCKET, "GET", &format!("/volumes/{volume}"), b"").unwrap().0;
        assert_eq!(there(&volume), 200);
        let path = format!("/containers/{}?force=1", container.id());
        assert_eq!(testimage::request(SOCKET, "DELETE", &path, b"").unwrap().0, 204);
        assert_eq!(there(&volume), 200, "without v=1 it stays");
        assert!(scope.remove_all().await.is_empty());
        assert_eq!(there(&volume), 404);
    })
    .await;
}

#[tokio::test]
async fn two_scopes_know_nothing_of_each_other_and_a_closed_one_makes_nothing() {
    with_scope(async |scope| {
        let other = crate::support::scope(scope.docker());
        let (mine, theirs) = (running(&scope).await, running(&other).await);
        assert!(other.remove_all().await.is_empty());
        assert!(matches!(theirs.state().await, Err(Error::Gone { .. })));
        assert_eq!(mine.state().await.unwrap().status, Status::Running);
        let error = other.create_volume("late").await.unwrap_err();
        assert!(matches!(error, Error::Closed { .. }), "{error}");
        assert_eq!(labelled(&other.owner().run_id), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_is_being_made_when_nobody_waits_any_more_is_removed_too() {
    with_scope(async |scope| {
        for micros in [0, 200, 1000, 3000] {
            let spec = spec();
            let create = scope.create_container(&spec);
            // Dropped in the middle, or done.
            let _ = tokio::time::timeout(Duration::from_micros(micros), create).await;
        }
        assert!(scope.remove_all().await.is_empty());
        assert_eq!(labelled(&scope.owner().run_id), [""; 0]);
    })
    .await;
}

//! Execs: output, exit codes, and the end of process trees.

use std::time::{Duration, Instant};

use loom_docker::{ContainerSpec, Error, ExecSpec, Gone, Signal};
use loom_docker_testimage::{self as testimage, Image, SOCKET};

use crate::support::{run, running, sh, spec, stdout, waiting, with_scope, words};

#[tokio::test]
async fn output_comes_apart_in_order_and_with_the_exit_code() {
    with_scope(async |scope| {
        let container = running(&scope).await;
        let ran = run(&container, &sh("echo 1; echo 2 >&2; echo 3; printf 4; exit 42")).await.unwrap();
        assert_eq!((&*ran.stdout, &*ran.stderr, ran.exit.code), ("1\n3\n4", "2\n", 42));
        assert!(!ran.exit.oom_killed && !ran.exit.output_open);
        for code in [0, 1, 125, 126, 127, 128, 130, 137, 143, 255] {
            let ran = run(&container, &sh(&format!("exit {code}"))).await.unwrap();
            assert_eq!(ran.exit.code, code);
        }
        let ran = run(&container, &sh("kill -9 $$")).await.unwrap();
        assert_eq!(ran.exit.code, 137);
        let bytes =
            run(&container, &sh("head -c 100000 /dev/zero; head -c 70000 /dev/zero >&2")).await.unwrap();
        assert_eq!((bytes.stdout.len(), bytes.stderr.len()), (100_000, 70_000));
    })
    .await;
}

#[tokio::test]
async fn an_exec_gets_its_environment_folder_and_user() {
    with_scope(async |scope| {
        let container = running(&scope).await;
        let spec = ExecSpec {
            env: vec![("SECRET".to_owned(), "a b\nc='d'".to_owned())],
            working_dir: Some("/etc".to_owned()),
            user: Some("user".to_owned()),
            ..sh("printf '%s|' \"$SECRET\"; pwd; id -un")
        };
        assert_eq!(run(&container, &spec).await.unwrap().stdout, "a b\nc='d'|/etc\nuser\n");
        let path = format!("/containers/{}/json", container.id());
        let (_, json) = testimage::request(SOCKET, "GET", &path, b"").unwrap();
        assert!(!json.contains("SECRET"), "{json}");
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_started_is_said_clearly() {
    with_scope(async |scope| {
        let image = Image {
            name: "no-shell",
            programs: Some(&["sleep"]),
            files: &[("bin/broken", b"\x7fELFnothing at all"), ("bin/script", b"echo no interpreter\n")],
            ..Image::default()
        };
        let spec = ContainerSpec {
            image: testimage::image(image).unwrap(),
            command: Some(words(&["sleep", "1000"])),
            ..spec()
        };
        let container = scope.create_container(&spec).await.unwrap();
        container.start().await.unwrap();
        let error = run(&container, &sh("true")).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot start `sh` in the container: the image has no `sh`");
        assert_eq!(error.hint(), Some("steps run in a shell: take an image that has `sh`"));
        for program in ["broken", "script"] {
            let error =
                run(&container, &ExecSpec { command: words(&[program]), ..sh("") }).await.unwrap_err();
            assert!(error.to_string().contains("(exec format error)"), "{error}");
        }
        let nowhere =
            ExecSpec { working_dir: Some("/nowhere".to_owned()), command: words(&["sleep", "0"]), ..sh("") };
        let error = run(&container, &nowhere).await.unwrap_err();
        assert!(matches!(&error, Error::NotStarted { words, .. } if words.contains("/nowhere")), "{error:?}");
        assert!(!error.to_string().contains("the image has no"), "{error}");
        let nobody =
            ExecSpec { user: Some("nobody-at-all".to_owned()), command: words(&["sleep", "0"]), ..sh("") };
        let error = run(&container, &nobody).await.unwrap_err();
        assert!(error.to_string().contains("nobody-at-all"), "{error}");
        let exec = container.exec(&ExecSpec { command: words(&["sleep", "1000"]), ..sh("") }).await.unwrap();
        let error = exec.control().signal(Signal::Kill).await.unwrap_err();
        assert!(matches!(&error, Error::NotStarted { program, .. } if program == "sh"), "{error}");
        assert!(matches!(run(&container, &ExecSpec::default()).await, Err(Error::Invalid { .. })));
    })
    .await;
}

#[tokio::test]
async fn a_step_ends_with_its_shell_although_a_process_stays_behind() {
    with_scope(async |scope| {
        let container = running(&scope).await;
        let before = Instant::now();
        let ran = run(&container, &sh("sleep 100 & echo begun; exit 3")).await.unwrap();
        assert_eq!((&*ran.stdout, ran.exit.code, ran.exit.output_open), ("begun\n", 3, true));
        assert!(before.elapsed() < Duration::from_secs(60), "it did not wait for the other");
        let flood = run(&container, &sh("yes & echo begun; exit 4")).await.unwrap();
        assert_eq!((flood.exit.code, flood.exit.output_open), (4, true));
        let quiet = run(&container, &sh("sleep 100 >/dev/null 2>&1 & exit 5")).await.unwrap();
        assert_eq!((quiet.exit.code, quiet.exit.output_open), (5, false));
        let closed = run(&container, &sh("exec >&- 2>&-; sleep 0.3; exit 6")).await.unwrap();
        assert_eq!(closed.exit.code, 6);
    })
    .await;
}

#[tokio::test]
async fn much_output_goes_through_little_memory_and_waits_for_who_reads() {
    with_scope(async |scope| {
        const MIB: usize = 1 << 20;
        let container = running(&scope).await;
        let mut exec = container.exec(&sh("head -c 536870912 /dev/zero; echo end >&2")).await.unwrap();
        let first = exec.next().await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = rss();
        let (mut bytes, mut most, mut last) = (first.bytes.len(), 0, String::new());
        while let Some(chunk) = exec.next().await.unwrap() {
            bytes += chunk.bytes.len();
            most = most.max(rss());
            if chunk.stream == loom_docker::Stream::Stderr {
                last = String::from_utf8_lossy(&chunk.bytes).into_owned();
            }
        }
        assert_eq!((bytes - last.len(), &*last), (512 * MIB, "end\n"));
        assert_eq!(exec.exit().await.unwrap().code, 0);
        // Tests beside this one use some, too.
        assert!(most < before + 128 * MIB, "{before} to {most}");
    })
    .await;
}

/// Bytes of memory that this process uses.
fn rss() -> usize {
    let statm = fs_err::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn nothing_is_lost_when_the_reader_is_slow() {
    with_scope(async |scope| {
        let container = running(&scope).await;
        let mut exec = container.exec(&sh("head -c 300000 /dev/zero; exit 9")).await.unwrap();
        let mut bytes = 0;
        while let Some(chunk) = exec.next().await.unwrap() {
            bytes += chunk.bytes.len();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!((bytes, exec.exit().await.unwrap().code), (300_000, 9));
    })
    .await;
}

const TREE: &str = "
    sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' &
    setsid sh -c 'sleep 1001 & sleep 1002; :' &
    (env -i sh -c 'sleep 1003 & sleep 1004; :' &)
    (setsid sh -c 'sleep 1005; :' </dev/null >/dev/null 2>&1 &)
    echo ready; sleep 1006; echo never";

/// Processes of the tree that are there, as the container sees them.
async fn alive(container: &loom_docker::Container) -> String {
    stdout(container, "ps -o pid,args | grep -E 'sleep (0.1|100[1-6])|trap' | grep -v grep || true").await
}

#[tokio::test]
async fn an_exec_is_ended_with_all_that_it_has_started() {
    with_scope(async |scope| {
        for user in [None, Some("user".to_owned())] {
            let container = running(&scope).await;
            let mut bystander = container.exec(&sh("sleep 0.5; echo unharmed")).await.unwrap();
            let mut exec = container.exec(&ExecSpec { user, ..sh(TREE) }).await.unwrap();
            let ready = exec.next().await.unwrap().unwrap();
            assert_eq!(&*ready.bytes, b"ready\n");
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(alive(&container).await.lines().count() >= 6, "{}", alive(&container).await);
            let control = exec.control();
            let (ended, exit) = tokio::join!(control.end(Duration::from_millis(300)), exec.exit());
            ended.unwrap();
            assert_eq!(exit.unwrap().code, 143);
            assert_eq!(alive(&container).await, "");
            assert_eq!(control.signal(Signal::Kill).await.unwrap(), 0, "nothing is left");
            assert_eq!(&*bystander.next().await.unwrap().unwrap().bytes, b"unharmed\n");
            assert_eq!(bystander.exit().await.unwrap().code, 0);
        }
    })
    .await;
}

#[tokio::test]
async fn a_stubborn_process_is_killed_after_the_grace_and_a_willing_one_may_clean_up() {
    with_scope(async |scope| {
        let container = running(&scope).await;
        let mut exec =
            container.exec(&sh("trap '' TERM; echo ready; while :; do sleep 0.1; done")).await.unwrap();
        exec.next().await.unwrap().unwrap();
        exec.control().end(Duration::from_millis(200)).await.unwrap();
        assert_eq!(exec.exit().await.unwrap().code, 137);
        let mut exec = container
            .exec(&sh("trap 'echo cleaned; exit 5' TERM; echo ready; while :; do sleep 0.1; done"))
            .await
            .unwrap();
        exec.next().await.unwrap().unwrap();
        exec.control().end(Duration::from_secs(30)).await.unwrap();
        let mut said = Vec::new();
        while let Some(chunk) = exec.next().await.unwrap() {
            said.extend_from_slice(&chunk.bytes);
        }
        assert!(String::from_utf8_lossy(&said).contains("cleaned"), "{said:?}");
        assert_eq!(exec.exit().await.unwrap().code, 5);
    })
    .await;
}

#[tokio::test]
async fn a_tree_is_ended_where_there_is_nothing_but_sh() {
    with_scope(async |scope| {
        let image = Image { name: "only-sh", programs: Some(&["sh", "sleep"]), ..Image::default() };
        let spec = ContainerSpec { image: testimage::image(image).unwrap(), ..waiting() };
        let container = scope.create_container(&spec).await.unwrap();
        container.start().await.unwrap();
        let mut exec = container.exec(&sh("sleep 1001 & sleep 1002 & echo ready; wait")).await.unwrap();
        exec.next().await.unwrap().unwrap();
        assert_eq!(exec.control().signal(Signal::Terminate).await.unwrap(), 3);
        assert_eq!(exec.exit().await.unwrap().code, 143);
    })
    .await;
}

#[tokio::test]
async fn a_process_that_was_killed_for_its_memory_says_so_while_the_container_goes_on() {
    with_scope(async |scope| {
        let spec = ContainerSpec { memory_bytes: Some(16 << 20), ..waiting() };
        let container = scope.create_container(&spec).await.unwrap();
        container.start().await.unwrap();
        let ran =
            run(&container, &sh("exec sh -c 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done'")).await.unwrap();
        assert_eq!((ran.exit.code, ran.exit.oom_killed), (137, true));
        let ran = run(&container, &sh("kill -9 $$")).await.unwrap();
        assert_eq!(ran.exit.code, 137);
    })
    .await;
}

#[tokio::test]
async fn a_container_that_is_killed_or_removed_by_somebody_else_is_no_exit_code() {
    with_scope(async |scope| {
        for (method, path) in [("POST", "/kill"), ("DELETE", "?force=1")] {
            let container = running(&scope).await;
            let mut exec = container.exec(&sh("echo ready; sleep 1000")).await.unwrap();
            exec.next().await.unwrap().unwrap();
            let path = format!("/containers/{}{path}", container.id());
            assert_eq!(testimage::request(SOCKET, method, &path, b"").unwrap().0, 204);
            let error = exec.exit().await.unwrap_err();
            let expected = if method == "POST" { Gone::Ended { exit_code: 137 } } else { Gone::Removed };
            assert!(matches!(&error, Error::Gone { how, .. } if *how == expected), "{error:?}");
            let error = container.exec(&sh("true")).await.unwrap_err();
            assert!(matches!(&error, Error::Gone { how, .. } if *how == expected), "{error:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_container_that_ends_while_a_process_is_begun_is_what_is_told() {
    with_scope(async |scope| {
        for millis in [0, 1, 2, 5, 10, 20, 40] {
            let container = running(&scope).await;
            let kill = async {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                container.kill(Signal::Kill).await.unwrap();
            };
            let step = sh("sleep 1000");
            let (ran, ()) = tokio::join!(run(&container, &step), kill);
            let error = ran.unwrap_err();
            assert!(matches!(&error, Error::Gone { how: Gone::Ended { .. }, .. }), "{error:?}");
        }
    })
    .await;
}

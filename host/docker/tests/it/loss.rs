//! A daemon that is not there, is lost in the middle, or says nothing any more.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use loom_docker::{
    Build, Connect, Container, Docker, Error, ExecSpec, Expect, Follow, Ids, Logins, Outside, Scope, sweep,
};
use loom_docker_testimage::{self as testimage, Image, SOCKET};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::copy_bidirectional;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::support::{Ledgers, docker, running, sh, spec, stdout, waiting};

async fn connect(socket: &Path) -> Result<Docker, Error> {
    let host = format!("unix://{}", socket.display());
    Docker::connect(Connect { host: Some(&host), ..Connect::default() }).await
}

#[tokio::test]
async fn what_was_tried_and_why_it_failed_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none.sock");
    let error = connect(&none).await.unwrap_err();
    let expected =
        format!("Cannot connect to the Docker daemon at unix://{}: there is no socket", none.display());
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().unwrap().contains("DOCKER_HOST"));
    let dead = folder.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    let error = connect(&dead).await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("connection refused"), "{error}");
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(connect(&folder.path().join("file")).await.is_err());
    for (host, why) in [
        ("tcp://127.0.0.1:1", "refused"),
        ("ssh://somewhere", "must begin with"),
        ("/var/run/docker.sock", "must begin with"),
        ("tcp://nowhere.invalid:2375", ""),
    ] {
        let error = Docker::connect(Connect { host: Some(host), ..Connect::default() })
            .await
            .unwrap_err()
            .to_string();
        let begins = format!("Cannot connect to the Docker daemon at {host}: ");
        assert!(error.starts_with(&begins) && error.to_lowercase().contains(why), "{error}");
    }
    let certificates = Some(folder.path());
    let tls = Connect { host: Some("tcp://127.0.0.1:1"), certificates, ..Connect::default() };
    let error = Docker::connect(tls).await.unwrap_err().to_string();
    assert!(error.contains("ca.pem"), "{error}");
}

#[tokio::test]
async fn a_daemon_says_what_it_is() {
    let Some(docker) = docker().await else { return };
    let daemon = docker.daemon();
    assert_eq!(
        (&*daemon.address, &*daemon.os, daemon.podman),
        ("unix:///var/run/docker.sock", "linux", false)
    );
    assert!(!daemon.engine_version.is_empty() && !daemon.arch.is_empty());
    assert!(daemon.api_version.starts_with("1."), "{daemon:?}");
    docker.ping().await.unwrap();
}

/// A way to the daemon that can be cut.
struct Proxy {
    socket: PathBuf,
    accepting: AbortHandle,
    _folder: tempfile::TempDir,
}

impl Proxy {
    async fn start() -> (Self, Docker) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let accepting = Self::accept(&socket);
        let docker = connect(&socket).await.unwrap();
        (Self { socket, accepting, _folder: folder }, docker)
    }

    fn accept(socket: &Path) -> AbortHandle {
        let listener = UnixListener::bind(socket).unwrap();
        let accepting = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (mut from, _) = listener.accept().await.unwrap();
                // Dropped with the task, and with them all connections.
                open.spawn(async move {
                    let mut to = UnixStream::connect(SOCKET).await.unwrap();
                    drop(copy_bidirectional(&mut from, &mut to).await);
                });
            }
        });
        accepting.abort_handle()
    }

    async fn reopen(&self) -> Docker {
        Self::accept(&self.socket);
        connect(&self.socket).await.unwrap()
    }

    fn cut(&self) {
        fs::remove_file(&self.socket).unwrap();
        self.accepting.abort();
    }
}

fn is_loss(error: &Error) -> bool {
    matches!(error, Error::WentAway { .. })
        && error.to_string().starts_with("the Docker daemon went away: cannot ")
}

/// Runs `act` in a scope behind a proxy, which is cut when `act` says so. It must fail with a loss, and not hang.
async fn cut_in_the_middle<T: std::fmt::Debug>(
    act: impl AsyncFnOnce(&Scope, Container, &dyn Fn()) -> Result<T, Error>,
) {
    if docker().await.is_none() {
        return;
    }
    let (proxy, docker) = Proxy::start().await;
    let ledgers = Ledgers::new();
    let scope = ledgers.scope(&docker);
    let container = running(&scope).await;
    let acted = tokio::time::timeout(Duration::from_secs(25), act(&scope, container, &|| proxy.cut())).await;
    let error = acted.unwrap().unwrap_err();
    assert!(is_loss(&error), "{error:?}");
    let left = scope.remove_all().await;
    assert!(!left.is_empty() && left.iter().all(|left| is_loss(&left.why)), "{left:?}");
    let run_id = scope.owner().run_id.clone();
    ledgers.dies(scope);
    let swept = sweep(&proxy.reopen().await, &ledgers.runs).await;
    assert!(!swept.removed.is_empty() && swept.residuals.is_empty(), "{swept:?}");
    assert_eq!(crate::support::labelled(&run_id), [""; 0]);
}

#[tokio::test]
async fn the_loss_of_the_daemon_is_named_whatever_was_going_on() {
    cut_in_the_middle(async |_, container, cut| {
        let mut exec = container.exec(&sh("echo ready; sleep 1000")).await?;
        exec.next().await?;
        cut();
        exec.exit().await
    })
    .await;
    cut_in_the_middle(async |_, container, cut| {
        let mut exec = container.exec(&sh("yes")).await?;
        for _ in 0..100 {
            exec.next().await?;
        }
        cut();
        exec.exit().await
    })
    .await;
    cut_in_the_middle(async |_, container, cut| {
        let mut exec = container.exec(&sh("echo ready; sleep 1000")).await?;
        exec.next().await?;
        cut();
        exec.control().end(Duration::ZERO).await
    })
    .await;
    cut_in_the_middle(async |_, container, cut| {
        let (ended, ()) = tokio::join!(container.wait(), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            cut();
        });
        ended
    })
    .await;
    cut_in_the_middle(async |_, container, cut| {
        stdout(&container, "head -c 100000000 /dev/zero >/tmp/big").await;
        let received = container.receive("/tmp/big", |tar| {
            std::io::copy(tar, &mut std::io::sink()).map_err(|source| Error::File {
                doing: "read",
                path: "it".into(),
                source,
            })
        });
        let (received, ()) = tokio::join!(received, async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            cut();
        });
        received
    })
    .await;
    cut_in_the_middle(async |_, container, cut| {
        let folder = tempfile::tempdir().unwrap();
        fs::File::create(folder.path().join("big")).unwrap().set_len(10 << 30).unwrap();
        let (sent, ()) = tokio::join!(container.upload(folder.path(), "/tmp", Ids::default()), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            cut();
        });
        sent
    })
    .await;
    cut_in_the_middle(async |scope, _, cut| {
        let folder = tempfile::tempdir().unwrap();
        let dockerfile = format!("FROM {}\nRUN echo now; sleep 3\n", testimage::busybox().unwrap());
        fs::write(folder.path().join("Dockerfile"), dockerfile).unwrap();
        let context = folder.path().to_owned();
        let build = Build { context, tags: vec!["loom-test/lost:1".to_owned()], ..Build::default() };
        scope
            .build(&build, &Logins::none(), |line| {
                if line == "now" {
                    cut()
                }
            })
            .await
    })
    .await;
    cut_in_the_middle(async |scope, container, cut| {
        cut();
        assert!(is_loss(&scope.create_container(&spec()).await.unwrap_err()));
        assert!(is_loss(&scope.create_network("net", Outside::Closed).await.unwrap_err()));
        assert!(is_loss(&scope.create_volume("vol").await.unwrap_err()));
        assert!(is_loss(&container.start().await.unwrap_err()));
        assert!(is_loss(&container.stop(Duration::ZERO).await.unwrap_err()));
        assert!(is_loss(&container.exec(&sh("true")).await.unwrap_err()));
        assert!(is_loss(&container.wait_healthy(Duration::from_secs(5), Expect::Health).await.unwrap_err()));
        assert!(is_loss(&container.output(None, Follow::No).next().await.unwrap_err()));
        scope.docker().image("loom-test/x").await
    })
    .await;
}

/// A second daemon, with what reaches it.
struct Second {
    daemon: testimage::Daemon,
    _folder: tempfile::TempDir,
}

impl Second {
    async fn start() -> Option<(Self, Docker)> {
        docker().await?;
        let folder = tempfile::Builder::new().prefix("loom").tempdir().unwrap();
        match testimage::Daemon::start(folder.path(), testimage::DaemonOptions::default()) {
            Ok(daemon) => {
                let docker = connect(&daemon.socket()).await.unwrap();
                Some((Self { daemon, _folder: folder }, docker))
            }
            Err(why) => {
                assert!(std::env::var_os("LOOM_TESTS_NEED_DOCKER").is_none(), "{why}");
                eprintln!("skipped: {why}");
                None
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.daemon.pid().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    async fn restart(&mut self) -> Docker {
        self.daemon.restart().unwrap();
        connect(&self.daemon.socket()).await.unwrap()
    }

    fn scope(&self, docker: &Docker) -> (Scope, loom_docker::ContainerSpec) {
        let socket = self.daemon.socket();
        let image =
            testimage::image_at(socket.to_str().unwrap(), Image { name: "busybox", ..Image::default() });
        let spec = loom_docker::ContainerSpec { image: image.unwrap(), ..waiting() };
        (crate::support::scope(docker), spec)
    }
}

#[tokio::test]
async fn a_daemon_that_is_killed_and_comes_back_gives_no_wrong_exit_code() {
    let Some((mut daemon, docker)) = Second::start().await else { return };
    let ledgers = Ledgers::new();
    let (_, spec) = daemon.scope(&docker);
    let scope = ledgers.scope(&docker);
    let container = scope.create_container(&spec).await.unwrap();
    container.start().await.unwrap();
    let mut exec = container.exec(&sh("echo ready; sleep 1; exit 5")).await.unwrap();
    exec.next().await.unwrap().unwrap();
    let back = daemon.restart().await;
    let error = exec.exit().await.unwrap_err();
    assert!(is_loss(&error) || matches!(error, Error::Gone { .. }), "{error:?}");
    ledgers.dies(scope);
    let swept = sweep(&back, &ledgers.runs).await;
    assert_eq!((swept.removed.len(), swept.residuals.len()), (1, 0), "{swept:?}");
}

#[tokio::test]
async fn a_daemon_that_hangs_is_noticed() {
    let Some((daemon, docker)) = Second::start().await else { return };
    let (scope, spec) = daemon.scope(&docker);
    let container = scope.create_container(&spec).await.unwrap();
    container.start().await.unwrap();
    let mut exec = container
        .exec(&ExecSpec { command: vec!["sleep".to_owned(), "1000".to_owned()], ..sh("") })
        .await
        .unwrap();
    daemon.signal(Signal::STOP);
    let (exec, waited) = tokio::join!(exec.exit(), container.wait());
    assert!(matches!(exec, Err(Error::Unresponsive { .. })), "{exec:?}");
    assert!(matches!(waited, Err(Error::Unresponsive { .. })), "{waited:?}");
    daemon.signal(Signal::CONT);
    assert!(scope.remove_all().await.is_empty());
}

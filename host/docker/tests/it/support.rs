//! A scope for a test, of which nothing may be left afterwards.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use loom_contract::id::RunId;
use loom_docker::{
    Chunk, Connect, Container, ContainerSpec, Docker, Error, ExecExit, ExecSpec, Owner, Scope, Stream,
};
use loom_docker_testimage::{self as testimage, SOCKET};
use loom_ownership::{PrivateFolder, Runs};

/// The daemon, unless there is none and the tests may do without.
pub(crate) async fn docker() -> Option<Docker> {
    let missing = match Docker::connect(Connect::default()).await {
        Ok(docker) => match testimage::busybox() {
            Ok(_) => return Some(docker),
            Err(error) => error,
        },
        Err(error) => error.to_string(),
    };
    let needed = std::env::var_os("LOOM_TESTS_NEED_DOCKER").is_some();
    assert!(!needed, "LOOM_TESTS_NEED_DOCKER is set: {missing}");
    eprintln!("skipped: {missing}");
    None
}

/// An owner that nobody else is.
pub(crate) fn owner() -> Owner {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Of the form of a run's id, for its ledger.
    let run_id = format!("loom-run-local-{}{number:09}", std::process::id());
    Owner { run_id, job_id: "job".to_owned(), repo: "/repo".to_owned() }
}

/// The ledgers of a test's runs; the folder goes with it.
pub(crate) struct Ledgers {
    folder: tempfile::TempDir,
    pub(crate) runs: Runs,
}

impl Ledgers {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runs = Runs::open(&PrivateFolder::open_or_make(folder.path()).unwrap()).unwrap();
        Self { folder, runs }
    }

    /// A scope for a run of its own. The run lives as long as the scope.
    pub(crate) fn scope(&self, docker: &Docker) -> Scope {
        let owner = owner();
        let run_id = RunId::new(&owner.run_id).unwrap();
        let ledger = self.runs.register(&run_id, Path::new("/repo")).unwrap();
        Scope::new(docker, owner, ledger)
    }
}

impl Ledgers {
    /// The run of `scope` ends without a word, as if its process had been killed: that of the test goes on, so that the
    /// ledger must be of another one.
    pub(crate) fn dies(&self, scope: Scope) {
        let run_id = scope.owner().run_id.clone();
        drop(scope);
        for entry in std::fs::read_dir(self.folder.path().join("runs")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with(&run_id) {
                let own = format!("\"pid\":{}", std::process::id());
                let text = std::fs::read_to_string(&path).unwrap().replace(&own, "\"pid\":4194304");
                std::fs::write(&path, text).unwrap();
            }
        }
    }
}

/// A scope whose ledger nobody reads.
pub(crate) fn scope(docker: &Docker) -> Scope {
    static LEDGERS: LazyLock<Ledgers> = LazyLock::new(Ledgers::new);
    LEDGERS.scope(docker)
}
/// After this time a test counts as hanging.
const HANGS: Duration = Duration::from_secs(600);

/// Runs a test with a scope, removes everything, and sees that the daemon has nothing of it left.
pub(crate) async fn with_scope(test: impl AsyncFnOnce(Scope)) {
    let Some(docker) = docker().await else { return };
    let scope = scope(&docker);
    let test = tokio::time::timeout(HANGS, test(scope.clone()));
    let result = AssertUnwindSafe(async { test.await.unwrap() }).catch_unwind().await;
    let left = scope.remove_all().await;
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(labelled(&scope.owner().run_id), [""; 0]);
}

/// What the daemon says that it has of a run, of any kind.
pub(crate) fn labelled(run_id: &str) -> Vec<String> {
    let filters = format!("filters=%7B%22label%22%3A%5B%22loom.run_id%3D{run_id}%22%5D%7D");
    let mut found = Vec::new();
    for path in ["/containers/json?all=1&", "/networks?", "/volumes?", "/images/json?"] {
        let (status, body) = testimage::request(SOCKET, "GET", &format!("{path}{filters}"), b"").unwrap();
        assert_eq!(status, 200, "{body}");
        if body.contains(run_id) {
            found.push(format!("{path} {body}"));
        }
    }
    found
}

/// A container of the test image in which execs can be run.
pub(crate) async fn running(scope: &Scope) -> Container {
    let container = scope.create_container(&waiting()).await.unwrap();
    container.start().await.unwrap();
    container
}

pub(crate) fn waiting() -> ContainerSpec {
    spec().waiting()
}

/// A container of the test image.
pub(crate) fn spec() -> ContainerSpec {
    ContainerSpec {
        name: "test".to_owned(),
        image: testimage::busybox().unwrap(),
        networking: loom_docker::Networking::None,
        ..ContainerSpec::default()
    }
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// An exec of `sh -c`.
pub(crate) fn sh(script: &str) -> ExecSpec {
    ExecSpec { command: words(&["sh", "-c", script]), ..ExecSpec::default() }
}

/// What a process wrote and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub exit: ExecExit,
}

pub(crate) async fn run(container: &Container, spec: &ExecSpec) -> Result<Ran, Error> {
    let mut exec = container.exec(spec).await?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(Chunk { stream, bytes }) = exec.next().await? {
        match stream {
            Stream::Stdout => stdout.extend_from_slice(&bytes),
            Stream::Stderr => stderr.extend_from_slice(&bytes),
        }
    }
    let exit = exec.exit().await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ran { stdout: text(stdout), stderr: text(stderr), exit })
}

/// What `sh -c` prints, which must go well.
pub(crate) async fn stdout(container: &Container, script: &str) -> String {
    let ran = run(container, &sh(script)).await.unwrap();
    assert_eq!(ran.exit.code, 0, "{script}: {ran:?}");
    ran.stdout
}

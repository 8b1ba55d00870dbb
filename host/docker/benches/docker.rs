//! What Loom's way with the daemon costs, beside that of Docker's own client. Both need a daemon; without one, or without
//! the client, what needs it is left out.

#![expect(clippy::unwrap_used, reason = "a benchmark whose ground is missing fails")]
#![expect(clippy::disallowed_methods, reason = "Docker's own client is measured, too")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use divan::Bencher;
use fs_err as fs;
use loom_contract::id::RunId;
use loom_docker::{
    Connect, Container, ContainerSpec, Docker, ExecSpec, Ids, KeepOutput, Mount, Networking, Outside, Owner,
    Scope,
};
use loom_docker_testimage as testimage;
use loom_ownership::{PrivateFolder, Runs};
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

/// A runtime, a scope with a container that runs, and a volume in it.
struct Ground {
    runtime: Runtime,
    scope: Scope,
    container: Container,
}

impl Ground {
    fn new() -> Option<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let docker = runtime.block_on(Docker::connect(Connect::default())).ok()?;
        static RUN: AtomicU32 = AtomicU32::new(0);
        let run = RUN.fetch_add(1, Ordering::Relaxed);
        let run_id = format!("loom-run-local-{}{run:09}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let runs = Runs::open(&PrivateFolder::open_or_make(folder.path()).unwrap()).unwrap();
        let ledger = runs.register(&RunId::new(&run_id).unwrap(), Path::new("/")).unwrap();
        let owner = Owner { run_id, job_id: "bench".to_owned(), repo: "/".to_owned() };
        let scope = Scope::new(&docker, owner, ledger);
        let container = runtime.block_on(async {
            let volume = scope.create_volume("bench").await.unwrap();
            let mount = Mount::Volume { volume, at: "/workspace".to_owned(), read_only: false };
            let container =
                scope.create_container(&ContainerSpec { mounts: vec![mount], ..spec() }).await.unwrap();
            container.start().await.unwrap();
            container
        });
        Some(Self { runtime, scope, container })
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.runtime.block_on(self.scope.remove_all());
    }
}

fn spec() -> ContainerSpec {
    let image = testimage::busybox().unwrap();
    ContainerSpec {
        name: "bench".to_owned(),
        image,
        networking: Networking::None,
        ..ContainerSpec::default()
    }
    .waiting()
}

async fn exec(container: &Container, script: &str) -> usize {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let mut exec = container.exec(&ExecSpec { command, ..ExecSpec::default() }).await.unwrap();
    let mut bytes = 0;
    while let Some(chunk) = exec.next().await.unwrap() {
        bytes += chunk.bytes.len();
    }
    assert_eq!(exec.exit().await.unwrap().code, 0);
    bytes
}

fn client(args: &[&str]) -> bool {
    Command::new("docker").args(args).stdout(Stdio::null()).status().unwrap().success()
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn connect(bencher: Bencher<'_, '_>) {
    let Some(ground) = Ground::new() else { return };
    bencher.bench_local(|| ground.runtime.block_on(Docker::connect(Connect::default())).unwrap());
}

/// A whole job of one step, from nothing to nothing.
#[divan::bench(sample_count = 10, sample_size = 1, args = ["none", "bridge"])]
fn job_of_one_step(bencher: Bencher<'_, '_>, network: &str) {
    let Some(ground) = Ground::new() else { return };
    let networking = if network == "none" { Networking::None } else { Networking::Default };
    let spec = ContainerSpec { networking, ..spec() };
    bencher.bench_local(|| {
        ground.runtime.block_on(async {
            let container = ground.scope.create_container(&spec).await.unwrap();
            container.start().await.unwrap();
            exec(&container, "true").await;
            ground.scope.remove(&container.resource()).await.unwrap();
        });
    });
}

/// The same by one container that runs the step itself.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn container_of_one_step(bencher: Bencher<'_, '_>) {
    let Some(ground) = Ground::new() else { return };
    let command = Some(["sh", "-c", "true"].map(str::to_owned).to_vec());
    let spec = ContainerSpec {
        entrypoint: None,
        command,
        stdin_open: false,
        init: false,
        output: KeepOutput::No,
        ..spec()
    };
    bencher.bench_local(|| {
        ground.runtime.block_on(async {
            let container = ground.scope.create_container(&spec).await.unwrap();
            container.start().await.unwrap();
            assert_eq!(container.wait().await.unwrap().code, 0);
            ground.scope.remove(&container.resource()).await.unwrap();
        });
    });
}

#[divan::bench(sample_count = 10, sample_size = 1, args = ["none", "bridge"])]
fn job_of_one_step_by_the_client(bencher: Bencher<'_, '_>, network: &str) {
    if Ground::new().is_none() || !client(&["version"]) {
        return;
    }
    let image = testimage::busybox().unwrap();
    bencher
        .bench_local(|| assert!(client(&["run", "--rm", "--network", network, &image, "sh", "-c", "true"])));
}

#[divan::bench(sample_count = 30, sample_size = 1)]
fn step(bencher: Bencher<'_, '_>) {
    let Some(ground) = Ground::new() else { return };
    bencher.bench_local(|| ground.runtime.block_on(exec(&ground.container, "true")));
}

#[divan::bench(sample_count = 30, sample_size = 1)]
fn step_by_the_client(bencher: Bencher<'_, '_>) {
    let Some(ground) = Ground::new() else { return };
    if client(&["version"]) {
        bencher.bench_local(|| assert!(client(&["exec", ground.container.id(), "sh", "-c", "true"])));
    }
}

/// The end of a step that was cancelled, with its tree.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn end_of_a_step(bencher: Bencher<'_, '_>) {
    let Some(ground) = Ground::new() else { return };
    let command = ["sh", "-c", "sleep 1000 & sleep 1000"].map(str::to_owned).to_vec();
    let spec = ExecSpec { command, ..ExecSpec::default() };
    bencher.with_inputs(|| ground.runtime.block_on(ground.container.exec(&spec)).unwrap()).bench_local_refs(
        |exec| {
            ground.runtime.block_on(exec.control().end(std::time::Duration::from_secs(5))).unwrap();
        },
    );
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn output_of_256_mib(bencher: Bencher<'_, '_>) {
    let Some(ground) = Ground::new() else { return };
    bencher
        .counter(divan::counter::BytesCount::new(256_u32 << 20))
        .bench_local(|| ground.runtime.block_on(exec(&ground.container, "head -c 268435456 /dev/zero")));
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn network_made_and_removed(bencher: Bencher<'_, '_>) {
    let Some(ground) = Ground::new() else { return };
    bencher.bench_local(|| {
        ground.runtime.block_on(async {
            let network = ground.scope.create_network("bench", Outside::Closed).await.unwrap();
            ground.scope.remove(&network.resource()).await.unwrap();
        });
    });
}

const FILES: usize = 20_000;

/// Twenty thousand files of three KiB on average, in folders of a hundred.
fn tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let content = vec![b'x'; 6 << 10];
    for number in 0..FILES {
        let folder = root.path().join(format!("d{}", number / 100));
        if number % 100 == 0 {
            fs::create_dir(&folder).unwrap();
        }
        fs::write(folder.join(format!("file{number}")), &content[..number % content.len()]).unwrap();
    }
    root
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn upload_of_20_000_files(bencher: Bencher<'_, '_>) {
    let Some(ground) = Ground::new() else { return };
    let tree = tree();
    bencher.with_inputs(|| clear(&ground)).bench_local_refs(|()| {
        let packed =
            ground.runtime.block_on(ground.container.upload(tree.path(), "/workspace", Ids::default()));
        assert_eq!(packed.unwrap().files, FILES as u64);
    });
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn upload_of_20_000_files_by_the_client(bencher: Bencher<'_, '_>) {
    let Some(ground) = Ground::new() else { return };
    let tree = tree();
    let (from, to) =
        (format!("{}/.", tree.path().display()), format!("{}:/workspace", ground.container.id()));
    if client(&["version"]) {
        bencher
            .with_inputs(|| clear(&ground))
            .bench_local_refs(|()| assert!(client(&["cp", "-q", &from, &to])));
    }
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn download_of_20_000_files(bencher: Bencher<'_, '_>) {
    let Some(ground) = Ground::new() else { return };
    fill(&ground, tree().path());
    bencher.with_inputs(|| tempfile::tempdir().unwrap()).bench_local_refs(|into| {
        let unpacked = ground.runtime.block_on(ground.container.download("/workspace/.", into.path()));
        assert_eq!(unpacked.unwrap().files, FILES as u64);
    });
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn download_of_20_000_files_by_the_client(bencher: Bencher<'_, '_>) {
    let Some(ground) = Ground::new() else { return };
    fill(&ground, tree().path());
    let from = format!("{}:/workspace/.", ground.container.id());
    if client(&["version"]) {
        bencher.with_inputs(|| tempfile::tempdir().unwrap()).bench_local_refs(|into| {
            assert!(client(&["cp", "-q", &from, into.path().to_str().unwrap()]));
        });
    }
}

fn clear(ground: &Ground) {
    ground.runtime.block_on(exec(&ground.container, "rm -rf /workspace/*"));
}

fn fill(ground: &Ground, from: &Path) {
    ground.runtime.block_on(ground.container.upload(from, "/workspace", Ids::default())).unwrap();
}

//! What plugins cost: to load, to start for a job, to call.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::path::Path;
use std::sync::Arc;

use divan::Bencher;
use keepass::config::{DatabaseConfig, KdfConfig};
use keepass::db::fields;
use keepass::{Database, DatabaseKey};
use loom_contract::id::JobId;
use loom_engine::fake::FakeJob;
use loom_engine::port::{CleanupReason, Provider as _, SecretResolver as _};
use loom_plugin_bundle::{HOST, KEEPASS, guests};
use loom_plugin_host::{Credential, Origin, Plugin, PluginConfig, Runtime};
use loom_plugin_keepass::vault::Vault;
use serde_json::json;

fn main() {
    divan::main();
}

/// As in the first run after an installation: the engine, and all of Cranelift's work.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn load_cold() -> Arc<Plugin> {
    Runtime::new(None).unwrap().load_provider(HOST, PluginConfig::default()).unwrap()
}

/// As in each later run: the engine, the key, the machine code.
#[divan::bench(sample_count = 200, sample_size = 1)]
fn load_cached(bencher: Bencher<'_, '_>) {
    let cache = tempfile::tempdir().unwrap();
    Runtime::new(Some(cache.path().join("c"))).unwrap().load_provider(HOST, PluginConfig::default()).unwrap();
    bencher.bench_local(|| {
        let plugin = Runtime::new(Some(cache.path().join("c")))
            .unwrap()
            .load_provider(HOST, PluginConfig::default())
            .unwrap();
        assert_eq!(plugin.origin(), Origin::Cached);
        plugin
    });
}

/// The part of `load_cached` that every process pays once, whatever it loads.
#[divan::bench(sample_count = 200, sample_size = 1)]
fn runtime(bencher: Bencher<'_, '_>) {
    let cache = tempfile::tempdir().unwrap();
    bencher.bench_local(|| Runtime::new(Some(cache.path().join("c"))).unwrap());
}

/// A job's own instance, all three calls, one step that starts nothing.
#[divan::bench]
fn job_without_processes(bencher: Bencher<'_, '_>) {
    let plugin = misbehaving();
    let tokio = tokio();
    bencher.bench_local(|| tokio.block_on(run(&plugin, "exit 0")));
}

/// The same with one process, in the shell.
#[divan::bench(sample_count = 100)]
fn job_with_one_process(bencher: Bencher<'_, '_>) {
    let plugin = Runtime::new(None).unwrap().load_provider(HOST, PluginConfig::default()).unwrap();
    let tokio = tokio();
    bencher.bench_local(|| tokio.block_on(run(&plugin, ":")));
}

/// Steps that do nothing, in one instance: what a call into a guest costs, with what the guest asks of its step.
#[divan::bench]
fn thousand_calls(bencher: Bencher<'_, '_>) {
    let plugin = misbehaving();
    let tokio = tokio();
    bencher.bench_local(|| {
        tokio.block_on(async {
            let job = job();
            let mut provider = plugin.open(Arc::clone(&job.context)).await.unwrap();
            for _ in 0..1000 {
                provider.run_step(job.step(0, "exit 0")).await.unwrap();
            }
        });
    });
}

/// A guest that calls the host a hundred thousand times, with a line of text each.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn hundred_thousand_host_calls(bencher: Bencher<'_, '_>) {
    let plugin = misbehaving();
    let tokio = tokio();
    bencher.bench_local(|| tokio.block_on(run(&plugin, "logs 99999")));
}

/// The code that the KeePass component is made of, without the component: to be compared with `open_vault_in_component`.
/// By lanes; here each has its thread.
#[divan::bench(args = [1, 4], sample_count = 30, sample_size = 1)]
fn open_vault_natively(bencher: Bencher<'_, '_>, lanes: u32) {
    let database = vault(lanes);
    bencher.bench_local(|| Vault::open(&database, Some(PASSWORD.as_bytes()), None).unwrap());
}

/// As a run does it: a new instance, its credentials from the host, one value found and returned.
#[divan::bench(args = [1, 4], sample_count = 30, sample_size = 1)]
fn open_vault_in_component(bencher: Bencher<'_, '_>, lanes: u32) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.kdbx");
    fs_err::write(&path, vault(lanes)).unwrap();
    let runtime = Runtime::new(None).unwrap();
    let tokio = tokio();
    let resolver = || {
        let settings = json!({ "vaults": { "v": { "key": "V", "path": path } } });
        let slot = ("password".to_owned(), Some("v".to_owned()));
        let config = PluginConfig {
            settings: settings.as_object().unwrap().clone(),
            files: vec![path.clone()],
            credentials: [(slot, Credential::Variable("PASSWORD".into()))].into(),
            environment: [("PASSWORD".into(), PASSWORD.into())].into(),
            ..PluginConfig::default()
        };
        runtime.load_resolver(KEEPASS, config).unwrap()
    };
    bencher.with_inputs(resolver).bench_local_values(|resolver| {
        let (_canceller, cancel) = loom_engine::cancel::channel();
        let references = ["keepass://v#db:password".to_owned()];
        let answers = tokio.block_on(resolver.resolve(&references, cancel)).unwrap();
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        resolver
    });
}

const PASSWORD: &str = "open sesame";

/// Its key is derived with Argon2id, 64 MiB, 3 passes, as Loom and KeePassXC do.
fn vault(lanes: u32) -> Vec<u8> {
    let mut config = DatabaseConfig::default();
    if let KdfConfig::Argon2 { version, .. } = config.kdf_config {
        config.kdf_config =
            KdfConfig::Argon2id { iterations: 3, memory: 64 << 20, parallelism: lanes, version };
    }
    let mut database = Database::with_config(config);
    let mut root = database.root_mut();
    let mut entry = root.add_entry();
    entry.set_unprotected(fields::TITLE, "db");
    entry.set_protected(fields::PASSWORD, "s3cret");
    let mut bytes = Vec::new();
    database.save(&mut bytes, DatabaseKey::new().with_password(PASSWORD)).unwrap();
    bytes
}

fn misbehaving() -> Arc<Plugin> {
    Runtime::new(None).unwrap().load_provider(guests::MISBEHAVING, PluginConfig::default()).unwrap()
}

fn tokio() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

fn job() -> FakeJob {
    let path = ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into());
    FakeJob::new(JobId::new("bench").unwrap(), Path::new("/").into(), vec![], vec![path])
}

async fn run(plugin: &Arc<Plugin>, command: &str) {
    let mut job = job();
    let mut provider = plugin.open(Arc::clone(&job.context)).await.unwrap();
    provider.prepare().await.unwrap();
    let end = provider.run_step(job.step(0, command)).await.unwrap();
    assert_eq!(end.exit_code, 0);
    job.end_step();
    provider.cleanup(CleanupReason::Done).await.unwrap();
    drop(job.events());
}

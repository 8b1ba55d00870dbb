//! What a store holds for one guest. The interfaces work on parts of it: each borrows those that its view names.

use std::collections::BTreeMap;
use std::sync::Arc;

use loom_engine::port::{JobContext, Report};
use parking_lot::Mutex;
use serde_json::Value;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::config::PluginConfig;
use crate::docker::DockerState;
use crate::imports::store::context::StoreContext;
use crate::info::PluginInfo;
use crate::limits::{Flood, HANDLES, Memory};
use crate::messages::Messages;
use crate::meter::Meter;
use crate::printed::Printed;
use crate::wall::Wall;

/// Bytes of state that a plugin may keep for one job.
const KEPT_LIMIT: usize = 1 << 20;
/// Bytes that a guest may ask for at once from the source of randomness.
const RANDOM: u64 = 64 * 1024;

/// A guest, and its job where it has one.
pub(crate) struct Guest {
    pub(crate) plugin: Arc<PluginInfo>,
    /// What the user's configuration gives it.
    pub(crate) config: Arc<PluginConfig>,
    pub(crate) kept: Arc<Kept>,
    pub(crate) table: ResourceTable,
    pub(crate) memory: Memory,
    pub(crate) flood: Flood,
    pub(crate) meter: Arc<Meter>,
    pub(crate) wall: Arc<Wall>,
    pub(crate) job: OwnJob,
    /// Where the call that runs records its messages.
    pub(crate) messages: Messages,
    /// The number of the call that runs.
    pub(crate) call: u64,
    /// What the workflow says under a wrapper's keyword.
    pub(crate) keyword: Value,
    /// What a wrapper's call says of its section.
    pub(crate) report: Report,
    pub(crate) store: StoreContext,
    printed: Printed,
    wasi: WasiCtx,
}

impl Guest {
    /// A guest with a job.
    pub(crate) fn of_job(
        plugin: &Arc<PluginInfo>,
        config: Arc<PluginConfig>,
        job: Arc<JobContext>,
        kept: Arc<Kept>,
    ) -> Self {
        let printed = Printed::new(&plugin.reference.name, Some(job.redactor.stream()));
        let messages = Messages::new(Some(Arc::clone(&job)));
        Self { kept, messages, job: OwnJob(Some(job)), ..Self::new(plugin, config, printed) }
    }

    /// A guest that serves the whole run, and whose prints and log nobody may see.
    pub(crate) fn of_run(plugin: &Arc<PluginInfo>, config: Arc<PluginConfig>) -> Self {
        Self::new(plugin, config, Printed::new(&plugin.reference.name, None))
    }

    fn new(plugin: &Arc<PluginInfo>, config: Arc<PluginConfig>, printed: Printed) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        let mut wasi = WasiCtx::builder();
        wasi.max_random_size(RANDOM).stdout(printed.clone()).stderr(printed.clone());
        Self {
            memory: Memory::new(plugin.manifest.limits.memory_mib),
            plugin: Arc::clone(plugin),
            config,
            kept: Arc::default(),
            table,
            flood: Flood::default(),
            meter: Arc::default(),
            wall: Arc::new(Wall::new()),
            job: OwnJob(None),
            messages: Messages::new(None),
            call: 0,
            keyword: Value::Null,
            report: Report::default(),
            store: StoreContext::default(),
            printed,
            wasi: wasi.build(),
        }
    }

    /// The end of what it printed, as far as it may be shown.
    pub(crate) fn last_words(&self) -> String {
        self.printed.text()
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// The job of a guest, where it has one.
pub(crate) struct OwnJob(Option<Arc<JobContext>>);

impl OwnJob {
    /// The job. What is about jobs is linked only where there is one: without one, this is a trap.
    pub(crate) fn get(&self) -> wasmtime::Result<&Arc<JobContext>> {
        self.0.as_ref().ok_or_else(|| wasmtime::format_err!("the plugin has no job"))
    }

    /// The job, for what guests without one get too.
    pub(crate) fn if_any(&self) -> Option<&JobContext> {
        self.0.as_deref()
    }
}

/// What a plugin keeps for one job. It outlives the instances.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    state: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What it has had the Docker daemon make.
    pub(crate) docker: DockerState,
}

impl Kept {
    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.state.lock().get(key).cloned()
    }

    /// Says whether there was room for it.
    pub(crate) fn set(&self, key: String, value: Vec<u8>) -> bool {
        let mut kept = self.state.lock();
        let others: usize = kept.iter().filter(|(k, _)| **k != key).map(|(k, v)| k.len() + v.len()).sum();
        let fits = others.saturating_add(key.len()).saturating_add(value.len()) <= KEPT_LIMIT;
        if fits {
            kept.insert(key, value);
        }
        fits
    }
}

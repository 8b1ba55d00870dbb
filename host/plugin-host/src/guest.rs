//! What a store holds: all that the host's functions work on for one guest.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use loom_cache::key::FilesHash;
use loom_contract::event::Level;
use loom_contract::id::StepIndex;
use loom_contract::section::Section;
use loom_engine::port::{JobContext, Report};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::caches::Caches;
use crate::config::PluginConfig;
use crate::docker::DockerState;
use crate::imports::wasi::{self, Printed};
use crate::limits::{Flood, HANDLES, Memory};
use crate::meter::Meter;
use crate::runtime::Loaded;

/// Bytes of state that a plugin may keep for one job.
const KEPT_LIMIT: usize = 1 << 20;

/// A guest, and its job where it has one.
pub(crate) struct Guest {
    pub(crate) plugin: Arc<Loaded>,
    /// What the user's configuration gives it.
    pub(crate) config: Arc<PluginConfig>,
    pub(crate) kept: Arc<Kept>,
    pub(crate) table: ResourceTable,
    pub(crate) memory: Memory,
    pub(crate) flood: Flood,
    pub(crate) meter: Arc<Meter>,
    printed: Printed,
    wasi: WasiCtx,
    job: Option<Arc<JobContext>>,
    /// What the workflow says under a wrapper's keyword.
    pub(crate) keyword: Value,
    /// What a wrapper's call says of its section.
    pub(crate) report: Report,
    /// The run's caches, for a wrapper.
    pub(crate) caches: Option<Arc<Caches>>,
    /// What it had hashed, with the globs.
    pub(crate) hashed: Vec<(String, FilesHash)>,
    /// The call that runs, counted, and what it is part of.
    pub(crate) call: u64,
    pub(crate) scope: Option<CallScope>,
}

/// What a call is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallScope {
    Section(Section),
    Step(StepIndex),
}

impl Guest {
    /// A guest with a job.
    pub(crate) fn of_job(
        plugin: &Arc<Loaded>,
        config: Arc<PluginConfig>,
        job: Arc<JobContext>,
        kept: Arc<Kept>,
    ) -> Self {
        let printed = Printed::new(&plugin.reference.name, Some(job.redactor.stream()));
        Self { kept, job: Some(job), ..Self::new(plugin, config, printed) }
    }

    /// A guest that serves the whole run, and whose prints and log nobody may see.
    pub(crate) fn of_run(plugin: &Arc<Loaded>, config: Arc<PluginConfig>) -> Self {
        Self::new(plugin, config, Printed::new(&plugin.reference.name, None))
    }

    fn new(plugin: &Arc<Loaded>, config: Arc<PluginConfig>, printed: Printed) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        Self {
            memory: Memory::new(plugin.manifest.limits.memory_mib),
            wasi: wasi::context(&printed),
            plugin: Arc::clone(plugin),
            config,
            kept: Arc::default(),
            table,
            flood: Flood::default(),
            meter: Arc::default(),
            printed,
            job: None,
            keyword: Value::Null,
            report: Report::default(),
            caches: None,
            hashed: Vec::new(),
            call: 0,
            scope: None,
        }
    }

    /// Its job. What is about jobs is linked only where there is one.
    pub(crate) fn job(&self) -> wasmtime::Result<&Arc<JobContext>> {
        self.job.as_ref().ok_or_else(|| wasmtime::format_err!("the plugin has no job"))
    }

    /// The workflow's variables for `job`, its own, as far as they are resolved.
    pub(crate) fn job_variables<'j>(&'j self, job: &'j JobContext) -> &'j [(String, String)] {
        self.kept.docker.variables().unwrap_or_else(|| job.variables())
    }

    /// The end of what it printed, as far as it may be shown.
    pub(crate) fn last_words(&self) -> String {
        self.printed.text()
    }

    /// What it logs, as it may be shown.
    pub(crate) fn loggable<'t>(&self, text: &'t str) -> Option<Cow<'t, str>> {
        self.job.as_ref().map(|job| job.redactor.text(text))
    }

    /// Records a message where the call that runs belongs; nowhere while the guest is being made.
    pub(crate) fn say(&self, level: Level, text: String, data: Option<Map<String, Value>>) {
        say(self.scope, self.job.as_ref(), level, text, data);
    }
}

/// Records a message where a call belongs; nowhere while a guest is being made.
pub(crate) fn say(
    scope: Option<CallScope>,
    job: Option<&Arc<JobContext>>,
    level: Level,
    text: String,
    data: Option<Map<String, Value>>,
) {
    match (scope, job) {
        (Some(CallScope::Section(section)), Some(job)) => job.message(section, level, text, data),
        (Some(CallScope::Step(step)), Some(job)) => job.step_message(step, level, text, data),
        _ => tracing::debug!("a plugin said something outside of a call"),
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
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

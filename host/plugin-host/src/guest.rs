//! What a store holds: all that the host's functions work on for one guest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use loom_contract::event::{Level, PluginRef};
use loom_contract::id::StepIndex;
use loom_contract::section::Section;
use loom_engine::port::JobContext;
use serde_json::{Map, Value};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::imports::wasi::{self, Printed};
use crate::limits::{Flood, HANDLES, Memory};
use crate::manifest::Manifest;
use crate::meter::Meter;

/// Bytes of state that a plugin may keep for one job.
const KEPT_LIMIT: usize = 1 << 20;

/// A guest and its job.
pub(crate) struct Guest {
    pub(crate) plugin: PluginRef,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) job: Arc<JobContext>,
    pub(crate) kept: Arc<Kept>,
    pub(crate) table: ResourceTable,
    pub(crate) memory: Memory,
    pub(crate) flood: Flood,
    pub(crate) meter: Arc<Meter>,
    pub(crate) printed: Printed,
    wasi: WasiCtx,
    /// The call that runs, counted, and what it is part of.
    pub(crate) call: u64,
    pub(crate) place: Option<Place>,
}

/// What a call is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Section(Section),
    Step(StepIndex),
}

impl Guest {
    pub(crate) fn new(
        plugin: PluginRef,
        manifest: Arc<Manifest>,
        job: Arc<JobContext>,
        kept: Arc<Kept>,
    ) -> Self {
        let printed = Printed::default();
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        Self {
            memory: Memory::new(manifest.limits.memory_mib),
            wasi: wasi::context(&plugin.name, &printed),
            plugin,
            manifest,
            job,
            kept,
            table,
            flood: Flood::default(),
            meter: Arc::default(),
            printed,
            call: 0,
            place: None,
        }
    }

    /// Records a message where the call that runs belongs; nowhere while the guest is being made.
    pub(crate) fn say(&self, level: Level, text: String, data: Option<Map<String, Value>>) {
        match self.place {
            Some(Place::Section(section)) => self.job.message(section, level, text, data),
            Some(Place::Step(step)) => self.job.step_message(step, level, text, data),
            None => tracing::debug!(plugin = %self.plugin.name, "said outside of a call: {text}"),
        }
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// What a plugin keeps for one job. It outlives the instances.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<BTreeMap<String, Vec<u8>>>);

impl Kept {
    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Says whether there was room for it.
    pub(crate) fn set(&self, key: String, value: Vec<u8>) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others: usize = kept.iter().filter(|(k, _)| **k != key).map(|(k, v)| k.len() + v.len()).sum();
        let fits = others.saturating_add(key.len()).saturating_add(value.len()) <= KEPT_LIMIT;
        if fits {
            kept.insert(key, value);
        }
        fits
    }
}

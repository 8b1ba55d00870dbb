//! The engine's port, filled with a plugin.

use std::sync::Arc;

use async_trait::async_trait;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::PluginRef;
use loom_contract::exit;
use loom_contract::section::Section;
use loom_engine::port::{CleanupReason, JobContext, JobProvider, Provider, Step, StepEnd};
use wasmtime::component::Resource;

use crate::bindings::ProviderPluginPre;
use crate::bindings::exports::loom::plugin::provider as exports;
use crate::bindings::loom::host::types::Exit;
use crate::compiled::Origin;
use crate::guest::{Guest, Kept, Place};
use crate::imports::job::StepHandle;
use crate::instance::{Instance, Patience};
use crate::manifest::Manifest;
use crate::runtime::{Ticker, label};

/// A provider that was loaded.
pub struct Plugin(pub(crate) Arc<Loaded>);

/// What a plugin and its jobs share.
pub(crate) struct Loaded {
    pub(crate) reference: PluginRef,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) pre: ProviderPluginPre<Guest>,
    pub(crate) origin: Origin,
    pub(crate) ticker: Arc<Ticker>,
}

impl Plugin {
    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// Where its machine code came from.
    pub fn origin(&self) -> Origin {
        self.0.origin
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("reference", &self.0.reference)
            .field("origin", &self.0.origin)
            .finish_non_exhaustive()
    }
}

/// A plugin with a job. Where a call is lost, by a trap or because it was dropped, its instance is too; cleanup then gets
/// a new one.
struct PluginJob {
    plugin: Arc<Loaded>,
    job: Arc<JobContext>,
    kept: Arc<Kept>,
    instance: Option<Instance>,
}

#[async_trait]
impl Provider for Plugin {
    fn plugin(&self) -> PluginRef {
        self.0.reference.clone()
    }

    async fn open(&self, job: Arc<JobContext>) -> Result<Box<dyn JobProvider>, ErrorInfo> {
        let kept = Arc::default();
        let instance = Instance::new(&self.0, Arc::clone(&job), Arc::clone(&kept), Patience::Work).await?;
        Ok(Box::new(PluginJob { plugin: Arc::clone(&self.0), job, kept, instance: Some(instance) }))
    }
}

#[async_trait]
impl JobProvider for PluginJob {
    async fn prepare(&mut self) -> Result<(), ErrorInfo> {
        let instance = self.take()?;
        let place = Place::Section(Section::Provider);
        let (instance, result) = instance
            .call(place, Patience::Work, async |store, exports, job| exports.call_prepare(store, job).await)
            .await;
        self.instance = instance;
        result
    }

    async fn run_step(&mut self, step: Step) -> Result<StepEnd, ErrorInfo> {
        let instance = self.take()?;
        let place = Place::Step(step.index);
        let (instance, result) = instance
            .call(place, Patience::Work, async |store, exports, job| {
                let step = store.data_mut().table.push(StepHandle { step })?;
                let lent = Resource::new_borrow(step.rep());
                let ended = exports.call_run_step(&mut *store, job, lent).await;
                store.data_mut().table.delete(step)?;
                ended
            })
            .await;
        self.instance = instance;
        self.step_end(result?)
    }

    async fn cleanup(&mut self, reason: CleanupReason) -> Result<(), ErrorInfo> {
        let instance = match self.instance.take() {
            Some(instance) => instance,
            None => {
                let (job, kept) = (Arc::clone(&self.job), Arc::clone(&self.kept));
                Instance::new(&self.plugin, job, kept, Patience::Cleanup).await?
            }
        };
        let reason = match reason {
            CleanupReason::Done => exports::CleanupReason::Done,
            CleanupReason::Failed => exports::CleanupReason::Failed,
            CleanupReason::Cancelled => exports::CleanupReason::Cancelled,
        };
        let place = Place::Section(Section::Cleanup);
        let (instance, result) = instance
            .call(place, Patience::Cleanup, async |store, exports, job| {
                exports.call_cleanup(store, job, reason).await
            })
            .await;
        self.instance = instance;
        result
    }
}

impl PluginJob {
    /// The instance, which is put back when the call has returned.
    fn take(&mut self) -> Result<Instance, ErrorInfo> {
        self.instance.take().ok_or_else(|| {
            let plugin = label(&self.plugin.reference);
            ErrorInfo::new(code::PLUGIN_TRAPPED, format!("{plugin} lost its instance in an earlier call"))
        })
    }

    fn step_end(&self, exit: Exit) -> Result<StepEnd, ErrorInfo> {
        match exit {
            Exit::Code(code @ 0..=255) => Ok(StepEnd { exit_code: code, signal: None }),
            Exit::Signal(signal @ 1..=64) => {
                Ok(StepEnd { exit_code: exit::of_signal(signal), signal: Some(signal) })
            }
            Exit::Code(number) | Exit::Signal(number) => {
                let plugin = label(&self.plugin.reference);
                let message = format!("{plugin} returned {number}, which is no exit code and no signal");
                Err(ErrorInfo::new(code::PLUGIN_INCOMPATIBLE, message))
            }
        }
    }
}

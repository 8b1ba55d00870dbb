//! The engine's port, filled with a plugin.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::{Level, PluginRef};
use loom_contract::exit;
use loom_contract::section::Section;
use loom_engine::cancel::{Cancel, Urgency};
use loom_engine::port::{CleanupReason, JobContext, JobProvider, PreparedJob, Provider, Step, StepEnd};
use wasmtime::Store;
use wasmtime::component::Resource;

use crate::compiled::Origin;
use crate::config::PluginConfig;
use crate::exports::provider::ProviderPlugin;
use crate::exports::provider::exports::loom::plugin::provider as exports;
use crate::guest::{Guest, Kept};
use crate::imports::job::{JobHandle, StepHandle};
use crate::instance::{Call, Instance, Patience, into_error_info};
use crate::loaded::Loaded;
use crate::manifest::Manifest;
use crate::messages::CallScope;
use crate::types::{Error, Exit};

/// How long a daemon may take to remove what a job has made, when the user wants the run to end at once.
const REMOVAL: Duration = Duration::from_secs(10);

const PREPARE: Call = Call { name: "prepare", patience: Patience::Work };
const RUN_STEP: Call = Call { name: "run-step", patience: Patience::Step };
const CLEANUP: Call = Call { name: "cleanup", patience: Patience::Cleanup };

/// A provider that was loaded.
pub struct Plugin {
    loaded: Arc<Loaded>,
    config: Arc<PluginConfig>,
}

impl Plugin {
    pub(crate) fn new(loaded: Loaded, config: PluginConfig) -> Self {
        Self { loaded: Arc::new(loaded), config: Arc::new(config) }
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.loaded.info.manifest
    }

    /// Where its machine code came from.
    pub fn origin(&self) -> Origin {
        self.loaded.origin
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("reference", &self.loaded.info.reference)
            .field("origin", &self.loaded.origin)
            .finish_non_exhaustive()
    }
}

/// A plugin with a job. Where a call is lost, by a trap or because it was dropped, its instance is too; cleanup then gets
/// a new one.
struct PluginJob {
    plugin: Arc<Loaded>,
    config: Arc<PluginConfig>,
    job: Arc<JobContext>,
    kept: Arc<Kept>,
    instance: Option<Instance<ProviderPlugin>>,
}

#[async_trait]
impl Provider for Plugin {
    fn plugin(&self) -> PluginRef {
        self.loaded.info.reference.clone()
    }

    fn workspace(&self) -> Option<&Path> {
        let is_docker = !self.loaded.info.manifest.capabilities.docker.is_empty();
        is_docker.then_some(Path::new(loom_docker::WORKSPACE))
    }

    async fn open(&self, job: Arc<JobContext>) -> Result<Box<dyn JobProvider>, ErrorInfo> {
        let (plugin, config) = (Arc::clone(&self.loaded), Arc::clone(&self.config));
        let mut opened = PluginJob { plugin, config, job, kept: Arc::default(), instance: None };
        opened.instance = Some(opened.instantiate(Patience::Work).await?);
        Ok(Box::new(opened))
    }
}

#[async_trait]
impl JobProvider for PluginJob {
    async fn prepare(&mut self) -> Result<PreparedJob, ErrorInfo> {
        let scope = CallScope::Section(Section::Provider);
        let prepared = self
            .call(scope, PREPARE, async |store, exports, job| exports.call_prepare(store, job).await)
            .await;
        match prepared {
            Ok(()) => Ok(self.kept.docker.prepared()),
            Err(error) => Err(self.kept.docker.not_prepared(&self.job, error).await),
        }
    }

    fn image_digest(&self) -> Option<String> {
        self.kept.docker.image_digest()
    }

    async fn run_step(&mut self, step: Step) -> Result<StepEnd, ErrorInfo> {
        let scope = CallScope::Step(step.index);
        if let Err(why) = self.kept.docker.give_workspace().await {
            let text = format!(
                "the workspace could not be given to the user of the container, who may be unable to read or write it \
                 ({why}); with `ephemeral_volume` instead of `bind_mount` it belongs to them"
            );
            self.job.step_message(step.index, Level::Warn, text, None);
        }
        let exit = self
            .call(scope, RUN_STEP, async |store, exports, job| {
                let step = store.data_mut().table.push(StepHandle { step })?;
                let lent = Resource::new_borrow(step.rep());
                let ended = exports.call_run_step(&mut *store, job, lent).await;
                store.data_mut().table.delete(step)?;
                ended
            })
            .await?;
        self.step_end(exit)
    }

    async fn shell(&mut self) -> Result<StepEnd, ErrorInfo> {
        let plugin = self.plugin.info.label();
        let ended = self.kept.docker.shell(&self.job).await;
        let code = ended.map_err(|error| into_error_info(error, &plugin))?;
        Ok(StepEnd { exit_code: i32::try_from(code).unwrap_or(i32::MAX), signal: None })
    }

    async fn hand_over_files(&mut self) {
        let mut cancel = self.job.cancel.clone();
        tokio::select! {
            // What cannot be done is tried again, and told, when everything is removed.
            _ = self.kept.docker.give_back() => {}
            () = cancel.reached(Urgency::Ask) => {}
        }
    }

    async fn cleanup(&mut self, reason: CleanupReason) -> Result<(), ErrorInfo> {
        let cleaned = self.guest_cleanup(reason).await;
        // What the plugin has made is the host's to remove, whatever became of the plugin.
        let residuals = tokio::select! {
            residuals = self.kept.docker.remove_all() => residuals,
            () = given_up(self.job.cancel.clone()) => {
                vec!["the Docker daemon did not remove everything in time; the next run does".to_owned()]
            }
        };
        if let Some(docker) = &self.config.docker {
            tokio::select! {
                () = docker.swept() => {}
                () = given_up(self.job.cancel.clone()) => {}
            }
        }
        for residual in residuals {
            self.job.message(Section::Cleanup, Level::Warn, residual, None);
        }
        cleaned
    }
}

/// Waits until the user has asked twice for an end, and some seconds more.
async fn given_up(mut cancel: Cancel) {
    cancel.reached(Urgency::Kill).await;
    tokio::time::sleep(REMOVAL).await;
}

impl PluginJob {
    async fn guest_cleanup(&mut self, reason: CleanupReason) -> Result<(), ErrorInfo> {
        if self.instance.is_none() {
            self.instance = Some(self.instantiate(Patience::Cleanup).await?);
        }
        let reason = match reason {
            CleanupReason::Done => exports::CleanupReason::Done,
            CleanupReason::Failed => exports::CleanupReason::Failed,
            CleanupReason::Cancelled => exports::CleanupReason::Cancelled,
        };
        let scope = CallScope::Section(Section::Cleanup);
        self.call(scope, CLEANUP, async |store, exports, job| exports.call_cleanup(store, job, reason).await)
            .await
    }

    async fn instantiate(&mut self, patience: Patience) -> Result<Instance<ProviderPlugin>, ErrorInfo> {
        let (job, kept) = (Arc::clone(&self.job), Arc::clone(&self.kept));
        let cancel = job.cancel.clone();
        let guest = Guest::of_job(&self.plugin.info, Arc::clone(&self.config), job, kept);
        Instance::new(&self.plugin, guest, |store, i| ProviderPlugin::new(store, i), patience, cancel).await
    }

    /// Calls into the instance, which is lost where the guest does not return.
    async fn call<T>(
        &mut self,
        scope: CallScope,
        what: Call,
        call: impl AsyncFnOnce(
            &mut Store<Guest>,
            &exports::Guest,
            Resource<JobHandle>,
        ) -> wasmtime::Result<Result<T, Error>>,
    ) -> Result<T, ErrorInfo> {
        let plugin = self.plugin.info.label();
        let Some(instance) = self.instance.take() else {
            let message = format!("{plugin} lost its instance in an earlier call");
            return Err(ErrorInfo::new(code::PLUGIN_TRAPPED, message));
        };
        let cancel = self.job.cancel.clone();
        let (instance, returned) = instance
            .call(Some(scope), what, cancel, async |store, exports: &ProviderPlugin| {
                let job = store.data_mut().table.push(JobHandle)?;
                let lent = Resource::new_borrow(job.rep());
                let returned = call(&mut *store, exports.loom_plugin_provider(), lent).await;
                store.data_mut().table.delete(job)?;
                returned
            })
            .await?;
        self.instance = Some(instance);
        returned.map_err(|error| into_error_info(error, &plugin))
    }

    fn step_end(&self, exit: Exit) -> Result<StepEnd, ErrorInfo> {
        match exit {
            Exit::Code(code @ 0..=255) => Ok(StepEnd { exit_code: code, signal: None }),
            Exit::Signal(signal @ 1..=64) => {
                Ok(StepEnd { exit_code: exit::of_signal(signal), signal: Some(signal) })
            }
            Exit::Code(number) | Exit::Signal(number) => {
                let plugin = self.plugin.info.label();
                let message = format!("{plugin} returned {number}, which is no exit code and no signal");
                Err(ErrorInfo::new(code::PLUGIN_INCOMPATIBLE, message))
            }
        }
    }
}

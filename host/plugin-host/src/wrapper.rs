//! The engine's port for wrappers, filled with a plugin.

use std::sync::Arc;

use async_trait::async_trait;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::PluginRef;
use loom_contract::section::Section;
use loom_engine::port::{JobContext, JobWrapper, Report, Wrapper};
use serde_json::Value;
use wasmtime::Store;
use wasmtime::component::Resource;

use crate::caches::Caches;
use crate::exports::wrapper::WrapperPlugin;
use crate::exports::wrapper::exports::loom::plugin::wrapper as exports;
use crate::guest::{Guest, Kept};
use crate::imports::job::JobHandle;
use crate::imports::store::context::StoreContext;
use crate::instance::{Call, Instance, Patience, into_error_info};
use crate::loaded::Loaded;
use crate::messages::CallScope;
use crate::types::Error;

const BEFORE: Call = Call { name: "before", patience: Patience::Work };
const AFTER: Call = Call { name: "after", patience: Patience::Work };

/// A wrapper that was loaded, for one run.
pub struct RunWrapper {
    plugin: Arc<Loaded>,
    caches: Arc<Caches>,
}

impl std::fmt::Debug for RunWrapper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunWrapper").field("reference", &self.plugin.info.reference).finish_non_exhaustive()
    }
}

impl RunWrapper {
    pub(crate) fn new(plugin: Loaded, caches: Arc<Caches>) -> Self {
        Self { plugin: Arc::new(plugin), caches }
    }
}

#[async_trait]
impl Wrapper for RunWrapper {
    fn plugin(&self) -> PluginRef {
        self.plugin.info.reference.clone()
    }

    async fn open(&self, job: Arc<JobContext>, keyword: Value) -> Result<Box<dyn JobWrapper>, ErrorInfo> {
        let (plugin, caches) = (Arc::clone(&self.plugin), Arc::clone(&self.caches));
        let mut opened = Wrapped { plugin, caches, job, keyword, kept: Arc::default(), instance: None };
        opened.instance = Some(opened.instantiate().await?);
        Ok(Box::new(opened))
    }
}

/// A wrapper with a job.
struct Wrapped {
    plugin: Arc<Loaded>,
    caches: Arc<Caches>,
    job: Arc<JobContext>,
    keyword: Value,
    kept: Arc<Kept>,
    instance: Option<Instance<WrapperPlugin>>,
}

#[async_trait]
impl JobWrapper for Wrapped {
    async fn before(&mut self) -> Result<Report, ErrorInfo> {
        self.call(BEFORE, Section::CacheRestore, async |store, exports, job| {
            exports.call_before(store, job).await
        })
        .await
    }

    async fn after(&mut self, succeeded: bool) -> Result<Report, ErrorInfo> {
        let outcome = if succeeded { exports::Outcome::Success } else { exports::Outcome::Failed };
        if self.instance.is_none() {
            self.instance = Some(self.instantiate().await?);
        }
        self.call(AFTER, Section::CacheSave, async |store, exports, job| {
            exports.call_after(store, job, outcome).await
        })
        .await
    }
}

impl Wrapped {
    async fn instantiate(&mut self) -> Result<Instance<WrapperPlugin>, ErrorInfo> {
        let (job, kept) = (Arc::clone(&self.job), Arc::clone(&self.kept));
        let cancel = job.cancel.clone();
        let mut guest = Guest::of_job(&self.plugin.info, Arc::default(), job, kept);
        guest.keyword = self.keyword.clone();
        guest.store = StoreContext::new(Arc::clone(&self.caches));
        let find = |store: &mut Store<Guest>, i: &wasmtime::component::Instance| WrapperPlugin::new(store, i);
        Instance::new(&self.plugin, guest, find, Patience::Work, cancel).await
    }

    async fn call(
        &mut self,
        what: Call,
        section: Section,
        call: impl AsyncFnOnce(
            &mut Store<Guest>,
            &exports::Guest,
            Resource<JobHandle>,
        ) -> wasmtime::Result<Result<(), Error>>,
    ) -> Result<Report, ErrorInfo> {
        let plugin = self.plugin.info.label();
        let Some(instance) = self.instance.take() else {
            let message = format!("{plugin} lost its instance in an earlier call");
            return Err(ErrorInfo::new(code::PLUGIN_TRAPPED, message));
        };
        let cancel = self.job.cancel.clone();
        let scope = Some(CallScope::Section(section));
        let (mut instance, returned) = instance
            .call(scope, what, cancel, async |store, exports: &WrapperPlugin| {
                let job = store.data_mut().table.push(JobHandle)?;
                let lent = Resource::new_borrow(job.rep());
                let returned = call(&mut *store, exports.loom_plugin_wrapper(), lent).await;
                store.data_mut().table.delete(job)?;
                returned
            })
            .await?;
        let report = std::mem::take(&mut instance.store.data_mut().report);
        self.instance = Some(instance);
        returned.map(|()| report).map_err(|error| into_error_info(error, &plugin))
    }
}

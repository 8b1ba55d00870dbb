//! The engine's port for secrets, filled with a plugin; and the vaults that a plugin manages.

use std::sync::Arc;

use async_trait::async_trait;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::PluginRef;
use loom_engine::cancel::{Cancel, Urgency};
use loom_engine::port::{SecretResolver, SecretValue};
use tokio::sync::Mutex;
use wasmtime::Store;

use crate::config::PluginConfig;
use crate::exports::resolver::SecretResolverPlugin;
use crate::exports::vault::VaultPlugin;
use crate::exports::vault::exports::loom::plugin::vault_admin as admin;
use crate::guest::Guest;
use crate::instance::{Call, Instance, Patience, into_error_info};
use crate::loaded::Loaded;
use crate::manifest::Manifest;
use crate::types::{Error, ErrorKind};

const OPEN: Call = Call { name: "open", patience: Patience::Answer };
const RESOLVE: Call = Call { name: "resolve", patience: Patience::Answer };

/// A secret resolver that was loaded. It has one instance, made when it is first needed; where a call is lost, the next
/// one gets a new instance.
pub struct Resolver {
    plugin: Arc<Loaded>,
    config: Arc<PluginConfig>,
    instance: Mutex<Option<Instance<SecretResolverPlugin>>>,
}

/// What a vault holds under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultItem {
    /// Its path, groups and name joined by `/`.
    pub path: String,
    /// The names of its fields that hold something.
    pub fields: Vec<String>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("reference", &self.plugin.info.reference).finish_non_exhaustive()
    }
}

#[async_trait]
impl SecretResolver for Resolver {
    fn plugin(&self) -> PluginRef {
        self.plugin.info.reference.clone()
    }

    async fn open(&self, references: &[String], cancel: Cancel) {
        // What is wrong is told to the first job that asks.
        let opened = self
            .call(OPEN, cancel, async |store, exports: &SecretResolverPlugin| {
                exports.loom_plugin_secret_resolver().call_open(store, references).await
            })
            .await;
        if let Err(error) = opened {
            tracing::debug!(%error, "a vault was not opened early");
        }
    }

    async fn resolve(
        &self,
        references: &[String],
        cancel: Cancel,
    ) -> Result<Vec<Result<SecretValue, ErrorInfo>>, ErrorInfo> {
        let answers = self
            .call(RESOLVE, cancel, async |store, exports: &SecretResolverPlugin| {
                exports.loom_plugin_secret_resolver().call_resolve(store, references).await
            })
            .await?;
        let plugin = self.plugin.info.label();
        if answers.len() != references.len() {
            let message =
                format!("{plugin} gave {} answers to {} references", answers.len(), references.len());
            return Err(ErrorInfo::new(code::PLUGIN_INCOMPATIBLE, message));
        }
        Ok(answers
            .into_iter()
            .map(|answer| match answer {
                Ok(value) => Ok(SecretValue::from(value)),
                Err(error) => Err(not_resolved(error, &plugin)),
            })
            .collect())
    }
}

impl Resolver {
    pub(crate) fn new(plugin: Loaded, config: PluginConfig) -> Self {
        Self { plugin: Arc::new(plugin), config: Arc::new(config), instance: Mutex::default() }
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.plugin.info.manifest
    }

    async fn call<T>(
        &self,
        what: Call,
        cancel: Cancel,
        call: impl AsyncFnOnce(&mut Store<Guest>, &SecretResolverPlugin) -> wasmtime::Result<T>,
    ) -> Result<T, ErrorInfo> {
        // Who is cancelled while it waits for others leaves the instance to them.
        let mut slot = tokio::select! {
            slot = self.instance.lock() => slot,
            error = self.given_up(cancel.clone()) => return Err(error),
        };
        let instance = match slot.take() {
            Some(instance) => instance,
            None => self.instantiate(|s, i| SecretResolverPlugin::new(s, i), cancel.clone()).await?,
        };
        let (instance, returned) = instance.call(None, what, cancel, call).await?;
        *slot = Some(instance);
        Ok(returned)
    }

    async fn given_up(&self, mut cancel: Cancel) -> ErrorInfo {
        cancel.reached(Urgency::Ask).await;
        let plugin = self.plugin.info.label();
        ErrorInfo::new(code::PLUGIN_TIMEOUT, format!("{plugin} was busy when the job was cancelled"))
    }

    async fn instantiate<E>(
        &self,
        find: fn(&mut Store<Guest>, &wasmtime::component::Instance) -> wasmtime::Result<E>,
        cancel: Cancel,
    ) -> Result<Instance<E>, ErrorInfo> {
        let guest = Guest::of_run(&self.plugin.info, Arc::clone(&self.config));
        Instance::new(&self.plugin, guest, find, Patience::Answer, cancel).await
    }

    /// Makes the vault `vault`; where it exists, only if `replace` says so.
    ///
    /// # Errors
    /// The plugin manages no vaults, or cannot make this one.
    pub async fn create_vault(&self, vault: &str, replace: bool, cancel: Cancel) -> Result<(), ErrorInfo> {
        self.manage("create-vault", cancel, async |store, admin| {
            admin.call_create_vault(store, vault, replace).await
        })
        .await
    }

    /// Locks the vault `vault` with its new credentials.
    ///
    /// # Errors
    /// The plugin manages no vaults, or cannot change this one.
    pub async fn update_vault(&self, vault: &str, cancel: Cancel) -> Result<(), ErrorInfo> {
        self.manage("update-vault", cancel, async |store, admin| admin.call_update_vault(store, vault).await)
            .await
    }

    /// Makes an item with one field.
    ///
    /// # Errors
    /// The plugin manages no vaults, the vault cannot be opened, or the item exists.
    pub async fn create_item(
        &self,
        vault: &str,
        path: &str,
        field: &str,
        value: &[u8],
        cancel: Cancel,
    ) -> Result<(), ErrorInfo> {
        self.manage("create-item", cancel, async |s, admin| {
            admin.call_create_item(s, vault, path, field, value).await
        })
        .await
    }

    /// Sets one field of an item.
    ///
    /// # Errors
    /// The plugin manages no vaults, the vault cannot be opened, or the item does not exist.
    pub async fn update_item(
        &self,
        vault: &str,
        path: &str,
        field: &str,
        value: &[u8],
        cancel: Cancel,
    ) -> Result<(), ErrorInfo> {
        self.manage("update-item", cancel, async |s, admin| {
            admin.call_update_item(s, vault, path, field, value).await
        })
        .await
    }

    /// All items of the vault `vault`.
    ///
    /// # Errors
    /// The plugin manages no vaults, or the vault cannot be opened.
    pub async fn list_items(&self, vault: &str, cancel: Cancel) -> Result<Vec<VaultItem>, ErrorInfo> {
        let items = self
            .manage("list-items", cancel, async |store, admin| admin.call_list_items(store, vault).await)
            .await?;
        Ok(items.into_iter().map(|item| VaultItem { path: item.path, fields: item.fields }).collect())
    }

    async fn manage<T>(
        &self,
        name: &'static str,
        cancel: Cancel,
        call: impl AsyncFnOnce(&mut Store<Guest>, &admin::Guest) -> wasmtime::Result<Result<T, Error>>,
    ) -> Result<T, ErrorInfo> {
        let plugin = self.plugin.info.label();
        if !self.plugin.manages_vaults {
            let message = format!("{plugin} manages no vaults");
            return Err(ErrorInfo::new(code::PLUGIN_INCOMPATIBLE, message));
        }
        let instance = self.instantiate(|store, i| VaultPlugin::new(store, i), cancel.clone()).await?;
        let (_, returned) = instance
            .call(
                None,
                Call { name, patience: Patience::Answer },
                cancel,
                async |store, exports: &VaultPlugin| call(store, exports.loom_plugin_vault_admin()).await,
            )
            .await?;
        returned.map_err(|error| into_error_info(error, &plugin))
    }
}

/// Where a resolver gives no code of its own for secrets, the kind of its error decides.
fn not_resolved(error: Error, plugin: &str) -> ErrorInfo {
    let code = match error.kind {
        ErrorKind::Invalid => code::SECRETS_REF_INVALID,
        ErrorKind::NotFound => code::SECRETS_REF_NOT_FOUND,
        ErrorKind::Denied
        | ErrorKind::Unavailable
        | ErrorKind::TimedOut
        | ErrorKind::Cancelled
        | ErrorKind::Conflict
        | ErrorKind::Failed => code::SECRETS_PROVIDER_UNAVAILABLE,
    };
    let info = into_error_info(error, plugin);
    if info.code.starts_with("SECRETS_") || info.code == code::PLUGIN_DENIED {
        return info;
    }
    ErrorInfo { code: code.into(), ..info }
}

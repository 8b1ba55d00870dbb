//! What the bundled plugins are given of the configuration and the environment.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum as _;
use loom_contract::graph_ir::Secret;
use loom_engine::redact::Redactor;
use loom_plugin_host::{Credential, DockerConfig, PluginConfig, RunDocker};
use serde_json::{Map, Value, json};

use crate::config::{self, Effective, OP_CONNECT_HOST, OP_CONNECT_TOKEN};

/// The environment of `loom`, as plugins may ask for parts of it.
pub(crate) type Environment = Arc<[(OsString, OsString)]>;

/// What the provider `name` is given for a run in `repository`; `docker` makes what it needs to know of the daemon.
pub(crate) fn provider_config(
    name: &str,
    config: &Effective,
    repository: &Path,
    environment: &Environment,
    docker: impl FnOnce() -> DockerConfig,
) -> PluginConfig {
    let given = PluginConfig {
        repository: Some(repository.to_owned()),
        environment: Arc::clone(environment),
        ..PluginConfig::default()
    };
    if name != "docker" {
        return given;
    }
    let mount = config.workspace_mount.value;
    let docker = docker();
    let mount = mount.to_possible_value().map(|mount| mount.get_name().to_owned());
    PluginConfig {
        settings: Map::from_iter([("workspace_mount".to_owned(), json!(mount))]),
        docker: Some(Arc::new(RunDocker::new(docker))),
        ..given
    }
}

/// What the resolver of `scheme` is given for `references`.
pub(crate) fn plugin_config(
    scheme: &str,
    references: &[String],
    config: &Effective,
    environment: &Environment,
) -> PluginConfig {
    let places = references.iter().filter_map(|reference| Some(reference.split_once("://")?.1));
    let mut given = PluginConfig { environment: Arc::clone(environment), ..PluginConfig::default() };
    match scheme {
        "env" => given.referenced = places.map(str::to_owned).collect(),
        "keepass" => {
            let aliases: BTreeSet<&str> = places.filter_map(|place| Some(place.split_once('#')?.0)).collect();
            for alias in aliases {
                give_vault(&mut given, alias, config);
            }
        }
        "op" => give_connect(&mut given, config),
        _ => {}
    }
    given
}

/// Masks the variables of the environment that `secrets` are: steps can find the same values elsewhere, too.
pub(crate) fn mask_environment<'s>(
    secrets: impl Iterator<Item = &'s Secret>,
    environment: &Environment,
    redactor: &Redactor,
) {
    for secret in secrets {
        let Some(variable) = secret.reference.strip_prefix("env://") else { continue };
        if let Some((_, value)) = environment.iter().find(|(name, _)| name == variable) {
            redactor.register(&secret.name, value.as_bytes());
        }
    }
}

/// Gives the vault `alias`: its path, and what unlocks it.
pub(crate) fn give_vault(given: &mut PluginConfig, alias: &str, config: &Effective) {
    let vault = config.vault(alias).cloned().unwrap_or_default();
    let mut settings = Map::new();
    settings.insert("key".into(), config::key_of(alias).into());
    if let Some(path) = vault.path {
        settings.insert("path".into(), path.value.to_string_lossy().into());
        given.files.push(path.value);
    }
    let slot = |slot: &str| (slot.to_owned(), Some(alias.to_owned()));
    if let Some(variable) = vault.password_env {
        let credential = Credential::Variable(variable.value.as_str().to_owned());
        given.credentials.insert(slot("password"), credential);
    }
    if let Some(variable) = vault.keyfile_env {
        let credential = Credential::FileIn(variable.value.as_str().to_owned());
        given.credentials.insert(slot("keyfile"), credential);
    }
    let vaults = given.settings.entry("vaults").or_insert_with(|| json!({}));
    if let Value::Object(vaults) = vaults {
        vaults.insert(alias.to_owned(), settings.into());
    }
}

/// Puts the vault `alias` at `path`, whatever the configuration says.
pub(crate) fn place_vault(given: &mut PluginConfig, alias: &str, path: PathBuf) {
    given.settings["vaults"][alias]["path"] = path.to_string_lossy().into();
    given.files = vec![path];
}

/// Gives the 1Password Connect server that the environment names, and the tokens that it holds.
fn give_connect(given: &mut PluginConfig, config: &Effective) {
    let variable = |name: &str| {
        let value = given.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        value.filter(|value| !value.is_empty()).cloned()
    };
    let token = config.op_token_env.value.as_str();
    let slots = [("connect-token", OP_CONNECT_TOKEN), ("service-account-token", token)];
    let slots: Vec<_> = slots.into_iter().filter(|(_, name)| variable(name).is_some()).collect();
    let host = variable(OP_CONNECT_HOST).map(|host| host.to_string_lossy().into_owned());
    given.settings.insert("service_account_token_variable".into(), token.into());
    if let Some(host) = host {
        given.settings.insert("connect_host".into(), host.as_str().into());
        given.origins.push(host);
    }
    for (slot, name) in slots {
        given.credentials.insert((slot.to_owned(), None), Credential::Variable(name.to_owned()));
    }
}

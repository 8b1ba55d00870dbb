//! What the user's configuration gives a plugin: the meaning of what its manifest can only ask for.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::docker::RunDocker;

/// The user's configuration of one plugin.
#[derive(Default)]
pub struct PluginConfig {
    /// What the plugin reads of it.
    pub settings: Map<String, Value>,
    /// The files that `$config` stands for in the capability `files`: absolute paths.
    pub files: Vec<PathBuf>,
    /// The servers that `$config` stands for in the capability `http`, as origins: `https://connect.example.com:8443`.
    pub origins: Vec<String>,
    /// The variables that `$references` stands for in the capability `env`.
    pub referenced: Vec<String>,
    /// Credentials by slot and owner. A slot that is not here was not configured.
    pub credentials: BTreeMap<(String, Option<String>), Credential>,
    /// The Docker daemon, for a plugin that may use it.
    pub docker: Option<Arc<RunDocker>>,
    /// The repository, of which no file is ever taken for a program that the plugin was granted.
    pub repository: Option<PathBuf>,
    /// The environment of `loom`; on its `PATH`, the programs are found that the plugin may start.
    pub environment: Arc<[(OsString, OsString)]>,
}

/// Where a credential is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// In this variable of the environment.
    Variable(String),
    /// In the file whose path is in this variable of the environment.
    FileIn(String),
}

impl PluginConfig {
    /// The value of the variable `name`, where it is set.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsString> {
        self.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

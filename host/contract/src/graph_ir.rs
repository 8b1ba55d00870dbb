//! Graph IR: what a workflow compiles to, `loom.graph-ir.v1`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::JobId;
use crate::redacted::Redact;

/// The compiled graph. The same workflow always gives the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct GraphIr {
    /// `loom.graph-ir.v1`.
    pub schema: Cow<'static, str>,
    /// The stages, in order.
    pub stages: Vec<String>,
    /// The jobs, in stage order, then in the order of the file.
    pub nodes: Vec<Node>,
    /// What waits for what.
    pub edges: Vec<Edge>,
    /// What of the run's copy of the repository stays from run to run; absent where nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<KeptFolders>,
}

/// The folders of the run's copy of the repository that stay from run to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct KeptFolders {
    /// Which they are: paths and patterns, relative to the workspace.
    pub keep: Vec<String>,
    /// What they depend on; absent where that is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyFiles>,
}

/// Files whose content is a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct KeyFiles {
    /// Which they are: paths and patterns, relative to the workspace.
    pub files: Vec<String>,
}

/// A job. What it does not have is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The job.
    pub id: JobId,
    /// Its stage.
    pub stage: String,
    /// The operating system that it wants: `linux`.
    pub target: String,
    /// The provider that runs it: `host`, `docker`, or one that a plugin brings.
    pub provider: String,
    /// The container image that it runs in; absent on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// How the image is built; absent where it is pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_build: Option<ImageBuild>,
    /// How the image is used, where that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageOptions>,
    /// The steps' commands, in order.
    pub script: Vec<String>,
    /// Its variables, sorted by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<Variable>,
    /// Where its secrets are found, sorted by name; never their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// The containers that run beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// What is kept from run to run; absent where that is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// The files that are kept with the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Artifacts>,
    /// The pool of machines that it is meant for; without effect on a local run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_pool: Option<String>,
    /// What the workflow says beside Loom's own keywords; without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invariant: Option<serde_json::Value>,
    /// How long it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// How often it is run again after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Its failure blocks nothing and does not fail the run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_failure: bool,
    /// The values that make it one of the jobs of a matrix.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub matrix: BTreeMap<String, String>,
}

/// How an image is built. Both paths are relative to the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct ImageBuild {
    /// The folder that the build sees.
    pub context: String,
    /// The file with the build's instructions.
    pub dockerfile: String,
    /// Build arguments, sorted by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Variable>,
    /// The build stage that is wanted; absent for the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// How an image is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct ImageOptions {
    /// What the container runs first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// When the image is pulled; absent for `if-not-present`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    /// The user that runs the steps, by name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// System and architecture, as in `linux/amd64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    /// Where the daemon does not have it.
    IfNotPresent,
    /// Every time.
    Always,
    /// Never: the daemon must have it.
    Never,
}

/// A secret of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// The variable that it reaches the job by.
    pub name: String,
    /// Where it is found: `<scheme>://<place>`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The variable holds the path of a file with the value, not the value.
    pub file: bool,
    /// The job fails where it is not found.
    pub required: bool,
}

/// A container beside a job's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its image.
    pub name: String,
    /// A host name for it, beside the one that its image gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Its own variables, sorted by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<Variable>,
    /// What it runs first, instead of what its image says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// What its entrypoint is given, instead of what its image says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// When it can be used; absent where nothing is waited for but the image's own health check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
}

/// When a service can be used: a command that succeeds in it, or a port that it listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// The command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Milliseconds after which waiting fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// The caches of a job, in the shape in which the workflow gives them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(untagged)]
pub enum Cache {
    /// One, which may have no name.
    One(Box<CacheEntry>),
    /// Several; each has a name of its own.
    List(Vec<CacheEntry>),
}

impl Cache {
    /// The caches one by one.
    pub fn entries(&self) -> &[CacheEntry] {
        match self {
            Self::One(entry) => std::slice::from_ref(entry),
            Self::List(entries) => entries,
        }
    }

    /// The caches one by one, to be changed.
    pub fn entries_mut(&mut self) -> &mut [CacheEntry] {
        match self {
            Self::One(entry) => std::slice::from_mut(entry),
            Self::List(entries) => entries,
        }
    }
}

/// One cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct CacheEntry {
    /// Its name: entries are kept apart by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// It is neither restored nor saved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// What it keeps: paths and patterns inside the workspace. Empty only where it is disabled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// How its key is made; absent for the key `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<CacheKey>,
    /// Keys that are tried after its own, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback_keys: Vec<String>,
    /// Whether it is restored, saved, or both.
    pub policy: CachePolicy,
    /// After what end of the job it is saved.
    pub when: When,
}

/// How a cache's key is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(untagged)]
pub enum CacheKey {
    /// A text with references.
    Template(String),
    /// From parts.
    Parts(CacheKeyParts),
}

/// The parts of a cache's key: a template alone, or a prefix, files, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct CacheKeyParts {
    /// What the key begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The files whose content it is made from: paths and patterns inside the workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// A text with references.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

/// Whether a cache is restored, saved, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(rename_all = "kebab-case")]
pub enum CachePolicy {
    /// Both.
    PullPush,
    /// Restored only.
    Pull,
    /// Saved only.
    Push,
}

/// After what end of a job something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// It succeeded.
    OnSuccess,
    /// It failed.
    OnFailure,
    /// Any.
    Always,
}

/// The files of a job that are kept with the run. Paths and patterns are relative to the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct Artifacts {
    /// What is kept.
    pub paths: Vec<String>,
    /// What is not, although `paths` names it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// After what end of the job.
    pub when: When,
}

/// How long a job may take, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct Timeout {
    /// The whole job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_ms: Option<u64>,
    /// Each of its steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_ms: Option<u64>,
}

/// How often a job is run again after a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Runs after the first, at most.
    pub max: u32,
    /// After which kinds of failure.
    pub when: Vec<RetryWhen>,
}

/// A kind of failure after which a job is run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(rename_all = "snake_case")]
pub enum RetryWhen {
    /// Any.
    Always,
    /// A step failed.
    ScriptFailure,
    /// The provider, a service, a secret or a wrapper failed.
    ProviderFailure,
    /// It took too long.
    Timeout,
}

/// A variable. `$NAME` and `${NAME}` in a value are filled in when the job starts; `$$` stands for a dollar sign where
/// one `$` would read as a reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// A need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// The job that is needed.
    pub from: JobId,
    /// The job that waits for it.
    pub to: JobId,
    /// Why it waits.
    pub kind: EdgeKind,
    /// The needed job's artifacts are restored before the waiting job's steps.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub artifacts: bool,
}

/// Why a job waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    /// It says so in `needs`.
    Needs,
}

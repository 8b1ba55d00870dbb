//! Graph IR: what a workflow compiles to, `loom.graph-ir.v1`.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::JobId;

/// The compiled graph. The same workflow always gives the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The job.
    pub id: JobId,
    /// Its stage.
    pub stage: String,
    /// The operating system that it wants: `linux`.
    pub target: String,
    /// The provider that runs it.
    pub provider: String,
    /// The steps' commands, in order.
    pub script: Vec<String>,
    /// Its variables, sorted by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<Variable>,
}

/// A variable. `$NAME` and `${NAME}` in a value are filled in when the job starts; `$$` stands for a dollar sign where
/// one `$` would read as a reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// A need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// The job that is needed.
    pub from: JobId,
    /// The job that waits for it.
    pub to: JobId,
    /// Why it waits.
    pub kind: EdgeKind,
}

/// Why a job waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    /// It says so in `needs`.
    Needs,
}

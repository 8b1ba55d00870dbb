//! Receipts: one page on a whole run or check. They are where reading begins.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::PluginRef;
use crate::graph_ir::GraphIr;
use crate::id::{JobId, RunId};
use crate::layout::{CACHE_DIFF_SUFFIX, RuntimePath};
use crate::redacted::Redact;
use crate::status::{RunStatus, Status};
use crate::time::Timestamp;

/// The receipt of a run. All paths are absolute. It has no run id: that is the last component of `logs_dir`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct RunReceipt {
    /// `v1`.
    pub schema_version: Cow<'static, str>,
    /// `loom-run-local`.
    pub kind: Cow<'static, str>,
    /// The command line, word by word.
    pub command: Vec<String>,
    /// The repository's root.
    pub repo_root: String,
    /// The workflow file.
    pub workflow_path: String,
    /// When the run started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Milliseconds between the two.
    pub duration_ms: u64,
    /// How it ended.
    pub status: RunStatus,
    /// The exit code of `loom`.
    pub exit_code: i32,
    /// What failed. `interrupted` in a receipt whose run never came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The run's log folder.
    pub logs_dir: RuntimePath,
    /// The run-scoped events.
    pub events_jsonl_path: RuntimePath,
    /// The phase report.
    pub phase_report_path: RuntimePath,
    /// The run's copy of the repository, also where it has been removed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_path: Option<String>,
    /// The commit that the copy was made from; absent without a commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_head_sha: Option<String>,
    /// What the workflow compiled to; absent where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph_ir: Option<GraphIr>,
    /// What the run was compared with, and what came of it, where it is one of a `--cache-diff`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_diff_path: Option<RuntimePath>,
    /// What ran it.
    pub executor_receipt: ExecutorReceipt,
}

impl RunReceipt {
    /// Whether the run was only made so that another one, with all its caches, could be compared with it.
    pub fn is_for_comparison(&self) -> bool {
        let logs = self.logs_dir.to_string();
        let own = logs.rsplit('/').next().unwrap_or_default();
        self.cache_diff_path.as_ref().is_some_and(|path| {
            let path = path.to_string();
            path.rsplit('/').next() != Some(&*format!("{own}{CACHE_DIFF_SUFFIX}"))
        })
    }
}

/// What ran the jobs, and how they ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct ExecutorReceipt {
    /// The version of Loom.
    pub loom_version: String,
    /// Every job of the run.
    pub jobs: BTreeMap<JobId, JobReceipt>,
}

/// How a job was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct JobReceipt {
    /// How it ended.
    pub status: Status,
    /// The run in which it passed, where this one goes on with its work instead of running it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reused_from: Option<RunId>,
    /// The provider that ran it.
    pub provider: String,
    /// The digest of the image that it ran in; of an image that no registry knows, its id. Absent without an image, and
    /// where the job did not get as far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// The plugins that served it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginRef>,
    /// What it looked for in its caches, where it has any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<CacheReceipt>,
    /// When it started; absent for a job that never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Milliseconds that it took.
    pub duration_ms: u64,
}

/// A cache of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
pub struct CacheReceipt {
    /// Its name, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its key.
    pub key: String,
    /// Whether an entry was found.
    pub hit: bool,
    /// The key that the entry was saved under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched_key: Option<String>,
}

/// The receipt of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct CheckReceipt {
    /// `v1`.
    pub schema_version: Cow<'static, str>,
    /// `loom-check`.
    pub kind: Cow<'static, str>,
    /// The version of Loom.
    pub loom_version: String,
    /// The command line, word by word.
    pub command: Vec<String>,
    /// The exit code of `loom`.
    pub exit_code: i32,
    /// How it ended.
    pub status: RunStatus,
    /// What was found.
    pub workflow_schema_v1: WorkflowCheck,
}

/// What a check found in a workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct WorkflowCheck {
    /// The workflow file, absolute.
    pub workflow_path: String,
    /// Whether it keeps every rule.
    pub valid: bool,
    /// The rules that it breaks, in the order of the text.
    pub errors: Vec<WorkflowError>,
}

/// A rule that a workflow breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct WorkflowError {
    /// `WF_SCHEMA_V1`.
    pub code: String,
    /// Where in the document: a JSON pointer of raw keys.
    pub pointer: String,
    /// What to do.
    pub hint: String,
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

//! What `loom run --cache-diff` found: whether caches change what a run comes to, and which.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::JobId;
use crate::layout::RuntimePath;
use crate::redacted::Redact;
use crate::status::RunStatus;
use crate::time::Timestamp;

/// A comparison of a run without caches and one with them. It stands beside their receipts, which point to it. All paths
/// are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct CacheDiff {
    /// `v1`.
    pub schema_version: Cow<'static, str>,
    /// `loom-cache-diff`.
    pub kind: Cow<'static, str>,
    /// The version of Loom.
    pub loom_version: String,
    /// The command line, word by word.
    pub command: Vec<String>,
    /// The repository's root.
    pub repo_root: String,
    /// The workflow file.
    pub workflow_path: String,
    /// When the first run started.
    pub started_at: Timestamp,
    /// When the last run had been looked at.
    pub finished_at: Timestamp,
    /// Milliseconds between the two.
    pub duration_ms: u64,
    /// How the comparison ended.
    pub status: RunStatus,
    /// The exit code of `loom`: 1 where the first two runs differ, else that of both.
    pub exit_code: i32,
    /// What was found.
    pub verdict: Verdict,
    /// The receipt of the run without caches.
    pub receipt_without_caches: RuntimePath,
    /// The receipt of the run with caches.
    pub receipt_with_caches: RuntimePath,
    /// Every run that was made, in order.
    pub runs: Vec<ComparedRun>,
    /// How the first two runs differ.
    pub differences: Vec<Difference>,
    /// How many more differences there are that are not listed.
    pub differences_left_out: u64,
    /// What changes the result; it is in quarantine now.
    pub blamed: Vec<Blamed>,
    /// The keys of entries that were restored and change nothing.
    pub innocent: Vec<CacheKey>,
    /// The keys of entries that were restored and of which it is not known whether they change something.
    pub undecided: Vec<CacheKey>,
}

/// What a comparison found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The result is the same without caches and with them.
    Same,
    /// Caches change the result; what is blamed for it is in quarantine.
    CachesChangeResult,
    /// The jobs do not come to the same each time, caches or not; no cache is to blame.
    NotDeterministic,
    /// The results differ, and what causes it was not found.
    Undecided,
}

/// A run of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct ComparedRun {
    /// Its receipt.
    pub receipt_path: RuntimePath,
    /// Its exit code.
    pub exit_code: i32,
    /// Which entries it was given.
    pub caches: CachesUsed,
    /// The keys that it was given where these are not all or none.
    pub keys: Vec<CacheKey>,
    /// Why it was made.
    pub reason: String,
}

/// Which entries of caches a run was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(rename_all = "snake_case")]
pub enum CachesUsed {
    /// None.
    Off,
    /// All.
    All,
    /// Those of some keys.
    Some,
}

/// A key of a cache, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct CacheKey {
    /// The cache's name.
    pub name: String,
    /// The key.
    pub key: String,
}

/// A difference between the run without caches and the one with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// The job; absent for the workspace that jobs share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// What differs, in words.
    pub what: String,
    /// Where it comes from.
    pub cause: Cause,
}

/// Where a difference comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// From what is blamed.
    Caches,
    /// It does not come out the same each time, caches or not.
    NotDeterministic,
    /// It was not found.
    Unknown,
}

/// Keys that change the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct Blamed {
    /// One that does so alone, or several that do so only together.
    pub keys: Vec<CacheKey>,
    /// What they change, in words.
    pub differences: Vec<String>,
}

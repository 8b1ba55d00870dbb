//! How things end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::redacted::Redact;

/// How a phase, step, section or job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It did what it should.
    Success,
    /// It ran and failed.
    Failed,
    /// It was deliberately not done; a [`SkipReason`] says why.
    Skipped,
    /// It was ended by a signal to Loom.
    Cancelled,
}

impl Status {
    /// The word on disk.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a whole run, pipeline or check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Everything succeeded; the exit code is 0.
    Success,
    /// Something did not, or the run was cancelled; the exit code is not 0.
    Failure,
}

impl RunStatus {
    /// The status that belongs to an exit code.
    pub fn of_exit_code(exit_code: i32) -> Self {
        if exit_code == 0 { Self::Success } else { Self::Failure }
    }
}

/// Why something was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// The run ended in its bootstrap.
    RunNotStarted,
    /// A job that this one waits for failed, or one of an earlier stage did.
    UpstreamFailed,
    /// A job that this one waits for was itself skipped.
    UpstreamSkipped,
    /// The run was cancelled before it could start.
    Cancelled,
    /// The user asked for other jobs.
    NotSelected,
    /// It passed in an earlier run that this one goes on with; `reused_from` says in which it ran.
    Reused,
    /// The cache is disabled.
    CacheDisabled,
    /// The cache's key is in quarantine.
    CacheKeyQuarantined,
    /// The cache's policy only restores.
    CachePolicyPull,
    /// The cache's policy only saves.
    CachePolicyPush,
    /// The cache's `when` does not fit how the job ended.
    CacheWhenNotMet,
    /// An entry under the key exists already.
    CacheUnchanged,
    /// A running job uses the same paths under another key.
    CachePathBusy,
    /// The entry stands in the shared workspace already.
    CacheAlreadyRestored,
    /// The provider could not be prepared.
    ProviderFailed,
    /// The artifacts' `when` does not fit how the job ended.
    ArtifactWhenNotMet,
    /// No file matches the artifacts' paths.
    ArtifactNoMatch,
}

impl SkipReason {
    /// The word on disk.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunNotStarted => "run_not_started",
            Self::UpstreamFailed => "upstream_failed",
            Self::UpstreamSkipped => "upstream_skipped",
            Self::Cancelled => "cancelled",
            Self::NotSelected => "not_selected",
            Self::Reused => "reused",
            Self::CacheDisabled => "cache_disabled",
            Self::CacheKeyQuarantined => "cache_key_quarantined",
            Self::CachePolicyPull => "cache_policy_pull",
            Self::CachePolicyPush => "cache_policy_push",
            Self::CacheWhenNotMet => "cache_when_not_met",
            Self::CacheUnchanged => "cache_unchanged",
            Self::CachePathBusy => "cache_path_busy",
            Self::CacheAlreadyRestored => "cache_already_restored",
            Self::ProviderFailed => "provider_failed",
            Self::ArtifactWhenNotMet => "artifact_when_not_met",
            Self::ArtifactNoMatch => "artifact_no_match",
        }
    }
}

impl std::fmt::Display for SkipReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

//! The phases of a run, their scopes and families.
//!
//! ```text
//! run.bootstrap
//! run.pipeline_execute
//!   pipeline.execute
//!     per job: job.provider_prepare, job.cache_restore?, job.execution { execution.script* },
//!              job.cache_save?, job.artifact_restore?, job.cleanup
//! run.finalize
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::redacted::Redact;

/// What a phase belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The whole run.
    Run,
    /// The window in which jobs run.
    Pipeline,
    /// One job.
    Job,
    /// One entry of a job's `script`.
    Step,
}

/// The stable name of a phase.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, Redact,
)]
pub enum PhaseCode {
    /// Loom captures the run's context: workflow, plugins, workspace.
    #[serde(rename = "run.bootstrap")]
    RunBootstrap,
    /// The envelope around the pipeline.
    #[serde(rename = "run.pipeline_execute")]
    RunPipelineExecute,
    /// Jobs run.
    #[serde(rename = "pipeline.execute")]
    PipelineExecute,
    /// A provider gets ready for a job.
    #[serde(rename = "job.provider_prepare")]
    JobProviderPrepare,
    /// Caches are restored.
    #[serde(rename = "job.cache_restore")]
    JobCacheRestore,
    /// The envelope around a job's steps.
    #[serde(rename = "job.execution")]
    JobExecution,
    /// One step.
    #[serde(rename = "execution.script")]
    ExecutionScript,
    /// Caches are saved.
    #[serde(rename = "job.cache_save")]
    JobCacheSave,
    /// Artifacts are extracted, after execution.
    #[serde(rename = "job.artifact_restore")]
    JobArtifactRestore,
    /// What the job used is given back; also finished, as skipped, for a job that never ran.
    #[serde(rename = "job.cleanup")]
    JobCleanup,
    /// The final documents are written.
    #[serde(rename = "run.finalize")]
    RunFinalize,
}

impl PhaseCode {
    /// Every phase, in the order in which a run meets them.
    pub const ALL: [Self; 11] = [
        Self::RunBootstrap,
        Self::RunPipelineExecute,
        Self::PipelineExecute,
        Self::JobProviderPrepare,
        Self::JobCacheRestore,
        Self::JobExecution,
        Self::ExecutionScript,
        Self::JobCacheSave,
        Self::JobArtifactRestore,
        Self::JobCleanup,
        Self::RunFinalize,
    ];

    /// The name on disk.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunBootstrap => "run.bootstrap",
            Self::RunPipelineExecute => "run.pipeline_execute",
            Self::PipelineExecute => "pipeline.execute",
            Self::JobProviderPrepare => "job.provider_prepare",
            Self::JobCacheRestore => "job.cache_restore",
            Self::JobExecution => "job.execution",
            Self::ExecutionScript => "execution.script",
            Self::JobCacheSave => "job.cache_save",
            Self::JobArtifactRestore => "job.artifact_restore",
            Self::JobCleanup => "job.cleanup",
            Self::RunFinalize => "run.finalize",
        }
    }

    /// The family that groups it.
    pub fn family(self) -> PhaseFamily {
        match self {
            Self::RunBootstrap => PhaseFamily::Bootstrap,
            Self::RunPipelineExecute | Self::PipelineExecute => PhaseFamily::Pipeline,
            Self::JobProviderPrepare => PhaseFamily::Provider,
            Self::JobCacheRestore | Self::JobCacheSave => PhaseFamily::Cache,
            Self::JobExecution | Self::ExecutionScript => PhaseFamily::Execution,
            Self::JobArtifactRestore => PhaseFamily::Artifact,
            Self::JobCleanup => PhaseFamily::Cleanup,
            Self::RunFinalize => PhaseFamily::Finalize,
        }
    }

    /// What it belongs to.
    pub fn scope(self) -> Scope {
        match self {
            Self::RunBootstrap | Self::RunPipelineExecute | Self::RunFinalize => Scope::Run,
            Self::PipelineExecute => Scope::Pipeline,
            Self::ExecutionScript => Scope::Step,
            Self::JobProviderPrepare
            | Self::JobCacheRestore
            | Self::JobExecution
            | Self::JobCacheSave
            | Self::JobArtifactRestore
            | Self::JobCleanup => Scope::Job,
        }
    }
}

impl std::fmt::Display for PhaseCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A coarse grouping of phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PhaseFamily {
    /// `run.bootstrap`.
    Bootstrap,
    /// `run.pipeline_execute` and `pipeline.execute`.
    Pipeline,
    /// `job.provider_prepare`.
    Provider,
    /// `job.cache_restore` and `job.cache_save`.
    Cache,
    /// `job.execution` and `execution.script`.
    Execution,
    /// `job.artifact_restore`.
    Artifact,
    /// `job.cleanup`.
    Cleanup,
    /// `run.finalize`.
    Finalize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serialised_name_is_as_str() {
        for code in PhaseCode::ALL {
            assert_eq!(serde_json::to_value(code).ok(), Some(code.as_str().into()));
        }
    }
}

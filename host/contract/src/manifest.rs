//! Manifests: the pointers that lead from a run to what failed. They hold no output and no graph, and stay small.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ErrorInfo;
use crate::event::Metrics;
use crate::id::{JobId, PipelineId, RunId, StepIndex};
use crate::phase::PhaseCode;
use crate::section::Section;
use crate::source_line::SourceLine;
use crate::status::{SkipReason, Status};

/// `pipeline/manifest.json`: which job failed. All paths are relative to the run's log folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineManifest {
    /// `loom.runtime.logs.v2`.
    pub schema_version: Cow<'static, str>,
    /// The run.
    pub run_id: RunId,
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// Every job, in the order of the plan.
    pub jobs: Vec<JobEntry>,
    /// The first job to fail that was not allowed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_job_id: Option<JobId>,
    /// Its manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_job_manifest_path: Option<String>,
}

/// A job in the pipeline's roster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobEntry {
    /// The job.
    pub job_id: JobId,
    /// Its stage.
    pub stage: String,
    /// The provider that ran it.
    pub provider: String,
    /// The values that make it one of the jobs of a matrix.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub matrix: BTreeMap<String, String>,
    /// Its failure leaves the run as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_failure: bool,
    /// How it ended.
    pub status: Status,
    /// The exit code of the step that decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The run in which it passed, where this one goes on with its work instead of running it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reused_from: Option<RunId>,
    /// Its summary.
    pub summary_path: String,
    /// Its manifest.
    pub manifest_path: String,
}

/// `jobs/<job>/manifest.json`: which step or section failed. All paths are relative to the run's log folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobManifest {
    /// `loom.runtime.logs.v2`.
    pub schema_version: Cow<'static, str>,
    /// The run.
    pub run_id: RunId,
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// The job.
    pub job_id: JobId,
    /// Its stage.
    pub stage: String,
    /// The provider that ran it.
    pub provider: String,
    /// The values that make it one of the jobs of a matrix.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub matrix: BTreeMap<String, String>,
    /// Its failure leaves the run as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_failure: bool,
    /// How it ended.
    pub status: Status,
    /// The exit code of the step that decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Milliseconds from its start to its end.
    pub duration_ms: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
    /// Why it never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_reason: Option<SkipReason>,
    /// The run in which it passed, where this one goes on with its work instead of running it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reused_from: Option<RunId>,
    /// Every entry of `script`, those that never started included.
    pub steps: Vec<StepEntry>,
    /// The system sections that were opened, in time.
    pub system_sections: Vec<SectionEntry>,
    /// The section in which the job failed, where it failed outside its steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_section: Option<Section>,
    /// The step that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_step: Option<StepIndex>,
    /// Its events: the end of the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_step_events_path: Option<String>,
    /// The events of all steps in order; absent for a job that never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_events_path: Option<String>,
    /// What was extracted from the job's workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Artifacts>,
    /// The attempts before this one, the first one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptEntry>,
}

/// An earlier attempt of a job that was retried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttemptEntry {
    /// Its number, from 1.
    #[schemars(range(min = 1))]
    pub attempt: u32,
    /// How it ended.
    pub status: Status,
    /// The exit code of the step that decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
    /// Its summary.
    pub summary_path: String,
    /// Its manifest.
    pub manifest_path: String,
}

/// A step in a job's roster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepEntry {
    /// The step.
    pub step: StepIndex,
    /// Its command, as the workflow gives it.
    pub command: String,
    /// Where it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceLine>,
    /// How it ended; `skipped` for one that never started.
    pub status: Status,
    /// The exit code; 128 + n where signal n ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Its summary; absent for a step that never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary_path: Option<String>,
    /// Its events; absent for a step that never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_path: Option<String>,
}

/// A system section in a job's roster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SectionEntry {
    /// The section.
    pub section: Section,
    /// The phase that it belongs to.
    pub phase_code: PhaseCode,
    /// How it ended.
    pub status: Status,
    /// Why it was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_reason: Option<SkipReason>,
    /// What it counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// Its summary.
    pub summary_path: String,
    /// Its events.
    pub events_path: String,
    /// What its processes said after it was over, and how they ended; present where there is such a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_path: Option<String>,
}

/// What was extracted from a job's workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Artifacts {
    /// The files, relative to the run's log folder; the first [`Artifacts::LISTED`] of them.
    pub paths: Vec<String>,
    /// All of them in one archive.
    pub archive_path: String,
    /// How many files.
    pub count: u64,
    /// Their sizes, added up.
    pub bytes: u64,
}

impl Artifacts {
    /// Files that are listed at most: a manifest stays small.
    pub const LISTED: usize = 1000;
}

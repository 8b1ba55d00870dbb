//! Summaries: how the run, the pipeline, a job, a step or a section ended.

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
use crate::status::{RunStatus, SkipReason, Status};
use crate::time::Timestamp;

/// `summary.json` of a run: where to go on reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunSummary {
    /// `v1`.
    pub schema_version: Cow<'static, str>,
    /// `loom-run-local-logs`.
    pub kind: Cow<'static, str>,
    /// The run.
    pub run_id: RunId,
    /// Its pipeline.
    pub pipeline_id: PipelineId,
    /// How it ended.
    pub status: RunStatus,
    /// The exit code of `loom`.
    pub exit_code: i32,
    /// When it started.
    pub started_at: Timestamp,
    /// When this document was written.
    pub finished_at: Timestamp,
    /// Milliseconds between the two.
    pub duration_ms: u64,
    /// The phase report, relative to the run's log folder, like all paths here.
    pub phase_report_path: String,
    /// The pipeline's summary.
    pub pipeline_summary_path: String,
    /// The pipeline's manifest.
    pub pipeline_manifest_path: String,
}

/// `pipeline/summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineSummary {
    /// `loom.runtime.logs.v2`.
    pub schema_version: Cow<'static, str>,
    /// The run.
    pub run_id: RunId,
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// How it ended.
    pub status: RunStatus,
    /// The exit code of `loom`.
    pub exit_code: i32,
    /// Milliseconds that `pipeline.execute` took.
    pub duration_ms: u64,
    /// Why the run failed, where that is not a matter of one job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
    /// How many jobs ended how.
    pub jobs: JobCounts,
}

/// How many jobs ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobCounts {
    /// All jobs of the run.
    pub total: usize,
    /// Those that succeeded.
    pub success: usize,
    /// Those that failed.
    pub failed: usize,
    /// Those that did not run: also those that passed in an earlier run, whose work this one goes on with.
    pub skipped: usize,
    /// Those that a signal to Loom ended.
    pub cancelled: usize,
}

/// `jobs/<job>/summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSummary {
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
    /// How it ended.
    pub status: Status,
    /// The exit code of the step that decided it; absent where no step ended.
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
    /// A hash of what it is: what the workflow says of it and the plugins that serve it. `--rerun-failed` runs a job again
    /// that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
}

/// `jobs/<job>/user/execution/script/<NN>/summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepSummary {
    /// `loom.runtime.logs.v2`.
    pub schema_version: Cow<'static, str>,
    /// The run.
    pub run_id: RunId,
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// The job.
    pub job_id: JobId,
    /// The step.
    pub step: StepIndex,
    /// Its command, as the workflow gives it.
    pub command: String,
    /// Where it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceLine>,
    /// How it ended.
    pub status: Status,
    /// The exit code; 128 + n where signal n ended it; absent where no process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Milliseconds that it took.
    pub duration_ms: u64,
    /// Lines that it wrote to both streams (lines, not events: a long line that was split counts once).
    pub output_lines: u64,
    /// Bytes that it wrote to both streams.
    pub output_bytes: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
}

/// `jobs/<job>/system/<section>/summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SectionSummary {
    /// `loom.runtime.logs.v2`.
    pub schema_version: Cow<'static, str>,
    /// The run.
    pub run_id: RunId,
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// The job.
    pub job_id: JobId,
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
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
    /// Milliseconds that it took.
    pub duration_ms: u64,
}

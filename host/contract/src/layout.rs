//! Where everything stands under `.loom/.runtime/`. No other file spells these names.

use std::path::{Path, PathBuf};

use crate::event::Phase;
use crate::id::{JobId, RunId, StepIndex};
use crate::phase::PhaseCode;
use crate::section::Section;

/// The folder that marks a repository's root.
pub const LOOM_DIR: &str = ".loom";
/// The workflow that is run where no other is named, relative to the repository's root.
pub const DEFAULT_WORKFLOW: &str = ".loom/workflow.yml";
/// What runs leave behind, relative to the repository's root.
pub const RUNTIME_DIR: &str = ".loom/.runtime";
/// The run-scoped events, relative to the run's log folder, like the names below.
pub const RUN_EVENTS: &str = "events.jsonl";
/// The run's summary.
pub const RUN_SUMMARY: &str = "summary.json";
/// The phase report.
pub const PHASE_REPORT: &str = "phase-report.json";
/// The pipeline's events.
pub const PIPELINE_EVENTS: &str = "pipeline/events.jsonl";
/// The pipeline's summary.
pub const PIPELINE_SUMMARY: &str = "pipeline/summary.json";
/// The pipeline's manifest.
pub const PIPELINE_MANIFEST: &str = "pipeline/manifest.json";
/// What a receipt that is not final ends with.
pub const PARTIAL_SUFFIX: &str = ".partial";
/// Space set aside in a run's log folder while it runs, so that a full disk still takes the last documents.
pub const BALLAST: &str = ".ballast";

/// The runtime folder of one repository.
#[derive(Debug, Clone)]
pub struct RuntimeDir {
    root: PathBuf,
}

impl RuntimeDir {
    /// The runtime folder of the repository at `repo_root`.
    pub fn of_repo(repo_root: &Path) -> Self {
        Self {
            root: repo_root.join(RUNTIME_DIR),
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The folder of all runs' logs.
    pub fn logs_dir(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The folder of all receipts.
    pub fn receipts_dir(&self) -> PathBuf {
        self.root.join("receipts")
    }

    /// The log folder of one run.
    pub fn run_dir(&self, run_id: &RunId) -> PathBuf {
        self.logs_dir().join(run_id.as_str())
    }

    /// The receipt of one run.
    pub fn receipt(&self, run_id: &RunId) -> PathBuf {
        self.receipts_dir().join(format!("{run_id}.json"))
    }

    /// The receipt of a run that has not come to its end.
    pub fn partial_receipt(&self, run_id: &RunId) -> PathBuf {
        self.receipts_dir().join(format!("{run_id}.json{PARTIAL_SUFFIX}"))
    }

    /// The receipt of a check that started at `basic_iso` (UTC, `20260307T064000Z`) in process `pid`.
    pub fn check_receipt(&self, basic_iso: &str, pid: u32) -> PathBuf {
        self.receipts_dir().join(format!("{basic_iso}-check-{pid}.json"))
    }
}

/// A job's folder.
pub fn job_dir(job_id: &JobId) -> String {
    format!("jobs/{job_id}")
}

/// A job's summary.
pub fn job_summary(job_id: &JobId) -> String {
    format!("jobs/{job_id}/summary.json")
}

/// A job's manifest.
pub fn job_manifest(job_id: &JobId) -> String {
    format!("jobs/{job_id}/manifest.json")
}

/// A job's own events.
pub fn job_events(job_id: &JobId) -> String {
    format!("jobs/{job_id}/events.jsonl")
}

/// The events of all of a job's steps, in order.
pub fn execution_events(job_id: &JobId) -> String {
    format!("jobs/{job_id}/user/execution/events.jsonl")
}

/// A step's events.
pub fn step_events(job_id: &JobId, step: StepIndex) -> String {
    format!("jobs/{job_id}/user/execution/script/{step}/events.jsonl")
}

/// A step's summary.
pub fn step_summary(job_id: &JobId, step: StepIndex) -> String {
    format!("jobs/{job_id}/user/execution/script/{step}/summary.json")
}

/// A section's events.
pub fn section_events(job_id: &JobId, section: Section) -> String {
    format!("jobs/{job_id}/system/{section}/events.jsonl")
}

/// A section's summary.
pub fn section_summary(job_id: &JobId, section: Section) -> String {
    format!("jobs/{job_id}/system/{section}/summary.json")
}

/// The streams that an event of `phase` is written to: its own, and the mirror of a job's execution.
pub fn streams(phase: &Phase) -> (String, Option<String>) {
    match phase {
        Phase::Run(PhaseCode::PipelineExecute) => (PIPELINE_EVENTS.to_owned(), None),
        Phase::Run(_) => (RUN_EVENTS.to_owned(), None),
        Phase::Job(job_id, PhaseCode::JobExecution) => (job_events(job_id), Some(execution_events(job_id))),
        Phase::Job(job_id, _) => (job_events(job_id), None),
        Phase::Section(job_id, section) => (section_events(job_id, *section), None),
        Phase::Step(job_id, step) => (step_events(job_id, *step), Some(execution_events(job_id))),
    }
}

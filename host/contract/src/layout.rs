//! Where everything stands under `.loom/.runtime/`. No other file spells these names.

use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::Phase;
use crate::id::{JobId, RunId, StepIndex};
use crate::phase::PhaseCode;
use crate::redacted::{Mask, Redact};
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
/// The folder of the jobs' folders.
pub const JOBS: &str = "jobs";
/// What a receipt that is not final ends with.
pub const PARTIAL_SUFFIX: &str = ".partial";
/// What the document of a comparison ends with; it stands among the receipts.
pub const CACHE_DIFF_SUFFIX: &str = ".cache-diff.json";
/// The ending, beside a run's receipt, of the file that pins its record.
pub const PINNED_SUFFIX: &str = ".pinned";
/// What records take, so that nobody has to measure them again: relative to the runtime folder.
pub const RECORD_SIZES: &str = "records.jsonl";
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
        Self { root: repo_root.join(RUNTIME_DIR) }
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

    /// What `--cache-diff` found, of whose two runs the second, with caches, is `run_id`.
    pub fn cache_diff(&self, run_id: &RunId) -> PathBuf {
        self.receipts_dir().join(format!("{run_id}{CACHE_DIFF_SUFFIX}"))
    }

    /// What pins the record of a run while it is there.
    pub fn pin(&self, run_id: &RunId) -> PathBuf {
        self.receipts_dir().join(format!("{run_id}{PINNED_SUFFIX}"))
    }

    /// The receipt of a check that started at `basic_iso` (UTC, `20260307T064000Z`) in process `pid`.
    pub fn check_receipt(&self, basic_iso: &str, pid: u32) -> PathBuf {
        self.receipts_dir().join(format!("{basic_iso}-check-{pid}.json"))
    }
}

/// The log folder of the run whose receipt is at `receipt`. The path that stands in the receipt may be masked.
pub fn logs_of_receipt(receipt: &Path) -> PathBuf {
    let root = receipt.parent().and_then(Path::parent).unwrap_or(Path::new(""));
    RuntimeDir { root: root.to_owned() }.logs_dir().join(receipt.file_stem().unwrap_or_default())
}

/// An absolute path of something that runs have left. It stays a path that leads there although secrets are masked, except
/// where the repository's own path holds the value of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub struct RuntimePath {
    repo_root: String,
    /// From the slash after the root on: names of this file, and ids.
    below: String,
}

impl RuntimePath {
    /// `path`, which is in the repository at `repo_root`.
    pub fn new(repo_root: &Path, path: &Path) -> Self {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        match path.strip_prefix(repo_root) {
            Ok(below) => Self { repo_root: text(repo_root), below: format!("/{}", text(below)) },
            Err(_) => Self { repo_root: text(path), below: String::new() },
        }
    }

    /// `path`, a name of this file, below it.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        Self { repo_root: self.repo_root.clone(), below: format!("{}/{path}", self.below) }
    }
}

impl fmt::Display for RuntimePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.repo_root, self.below)
    }
}

impl From<RuntimePath> for String {
    fn from(path: RuntimePath) -> Self {
        path.to_string()
    }
}

impl From<String> for RuntimePath {
    fn from(mut path: String) -> Self {
        let at = path.rfind(&format!("/{RUNTIME_DIR}")).unwrap_or(path.len());
        let below = path.split_off(at);
        Self { repo_root: path, below }
    }
}

impl Redact for RuntimePath {
    fn redact(&mut self, mask: &dyn Mask) {
        self.repo_root.redact(mask);
    }
}

/// Where the record of one job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobLayout {
    root: String,
}

/// The record of the job `job_id`: of its last attempt, where it was tried more than once.
pub fn job(job_id: &JobId) -> JobLayout {
    JobLayout { root: format!("{JOBS}/{job_id}") }
}

impl JobLayout {
    /// The record of the attempt number `attempt`, from 1, which was not the last one.
    #[must_use]
    pub fn attempt(&self, attempt: u32) -> Self {
        Self { root: format!("{}/attempts/{attempt}", self.root) }
    }

    /// The folder itself.
    pub fn folder(&self) -> &str {
        &self.root
    }

    /// The job's summary.
    pub fn summary(&self) -> String {
        format!("{}/summary.json", self.root)
    }

    /// The job's manifest.
    pub fn manifest(&self) -> String {
        format!("{}/manifest.json", self.root)
    }

    /// The job's own events.
    pub fn events(&self) -> String {
        format!("{}/events.jsonl", self.root)
    }

    /// The events of all of the job's steps, in order.
    pub fn execution_events(&self) -> String {
        format!("{}/user/execution/events.jsonl", self.root)
    }

    /// A step's events.
    pub fn step_events(&self, step: StepIndex) -> String {
        format!("{}/user/execution/script/{step}/events.jsonl", self.root)
    }

    /// A step's summary.
    pub fn step_summary(&self, step: StepIndex) -> String {
        format!("{}/user/execution/script/{step}/summary.json", self.root)
    }

    /// The folder of the job's artifacts.
    pub fn artifacts(&self) -> String {
        format!("{}/artifacts", self.root)
    }

    /// All of the job's artifacts in one archive.
    pub fn artifacts_archive(&self) -> String {
        format!("{}/artifacts/artifacts.tar.gz", self.root)
    }

    /// A section's events.
    pub fn section_events(&self, section: Section) -> String {
        format!("{}/system/{section}/events.jsonl", self.root)
    }

    /// What a section's processes said after it was over, and how they ended.
    pub fn section_output(&self, section: Section) -> String {
        format!("{}/system/{section}/output.jsonl", self.root)
    }

    /// A section's summary.
    pub fn section_summary(&self, section: Section) -> String {
        format!("{}/system/{section}/summary.json", self.root)
    }
}

/// The streams that an event of `phase` is written to: its own, and the mirror of a job's execution.
pub fn streams(phase: &Phase) -> (String, Option<String>) {
    match phase {
        Phase::Run(PhaseCode::PipelineExecute) => (PIPELINE_EVENTS.to_owned(), None),
        Phase::Run(_) => (RUN_EVENTS.to_owned(), None),
        Phase::Job(job_id, PhaseCode::JobExecution) => {
            let job = job(job_id);
            (job.events(), Some(job.execution_events()))
        }
        Phase::Job(job_id, _) => (job(job_id).events(), None),
        Phase::Section(job_id, section) => (job(job_id).section_events(*section), None),
        Phase::After(job_id, section) => (job(job_id).section_output(*section), None),
        Phase::Step(job_id, step) => {
            let job = job(job_id);
            (job.step_events(*step), Some(job.execution_events()))
        }
    }
}

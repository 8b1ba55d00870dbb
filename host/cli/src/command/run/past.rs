//! What earlier runs say of jobs.
//!
//! The newest run of the workflow counts, whatever became of it: an older one that passed is no word on one that was killed
//! or whose record cannot be read. Of the jobs that a run was told to leave out, the run before it is asked; and so it is
//! where a run ended before its jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use loom_contract::error::{ErrorInfo, code};
use loom_contract::id::{JobId, RunId};
use loom_contract::layout;
use loom_contract::manifest::PipelineManifest;
use loom_contract::receipt::RunReceipt;
use loom_contract::status::{SkipReason, Status};
use loom_contract::summary::JobSummary;
use loom_contract::version;
use loom_engine::redact;
use loom_record::read::{self, Left};
use serde::Deserialize;

/// What the last runs of a workflow say of its jobs.
#[derive(Debug, Clone, Default)]
pub(super) struct Past {
    /// Whether the job passed when it last was to run.
    passed: BTreeMap<JobId, bool>,
    /// Jobs that were left out.
    left_out: BTreeSet<JobId>,
    /// Jobs of which nothing is known were to run, and did not.
    others_failed: bool,
    /// The newest run that came to its jobs.
    last: Option<LastRun>,
}

/// A run that came to its jobs.
#[derive(Debug, Clone)]
pub(super) struct LastRun {
    pub(super) run_id: RunId,
    pub(super) logs: PathBuf,
    /// Where its copy of the repository was; not known of one that was killed.
    pub(super) workspace: Option<PathBuf>,
    /// The commit that it worked on; not known of one that was killed.
    pub(super) head_sha: Option<String>,
    /// How its jobs ended, as far as they did.
    ended: BTreeMap<JobId, Status>,
}

impl LastRun {
    /// Whether `job` passed in it, or had passed before it.
    pub(super) fn has_passed(&self, job: &JobId) -> bool {
        self.ended.get(job) == Some(&Status::Success)
    }

    /// Whether `job` ran in it and failed.
    pub(super) fn has_failed(&self, job: &JobId) -> bool {
        self.ended.get(job) == Some(&Status::Failed)
    }
}

/// What a receipt of any version says.
#[derive(Deserialize)]
struct Whose {
    workflow_path: String,
}

/// What the record of a run says of its jobs.
struct Jobs {
    /// How they ended; `None` for those that the run was told to leave out.
    ended: Vec<(JobId, Option<Status>)>,
    /// Whether these are all of its jobs: not where it was killed.
    complete: bool,
}

impl Past {
    /// What the runs of the workflow at `workflow_path` in the repository at `repo_root` say.
    ///
    /// # Errors
    /// There is none, or the record of one that counts cannot be read.
    pub(super) fn of(repo_root: &Path, workflow_path: &Path) -> Result<Self, ErrorInfo> {
        let mut past = Self::default();
        let (mut runs, mut is_first) = (0, true);
        let mut last_did_not_start = false;
        for run in read::runs(repo_root) {
            let Some(receipt) = receipt_of(&run, workflow_path)? else { continue };
            if !run.has_ended && read::is_written_to(&run.logs) {
                let message = "the last run of this workflow has not ended yet";
                return Err(ErrorInfo::new(code::WORKFLOW_UNREADABLE, message)
                    .with_hint("wait for it, or end it, and then run what failed again"));
            }
            runs += 1;
            let Some(jobs) = jobs_of(&run)? else {
                last_did_not_start |= runs == 1;
                continue;
            };
            if is_first {
                past.last = last_run(&run, receipt, &jobs);
            }
            past.learn(jobs, is_first);
            is_first = false;
            if past.left_out.is_empty() {
                break;
            }
        }
        if runs == 0 {
            return Err(ErrorInfo::new(
                code::WORKFLOW_UNREADABLE,
                "no earlier run of this workflow to go by",
            ));
        }
        // That all passed before it is no word on the last run.
        if last_did_not_start && past.all_passed() {
            past = Self { others_failed: true, last: past.last, ..Self::default() };
        }
        Ok(past)
    }

    /// Takes from `jobs` what no later run has said: only of what was left out, an earlier one is asked.
    fn learn(&mut self, jobs: Jobs, is_first: bool) {
        let mut asked = std::mem::take(&mut self.left_out);
        for (job, status) in jobs.ended {
            if !is_first && !asked.remove(&job) {
                continue;
            }
            match status {
                Some(status) => drop(self.passed.insert(job, status == Status::Success)),
                None => drop(self.left_out.insert(job)),
            }
        }
        if jobs.complete {
            // It did not have them.
            self.left_out.append(&mut asked);
        } else if is_first {
            self.others_failed = true;
        } else {
            self.passed.extend(asked.into_iter().map(|job| (job, false)));
        }
    }

    /// The newest run that came to its jobs.
    pub(super) fn last(&self) -> Option<&LastRun> {
        self.last.as_ref()
    }

    /// Whether no job is known to have passed.
    pub(super) fn none_passed(&self) -> bool {
        !self.passed.values().any(|passed| *passed)
    }

    /// Whether there is no job that did not pass.
    pub(super) fn all_passed(&self) -> bool {
        !self.others_failed && self.passed.values().all(|passed| *passed)
    }

    /// Whether there is nothing to be done again of `job`.
    pub(super) fn has_passed(&self, job: &JobId) -> bool {
        match self.passed.get(job) {
            Some(passed) => *passed,
            None => !self.others_failed || self.left_out.contains(job),
        }
    }
}

fn last_run(run: &Left, receipt: RunReceipt, jobs: &Jobs) -> Option<LastRun> {
    let ended = jobs.ended.iter().filter_map(|(job, status)| Some((job.clone(), (*status)?)));
    Some(LastRun {
        run_id: RunId::new(run.logs.file_name()?.to_str()?).ok()?,
        logs: run.logs.clone(),
        workspace: receipt.snapshot_path.map(PathBuf::from),
        head_sha: receipt.snapshot_head_sha,
        ended: ended.collect(),
    })
}

/// The receipt of `run`, where that is one of the workflow at `workflow_path`, and for its own sake.
fn receipt_of(run: &Left, workflow_path: &Path) -> Result<Option<RunReceipt>, ErrorInfo> {
    let whose: Whose = read::document(&run.receipt).map_err(|error| unreadable(&error))?;
    if !redact::may_be(&whose.workflow_path, &workflow_path.to_string_lossy()) {
        return Ok(None);
    }
    let receipt: RunReceipt = read::document(&run.receipt).map_err(|error| unreadable(&error))?;
    of_this_version(&run.receipt, &receipt.schema_version, version::V1)?;
    Ok((!receipt.is_for_comparison()).then_some(receipt))
}

/// What the jobs of `run` came to; `None` for a run that ended before its jobs.
fn jobs_of(run: &Left) -> Result<Option<Jobs>, ErrorInfo> {
    let path = run.logs.join(layout::PIPELINE_MANIFEST);
    let manifest = match read::document::<PipelineManifest>(&path) {
        Err(error) if error.source.kind() == ErrorKind::NotFound && run.logs.is_dir() => {
            let summaries = read::job_summaries(&run.logs).into_iter();
            let ended = summaries.map(|job| (job.job_id, ended(job.status, job.skip_reason)));
            return Ok(Some(Jobs { ended: ended.collect(), complete: false }));
        }
        read => read.map_err(|error| unreadable(&error))?,
    };
    of_this_version(&path, &manifest.schema_version, version::LOGS)?;
    if manifest.jobs.is_empty() {
        return Ok(None);
    }
    let mut jobs = Jobs { ended: Vec::with_capacity(manifest.jobs.len()), complete: true };
    for job in manifest.jobs {
        let skip_reason = match job.status {
            Status::Skipped => {
                let summary = read::document::<JobSummary>(&run.logs.join(&job.summary_path));
                summary.map_err(|error| unreadable(&error))?.skip_reason
            }
            _ => None,
        };
        jobs.ended.push((job.job_id, ended(job.status, skip_reason)));
    }
    Ok(Some(jobs))
}

fn ended(status: Status, skip_reason: Option<SkipReason>) -> Option<Status> {
    match skip_reason {
        Some(SkipReason::NotSelected) => None,
        // It passed before, and the run went on with that.
        Some(SkipReason::Reused) => Some(Status::Success),
        _ => Some(status),
    }
}

fn of_this_version(path: &Path, version: &str, own: &str) -> Result<(), ErrorInfo> {
    let other = || format!("{} is of another version of Loom ({version} instead of {own})", path.display());
    if version == own { Ok(()) } else { Err(unreadable(&other())) }
}

fn unreadable(why: &dyn Display) -> ErrorInfo {
    let message = format!("what failed last time is not known: {why}");
    ErrorInfo::new(code::RECORD_FAILED, message).with_hint("run everything once: `loom run --local`")
}

//! Documents, folded from events. Pointers come from the same functions that say where files are written.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use loom_contract::event::{Finish, JobFinish, PlannedJob, TakenArtifacts};
use loom_contract::exit;
use loom_contract::id::{JobId, RunIds, StepIndex};
use loom_contract::layout::{self, JobLayout};
use loom_contract::manifest::{
    Artifacts, AttemptEntry, JobEntry, JobManifest, PipelineManifest, SectionEntry, StepEntry,
};
use loom_contract::receipt::JobReceipt;
use loom_contract::section::Section;
use loom_contract::status::{RunStatus, Status};
use loom_contract::summary::{
    JobCounts, JobSummary, PipelineSummary, RunSummary, SectionSummary, StepSummary,
};
use loom_contract::time::Timestamp;
use loom_contract::version;

/// The state that the events so far add up to.
#[derive(Debug)]
pub(crate) struct Fold {
    ids: RunIds,
    roster: Arc<[PlannedJob]>,
    positions: HashMap<JobId, usize>,
    jobs: HashMap<JobId, JobFold>,
    first_to_fail: Option<JobId>,
    exit_code: Option<i32>,
}

#[derive(Debug, Default)]
struct JobFold {
    steps: BTreeMap<StepIndex, StepFold>,
    sections: Vec<SectionEntry>,
    /// The sections whose processes said something after them.
    spoke_after: Vec<Section>,
    started: bool,
    end: Option<JobFinish>,
    attempts: Vec<AttemptEntry>,
}

#[derive(Debug, Default)]
struct StepFold {
    status: Option<Status>,
    exit_code: Option<i32>,
    lines: u64,
    bytes: u64,
}

impl Fold {
    pub(crate) fn new(ids: RunIds) -> Self {
        Self {
            ids,
            roster: Arc::from([]),
            positions: HashMap::new(),
            jobs: HashMap::new(),
            first_to_fail: None,
            exit_code: None,
        }
    }

    pub(crate) fn planned(&mut self, roster: &Arc<[PlannedJob]>) {
        self.positions = roster.iter().enumerate().map(|(at, job)| (job.job_id.clone(), at)).collect();
        self.roster = Arc::clone(roster);
    }

    /// The jobs of the plan.
    pub(crate) fn job_ids(&self) -> Vec<JobId> {
        self.roster.iter().map(|job| job.job_id.clone()).collect()
    }

    pub(crate) fn output(&mut self, job_id: &JobId, step: StepIndex, lines: u64, bytes: usize) {
        let step = self.jobs.entry(job_id.clone()).or_default().steps.entry(step).or_default();
        step.lines += lines;
        step.bytes += bytes as u64;
    }

    pub(crate) fn execution_started(&mut self, job_id: &JobId) {
        self.jobs.entry(job_id.clone()).or_default().started = true;
    }

    /// Something was said after `section` was over.
    pub(crate) fn spoke_after(&mut self, job_id: &JobId, section: Section) {
        self.jobs.entry(job_id.clone()).or_default().spoke_after.push(section);
    }

    /// The sections after which something was said.
    pub(crate) fn sections_with_output(&self, job_id: &JobId) -> Vec<Section> {
        self.jobs.get(job_id).map(|job| job.spoke_after.clone()).unwrap_or_default()
    }

    pub(crate) fn step_finished(&mut self, job_id: &JobId, index: StepIndex, finish: &Finish) -> StepSummary {
        let step = self.jobs.entry(job_id.clone()).or_default().steps.entry(index).or_default();
        step.status = Some(finish.status);
        step.exit_code = finish.exit_code;
        let (output_lines, output_bytes) = (step.lines, step.bytes);
        StepSummary {
            schema_version: Cow::Borrowed(version::LOGS),
            run_id: self.ids.run_id.clone(),
            pipeline_id: self.ids.pipeline_id.clone(),
            job_id: job_id.clone(),
            step: index,
            command: self.command(job_id, index),
            source: self.planned_job(job_id).and_then(|job| job.sources.get(index.position())).cloned(),
            status: finish.status,
            exit_code: finish.exit_code,
            signal: finish.signal,
            duration_ms: finish.duration_ms,
            output_lines,
            output_bytes,
            error: finish.error.clone(),
        }
    }

    pub(crate) fn section_finished(
        &mut self,
        job_id: &JobId,
        section: Section,
        finish: &Finish,
    ) -> SectionSummary {
        let entry = SectionEntry {
            section,
            phase_code: section.phase_code(),
            status: finish.status,
            skip_reason: finish.skip_reason,
            metrics: finish.metrics.clone(),
            // Where it stands is known when the attempt that it belongs to is over.
            summary_path: String::new(),
            events_path: String::new(),
            output_path: None,
        };
        self.jobs.entry(job_id.clone()).or_default().sections.push(entry);
        SectionSummary {
            schema_version: Cow::Borrowed(version::LOGS),
            run_id: self.ids.run_id.clone(),
            pipeline_id: self.ids.pipeline_id.clone(),
            job_id: job_id.clone(),
            section,
            phase_code: section.phase_code(),
            status: finish.status,
            skip_reason: finish.skip_reason,
            metrics: finish.metrics.clone(),
            error: finish.error.clone(),
            duration_ms: finish.duration_ms,
        }
    }

    /// The attempt of `job_id` that just failed is set aside; what follows is the next one. Returns where its
    /// record is to stand, and its documents.
    pub(crate) fn job_retried(
        &mut self,
        job_id: &JobId,
        end: &JobFinish,
    ) -> (JobLayout, JobSummary, JobManifest) {
        let attempts = self.jobs.get(job_id).map_or(0, |job| job.attempts.len());
        let attempt = u32::try_from(attempts + 1).unwrap_or(u32::MAX);
        let place = layout::job(job_id).attempt(attempt);
        let (summary, manifest) = self.documents(job_id, end, &place, Vec::new());
        let mut job = self.jobs.remove(job_id).unwrap_or_default();
        job.attempts.push(AttemptEntry {
            attempt,
            status: end.status,
            exit_code: end.exit_code,
            error: end.error.clone(),
            summary_path: place.summary(),
            manifest_path: place.manifest(),
        });
        self.jobs.insert(job_id.clone(), JobFold { attempts: job.attempts, ..JobFold::default() });
        (place, summary, manifest)
    }

    pub(crate) fn job_finished(&mut self, job_id: &JobId, end: &JobFinish) -> (JobSummary, JobManifest) {
        let allowed = self.planned_job(job_id).is_some_and(|job| job.allow_failure);
        if end.status == Status::Failed && !allowed && self.first_to_fail.is_none() {
            self.first_to_fail = Some(job_id.clone());
        }
        let job = self.jobs.entry(job_id.clone()).or_default();
        job.end = Some(end.clone());
        let attempts = job.attempts.clone();
        self.documents(job_id, end, &layout::job(job_id), attempts)
    }

    fn documents(
        &self,
        job_id: &JobId,
        end: &JobFinish,
        place: &JobLayout,
        attempts: Vec<AttemptEntry>,
    ) -> (JobSummary, JobManifest) {
        let nothing = JobFold::default();
        let job = self.jobs.get(job_id).unwrap_or(&nothing);
        let planned = self.planned_job(job_id);
        let steps: Vec<StepEntry> = planned
            .iter()
            .flat_map(|planned| planned.commands.iter().enumerate())
            .map(|(position, command)| {
                let step = StepIndex::at(position);
                let ran = job.steps.get(&step);
                StepEntry {
                    step,
                    command: command.clone(),
                    source: planned.as_ref().and_then(|job| job.sources.get(position)).cloned(),
                    status: ran.and_then(|s| s.status).unwrap_or(Status::Skipped),
                    exit_code: ran.and_then(|s| s.exit_code),
                    summary_path: ran.map(|_| place.step_summary(step)),
                    events_path: ran.map(|_| place.step_events(step)),
                }
            })
            .collect();
        let system_sections: Vec<SectionEntry> = job
            .sections
            .iter()
            .map(|entry| SectionEntry {
                summary_path: place.section_summary(entry.section),
                events_path: place.section_events(entry.section),
                output_path: job
                    .spoke_after
                    .contains(&entry.section)
                    .then(|| place.section_output(entry.section)),
                ..entry.clone()
            })
            .collect();
        let failing_step = steps.iter().find(|s| s.status == Status::Failed);
        let failing_section = if failing_step.is_some() {
            None
        } else {
            system_sections.iter().find(|s| s.status == Status::Failed).map(|s| s.section)
        };
        let (failing_step, failing_step_events_path) =
            failing_step.map(|s| (Some(s.step), s.events_path.clone())).unwrap_or_default();
        let summary = JobSummary {
            schema_version: Cow::Borrowed(version::LOGS),
            run_id: self.ids.run_id.clone(),
            pipeline_id: self.ids.pipeline_id.clone(),
            job_id: job_id.clone(),
            stage: planned.map(|job| job.stage.clone()).unwrap_or_default(),
            provider: planned.map(|job| job.provider.clone()).unwrap_or_default(),
            matrix: planned.map(|job| job.matrix.clone()).unwrap_or_default(),
            status: end.status,
            exit_code: end.exit_code,
            duration_ms: end.duration_ms,
            error: end.error.clone(),
            skip_reason: end.skip_reason,
            reused_from: end.reused_from.clone(),
            definition: planned.and_then(|job| job.definition.clone()),
        };
        let manifest = JobManifest {
            schema_version: summary.schema_version.clone(),
            run_id: summary.run_id.clone(),
            pipeline_id: summary.pipeline_id.clone(),
            job_id: job_id.clone(),
            stage: summary.stage.clone(),
            provider: summary.provider.clone(),
            matrix: summary.matrix.clone(),
            allow_failure: planned.is_some_and(|job| job.allow_failure),
            status: end.status,
            exit_code: end.exit_code,
            duration_ms: end.duration_ms,
            error: end.error.clone(),
            skip_reason: end.skip_reason,
            reused_from: end.reused_from.clone(),
            steps,
            system_sections,
            failing_section,
            failing_step,
            failing_step_events_path,
            execution_events_path: job.started.then(|| place.execution_events()),
            artifacts: end.artifacts.as_ref().map(|taken| artifacts(taken, place)),
            attempts,
        };
        (summary, manifest)
    }

    pub(crate) fn pipeline_finished(&mut self, finish: &Finish) -> (PipelineSummary, PipelineManifest) {
        let exit_code = finish.exit_code.unwrap_or(exit::FAILURE);
        self.exit_code = Some(exit_code);
        let mut counts = JobCounts { total: self.roster.len(), ..JobCounts::default() };
        let jobs: Vec<JobEntry> = self
            .roster
            .iter()
            .map(|planned| {
                let end = self.jobs.get(&planned.job_id).and_then(|job| job.end.as_ref());
                let status = end.map_or(Status::Skipped, |end| end.status);
                match status {
                    Status::Success => counts.success += 1,
                    Status::Failed => counts.failed += 1,
                    Status::Skipped => counts.skipped += 1,
                    Status::Cancelled => counts.cancelled += 1,
                }
                JobEntry {
                    job_id: planned.job_id.clone(),
                    stage: planned.stage.clone(),
                    provider: planned.provider.clone(),
                    status,
                    exit_code: end.and_then(|end| end.exit_code),
                    reused_from: end.and_then(|end| end.reused_from.clone()),
                    matrix: planned.matrix.clone(),
                    allow_failure: planned.allow_failure,
                    summary_path: layout::job(&planned.job_id).summary(),
                    manifest_path: layout::job(&planned.job_id).manifest(),
                }
            })
            .collect();
        let summary = PipelineSummary {
            schema_version: Cow::Borrowed(version::LOGS),
            run_id: self.ids.run_id.clone(),
            pipeline_id: self.ids.pipeline_id.clone(),
            status: RunStatus::of_exit_code(exit_code),
            exit_code,
            duration_ms: finish.duration_ms,
            error: finish.error.clone(),
            jobs: counts,
        };
        let manifest = PipelineManifest {
            schema_version: Cow::Borrowed(version::LOGS),
            run_id: self.ids.run_id.clone(),
            pipeline_id: self.ids.pipeline_id.clone(),
            jobs,
            failing_job_id: self.first_to_fail.clone(),
            failing_job_manifest_path: self.first_to_fail.as_ref().map(|id| layout::job(id).manifest()),
        };
        (summary, manifest)
    }

    pub(crate) fn run_summary(&self, started_at: Timestamp, now: Timestamp) -> RunSummary {
        let exit_code = self.exit_code.unwrap_or(exit::FAILURE);
        RunSummary {
            schema_version: Cow::Borrowed(version::V1),
            kind: Cow::Borrowed(version::KIND_RUN_SUMMARY),
            run_id: self.ids.run_id.clone(),
            pipeline_id: self.ids.pipeline_id.clone(),
            status: RunStatus::of_exit_code(exit_code),
            exit_code,
            started_at,
            finished_at: now,
            duration_ms: now.millis_since(started_at),
            phase_report_path: layout::PHASE_REPORT.to_owned(),
            pipeline_summary_path: layout::PIPELINE_SUMMARY.to_owned(),
            pipeline_manifest_path: layout::PIPELINE_MANIFEST.to_owned(),
        }
    }

    pub(crate) fn job_receipts(&self) -> BTreeMap<JobId, JobReceipt> {
        let receipts = self.roster.iter().filter_map(|planned| {
            let job = self.jobs.get(&planned.job_id)?;
            let end = job.end.as_ref()?;
            let restore = job.sections.iter().find(|entry| entry.section == Section::CacheRestore);
            let caches = restore.and_then(|entry| entry.metrics.as_ref()?.get("caches").cloned());
            let receipt = JobReceipt {
                // What a wrapper counts otherwise is its own affair.
                caches: caches.and_then(|caches| serde_json::from_value(caches).ok()).unwrap_or_default(),
                status: end.status,
                reused_from: end.reused_from.clone(),
                provider: planned.provider.clone(),
                image_digest: end.image_digest.clone(),
                plugins: end.plugins.clone(),
                started_at: end.started_at,
                duration_ms: end.duration_ms,
            };
            Some((planned.job_id.clone(), receipt))
        });
        receipts.collect()
    }

    fn planned_job(&self, job_id: &JobId) -> Option<&PlannedJob> {
        self.positions.get(job_id).map(|at| &self.roster[*at])
    }

    fn command(&self, job_id: &JobId, step: StepIndex) -> String {
        let command = self.planned_job(job_id).and_then(|job| job.commands.get(step.position()));
        command.cloned().unwrap_or_default()
    }
}

fn artifacts(taken: &TakenArtifacts, place: &JobLayout) -> Artifacts {
    let folder = place.artifacts();
    let path = |file: &PathBuf| format!("{folder}/{}", file.display());
    Artifacts {
        paths: taken.files.iter().take(Artifacts::LISTED).map(path).collect(),
        archive_path: place.artifacts_archive(),
        count: taken.files.len() as u64,
        bytes: taken.bytes,
    }
}

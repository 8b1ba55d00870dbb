//! Documents, folded from events. Pointers come from the same functions that say where files are written.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use loom_contract::event::{Finish, JobFinish, PlannedJob};
use loom_contract::exit;
use loom_contract::id::{JobId, RunIds, StepIndex};
use loom_contract::layout;
use loom_contract::manifest::{JobEntry, JobManifest, PipelineManifest, SectionEntry, StepEntry};
use loom_contract::receipt::JobReceipt;
use loom_contract::section::Section;
use loom_contract::status::{RunStatus, Status};
use loom_contract::summary::{
    JobCounts, JobSummary, PipelineSummary, RunSummary, SectionSummary, StepSummary,
};
use loom_contract::time::Timestamp;
use loom_contract::version;

/// What the events so far add up to.
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
    started: bool,
    end: Option<JobFinish>,
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
        self.positions = roster
            .iter()
            .enumerate()
            .map(|(at, job)| (job.job_id.clone(), at))
            .collect();
        self.roster = Arc::clone(roster);
    }

    /// The jobs of the plan.
    pub(crate) fn job_ids(&self) -> Vec<JobId> {
        self.roster.iter().map(|job| job.job_id.clone()).collect()
    }

    pub(crate) fn output(&mut self, job_id: &JobId, step: StepIndex, lines: u64, bytes: usize) {
        let step = self
            .jobs
            .entry(job_id.clone())
            .or_default()
            .steps
            .entry(step)
            .or_default();
        step.lines += lines;
        step.bytes += bytes as u64;
    }

    pub(crate) fn execution_started(&mut self, job_id: &JobId) {
        self.jobs.entry(job_id.clone()).or_default().started = true;
    }

    pub(crate) fn step_finished(&mut self, job_id: &JobId, index: StepIndex, finish: &Finish) -> StepSummary {
        let step = self
            .jobs
            .entry(job_id.clone())
            .or_default()
            .steps
            .entry(index)
            .or_default();
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
            summary_path: layout::section_summary(job_id, section),
            events_path: layout::section_events(job_id, section),
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

    pub(crate) fn job_finished(&mut self, job_id: &JobId, end: &JobFinish) -> (JobSummary, JobManifest) {
        if end.status == Status::Failed && self.first_to_fail.is_none() {
            self.first_to_fail = Some(job_id.clone());
        }
        let commands = self
            .planned_job(job_id)
            .map(|job| job.commands.clone())
            .unwrap_or_default();
        let (stage, provider) = self
            .planned_job(job_id)
            .map(|j| (j.stage.clone(), j.provider.clone()))
            .unwrap_or_default();
        let job = self.jobs.entry(job_id.clone()).or_default();
        job.end = Some(end.clone());

        let steps: Vec<StepEntry> = commands
            .into_iter()
            .enumerate()
            .map(|(position, command)| {
                let step = StepIndex::at(position);
                let ran = job.steps.get(&step);
                StepEntry {
                    step,
                    command,
                    status: ran.and_then(|s| s.status).unwrap_or(Status::Skipped),
                    exit_code: ran.and_then(|s| s.exit_code),
                    summary_path: ran.map(|_| layout::step_summary(job_id, step)),
                    events_path: ran.map(|_| layout::step_events(job_id, step)),
                }
            })
            .collect();
        let failing_step = steps.iter().find(|s| s.status == Status::Failed);
        let failing_section = if failing_step.is_some() {
            None
        } else {
            job.sections
                .iter()
                .find(|s| s.status == Status::Failed)
                .map(|s| s.section)
        };
        let (failing_step, failing_step_events_path) = failing_step
            .map(|s| (Some(s.step), s.events_path.clone()))
            .unwrap_or_default();
        let summary = JobSummary {
            schema_version: Cow::Borrowed(version::LOGS),
            run_id: self.ids.run_id.clone(),
            pipeline_id: self.ids.pipeline_id.clone(),
            job_id: job_id.clone(),
            stage,
            provider,
            status: end.status,
            exit_code: end.exit_code,
            duration_ms: end.duration_ms,
            error: end.error.clone(),
            skip_reason: end.skip_reason,
        };
        let manifest = JobManifest {
            schema_version: summary.schema_version.clone(),
            run_id: summary.run_id.clone(),
            pipeline_id: summary.pipeline_id.clone(),
            job_id: job_id.clone(),
            stage: summary.stage.clone(),
            provider: summary.provider.clone(),
            status: end.status,
            exit_code: end.exit_code,
            duration_ms: end.duration_ms,
            error: end.error.clone(),
            skip_reason: end.skip_reason,
            steps,
            system_sections: job.sections.clone(),
            failing_section,
            failing_step,
            failing_step_events_path,
            execution_events_path: job.started.then(|| layout::execution_events(job_id)),
            artifacts: None,
        };
        (summary, manifest)
    }

    pub(crate) fn pipeline_finished(&mut self, finish: &Finish) -> (PipelineSummary, PipelineManifest) {
        let exit_code = finish.exit_code.unwrap_or(exit::FAILURE);
        self.exit_code = Some(exit_code);
        let mut counts = JobCounts {
            total: self.roster.len(),
            ..JobCounts::default()
        };
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
                    summary_path: layout::job_summary(&planned.job_id),
                    manifest_path: layout::job_manifest(&planned.job_id),
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
            failing_job_manifest_path: self.first_to_fail.as_ref().map(layout::job_manifest),
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
            let end = self.jobs.get(&planned.job_id)?.end.as_ref()?;
            let receipt = JobReceipt {
                status: end.status,
                provider: planned.provider.clone(),
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
        let command = self
            .planned_job(job_id)
            .and_then(|job| job.commands.get(step.position()));
        command.cloned().unwrap_or_default()
    }
}

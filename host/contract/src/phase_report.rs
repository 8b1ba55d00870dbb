//! The phase report: whether every phase that had to happen did, in order. It is computed from events.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::Phase;
use crate::id::{JobId, PipelineId, RunId, StepIndex};
use crate::phase::{PhaseCode, Scope};
use crate::status::Status;

/// `phase-report.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhaseReport {
    /// `v1`.
    pub schema_version: Cow<'static, str>,
    /// `loom-run-local-phase-report`.
    pub kind: Cow<'static, str>,
    /// The run.
    pub run_id: RunId,
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// Whether nothing is missing and nothing is out of order.
    pub valid: bool,
    /// The phases that every run has.
    pub required: Vec<RequiredPhase>,
    /// What was not there: `<phase> start` or `<phase> finish`, with the job in front where there is one.
    pub missing: Vec<String>,
    /// What was there out of order.
    pub order_violations: Vec<String>,
    /// The phases of each job, in time.
    pub jobs: Vec<JobPhases>,
}

/// A phase that every run has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequiredPhase {
    /// What it belongs to.
    pub scope: Scope,
    /// The phase.
    pub phase_code: PhaseCode,
    /// Whether its start was emitted.
    pub started: bool,
    /// Whether its finish was emitted.
    pub finished: bool,
}

/// The phases of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobPhases {
    /// The job.
    pub job_id: JobId,
    /// Its phases, in time.
    pub phases: Vec<JobPhase>,
    /// Whether they are complete and in order.
    pub valid: bool,
}

/// One phase of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobPhase {
    /// The phase.
    pub phase_code: PhaseCode,
    /// The step, for `execution.script`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepIndex>,
    /// Whether its start was emitted.
    pub started: bool,
    /// Whether its finish was emitted.
    pub finished: bool,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// The edge of a phase, as it was emitted. Sections are left out: their job's phase stands for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseMark {
    /// The phase.
    pub phase: Phase,
    /// `None` for its start, how it ended for its finish.
    pub finish: Option<Status>,
}

const REQUIRED: [PhaseCode; 4] = [
    PhaseCode::RunBootstrap,
    PhaseCode::RunPipelineExecute,
    PhaseCode::PipelineExecute,
    PhaseCode::RunFinalize,
];

/// Judges the phase edges of a run, given in the order in which they were emitted. `jobs` are the jobs of the plan: each
/// must have closed its `job.cleanup`.
pub fn check(run_id: &RunId, pipeline_id: &PipelineId, jobs: &[JobId], marks: &[PhaseMark]) -> PhaseReport {
    let mut report = PhaseReport {
        schema_version: Cow::Borrowed(crate::version::V1),
        kind: Cow::Borrowed(crate::version::KIND_PHASE_REPORT),
        run_id: run_id.clone(),
        pipeline_id: pipeline_id.clone(),
        valid: true,
        required: Vec::new(),
        missing: Vec::new(),
        order_violations: Vec::new(),
        jobs: Vec::new(),
    };
    check_run(marks, &mut report);
    let mut by_job: std::collections::HashMap<&JobId, Vec<&PhaseMark>> = std::collections::HashMap::new();
    for mark in marks {
        if let Some(job_id) = mark.phase.job_id() {
            by_job.entry(job_id).or_default().push(mark);
        }
    }
    for job_id in jobs {
        let marks = by_job.remove(job_id).unwrap_or_default();
        let job = check_job(job_id, &marks, &mut report);
        report.jobs.push(job);
    }
    for job_id in by_job.into_keys() {
        report.order_violations.push(format!("{job_id}: not a job of the plan"));
    }
    report.valid = report.missing.is_empty() && report.order_violations.is_empty();
    report
}

fn check_run(marks: &[PhaseMark], report: &mut PhaseReport) {
    // The edges that a run has, in the one order that is right.
    let expected = [
        (PhaseCode::RunBootstrap, false),
        (PhaseCode::RunBootstrap, true),
        (PhaseCode::RunPipelineExecute, false),
        (PhaseCode::PipelineExecute, false),
        (PhaseCode::PipelineExecute, true),
        (PhaseCode::RunPipelineExecute, true),
        (PhaseCode::RunFinalize, false),
        (PhaseCode::RunFinalize, true),
    ];
    let mut positions = [const { Vec::new() }; 8];
    let (mut open, mut close) = (None, None);
    for (at, mark) in marks.iter().enumerate() {
        if let Phase::Run(code) = mark.phase {
            let edge = (code, mark.finish.is_some());
            if let Some(index) = expected.iter().position(|e| *e == edge) {
                positions[index].push(at);
                if edge == (PhaseCode::PipelineExecute, false) {
                    open.get_or_insert(at);
                } else if edge == (PhaseCode::PipelineExecute, true) {
                    close.get_or_insert(at);
                }
            }
        }
    }
    for code in REQUIRED {
        let seen = |finish: bool| {
            expected
                .iter()
                .position(|e| *e == (code, finish))
                .is_some_and(|index| !positions[index].is_empty())
        };
        let (started, finished) = (seen(false), seen(true));
        if !started {
            report.missing.push(format!("{code} start"));
        }
        if !finished {
            report.missing.push(format!("{code} finish"));
        }
        report.required.push(RequiredPhase { scope: code.scope(), phase_code: code, started, finished });
    }
    let mut last = None;
    for ((code, finish), at) in expected.iter().zip(&positions) {
        let edge = if *finish { "finish" } else { "start" };
        if at.len() > 1 {
            report.order_violations.push(format!("{code} {edge} was emitted {} times", at.len()));
        }
        if let Some(first) = at.first() {
            if last.is_some_and(|last| first < last) {
                report.order_violations.push(format!("{code} {edge} came too early"));
            }
            last = Some(first);
        }
    }
    let outside = marks.iter().enumerate().find(|(at, mark)| {
        mark.phase.job_id().is_some() && (open.is_none_or(|o| *at < o) || close.is_some_and(|c| *at > c))
    });
    if let Some((_, mark)) = outside {
        report.order_violations.push(format!(
            "{}{} was emitted outside {}",
            mark.phase.job_id().map(|id| format!("{id}: ")).unwrap_or_default(),
            mark.phase.code(),
            PhaseCode::PipelineExecute
        ));
    }
}

fn check_job(job_id: &JobId, marks: &[&PhaseMark], report: &mut PhaseReport) -> JobPhases {
    let before = report.missing.len() + report.order_violations.len();
    let mut phases: Vec<JobPhase> = Vec::new();
    // What is open now, outermost first: a job's phases nest at most two deep.
    let mut open: Vec<usize> = Vec::new();
    for mark in marks {
        let step = match &mark.phase {
            Phase::Step(_, step) => Some(*step),
            _ => None,
        };
        let code = mark.phase.code();
        let name = step.map_or_else(|| code.to_string(), |step| format!("{code} {step}"));
        match mark.finish {
            None => {
                let parent = open.last().map(|index| phases[*index].phase_code);
                let wanted = if step.is_some() { Some(PhaseCode::JobExecution) } else { None };
                if parent != wanted {
                    report.order_violations.push(format!(
                        "{job_id}: {name} started inside {}",
                        parent.map_or("nothing", PhaseCode::as_str)
                    ));
                }
                if let Some(last) = phases.iter().rev().find(|p| p.step.is_some() == step.is_some()) {
                    let in_order = match (last.step, step) {
                        (Some(last), Some(this)) => last < this,
                        _ => last.phase_code < code,
                    };
                    if !in_order {
                        report.order_violations.push(format!("{job_id}: {name} started too late"));
                    }
                }
                open.push(phases.len());
                phases.push(JobPhase {
                    phase_code: code,
                    step,
                    started: true,
                    finished: false,
                    status: None,
                });
            }
            Some(status) => match open.pop() {
                Some(index) if phases[index].phase_code == code && phases[index].step == step => {
                    phases[index].finished = true;
                    phases[index].status = Some(status);
                }
                other => {
                    report
                        .order_violations
                        .push(format!("{job_id}: {name} finished without being the last to start"));
                    open.extend(other);
                }
            },
        }
    }
    for index in open {
        report.missing.push(format!("{job_id}: {} finish", phases[index].phase_code));
    }
    let closed = |code| phases.iter().any(|p| p.phase_code == code && p.finished);
    let started = phases.iter().any(|p| p.phase_code == PhaseCode::JobProviderPrepare);
    if started && !closed(PhaseCode::JobExecution) {
        report.missing.push(format!("{job_id}: {} finish", PhaseCode::JobExecution));
    }
    if !closed(PhaseCode::JobCleanup) {
        report.missing.push(format!("{job_id}: {} finish", PhaseCode::JobCleanup));
    }
    let valid = report.missing.len() + report.order_violations.len() == before;
    JobPhases { job_id: job_id.clone(), phases, valid }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RunIds;

    fn job() -> JobId {
        JobId::new("build").expect("a job id")
    }

    fn start(phase: Phase) -> PhaseMark {
        PhaseMark { phase, finish: None }
    }

    fn finish(phase: Phase) -> PhaseMark {
        PhaseMark { phase, finish: Some(Status::Success) }
    }

    fn good() -> Vec<PhaseMark> {
        let run = Phase::Run;
        let job = |code| Phase::Job(job(), code);
        let step = |n| Phase::Step(super::tests::job(), StepIndex::at(n));
        vec![
            start(run(PhaseCode::RunBootstrap)),
            finish(run(PhaseCode::RunBootstrap)),
            start(run(PhaseCode::RunPipelineExecute)),
            start(run(PhaseCode::PipelineExecute)),
            start(job(PhaseCode::JobProviderPrepare)),
            finish(job(PhaseCode::JobProviderPrepare)),
            start(job(PhaseCode::JobExecution)),
            start(step(0)),
            finish(step(0)),
            start(step(1)),
            finish(step(1)),
            finish(job(PhaseCode::JobExecution)),
            start(job(PhaseCode::JobCleanup)),
            finish(job(PhaseCode::JobCleanup)),
            finish(run(PhaseCode::PipelineExecute)),
            finish(run(PhaseCode::RunPipelineExecute)),
            start(run(PhaseCode::RunFinalize)),
            finish(run(PhaseCode::RunFinalize)),
        ]
    }

    fn judge(marks: &[PhaseMark]) -> PhaseReport {
        let ids = RunIds::from_stamp(1);
        check(&ids.run_id, &ids.pipeline_id, &[job()], marks)
    }

    #[test]
    fn a_good_run_is_valid() {
        let report = judge(&good());
        assert!(report.valid, "{report:?}");
        assert!(report.jobs[0].valid);
        assert_eq!(report.jobs[0].phases.len(), 5);
    }

    #[test]
    fn any_edge_that_is_missing_or_twice_shows() {
        for index in 0..good().len() {
            let mut marks = good();
            let gone = marks.remove(index);
            assert!(!judge(&marks).valid, "without {gone:?}");
            let mut marks = good();
            marks.insert(index, marks[index].clone());
            assert!(!judge(&marks).valid, "twice {:?}", marks[index]);
        }
    }

    /// Each phase in itself is whole; only their order is wrong.
    #[test]
    fn phases_and_steps_in_the_wrong_order_show_and_nothing_else() {
        // The two pairs of edges that change places, by where the first edge of each stands in a good run.
        for (first, second, length, violation) in [
            (7, 9, 2, "build: execution.script 01 started too late"),
            (4, 12, 2, "build: job.provider_prepare started too late"),
        ] {
            let mut marks = good();
            let (left, right) = marks.split_at_mut(second);
            left[first..first + length].swap_with_slice(&mut right[..length]);
            let report = judge(&marks);
            assert!(!report.valid);
            assert_eq!(report.missing, Vec::<String>::new());
            assert!(report.order_violations.iter().any(|found| found == violation), "{report:?}");
            assert!(
                report.order_violations.iter().all(|found| found.ends_with("started too late")),
                "{report:?}"
            );
        }
    }

    #[test]
    fn any_two_neighbours_that_swap_show() {
        for index in 1..good().len() {
            let mut marks = good();
            marks.swap(index - 1, index);
            assert!(!judge(&marks).valid, "{:?} before {:?}", marks[index - 1], marks[index]);
        }
    }
}

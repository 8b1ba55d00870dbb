//! Which jobs of a plan are to run.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use loom_contract::error::{ErrorInfo, code};
use loom_contract::visible::on_one_line;
use loom_engine::Reused;
use loom_tree::Patterns;
use loom_workflow::{Plan, PlanJob};

use super::past::{LastRun, Past};
use crate::command::named::{Kind, is_pattern, unknown};

/// What the user asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) jobs: Jobs,
    /// Whether the jobs run alone, without what they need.
    pub(super) alone: bool,
    /// The run whose work is gone on with.
    pub(super) last: Option<LastRun>,
    /// The step that the one chosen job begins with, from 1.
    pub(super) from_step: Option<NonZeroUsize>,
}

/// The jobs that the user asked for.
#[derive(Debug, Clone)]
pub(super) enum Jobs {
    /// Every job.
    All,
    /// Those of these names or in these stages. A name is that of a job, or of all jobs of a matrix; it may be a pattern.
    Named { jobs: Vec<String>, stages: Vec<String> },
    /// Those that did not pass.
    Again(Past),
}

/// What becomes of the jobs of a plan.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// For each job, whether it is to run.
    pub(super) selected: Vec<bool>,
    /// Those of the others that passed before, and stand.
    pub(super) reused: HashMap<usize, Reused>,
    /// The job that does not begin with its first step, and the position of the one that it begins with.
    pub(super) first_step: Option<(usize, usize)>,
}

/// What becomes of the jobs of `plan`. `standing`: the jobs that need not run again, where the work of the last run is gone on
/// with.
///
/// # Errors
/// A name stands for no job or stage; there is no such step, or no one job that has it.
pub(super) fn select(
    plan: &Plan,
    wanted: &Wanted,
    standing: Option<HashMap<usize, Reused>>,
) -> Result<Selection, ErrorInfo> {
    let mut selected = match &wanted.jobs {
        Jobs::All => vec![true; plan.jobs.len()],
        Jobs::Named { jobs, stages } => named(plan, jobs, stages)?,
        Jobs::Again(past) => {
            let is_changed = |at: usize, job: &PlanJob| match (&standing, past.last()) {
                (Some(standing), Some(last)) => last.has_passed(&job.id) && !standing.contains_key(&at),
                _ => false,
            };
            let again = |(at, job): (usize, &PlanJob)| !past.has_passed(&job.id) || is_changed(at, job);
            let selected: Vec<bool> = plan.jobs.iter().enumerate().map(again).collect();
            if !selected.contains(&true) {
                return Err(ErrorInfo::new(
                    code::WORKFLOW_UNREADABLE,
                    "no job that failed last time exists any more",
                ));
            }
            selected
        }
    };
    let first_step = wanted.from_step.map(|step| first_step(plan, wanted, &selected, step)).transpose()?;
    let mut reused = standing.unwrap_or_default();
    reused.retain(|at, _| !selected[*at]);
    if !wanted.alone {
        plan.add_needed(&mut selected, |at| reused.contains_key(&at));
    }
    Ok(Selection { selected, reused, first_step })
}

/// The one job that was chosen, or that failed, and the position of the step `step` of it.
fn first_step(
    plan: &Plan,
    wanted: &Wanted,
    selected: &[bool],
    step: NonZeroUsize,
) -> Result<(usize, usize), ErrorInfo> {
    let error = |message: String| ErrorInfo::new(code::WORKFLOW_UNREADABLE, message);
    let is_meant = |at: &usize| match (&wanted.jobs, &wanted.last) {
        (Jobs::Again(_), Some(last)) => last.has_failed(&plan.jobs[*at].id),
        _ => selected[*at],
    };
    let meant: Vec<usize> = (0..plan.jobs.len()).filter(is_meant).collect();
    let [at] = meant[..] else {
        let (count, what) = match &wanted.jobs {
            Jobs::Again(_) => (meant.len(), "failed in the last run"),
            _ => (meant.len(), "are chosen"),
        };
        return Err(error(format!("`--from-step` is for one job, but {count} {what}"))
            .with_hint("name it with `--job NAME`"));
    };
    let job = &plan.jobs[at];
    if job.image.is_some() {
        let message = format!(
            "job `{}` cannot begin at step {step}: it runs in a container, and that of the last run is gone",
            job.id
        );
        return Err(error(message).with_hint(
            "leave out `--from-step`: its caches and the artifacts that it needs are there again",
        ));
    }
    Ok((at, position(job, step)?))
}

/// The position of the step `step` of `job`.
pub(super) fn position(job: &PlanJob, step: NonZeroUsize) -> Result<usize, ErrorInfo> {
    if step.get() > job.script.len() {
        let steps = loom_contract::words::counted(job.script.len() as u64, "step");
        let message = format!("job `{}` has no step {step}: it has {steps}", job.id);
        return Err(ErrorInfo::new(code::WORKFLOW_UNREADABLE, message));
    }
    Ok(step.get() - 1)
}

fn named(plan: &Plan, jobs: &[String], stages: &[String]) -> Result<Vec<bool>, ErrorInfo> {
    let mut selected = vec![false; plan.jobs.len()];
    let mut choose = |is_meant: &dyn Fn(&PlanJob) -> bool| {
        let mut any = false;
        for (selected, _) in selected.iter_mut().zip(&plan.jobs).filter(|(_, job)| is_meant(job)) {
            *selected = true;
            any = true;
        }
        any
    };
    for name in jobs {
        let matches = matcher(Kind::Job, name)?;
        let is_meant =
            |job: &PlanJob| matches(job.id.as_str()) || (!job.matrix.is_empty() && matches(&job.name));
        if !choose(&is_meant) {
            return Err(no_job(plan, name));
        }
    }
    for name in stages {
        let matches = matcher(Kind::Stage, name)?;
        if !plan.stages.iter().any(|stage| matches(stage)) {
            return Err(no_stage(plan, name));
        }
        if !choose(&|job: &PlanJob| matches(&plan.stages[job.stage])) {
            let message = format!("stage `{name}` has no jobs");
            return Err(ErrorInfo::new(code::WORKFLOW_UNREADABLE, message));
        }
    }
    Ok(selected)
}

/// Tells the names that `name` stands for.
fn matcher(kind: Kind, name: &str) -> Result<impl Fn(&str) -> bool, ErrorInfo> {
    let pattern = match is_pattern(name) {
        true => Some(Patterns::new(&[name]).map_err(|error| {
            let flag = if kind == Kind::Job { "--job" } else { "--stage" };
            ErrorInfo::new(code::WORKFLOW_UNREADABLE, format!("{flag} {error}"))
        })?),
        false => None,
    };
    let name = name.to_owned();
    Ok(move |known: &str| match &pattern {
        Some(pattern) => pattern.matches(known.as_bytes()),
        None => known == name,
    })
}

fn no_job(plan: &Plan, name: &str) -> ErrorInfo {
    if plan.stages.iter().any(|stage| stage == name) {
        let message = format!("no job is named `{name}`, but a stage is");
        return ErrorInfo::new(code::WORKFLOW_UNREADABLE, message).with_hint(format!("use `--stage {name}`"));
    }
    // The jobs of a matrix stand together.
    let mut names: Vec<&str> = plan.jobs.iter().map(|job| job.name.as_str()).collect();
    names.dedup();
    unknown(Kind::Job, name, names)
}

fn no_stage(plan: &Plan, name: &str) -> ErrorInfo {
    if plan.jobs.iter().any(|job| job.name == name || job.id.as_str() == name) {
        let message = format!("no stage is named `{name}`, but a job is");
        return ErrorInfo::new(code::WORKFLOW_UNREADABLE, message).with_hint(format!("use `--job {name}`"));
    }
    unknown(Kind::Stage, name, plan.stages.iter().map(String::as_str))
}

/// The selected jobs of `plan` as lines: stage, job, provider, what it waits for.
pub(super) fn table(plan: &Plan, selected: &[bool]) -> String {
    let mut text = String::new();
    let width = plan.jobs.iter().map(|job| job.id.as_str().len()).max().unwrap_or(0);
    let mut stage = None;
    for (job, _) in plan.jobs.iter().zip(selected).filter(|(_, selected)| **selected) {
        if stage != Some(job.stage) {
            text.push_str(&format!("stage {}\n", on_one_line(&plan.stages[job.stage])));
            stage = Some(job.stage);
        }
        text.push_str(&format!("  {:width$}  {}", job.id, on_one_line(&job.provider)));
        if !job.needs.is_empty() {
            let needs: Vec<&str> = job.needs.iter().map(|need| plan.jobs[*need].id.as_str()).collect();
            text.push_str(&format!("  after {}", needs.join(", ")));
        }
        text.push('\n');
        for command in &job.script {
            let mut lines = command.lines();
            text.push_str(&format!("    $ {}", on_one_line(lines.next().unwrap_or_default())));
            text.push_str(if lines.next().is_some() { " …\n" } else { "\n" });
        }
    }
    text
}

//! Which jobs of a plan are to run.

use loom_contract::error::{ErrorInfo, code};
use loom_contract::visible::on_one_line;
use loom_tree::Patterns;
use loom_workflow::{Plan, PlanJob};

use super::past::Past;
use crate::command::named::{Kind, is_pattern, unknown};

/// What the user asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) jobs: Jobs,
    /// Whether the jobs run alone, without what they need.
    pub(super) alone: bool,
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

/// For each job of `plan`, whether it is to run.
///
/// # Errors
/// A name stands for no job or stage.
pub(super) fn select(plan: &Plan, wanted: &Wanted) -> Result<Vec<bool>, ErrorInfo> {
    let mut selected = match &wanted.jobs {
        Jobs::All => return Ok(vec![true; plan.jobs.len()]),
        Jobs::Named { jobs, stages } => named(plan, jobs, stages)?,
        Jobs::Again(past) => {
            let selected: Vec<bool> = plan.jobs.iter().map(|job| !past.has_passed(&job.id)).collect();
            if !selected.contains(&true) {
                return Err(ErrorInfo::new(
                    code::WORKFLOW_UNREADABLE,
                    "no job that failed last time exists any more",
                ));
            }
            selected
        }
    };
    if !wanted.alone {
        plan.add_needed(&mut selected);
    }
    Ok(selected)
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

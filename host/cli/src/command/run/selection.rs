//! Which jobs of a plan are to run.

use std::path::Path;

use loom_contract::error::{ErrorInfo, code};
use loom_contract::layout;
use loom_contract::manifest::PipelineManifest;
use loom_contract::receipt::RunReceipt;
use loom_contract::status::{SkipReason, Status};
use loom_contract::summary::JobSummary;
use loom_contract::visible::on_one_line;
use loom_engine::redact;
use loom_workflow::{Plan, PlanJob};

/// What the user asked for.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// Every job.
    All,
    /// These, by id or, for all jobs of a matrix, by name; and what they need.
    Jobs(Vec<String>),
    /// Those of these ids that still exist, and what they need.
    Again(Vec<String>),
}

/// The jobs that failed, were cancelled or never ran in the repository's last run of the workflow at `workflow_path` that
/// came as far as its jobs.
///
/// # Errors
/// There is no such run, or its record cannot be read.
pub(super) fn failed_last_time(repo_root: &Path, workflow_path: &Path) -> Result<Vec<String>, ErrorInfo> {
    let none = || ErrorInfo::new(code::WORKFLOW_UNREADABLE, "no earlier run of this workflow to go by");
    let read_error = |error: loom_record::RecordError| error.to_info();
    for path in loom_record::read::receipts(repo_root) {
        // One that is damaged, or whose logs were removed, says nothing.
        let Ok(receipt) = loom_record::read::document::<RunReceipt>(&path) else { continue };
        let dir = layout::logs_of_receipt(&path);
        let manifest = loom_record::read::document::<PipelineManifest>(&dir.join(layout::PIPELINE_MANIFEST));
        let Ok(manifest) = manifest else { continue };
        if receipt.is_for_comparison() {
            continue;
        }
        if !redact::may_be(&receipt.workflow_path, &workflow_path.to_string_lossy())
            || manifest.jobs.is_empty()
        {
            continue;
        }
        let mut again = Vec::new();
        for job in manifest.jobs.into_iter().filter(|job| job.status != Status::Success) {
            let summary: JobSummary =
                loom_record::read::document(&dir.join(job.summary_path)).map_err(read_error)?;
            if summary.skip_reason != Some(SkipReason::NotSelected) {
                again.push(job.job_id.to_string());
            }
        }
        return Ok(again);
    }
    Err(none())
}

/// For each job of `plan`, whether it is to run.
///
/// # Errors
/// A name stands for no job.
pub(super) fn select(plan: &Plan, wanted: &Wanted) -> Result<Vec<bool>, ErrorInfo> {
    let (names, all_must_exist) = match wanted {
        Wanted::All => return Ok(vec![true; plan.jobs.len()]),
        Wanted::Jobs(names) => (names, true),
        Wanted::Again(names) => (names, false),
    };
    let mut selected = vec![false; plan.jobs.len()];
    let mut open = Vec::new();
    for name in names {
        let before = open.len();
        open.extend((0..plan.jobs.len()).filter(|at| is_named(&plan.jobs[*at], name)));
        if open.len() == before && all_must_exist {
            return Err(unknown(plan, name));
        }
    }
    if open.is_empty() {
        return Err(ErrorInfo::new(
            code::WORKFLOW_UNREADABLE,
            "no job that failed last time exists any more",
        ));
    }
    while let Some(at) = open.pop() {
        if !selected[at] {
            selected[at] = true;
            open.extend(&plan.jobs[at].needs);
        }
    }
    Ok(selected)
}

fn is_named(job: &PlanJob, name: &str) -> bool {
    job.id.as_str() == name || (!job.matrix.is_empty() && job.name == name)
}

fn unknown(plan: &Plan, name: &str) -> ErrorInfo {
    let error = ErrorInfo::new(code::WORKFLOW_UNREADABLE, format!("no job is named `{name}`"));
    let near = plan.jobs.iter().map(|job| (strsim::jaro_winkler(job.id.as_str(), name), &job.id));
    match near.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((score, id)) if score > 0.8 => error.with_hint(format!("did you mean `{id}`?")),
        _ => error.with_hint("`loom run --local --dry-run` lists the jobs"),
    }
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

//! What will happen: the jobs that run, in order, with their needs, their provider and their variables.

mod graph;
mod graph_ir;
mod route;
mod variables;

use std::sync::Arc;

use loom_contract::id::JobId;

use crate::diagnostic::{Diagnostics, Problems};
use crate::source::Sources;
use crate::template::Template;
use crate::workflow::Workflow;

/// A workflow that keeps every rule, ready to run. Only [`load`](crate::load) makes one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Plan {
    /// The stages' names, in order.
    pub stages: Vec<String>,
    /// The jobs, in stage order, then in the order of the file.
    pub jobs: Vec<PlanJob>,
    not_executable: Diagnostics,
}

impl Plan {
    /// What the plan asks for that this version cannot run yet, one each naming job and keyword. Checking and compiling
    /// such a plan is fine; running it must be refused with these.
    pub fn not_executable(&self) -> &Diagnostics {
        &self.not_executable
    }
}

/// A job that will run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlanJob {
    /// Its id.
    pub id: JobId,
    /// Its place in [`Plan::stages`].
    pub stage: usize,
    /// The operating system that it wants: `linux`.
    pub target: String,
    /// The provider that runs it: `host` or `docker`.
    pub provider: String,
    /// Its steps, in order; never empty.
    pub script: Vec<Step>,
    /// Its variables, sorted by key. References to each other are resolved; what remains is filled in when the job starts.
    pub variables: Vec<(String, Template)>,
    /// What it waits for, as places in [`Plan::jobs`], in the order in which it says so.
    pub needs: Vec<usize>,
}

/// One entry of `script`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The text for the shell, without the line break at its end.
    pub command: String,
    /// It has several commands, one a line, of which the first that fails ends the step: for `sh -e`.
    pub multi_line: bool,
}

/// Makes the plan of `workflow`. It is whole only where no problem has been found.
pub(crate) fn plan(workflow: &Workflow, sources: &Arc<Sources>, problems: &mut Problems) -> Plan {
    let not_supported = Problems::not_supported();
    let order = graph::stage_order(workflow);
    let needs = graph::needs(workflow, &order, problems);
    let mut variables = variables::Resolver::new(problems);
    let mut jobs = Vec::with_capacity(workflow.jobs.len());
    for (place, needs) in order.iter().zip(needs) {
        let Some(job) = workflow.jobs.get(*place) else {
            continue;
        };
        // A name that is no id has been reported where it was read.
        let Ok(id) = JobId::new(&job.name.value) else {
            continue;
        };
        let provider = route::provider(job);
        let stage = job.stage.unwrap_or_default();
        let stage_name = workflow.stages.get(stage).map_or("", |stage| &**stage);
        let known = variables::known(&id, stage_name, job, provider);
        jobs.push(PlanJob {
            id,
            stage,
            target: job.target.as_ref().to_owned(),
            provider: provider.to_owned(),
            script: job
                .script
                .iter()
                .map(|step| Step {
                    command: step.command.as_ref().to_owned(),
                    multi_line: step.multi_line,
                })
                .collect(),
            variables: variables.resolve(job, &known, &workflow.owners),
            needs,
        });
    }
    Plan {
        stages: workflow
            .stages
            .iter()
            .map(|stage| stage.as_ref().to_owned())
            .collect(),
        jobs,
        not_executable: not_supported.into_diagnostics(Arc::clone(sources)),
    }
}

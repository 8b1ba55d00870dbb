//! What will happen: the jobs that run, in order, with their needs, their provider and their variables.

mod cache_names;
mod caches;
mod explain;
mod graph;
mod graph_ir;
mod lower;
mod not_executable;
mod route;
mod step_state;
mod variables;

use std::collections::BTreeMap;
use std::sync::Arc;

use loom_contract::graph_ir::{Artifacts, Cache, ImageBuild, ImageOptions, Retry, Secret, Service, Timeout};
use loom_contract::id::JobId;

pub use self::explain::Origin;
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
    /// The jobs, in stage order, then in the order of the file; those of a matrix one after the other.
    pub jobs: Vec<PlanJob>,
    not_executable: Diagnostics,
    workflow: Arc<Workflow>,
    sources: Arc<Sources>,
}

/// A job that will run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlanJob {
    /// Its id.
    pub id: JobId,
    /// Its key in the workflow: the id, but for the jobs of a matrix, which share one.
    pub name: String,
    /// Its place in [`Plan::stages`].
    pub stage: usize,
    /// The operating system that it wants: `linux`.
    pub target: String,
    /// The provider that runs it: `host`, `docker`, or one that a plugin brings.
    pub provider: String,
    /// The container image that it runs in; none on the host.
    pub image: Option<String>,
    /// How the image is built; none where it is pulled.
    pub image_build: Option<ImageBuild>,
    /// How the image is used.
    pub image_options: ImageOptions,
    /// Its steps, in order; never empty.
    pub script: Vec<Step>,
    /// Its variables, sorted by key. References to each other are resolved; what remains is filled in when the job starts.
    pub variables: Vec<(String, Template)>,
    /// Where its secrets are found, sorted by name.
    pub secrets: Vec<Secret>,
    /// The containers that run beside it. The values of their variables are templates.
    pub services: Vec<Service>,
    /// What is kept from run to run; none where that is off.
    pub cache: Option<Cache>,
    /// The files that are kept with the run.
    pub artifacts: Option<Artifacts>,
    /// The pool of machines that it is meant for; without effect on a local run.
    pub runner_pool: Option<String>,
    /// What the workflow says beside Loom's own keywords; a JSON object, without effect.
    pub invariant: Option<serde_json::Value>,
    /// How long it and each of its steps may take.
    pub timeout: Timeout,
    /// How often it is run again after a failure.
    pub retry: Option<Retry>,
    /// Its failure blocks nothing and does not fail the run.
    pub allow_failure: bool,
    /// The values that make it one of the jobs of a matrix; they are among its variables, too.
    pub matrix: BTreeMap<String, String>,
    /// What it waits for, as places in [`Plan::jobs`], in the order in which it says so.
    pub needs: Vec<usize>,
    /// Those of [`needs`](Self::needs) whose artifacts are restored before its steps.
    pub artifacts_from: Vec<usize>,
    /// Its place in the workflow.
    place: usize,
}

/// One entry of `script`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The text for the shell, without the line break at its end.
    pub command: String,
}

impl Plan {
    /// What the plan asks for that this version cannot run yet, one each naming job and keyword. Checking and compiling
    /// such a plan is fine; running it must be refused with these.
    pub fn not_executable(&self) -> &Diagnostics {
        &self.not_executable
    }
}

/// Makes the plan of `workflow`. It is whole only where no problem has been found.
pub(crate) fn plan(workflow: Workflow, sources: &Arc<Sources>, problems: &mut Problems) -> Plan {
    let order = graph::stage_order(&workflow);
    let needs = graph::needs(&workflow, &order, problems);
    if !problems.has_errors() {
        caches::warn_of_shared_paths(&workflow, &order, &needs, problems);
        step_state::warn_of_lost_state(&workflow, problems);
    }
    let not_executable = not_executable::find(&workflow, &order).into_diagnostics(Arc::clone(sources));
    for job in &workflow.jobs {
        let set = job.variables();
        cache_names::check(job, set.keys().map(|name| &**name), &workflow.owners, problems);
    }
    let mut variables = variables::Resolver::new(problems);
    let mut jobs = Vec::with_capacity(workflow.jobs.len());
    for (place, needs) in order.into_iter().zip(needs) {
        let Some(job) = workflow.jobs.get(place) else {
            continue;
        };
        // A name that is no id has been reported where it was read.
        let Ok(id) = JobId::new(&job.id) else { continue };
        let stage = job.stage.unwrap_or_default();
        let stage_name = workflow.stages.get(stage).map_or("", |stage| &**stage);
        let variables = variables.resolve(job, stage_name, &workflow.owners);
        jobs.push(lower::job(job, id, place, variables, needs));
    }
    Plan {
        stages: workflow.stages.iter().map(|stage| stage.as_ref().to_owned()).collect(),
        jobs,
        not_executable,
        workflow: Arc::new(workflow),
        sources: Arc::clone(sources),
    }
}

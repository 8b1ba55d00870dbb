//! What will happen: the jobs that run, in order, with their needs, their provider and their variables.

mod caches;
mod explain;
mod graph;
mod graph_ir;
mod kept;
mod lower;
mod needed;
mod not_executable;
mod references;
mod route;
mod shared;
mod step_state;
mod step_text;
mod variables;

use std::ops::Deref;
use std::sync::Arc;

use loom_contract::graph_ir::Node;
use loom_contract::id::JobId;
use loom_contract::source_line::SourceLine;

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

/// A job that will run: its node of the graph, and what running it needs beside. It reads as the node.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlanJob {
    /// The job as Graph IR has it. The values of its variables, and of its services', are [`Template`]s: references to
    /// each other are resolved; what remains is filled in when the job starts.
    pub node: Node,
    /// Its key in the workflow: the id, but for the jobs of a matrix, which share one.
    pub name: String,
    /// Where each entry of its script is written, which may be in a template or in another file.
    pub sources: Vec<SourceLine>,
    /// Its place in [`Plan::stages`].
    pub stage: usize,
    /// The jobs that it waits for, as places in [`Plan::jobs`], in the order in which it says so.
    pub needs: Vec<usize>,
    /// Whether it says nothing of needs, not even that there are none: then it needs all jobs of earlier stages.
    pub needs_stages: bool,
    /// Those of [`needs`](Self::needs) whose artifacts are restored before its steps.
    pub artifacts_from: Vec<usize>,
    /// Its place in the workflow.
    place: usize,
}

impl Deref for PlanJob {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
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
        step_text::warn_of_other_commands(&workflow, sources, problems);
    }
    let not_executable = not_executable::find(&workflow, &order).into_diagnostics(Arc::clone(sources));
    let mut left = variables::Budget::default();
    let mut jobs = Vec::with_capacity(workflow.jobs.len());
    for (place, needs) in order.into_iter().zip(needs) {
        let Some(job) = workflow.jobs.get(place) else {
            continue;
        };
        // A name that is no id has been reported where it was read.
        let Ok(id) = JobId::new(&job.id) else { continue };
        let stage = job.stage.unwrap_or_default();
        let stage_name = workflow.stages.get(stage).map_or("", |stage| &**stage);
        let variables =
            variables::Resolver::new(problems, &mut left).resolve(job, stage_name, &workflow.owners);
        references::check(job, &variables.known, &workflow.owners, problems);
        jobs.push(PlanJob {
            node: lower::node(job, id, stage_name, variables),
            name: job.definition.name.value.as_ref().to_owned(),
            sources: lower::sources(job, sources),
            stage,
            artifacts_from: needs.iter().filter(|need| need.artifacts).map(|need| need.rank).collect(),
            needs: needs.iter().map(|need| need.rank).collect(),
            needs_stages: job.definition.needs.is_absent(),
            place,
        });
    }
    Plan {
        stages: workflow.stages.iter().map(|stage| stage.as_ref().to_owned()).collect(),
        jobs,
        not_executable,
        workflow: Arc::new(workflow),
        sources: Arc::clone(sources),
    }
}

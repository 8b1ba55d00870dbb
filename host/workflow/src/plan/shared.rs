//! What all jobs have in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use loom_contract::id::JobId;

use super::variables::{Budget, Resolver};
use super::{Plan, PlanJob, lower};
use crate::diagnostic::Problems;
use crate::document::{self, Field};
use crate::source::{Span, Spanned};
use crate::workflow::Job;

impl Plan {
    /// A job `id` of the host that has nothing but the variables of the workflow: no job of the plan.
    pub fn job_of_all(&self, id: JobId) -> PlanJob {
        let mut definition = document::Job::empty(Spanned::new(id.as_str().into(), Span::default()));
        definition.variables = Field::Given(self.workflow.variables.clone());
        let job = Job {
            id: id.as_str().into(),
            stage: None,
            matrix: BTreeMap::new(),
            definition: Arc::new(definition),
        };
        // What is wrong with them has been reported of the jobs that have them.
        let mut problems = Problems::default();
        let mut left = Budget::default();
        let variables = Resolver::new(&mut problems, &mut left).resolve(&job, "", &self.workflow.owners);
        PlanJob {
            name: id.to_string(),
            node: lower::node(&job, id, "", variables),
            sources: Vec::new(),
            stage: 0,
            needs: Vec::new(),
            needs_stages: false,
            artifacts_from: Vec::new(),
            place: self.workflow.jobs.len(),
        }
    }
}

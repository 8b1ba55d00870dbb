//! A plan as Graph IR.

use loom_contract::graph_ir::{Edge, EdgeKind, GraphIr, Node, Variable};
use loom_contract::version;

use super::{Plan, PlanJob};

impl Plan {
    /// The plan as `loom compile` prints it. The same workflow always gives the same.
    pub fn graph_ir(&self) -> GraphIr {
        let edges = self.jobs.iter().flat_map(|job| {
            job.needs
                .iter()
                .filter_map(|needed| self.jobs.get(*needed))
                .map(|needed| Edge {
                    from: needed.id.clone(),
                    to: job.id.clone(),
                    kind: EdgeKind::Needs,
                })
        });
        GraphIr {
            schema: version::GRAPH_IR.into(),
            stages: self.stages.clone(),
            nodes: self.jobs.iter().map(|job| self.node(job)).collect(),
            edges: edges.collect(),
        }
    }

    fn node(&self, job: &PlanJob) -> Node {
        Node {
            id: job.id.clone(),
            stage: self.stages.get(job.stage).cloned().unwrap_or_default(),
            target: job.target.clone(),
            provider: job.provider.clone(),
            script: job.script.iter().map(|step| step.command.clone()).collect(),
            variables: job
                .variables
                .iter()
                .map(|(key, value)| Variable {
                    key: key.clone(),
                    value: value.to_string(),
                })
                .collect(),
        }
    }
}

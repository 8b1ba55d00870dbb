//! A plan as Graph IR.

use loom_contract::graph_ir::{Edge, EdgeKind, GraphIr};
use loom_contract::version;

use super::Plan;

impl Plan {
    /// The plan as `loom compile` prints it. The same workflow always gives the same.
    pub fn graph_ir(&self) -> GraphIr {
        let edges = self.jobs.iter().flat_map(|job| {
            // They are a part of the needs, in the same order.
            let mut artifacts_from = job.artifacts_from.iter().peekable();
            job.needs.iter().filter_map(move |place| {
                Some(Edge {
                    from: self.jobs.get(*place)?.id.clone(),
                    to: job.id.clone(),
                    kind: EdgeKind::Needs,
                    artifacts: artifacts_from.next_if_eq(&place).is_some(),
                })
            })
        });
        GraphIr {
            schema: version::GRAPH_IR.into(),
            stages: self.stages.clone(),
            nodes: self.jobs.iter().map(|job| job.node.clone()).collect(),
            edges: edges.collect(),
            workspace: self.kept_folders(),
        }
    }
}

//! A plan as Graph IR.

use loom_contract::graph_ir::{Edge, EdgeKind, GraphIr, ImageOptions, Node, Timeout, Variable};
use loom_contract::version;

use super::{Plan, PlanJob};

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
            image: job.image.clone(),
            image_build: job.image_build.clone(),
            image_options: (job.image_options != ImageOptions::default()).then(|| job.image_options.clone()),
            script: job.script.iter().map(|step| step.command.clone()).collect(),
            variables: job
                .variables
                .iter()
                .map(|(key, value)| Variable { key: key.clone(), value: value.to_string() })
                .collect(),
            secrets: job.secrets.clone(),
            services: job.services.clone(),
            cache: job.cache.clone(),
            artifacts: job.artifacts.clone(),
            runner_pool: job.runner_pool.clone(),
            invariant: job.invariant.clone(),
            timeout: (job.timeout != Timeout::default()).then_some(job.timeout),
            retry: job.retry.clone(),
            allow_failure: job.allow_failure,
            matrix: job.matrix.clone(),
        }
    }
}

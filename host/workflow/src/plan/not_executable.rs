//! What this version understands and cannot run yet. A keyword leaves this list when the engine runs it.

use super::route;
use crate::diagnostic::{Pointer, Problems};
use crate::source::Span;
use crate::workflow::{Job, Workflow};

/// Everything of the kind in the jobs of `order`.
pub(super) fn find(workflow: &Workflow, order: &[usize]) -> Problems {
    let mut found = Problems::not_supported();
    for job in order.iter().filter_map(|place| workflow.jobs.get(*place)) {
        find_in(job, &mut found);
    }
    found
}

fn find_in(job: &Job, found: &mut Problems) {
    let definition = &*job.definition;
    let mut report = |span: Span, keyword: &str| {
        let root = Pointer::Root;
        let hint =
            format!("remove `{keyword}` from job `{}`: this version of Loom cannot run it yet", job.id);
        found.error(
            span,
            root.key(&definition.name.value).key(keyword.split('.').next().unwrap_or(keyword)),
            hint,
        );
    };
    if let Some(provider) = definition.provider.as_ref()
        && !matches!(&*provider.value, route::HOST | route::DOCKER)
    {
        report(provider.span, "provider");
    }
}

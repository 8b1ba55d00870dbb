//! The order of jobs, and what they wait for.

use std::collections::HashSet;
use std::ops::Range;

use crate::diagnostic::{Pointer, Problems, chain, quoted};
use crate::document::Need;
use crate::owners::Owners;
use crate::workflow::{Job, Known, Workflow};

/// How many needs a plan may have. Matrices that need each other multiply them.
const MOST_NEEDS: usize = 200_000;

/// The places of all jobs in stage order, then in the order of the file.
pub(super) fn stage_order(workflow: &Workflow) -> Vec<usize> {
    let mut order: Vec<usize> = (0..workflow.jobs.len()).collect();
    order.sort_by_key(|place| workflow.jobs.get(*place).map(|job| job.stage));
    order
}

/// A job that another one needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needed {
    /// Its place in the plan.
    pub(super) rank: usize,
    /// Its artifacts are wanted.
    pub(super) artifacts: bool,
}

/// For each job of `order`, the jobs that it needs. Reports needs that cannot be met, and cycles.
pub(super) fn needs(workflow: &Workflow, order: &[usize], problems: &mut Problems) -> Vec<Vec<Needed>> {
    let mut ranks = vec![0; order.len()];
    for (rank, place) in order.iter().enumerate() {
        if let Some(slot) = ranks.get_mut(*place) {
            *slot = rank;
        }
    }
    let mut left = MOST_NEEDS;
    let needs: Vec<Vec<Needed>> = order
        .iter()
        .filter_map(|place| workflow.jobs.get(*place))
        .map(|job| {
            let mut needed = Vec::new();
            for need in job.definition.needs.iter().flat_map(|needs| needs.iter()) {
                let places = find(workflow, job, need, problems);
                if places.len() > left {
                    let hint = format!(
                        "need fewer jobs: with every job of a matrix, there are more than {MOST_NEEDS} needs"
                    );
                    problems.error(need.job.span, pointer(&workflow.owners, need), hint);
                    continue;
                }
                left -= places.len();
                let ranks = places.filter_map(|place| ranks.get(place).copied());
                needed.extend(ranks.map(|rank| Needed { rank, artifacts: need.artifacts }));
            }
            needed
        })
        .collect();
    report_cycles(workflow, order, &needs, problems);
    needs
}

/// The places of a needed job; none where it is absent and may be, or where it cannot be needed.
fn find(workflow: &Workflow, job: &Job, need: &Need, problems: &mut Problems) -> Range<usize> {
    let name = quoted(&need.job.value);
    let hint = match workflow.known.get(&need.job.value) {
        Some(Known::Jobs(places)) => {
            let needed = workflow.jobs.get(places.start).and_then(|needed| needed.stage);
            let (Some(theirs), Some(ours)) = (needed, job.stage) else {
                return places.clone();
            };
            if theirs <= ours {
                return places.clone();
            }
            let stage = |place: usize| quoted(workflow.stages.get(place).map_or("", |stage| stage));
            format!(
                "remove the need of {name}, or move it to an earlier stage: it runs in {}, after {}",
                stage(theirs),
                stage(ours)
            )
        }
        Some(Known::Template) => format!("need a job instead of {name}: it is a template, which never runs"),
        None if need.optional || !workflow.complete => return 0..0,
        None => {
            let names = workflow.jobs.iter().map(|job| &*job.definition.name.value);
            match problems.similar(&need.job.value, names) {
                Some(meant) => format!("define job {name}, or rename the need; did you mean `{meant}`?"),
                None => format!("define job {name}, or remove the need of it"),
            }
        }
    };
    problems.error(need.job.span, pointer(&workflow.owners, need), hint);
    0..0
}

fn pointer(owners: &Owners, need: &Need) -> String {
    let root = Pointer::Root;
    let owner = owners.of(need.job.span).map_or("", |name| name);
    root.key(owner).key("needs").index(need.index).to_string()
}

/// Reports one cycle for each group of jobs that wait for each other.
fn report_cycles(workflow: &Workflow, order: &[usize], needs: &[Vec<Needed>], problems: &mut Problems) {
    // Jobs that can finish are taken away, one after the other; what remains waits for a cycle or is in one.
    let mut waiting: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut waiters = vec![Vec::new(); needs.len()];
    for (rank, needed) in needs.iter().enumerate() {
        for other in needed {
            if let Some(list) = waiters.get_mut(other.rank) {
                list.push(rank);
            }
        }
    }
    let mut ready: Vec<usize> =
        waiting.iter().enumerate().filter(|(_, count)| **count == 0).map(|(rank, _)| rank).collect();
    while let Some(rank) = ready.pop() {
        for waiter in waiters.get(rank).into_iter().flatten() {
            if let Some(count) = waiting.get_mut(*waiter) {
                *count -= 1;
                if *count == 0 {
                    ready.push(*waiter);
                }
            }
        }
    }
    let stuck = |rank: usize| waiting.get(rank).is_some_and(|count| *count > 0);
    let mut seen = HashSet::new();
    for start in 0..needs.len() {
        // Following stuck needs must come back to a job seen before: on this walk it is a new cycle.
        let mut path: Vec<usize> = Vec::new();
        let mut at = start;
        while stuck(at) && seen.insert(at) {
            path.push(at);
            let next = needs.get(at).into_iter().flatten().map(|need| need.rank).find(|rank| stuck(*rank));
            let Some(next) = next else { break };
            at = next;
        }
        let Some(from) = path.iter().position(|rank| *rank == at) else {
            continue;
        };
        report_cycle(workflow, order, path.get(from..).unwrap_or_default(), problems);
    }
}

fn report_cycle(workflow: &Workflow, order: &[usize], cycle: &[usize], problems: &mut Problems) {
    let job = |rank: usize| order.get(rank).and_then(|place| workflow.jobs.get(*place));
    let mut cycle = cycle.to_vec();
    // It is told from the job that comes first in the file, whichever way it was found.
    let first = cycle.iter().enumerate().min_by_key(|(_, rank)| order.get(**rank)).map_or(0, |(at, _)| at);
    cycle.rotate_left(first);
    let Some(first) = cycle.first().copied().and_then(job) else {
        return;
    };
    let second = cycle.get(1).copied().and_then(job).unwrap_or(first);
    let names: Vec<&str> = cycle
        .iter()
        .filter_map(|rank| job(*rank))
        .chain([first])
        .map(|job| &*job.definition.name.value)
        .collect();
    let needs = first.definition.needs.iter().flat_map(|needs| needs.iter());
    let Some(need) = needs.into_iter().find(|need| need.job.value == second.definition.name.value) else {
        return;
    };
    let hint = format!("resolve needs cycle by removing one need: {}", chain(&names));
    problems.error(need.job.span, pointer(&workflow.owners, need), hint);
}

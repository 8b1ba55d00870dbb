//! The order of jobs, and what they wait for.

use std::collections::HashSet;

use crate::diagnostic::{Pointer, Problems, quoted};
use crate::document::Need;
use crate::resolve::Owners;
use crate::workflow::{Job, Known, Workflow};

/// The places of all jobs in stage order, then in the order of the file.
pub(super) fn stage_order(workflow: &Workflow) -> Vec<usize> {
    let mut order: Vec<usize> = (0..workflow.jobs.len()).collect();
    order.sort_by_key(|place| workflow.jobs.get(*place).map(|job| job.stage));
    order
}

/// For each job of `order`, the needed jobs as places in `order`. Reports needs that cannot be met, and cycles.
pub(super) fn needs(workflow: &Workflow, order: &[usize], problems: &mut Problems) -> Vec<Vec<usize>> {
    let mut ranks = vec![0; order.len()];
    for (rank, place) in order.iter().enumerate() {
        if let Some(slot) = ranks.get_mut(*place) {
            *slot = rank;
        }
    }
    let needs: Vec<Vec<usize>> = order
        .iter()
        .filter_map(|place| workflow.jobs.get(*place))
        .map(|job| {
            job.needs
                .iter()
                .filter_map(|need| find(workflow, job, need, problems))
                .filter_map(|place| ranks.get(place).copied())
                .collect()
        })
        .collect();
    report_cycles(workflow, order, &needs, problems);
    needs
}

/// The place of a needed job; none where it is absent and may be, or where it cannot be needed.
fn find(workflow: &Workflow, job: &Job, need: &Need, problems: &mut Problems) -> Option<usize> {
    let name = quoted(&need.job.value);
    let hint = match workflow.known.get(&need.job.value) {
        Some(Known::Job(place)) => {
            let needed = workflow.jobs.get(*place)?;
            let (Some(theirs), Some(ours)) = (needed.stage, job.stage) else {
                return Some(*place);
            };
            if theirs <= ours {
                return Some(*place);
            }
            let stage = |place: usize| quoted(workflow.stages.get(place).map_or("", |stage| stage));
            format!(
                "remove the need of {name}, or move it to an earlier stage: it runs in {}, after {}",
                stage(theirs),
                stage(ours)
            )
        }
        Some(Known::Template) => format!("need a job instead of {name}: it is a template, which never runs"),
        None if need.optional => return None,
        None => {
            let jobs = workflow.jobs.iter().map(|job| &*job.name.value);
            match problems.similar(&need.job.value, jobs) {
                Some(meant) => format!("define job {name}, or rename the need; did you mean `{meant}`?"),
                None => format!("define job {name}, or remove the need of it"),
            }
        }
    };
    problems.error(need.job.span, pointer(&workflow.owners, need), hint);
    None
}

fn pointer(owners: &Owners, need: &Need) -> String {
    let root = Pointer::Root;
    let owner = owners.of(need.job.span).map_or("", |name| name);
    root.key(owner).key("needs").index(need.index).to_string()
}

/// Reports one cycle for each group of jobs that wait for each other.
fn report_cycles(workflow: &Workflow, order: &[usize], needs: &[Vec<usize>], problems: &mut Problems) {
    // Jobs that can finish are taken away, one after the other; what remains waits for a cycle or is in one.
    let mut waiting: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut waiters = vec![Vec::new(); needs.len()];
    for (rank, needed) in needs.iter().enumerate() {
        for other in needed {
            if let Some(list) = waiters.get_mut(*other) {
                list.push(rank);
            }
        }
    }
    let mut ready: Vec<usize> = waiting
        .iter()
        .enumerate()
        .filter(|(_, count)| **count == 0)
        .map(|(rank, _)| rank)
        .collect();
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
            let next = needs
                .get(at)
                .into_iter()
                .flatten()
                .copied()
                .find(|rank| stuck(*rank));
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
    let first = cycle
        .iter()
        .enumerate()
        .min_by_key(|(_, rank)| order.get(**rank))
        .map_or(0, |(at, _)| at);
    cycle.rotate_left(first);
    let Some(first) = cycle.first().copied().and_then(job) else {
        return;
    };
    let second = cycle.get(1).copied().and_then(job).unwrap_or(first);
    let names: Vec<&str> = cycle
        .iter()
        .filter_map(|rank| job(*rank))
        .chain([first])
        .map(|job| &*job.name.value)
        .collect();
    let Some(need) = first
        .needs
        .iter()
        .find(|need| need.job.value == second.name.value)
    else {
        return;
    };
    let hint = format!("resolve needs cycle by removing one need: {}", names.join(" -> "));
    problems.error(need.job.span, pointer(&workflow.owners, need), hint);
}

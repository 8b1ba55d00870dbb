//! `extends`: each job with everything that its parents give it, but without `default`.

use std::collections::HashMap;

use super::Budget;
use crate::diagnostic::{Pointer, Problems, quoted};
use crate::document::{Job, Parent};

/// How many definitions may extend each other in a row.
const MOST_DEPTH: usize = 64;

/// Every job of `jobs` merged over its parents. `None` where the copies would have cost too much. Where a file is missing,
/// `complete` is false, and unknown parents are taken to be in it.
pub(super) fn parents(
    jobs: &[Job],
    complete: bool,
    budget: &mut Budget,
    problems: &mut Problems,
) -> Vec<Option<Job>> {
    let places: HashMap<&str, usize> =
        jobs.iter().zip(0..).map(|(job, place)| (&*job.name.value, place)).collect();
    let mut walk = Walk {
        jobs,
        complete,
        places,
        states: vec![State::New; jobs.len()],
        path: Vec::new(),
        budget,
        problems,
    };
    for place in 0..jobs.len() {
        walk.visit(place);
    }
    let states = walk.states;
    states
        .into_iter()
        .map(|state| match state {
            State::Done { job, .. } => job.map(|job| *job),
            State::New | State::Open => None,
        })
        .collect()
}

#[derive(Clone)]
enum State {
    New,
    /// Its parents are being visited.
    Open,
    Done {
        job: Option<Box<Job>>,
        depth: usize,
    },
}

struct Walk<'a> {
    jobs: &'a [Job],
    complete: bool,
    places: HashMap<&'a str, usize>,
    states: Vec<State>,
    path: Vec<usize>,
    budget: &'a mut Budget,
    problems: &'a mut Problems,
}

impl Walk<'_> {
    /// Gives the job at `place`. Calls itself for its parents, at most [`MOST_DEPTH`] deep.
    fn visit(&mut self, place: usize) {
        if !matches!(self.states.get(place), Some(State::New)) {
            return;
        }
        let jobs = self.jobs;
        let Some(job) = jobs.get(place) else { return };
        let mut merged = Job::empty(job.name.clone());
        merged.span = job.span;
        let mut depth = 0;
        let mut fits = true;
        self.set(place, State::Open);
        self.path.push(place);
        for parent in job.extends.iter().flatten() {
            match self.parent(place, parent) {
                Ok(above) => depth = depth.max(above + 1),
                Err(()) => {
                    // What the parent would have given is not missing.
                    merged.mark_all_present();
                    continue;
                }
            }
            let found = self.places.get(&*parent.name.value).and_then(|place| self.states.get(*place));
            let Some(State::Done { job: Some(inherited), .. }) = found else {
                merged.mark_all_present();
                continue;
            };
            if !self.budget.spend(inherited.weight, job, self.problems) {
                fits = false;
                break;
            }
            merged.merge(inherited);
        }
        self.path.pop();
        merged.merge(job);
        self.set(place, State::Done { job: fits.then(|| Box::new(merged)), depth });
    }

    /// Visits a parent of the job at `place`, and gives how deep its own parents go.
    fn parent(&mut self, place: usize, parent: &Parent) -> Result<usize, ()> {
        let Some(&above) = self.places.get(&*parent.name.value) else {
            if !self.complete {
                return Err(());
            }
            let name = quoted(&parent.name.value);
            let names = self.jobs.iter().map(|job| &*job.name.value);
            let hint = match self.problems.similar(&parent.name.value, names) {
                Some(meant) => format!("define {name}, or rename it; did you mean `{meant}`?"),
                None => format!("define {name}, or remove it from extends"),
            };
            self.error(place, parent, hint);
            return Err(());
        };
        if matches!(self.states.get(above), Some(State::Open)) {
            self.report_cycle(above);
            return Err(());
        }
        if self.path.len() <= MOST_DEPTH {
            self.visit(above);
        }
        match self.states.get(above) {
            Some(State::Done { depth, .. }) if *depth < MOST_DEPTH => Ok(*depth),
            _ => {
                self.error(place, parent, format!("shorten the chain of extends to at most {MOST_DEPTH}"));
                Err(())
            }
        }
    }

    /// Reports the cycle that leads from the job at `start` to the innermost open one and back, from its first job on.
    fn report_cycle(&mut self, start: usize) {
        let from = self.path.iter().position(|place| *place == start).unwrap_or(0);
        let mut cycle = self.path.get(from..).unwrap_or_default().to_vec();
        let first = cycle.iter().enumerate().min_by_key(|(_, place)| **place).map_or(0, |(index, _)| index);
        cycle.rotate_left(first);
        let Some(&place) = cycle.first() else { return };
        let next = cycle.get(1).copied().unwrap_or(place);
        let name = |place: &usize| self.jobs.get(*place).map_or("", |job| &*job.name.value);
        let names: Vec<&str> = cycle.iter().chain([&place]).map(name).collect();
        let hint = format!("resolve extends cycle by removing one extends edge: {}", names.join(" -> "));
        let next = name(&next).to_owned();
        let edge = self
            .jobs
            .get(place)
            .and_then(|job| job.extends.iter().flatten().find(|parent| *parent.name.value == *next));
        if let Some(edge) = edge {
            // The pointer names the keyword also where it is a list, as the message is about the whole edge.
            let pointer =
                Pointer::Root.key(names.first().copied().unwrap_or_default()).key("extends").to_string();
            self.problems.error(edge.name.span, pointer, hint);
        }
    }

    fn error(&mut self, place: usize, parent: &Parent, hint: String) {
        let Some(job) = self.jobs.get(place) else { return };
        let root = Pointer::Root;
        let name = root.key(&job.name.value);
        let extends = name.key("extends");
        match parent.index {
            Some(index) => self.problems.error(parent.name.span, extends.index(index), hint),
            None => self.problems.error(parent.name.span, extends, hint),
        }
    }

    fn set(&mut self, place: usize, state: State) {
        if let Some(slot) = self.states.get_mut(place) {
            *slot = state;
        }
    }
}

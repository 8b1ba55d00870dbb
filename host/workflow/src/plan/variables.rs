//! References among the variables of a job.

use std::collections::HashMap;

use loom_contract::graph_ir::Variable;

use super::{Template, route};
use crate::diagnostic::{Pointer, Problems, chain};
use crate::document;
use crate::document::{LONGEST, Text, Variables, is_too_long};
use crate::owners::Owners;
use crate::source::Span;
use crate::workflow::Job;

/// How many MiB the values of all jobs may take, so that references cannot blow up a small file.
const MOST_MIB: usize = 16;

/// What a job's variables come to.
pub(super) struct Resolved {
    /// Its own, sorted by name.
    pub(super) job: Vec<Variable>,
    /// Those of its services.
    pub(super) services: Vec<Vec<Variable>>,
    /// What is known of all of them before the run.
    pub(super) known: Known,
}

/// What is known of a job's variables before the run.
pub(super) struct Known {
    /// Its own, sorted by name.
    own: Vec<(Text, Template)>,
    predefined: HashMap<&'static str, Template>,
}

impl Known {
    /// The value of the variable `name`, with references to what only the run knows.
    pub(super) fn get(&self, name: &str) -> Option<&Template> {
        match self.own.binary_search_by(|(own, _)| (**own).cmp(name)) {
            Ok(at) => self.own.get(at).map(|(_, value)| value),
            Err(_) => self.predefined.get(name),
        }
    }

    /// The names of the job's own variables.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.own.iter().map(|(name, _)| &**name)
    }

    /// The names of the predefined variables that are known before the run.
    pub(super) fn predefined(&self) -> impl Iterator<Item = &str> {
        self.predefined.keys().copied()
    }
}

/// The predefined variables that are known before a run. An image that is named by variables may be named by these: it is
/// not among them.
fn predefined(job: &Job, stage: &str) -> HashMap<&'static str, Template> {
    let definition = &*job.definition;
    let target = definition.target.as_ref().map_or("", |target| &*target.value);
    let pairs = [
        ("CI", "true"),
        ("LOOM_CI", "true"),
        ("LOOM_JOB_NAME", &*job.id),
        ("LOOM_JOB_ID", &*job.id),
        ("CI_JOB_NAME", &*job.id),
        ("LOOM_JOB_STAGE", stage),
        ("CI_JOB_STAGE", stage),
        ("LOOM_JOB_TARGET", target),
        ("LOOM_PROVIDER", route::provider(definition)),
    ];
    let image = route::image(definition).filter(|image| !image.contains('$'));
    let image = image.into_iter().flat_map(|image| {
        let image: &str = image;
        [("LOOM_JOB_IMAGE", image), ("CI_JOB_IMAGE", image)]
    });
    pairs.into_iter().chain(image).map(|(name, value)| (name, Template::literal(value))).collect()
}

/// What the values of jobs that are still to be resolved may take, in bytes.
pub(super) struct Budget(usize);

impl Default for Budget {
    /// That of all jobs.
    fn default() -> Self {
        Self(MOST_MIB * 1024 * 1024)
    }
}

/// Resolves the variables of a job.
pub(super) struct Resolver<'p> {
    problems: &'p mut Problems,
    bytes_left: &'p mut usize,
}

impl<'p> Resolver<'p> {
    pub(super) fn new(problems: &'p mut Problems, left: &'p mut Budget) -> Self {
        Self { problems, bytes_left: &mut left.0 }
    }

    /// The variables of `job` and of its services, with the references resolved that can be.
    pub(super) fn resolve(&mut self, job: &Job, stage: &str, owners: &Owners) -> Resolved {
        let typed = job.variables();
        let predefined = predefined(job, stage);
        let values = self.resolve_all(&typed, &predefined, owners);
        let known = Known { own: typed.keys().cloned().zip(values).collect(), predefined };
        let services = job.definition.services.iter().flat_map(|services| &services.list);
        let services =
            services.map(|service| self.resolve_service(&service.variables, &known, owners)).collect();
        let listed = |(name, value): &(Text, Template)| Variable {
            key: name.as_ref().to_owned(),
            value: value.to_string(),
        };
        Resolved { job: known.own.iter().map(listed).collect(), services, known }
    }

    /// The variables of a service, which may refer to those of its job, also by the same name.
    fn resolve_service(&mut self, variables: &Variables, known: &Known, owners: &Owners) -> Vec<Variable> {
        variables
            .iter()
            .map(|(name, variable)| {
                let template = Template::parse(&variable.value.value).unwrap_or_default();
                let value = self.fill(&template, |name| known.get(name), variable.value.span, name, owners);
                Variable { key: name.as_ref().to_owned(), value: value.to_string() }
            })
            .collect()
    }

    /// The value of a variable over those that it refers to by its own name.
    fn layered(&mut self, name: &str, variable: &document::Variable, owners: &Owners) -> Template {
        // A value that cannot be read has been reported where it stands.
        let parse = |text: &Text| Template::parse(text).unwrap_or_default();
        let mut layers = variable.below.iter().rev().chain([&variable.value]);
        let mut value = layers.next().map(|lowest| parse(&lowest.value)).unwrap_or_default();
        for layer in layers {
            let below = value;
            let lookup = |other: &str| (other == name).then_some(&below);
            value = self.fill(&parse(&layer.value), lookup, layer.span, name, owners);
        }
        value
    }

    /// The values of `variables`, in their order.
    fn resolve_all(
        &mut self,
        variables: &Variables,
        known: &HashMap<&'static str, Template>,
        owners: &Owners,
    ) -> Vec<Template> {
        // It is too much already, and that has been reported.
        if *self.bytes_left == 0 {
            return vec![Template::default(); variables.len()];
        }
        let raw: Vec<Template> =
            variables.iter().map(|(name, variable)| self.layered(name, variable, owners)).collect();
        if raw.iter().all(|template| template.refs().next().is_none()) {
            return raw;
        }
        let entries: Vec<(&str, Span)> =
            variables.iter().map(|(name, variable)| (&**name, variable.value.span)).collect();
        let places: HashMap<&str, usize> = variables.keys().map(|name| &**name).zip(0..).collect();
        let mut waiting: Vec<usize> = Vec::with_capacity(raw.len());
        let mut waiters = vec![Vec::new(); raw.len()];
        for (place, template) in raw.iter().enumerate() {
            let needed = template.refs().filter_map(|name| places.get(name));
            let mut count = 0;
            // What it still refers to by its own name lies below the workflow.
            for other in needed.filter(|other| **other != place) {
                count += 1;
                if let Some(list) = waiters.get_mut(*other) {
                    list.push(place);
                }
            }
            waiting.push(count);
        }
        let mut ready: Vec<usize> =
            waiting.iter().enumerate().filter(|(_, count)| **count == 0).map(|(place, _)| place).collect();
        let mut done: Vec<Option<Template>> = vec![None; raw.len()];
        while let Some(place) = ready.pop() {
            let Some(template) = raw.get(place) else { continue };
            let lookup = |name: &str| match places.get(name).filter(|other| **other != place) {
                Some(other) => done.get(*other).and_then(Option::as_ref),
                None => known.get(name),
            };
            let (name, span) = entries.get(place).copied().unwrap_or_default();
            let value = self.fill(template, lookup, span, name, owners);
            if let Some(slot) = done.get_mut(place) {
                *slot = Some(value);
            }
            for waiter in waiters.get(place).into_iter().flatten() {
                if let Some(count) = waiting.get_mut(*waiter) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push(*waiter);
                    }
                }
            }
        }
        if done.iter().any(Option::is_none) {
            self.report_cycles(&entries, &raw, &places, &done, owners);
        }
        done.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// `template` with its references filled in, unless that grows beyond all measure.
    fn fill<'t>(
        &mut self,
        template: &Template,
        lookup: impl Fn(&str) -> Option<&'t Template>,
        span: Span,
        name: &str,
        owners: &Owners,
    ) -> Template {
        let sum = |measure: fn(&Template) -> usize| {
            let inside = template.refs().filter_map(&lookup).map(measure);
            inside.fold(measure(template), usize::saturating_add)
        };
        let (size, weight) = (sum(Template::len), sum(Template::weight));
        let hint = if is_too_long(name, size) {
            format!("shorten the value: with its references filled in it has more than {LONGEST} bytes")
        } else if weight > *self.bytes_left {
            *self.bytes_left = 0;
            format!("refer to less: the variables of all jobs take more than {MOST_MIB} MiB together")
        } else {
            *self.bytes_left -= weight;
            return template.resolve(lookup);
        };
        self.problems.error(span, pointer(owners, span, name), hint);
        Template::default()
    }

    fn report_cycles(
        &mut self,
        entries: &[(&str, Span)],
        raw: &[Template],
        places: &HashMap<&str, usize>,
        done: &[Option<Template>],
        owners: &Owners,
    ) {
        let stuck = |place: usize| matches!(done.get(place), Some(None));
        let mut seen = vec![false; raw.len()];
        for start in 0..raw.len() {
            let mut path: Vec<usize> = Vec::new();
            let mut at = start;
            while stuck(at) && seen.get_mut(at).is_some_and(|seen| !std::mem::replace(seen, true)) {
                path.push(at);
                let next = raw.get(at).and_then(|template| {
                    let others = template.refs().filter_map(|name| places.get(name)).copied();
                    others.filter(|other| *other != at).find(|other| stuck(*other))
                });
                let Some(next) = next else { break };
                at = next;
            }
            let Some(from) = path.iter().position(|place| *place == at) else {
                continue;
            };
            let cycle = path.get(from..).unwrap_or_default();
            let edges: Vec<&str> = cycle
                .iter()
                .chain([&at])
                .filter_map(|place| entries.get(*place))
                .map(|(name, _)| *name)
                .collect();
            let hint = format!("resolve variable cycle by removing one reference: {}", chain(&edges));
            let (name, span) = entries.get(at).copied().unwrap_or_default();
            self.problems.error(span, pointer(owners, span, name), hint);
        }
    }
}

fn pointer(owners: &Owners, span: Span, name: &str) -> String {
    let root = Pointer::Root;
    match owners.of(span) {
        Some(owner) => root.key(owner).key("variables").key(name).to_string(),
        None => root.key("variables").key(name).to_string(),
    }
}

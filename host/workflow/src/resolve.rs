//! From what was typed to what was meant: includes are read, `default`, templates and jobs are merged.

mod files;
mod inherit;

use std::collections::{HashMap, HashSet};

use crate::diagnostic::{Pointer, Problems, quoted};
use crate::document::{Document, Job, Text, Variables};
use crate::loader::Loader;
use crate::source::{Sources, Span, Spanned};
use crate::workflow;
use crate::workflow::{Known, Workflow};

/// How many values may be copied while inheritance is applied: far more than any workflow, far less than the memory.
const MOST_COPIES: usize = 1_000_000;

/// Reads the root file, which `sources` holds already, and everything that it includes.
pub(crate) fn resolve(
    sources: &mut Sources,
    loader: &dyn Loader,
    problems: &mut Problems,
) -> Option<Workflow> {
    let files = files::read(sources, loader, problems)?;
    let layers = Layers::merge(files);
    layers.check_stages(problems);
    if layers.jobs.iter().all(Job::is_template) && !problems.has_errors() {
        problems.error(
            layers.start,
            Pointer::Root,
            "add at least one job that is no template",
        );
    }
    let mut budget = Budget { left: MOST_COPIES };
    let parents = inherit::parents(&layers.jobs, &mut budget, problems);

    let mut base = Job::empty(Spanned::new("default".into(), Span::default()));
    base.variables = layers.variables;
    if let Some(default) = &layers.default {
        base.merge(default);
    }
    let places: HashMap<&str, usize> = layers
        .stages
        .iter()
        .zip(0..)
        .map(|(stage, place)| (&*stage.value, place))
        .collect();
    let mut known = HashMap::with_capacity(layers.jobs.len());
    let mut jobs = Vec::new();
    for (job, inherited) in layers.jobs.iter().zip(&parents) {
        if job.is_template() {
            known.insert(job.name.value.clone(), Known::Template);
            continue;
        }
        let mut merged = base.clone();
        merged.name = job.name.clone();
        merged.span = job.span;
        if let Some(inherited) = inherited {
            if !budget.spend(base.weight() + inherited.weight(), job, problems) {
                return None;
            }
            merged.merge(inherited);
        }
        known.insert(job.name.value.clone(), Known::Job(jobs.len()));
        jobs.push(workflow::Job::new(merged, &places, problems));
    }
    let stages = layers.stages.iter().map(|stage| stage.value.clone()).collect();
    Some(Workflow {
        stages,
        jobs,
        known,
        owners: layers.owners,
    })
}

/// All files put over each other.
struct Layers {
    start: Span,
    stages: Vec<Spanned<Text>>,
    /// Whether the stages are all of those that were meant.
    has_stages: bool,
    variables: Variables,
    default: Option<Job>,
    jobs: Vec<Job>,
    owners: Owners,
}

impl Layers {
    /// Merges files in the order in which they were read: what comes later is nearer.
    fn merge(files: Vec<Document>) -> Self {
        let mut layers = Self {
            start: Span::default(),
            stages: Vec::new(),
            has_stages: false,
            variables: Variables::new(),
            default: None,
            jobs: Vec::new(),
            owners: Owners::default(),
        };
        let mut places: HashMap<Text, usize> = HashMap::new();
        for file in files {
            // The root file comes last.
            layers.start = file.start;
            if let Some(stages) = file.stages {
                layers.stages = stages;
                layers.has_stages = true;
            }
            layers.variables.extend(file.variables);
            if let Some(default) = file.default {
                layers.owners.add(&default);
                match &mut layers.default {
                    Some(below) => below.merge(&default),
                    none => *none = Some(default),
                }
            }
            for job in file.jobs {
                layers.owners.add(&job);
                if let Some(index) = places.get(&job.name.value) {
                    if let Some(below) = layers.jobs.get_mut(*index) {
                        below.merge_definition(&job);
                    }
                } else {
                    places.insert(job.name.value.clone(), layers.jobs.len());
                    layers.jobs.push(job);
                }
            }
        }
        layers.owners.sort();
        layers
    }

    /// Every stage that a job or template names must be listed.
    fn check_stages(&self, problems: &mut Problems) {
        if !self.has_stages {
            return;
        }
        let known: HashSet<&str> = self.stages.iter().map(|stage| &*stage.value).collect();
        for job in &self.jobs {
            let Some(stage) = &job.stage else { continue };
            if known.contains(&*stage.value) {
                continue;
            }
            let name = quoted(&stage.value);
            let hint = match problems.similar(&stage.value, self.stages.iter().map(|stage| &*stage.value)) {
                Some(meant) => format!("add {name} to stages, or rename it; did you mean `{meant}`?"),
                None => format!("add {name} to stages, or set stage to one that is listed there"),
            };
            problems.error(stage.span, self.owners.pointer(stage.span, "stage"), hint);
        }
    }
}

/// Who wrote what: the definitions by where they stand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Owners {
    definitions: Vec<(Span, Text)>,
}

impl Owners {
    /// The name of the job, template or `default` in which `span` stands.
    pub(crate) fn of(&self, span: Span) -> Option<&Text> {
        let after = self
            .definitions
            .partition_point(|(owner, _)| (owner.file, owner.start) <= (span.file, span.start));
        let (owner, name) = self.definitions.get(after.checked_sub(1)?)?;
        (owner.file == span.file && span.start <= owner.end).then_some(name)
    }

    /// The pointer to `rest` in the definition that holds `span`: an inherited value is wrong where it was written.
    pub(crate) fn pointer(&self, span: Span, rest: &str) -> String {
        let root = Pointer::Root;
        match self.of(span) {
            Some(name) => root.key(name).key(rest).to_string(),
            None => root.key(rest).to_string(),
        }
    }

    fn add(&mut self, job: &Job) {
        self.definitions.push((job.span, job.name.value.clone()));
    }

    fn sort(&mut self) {
        self.definitions.sort_by_key(|(span, _)| (span.file, span.start));
    }
}

/// Stops a small file from growing without bound through inheritance.
struct Budget {
    left: usize,
}

impl Budget {
    fn spend(&mut self, copies: usize, job: &Job, problems: &mut Problems) -> bool {
        let fits = self.left >= copies;
        self.left = self.left.saturating_sub(copies);
        if !fits {
            let hint = format!("inherit less: the jobs take over more than {MOST_COPIES} values in all");
            problems.error(job.name.span, Pointer::Root.key(&job.name.value), hint);
        }
        fits
    }
}

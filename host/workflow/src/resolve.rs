//! From what was typed to what was meant: includes are read, `default`, templates and jobs are merged.

mod complete;
mod files;
mod inherit;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use loom_contract::id::JobId;

use crate::diagnostic::{Pointer, Problems, quoted};
use crate::document::{Document, Field, Job, Text, Variables, Workspace, merge_variables};
use crate::loader::Loader;
use crate::owners::Owners;
use crate::source::{Sources, Span, Spanned};
use crate::workflow;
use crate::workflow::{Known, Workflow};

/// How many MiB of definitions may be copied while inheritance is applied: far more than any workflow needs, far less
/// than a hostile one would take.
const MOST_MIB: usize = 32;
/// How many jobs and templates a workflow may define, and how many jobs these may make.
const MOST_JOBS: usize = 10_000;

/// Reads the root file, which `sources` holds already, and everything that it includes.
pub(crate) fn resolve(
    sources: &mut Sources,
    loader: &dyn Loader,
    problems: &mut Problems,
) -> Option<Workflow> {
    let files::Read { files, complete } = files::read(sources, loader, problems)?;
    let layers = Layers::merge(files);
    layers.check_stages(problems);
    if layers.jobs.iter().all(Job::is_template) && !problems.has_errors() {
        problems.error(layers.start, Pointer::Root, "add at least one job that is no template");
    }
    if let Some(job) = layers.jobs.get(MOST_JOBS) {
        let hint = format!("shorten the workflow: it has more than {MOST_JOBS} jobs and templates");
        problems.error(job.name.span, Pointer::Root.key(&job.name.value), hint);
        return None;
    }
    let mut budget = Budget { left: MOST_MIB * 1024 * 1024 };
    let parents = inherit::parents(&layers.jobs, complete, &mut budget, problems);

    let mut base = Job::empty(Spanned::new("default".into(), Span::default()));
    base.weight = layers.variables_weight;
    base.variables = Field::Given(layers.variables);
    if let Some(default) = &layers.default {
        base.merge(default);
    }
    let stages: HashMap<&str, usize> =
        layers.stages.iter().zip(0..).map(|(stage, place)| (&*stage.value, place)).collect();
    let mut jobs = Jobs::new(&layers.jobs);
    for (job, inherited) in layers.jobs.iter().zip(parents) {
        if job.is_template() {
            jobs.known.insert(job.name.value.clone(), Known::Template);
            continue;
        }
        let Some(inherited) = inherited else { continue };
        if !budget.spend(base.weight.saturating_add(inherited.weight), job, problems) {
            return None;
        }
        let mut merged = base.clone();
        merged.merge(&inherited);
        merged.name = job.name.clone();
        merged.span = job.span;
        complete::check(&merged, &layers.owners, problems);
        let stage = merged.stage.as_ref().and_then(|stage| stages.get(&*stage.value).copied());
        jobs.add(merged, stage, &mut budget, problems)?;
    }
    Some(Workflow {
        stages: layers.stages.iter().map(|stage| stage.value.clone()).collect(),
        workspace: layers.workspace,
        variables: base.variables.as_ref().cloned().unwrap_or_default(),
        jobs: jobs.list,
        known: jobs.known,
        complete,
        owners: layers.owners,
    })
}

/// The jobs as they become complete.
struct Jobs {
    list: Vec<workflow::Job>,
    known: HashMap<Text, Known>,
    /// Every id that is taken.
    ids: HashSet<Text>,
}

impl Jobs {
    fn new(jobs: &[Job]) -> Self {
        let plain = jobs.iter().filter(|job| !job.is_template()).map(|job| job.name.value.clone());
        Self {
            list: Vec::with_capacity(jobs.len()),
            known: HashMap::with_capacity(jobs.len()),
            ids: plain.collect(),
        }
    }

    /// Adds a job, or all jobs of its matrix. `None` where these are too much.
    fn add(
        &mut self,
        job: Job,
        stage: Option<usize>,
        budget: &mut Budget,
        problems: &mut Problems,
    ) -> Option<()> {
        let from = self.list.len();
        let name = job.name.value.clone();
        let definition = Arc::new(job);
        let Some(parallel) = definition.parallel.as_ref() else {
            let matrix = BTreeMap::new();
            self.list.push(workflow::Job {
                id: name.clone(),
                stage,
                matrix,
                definition: Arc::clone(&definition),
            });
            self.known.insert(name, Known::Jobs(from..from + 1));
            return Some(());
        };
        for matrix in parallel.combinations() {
            if !budget.spend(definition.weight.saturating_sub(parallel.weight), &definition, problems) {
                return None;
            }
            if self.list.len() >= MOST_JOBS {
                let hint = format!("list fewer values: the workflow has more than {MOST_JOBS} jobs");
                problems.error(parallel.span, Pointer::Root.key(&name).key("parallel"), hint);
                return None;
            }
            let id = matrix_id(&name, &matrix);
            self.check_id(&id, parallel.span, &definition, problems);
            self.list.push(workflow::Job { id, stage, matrix, definition: Arc::clone(&definition) });
        }
        self.known.insert(name, Known::Jobs(from..self.list.len()));
        Some(())
    }

    fn check_id(&mut self, id: &Text, span: Span, job: &Job, problems: &mut Problems) {
        let hint = if JobId::new(id).is_err() {
            format!(
                "shorten the values or the job's name: {} is no job id, which has at most 64 characters",
                quoted(id)
            )
        } else if !self.ids.insert(id.clone()) {
            format!("change a value or a job's name: two jobs would be called {}", quoted(id))
        } else {
            return;
        };
        let root = Pointer::Root;
        problems.error(span, root.key(&job.name.value).key("parallel"), hint);
    }
}

/// `<job>--<value>-<value>`: the values in the order of their names, which the order in the file does not change.
fn matrix_id(job: &str, matrix: &BTreeMap<Text, Text>) -> Text {
    let values: Vec<String> = matrix
        .values()
        .map(|value| {
            let plain = |char: char| {
                if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '_' }
            };
            value.chars().flat_map(char::to_lowercase).map(plain).collect()
        })
        .collect();
    format!("{job}--{}", values.join("-")).into()
}

/// All files put over each other.
struct Layers {
    start: Span,
    stages: Vec<Spanned<Text>>,
    /// Whether the stages are all of those that were meant.
    has_stages: bool,
    workspace: Option<Workspace>,
    variables: Variables,
    variables_weight: usize,
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
            workspace: None,
            variables: Variables::new(),
            variables_weight: 0,
            default: None,
            jobs: Vec::new(),
            owners: Owners::default(),
        };
        let mut places: HashMap<Text, usize> = HashMap::new();
        for file in files {
            // The root file comes last.
            layers.start = file.start;
            layers.workspace = file.workspace;
            if let Field::Given(stages) = file.stages {
                layers.stages = stages;
                layers.has_stages = true;
            }
            merge_variables(&mut layers.variables, &file.variables);
            layers.variables_weight += file.variables_weight;
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
            let Some(stage) = job.stage.as_ref() else { continue };
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

/// Stops a small file from growing without bound through inheritance.
struct Budget {
    left: usize,
}

impl Budget {
    fn spend(&mut self, bytes: usize, job: &Job, problems: &mut Problems) -> bool {
        let fits = self.left >= bytes;
        self.left = self.left.saturating_sub(bytes);
        if !fits {
            let hint =
                format!("inherit less: with what they take over, the jobs take more than {MOST_MIB} MiB");
            problems.error(job.name.span, Pointer::Root.key(&job.name.value), hint);
        }
        fits
    }
}

//! What was meant: the jobs with all inheritance applied.

use std::collections::HashMap;
use std::sync::Arc;

use crate::diagnostic::{Pointer, Problems};
use crate::document;
use crate::document::{Need, Step, Text, Variables};
use crate::resolve::Owners;
use crate::source::{Span, Spanned};

/// A whole workflow. Only `resolve` makes one.
#[derive(Debug)]
pub(crate) struct Workflow {
    pub(crate) stages: Vec<Text>,
    /// The jobs that can run, in the order of the files.
    pub(crate) jobs: Vec<Job>,
    /// Every name that a `needs` may hold.
    pub(crate) known: HashMap<Text, Known>,
    pub(crate) owners: Owners,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Template,
    /// Its place in [`Workflow::jobs`].
    Job(usize),
}

/// A job with everything that it inherits.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) name: Spanned<Text>,
    pub(crate) span: Span,
    /// Its place in the list of stages. What is missing here or empty below has been reported, and there is no plan.
    pub(crate) stage: Option<usize>,
    pub(crate) target: Text,
    pub(crate) script: Arc<Vec<Step>>,
    pub(crate) needs: Arc<Vec<Need>>,
    pub(crate) variables: Variables,
}

impl Job {
    /// Makes the job of what was merged for it, and reports required keys that nobody gives.
    pub(crate) fn new(job: document::Job, stages: &HashMap<&str, usize>, problems: &mut Problems) -> Self {
        let mut require = |keyword: &str, what: &str| {
            if !job.given.contains(keyword) {
                let root = Pointer::Root;
                let name = root.key(&job.name.value);
                let hint = format!("add required key {keyword}: {what}");
                problems.error(job.name.span, name.key(keyword), hint);
            }
        };
        require("stage", "one of the stages");
        require("target", "linux, here, in a template or in default");
        require("script", "a non-empty list of commands");
        Self {
            stage: job.stage.and_then(|stage| stages.get(&*stage.value).copied()),
            target: job.target.map_or_else(Text::default, |target| target.value),
            script: job.script.unwrap_or_default(),
            needs: job.needs.unwrap_or_default(),
            name: job.name,
            span: job.span,
            variables: job.variables,
        }
    }
}

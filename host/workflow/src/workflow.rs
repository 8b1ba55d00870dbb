//! What was meant: the jobs with all inheritance applied.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use crate::document;
use crate::document::{Text, Variables};
use crate::owners::Owners;
use crate::source::Spanned;

/// A whole workflow. Only `resolve` makes one.
#[derive(Debug)]
pub(crate) struct Workflow {
    pub(crate) stages: Vec<Text>,
    pub(crate) workspace: Option<document::Workspace>,
    /// The variables that a job has which says nothing of variables.
    pub(crate) variables: Variables,
    /// The jobs that can run, in the order of the files.
    pub(crate) jobs: Vec<Job>,
    /// Every name that a `needs` may hold.
    pub(crate) known: HashMap<Text, Known>,
    /// No file is missing. Where one is, unknown names may stand in it.
    pub(crate) complete: bool,
    pub(crate) owners: Owners,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    Template,
    /// Their places in [`Workflow::jobs`]: more than one for a matrix.
    Jobs(Range<usize>),
}

/// A job that will run: one of its definition's matrix, if there is one.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: Text,
    /// Its place in the list of stages. Where it is missing, that has been reported, and there is no plan.
    pub(crate) stage: Option<usize>,
    /// Its values of the matrix.
    pub(crate) matrix: BTreeMap<Text, Text>,
    /// Everything that it was given and inherits.
    pub(crate) definition: Arc<document::Job>,
}

impl Job {
    /// Its variables as typed. Those of the matrix are nearest.
    pub(crate) fn variables(&self) -> Variables {
        let mut variables = self.definition.variables.as_ref().cloned().unwrap_or_default();
        let span = self.definition.parallel.as_ref().map(|parallel| parallel.span).unwrap_or_default();
        for (name, value) in &self.matrix {
            let value = Spanned::new(value.clone(), span);
            document::put(&mut variables, name.clone(), document::Variable::new(value));
        }
        variables
    }
}

//! The job, template or `default` that a place in the files belongs to.

use crate::diagnostic::Pointer;
use crate::document::{Job, Text};
use crate::source::Span;

/// The definitions of a workflow, sorted by their place in the files.
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

    /// Adds a definition; [`sort`](Self::sort) must follow the last.
    pub(crate) fn add(&mut self, job: &Job) {
        self.definitions.push((job.span, job.name.value.clone()));
    }

    pub(crate) fn sort(&mut self) {
        self.definitions.sort_by_key(|(span, _)| (span.file, span.start));
    }
}

//! `artifacts`: the files of a job that are kept with the run.

use loom_contract::graph_ir::When;

use super::field::Field;
use super::keys::{Keys, keys, written};
use super::paths;
use super::value::{Reader, Text};
use crate::diagnostic::Pointer;
use crate::source::{Span, Spanned};
use crate::yaml::Node;

keys! {
    /// The keys of `artifacts`.
    pub(super) enum ArtifactsKey {
        Paths = "paths",
        Exclude = "exclude",
        Name = "name",
        When = "when",
    }
}

/// What was typed under `artifacts`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Artifacts {
    pub(crate) span: Span,
    pub(crate) paths: Field<Spanned<Vec<Text>>>,
    pub(crate) exclude: Field<Spanned<Vec<Text>>>,
    pub(crate) name: Field<Spanned<Text>>,
    pub(crate) when: Field<Spanned<When>>,
}

impl Artifacts {
    pub(super) fn merge(&mut self, nearer: &Self) {
        self.span = nearer.span;
        self.paths.replace(&nearer.paths);
        self.exclude.replace(&nearer.exclude);
        self.name.replace(&nearer.name);
        self.when.replace(&nearer.when);
    }

    /// Reports what is missing once everything is inherited.
    pub(crate) fn check(&self, owner: &str, reader: &mut Reader<'_>) {
        if self.paths.is_absent() {
            let root = Pointer::Root;
            let at = root.key(owner);
            let at = at.key("artifacts");
            let hint = "add required key paths: a non-empty list of paths to keep";
            reader.error(self.span, &at.key("paths"), hint);
        }
    }
}

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Artifacts> {
    let mut artifacts = Artifacts { span: node.span, ..Artifacts::default() };
    for entry in reader.map(node, at, "set artifacts to a mapping with paths")? {
        let place = &at.key(&entry.key);
        let value = &entry.value;
        match ArtifactsKey::of(&entry.key) {
            Some(ArtifactsKey::Paths) => {
                artifacts.paths = paths::read(value, place, "paths", false, reader).into();
            }
            Some(ArtifactsKey::Exclude) => {
                artifacts.exclude = paths::read(value, place, "exclude", true, reader).into();
            }
            Some(ArtifactsKey::Name) => {
                artifacts.name = reader.filled_text(value, place, "set name to a text").into();
            }
            Some(ArtifactsKey::When) => {
                artifacts.when = reader.choice(value, place, "when", &super::WHEN).into();
            }
            None => reader.unknown_key(entry, place, "artifacts", &written(ArtifactsKey::KEYS)),
        }
    }
    Some(artifacts)
}

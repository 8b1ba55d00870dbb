//! `artifacts`: the files of a job that are kept with the run.

use loom_contract::graph_ir::When;

use super::merge::replace;
use super::paths;
use super::value::{Reader, Text};
use crate::diagnostic::Pointer;
use crate::source::{Span, Spanned};
use crate::yaml::Node;

pub(super) const KEYS: [&str; 4] = ["paths", "exclude", "name", "when"];

/// What was typed under `artifacts`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Artifacts {
    pub(crate) span: Span,
    pub(crate) paths: Option<Spanned<Vec<Text>>>,
    pub(crate) exclude: Option<Spanned<Vec<Text>>>,
    pub(crate) name: Option<Spanned<Text>>,
    pub(crate) when: Option<Spanned<When>>,
    has_paths: bool,
}

impl Artifacts {
    pub(super) fn merge(&mut self, nearer: &Self) {
        self.span = nearer.span;
        self.has_paths |= nearer.has_paths;
        replace(&mut self.paths, &nearer.paths);
        replace(&mut self.exclude, &nearer.exclude);
        replace(&mut self.name, &nearer.name);
        replace(&mut self.when, &nearer.when);
    }

    /// Reports what is missing once everything is inherited.
    pub(crate) fn check(&self, owner: &str, reader: &mut Reader<'_>) {
        if !self.has_paths {
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
        match entry.key.as_str() {
            "paths" => {
                artifacts.has_paths = true;
                artifacts.paths = paths::read(value, place, "paths", false, reader);
            }
            "exclude" => artifacts.exclude = paths::read(value, place, "exclude", true, reader),
            "name" => artifacts.name = reader.filled_text(value, place, "set name to a text"),
            "when" => artifacts.when = reader.choice(value, place, "when", &super::WHEN),
            _ => reader.unknown_key(entry, place, "artifacts", &KEYS),
        }
    }
    Some(artifacts)
}

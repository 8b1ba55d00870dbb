//! `retry`: how often a failed job is run again.

use loom_contract::graph_ir::RetryWhen;

use super::field::Field;
use super::keys::{Keys, keys, written};
use super::value::Reader;
use crate::diagnostic::Pointer;
use crate::source::{Span, Spanned};
use crate::yaml::{Kind, Meaning, Node};

keys! {
    /// The keys of `retry`.
    pub(super) enum RetryKey {
        Max = "max",
        When = "when",
    }
}
/// The most runs after the first.
pub(super) const MOST: u32 = 10;
pub(super) const WHEN: [(&str, RetryWhen); 4] = [
    ("always", RetryWhen::Always),
    ("script_failure", RetryWhen::ScriptFailure),
    ("provider_failure", RetryWhen::ProviderFailure),
    ("timeout", RetryWhen::Timeout),
];

/// What was typed under `retry`.
#[derive(Debug, Clone)]
pub(crate) struct Retry {
    pub(crate) span: Span,
    pub(crate) max: Field<Spanned<u32>>,
    pub(crate) when: Field<Spanned<Vec<RetryWhen>>>,
}

impl Retry {
    pub(super) fn merge(&mut self, nearer: &Self) {
        self.span = nearer.span;
        self.max.replace(&nearer.max);
        self.when.replace(&nearer.when);
    }

    /// Reports what is missing once everything is inherited.
    pub(crate) fn check(&self, owner: &str, reader: &mut Reader<'_>) {
        if self.max.is_absent() {
            let root = Pointer::Root;
            let at = root.key(owner);
            let at = at.key("retry");
            reader.error(
                self.span,
                &at.key("max"),
                "add required key max: how often a failed job is run again",
            );
        }
    }
}

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Retry> {
    let mut retry = Retry { span: node.span, max: Field::Absent, when: Field::Absent };
    let times = match &node.kind {
        Kind::Scalar(scalar) if scalar.meaning() == Meaning::Number => scalar.text.as_str(),
        _ => "2",
    };
    for entry in reader.map(node, at, &format!("set retry to a mapping, as in {{max: {times}}}"))? {
        let place = &at.key(&entry.key);
        match RetryKey::of(&entry.key) {
            Some(RetryKey::Max) => retry.max = read_max(&entry.value, place, reader).into(),
            Some(RetryKey::When) => retry.when = read_when(&entry.value, place, reader).into(),
            None => reader.unknown_key(entry, place, "retry", &written(RetryKey::KEYS)),
        }
    }
    Some(retry)
}

fn read_max(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Spanned<u32>> {
    let max = match &node.kind {
        Kind::Scalar(scalar) if scalar.meaning() == Meaning::Number => scalar.text.parse().ok(),
        Kind::Refused => return None,
        _ => None,
    };
    let max = max.filter(|max| *max <= MOST);
    if max.is_none() {
        reader.error(node.span, at, format!("set max to a number from 0 to {MOST}"));
    }
    max.map(|max| Spanned::new(max, node.span))
}

fn read_when(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Spanned<Vec<RetryWhen>>> {
    let Kind::List(items) = &node.kind else {
        let one = reader.choice(node, at, "when", &WHEN)?;
        return Some(Spanned::new(vec![one.value], node.span));
    };
    if items.is_empty() {
        reader.error(node.span, at, "name at least one kind of failure, or remove when");
        return None;
    }
    let mut when = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        when.extend(reader.choice(item, &at.index(index), "when", &WHEN).map(|choice| choice.value));
    }
    (when.len() == items.len()).then(|| Spanned::new(when, node.span))
}

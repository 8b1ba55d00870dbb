//! `parallel.matrix`: one job for every combination of values.

use std::collections::BTreeMap;

use super::field::Field;
use super::keys::{Keys, keys, written};
use super::value::{Reader, Text};
use super::variables::{check_name, check_template};
use crate::diagnostic::{Pointer, quoted};
use crate::source::{Span, Spanned};
use crate::yaml::{Kind, Node};

keys! {
    /// The keys of `parallel`.
    pub(super) enum ParallelKey {
        Matrix = "matrix",
    }
}
const VALUES: &str = "set each variable of the matrix to a text or to a non-empty list of texts";
/// The most jobs that one matrix makes.
pub(super) const MOST_JOBS: usize = 256;

/// What was typed under `parallel`.
#[derive(Debug, Clone)]
pub(crate) struct Parallel {
    pub(crate) span: Span,
    /// Each makes all combinations of its variables' values.
    pub(crate) matrix: Vec<BTreeMap<Text, Vec<Text>>>,
    /// What it takes: its jobs share it.
    pub(crate) weight: usize,
}

impl Parallel {
    /// The values of every job that it makes, in the order in which they are written; variables count by name.
    pub(crate) fn combinations(&self) -> Vec<BTreeMap<Text, Text>> {
        let mut all = Vec::new();
        for variables in &self.matrix {
            let mut combinations = vec![BTreeMap::new()];
            for (name, values) in variables {
                combinations = combinations
                    .iter()
                    .flat_map(|combination| {
                        values.iter().map(|value| {
                            let mut combination: BTreeMap<Text, Text> = combination.clone();
                            combination.insert(name.clone(), value.clone());
                            combination
                        })
                    })
                    .collect();
            }
            all.append(&mut combinations);
        }
        all
    }
}

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Parallel> {
    let hint = "set parallel to {matrix: [{NAME: [<value>, ...]}]}";
    let mut matrix = Field::Absent;
    for entry in reader.map(node, at, hint)? {
        let place = at.key(&entry.key);
        match ParallelKey::of(&entry.key) {
            Some(ParallelKey::Matrix) => matrix = read_matrix(&entry.value, &place, reader).into(),
            None => reader.unknown_key(entry, &place, "parallel", &written(ParallelKey::KEYS)),
        }
    }
    if matrix.is_absent() {
        reader.error(
            node.span,
            &at.key("matrix"),
            "add required key matrix: a list of {NAME: [<value>, ...]} entries",
        );
    }
    Some(Parallel { span: node.span, matrix: matrix.into_value()?, weight: node.weight() })
}

fn read_matrix(
    node: &Node,
    at: &Pointer<'_>,
    reader: &mut Reader<'_>,
) -> Option<Vec<BTreeMap<Text, Vec<Text>>>> {
    let hint = "set matrix to a non-empty list of {NAME: [<value>, ...]} entries";
    let items = reader.list(node, at, hint)?;
    if items.is_empty() {
        reader.error(node.span, at, hint);
        return None;
    }
    let mut matrix = Vec::with_capacity(items.len());
    let mut jobs: usize = 0;
    for (index, item) in items.iter().enumerate() {
        let place = at.index(index);
        let Some(entries) = reader.map(item, &place, hint) else {
            continue;
        };
        if entries.is_empty() {
            reader.error(item.span, &place, hint);
            continue;
        }
        let mut variables = BTreeMap::new();
        let mut combinations: usize = 1;
        for entry in entries {
            let place = place.key(&entry.key);
            check_name("variable", &entry.key, entry.key_span, &place, reader);
            let Some(values) = read_values(&entry.value, &place, reader) else {
                continue;
            };
            combinations = combinations.saturating_mul(values.len());
            variables.insert(entry.key.as_str().into(), values);
        }
        jobs = jobs.saturating_add(combinations);
        if variables.len() == entries.len() {
            matrix.push(variables);
        }
    }
    if jobs > MOST_JOBS {
        let hint = format!("list fewer values: they make {jobs} jobs, and at most {MOST_JOBS} are allowed");
        reader.error(node.span, at, hint);
        return None;
    }
    (matrix.len() == items.len()).then_some(matrix)
}

fn read_values(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Vec<Text>> {
    let hint = VALUES;
    let Kind::List(items) = &node.kind else {
        return Some(vec![read_value(node, at, reader)?.value]);
    };
    if items.is_empty() {
        reader.error(node.span, at, hint);
        return None;
    }
    if items.len() > MOST_JOBS {
        reader.error(node.span, at, format!("list at most {MOST_JOBS} values"));
        return None;
    }
    let mut values = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let place = at.index(index);
        let Some(value) = read_value(item, &place, reader) else {
            continue;
        };
        if values.contains(&value.value) {
            reader.error(item.span, &place, format!("remove the second value {}", quoted(&value.value)));
        }
        values.push(value.value);
    }
    (values.len() == items.len()).then_some(values)
}

fn read_value(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Spanned<Text>> {
    let value = reader.text(node, at, VALUES)?;
    check_template(&value.value, value.span, at, reader).then_some(value)
}

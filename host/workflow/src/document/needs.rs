//! `needs`: the jobs that a job waits for.

use std::collections::HashSet;

use super::field::Field;
use super::keys::{Keys, keys, written};
use super::value::{Reader, Text};
use crate::diagnostic::{Pointer, quoted};
use crate::source::Spanned;
use crate::yaml::{Kind, Node};

keys! {
    /// The keys of one need.
    pub(super) enum NeedKey {
        Job = "job",
        Optional = "optional",
        Artifacts = "artifacts",
    }
}

/// One entry of `needs`.
#[derive(Debug, Clone)]
pub(crate) struct Need {
    pub(crate) job: Spanned<Text>,
    pub(crate) index: usize,
    /// The job may be absent from the file.
    pub(crate) optional: bool,
    /// Its artifacts are restored before this job's steps.
    pub(crate) artifacts: bool,
}

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Vec<Need>> {
    let items = reader.list(node, at, "set needs to a list of job names or {job: <name>} entries")?;
    let mut needs = Vec::with_capacity(items.len());
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let place = at.index(index);
        let Some(need) = read_need(item, index, &place, reader) else {
            continue;
        };
        if seen.insert(need.job.value.clone()) {
            needs.push(need);
        } else {
            reader.error(item.span, &place, format!("remove the second need of {}", quoted(&need.job.value)));
        }
    }
    Some(needs)
}

fn read_need(node: &Node, index: usize, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Need> {
    let hint = "set each need to a job name or to {job: <name>}";
    if !matches!(node.kind, Kind::Map(_)) {
        let job = reader.filled_text(node, at, hint)?;
        return Some(Need { job, index, optional: false, artifacts: false });
    }
    let mut job = Field::Absent;
    let mut optional = false;
    let mut artifacts = false;
    for entry in reader.map(node, at, hint)? {
        let place = at.key(&entry.key);
        let value = &entry.value;
        match NeedKey::of(&entry.key) {
            Some(NeedKey::Job) => {
                let hint = "set job to the name of the job to wait for";
                job = reader.filled_text(value, &place, hint).into();
            }
            Some(NeedKey::Optional) => {
                let flag = reader.flag(value, &place, "set optional to true or false");
                optional = flag.is_some_and(|flag| flag.value);
            }
            Some(NeedKey::Artifacts) => {
                let flag = reader.flag(value, &place, "set artifacts to true or false");
                artifacts = flag.is_some_and(|flag| flag.value);
            }
            None => reader.unknown_key(entry, &place, "a need", &written(NeedKey::KEYS)),
        }
    }
    if job.is_absent() {
        reader.error(node.span, &at.key("job"), "add required key job: the name of the job to wait for");
    }
    Some(Need { job: job.into_value()?, index, optional, artifacts })
}

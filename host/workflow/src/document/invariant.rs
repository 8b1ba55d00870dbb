//! `invariant`: any mapping. Loom keeps it and gives it no meaning.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::value::Reader;
use crate::diagnostic::Pointer;
use crate::source::Span;
use crate::yaml::{Entry, Kind, Meaning, Node, Scalar};

/// A mapping of data, sorted by key: the order in the file means nothing.
#[derive(Debug, Clone)]
pub(crate) struct Invariant {
    pub(crate) span: Span,
    pub(crate) data: Arc<BTreeMap<String, Data>>,
}

/// A value without a meaning of its own.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    Plain(Value),
    List(Vec<Data>),
    Map(Arc<BTreeMap<String, Data>>),
}

impl Invariant {
    pub(super) fn merge(&mut self, nearer: &Self) {
        self.span = nearer.span;
        merge(Arc::make_mut(&mut self.data), &nearer.data);
    }

    /// The mapping as JSON.
    pub(crate) fn to_json(&self) -> Value {
        object(&self.data)
    }
}

/// Merges mappings at most as deep as a file nests.
fn merge(below: &mut BTreeMap<String, Data>, nearer: &BTreeMap<String, Data>) {
    for (key, value) in nearer {
        match (below.get_mut(key), value) {
            (Some(Data::Map(below)), Data::Map(nearer)) => merge(Arc::make_mut(below), nearer),
            (Some(below), nearer) => below.clone_from(nearer),
            (None, nearer) => {
                below.insert(key.clone(), nearer.clone());
            }
        }
    }
}

fn object(data: &BTreeMap<String, Data>) -> Value {
    Value::Object(data.iter().map(|(key, value)| (key.clone(), json(value))).collect())
}

/// `data` as JSON.
pub(super) fn json(data: &Data) -> Value {
    match data {
        Data::Plain(value) => value.clone(),
        Data::List(items) => Value::Array(items.iter().map(json).collect()),
        Data::Map(map) => object(map),
    }
}

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Invariant> {
    let entries = reader.map(node, at, "set invariant to a mapping")?;
    Some(Invariant { span: node.span, data: Arc::new(map(entries)) })
}

fn map(entries: &[Entry]) -> BTreeMap<String, Data> {
    entries.iter().map(|entry| (entry.key.clone(), data(&entry.value))).collect()
}

/// What stands in `node`.
pub(super) fn data(node: &Node) -> Data {
    match &node.kind {
        Kind::Scalar(scalar) => Data::Plain(plain(scalar)),
        Kind::List(items) => Data::List(items.iter().map(data).collect()),
        Kind::Map(entries) => Data::Map(Arc::new(map(entries))),
        Kind::Refused => Data::Plain(Value::Null),
    }
}

/// A scalar as JSON; a number that JSON does not have stays as it is written.
fn plain(scalar: &Scalar) -> Value {
    let text = scalar.text.as_str();
    match scalar.meaning() {
        Meaning::Null => Value::Null,
        Meaning::Bool(value) => Value::Bool(value),
        Meaning::Number => {
            let unsigned = text.strip_prefix('+').unwrap_or(text);
            let radix = unsigned
                .strip_prefix("0x")
                .map(|hex| u64::from_str_radix(hex, 16))
                .or_else(|| unsigned.strip_prefix("0o").map(|octal| u64::from_str_radix(octal, 8)));
            let number = match radix {
                Some(number) => number.ok().map(Value::from),
                None => unsigned
                    .parse::<i64>()
                    .map(Value::from)
                    .or_else(|_| unsigned.parse::<u64>().map(Value::from))
                    .ok()
                    .or_else(|| {
                        unsigned.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from)
                    }),
            };
            number.unwrap_or_else(|| text.into())
        }
        Meaning::Text => text.into(),
    }
}

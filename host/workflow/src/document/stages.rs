//! `stages`: the names, in the order in which they run.

use std::collections::HashSet;

use super::value::{Reader, Text, is_name, name_pattern};
use crate::diagnostic::{Pointer, quoted};
use crate::source::Spanned;
use crate::yaml::{Kind, Node};

/// The most characters of a stage's name.
pub(super) const MOST_NAME: usize = 32;

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Vec<Spanned<Text>>> {
    let hint = "set stages to a list of stage names in order, as in `stages: [build, test]`";
    let items = reader.list(node, at, hint)?;
    if items.is_empty() {
        reader.error(node.span, at, hint);
        return None;
    }
    let mut seen = HashSet::new();
    let mut stages = Vec::with_capacity(items.len());
    // A stage that was refused is no reason to call the jobs in it wrong.
    let mut whole = true;
    for (index, item) in items.iter().enumerate() {
        let place = at.index(index);
        let Some(name) = reader.text(item, &place, "set each stage to a name") else {
            whole &= matches!(item.kind, Kind::Scalar(_));
            continue;
        };
        if !is_name(&name.value, MOST_NAME) {
            let hint = format!("rename stage {} to match ^{}$", quoted(&name.value), name_pattern(MOST_NAME));
            reader.error(item.span, &place, hint);
        }
        if seen.insert(name.value.clone()) {
            stages.push(name);
        } else {
            reader.error(item.span, &place, format!("remove the second stage {}", quoted(&name.value)));
        }
    }
    whole.then_some(stages)
}

//! `extends`: the templates and jobs that a job takes over.

use super::value::{Reader, Text};
use crate::diagnostic::Pointer;
use crate::source::Spanned;
use crate::yaml::{Kind, Node};

/// A name in `extends`.
#[derive(Debug, Clone)]
pub(crate) struct Parent {
    pub(crate) name: Spanned<Text>,
    /// Its place in the list; a lone name has none.
    pub(crate) index: Option<usize>,
}

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Vec<Parent>> {
    let hint = "set extends to the name of a template or job, or to a list of names";
    let Kind::List(items) = &node.kind else {
        let name = reader.filled_text(node, at, hint)?;
        return Some(vec![Parent { name, index: None }]);
    };
    let mut parents: Vec<Parent> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        if let Some(name) = reader.filled_text(item, &at.index(index), hint) {
            parents.push(Parent { name, index: Some(index) });
        }
    }
    (parents.len() == items.len()).then_some(parents)
}

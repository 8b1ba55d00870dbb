//! Paths and patterns inside the workspace.

use super::value::{Reader, Text};
use super::variables::check_template;
use crate::diagnostic::{Pointer, quoted};
use crate::source::Spanned;
use crate::yaml::Node;

/// A list of paths or patterns, empty only where `may_be_empty`.
pub(super) fn read(
    node: &Node,
    at: &Pointer<'_>,
    what: &str,
    may_be_empty: bool,
    reader: &mut Reader<'_>,
) -> Option<Spanned<Vec<Text>>> {
    let hint = if may_be_empty {
        format!("set {what} to a list of paths")
    } else {
        format!("set {what} to a non-empty list of paths")
    };
    let items = reader.list(node, at, &hint)?;
    if items.is_empty() && !may_be_empty {
        reader.error(node.span, at, hint);
        return None;
    }
    let mut paths = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        paths.extend(read_one(item, &at.index(index), what, reader).map(|path| path.value));
    }
    (paths.len() == items.len()).then(|| Spanned::new(paths, node.span))
}

/// One path that does not lead out of the workspace by its own words.
pub(super) fn read_one(
    node: &Node,
    at: &Pointer<'_>,
    what: &str,
    reader: &mut Reader<'_>,
) -> Option<Spanned<Text>> {
    let path =
        reader.filled_text(node, at, &format!("set {what} to a path relative to the repository's root"))?;
    if !check_template(&path.value, path.span, at, reader) {
        return None;
    }
    let Some(problem) = outside(&path.value) else { return Some(path) };
    reader.error(path.span, at, format!("correct the path {}: {problem}", quoted(&path.value)));
    None
}

/// What to do about `path` where it leads out of the workspace by its own words.
pub(crate) fn outside(path: &str) -> Option<&'static str> {
    if path.starts_with(['/', '~']) {
        Some("write it relative to the repository's root")
    } else if path.split('/').any(|part| part == "..") {
        Some("remove `..`: it must stay inside the repository")
    } else {
        None
    }
}

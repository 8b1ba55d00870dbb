//! `workspace`: the folders of the run's copy of the repository that stay from run to run.

use super::field::Field;
use super::keys::{Keys, keys, written};
use super::paths;
use super::value::{Reader, Text};
use crate::diagnostic::Pointer;
use crate::source::Spanned;
use crate::yaml::Node;

keys! {
    /// The keys of `workspace`.
    pub(super) enum WorkspaceKey {
        Keep = "keep",
        Key = "key",
    }
}
keys! {
    /// The keys of `workspace.key`.
    pub(super) enum FilesKey {
        Files = "files",
    }
}

const SHAPE: &str = "set workspace to a mapping with keep, as in `workspace: {keep: [target]}`";
const KEY: &str = "set key to a mapping with files, as in `key: {files: [Cargo.lock]}`";

/// What was typed under `workspace`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Workspace {
    /// Each with its place.
    pub(crate) keep: Vec<Spanned<Text>>,
    /// The files that the kept folders depend on.
    pub(crate) files: Vec<Text>,
}

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Workspace> {
    let mut keep = Field::Absent;
    let mut files = Field::Absent;
    for entry in reader.map(node, at, SHAPE)? {
        let place = &at.key(&entry.key);
        let value = &entry.value;
        match WorkspaceKey::of(&entry.key) {
            Some(WorkspaceKey::Keep) => keep = read_keep(value, place, reader).into(),
            Some(WorkspaceKey::Key) => files = read_key(value, place, reader).into(),
            None => reader.unknown_key(entry, place, "workspace", &written(WorkspaceKey::KEYS)),
        }
    }
    if keep.is_absent() {
        reader.error(
            node.span,
            &at.key("keep"),
            "add required key keep: a non-empty list of folders that stay",
        );
    }
    let (keep, files): (Field<Vec<Spanned<Text>>>, Field<Vec<Text>>) = (keep, files);
    Some(Workspace { keep: keep.into_value()?, files: files.into_value().unwrap_or_default() })
}

fn read_keep(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Vec<Spanned<Text>>> {
    const HINT: &str = "set keep to a non-empty list of folders";
    let items = reader.list(node, at, HINT)?;
    if items.is_empty() {
        reader.error(node.span, at, HINT);
        return None;
    }
    let mut keep = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let place = &at.index(index);
        let Some(path) = paths::read_one(item, place, "keep", reader) else { continue };
        let parts = || path.value.split('/').filter(|part| !matches!(*part, "" | "."));
        let problem = if parts().next().is_none() {
            "name a folder in the repository: the whole of it cannot stay"
        } else if parts().any(|part| part == ".git") {
            "leave out what is git's own: it is made anew for each run"
        } else if parts().take(2).eq([".loom", ".runtime"]) || parts().eq([".loom"]) {
            "leave out what is Loom's own"
        } else {
            keep.push(path);
            continue;
        };
        reader.error(path.span, place, problem);
    }
    (keep.len() == items.len()).then_some(keep)
}

fn read_key(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Vec<Text>> {
    let mut files = Field::Absent;
    for entry in reader.map(node, at, KEY)? {
        let place = &at.key(&entry.key);
        match FilesKey::of(&entry.key) {
            Some(FilesKey::Files) => files = paths::read(&entry.value, place, "files", false, reader).into(),
            None => reader.unknown_key(entry, place, "key", &written(FilesKey::KEYS)),
        }
    }
    if files.is_absent() {
        reader.error(node.span, &at.key("files"), "add required key files: a non-empty list of files");
    }
    let files: Field<Spanned<Vec<Text>>> = files;
    files.into_value().map(|files| files.value)
}

//! `include`: other files of the repository.

use super::field::Field;
use super::keys::{Keys, keys, written};
use super::value::{Reader, Text};
use crate::diagnostic::Pointer;
use crate::source::Spanned;
use crate::yaml::Node;

keys! {
    /// The keys of one include.
    pub(super) enum IncludeKey {
        Local = "local",
    }
}
const LOCAL: &str = "set include.local to .loom/templates/<name>.yml or .yaml";

/// A file to read.
#[derive(Debug, Clone)]
pub(crate) struct Include {
    /// Its path, relative to the repository's root.
    pub(crate) local: Spanned<Text>,
    /// Its place in the list.
    pub(crate) index: usize,
}

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Vec<Include> {
    let Some(items) = reader.list(node, at, "set include to a list of {local: <path>} entries") else {
        return Vec::new();
    };
    let mut paths = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let place = at.index(index);
        let Some(entries) = reader.map(item, &place, "set each include to {local: <path>}") else {
            continue;
        };
        let mut local = Field::Absent;
        let errors = reader.errors();
        for entry in entries {
            let place = place.key(&entry.key);
            match IncludeKey::of(&entry.key) {
                Some(IncludeKey::Local) => local = read_local(&entry.value, &place, reader).into(),
                None => reader.unknown_key(entry, &place, "include", &written(IncludeKey::KEYS)),
            }
        }
        if local.is_absent() && reader.errors() == errors {
            reader.error(item.span, &place.key("local"), LOCAL);
        }
        paths.extend(local.into_value().map(|local| Include { local, index }));
    }
    paths
}

fn read_local(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Spanned<Text>> {
    let local = reader.text_or(node, at, LOCAL)?;
    if !is_template_path(&local.value) {
        reader.error(local.span, at, LOCAL);
        return None;
    }
    Some(local)
}

/// Whether `path` stays in the templates' folder by its own words.
fn is_template_path(path: &str) -> bool {
    let Some(rest) = path.strip_prefix(".loom/templates/") else {
        return false;
    };
    let Some(stem) = rest.strip_suffix(".yml").or_else(|| rest.strip_suffix(".yaml")) else {
        return false;
    };
    !stem.is_empty()
        && !stem.ends_with('/')
        && !rest.contains(|char: char| char == '\\' || char.is_control())
        && rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_in_the_templates_folder() {
        for good in ["a.yml", "b/c.yaml", "a..b.yml", "ä ö.yml"] {
            assert!(is_template_path(&format!(".loom/templates/{good}")), "{good}");
        }
        for bad in [
            "",
            ".yml",
            "a",
            "a.json",
            "../a.yml",
            "b/../a.yml",
            "b//a.yml",
            "./a.yml",
            "b/.yml",
            "b\\a.yml",
            "\u{1b}a.yml",
        ] {
            assert!(!is_template_path(&format!(".loom/templates/{bad}")), "{bad}");
        }
        assert!(!is_template_path("a.yml"));
        assert!(!is_template_path("/.loom/templates/a.yml"));
    }
}

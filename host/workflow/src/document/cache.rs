//! `cache`: what is kept from run to run. One cache, a list of named ones, or none.

use std::collections::{HashMap, HashSet};

use loom_contract::graph_ir::{CachePolicy, When};

use super::field::Field;
use super::keys::{Keys, keys, written};
use super::paths;
use super::value::{Reader, Text};
use super::variables::check_template;
use crate::diagnostic::{Pointer, quoted};
use crate::source::{Span, Spanned};
use crate::yaml::{Kind, Meaning, Node};

keys! {
    /// The keys of one cache.
    pub(super) enum EntryKey {
        Name = "name",
        Disabled = "disabled",
        Paths = "paths",
        Key = "key",
        FallbackKeys = "fallback_keys",
        Policy = "policy",
        When = "when",
    }
}
const UNKNOWN: &str =
    "remove unknown cache key; allowed keys are name, disabled, paths, key, fallback_keys, policy, when";
keys! {
    /// The keys of the long form of `key`.
    pub(super) enum KeySpecKey {
        Prefix = "prefix",
        Files = "files",
        Template = "template",
    }
}
pub(super) const POLICIES: [(&str, CachePolicy); 3] =
    [("pull-push", CachePolicy::PullPush), ("pull", CachePolicy::Pull), ("push", CachePolicy::Push)];

/// What was typed under `cache`.
#[derive(Debug, Clone)]
pub(crate) enum Cache {
    /// `[]` or nothing: an inherited cache is turned off.
    Off,
    One(Box<Entry>),
    /// Each has a name, no two the same.
    List(Vec<Entry>),
}

/// One cache.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    pub(crate) span: Span,
    pub(crate) name: Field<Spanned<Text>>,
    pub(crate) disabled: Field<Spanned<bool>>,
    pub(crate) paths: Field<Spanned<Vec<Text>>>,
    pub(crate) key: Field<Key>,
    pub(crate) fallback_keys: Field<Spanned<Vec<Text>>>,
    pub(crate) policy: Field<Spanned<CachePolicy>>,
    pub(crate) when: Field<Spanned<When>>,
}

/// How a cache's key is made.
#[derive(Debug, Clone)]
pub(crate) enum Key {
    Template(Spanned<Text>),
    Spec(KeySpec),
}

/// The long form.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeySpec {
    pub(crate) span: Span,
    pub(crate) prefix: Field<Spanned<Text>>,
    pub(crate) files: Field<Spanned<Vec<Text>>>,
    pub(crate) template: Field<Spanned<Text>>,
}

impl Cache {
    /// Puts `nearer` over this one. Of two lists, entries of one name are merged, and only those that `nearer` names stay.
    pub(super) fn merge(&mut self, nearer: &Self) {
        match (&mut *self, nearer) {
            (Self::One(below), Self::One(nearer)) => below.merge(nearer),
            (Self::List(below), Self::List(nearer)) => {
                let by_name: HashMap<&str, &Entry> =
                    below.iter().filter_map(|entry| Some((&*entry.name.as_ref()?.value, entry))).collect();
                let merged = nearer.iter().map(|nearer| {
                    let same = nearer.name.as_ref().and_then(|name| by_name.get(&*name.value));
                    let mut entry = same.map(|entry| (*entry).clone()).unwrap_or_default();
                    entry.merge(nearer);
                    entry
                });
                *below = merged.collect();
            }
            (below, nearer) => below.clone_from(nearer),
        }
    }

    /// The caches themselves.
    pub(crate) fn entries(&self) -> &[Entry] {
        match self {
            Self::Off => &[],
            Self::One(entry) => std::slice::from_ref(entry),
            Self::List(entries) => entries,
        }
    }

    /// Reports what is missing once everything is inherited.
    pub(crate) fn check(&self, owner: &str, reader: &mut Reader<'_>) {
        let root = Pointer::Root;
        let at = root.key(owner);
        let at = at.key("cache");
        for (index, entry) in self.entries().iter().enumerate() {
            match self {
                Self::List(_) => entry.check(&at.index(index), reader),
                Self::Off | Self::One(_) => entry.check(&at, reader),
            }
        }
    }
}

impl Entry {
    fn merge(&mut self, nearer: &Self) {
        self.span = nearer.span;
        self.name.replace(&nearer.name);
        self.disabled.replace(&nearer.disabled);
        self.paths.replace(&nearer.paths);
        self.key.merge(&nearer.key, Key::merge);
        self.fallback_keys.replace(&nearer.fallback_keys);
        self.policy.replace(&nearer.policy);
        self.when.replace(&nearer.when);
    }

    pub(crate) fn is_disabled(&self) -> bool {
        self.disabled.as_ref().is_some_and(|disabled| disabled.value)
    }

    fn check(&self, at: &Pointer<'_>, reader: &mut Reader<'_>) {
        if self.paths.is_absent() && !self.is_disabled() {
            let hint = "add required key paths: a non-empty list of paths to keep";
            reader.error(self.span, &at.key("paths"), hint);
        }
        if let Some(Key::Spec(key)) = self.key.as_ref()
            && key.template.as_ref().is_some()
            && (key.prefix.as_ref().is_some() || key.files.as_ref().is_some())
        {
            reader.error(key.span, &at.key("key"), "give key either a template, or a prefix and files");
        }
    }
}

impl Key {
    /// Puts `nearer` over this one. Only two long forms are merged.
    fn merge(&mut self, nearer: &Self) {
        match (self, nearer) {
            (Self::Spec(below), Self::Spec(nearer)) => below.merge(nearer),
            (below, nearer) => below.clone_from(nearer),
        }
    }

    /// Where it was given.
    pub(crate) fn span(&self) -> Span {
        match self {
            Self::Template(template) => template.span,
            Self::Spec(spec) => spec.span,
        }
    }
}

impl KeySpec {
    fn merge(&mut self, nearer: &Self) {
        self.span = nearer.span;
        self.prefix.replace(&nearer.prefix);
        self.files.replace(&nearer.files);
        self.template.replace(&nearer.template);
    }
}

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Cache> {
    let hint = "set cache to a mapping, to a list of named mappings, or to [] to turn it off";
    let items = match &node.kind {
        Kind::Scalar(scalar) if scalar.meaning() == Meaning::Null => return Some(Cache::Off),
        Kind::Map(_) => return read_entry(node, at, reader).map(|entry| Cache::One(Box::new(entry))),
        Kind::List(items) if items.is_empty() => return Some(Cache::Off),
        Kind::List(items) => items,
        Kind::Refused => return None,
        Kind::Scalar(_) => {
            reader.error(node.span, at, hint);
            return None;
        }
    };
    let mut entries = Vec::with_capacity(items.len());
    let mut names = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let place = at.index(index);
        let Some(entry) = read_entry(item, &place, reader) else {
            continue;
        };
        match &entry.name {
            Field::Given(name) if names.insert(name.value.clone()) => entries.push(entry),
            Field::Given(name) => {
                let hint =
                    format!("rename the second cache {}: each needs a name of its own", quoted(&name.value));
                reader.error(name.span, &place.key("name"), hint);
            }
            Field::Refused => {}
            Field::Absent => reader.error(
                item.span,
                &place.key("name"),
                "add required key name: caches in a list need one",
            ),
        }
    }
    (entries.len() == items.len()).then_some(Cache::List(entries))
}

fn read_entry(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Entry> {
    let mut cache = Entry { span: node.span, ..Entry::default() };
    for entry in reader.map(node, at, "set each cache to a mapping with name, paths and key")? {
        let place = &at.key(&entry.key);
        let value = &entry.value;
        match EntryKey::of(&entry.key) {
            Some(EntryKey::Name) => {
                cache.name = reader.filled_text(value, place, "set name to a text").into();
            }
            Some(EntryKey::Disabled) => {
                cache.disabled = reader.flag(value, place, "set disabled to true or false").into();
            }
            Some(EntryKey::Paths) => {
                cache.paths = paths::read(value, place, "paths", false, reader).into();
            }
            Some(EntryKey::Key) => cache.key = read_key(value, place, reader).into(),
            Some(EntryKey::FallbackKeys) => {
                let keys = reader.texts(value, place, "set fallback_keys to a list of texts");
                let keys = keys.filter(|keys| {
                    keys.value
                        .iter()
                        .zip(0..)
                        .all(|(key, at)| check_template(key, keys.span, &place.index(at), reader))
                });
                cache.fallback_keys = keys.into();
            }
            Some(EntryKey::Policy) => {
                cache.policy = reader.choice(value, place, "policy", &POLICIES).into();
            }
            Some(EntryKey::When) => {
                cache.when = reader.choice(value, place, "when", &super::WHEN).into();
            }
            None => reader.unknown_key_with(entry, place, UNKNOWN, &written(EntryKey::KEYS)),
        }
    }
    Some(cache)
}

fn read_key(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Key> {
    let hint = "set key to a text, or to a mapping of prefix and files";
    if !matches!(node.kind, Kind::Map(_)) {
        let text = reader.filled_text(node, at, hint)?;
        return check_template(&text.value, text.span, at, reader).then_some(Key::Template(text));
    }
    let mut key = KeySpec { span: node.span, ..KeySpec::default() };
    for entry in reader.map(node, at, hint)? {
        let place = &at.key(&entry.key);
        let value = &entry.value;
        match KeySpecKey::of(&entry.key) {
            Some(KeySpecKey::Prefix) => {
                let prefix = reader.filled_text(value, place, "set prefix to a text");
                let prefix = prefix.filter(|text| check_template(&text.value, text.span, place, reader));
                key.prefix = prefix.into();
            }
            Some(KeySpecKey::Files) => {
                key.files = paths::read(value, place, "files", false, reader).into();
            }
            Some(KeySpecKey::Template) => {
                let template = reader.filled_text(value, place, "set template to a text");
                let template = template.filter(|text| check_template(&text.value, text.span, place, reader));
                key.template = template.into();
            }
            None => reader.unknown_key(entry, place, "key", &written(KeySpecKey::KEYS)),
        }
    }
    Some(Key::Spec(key))
}

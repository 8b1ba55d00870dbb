//! Reading a job, a template, or `default`, which has some of their keywords.

use super::RootKey;
use super::foreign;
use super::keys::{Keys, written};
use super::keyword::{Job, Keyword};
use super::value::{Reader, Text, is_name, listed, name_pattern};
use crate::diagnostic::{Pointer, quoted};
use crate::source::Spanned;
use crate::yaml::Entry;

/// The most characters of a job's name, without a template's dot.
pub(super) const MOST_NAME: usize = 64;

/// A name like `name` that a job may have.
fn slug(name: &str) -> Option<String> {
    let mut slug = String::new();
    for char in name.strip_prefix('.').unwrap_or(name).chars() {
        match char {
            'a'..='z' | '0'..='9' | '_' | '-' => slug.push(char),
            'A'..='Z' => slug.push(char.to_ascii_lowercase()),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    let dot = if name.starts_with('.') { "." } else { "" };
    is_name(&slug, MOST_NAME).then(|| format!("{dot}{slug}"))
}

impl Job {
    /// Whether it never runs itself.
    pub(crate) fn is_template(&self) -> bool {
        self.name.value.starts_with('.')
    }

    /// Reads a job or template.
    pub(super) fn read(entry: &Entry, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let bare = entry.key.strip_prefix('.').unwrap_or(&entry.key);
        if !is_name(bare, MOST_NAME) {
            let key = quoted(&entry.key);
            let hint = match slug(&entry.key) {
                Some(meant) => {
                    format!("rename job {key} to {}: small letters, digits, `-` and `_`", quoted(&meant))
                }
                None => format!("rename job {key} to match ^\\.?{}$", name_pattern(MOST_NAME)),
            };
            reader.error(entry.key_span, at, hint);
        }
        let hint = format!(
            "set job {} to a mapping of job keywords; the file's own keys are {}",
            quoted(&entry.key),
            listed(&written(RootKey::KEYS))
        );
        let entries = reader.map(&entry.value, at, &hint)?;
        let mut job = Self::of(entry, entry.key.as_str().into());
        for entry in entries {
            let place = at.key(&entry.key);
            match Keyword::of(&entry.key) {
                Some(keyword) => job.read_keyword(keyword, &entry.value, &place, reader),
                None => job.refuse_unknown(entry, &place, reader),
            }
        }
        Some(job)
    }

    /// Reads `default`.
    pub(super) fn read_default(entry: &Entry, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let hint = "set default to a mapping of job keywords";
        let entries = reader.map(&entry.value, at, hint)?;
        let mut job = Self::of(entry, "default".into());
        for entry in entries {
            let place = at.key(&entry.key);
            match Keyword::of(&entry.key) {
                Some(keyword) if Keyword::IN_DEFAULT.contains(&keyword) => {
                    job.read_keyword(keyword, &entry.value, &place, reader);
                }
                Some(keyword) => {
                    let key = keyword.name();
                    let hint = format!("move `{key}` into the jobs or a template; default does not allow it");
                    reader.error(entry.key_span, &place, hint);
                }
                None => match foreign::job_key(&entry.key) {
                    Some((hint, _)) => reader.error(entry.key_span, &place, hint),
                    None => reader.unknown_key(entry, &place, "default", &written(Keyword::IN_DEFAULT)),
                },
            }
        }
        Some(job)
    }

    /// Counts every keyword as present: for a job of which not all could be read.
    pub(crate) fn mark_all_present(&mut self) {
        Keyword::ALL.iter().for_each(|keyword| self.mark_present(*keyword));
    }

    /// Puts another definition of the same job over this one, as the including file does.
    pub(crate) fn merge_definition(&mut self, nearer: &Self) {
        self.merge(nearer);
        self.name = nearer.name.clone();
        self.span = nearer.span;
    }

    /// A job without keywords, in the place of `entry`.
    fn of(entry: &Entry, name: Text) -> Self {
        let mut job = Self::empty(Spanned::new(name, entry.key_span));
        job.span = entry.key_span.to(entry.value.span);
        job.weight = entry.weight();
        job
    }

    /// Reports a key that no job has, and counts the keyword that was probably meant as present.
    fn refuse_unknown(&mut self, entry: &Entry, at: &Pointer<'_>, reader: &mut Reader<'_>) {
        if let Some((hint, keyword)) = foreign::job_key(&entry.key) {
            keyword.and_then(Keyword::of).into_iter().for_each(|keyword| self.mark_present(keyword));
            reader.error(entry.key_span, at, hint);
            return;
        }
        let key = quoted(&entry.key);
        let meant = reader.similar(&entry.key, written(Keyword::ALL));
        let hint = match meant {
            Some(meant) => format!("rename unknown key {key}; did you mean `{meant}`?"),
            None => {
                let known = listed(&written(Keyword::ALL));
                format!("remove unknown key {key}; a job allows {known}")
            }
        };
        if let Some(keyword) = meant.and_then(Keyword::of) {
            self.mark_present(keyword);
        }
        reader.error(entry.key_span, at, hint);
    }
}

//! Reading the plain shapes: texts, flags, lists, mappings.

use std::sync::Arc;

use crate::diagnostic::{Pointer, Problems, quoted};
use crate::source::{Span, Spanned};
use crate::yaml::{Entry, Kind, Meaning, Node};

/// A text that many jobs may share.
pub(crate) type Text = Arc<str>;

/// Reads values and collects what is wrong with them. `hint` always says what the value should be.
#[derive(Debug)]
pub(crate) struct Reader<'p> {
    problems: &'p mut Problems,
}

impl<'p> Reader<'p> {
    pub(crate) fn new(problems: &'p mut Problems) -> Self {
        Self { problems }
    }

    pub(crate) fn error(&mut self, span: Span, at: &Pointer<'_>, hint: impl Into<String>) {
        self.problems.error(span, at, hint);
    }

    /// How many errors were noted so far.
    pub(crate) fn errors(&self) -> usize {
        self.problems.errors()
    }

    pub(crate) fn warning(&mut self, span: Span, at: &Pointer<'_>, hint: impl Into<String>) {
        self.problems.warning(span, at, hint);
    }

    pub(crate) fn similar<'c>(
        &mut self,
        name: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> Option<&'c str> {
        self.problems.similar(name, candidates)
    }

    /// A text, also an empty one. A number, a boolean or nothing is no text.
    pub(crate) fn text(&mut self, node: &Node, at: &Pointer<'_>, hint: &str) -> Option<Spanned<Text>> {
        if let Kind::Scalar(scalar) = &node.kind
            && matches!(scalar.meaning(), Meaning::Bool(_) | Meaning::Number)
        {
            let text = quoted(&format!("\"{}\"", scalar.text));
            self.error(node.span, at, format!("{hint}; quote it to make it text: {text}"));
            return None;
        }
        self.text_or(node, at, hint)
    }

    /// The same, with a hint that is fixed to the letter.
    pub(crate) fn text_or(&mut self, node: &Node, at: &Pointer<'_>, hint: &str) -> Option<Spanned<Text>> {
        match &node.kind {
            Kind::Scalar(scalar) => match scalar.meaning() {
                Meaning::Text if scalar.text.contains('\0') => {
                    self.error(node.span, at, "remove the NUL character: no program can be given one");
                    None
                }
                Meaning::Text => Some(Spanned::new(scalar.text.as_str().into(), node.span)),
                Meaning::Null | Meaning::Bool(_) | Meaning::Number => {
                    self.error(node.span, at, hint);
                    None
                }
            },
            Kind::Refused => None,
            Kind::List(_) | Kind::Map(_) => {
                self.error(node.span, at, hint);
                None
            }
        }
    }

    /// A text that is not blank.
    pub(crate) fn filled_text(&mut self, node: &Node, at: &Pointer<'_>, hint: &str) -> Option<Spanned<Text>> {
        let text = self.text(node, at, hint)?;
        if text.value.trim().is_empty() {
            self.error(node.span, at, hint);
            return None;
        }
        Some(text)
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, node: &Node, at: &Pointer<'_>, hint: &str) -> Option<Spanned<bool>> {
        match &node.kind {
            Kind::Scalar(scalar) => {
                if let Meaning::Bool(value) = scalar.meaning() {
                    return Some(Spanned::new(value, node.span));
                }
                self.error(node.span, at, hint);
                None
            }
            Kind::Refused => None,
            Kind::List(_) | Kind::Map(_) => {
                self.error(node.span, at, hint);
                None
            }
        }
    }

    /// A list of texts, which may be empty.
    pub(crate) fn texts(&mut self, node: &Node, at: &Pointer<'_>, hint: &str) -> Option<Spanned<Vec<Text>>> {
        let items = self.list(node, at, hint)?;
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            texts.extend(self.text(item, &at.index(index), hint).map(|text| text.value));
        }
        (texts.len() == items.len()).then(|| Spanned::new(texts, node.span))
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        node: &Node,
        at: &Pointer<'_>,
        what: &str,
        choices: &[(&str, T)],
    ) -> Option<Spanned<T>> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let hint = format!("set {what} to one of {}", words.join(", "));
        let text = self.text(node, at, &hint)?;
        let choice = choices.iter().find(|(word, _)| **word == *text.value);
        if choice.is_none() {
            let hint = match self.similar(&text.value, words) {
                Some(meant) => format!("{hint}; did you mean `{meant}`?"),
                None => hint,
            };
            self.error(node.span, at, hint);
        }
        choice.map(|(_, value)| Spanned::new(*value, node.span))
    }

    pub(crate) fn list<'n>(&mut self, node: &'n Node, at: &Pointer<'_>, hint: &str) -> Option<&'n [Node]> {
        match &node.kind {
            Kind::List(items) => Some(items),
            Kind::Refused => None,
            Kind::Scalar(_) | Kind::Map(_) => {
                self.error(node.span, at, hint);
                None
            }
        }
    }

    pub(crate) fn map<'n>(&mut self, node: &'n Node, at: &Pointer<'_>, hint: &str) -> Option<&'n [Entry]> {
        match &node.kind {
            Kind::Map(entries) => Some(entries),
            Kind::Refused => None,
            Kind::Scalar(_) | Kind::List(_) => {
                self.error(node.span, at, hint);
                None
            }
        }
    }

    /// Reports a key of `owner` that the language does not have.
    pub(crate) fn unknown_key(&mut self, entry: &Entry, at: &Pointer<'_>, owner: &str, allowed: &[&str]) {
        if let Some(hint) = super::foreign::nested_key(owner, &entry.key) {
            return self.error(entry.key_span, at, hint);
        }
        let key = quoted(&entry.key);
        let hint = match self.similar(&entry.key, allowed.iter().copied()) {
            Some(meant) => format!("rename unknown key {key}; did you mean `{meant}`?"),
            None => format!("remove unknown key {key}; {owner} allows {}", listed(allowed)),
        };
        self.error(entry.key_span, at, hint);
    }

    /// Reports a key with a hint that is fixed to the letter; a similar key is named beside the caret.
    pub(crate) fn unknown_key_with(&mut self, entry: &Entry, at: &Pointer<'_>, hint: &str, allowed: &[&str]) {
        let label =
            self.similar(&entry.key, allowed.iter().copied()).map(|meant| format!("did you mean `{meant}`?"));
        self.problems.error_labelled(entry.key_span, at, hint, label);
    }
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// What names of jobs, stages and providers look like: a regular expression without its ends.
pub(super) fn name_pattern(most: usize) -> String {
    format!("[a-z][a-z0-9_-]{{0,{}}}", most - 1)
}

/// Whether the whole of `text` matches [`name_pattern`].
pub(crate) fn is_name(text: &str, most: usize) -> bool {
    text.len() <= most
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'))
}

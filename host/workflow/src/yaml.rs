//! YAML text to a tree that knows where everything was written.
//!
//! Only a plain part of YAML is let through: one document, no anchors, aliases, merge keys or tags, every key a text and
//! given once. What is refused is reported and left out, so that reading goes on.

mod line;
mod slip;

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, options};

use crate::diagnostic::{Pointer, Problems, quoted};
use crate::source::{Sources, Span};

/// How many lists and mappings may stand inside each other.
const MOST_DEPTH: usize = 64;

/// How many keys and values the files of a workflow may have together: as many as 4 MiB of an ordinary one have. A hostile
/// text has one in every other byte, and each takes far more memory than its text.
pub(crate) const MOST_VALUES: usize = 200_000;

const TAG: &str = "remove the tag: a value is what it is written as; quote it to make it text";
const EXTENDS_INSTEAD: &str = "reuse definitions with `extends` instead";

/// A value.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Was refused, and that has been reported.
    Refused,
}

#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) style: Style,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Quoted,
    Literal,
    Folded,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

/// What one value takes beside its text, in bytes, wherever it is kept.
const VALUE_WEIGHT: usize = 64;

impl Entry {
    /// About how many bytes the key and its value take wherever they are kept. Calls itself at most as deep as a file
    /// nests.
    pub(crate) fn weight(&self) -> usize {
        VALUE_WEIGHT + self.key_span.len() + self.value.weight()
    }
}

impl Node {
    pub(crate) fn weight(&self) -> usize {
        let inside = match &self.kind {
            Kind::Scalar(scalar) => scalar.text.len(),
            Kind::List(items) => items.iter().map(Self::weight).sum(),
            Kind::Map(entries) => entries.iter().map(Entry::weight).sum(),
            Kind::Refused => 0,
        };
        VALUE_WEIGHT + inside
    }
}

/// What a plain scalar means in YAML 1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    Null,
    Bool(bool),
    Number,
    Text,
}

impl Scalar {
    /// The meaning by YAML's core schema: only an unquoted scalar can be something else than text.
    pub(crate) fn meaning(&self) -> Meaning {
        if self.style != Style::Plain {
            return Meaning::Text;
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
            "true" | "True" | "TRUE" => Meaning::Bool(true),
            "false" | "False" | "FALSE" => Meaning::Bool(false),
            text if is_number(text) => Meaning::Number,
            _ => Meaning::Text,
        }
    }
}

fn is_number(text: &str) -> bool {
    let all = |text: &str, is: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|byte| is(&byte));
    if let Some(octal) = text.strip_prefix("0o") {
        return all(octal, |byte| (b'0'..=b'7').contains(byte));
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return all(hex, u8::is_ascii_hexdigit);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| all(text, u8::is_ascii_digit);
    let mantissa_fits = match mantissa.split_once('.') {
        Some((whole, fraction)) => {
            (digits(whole) && (fraction.is_empty() || digits(fraction)))
                || (whole.is_empty() && digits(fraction))
        }
        None => digits(mantissa),
    };
    let exponent_fits =
        exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)));
    mantissa_fits && exponent_fits
}

/// Reads the text of `file`, of whose keys and values at most `left` are read; as many are taken from it. `None` where
/// nothing can be made of the file, which has then been reported.
pub(crate) fn parse(sources: &Sources, file: u32, left: &mut usize, problems: &mut Problems) -> Option<Node> {
    let text = sources.text(file);
    let whole = Span::new(file, 0..0);
    let (size, most) = (sources.size(file), Sources::MOST_BYTES);
    if size > most {
        let hint = format!("split the file: it has {size} bytes, and at most {most} are read");
        problems.error(whole, Pointer::Root, hint);
        return None;
    }
    if let Some((at, char)) = first_unprintable(text) {
        let span = Span::new(file, at..at + char.len_utf8());
        let hint = format!("remove the control character U+{:04X}", u32::from(char));
        problems.error(span, Pointer::Root, hint);
        return None;
    }
    let options = options! {
        emit_anchor_events: true,
        emit_unresolved_aliases: true,
        emit_comments: false,
        flow_nesting_limit: MOST_DEPTH,
        block_nesting_limit: MOST_DEPTH,
    };
    let mut builder =
        Builder { sources, file, left, problems, open: Vec::new(), root: None, documents: 0, within: 0 };
    for event in Parser::new_from_str_with_options(text, options) {
        let flow = match event {
            Ok((event, span)) => {
                let span = builder.span(span.byte_range().unwrap_or(0..0), span.tag_span());
                builder.take(event, span)
            }
            Err(error) => {
                builder.syntax_error(&error);
                Flow::Stop
            }
        };
        if matches!(flow, Flow::Stop) {
            return None;
        }
    }
    let root = builder.root;
    if root.is_none() {
        let hint = "write a mapping with `version`, `stages` and at least one job: the file is empty";
        problems.error(whole, Pointer::Root, hint);
    }
    root
}

/// The first character that YAML does not allow in a text, which includes those that would steer a terminal.
fn first_unprintable(text: &str) -> Option<(usize, char)> {
    let suspicious =
        |byte: u8| (byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r')) || byte == 0x7f || byte == 0xc2;
    if !text.bytes().any(suspicious) {
        return None;
    }
    text.char_indices().find(|(_, char)| char.is_control() && !matches!(char, '\t' | '\n' | '\r' | '\u{85}'))
}

enum Flow {
    On,
    Stop,
}

/// The spans of an event: of the node, and of its tag.
struct EventSpan {
    node: Span,
    tag: Option<Span>,
}

struct Builder<'a> {
    sources: &'a Sources,
    file: u32,
    left: &'a mut usize,
    problems: &'a mut Problems,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    /// How many lists and mappings are open of a value that was refused as a whole.
    within: usize,
}

/// A list or mapping whose end has not come yet.
enum Open {
    List { start: Span, items: Vec<Node> },
    Map(OpenMap),
}

struct OpenMap {
    start: Span,
    entries: Vec<Entry>,
    key: Option<Key>,
    /// Where each key stands, once there are too many to look through.
    index: HashMap<String, usize>,
}

enum Key {
    Given {
        text: String,
        span: Span,
    },
    /// The value that follows is left out.
    Refused,
}

impl Builder<'_> {
    fn span(&self, range: std::ops::Range<usize>, tag: Option<granit_parser::Span>) -> EventSpan {
        EventSpan {
            node: Span::new(self.file, range),
            tag: tag.and_then(|tag| tag.byte_range()).map(|range| Span::new(self.file, range)),
        }
    }

    fn take(&mut self, event: Event<'_>, span: EventSpan) -> Flow {
        if self.within > 0 {
            match event {
                Event::SequenceStart(..) | Event::MappingStart(..) => self.within += 1,
                Event::SequenceEnd | Event::MappingEnd => self.within -= 1,
                _ => {}
            }
            return Flow::On;
        }
        if event.tag().is_some() {
            let tag = span.tag.unwrap_or(span.node);
            let (hint, is_command) = self.about_tag(tag);
            let pointer = self.pointer();
            self.problems.error(tag, pointer, hint);
            if is_command {
                return self.refuse(&event, span.node);
            }
        }
        let span = span.node;
        let is_value = matches!(
            event,
            Event::Scalar(..)
                | Event::Alias(_)
                | Event::UnresolvedAlias(_)
                | Event::SequenceStart(..)
                | Event::MappingStart(..)
        );
        if is_value && *self.left == 0 {
            let hint = format!(
                "shorten the workflow: with what it includes, it has more than {MOST_VALUES} keys and values"
            );
            self.problems.error(span, Pointer::Root, hint);
            return Flow::Stop;
        }
        *self.left -= usize::from(is_value);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let hint = "keep one document in the file: remove `---` and what follows it";
                    self.problems.error(span, Pointer::Root, hint);
                    return Flow::Stop;
                }
            }
            Event::Anchor(_, name) => {
                let hint = format!("remove the anchor {}; {EXTENDS_INSTEAD}", quoted(&format!("&{name}")));
                let pointer = self.pointer();
                self.problems.error(span, pointer, hint);
            }
            // What a refused key would have been given is not worth a second message.
            Event::Alias(_) | Event::UnresolvedAlias(_) if self.after_refused_key() => {
                self.put(Node { span, kind: Kind::Refused });
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let alias = self.written(span);
                let is_name = alias[1..].chars().all(|char| char.is_alphanumeric() || "_-".contains(char));
                let alias = quoted(alias);
                let hint = match is_name {
                    true => format!("remove the alias {alias}; {EXTENDS_INSTEAD}"),
                    false => format!("quote {alias}: YAML takes `*` for the beginning of an alias"),
                };
                let pointer = self.pointer();
                self.problems.error(span, pointer, hint);
                self.put(Node { span, kind: Kind::Refused });
            }
            Event::Scalar(text, style, ..) => {
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
                    ScalarStyle::Literal => Style::Literal,
                    ScalarStyle::Folded => Style::Folded,
                };
                self.put_scalar(Scalar { text: text.into_owned(), style }, span);
            }
            Event::SequenceStart(..) => {
                return self.enter(Open::List { start: span, items: Vec::new() }, span);
            }
            Event::MappingStart(..)
                if self.sources.text(self.file)[span.start as usize..].starts_with("{{") =>
            {
                let hint = "quote the text: YAML takes `{{` for the beginning of a mapping";
                let pointer = self.pointer();
                self.problems.error(span, pointer, hint);
                return self.refuse(&event, span);
            }
            Event::MappingStart(..) => {
                let map = OpenMap { start: span, entries: Vec::new(), key: None, index: HashMap::new() };
                return self.enter(Open::Map(map), span);
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { start, items }) => {
                    let last = items.last().map(|item| item.span);
                    self.put(Node { span: start.to(end_of(span, last)), kind: Kind::List(items) });
                }
                Some(Open::Map(map)) => {
                    let last = map.entries.last().map(|entry| entry.value.span);
                    let first = map.entries.first().map_or(map.start, |entry| entry.key_span);
                    let start = map.start.min(first);
                    self.put(Node { span: start.to(end_of(span, last)), kind: Kind::Map(map.entries) });
                }
                None => {}
            },
            _ => {}
        }
        Flow::On
    }

    /// Leaves out the value that begins with `event`, which has been reported.
    fn refuse(&mut self, event: &Event<'_>, span: Span) -> Flow {
        self.within = usize::from(matches!(event, Event::SequenceStart(..) | Event::MappingStart(..)));
        self.put(Node { span, kind: Kind::Refused });
        Flow::On
    }

    /// What to do about a tag, and whether it was meant as part of a text.
    fn about_tag(&self, tag: Span) -> (&'static str, bool) {
        match self.written(tag) {
            "!reference" => (
                "write `extends: .name` to take over what another has, or repeat the lines: `!reference` is GitLab's",
                true,
            ),
            "!" => ("quote the text: YAML takes `!` for the beginning of a tag", true),
            _ => (TAG, false),
        }
    }

    /// The text at `span`, as far as it is on one line.
    fn written(&self, span: Span) -> &str {
        let (line, range) = self.sources.line(span);
        line.get(range).unwrap_or("*")
    }

    fn after_refused_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Map(OpenMap { key: Some(Key::Refused), .. })))
    }

    fn enter(&mut self, open: Open, span: Span) -> Flow {
        if self.open.len() >= MOST_DEPTH {
            self.too_deep(span);
            return Flow::Stop;
        }
        self.open.push(open);
        Flow::On
    }

    fn too_deep(&mut self, span: Span) {
        let hint = format!("nest lists and mappings at most {MOST_DEPTH} deep");
        self.problems.error(span, Pointer::Root, hint);
    }

    fn put_scalar(&mut self, scalar: Scalar, span: Span) {
        if !matches!(self.open.last(), Some(Open::Map(OpenMap { key: None, .. }))) {
            return self.put(Node { span, kind: Kind::Scalar(scalar) });
        }
        let problem = self.key_problem(&scalar);
        if let Some(hint) = &problem {
            let at = self.pointer();
            let at = if at == "/" { String::new() } else { at };
            self.problems.error(span, format_args!("{at}{}", Pointer::Root.key(&scalar.text)), hint.as_str());
        }
        if let Some(Open::Map(map)) = self.open.last_mut() {
            map.key = Some(match problem {
                None => Key::Given { text: scalar.text, span },
                Some(_) => Key::Refused,
            });
        }
    }

    /// Why the key may not stand in the innermost mapping.
    fn key_problem(&mut self, scalar: &Scalar) -> Option<String> {
        if scalar.text == "<<" && scalar.style == Style::Plain {
            return Some(format!("remove the merge key `<<`; {EXTENDS_INSTEAD}"));
        }
        let Some(Open::Map(map)) = self.open.last_mut() else {
            return None;
        };
        let first = map.find(&scalar.text)?;
        let line = self.sources.line_number(map.entries.get(first)?.key_span);
        Some(format!("remove duplicate key {}; it stands in line {line} already", quoted(&scalar.text)))
    }

    /// Adds a finished value to what it belongs to.
    fn put(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map(map)) => match map.key.take() {
                Some(Key::Given { text, span }) => {
                    // A value that is not there has no place of its own.
                    let node = if node.span.start == node.span.end { Node { span, ..node } } else { node };
                    map.push(Entry { key: text, key_span: span, value: node });
                }
                Some(Key::Refused) => {}
                None => {
                    map.key = Some(Key::Refused);
                    // A refused alias has its message already.
                    if !matches!(node.kind, Kind::Refused) {
                        let pointer = self.pointer();
                        self.problems.error(
                            node.span,
                            pointer,
                            "write the key as a text: it is a list or mapping",
                        );
                    }
                }
            },
        }
    }

    /// The place of the innermost open value.
    fn pointer(&self) -> String {
        Self::place(&self.open)
    }

    /// The same, of those that begin before `span`.
    fn pointer_before(&self, span: Span) -> String {
        let begins_later = |open: &Open| match open {
            Open::List { start, .. } => start.start >= span.start,
            Open::Map(map) => {
                let first = map.entries.first().map_or(map.start, |entry| entry.key_span);
                let key = match &map.key {
                    Some(Key::Given { span, .. }) if map.entries.is_empty() => *span,
                    _ => first,
                };
                key.start >= span.start
            }
        };
        let within = self.open.iter().position(begins_later).unwrap_or(self.open.len());
        Self::place(&self.open[..within])
    }

    fn place(open: &[Open]) -> String {
        let mut text = String::new();
        for open in open {
            match open {
                Open::List { items, .. } => text.push_str(&Pointer::Root.index(items.len()).to_string()),
                Open::Map(OpenMap { key: Some(Key::Given { text: key, .. }), .. }) => {
                    text.push_str(&Pointer::Root.key(key).to_string());
                }
                Open::Map(_) => {}
            }
        }
        if text.is_empty() { "/".to_owned() } else { text }
    }

    fn syntax_error(&mut self, error: &ScanError) {
        let at = error.marker().byte_offset().unwrap_or(0);
        let span = Span::new(self.file, at..at + 1);
        match error.kind() {
            ErrorKind::RecursionLimitExceeded => self.too_deep(span),
            ErrorKind::UndeclaredTagHandle => self.problems.error(span, self.pointer(), TAG),
            ErrorKind::TabInIndentation
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabNotAllowed
            | ErrorKind::TabInPlainScalar
            | ErrorKind::TabAtBlockScalarStart => {
                let tab = line::indenting_tab(self.sources.text(self.file), at).unwrap_or(at);
                let span = Span::new(self.file, tab..tab + 1);
                self.problems.error(span, self.pointer(), "indent with spaces: YAML allows no tab here");
            }
            _ => match slip::find(self.sources.text(self.file), at) {
                Some(slip) => {
                    let span = Span::new(self.file, slip.at);
                    self.problems.error(span, self.pointer_before(span), slip.hint);
                }
                None => {
                    let hint = format!("correct the YAML: {}", error.info());
                    self.problems.error(span, self.pointer(), hint);
                }
            },
        }
    }
}

/// Where a list or mapping ends: at its bracket, or with its last value where it has none.
fn end_of(bracket: Span, last: Option<Span>) -> Span {
    match last {
        Some(last) if bracket.len() == 0 => last,
        _ => bracket,
    }
}

impl OpenMap {
    /// From how many keys on they are found by a table: below, looking through them is faster.
    const INDEXED_FROM: usize = 24;

    fn find(&self, key: &str) -> Option<usize> {
        if self.index.is_empty() {
            self.entries.iter().position(|entry| entry.key == key)
        } else {
            self.index.get(key).copied()
        }
    }

    fn push(&mut self, entry: Entry) {
        if !self.index.is_empty() {
            self.index.insert(entry.key.clone(), self.entries.len());
        }
        self.entries.push(entry);
        if self.entries.len() == Self::INDEXED_FROM {
            self.index = self.entries.iter().zip(0..).map(|(entry, at)| (entry.key.clone(), at)).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_core_schema() {
        for number in ["0", "-12", "+3", "0o17", "0xFf", "1.", ".5", "1.5e-3", "1e9", "-.inf", ".NaN"] {
            assert!(is_number(number), "{number}");
        }
        for text in ["", "-", ".", "1.2.3", "0o8", "0x", "1e", "e1", "1_000", "+.nan", "16a", "-e", "1:30"] {
            assert!(!is_number(text), "{text}");
        }
    }
}

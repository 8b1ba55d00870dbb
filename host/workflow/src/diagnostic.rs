//! What is wrong with a workflow: where, and what to do about it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use loom_contract::error::code;
use loom_contract::receipt::WorkflowError;
use loom_contract::visible::{on_one_line, visible};

use crate::source::{Cursor, Sources, Span};

/// More problems than these are counted, not kept: nobody reads them, and a hostile file would fill the memory.
const MOST_PROBLEMS: usize = 1000;
/// Characters of a value that a hint repeats.
const MOST_QUOTED: usize = 80;
/// Bytes of a hint: more than the longest chain of names takes.
const MOST_HINT: usize = 8 * 1024;
/// Bytes of a line that an excerpt shows.
const MOST_EXCERPT: usize = 160;

/// Errors and warnings, in the order of the text: the root file first, then the files that it includes.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
    left_out: usize,
    sources: Arc<Sources>,
}

/// One error or warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it stops the workflow.
    pub severity: Severity,
    /// Stable machine code: `WF_SCHEMA_V1`, `WF_STEP_STATE`, or `WF_NOT_SUPPORTED` in
    /// [`Plan::not_executable`](crate::Plan::not_executable).
    pub code: &'static str,
    /// Where in the document: a JSON pointer of raw keys; `/` is the document itself.
    pub pointer: String,
    /// What to do, as an imperative.
    pub hint: String,
    /// The file, as its path was given to [`load`](crate::load) or in `include`.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What the caret's line says beside it.
    label: Option<String>,
    span: Span,
}

/// Whether a problem stops the workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

impl Diagnostics {
    /// Whether the workflow breaks a rule.
    pub fn has_errors(&self) -> bool {
        self.items.iter().any(|item| item.severity == Severity::Error)
    }

    /// Keeps those for which `keep` says so.
    pub fn retain(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        self.items.retain(keep);
    }

    /// All of them, in the order of the text.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.items.iter()
    }

    /// How many were found and not kept, because there were more than a thousand.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// One line each: `<file>:<line>:<col>: WF_SCHEMA_V1 <pointer>: <hint>`, a warning with `warning: ` before the code.
    pub fn render_short(&self) -> String {
        let mut text = String::new();
        for item in &self.items {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "{item}");
        }
        self.render_left_out(&mut text);
        text
    }

    /// Each with the line that it is about and a caret under the place; `color` adds ANSI sequences.
    pub fn render_excerpt(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for item in &self.items {
            text.push_str(&renderer.render(&[self.excerpt(item)]));
            text.push_str("\n\n");
        }
        self.render_left_out(&mut text);
        text.truncate(text.trim_end().len());
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }

    /// The errors as the receipt of a check holds them.
    pub fn to_contract(&self) -> Vec<WorkflowError> {
        self.items
            .iter()
            .filter(|item| item.severity == Severity::Error)
            .map(|item| WorkflowError {
                code: item.code.to_owned(),
                pointer: item.pointer.clone(),
                hint: item.hint.clone(),
                file: item.file.clone(),
                line: item.line,
                column: item.column,
            })
            .collect()
    }

    fn excerpt<'a>(&'a self, item: &'a Diagnostic) -> Group<'a> {
        let level = match item.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let (line, range) = self.sources.line(item.span);
        let (piece, range) = shorten(line, range);
        let whole = piece.len() == line.len();
        // Written out before it is measured, so that the caret stands under what is meant.
        let [before, meant, after] =
            [0..range.start, range.clone(), range.end..piece.len()].map(|part| visible(&piece[part]));
        let range = before.len()..before.len() + meant.len();
        let annotation = AnnotationKind::Primary.span(range).label(item.label.as_deref());
        let shown = [before, meant, after].concat();
        let snippet = Snippet::source(shown).line_start(item.line as usize).annotation(annotation);
        let group = level.primary_title(format!("{}: {}", item.pointer, item.hint)).id(item.code);
        let file = on_one_line(&item.file);
        if whole {
            return group.element(snippet.path(file));
        }
        // The column in a piece of a line is not the column in the file.
        let origin = Origin::path(file).line(item.line as usize).char_column(item.column as usize);
        group.element(origin).element(snippet)
    }

    fn render_left_out(&self, text: &mut String) {
        if self.left_out > 0 {
            let _ = writeln!(text, "{} more problems are not shown", self.left_out);
        }
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, pointer, hint, file, line, column, .. } = self;
        let warning = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        write!(f, "{}:{line}:{column}: {warning}{code} {pointer}: {hint}", on_one_line(file))
    }
}

/// Cuts a line that is too long for an excerpt to a piece around `range`.
fn shorten(line: &str, range: std::ops::Range<usize>) -> (&str, std::ops::Range<usize>) {
    if line.len() <= MOST_EXCERPT {
        return (line, range);
    }
    let floor = |at: usize| (0..=at).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    let start = floor(range.start.saturating_sub(MOST_EXCERPT / 4));
    let end = floor((start + MOST_EXCERPT).min(line.len()));
    let cut = line.get(start..end).unwrap_or("");
    (cut, range.start - start..range.end.min(end) - start)
}

/// The place of a value, built on the way down and spelled only when something is wrong there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pointer<'a> {
    Root,
    Key(&'a Pointer<'a>, &'a str),
    Index(&'a Pointer<'a>, usize),
}

impl<'a> Pointer<'a> {
    pub(crate) fn key(&'a self, key: &'a str) -> Pointer<'a> {
        Pointer::Key(self, key)
    }

    pub(crate) fn index(&'a self, index: usize) -> Pointer<'a> {
        Pointer::Index(self, index)
    }

    fn write(&self, text: &mut String) {
        match self {
            Pointer::Root => {}
            Pointer::Key(parent, key) => {
                parent.write(text);
                text.push('/');
                text.push_str(&printable(key));
            }
            Pointer::Index(parent, index) => {
                parent.write(text);
                let _ = write!(text, "/{index}");
            }
        }
    }
}

impl fmt::Display for Pointer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text);
        f.write_str(if text.is_empty() { "/" } else { &text })
    }
}

/// `value` in backticks, on one line, and not longer than a hint can bear.
pub(crate) fn quoted(value: &str) -> String {
    format!("`{}`", printable(value))
}

/// `a -> b -> a`; of a long chain only both ends.
pub(crate) fn chain(names: &[&str]) -> String {
    const ENDS: usize = 10;
    if names.len() <= 2 * ENDS {
        return names.join(" -> ");
    }
    let (first, rest) = names.split_at(ENDS);
    let last = rest.split_at(rest.len() - ENDS).1;
    format!("{} -> … -> {}", first.join(" -> "), last.join(" -> "))
}

fn printable(value: &str) -> String {
    let end = value.char_indices().nth(MOST_QUOTED).map(|(end, _)| end);
    let mut text = on_one_line(&value[..end.unwrap_or(value.len())]).into_owned();
    if end.is_some() {
        text.push('…');
    }
    text
}

/// `hint` as it may be shown, on one line, since names come from quoted keys, which may hold any character; cut
/// where it is longer than anybody reads.
fn bounded(mut hint: String) -> String {
    if hint.len() > MOST_HINT {
        let end = (0..=MOST_HINT).rev().find(|at| hint.is_char_boundary(*at)).unwrap_or(0);
        hint.truncate(end);
        hint.push('…');
    }
    match on_one_line(&hint) {
        Cow::Borrowed(_) => hint,
        Cow::Owned(shown) => shown,
    }
}

/// Collects problems while a workflow is read.
#[derive(Debug)]
pub(crate) struct Problems {
    code: &'static str,
    found: Vec<Problem>,
    seen: HashSet<(Span, String)>,
    left_out: usize,
    errors: usize,
    comparisons_left: usize,
}

#[derive(Debug)]
struct Problem {
    severity: Severity,
    code: &'static str,
    span: Span,
    pointer: String,
    hint: String,
    label: Option<String>,
}

impl Default for Problems {
    fn default() -> Self {
        Self {
            code: code::WF_SCHEMA_V1,
            found: Vec::new(),
            seen: HashSet::new(),
            left_out: 0,
            errors: 0,
            // Finding a similar name costs time in both lengths: a bound keeps a file full of wrong names cheap.
            comparisons_left: 100_000,
        }
    }
}

impl Problems {
    /// Collects what this version cannot run, under a code of its own.
    pub(crate) fn not_supported() -> Self {
        Self { code: code::WF_NOT_SUPPORTED, ..Self::default() }
    }

    /// Notes a broken rule. The same one found twice, as by two jobs of one template, counts once.
    pub(crate) fn error(&mut self, span: Span, pointer: impl fmt::Display, hint: impl Into<String>) {
        self.note(Severity::Error, span, pointer, hint.into(), None);
    }

    /// The same, with a word beside the caret where there is an excerpt.
    pub(crate) fn error_labelled(
        &mut self,
        span: Span,
        pointer: impl fmt::Display,
        hint: impl Into<String>,
        label: Option<String>,
    ) {
        self.note(Severity::Error, span, pointer, hint.into(), label);
    }

    pub(crate) fn warning(&mut self, span: Span, pointer: impl fmt::Display, hint: impl Into<String>) {
        self.note(Severity::Warning, span, pointer, hint.into(), None);
    }

    /// Warns of a script entry whose effect no other step sees.
    pub(crate) fn step_state(&mut self, span: Span, pointer: impl fmt::Display, hint: impl Into<String>) {
        self.note_coded(code::WF_STEP_STATE, Severity::Warning, span, pointer, hint.into(), None);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many errors were noted so far.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// The candidate that `name` was probably meant to be.
    pub(crate) fn similar<'c>(
        &mut self,
        name: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> Option<&'c str> {
        if name.len() > 64 {
            return None;
        }
        let allowed = if name.chars().count() < 5 { 1 } else { 2 };
        let mut best = None;
        for candidate in candidates {
            if self.comparisons_left == 0 {
                break;
            }
            self.comparisons_left -= 1;
            if candidate.len().abs_diff(name.len()) > 8 {
                continue;
            }
            let distance = strsim::damerau_levenshtein(name, candidate);
            if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
                best = Some((distance, candidate));
            }
        }
        best.map(|(_, candidate)| candidate)
    }

    pub(crate) fn into_diagnostics(mut self, sources: Arc<Sources>) -> Diagnostics {
        // Stable: what was found first at one place stays first.
        self.found.sort_by_key(|problem| (problem.span.file, problem.span.start));
        let mut cursor = Cursor::new(&sources);
        let items = self
            .found
            .into_iter()
            .map(|problem| {
                let position = cursor.position(problem.span);
                Diagnostic {
                    severity: problem.severity,
                    code: problem.code,
                    pointer: problem.pointer,
                    hint: problem.hint,
                    file: sources.name(problem.span.file).to_owned(),
                    line: position.line,
                    column: position.column,
                    label: problem.label,
                    span: problem.span,
                }
            })
            .collect();
        Diagnostics { items, left_out: self.left_out, sources }
    }

    fn note(
        &mut self,
        severity: Severity,
        span: Span,
        pointer: impl fmt::Display,
        hint: String,
        label: Option<String>,
    ) {
        self.note_coded(self.code, severity, span, pointer, hint, label);
    }

    fn note_coded(
        &mut self,
        code: &'static str,
        severity: Severity,
        span: Span,
        pointer: impl fmt::Display,
        hint: String,
        label: Option<String>,
    ) {
        if self.found.len() >= MOST_PROBLEMS {
            self.left_out += 1;
            self.errors += usize::from(severity == Severity::Error && self.errors > 0);
            // Warnings that filled the list must not hide that there is an error.
            if severity == Severity::Warning || self.errors > 0 {
                return;
            }
        }
        let hint = bounded(hint);
        let label = label.map(bounded);
        if !self.seen.insert((span, hint.clone())) {
            return;
        }
        if severity == Severity::Error {
            self.errors += 1;
        }
        self.found.push(Problem { severity, code, span, pointer: pointer.to_string(), hint, label });
    }
}

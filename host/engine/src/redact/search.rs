//! Finds forms of values in text, several bytes a nanosecond, whatever their number.
//!
//! A text without its line breaks (`\n`, `\r\n`) is its *view*. Wherever a form stands in a text, the view of the form
//! stands in the view of the text. So it is enough to look at one *gram* of `Q` bytes at every `stride`-th place of the
//! text's view, if the grams at the first `stride` places of each form are known: one of them is met. A bitmap says of
//! nearly all grams of ordinary text that they belong to no form; with any other, the forms are compared, all that begin
//! alike at once.
//!
//! The view is not made: within a line it is the text, and across lines the places looked at are no further apart,
//! since the last gram of every line is looked at.
//!
//! What else hides a form is taken out first: the sequences that colour a text, and all that stands between the bytes of
//! a dump. What is found without them is masked where it was.

use std::iter;
use std::ops::Range;
use std::sync::Arc;

use memchr::{memchr2_iter, memrchr};
use zeroize::{Zeroize, Zeroizing};

use super::colour::{ESCAPE, Plain};
use super::dump;
use super::forms::{Form, SHORTEST, is_terminator};

/// Where a line ends after fewer characters of a form than this, the form is masked from the next line on. Otherwise
/// the end of every line that could be the first character of a base64 form would be kept back, and so nearly every
/// line of a text would be shown only with the next. Forms shorter than [`SHORTEST_LONG`] would show too much.
const KEPT_TOGETHER: usize = 4;
/// From this many bytes on a form is found by grams of four bytes, and [`KEPT_TOGETHER`] holds.
const SHORTEST_LONG: usize = 8;
/// More would look at little less, with more grams that look like those of a form.
const LONGEST_STRIDE: usize = 16;

/// What is to be masked of a form in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    /// Where the form begins.
    pub(super) first: usize,
    /// The same, or after a line break among its first characters, see [`KEPT_TOGETHER`].
    pub(super) start: usize,
    /// After its last byte.
    pub(super) end: usize,
    /// Whose form it is, by order of registration.
    pub(super) secret: usize,
}

/// Beginnings of forms at the end of a text, where what follows decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Partial {
    /// Where the first of them begins.
    pub(super) first: usize,
    /// Where the mask would begin, of the first to be masked.
    pub(super) start: usize,
    /// How far its form has been compared, if `start` stays whatever follows.
    pub(super) cursor: Option<Cursor>,
}

/// How far a form has been compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    form: usize,
    /// Bytes of the form that were found.
    found: usize,
    /// Bytes of the text that were compared: those found, and line breaks.
    read: usize,
    /// The first of these that are not masked.
    shown: usize,
    gap: Gap,
}

/// What stands after the bytes that were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    None,
    /// `\r`, of which the other half has not been read.
    Return,
    Break,
}

enum Progress {
    /// The whole form was found.
    Whole(Cursor),
    /// The text ended first.
    Partial(Cursor),
    Different,
}

/// What is found in a text.
#[derive(Default)]
pub(super) struct Findings {
    /// In no order, and some more than once.
    pub(super) matches: Vec<Match>,
    /// What may go on after the text.
    pub(super) partial: Option<Partial>,
}

/// What stands around a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edges {
    /// Whether a line begins with it.
    pub(super) begins_line: bool,
    pub(super) end: End,
}

/// What stands after a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// More may follow.
    Open,
    /// Nothing.
    Whole,
    /// Nothing that is known: the beginnings of forms of [`SHORTEST_BEGINNING`] bytes and more are found too.
    Cut,
}

impl Findings {
    fn note(&mut self, new: Partial) {
        let old = self.partial.unwrap_or(new);
        let next = if new.start < old.start { new } else { old };
        self.partial = Some(Partial { first: new.first.min(old.first), ..next });
    }
}

/// Forms, ready to be looked for.
#[derive(Default)]
pub(super) struct Search {
    entries: Vec<Entry>,
    /// By kind.
    trees: [Tree; 3],
    short: Option<Grams<3>>,
    long: Option<Grams<4>>,
    /// Whether a form has what begins a sequence that colours.
    has_escapes: bool,
    /// Whether a form begins with a byte.
    begins: Vec<bool>,
    /// What begins in a text is decided by so many bytes after it.
    pub(super) reach: usize,
}

/// What to do with what begins a sequence that colours.
#[derive(Clone, Copy)]
enum Escapes {
    Pass,
    Stop,
}

/// The beginning of a form at the end of a stream is masked from this length on, in bytes.
const SHORTEST_BEGINNING: usize = 8;

/// A form and whose it is.
struct Entry {
    form: Arc<Form>,
    kind: Kind,
    secret: usize,
}

/// What line breaks mean to a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// They are bytes like others.
    Exact,
    /// One between two bytes does not hide it.
    Wrapped,
    /// The same, but not [`KEPT_TOGETHER`].
    WrappedShort,
}

/// Forms by how they begin.
#[derive(Default)]
struct Tree {
    /// In the order of their bytes.
    forms: Vec<usize>,
    /// The root, then the children of each node together, in order.
    nodes: Vec<Node>,
    /// The children of the root, by the first byte of their forms.
    firsts: Vec<Option<usize>>,
}

/// Forms that begin alike.
struct Node {
    forms: Range<usize>,
    /// How many bytes all of them share.
    shared: usize,
    /// Those that share more, by the next byte.
    children: Range<usize>,
    /// The byte after what the forms of the parent share.
    byte: u8,
}

impl Search {
    /// `forms`: each with the number of the secret it belongs to.
    pub(super) fn new(forms: Vec<(usize, Arc<Form>)>) -> Self {
        let kind = |form: &Form| match form.wrapped {
            false => Kind::Exact,
            true if form.bytes.len() < SHORTEST_LONG => Kind::WrappedShort,
            true => Kind::Wrapped,
        };
        let entries: Vec<Entry> =
            forms.into_iter().map(|(secret, form)| Entry { kind: kind(&form), form, secret }).collect();
        let (short, long): (Vec<_>, Vec<_>) =
            entries.iter().map(View::new).partition(|view| view.places.len() < SHORTEST_LONG);
        // Between any two bytes, a form that may be wrapped has at most one line break, of at most two bytes.
        let length = |entry: &Entry| entry.form.bytes.len() * if entry.form.wrapped { 3 } else { 1 };
        let trees = [Kind::Exact, Kind::Wrapped, Kind::WrappedShort].map(|kind| Tree::new(&entries, kind));
        let begins = |byte: usize| trees.iter().any(|tree| tree.firsts[byte].is_some());
        Self {
            begins: (0..256).map(begins).collect(),
            trees,
            short: Grams::new(&short),
            long: Grams::new(&long),
            has_escapes: entries.iter().any(|entry| entry.form.bytes.contains(&ESCAPE)),
            // What is to be masked of it may begin as late as the line breaks among its first bytes end.
            reach: entries.iter().map(length).max().unwrap_or(0) + 3 * KEPT_TOGETHER,
            entries,
        }
    }

    /// All forms in `text`, and what begins in it and may go on after it. `text` begins where no form that began before
    /// goes on.
    pub(super) fn find(&self, text: &[u8], edges: Edges) -> Findings {
        if self.entries.is_empty() {
            return Findings::default();
        }
        // Nearly no text has any.
        if let Some(findings) = self.find_in_lines(text, edges, Escapes::Stop) {
            return findings;
        }
        let plain = Plain::of(text);
        let lines = plain.as_ref().map_or(text, |plain| &plain.text);
        let mut findings = self.find_in_lines(lines, edges, Escapes::Pass).unwrap_or_default();
        let Some(plain) = plain else { return findings };
        for found in &mut findings.matches {
            let range = plain.range(found.start..found.end);
            *found = Match { first: plain.place(found.first), start: range.start, end: range.end, ..*found };
        }
        if let Some(partial) = &mut findings.partial {
            let Partial { first, start, .. } = *partial;
            // Whether what the text ends in is a sequence is not known.
            *partial = Partial { first: plain.place(first), start: plain.place(start), cursor: None };
        }
        // What is taken for a sequence may be the beginning of a value.
        let mut raw = Findings::default();
        if self.has_escapes {
            self.find_plain(text, Escapes::Pass, &mut raw, |_| {});
        } else {
            for first in plain.sequences.into_iter().flatten() {
                if self.begins[usize::from(text[first])] {
                    self.compare_at(text, first, &mut raw);
                }
            }
        }
        if let Some(open) = plain.open.filter(|_| edges.end == End::Open) {
            raw.note(Partial { first: open, start: open, cursor: None });
        }
        self.close(text, edges.end, &mut raw);
        findings.matches.append(&mut raw.matches);
        raw.partial.into_iter().for_each(|partial| findings.note(partial));
        findings
    }

    /// The same for a text without sequences that colour it; nothing if it has what begins these, and that is to stop it.
    fn find_in_lines(&self, text: &[u8], edges: Edges, escapes: Escapes) -> Option<Findings> {
        let mut findings = Findings::default();
        let mut lines: Vec<Range<usize>> = Vec::new();
        let is_done = self.find_plain(text, escapes, &mut findings, |line| {
            if dump::may_be_line(&text[line.clone()]) {
                lines.push(line);
            }
        });
        if !is_done {
            return None;
        }
        self.close(text, edges.end, &mut findings);
        if !edges.begins_line && lines.first().is_some_and(|line| line.start == 0) {
            lines.remove(0);
        }
        let mut next = None;
        if edges.end == End::Open && !text.ends_with(b"\n") {
            let last = memrchr(b'\n', text).map_or(0, |last| last + 1);
            lines.pop_if(|line| line.start == last);
            let line = text[last..].strip_suffix(b"\r").unwrap_or(&text[last..]);
            let is_next = dump::may_begin_line(line) && (last > 0 || edges.begins_line);
            next = is_next.then_some(last);
        }
        if !lines.is_empty() || next.is_some() {
            self.find_in_dumps(text, &lines, next, edges.end, &mut findings);
        }
        Some(findings)
    }

    /// Finds what dumps in `text` show; see [`dump::of`].
    fn find_in_dumps(
        &self,
        text: &[u8],
        lines: &[Range<usize>],
        next: Option<usize>,
        end: End,
        findings: &mut Findings,
    ) {
        for dump in dump::of(text, lines, next) {
            let mut inner = Findings::default();
            self.find_plain(&dump.bytes, Escapes::Pass, &mut inner, |_| {});
            self.close(&dump.bytes, if dump.is_open { end } else { End::Whole }, &mut inner);
            for found in inner.matches {
                let Some(first) = dump.place(found.first).map(|place| place.line) else { continue };
                let ranges = dump.ranges(found.start..found.end).into_iter();
                findings.matches.extend(ranges.map(|Range { start, end }| Match {
                    first,
                    start,
                    end,
                    ..found
                }));
            }
            if let Some(partial) = inner.partial
                && let Some(first) = dump.place(partial.first)
            {
                // Where the digits of a number are not in order, what comes later stands first.
                let starts =
                    dump.ranges(partial.start..dump.bytes.len()).into_iter().map(|range| range.start);
                let start = starts.min().or(next).unwrap_or(text.len());
                findings.note(Partial { first: first.line, start, cursor: None });
            }
        }
        if let Some(next) = next {
            findings.note(Partial { first: next, start: next, cursor: None });
        }
    }

    /// Finds all forms that stand in `text` as they are, and calls `on_line` for each line. Returns whether it was not
    /// stopped.
    fn find_plain(
        &self,
        text: &[u8],
        escapes: Escapes,
        findings: &mut Findings,
        mut on_line: impl FnMut(Range<usize>),
    ) -> bool {
        let mut hit = |at: usize, gram: &Gram| {
            let first = match gram.kind {
                Kind::Exact => at.checked_sub(gram.offset),
                Kind::Wrapped | Kind::WrappedShort => back(text, at, gram.offset),
            };
            if let Some(first) = first {
                self.compare(gram.kind, text, first, findings);
            }
        };
        let is_done = match (&self.long, &self.short) {
            (Some(long), Some(short)) => {
                long.scan(text, escapes, &mut hit, &mut on_line)
                    && short.scan(text, Escapes::Pass, &mut hit, &mut |_| {})
            }
            (Some(long), None) => long.scan(text, escapes, &mut hit, &mut on_line),
            (None, Some(short)) => short.scan(text, escapes, &mut hit, &mut on_line),
            (None, None) => true,
        };
        if !is_done {
            return false;
        }
        // What begins too near to the end to have a gram.
        for first in tail(text, SHORTEST - 1) {
            self.compare_at(text, first, findings);
        }
        true
    }

    /// Decides what has only begun in `text`, where nothing follows it.
    fn close(&self, text: &[u8], end: End, findings: &mut Findings) {
        if end == End::Open {
            return;
        }
        if let Some(partial) = findings.partial.take_if(|_| end == End::Cut) {
            let trimmed = text.iter().rposition(|b| !is_terminator(*b)).map_or(0, |last| last + 1);
            if trimmed >= partial.start + SHORTEST_BEGINNING
                && let Some(secret) = self.secret(text, partial)
            {
                let Partial { first, start, .. } = partial;
                findings.matches.push(Match { first, start, end: trimmed, secret });
            }
        }
        findings.partial = None;
    }

    /// Finds all forms that begin at `first`.
    fn compare_at(&self, text: &[u8], first: usize, findings: &mut Findings) {
        for kind in [Kind::Exact, Kind::Wrapped, Kind::WrappedShort] {
            self.compare(kind, text, first, findings);
        }
    }

    /// Finds all forms of `kind` that begin at `first`.
    fn compare(&self, kind: Kind, text: &[u8], first: usize, findings: &mut Findings) {
        let tree = &self.trees[kind as usize];
        let mut next = tree.firsts[usize::from(text[first])];
        let mut found = 0;
        while let Some(node) = next.map(|node| &tree.nodes[node]) {
            let forms = &tree.forms[node.forms.clone()];
            let shared = &self.entries[forms[0]].form.bytes[found..node.shared];
            let rest = &text[first + found..];
            let same = shared_by(rest, shared);
            let byte = rest.get(same);
            if byte.is_none_or(|byte| kind != Kind::Exact && is_terminator(*byte)) {
                // The text ends within what they share, or a line does.
                return self.compare_each(forms, text, first, found + same, findings);
            }
            if same < shared.len() {
                return;
            }
            found += same;
            for &form in forms.iter().take_while(|form| self.entries[**form].form.bytes.len() == found) {
                let secret = self.entries[form].secret;
                findings.matches.push(Match { first, start: first, end: first + found, secret });
            }
            next = byte.and_then(|byte| tree.child(node, *byte));
        }
    }

    /// Compares each of `forms`, of which `found` bytes stand at `first`.
    fn compare_each(
        &self,
        forms: &[usize],
        text: &[u8],
        first: usize,
        found: usize,
        findings: &mut Findings,
    ) {
        let rest = &text[first + found..];
        for &form in forms {
            let cursor = Cursor { form, found, read: found, shown: 0, gap: Gap::None };
            match self.go_on(cursor, rest) {
                Progress::Whole(cursor) => {
                    let (start, end) = (first + cursor.shown, first + cursor.read);
                    findings.matches.push(Match { first, start, end, secret: self.entries[form].secret });
                    continue;
                }
                Progress::Partial(cursor) => self.note_partial(first, cursor, findings),
                Progress::Different => {}
            }
            if matches!(rest, b"" | b"\n" | b"\r" | b"\r\n") {
                // All others go on alike.
                return;
            }
        }
    }

    fn note_partial(&self, first: usize, cursor: Cursor, findings: &mut Findings) {
        let start = first + cursor.shown;
        findings.note(Partial { first, start, cursor: (!self.shows_more(cursor)).then_some(cursor) });
    }

    /// The first secret of which a form begins in `text` as `partial` says.
    fn secret(&self, text: &[u8], partial: Partial) -> Option<usize> {
        let begins = |form: usize, first: usize| {
            let cursor = Cursor { form, found: 0, read: 0, shown: 0, gap: Gap::None };
            let progress = self.go_on(cursor, &text[first..]);
            matches!(progress, Progress::Partial(cursor) if first + cursor.shown == partial.start)
        };
        (0..self.entries.len())
            .find(|form| (partial.first..=partial.start).any(|first| begins(*form, first)))
            .map(|form| self.entries[form].secret)
    }

    /// All forms, each with the number of the secret it belongs to.
    #[cfg(test)]
    pub(super) fn forms(&self) -> impl Iterator<Item = (&Form, usize)> {
        self.entries.iter().map(|entry| (&*entry.form, entry.secret))
    }

    /// Compares on, with what follows: how far, if the form may still go on after it.
    pub(super) fn goes_on(&self, cursor: Cursor, text: &[u8]) -> Option<Cursor> {
        match self.go_on(cursor, text) {
            Progress::Partial(cursor) => Some(cursor),
            Progress::Whole(_) | Progress::Different => None,
        }
    }

    fn go_on(&self, mut cursor: Cursor, text: &[u8]) -> Progress {
        let form = &self.entries[cursor.form].form;
        let rest = &form.bytes[cursor.found..];
        if !form.wrapped {
            let compared = text.len().min(rest.len());
            cursor.found += compared;
            cursor.read += compared;
            return match text[..compared] == rest[..compared] {
                true if compared == rest.len() => Progress::Whole(cursor),
                true => Progress::Partial(cursor),
                false => Progress::Different,
            };
        }
        let mut rest = rest.iter();
        let mut next = rest.next();
        for byte in text {
            let Some(expected) = next else { break };
            cursor.read += 1;
            cursor.gap = match (cursor.gap, byte) {
                (Gap::None | Gap::Break, byte) if byte == expected => {
                    cursor.found += 1;
                    next = rest.next();
                    Gap::None
                }
                (Gap::None, b'\r') => Gap::Return,
                (Gap::None | Gap::Return, b'\n') => Gap::Break,
                _ => return Progress::Different,
            };
            if cursor.gap != Gap::None && self.shows_more(cursor) {
                cursor.shown = cursor.read;
            }
        }
        if next.is_none() { Progress::Whole(cursor) } else { Progress::Partial(cursor) }
    }

    /// Whether what was found is shown if a line break follows.
    fn shows_more(&self, cursor: Cursor) -> bool {
        self.entries[cursor.form].kind == Kind::Wrapped && cursor.found < KEPT_TOGETHER
    }
}

impl Tree {
    fn new(entries: &[Entry], kind: Kind) -> Self {
        let bytes = |form: usize| entries[form].form.bytes.as_slice();
        let mut forms: Vec<usize> = (0..entries.len()).filter(|form| entries[*form].kind == kind).collect();
        forms.sort_unstable_by(|a, b| bytes(*a).cmp(bytes(*b)));
        let mut nodes = vec![Node { forms: 0..forms.len(), shared: 0, children: 0..0, byte: 0 }];
        let mut at = 0;
        while at < nodes.len() {
            let Range { mut start, end } = nodes[at].forms.clone();
            let children = nodes.len();
            let shared = match forms[start..end] {
                [only] if at > 0 => bytes(only).len(),
                [lowest, .., highest] if at > 0 => shared_by(bytes(lowest), bytes(highest)),
                _ => 0,
            };
            while start < end && bytes(forms[start]).len() == shared {
                start += 1;
            }
            while start < end {
                let byte = bytes(forms[start])[shared];
                let same = forms[start..end].partition_point(|form| bytes(*form)[shared] == byte);
                nodes.push(Node { forms: start..start + same, shared: 0, children: 0..0, byte });
                start += same;
            }
            nodes[at].shared = shared;
            nodes[at].children = children..nodes.len();
            at += 1;
        }
        let mut firsts = vec![None; 256];
        for child in nodes[0].children.clone() {
            firsts[usize::from(nodes[child].byte)] = Some(child);
        }
        Self { forms, nodes, firsts }
    }

    fn child(&self, node: &Node, byte: u8) -> Option<usize> {
        let children = &self.nodes[node.children.clone()];
        children.iter().position(|child| child.byte == byte).map(|child| node.children.start + child)
    }
}

/// How many bytes `a` and `b` have in common at their beginnings.
fn shared_by(a: &[u8], b: &[u8]) -> usize {
    const BLOCK: usize = 32;
    let blocks = a.chunks_exact(BLOCK).zip(b.chunks_exact(BLOCK)).take_while(|(a, b)| a == b).count();
    let same = blocks * BLOCK;
    same + a[same..].iter().zip(&b[same..]).take_while(|(a, b)| a == b).count()
}

/// The beginning of a form without line breaks.
struct View<'f> {
    entry: &'f Entry,
    /// Where its bytes are in the form; all of them, or as many as are looked at.
    places: Vec<usize>,
}

impl<'f> View<'f> {
    fn new(entry: &'f Entry) -> Self {
        let mut places = Vec::new();
        let mut at = 0;
        while let Some(place) = skip_breaks(&entry.form.bytes, at)
            && places.len() < LONGEST_STRIDE + GRAM
        {
            places.push(place);
            at = place + 1;
        }
        Self { entry, places }
    }
}

/// The place of the first byte from `at` on that belongs to no line break.
fn skip_breaks(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match text.get(at..)? {
            [] => return None,
            [b'\n', ..] => at += 1,
            [b'\r', b'\n', ..] => at += 2,
            _ => return Some(at),
        }
    }
}

/// Goes `count` bytes of the view back from `at`, over single line breaks.
fn back(text: &[u8], mut at: usize, count: usize) -> Option<usize> {
    for _ in 0..count {
        let before = &text[..at];
        let before = before.strip_suffix(b"\n").map_or(before, |b| b.strip_suffix(b"\r").unwrap_or(b));
        at = before.len().checked_sub(1)?;
    }
    Some(at)
}

/// The places of the last `count` bytes of `text` that are no line terminators, and of what stands between them.
fn tail(text: &[u8], count: usize) -> Range<usize> {
    let mut places = text.iter().enumerate().rev().filter(|(_, b)| !is_terminator(**b));
    places.nth(count.saturating_sub(1)).map_or(0, |(place, _)| place)..text.len()
}

/// Bytes near the beginning of forms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Gram {
    /// The `Q` that were hashed, and as many more as there are, the first as the lowest byte.
    bytes: u64,
    /// Which bits of `bytes` there are.
    mask: u64,
    /// Where they begin in forms of this kind.
    offset: usize,
    kind: Kind,
}

/// Bytes in a [`Gram`].
const GRAM: usize = 8;

impl Zeroize for Gram {
    fn zeroize(&mut self) {
        self.bytes.zeroize();
    }
}

/// The grams of some forms.
struct Grams<const Q: usize> {
    stride: usize,
    /// The bits of a hash that are not used.
    shift: u32,
    /// One bit for each hash.
    bitmap: Vec<u64>,
    /// Where in `grams` those begin that share a word of `bitmap`.
    words: Vec<usize>,
    grams: Zeroizing<Vec<Gram>>,
}

impl<const Q: usize> Grams<Q> {
    fn new(views: &[View<'_>]) -> Option<Self> {
        let shortest = views.iter().map(|view| view.places.len()).min()?;
        let stride = (shortest - Q + 1).min(LONGEST_STRIDE);
        let mut grams = Zeroizing::new(Vec::with_capacity(views.len() * stride));
        for view in views {
            for places in (0..stride).map(|offset| &view.places[offset..]) {
                let places = &places[..places.len().min(GRAM)];
                let mut bytes = [0; GRAM];
                for (byte, place) in bytes.iter_mut().zip(places) {
                    *byte = view.entry.form.bytes[*place];
                }
                grams.push(Gram {
                    bytes: u64::from_le_bytes(bytes),
                    mask: u64::MAX >> (8 * (GRAM - places.len())),
                    offset: places[0],
                    kind: view.entry.kind,
                });
            }
        }
        // One bit in 64 is set, or fewer, up to 256 KiB of bits: more hits cost more than what is slower to read.
        let bits = (grams.len().ilog2() + 7).clamp(12, 21);
        let shift = u32::BITS - bits;
        grams.sort_unstable_by_key(|gram| (Self::hash(gram.bytes, shift), *gram));
        grams.dedup();
        let mut bitmap = vec![0; 1 << (bits - 6)];
        let mut words = vec![0; bitmap.len() + 1];
        for hash in grams.iter().map(|gram| Self::hash(gram.bytes, shift)) {
            bitmap[hash / 64] |= 1 << (hash % 64);
            words[hash / 64 + 1] += 1;
        }
        for word in 0..bitmap.len() {
            words[word + 1] += words[word];
        }
        Some(Self { stride, shift, bitmap, words, grams })
    }

    /// Calls `hit` for grams in `text`, for one at least in each form in it, and `on_line` for each line. Returns whether
    /// it was not stopped.
    fn scan(
        &self,
        text: &[u8],
        escapes: Escapes,
        hit: &mut impl FnMut(usize, &Gram),
        on_line: &mut impl FnMut(Range<usize>),
    ) -> bool {
        let mut line = 0;
        for end in memchr2_iter(b'\n', ESCAPE, text).chain(iter::once(text.len())) {
            if text.get(end) == Some(&ESCAPE) {
                match escapes {
                    Escapes::Pass => continue,
                    Escapes::Stop => return false,
                }
            }
            let content = &text[line..end];
            let content =
                if end < text.len() { content.strip_suffix(b"\r").unwrap_or(content) } else { content };
            on_line(line..line + content.len());
            self.scan_line(text, line..line + content.len(), hit);
            line = end + 1;
        }
        // What goes on after the text may have only this gram in it, and lines may end within it.
        for at in tail(text, Q) {
            self.look_across(text, at, hit);
        }
        true
    }

    fn scan_line(&self, text: &[u8], line: Range<usize>, hit: &mut impl FnMut(usize, &Gram)) {
        let mut rest = line.start;
        if line.len() >= Q {
            let last = line.end - Q;
            let mut at = line.start;
            while at < last {
                self.look(text, at, hit);
                at += self.stride;
            }
            self.look(text, last, hit);
            if self.stride >= Q {
                return;
            }
            rest = last + 1;
        }
        for at in rest..line.end {
            self.look_across(text, at, hit);
        }
    }

    #[inline]
    fn look(&self, text: &[u8], at: usize, hit: &mut impl FnMut(usize, &Gram)) {
        self.look_up(Self::gram(text, at), text, at, hit);
    }

    #[inline]
    fn gram(text: &[u8], at: usize) -> u64 {
        let mut bytes = [0; GRAM];
        bytes[..Q].copy_from_slice(&text[at..at + Q]);
        u64::from_le_bytes(bytes)
    }

    /// Looks at the gram of the view at `at`, where line breaks may stand within it.
    fn look_across(&self, text: &[u8], at: usize, hit: &mut impl FnMut(usize, &Gram)) {
        if text[at..].get(..Q).is_some_and(|gram| gram.iter().all(|b| *b > b'\r')) {
            return self.look(text, at, hit);
        }
        if skip_breaks(text, at) != Some(at) {
            return;
        }
        let mut bytes = [0; GRAM];
        let mut next = at;
        for byte in &mut bytes[..Q] {
            let Some(place) = skip_breaks(text, next) else { return };
            *byte = text[place];
            next = place + 1;
        }
        self.look_up(u64::from_le_bytes(bytes), text, at, hit);
    }

    #[inline]
    fn may_have(&self, gram: u64) -> bool {
        let hash = Self::hash(gram, self.shift);
        self.bitmap[hash / 64] & 1 << (hash % 64) != 0
    }

    #[inline]
    fn look_up(&self, gram: u64, text: &[u8], at: usize, hit: &mut impl FnMut(usize, &Gram)) {
        if self.may_have(gram) {
            self.meet(gram, text, at, hit);
        }
    }

    /// Calls `hit` for each known gram that this may be. Rarely called, and not to be part of the loop that calls it.
    #[inline(never)]
    fn meet(&self, gram: u64, text: &[u8], at: usize, hit: &mut impl FnMut(usize, &Gram)) {
        // Where the text goes on without the end of a line, more is compared at once.
        let (bytes, mask) = match text[at..].first_chunk() {
            Some(bytes) if bytes.iter().all(|b| *b > b'\r') => (u64::from_le_bytes(*bytes), u64::MAX),
            _ => (gram, Self::MASK),
        };
        let word = Self::hash(gram, self.shift) / 64;
        self.grams[self.words[word]..self.words[word + 1]]
            .iter()
            .filter(|known| (known.bytes ^ bytes) & known.mask & mask == 0)
            .for_each(|known| hit(at, known));
    }

    /// The bits of the first `Q` bytes.
    const MASK: u64 = u64::MAX >> (8 * (GRAM - Q));

    #[inline]
    fn hash(gram: u64, shift: u32) -> usize {
        (((gram & Self::MASK) as u32).wrapping_mul(0x9e37_79b1) >> shift) as usize
    }
}

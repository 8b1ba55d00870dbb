//! What is found, in the forms in which tools print it, and wherever a stream is cut.

use std::borrow::Cow;

use proptest::prelude::*;
use proptest::sample::Index;

use super::{Redactor, Stream};

fn redactor(values: &[(&str, &[u8])]) -> Redactor {
    let redactor = Redactor::default();
    for (name, value) in values {
        redactor.register(name, value);
    }
    redactor
}

fn streamed(stream: &mut Stream, pieces: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        stream.push(piece, &mut |bytes| out.extend_from_slice(bytes));
    }
    stream.end(&mut |bytes| out.extend_from_slice(bytes));
    out
}

/// Masks by looking at every place for every form.
struct Oracle {
    forms: Vec<(Vec<u8>, bool, usize)>,
    masks: Vec<String>,
}

enum Seen {
    /// Between these places.
    Whole(usize, usize),
    /// From this place on, and the text ends.
    Begun(usize),
    No,
}

impl Oracle {
    fn new(redactor: &Redactor) -> Self {
        let masks = redactor.0.masks();
        let forms = masks.search.forms();
        Self {
            forms: forms.map(|(form, secret)| (form.bytes.to_vec(), form.wrapped, secret)).collect(),
            masks: masks.masks.clone(),
        }
    }

    fn look((form, wrapped, _): &(Vec<u8>, bool, usize), text: &[u8], first: usize) -> Seen {
        let mut start = first;
        let mut at = first;
        for (i, byte) in form.iter().enumerate() {
            if *wrapped && i > 0 && at < text.len() {
                let skipped = match &text[at..] {
                    [b'\n', ..] | [b'\r'] => 1,
                    [b'\r', b'\n', ..] => 2,
                    _ => 0,
                };
                at += skipped;
                if skipped > 0 && i < 4 && form.len() >= 8 {
                    start = at;
                }
            }
            match text.get(at) {
                None => return Seen::Begun(start),
                Some(other) if other == byte => at += 1,
                Some(_) => return Seen::No,
            }
        }
        Seen::Whole(start, at)
    }

    /// What is given out of a stream that begins with `text`; all there is if it `ended`.
    fn masked(&self, text: &[u8], ended: bool, beginnings: bool) -> Vec<u8> {
        let mut found = Vec::new();
        let mut decided = text.len();
        let trimmed = text.iter().rposition(|b| !b"\r\n".contains(b)).map_or(0, |last| last + 1);
        for first in 0..text.len() {
            for form in &self.forms {
                match Self::look(form, text, first) {
                    Seen::Whole(start, end) => found.push((start, end, form.2)),
                    Seen::Begun(start) if !ended => decided = decided.min(start),
                    Seen::Begun(start) if beginnings && trimmed >= start + 8 => {
                        found.push((start, trimmed, form.2));
                    }
                    _ => {}
                }
            }
        }
        found.sort_by_key(|(start, end, secret)| (*start, usize::MAX - end, *secret));
        let mut out = Vec::new();
        let mut at = 0;
        let mut open = false;
        for (start, end, secret) in found {
            if decided <= start {
                break;
            }
            if !open || at < start {
                out.extend_from_slice(&text[at..start]);
                out.extend_from_slice(self.masks[secret].as_bytes());
                open = true;
            }
            at = at.max(end);
        }
        if at < decided {
            out.extend_from_slice(&text[at..decided]);
        }
        out
    }
}

/// Few different bytes, so that forms overlap.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        6 => Just(b'a'), 4 => Just(b'b'), 1 => Just(b'\n'), 1 => Just(b'\r'), 1 => Just(b' '), 1 => Just(b']'),
        1 => Just(b'['), 1 => Just(b'\''), 1 => Just(0xe4),
    ];
    prop_oneof![prop::collection::vec(byte.clone(), 4..8), prop::collection::vec(byte, 4..30)]
}

/// What a text is made of.
#[derive(Debug, Clone)]
enum Piece {
    Bytes(Vec<u8>),
    /// So much of a form, chosen by number, with line breaks at these places.
    Form(Index, Option<Index>, Vec<(Index, bool)>),
    /// A form with a line break after every so many bytes.
    Wrapped(Index, usize, bool),
}

fn piece() -> impl Strategy<Value = Piece> {
    let byte = prop_oneof![
        6 => Just(b'a'), 4 => Just(b'b'), 2 => Just(b'\n'), 1 => Just(b'\r'), 1 => Just(b' '), 1 => Just(b']'),
        1 => Just(b'6'), 1 => Just(b'Y'), 1 => Just(b'W'), 1 => Just(0xe4),
    ];
    prop_oneof![
        2 => prop::collection::vec(byte, 0..12).prop_map(Piece::Bytes),
        3 => (any::<Index>(), any::<Option<Index>>(), prop::collection::vec(any::<(Index, bool)>(), 0..3))
            .prop_map(|(form, cut, breaks)| Piece::Form(form, cut, breaks)),
        1 => (any::<Index>(), 1usize..20, any::<bool>()).prop_map(|(form, width, r)| Piece::Wrapped(form, width, r)),
    ]
}

fn text(oracle: &Oracle, pieces: &[Piece]) -> Vec<u8> {
    let line_break = |carriage| if carriage { &b"\r\n"[..] } else { b"\n" };
    let mut text = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => text.extend_from_slice(bytes),
            Piece::Form(..) | Piece::Wrapped(..) if oracle.forms.is_empty() => {}
            Piece::Form(form, cut, breaks) => {
                let (form, _, _) = form.get(&oracle.forms);
                let mut form = form[..cut.map_or(form.len(), |cut| cut.index(form.len()))].to_vec();
                for (place, carriage) in breaks {
                    let place = place.index(form.len() + 1);
                    form.splice(place..place, line_break(*carriage).iter().copied());
                }
                text.extend_from_slice(&form);
            }
            Piece::Wrapped(form, width, carriage) => {
                let lines: Vec<&[u8]> = form.get(&oracle.forms).0.chunks(*width).collect();
                text.extend_from_slice(&lines.join(line_break(*carriage)));
            }
        }
    }
    text
}

proptest! {
    #[test]
    fn a_stream_is_masked_as_if_every_place_were_looked_at(
        values in prop::collection::vec(value(), 1..4),
        pieces in prop_oneof![9 => prop::collection::vec(piece(), 0..8), 1 => prop::collection::vec(piece(), 0..30)],
        reads in prop::collection::vec(prop_oneof![3 => 1usize..6, 2 => 1usize..100, 1 => 100usize..1000], 1..20),
    ) {
        let names = ["A", "B", "a]b"];
        let named: Vec<(&str, &[u8])> = names.into_iter().zip(values.iter().map(Vec::as_slice)).collect();
        let redactor = redactor(&named);
        let oracle = Oracle::new(&redactor);
        let text = text(&oracle, &pieces);
        let mut stream = redactor.stream();
        let mut out = Vec::new();
        let mut at = 0;
        for read in reads.iter().cycle() {
            let read = *read.min(&(text.len() - at));
            stream.push(&text[at..at + read], &mut |bytes| out.extend_from_slice(bytes));
            at += read;
            let expected = oracle.masked(&text[..at], false, true);
            prop_assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
            if at == text.len() {
                break;
            }
        }
        stream.end(&mut |bytes| out.extend_from_slice(bytes));
        let expected = oracle.masked(&text, true, true);
        prop_assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
        let expected = oracle.masked(&text, true, false);
        prop_assert_eq!(redactor.bytes(&text).escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}

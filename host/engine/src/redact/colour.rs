//! Text without the sequences that colour it: `grep --color` and test reports put them into the middle of a value.
//!
//! What is left out is what a terminal takes for control sequences (`ESC [ 0 1 ; 3 1 m`, `ESC [ K`) and for a choice of
//! characters (`ESC ( B`). One that the text ends in counts, too.

use std::ops::Range;

use memchr::memchr;
use zeroize::Zeroizing;

/// What each sequence begins with.
pub(super) const ESCAPE: u8 = 0x1b;
/// No program writes longer sequences, or more of them at one place than this many bytes. Text that goes on so is not
/// kept back for ever.
const LONGEST: usize = 256;

/// A text without its sequences.
pub(super) struct Plain {
    pub(super) text: Zeroizing<Vec<u8>>,
    /// What was left out of the text.
    pub(super) sequences: Vec<Range<usize>>,
    /// Where the last of these begins, if the text ends before it does.
    pub(super) open: Option<usize>,
    /// Where the parts begin: in the plain text, and in the text.
    parts: Vec<(usize, usize)>,
}

impl Plain {
    /// That of `text`; none where it has no sequences.
    pub(super) fn of(text: &[u8]) -> Option<Self> {
        let mut escape = memchr(ESCAPE, text)?;
        let mut plain = Self {
            text: Zeroizing::new(Vec::with_capacity(text.len())),
            sequences: Vec::new(),
            open: None,
            parts: vec![(0, 0)],
        };
        let mut done = 0;
        loop {
            let (end, open) = sequences(text, escape);
            if (1..=LONGEST).contains(&(end - escape)) {
                plain.text.extend_from_slice(&text[done..escape]);
                plain.sequences.push(escape..end);
                plain.open = open;
                plain.parts.push((plain.text.len(), end));
                done = end;
            }
            let next = end.max(escape + 1);
            match memchr(ESCAPE, &text[next..]) {
                Some(at) => escape = next + at,
                None => break,
            }
        }
        plain.text.extend_from_slice(&text[done..]);
        (!plain.sequences.is_empty()).then_some(plain)
    }

    /// Where the byte at `at` of the plain text is in the text.
    pub(super) fn place(&self, at: usize) -> usize {
        let part = self.parts.partition_point(|(plain, _)| *plain <= at).saturating_sub(1);
        let (plain, text) = self.parts[part];
        text + (at - plain)
    }

    /// Where `range` of the plain text, which is not empty, is in the text, with what was left out within it.
    pub(super) fn range(&self, range: Range<usize>) -> Range<usize> {
        self.place(range.start)..self.place(range.end - 1) + 1
    }
}

/// The end of all sequences that begin at `start` of `text`, one after the other, and the beginning of the last of them
/// if the text ends before it does.
fn sequences(text: &[u8], start: usize) -> (usize, Option<usize>) {
    let mut end = start;
    loop {
        match sequence(&text[end..]) {
            Some(Sequence::Whole(length)) => end += length,
            Some(Sequence::Open) => return (text.len(), Some(end)),
            None => return (end, None),
        }
    }
}

enum Sequence {
    /// Of this length.
    Whole(usize),
    /// The text ends before it does.
    Open,
}

/// The sequence at the beginning of `text`.
fn sequence(text: &[u8]) -> Option<Sequence> {
    let rest = text.strip_prefix(&[ESCAPE])?;
    let (rest, mut length) = match rest {
        [b'[', rest @ ..] => {
            let parameters = rest.iter().take_while(|byte| matches!(byte, 0x30..=0x3f)).count();
            (&rest[parameters..], 2 + parameters)
        }
        [b'(' | b')', ..] | [] => (rest, 1),
        _ => return None,
    };
    let between = rest.iter().take_while(|byte| matches!(byte, 0x20..=0x2f)).count();
    length += between;
    match rest.get(between) {
        Some(0x30..=0x7e) => Some(Sequence::Whole(length + 1)),
        Some(_) => None,
        None => Some(Sequence::Open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &[u8]) -> (String, Vec<Range<usize>>) {
        let plain = Plain::of(text).unwrap();
        let places: Vec<usize> = (0..plain.text.len()).map(|at| plain.place(at)).collect();
        assert!(plain.text.iter().zip(&places).all(|(byte, place)| text[*place] == *byte));
        (plain.text.escape_ascii().to_string(), plain.sequences)
    }

    #[test]
    fn sequences_are_left_out_and_nothing_else_is() {
        let sequences: &[Range<usize>] = &[1..12, 14..20, 21..22];
        assert_eq!(plain(b"a\x1b[01;31m\x1b[Kbc\x1b(B\x1b[md\x1b"), ("abcd".to_owned(), sequences.to_vec()));
        assert_eq!(plain(b"\x1b[?25la\x1b[0"), ("a".to_owned(), vec![0..6, 7..10]));
        for text in ["plain", "\x1bM", "\x1b]0;title\x07", "\x1b[\n", "\x1b[\x1b"] {
            assert!(
                Plain::of(text.as_bytes()).is_none_or(|plain| plain.text.len() + 1 == text.len()),
                "{text:?}"
            );
        }
        assert!(Plain::of("\x1b[K".repeat(100).as_bytes()).is_none());
        assert!(Plain::of(format!("\x1b[{}", "1".repeat(300)).as_bytes()).is_none());
    }
}

//! What is masked, and when it is given out, wherever a stream is cut.

use std::borrow::Cow;
use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::Index;

use super::colour::Plain;
use super::dump;
use super::search::End;
use super::{Redactor, Stream};

fn redactor(values: &[(&str, &[u8])]) -> Redactor {
    let redactor = Redactor::default();
    for (name, value) in values {
        redactor.register(name, value);
    }
    redactor
}

/// What is given out after each of `pieces`, and at the end.
fn streamed<'p>(redactor: &Redactor, pieces: impl IntoIterator<Item = &'p str>) -> Vec<String> {
    let mut stream = redactor.stream();
    let mut outs: Vec<String> = pieces.into_iter().map(|piece| push(&mut stream, piece)).collect();
    let mut out = Vec::new();
    stream.end(&mut |bytes| out.extend_from_slice(bytes));
    outs.push(String::from_utf8(out).unwrap());
    outs
}

fn push(stream: &mut Stream, piece: &str) -> String {
    let mut out = Vec::new();
    stream.push(piece.as_bytes(), &mut |bytes| out.extend_from_slice(bytes));
    String::from_utf8(out).unwrap()
}

const TOKEN: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";

/// `bytes` so many at once.
fn pieces(text: &str, length: usize) -> Vec<&str> {
    text.as_bytes().chunks(length).map(|piece| str::from_utf8(piece).unwrap()).collect()
}

#[test]
fn every_value_under_a_name_is_masked_and_a_value_has_one_name() {
    let redactor = Redactor::default();
    for (name, value) in [("A", "first value"), ("A", "second value"), ("B", "first value")] {
        assert!(redactor.register(name, value.as_bytes()));
    }
    assert_eq!(redactor.text("first value, second value"), "[REDACTED:SECRET_A], [REDACTED:SECRET_A]");
}

#[test]
fn what_is_shown_masked_may_be_what_it_was() {
    let shown = "/a/[REDACTED:SECRET_A]/b-[REDACTED:SECRET_B].yml";
    for (shown, text, may) in [
        ("/a/b.yml", "/a/b.yml", true),
        ("/a/b.yml", "/a/b.ymlx", false),
        (shown, "/a/x/b-y.yml", true),
        (shown, "/a/x/c-y.yml", false),
        (shown, "/a/x/b-y.yaml", false),
        (shown, "/b/x/b-y.yml", false),
        ("[REDACTED:SECRET_A]", "anything", true),
    ] {
        assert_eq!(super::may_be(shown, text), may, "{shown} {text}");
    }
}

#[test]
fn without_secrets_the_same_bytes_are_handed_on() {
    let redactor = Redactor::default();
    let text = "no secret\n";
    let mut handed = Vec::new();
    redactor.stream().push(text.as_bytes(), &mut |bytes| handed.push((bytes.as_ptr(), bytes.len())));
    assert_eq!(handed, [(text.as_ptr(), text.len())]);
    assert!(matches!(redactor.text(text), Cow::Borrowed(_)));
    assert_eq!(redactor.scanner().push(text.as_bytes()), None);
}

#[test]
fn text_without_a_secret_is_not_copied() {
    let redactor = redactor(&[("TOKEN", TOKEN.as_bytes())]);
    let text = "no secret\n";
    let mut handed = Vec::new();
    redactor.stream().push(text.as_bytes(), &mut |bytes| handed.push((bytes.as_ptr(), bytes.len())));
    assert_eq!(handed, [(text.as_ptr(), text.len())]);
    assert!(matches!(redactor.text(text), Cow::Borrowed(_)));
    assert!(matches!(redactor.bytes(text.as_bytes()), Cow::Borrowed(_)));
}

#[test]
fn a_value_is_found_across_reads() {
    let redactor = redactor(&[("TOKEN", TOKEN.as_bytes())]);
    let text = format!("export TOKEN={TOKEN}; true\n");
    for length in 1..text.len() {
        let out = streamed(&redactor, pieces(&text, length)).concat();
        assert_eq!(out, "export TOKEN=[REDACTED:SECRET_TOKEN]; true\n", "by {length}");
    }
    assert_eq!(
        streamed(&redactor, ["a ghp_16C7e42F", "292c6912E7710c8", "38347Ae178B4a ."]),
        ["a ", "", "[REDACTED:SECRET_TOKEN] .", ""]
    );
}

#[test]
fn wrapped_base64_is_found_across_reads() {
    let redactor = redactor(&[("TOKEN", TOKEN.as_bytes())]);
    // `(head -c 50 /dev/zero; printf %s "$TOKEN"; head -c 10 /dev/zero) | base64`
    let text = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABnaHBfMTZD\n\
                N2U0MkYyOTJjNjkxMkU3NzEwYzgzODM0N0FlMTc4QjRhAAAAAAAAAAAAAA==\n";
    for length in 1..text.len() {
        let out = streamed(&redactor, pieces(text, length)).concat();
        let zeros = "A".repeat(66);
        assert_eq!(out, format!("{zeros}B[REDACTED:SECRET_TOKEN]AAAAAAAAAAAAAA==\n"), "by {length}");
    }
}

#[test]
fn lines_are_not_kept_back_for_what_their_last_characters_could_become() {
    let redactor = redactor(&[("TOKEN", TOKEN.as_bytes())]);
    // `Z2h` begins the base64 form, `676` the hex form.
    for line in ["Z\n", "Z2h\n", "676\r\n", "done: 67\n"] {
        assert_eq!(streamed(&redactor, [line]), [line, ""]);
    }
    // What follows is masked all the same.
    assert_eq!(
        streamed(&redactor, ["a Z2h\nw", "XzE2QzdlNDJGMjkyYzY5MTJFNzcxMGM4MzgzNDdBZTE3OEI0YQ==\n"]),
        ["a Z2h\n", "[REDACTED:SECRET_TOKEN]\n", ""]
    );
    assert_eq!(streamed(&redactor, ["Z2hw\n", "Z2hw"]), ["", "Z2hw\n", "Z2hw"]);
    // Also where it is whole before it is decided, since another form could begin with its end.
    let redactor = self::redactor(&[("A", b"aaaa")]);
    assert_eq!(streamed(&redactor, ["61\n", "616161", ""]), ["61\n", "", "", "[REDACTED:SECRET_A]"]);
}

#[test]
fn values_that_overlap_or_touch_are_one_mask() {
    let redactor = redactor(&[
        ("SHORT", b"pass"),
        ("LONG", b"my-passphrase"),
        ("NEXT", b"phrase-two"),
        ("AGAIN", b"pass"),
    ]);
    for (text, expected) in [
        // A value that is a part of another does not show the rest of it.
        ("my-passphrase", "[REDACTED:SECRET_LONG]"),
        ("<pass>", "<[REDACTED:SECRET_SHORT]>"),
        ("my-passphrase-two", "[REDACTED:SECRET_LONG]"),
        ("passphrase-two", "[REDACTED:SECRET_SHORT]"),
        ("passpass", "[REDACTED:SECRET_SHORT]"),
        ("pass pass", "[REDACTED:SECRET_SHORT] [REDACTED:SECRET_SHORT]"),
        ("my-pass", "my-[REDACTED:SECRET_SHORT]"),
    ] {
        assert_eq!(redactor.text(text), expected);
        for length in 1..=text.len() {
            assert_eq!(streamed(&redactor, pieces(text, length)).concat(), expected, "{text} by {length}");
        }
    }
}

#[test]
fn a_value_registered_later_is_masked_in_what_is_kept() {
    let redactor = redactor(&[("FIRST", b"abcdefgh-first")]);
    let mut stream = redactor.stream();
    assert_eq!(push(&mut stream, "abcdefgh"), "");
    assert!(redactor.clone().register("SECOND", b"cdefgh-second"));
    assert_eq!(push(&mut stream, "-s"), "ab");
    assert_eq!(push(&mut stream, "econd."), "[REDACTED:SECRET_SECOND].");

    // Of a value that began in what was shown, the rest is masked.
    let redactor = self::redactor(&[("FIRST", b"abcdefgh")]);
    let mut stream = redactor.stream();
    assert_eq!(push(&mut stream, "YW\n"), "YW\n");
    assert!(redactor.register("SECOND", b"YW\nJjZGU=?"));
    assert_eq!(push(&mut stream, "JjZ"), "");
    assert_eq!(push(&mut stream, "GU=?\n"), "[REDACTED:SECRET_SECOND]\n");

    // Where there was no secret, nothing was kept.
    let redactor = Redactor::default();
    let mut stream = redactor.stream();
    assert_eq!(push(&mut stream, "abcd"), "abcd");
    assert!(redactor.register("FIRST", b"abcdefgh"));
    assert_eq!(push(&mut stream, "efgh abcdefgh"), "efgh [REDACTED:SECRET_FIRST]");
}

#[test]
fn the_beginning_of_a_value_at_the_end_is_masked_from_eight_bytes() {
    let redactor = redactor(&[("URL", b"https://user:pw@host"), ("OTHER", b"https://user:pw@other")]);
    assert_eq!(streamed(&redactor, ["a https:/"]), ["a ", "https:/"]);
    assert_eq!(streamed(&redactor, ["a https://"]), ["a ", "[REDACTED:SECRET_URL]"]);
    assert_eq!(streamed(&redactor, ["a https://user:pw@o"]), ["a ", "[REDACTED:SECRET_OTHER]"]);
    assert_eq!(streamed(&redactor, ["a https://user:pw@host"]), ["a [REDACTED:SECRET_URL]", ""]);
    // The end of the line stays, and so does a text that is whole.
    assert_eq!(streamed(&redactor, ["aHR0cHM6Ly91c2Vy\n"]), ["", "[REDACTED:SECRET_URL]\n"]);
    assert_eq!(redactor.text("see https://"), "see https://");
}

#[test]
fn masks_are_not_masked() {
    let redactor = redactor(&[("A", b"REDACTED"), ("B", b"SECRET_"), ("C", b"[REDACTED:SECRET_C]")]);
    assert_eq!(redactor.text("REDACTED SECRET_ x"), "[REDACTED:SECRET_A] [REDACTED:SECRET_B] x");
    assert_eq!(redactor.text("[REDACTED:SECRET_C]"), "[REDACTED:SECRET_C]");
}

#[test]
fn no_value_appears_beside_a_mask() {
    let redactor = redactor(&[("A", b"12345678"), ("B", b"pass["), ("C", b"]word"), ("D", b"]rest[RED")]);
    for (text, expected) in [
        ("pass12345678", "[REDACTED:SECRET_B]"),
        ("12345678word", "[REDACTED:SECRET_A]"),
        ("12345678rest 12345678", "[REDACTED:SECRET_A] [REDACTED:SECRET_A]"),
    ] {
        assert_eq!(redactor.text(text), expected);
    }
}

#[test]
fn line_terminators_beside_a_mask_stay() {
    let redactor = redactor(&[("A", b"one two\nthree\n"), ("B", b"\r\nfour four\r\n")]);
    assert_eq!(redactor.text("one two\nthree\n\n"), "[REDACTED:SECRET_A]\n\n");
    assert_eq!(
        redactor.text("one two\r\nthree\r\nfour four\r\n\r\n"),
        "[REDACTED:SECRET_A]\r\n[REDACTED:SECRET_B]\r\n\r\n"
    );
}

#[test]
fn long_values() {
    // As long as a large key file, and as one of which not all forms are made.
    for (length, reads) in
        [(8 * 1024, &[1, 7, 1000, 4096, 9000, 64 * 1024][..]), (256 * 1024, &[1000, 64 * 1024])]
    {
        let mut value = String::new();
        for n in 0..length / 8 {
            write!(value, "{:08x}", (n as u32).wrapping_mul(0x9e37_79b1)).unwrap();
        }
        let redactor = redactor(&[("LONG", value.as_bytes())]);
        // Its beginning is kept until something else follows.
        let beginning = &value[..length - 1];
        let text = format!("a {value} {beginning}.");
        for read in reads {
            let out = streamed(&redactor, pieces(&text, *read)).concat();
            assert!(out == format!("a [REDACTED:SECRET_LONG] {beginning}."), "{length} by {read}");
        }
    }
}

#[test]
fn a_file_is_scanned_across_its_pieces() {
    let redactor =
        redactor(&[("A", b"first-value"), ("B", b"second-value"), ("C", b"second-value and more")]);
    let mut scanner = redactor.scanner();
    let found: Vec<Option<String>> = ["x fir", "st-val", "ue second-value", " and then", " first-value"]
        .iter()
        .map(|piece| scanner.push(piece.as_bytes()).map(|name| name.to_string()))
        .collect();
    let [a, b] = ["A", "B"].map(|name| Some(format!("the value of the secret `{name}`")));
    assert_eq!(found, [None, None, a.clone(), b, a]);
}

#[test]
fn values_are_not_in_debug_output() {
    let redactor = redactor(&[("TOKEN", TOKEN.as_bytes())]);
    let mut stream = redactor.stream();
    push(&mut stream, "ghp_16C7e42F");
    let debug = format!("{redactor:?} {stream:?} {:?}", redactor.scanner());
    assert!(!debug.contains("ghp_") && !debug.contains("103"), "{debug}");
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

    /// Where masks begin and end in `text` as it is, and whose they are; from where on nothing is decided.
    fn find_plain(&self, text: &[u8], firsts: impl Iterator<Item = usize>, end: End) -> Found {
        let mut found = Found { masks: Vec::new(), decided: text.len() };
        let trimmed = text.iter().rposition(|b| !b"\r\n".contains(b)).map_or(0, |last| last + 1);
        for first in firsts {
            for form in &self.forms {
                match Self::look(form, text, first) {
                    Seen::Whole(start, end) => found.masks.push((start, end, form.2)),
                    Seen::Begun(start) if end == End::Open => found.decided = found.decided.min(start),
                    Seen::Begun(start) if end == End::Cut && trimmed >= start + 8 => {
                        found.masks.push((start, trimmed, form.2));
                    }
                    _ => {}
                }
            }
        }
        found
    }

    fn find(&self, text: &[u8], end: End) -> Found {
        if self.forms.is_empty() {
            return Found { masks: Vec::new(), decided: text.len() };
        }
        let Some(plain) = Plain::of(text) else { return self.find_in_lines(text, end) };
        let mut found = self.find_in_lines(&plain.text, end);
        for mask in &mut found.masks {
            let range = plain.range(mask.0..mask.1);
            (mask.0, mask.1) = (range.start, range.end);
        }
        let raw = self.find_plain(text, plain.sequences.iter().cloned().flatten(), end);
        found.masks.extend(raw.masks);
        found.decided = plain.place(found.decided).min(raw.decided);
        if end == End::Open {
            found.decided = found.decided.min(plain.open.unwrap_or(text.len()));
        }
        found
    }

    fn find_in_lines(&self, text: &[u8], end: End) -> Found {
        let mut found = self.find_plain(text, 0..text.len(), end);
        let mut lines = Vec::new();
        let mut next = None;
        let mut at = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let whole = line.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
            match whole {
                None if end == End::Open => {
                    let line = line.strip_suffix(b"\r").unwrap_or(line);
                    next = dump::may_begin_line(line).then_some(at);
                }
                whole => {
                    let length = whole.unwrap_or(line).len();
                    lines.extend(dump::may_be_line(&line[..length]).then_some(at..at + length));
                }
            }
            at += line.len();
        }
        for dump in dump::of(text, &lines, next) {
            let end = if dump.is_open { end } else { End::Whole };
            let inner = self.find_plain(&dump.bytes, 0..dump.bytes.len(), end);
            for (start, end, secret) in inner.masks {
                let ranges = dump.ranges(start..end).into_iter();
                found.masks.extend(ranges.map(|range| (range.start, range.end, secret)));
            }
            if inner.decided < dump.bytes.len() {
                let ranges = dump.ranges(inner.decided..dump.bytes.len());
                found.decided = ranges.iter().map(|range| range.start).fold(found.decided, usize::min);
            }
        }
        found.decided = found.decided.min(next.unwrap_or(text.len()));
        found
    }

    /// What is given out of a stream that begins with `text`.
    fn masked(&self, text: &[u8], end: End) -> Vec<u8> {
        let Found { mut masks, decided } = self.find(text, end);
        masks.sort_by_key(|(start, end, secret)| (*start, usize::MAX - end, *secret));
        let mut out = Vec::new();
        let mut at = 0;
        let mut open = false;
        for (start, end, secret) in masks {
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

struct Found {
    masks: Vec<(usize, usize, usize)>,
    decided: usize,
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
    /// A form with these sequences at these places.
    Coloured(Index, Vec<(Index, &'static str)>),
    /// A form between other bytes, as a dump of so many bytes a line.
    Dumped(Index, Vec<u8>, usize, Style),
}

#[derive(Debug, Clone, Copy)]
enum Style {
    /// `xxd`, `xxd -e`
    Xxd(bool),
    /// `hexdump -C`
    HexdumpC,
    /// `od -x`
    OdX,
    /// `od -An -t x1`
    OdBare,
    /// `od -c`
    OdC,
    /// `od -b -c`
    OdBC,
}

fn dumped(bytes: &[u8], width: usize, style: Style) -> Vec<u8> {
    let mut out = vec![b'\n'];
    for (number, line) in bytes.chunks(width).enumerate() {
        let at = number * width;
        let shown: String = line
            .iter()
            .map(|byte| if (b' '..0x7f).contains(byte) { char::from(*byte) } else { '.' })
            .collect();
        let octal = line.iter().fold(String::new(), |all, byte| format!("{all} {byte:03o}"));
        let hex = line.iter().fold(String::new(), |all, byte| format!("{all} {byte:02x}"));
        let columns = line.iter().fold(String::new(), |all, byte| match byte {
            b' '..0x7f => format!("{all}   {}", char::from(*byte)),
            b'\n' => format!("{all}  \\n"),
            b'\r' => format!("{all}  \\r"),
            _ => format!("{all} {byte:03o}"),
        });
        let words = |back: bool, size: usize| {
            let word = |word: &[u8]| -> String {
                let digits = word.iter().map(|byte| format!("{byte:02x}"));
                if back { digits.rev().collect() } else { digits.collect() }
            };
            line.chunks(size).fold(String::new(), |all, bytes| format!("{all} {}", word(bytes)))
        };
        let text = match style {
            Style::Xxd(false) => format!("{at:08x}:{:<30}  {shown}", words(false, 2)),
            Style::Xxd(true) => format!("{at:08x}:{:<30}  {shown}", words(true, 4)),
            Style::HexdumpC => format!("{at:08x} {hex:<30}  |{shown}|"),
            Style::OdX => format!("{at:07o}{}", words(true, 2)),
            Style::OdBare => hex,
            Style::OdC => format!("{at:07o}{columns}"),
            Style::OdBC => format!("{at:07o}{octal}\n       {columns}"),
        };
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }
    out
}

fn piece() -> impl Strategy<Value = Piece> {
    let byte = prop_oneof![
        6 => Just(b'a'), 4 => Just(b'b'), 2 => Just(b'\n'), 1 => Just(b'\r'), 1 => Just(b' '), 1 => Just(b']'),
        1 => Just(b'6'), 1 => Just(b'Y'), 1 => Just(b'W'), 1 => Just(0xe4), 1 => Just(0x1b), 1 => Just(b'*'),
    ];
    let sequence = prop_oneof![Just("\x1b[01;31m\x1b[K"), Just("\x1b[m"), Just("\x1b"), Just("\x1b(B")];
    let style = prop_oneof![
        any::<bool>().prop_map(Style::Xxd),
        Just(Style::HexdumpC),
        Just(Style::OdX),
        Just(Style::OdBare),
        Just(Style::OdC),
        Just(Style::OdBC),
    ];
    prop_oneof![
        2 => prop::collection::vec(byte, 0..12).prop_map(Piece::Bytes),
        3 => (any::<Index>(), any::<Option<Index>>(), prop::collection::vec(any::<(Index, bool)>(), 0..3))
            .prop_map(|(form, cut, breaks)| Piece::Form(form, cut, breaks)),
        1 => (any::<Index>(), 1usize..20, any::<bool>()).prop_map(|(form, width, r)| Piece::Wrapped(form, width, r)),
        1 => (any::<Index>(), prop::collection::vec((any::<Index>(), sequence), 1..4))
            .prop_map(|(form, sequences)| Piece::Coloured(form, sequences)),
        1 => (any::<Index>(), prop::collection::vec(any::<u8>(), 0..5), 1usize..12, style)
            .prop_map(|(form, before, width, style)| Piece::Dumped(form, before, width, style)),
    ]
}

fn text(oracle: &Oracle, pieces: &[Piece]) -> Vec<u8> {
    let line_break = |carriage| if carriage { &b"\r\n"[..] } else { b"\n" };
    let mut text = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => text.extend_from_slice(bytes),
            Piece::Form(..) | Piece::Wrapped(..) | Piece::Coloured(..) | Piece::Dumped(..)
                if oracle.forms.is_empty() => {}
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
            Piece::Coloured(form, sequences) => {
                let mut form = form.get(&oracle.forms).0.clone();
                for (place, sequence) in sequences {
                    let place = place.index(form.len() + 1);
                    form.splice(place..place, sequence.bytes());
                }
                text.extend_from_slice(&form);
            }
            Piece::Dumped(form, before, width, style) => {
                let form = &form.get(&oracle.forms).0;
                let bytes = [before.as_slice(), &form[..form.len().min(40)], before].concat();
                text.extend_from_slice(&dumped(&bytes, *width, *style));
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
            // Nothing is kept back for longer than the oracle does. What goes out earlier is right: the whole is, below.
            let expected = oracle.masked(&text[..at], End::Open);
            prop_assert!(out.len() >= expected.len(), "{} {}", out.escape_ascii(), expected.escape_ascii());
            if at == text.len() {
                break;
            }
        }
        stream.end(&mut |bytes| out.extend_from_slice(bytes));
        let expected = oracle.masked(&text, End::Cut);
        prop_assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
        let expected = oracle.masked(&text, End::Whole);
        prop_assert_eq!(redactor.bytes(&text).escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    #[test]
    fn what_is_given_out_has_no_form(
        values in prop::collection::vec(value(), 1..4),
        pieces in prop::collection::vec(piece(), 0..8),
    ) {
        let names = ["A", "B", "a]b"];
        let named: Vec<(&str, &[u8])> = names.into_iter().zip(values.iter().map(Vec::as_slice)).collect();
        let redactor = redactor(&named);
        let oracle = Oracle::new(&redactor);
        let text = text(&oracle, &pieces);
        let (mut out, mut is_mask) = (Vec::new(), Vec::new());
        let mut take = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            let mask = oracle.masks.iter().any(|mask| mask.as_bytes() == bytes);
            is_mask.resize(out.len(), mask);
        };
        let mut stream = redactor.stream();
        stream.push(&text, &mut take);
        stream.end(&mut take);
        for first in 0..out.len() {
            for form in &oracle.forms {
                if let Seen::Whole(_, end) = Oracle::look(form, &out, first) {
                    let shown = (first..end).filter(|at| !is_mask[*at] && !b"\r\n".contains(&out[*at])).count();
                    prop_assert!(shown < 4, "{} in {}", form.0.escape_ascii(), out.escape_ascii());
                }
            }
        }
    }
}

//! What a secret value looks like when people and tools print it.
//!
//! What is made for one value:
//!
//! | Form | Of what | Line breaks inside |
//! |---|---|---|
//! | base64, standard and URL alphabet: at each of the three alignments, without the characters at the edges that depend on what stands beside; whole, of the value and of the value with a newline, padded and not | the value | ignored |
//! | base64 of the value as JSON has it, and of its base64: at each of the three alignments; whole, of what `base64` prints | the value | ignored |
//! | hex, lower and upper case: plain, separated by spaces (`od`), by colons (`openssl`) | the value | ignored |
//! | raw | the value, its lines | as in the value |
//! | percent-encoded, ten ways: which characters are kept, `+` for a space, the case of the digits | the value, its lines | as in the form |
//! | JSON: shortest; with `\/`; ASCII only; both; as Go does; a JSON text in a JSON text, ASCII only in the inner one, the outer one or none | the value, its lines | as in the form |
//! | shells: single-quoted three ways, double-quoted, `$'…'`, `printf %q`, patterns of `set -x` | the value, its lines | as in the form |
//! | C, Go, Python, YAML string literals | the value, its lines | as in the form |
//! | doubled quotes (`''` of SQL and YAML, `""` of CSV); backslashes of PHP's `addslashes`, of MySQL and PostgreSQL | the value, its lines | as in the form |
//! | XML and HTML, by which quotes are escaped and how | the value, its lines | as in the form |
//!
//! "The value" is the value as it is, and without the line endings at its edges where those inside are `\n` and `\r\n`;
//! where it holds escapes (`\n`, `\"`, `\u20ac`), also what `echo`, `printf %b`, `jq -r` and `sed` make of these; where it
//! is no UTF-8, also with `\u{fffd}` for what is none.
//! Of a JSON document also those of its texts that are secrets on their own; see [`fields`].
//! "Its lines" are those of 8 bytes or more. Equal forms are kept once; a value of letters and digits has about 20.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::hash::{BuildHasher as _, RandomState};
use std::iter;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, NO_PAD, PAD};
use zeroize::Zeroizing;

mod fields;
#[cfg(test)]
mod tests;
mod unescape;

/// Fewer bytes than this, line terminators not counted, cannot be masked: they stand everywhere by chance. The shortest
/// base64 form of four bytes has four characters, so no form is shorter.
pub(super) const SHORTEST: usize = 4;
/// A line of a value is looked for by itself from this length on: shorter ones (`{`, `  - a`) stand everywhere.
const SHORTEST_LINE: usize = 8;
/// Longer values are looked for raw, line by line, in base64 and in plain hex only: a value in all forms takes more than
/// a hundred times its size.
const LONG: usize = 64 * 1024;

/// One way in which a value is written.
pub(super) struct Form {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Line breaks between two of its bytes do not hide it, as in what `base64` and `xxd -p` print.
    pub(super) wrapped: bool,
}

/// Whether `value` is long enough to be masked.
pub(super) fn maskable(value: &[u8]) -> bool {
    value.iter().filter(|b| !is_terminator(**b)).count() >= SHORTEST
}

/// All forms of `value`, each once.
pub(super) fn of(value: &[u8]) -> Vec<Form> {
    let mut forms = Set::default();
    let all = value.len() <= LONG;
    let unescaped = unescape::all(value);
    let fields = if all { fields::of(value) } else { Vec::new() };
    let values = || iter::once(value).chain(unescaped.iter().chain(&fields).map(|text| text.as_slice()));
    let texts: Vec<_> = values().flat_map(texts).collect();
    // What may be wrapped first: it is found wherever an equal form that may not is.
    for text in &texts {
        binary(text, all, &mut |bytes| forms.add(bytes, true));
    }
    for text in texts.iter().map(|text| text.as_slice()).chain(values().flat_map(lines)) {
        if all {
            textual(text, &mut |bytes| forms.add(bytes, false));
        } else {
            forms.add(Zeroizing::new(text.to_vec()), false);
        }
    }
    if let Some(lossy) = lossy(value) {
        forms.add(lossy, false);
    }
    forms.list
}

/// What a text shows of a value that is no UTF-8, if that is enough of it.
fn lossy(value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let kept: usize = value.utf8_chunks().map(|chunk| chunk.valid().len()).sum();
    (SHORTEST..value.len()).contains(&kept).then(|| {
        let mut text = Growing::with_capacity(value.len() * 3);
        for chunk in value.utf8_chunks() {
            text.push(chunk.valid().as_bytes());
            if !chunk.invalid().is_empty() {
                text.char(Char::Text(char::REPLACEMENT_CHARACTER));
            }
        }
        text.0
    })
}

/// Forms, each once. None begins or ends with a line terminator, so that a mask swallows none that stands beside the
/// value.
#[derive(Default)]
pub(super) struct Set {
    pub(super) list: Vec<Form>,
    /// Where in `list` a form with this hash is.
    hashes: HashMap<u64, usize>,
    hasher: RandomState,
}

impl Set {
    pub(super) fn add(&mut self, mut bytes: Zeroizing<Vec<u8>>, wrapped: bool) {
        let trimmed = trim_terminators(&bytes);
        if trimmed.len() < bytes.len() {
            bytes = Zeroizing::new(trimmed.to_vec());
        }
        let hash = self.hasher.hash_one(bytes.as_slice());
        let known = self.hashes.get(&hash).is_some_and(|i| self.list[*i].bytes == bytes);
        if !known && maskable(&bytes) {
            self.hashes.insert(hash, self.list.len());
            self.list.push(Form { bytes, wrapped });
        }
    }
}

/// The value as it is, and with either line ending without those at its edges.
fn texts(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let trimmed = trim_terminators(value);
    let mut texts = vec![Zeroizing::new(value.to_vec()), Zeroizing::new(trimmed.to_vec())];
    if str::from_utf8(value).is_ok() {
        let unix = replace(trimmed, b"\r\n", b"\n");
        texts.push(replace(&unix, b"\n", b"\r\n"));
        texts.push(unix);
    }
    texts.sort_by(|a, b| a.as_slice().cmp(b));
    texts.dedup();
    texts
}

/// The lines of `value` that are long enough, without the white space around them where they are long enough without.
fn lines(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b'\n').filter_map(|line| {
        let line = trim_terminators(line);
        let trimmed = line.trim_ascii();
        if trimmed.len() >= SHORTEST_LINE {
            Some(trimmed)
        } else {
            // Indentation alone is no secret.
            (line.len() >= SHORTEST_LINE && trimmed.len() >= SHORTEST).then_some(line)
        }
    })
}

/// The forms that hide what bytes they stand for, and that tools break into lines.
fn binary(text: &[u8], all: bool, add: &mut impl FnMut(Zeroizing<Vec<u8>>)) {
    for alphabet in [&alphabet::STANDARD, &alphabet::URL_SAFE] {
        for shift in 0..3 {
            add(base64_at(text, shift, alphabet));
        }
        let mut line = Growing::with_capacity(text.len() + 1);
        line.push(text);
        line.push(b"\n");
        for text in [text, &line.0] {
            add(base64_of(text, alphabet, PAD));
            add(base64_of(text, alphabet, NO_PAD));
        }
    }
    if all {
        binary_twice(text, add);
    }
    for digits in [LOWER, UPPER] {
        let separators = [&b""[..], b" ", b":"];
        for separator in &separators[..if all { 3 } else { 1 }] {
            let mut hex = Growing::with_capacity(text.len() * 3);
            for (i, byte) in text.iter().enumerate() {
                hex.push(if i == 0 { b"" } else { separator });
                hex.byte(*byte, digits);
            }
            add(hex.0);
        }
    }
}

/// Base64 of what is a form itself: of a document that holds the value in JSON or in base64, as Kubernetes, Docker's
/// logins and tokens have it.
fn binary_twice(text: &[u8], add: &mut impl FnMut(Zeroizing<Vec<u8>>)) {
    let alphabets = [&alphabet::STANDARD, &alphabet::URL_SAFE];
    for (ascii, html) in [(false, false), (true, false), (false, true)] {
        let Some(json) = json(text, Json { ascii, slash: false, html }) else { continue };
        for (alphabet, shift) in
            alphabets.iter().flat_map(|alphabet| (0..3).map(move |shift| (alphabet, shift)))
        {
            add(base64_at(&json, shift, alphabet));
        }
    }
    for inner in (0..3).map(|shift| base64_at(text, shift, &alphabet::STANDARD)) {
        for shift in 0..3 {
            // The alphabets differ in no character that stands for those of base64.
            add(base64_at(&inner, shift, &alphabet::STANDARD));
        }
    }
    // `base64 | base64`
    let printed = base64_of(text, &alphabet::STANDARD, PAD);
    let mut lines = Growing::with_capacity(2 * printed.len());
    for line in printed.chunks(76) {
        lines.push(line);
        lines.push(b"\n");
    }
    add(base64_of(&lines.0, &alphabet::STANDARD, PAD));
}

fn base64_of(
    text: &[u8],
    alphabet: &alphabet::Alphabet,
    padding: GeneralPurposeConfig,
) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(GeneralPurpose::new(alphabet, padding).encode(text).into_bytes())
}

/// Base64 of `text` behind `shift` other bytes, without the characters that depend on what stands beside it.
fn base64_at(text: &[u8], shift: usize, alphabet: &alphabet::Alphabet) -> Zeroizing<Vec<u8>> {
    let mut shifted = Growing::with_capacity(shift + text.len());
    shifted.push(&[0; 2][..shift]);
    shifted.push(text);
    // A character stands for six bits.
    let bits = 8 * shift..8 * (shift + text.len());
    let stable = bits.start.div_ceil(6)..bits.end / 6;
    Zeroizing::new(base64_of(&shifted.0, alphabet, NO_PAD)[stable].to_vec())
}

/// The forms in which most characters stand for themselves.
fn textual(text: &[u8], add: &mut impl FnMut(Zeroizing<Vec<u8>>)) {
    add(Zeroizing::new(text.to_vec()));
    for (kept, plus) in PERCENT {
        for digits in [LOWER, UPPER] {
            add(percent(text, kept, "%20", digits));
            if *plus && text.contains(&b' ') {
                add(percent(text, kept, "+", digits));
            }
        }
    }
    for (ascii, slash, html) in
        [(false, true, false), (true, false, false), (true, true, false), (false, false, true)]
    {
        json(text, Json { ascii, slash, html }).into_iter().for_each(&mut *add);
    }
    if let Some(shortest) = json(text, Json::default()) {
        let ascii = Json { ascii: true, ..Json::default() };
        json(&shortest, Json::default()).into_iter().for_each(&mut *add);
        json(&shortest, ascii).into_iter().for_each(&mut *add);
        json(text, ascii).and_then(|inner| json(&inner, ascii)).into_iter().for_each(&mut *add);
        add(shortest);
    }
    for quote in [r"'\''", r#"'"'"'"#, "''"] {
        escaped(text, "'", |c, out| replace_char(c, &[('\'', quote)], out)).into_iter().for_each(&mut *add);
    }
    for escapes in ESCAPES {
        escaped(text, "\"'\\", |c, out| replace_char(c, escapes, out)).into_iter().for_each(&mut *add);
    }
    add(dash(text));
    for ascii in [false, true] {
        add(gnu(text, ascii));
    }
    for special in BACKSLASHED {
        escaped(text, special, |c, out| backslash(c, special, out)).into_iter().for_each(&mut *add);
    }
    add(backslash_all(text));
    for literal in LITERALS {
        escaped(text, literal.quoted, |c, out| literal.char(c, out)).into_iter().for_each(&mut *add);
    }
    for entities in ENTITIES {
        escaped(text, "&<>\"'", |c, out| replace_char(c, entities, out)).into_iter().for_each(&mut *add);
        let ascii = |c, out: &mut Growing| match c {
            Char::Text(c) if !c.is_ascii() => out.format(format_args!("&#{};", u32::from(c))),
            c => replace_char(c, entities, out),
        };
        escaped(text, "&<>\"'", ascii).into_iter().for_each(&mut *add);
    }
}

const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";

/// What is kept beside letters and digits, and whether a space may also be `+`.
const PERCENT: &[(&str, bool)] = &[
    // Every byte encoded, as `xxd -p | sed 's/../%&/g'` does.
    ("", false),
    // RFC 3986; Go's `QueryEscape`; Python's `quote_plus`; curl.
    ("-_.~", true),
    // Python's `quote`.
    ("-_.~/", true),
    // JavaScript's `encodeURIComponent`; jq's `@uri`.
    ("-_.~!*'()", false),
    // JavaScript's `encodeURI`.
    ("-_.~!*'();,/?:@&=+$#", false),
    // JavaScript's `URLSearchParams`; Java's `URLEncoder`.
    ("-_.*", true),
    // PHP's `urlencode`.
    ("-_.", true),
    // Go's `PathEscape`, and its user names and passwords in URLs.
    ("-_.~$&+:=@", false),
    ("-_.~$&+,;=", false),
    // User names and passwords in URLs after the WHATWG's standard.
    ("-_.~!$%&'()*+,", false),
];

/// What gets a backslash, and nothing else changes.
const BACKSLASHED: &[&str] = &[
    // In double quotes: bash's `declare -p`.
    "\"$`\\",
    // bash's `printf %q`, whose words need not be quoted.
    " !\"$&'()*,;<>?[\\]^`{|}",
    // The same where `~` and `#` begin a word.
    " !\"$&'()*,;<>?[\\]^`{|}~#",
    // bash's `set -x` of `[[ x =~ "$SECRET" ]]`.
    "$()*+.?[\\{|}",
];

/// Pairs of what is replaced and what stands for it in quotes.
const ESCAPES: &[&[(char, &str)]] = &[
    // CSV, PowerShell, names in SQL.
    &[('"', "\"\"")],
    // PHP's `addslashes`.
    &[('\'', "\\'"), ('"', "\\\""), ('\\', "\\\\"), ('\0', "\\0")],
    // MySQL's `mysql_real_escape_string`, and `mysqldump`.
    &[
        ('\'', "\\'"),
        ('"', "\\\""),
        ('\\', "\\\\"),
        ('\0', "\\0"),
        ('\n', "\\n"),
        ('\r', "\\r"),
        ('\x1a', "\\Z"),
    ],
    // MySQL's `QUOTE`.
    &[('\'', "\\'"), ('\\', "\\\\"), ('\0', "\\0"), ('\x1a', "\\Z")],
    // Tables of `mysql --batch` and PostgreSQL's `COPY`.
    &[
        ('\\', "\\\\"),
        ('\0', "\\0"),
        ('\n', "\\n"),
        ('\r', "\\r"),
        ('\t', "\\t"),
        ('\x08', "\\b"),
        ('\x0b', "\\v"),
        ('\x0c', "\\f"),
    ],
];

/// Pairs of what is replaced and its entity.
const ENTITIES: &[&[(char, &str)]] = &[
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;")],
    // Attributes of Python's `ElementTree`.
    &[
        ('&', "&amp;"),
        ('<', "&lt;"),
        ('>', "&gt;"),
        ('"', "&quot;"),
        ('\n', "&#10;"),
        ('\r', "&#13;"),
        ('\t', "&#9;"),
    ],
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&apos;")],
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#39;")],
    // PHP.
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#039;")],
    // Python's `html.escape`.
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#x27;")],
    // Go's `html.EscapeString` and `xml.EscapeText`.
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&#34;"), ('\'', "&#39;")],
    &[
        ('&', "&amp;"),
        ('<', "&lt;"),
        ('>', "&gt;"),
        ('"', "&#34;"),
        ('\'', "&#39;"),
        ('\n', "&#xA;"),
        ('\r', "&#xD;"),
        ('\t', "&#x9;"),
    ],
];

/// String literals of languages.
const LITERALS: &[Literal] = &[
    // bash's `$'…'`, in a UTF-8 locale and in another.
    Literal { quoted: "'\\", named: BASH, controls: Code::Octal, rest: None },
    Literal { quoted: "'\\", named: BASH, controls: Code::Octal, rest: Some(Code::Octal) },
    // Go's `%q` and `%+q`; C.
    Literal { quoted: "\"\\", named: GO, controls: Code::Hex(LOWER), rest: None },
    Literal { quoted: "\"\\", named: GO, controls: Code::Hex(LOWER), rest: Some(Code::Point) },
    // Python's `repr` of a text, with either quote around it, and of bytes.
    Literal { quoted: "\\", named: PYTHON, controls: Code::Hex(LOWER), rest: None },
    Literal { quoted: "'\\", named: PYTHON, controls: Code::Hex(LOWER), rest: None },
    Literal { quoted: "\\", named: PYTHON, controls: Code::Hex(LOWER), rest: Some(Code::Hex(LOWER)) },
    Literal { quoted: "'\\", named: PYTHON, controls: Code::Hex(LOWER), rest: Some(Code::Hex(LOWER)) },
    // Python's `ascii`.
    Literal { quoted: "\\", named: PYTHON, controls: Code::Hex(LOWER), rest: Some(Code::ShortPoint(LOWER)) },
    Literal { quoted: "'\\", named: PYTHON, controls: Code::Hex(LOWER), rest: Some(Code::ShortPoint(LOWER)) },
    // YAML in double quotes.
    Literal { quoted: "\"\\", named: YAML, controls: Code::Hex(UPPER), rest: None },
    Literal { quoted: "\"\\", named: YAML, controls: Code::Hex(UPPER), rest: Some(Code::ShortPoint(UPPER)) },
];

const PYTHON: &[(char, char)] = &[('\n', 'n'), ('\r', 'r'), ('\t', 't')];
const GO: &[(char, char)] =
    &[('\n', 'n'), ('\r', 'r'), ('\t', 't'), ('\x07', 'a'), ('\x08', 'b'), ('\x0b', 'v'), ('\x0c', 'f')];
const BASH: &[(char, char)] = &[
    ('\n', 'n'),
    ('\r', 'r'),
    ('\t', 't'),
    ('\x07', 'a'),
    ('\x08', 'b'),
    ('\x0b', 'v'),
    ('\x0c', 'f'),
    ('\x1b', 'E'),
];
const YAML: &[(char, char)] = &[
    ('\n', 'n'),
    ('\r', 'r'),
    ('\t', 't'),
    ('\0', '0'),
    ('\x07', 'a'),
    ('\x08', 'b'),
    ('\x0b', 'v'),
    ('\x0c', 'f'),
    ('\x1b', 'e'),
];

struct Literal {
    /// What gets a backslash.
    quoted: &'static str,
    /// Characters that have a letter of their own.
    named: &'static [(char, char)],
    /// How other control characters are written.
    controls: Code,
    /// How what is not ASCII is written; as it is without.
    rest: Option<Code>,
}

#[derive(Clone, Copy)]
enum Code {
    /// `\033`, byte by byte.
    Octal,
    /// `\x1b`, byte by byte.
    Hex(&'static [u8; 16]),
    /// `\u20ac` or, above, `\U0001f600`.
    Point,
    /// The same with these digits, and `\xe4` where that is enough.
    ShortPoint(&'static [u8; 16]),
}

impl Literal {
    fn char(&self, c: Char, out: &mut Growing) {
        let code = match c {
            Char::Text(c) if self.quoted.contains(c) => return out.format(format_args!("\\{c}")),
            Char::Text(c) if c.is_ascii_control() => {
                if let Some((_, name)) = self.named.iter().find(|(named, _)| *named == c) {
                    return out.format(format_args!("\\{name}"));
                }
                Some(self.controls)
            }
            Char::Text(c) if c.is_ascii() => None,
            Char::Text(_) | Char::Byte(_) => self.rest,
        };
        match (code, c) {
            (None, c) => out.char(c),
            (Some(Code::Point), Char::Text(c)) => out.point(c, LOWER, false),
            (Some(Code::ShortPoint(digits)), Char::Text(c)) => out.point(c, digits, true),
            (Some(code), c) => c.each_byte(|byte| match code {
                Code::Octal => out.format(format_args!("\\{byte:03o}")),
                Code::Hex(digits) => {
                    out.push(b"\\x");
                    out.byte(byte, digits);
                }
                Code::Point | Code::ShortPoint(_) => out.push(&[byte]),
            }),
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Json {
    /// What is not ASCII as `\u20ac`.
    ascii: bool,
    /// `/` as `\/`.
    slash: bool,
    /// `<`, `>` and `&` as `\u003c` and so on.
    html: bool,
}

/// `text` as JSON has it between quotes; nothing where that is the same.
fn json(text: &[u8], json: Json) -> Option<Zeroizing<Vec<u8>>> {
    escaped(text, "\"\\/<>&", |c, out| json_char(c, json, out))
}

fn json_char(c: Char, json: Json, out: &mut Growing) {
    let Char::Text(text) = c else { return out.char(c) };
    match text {
        '"' | '\\' => out.format(format_args!("\\{text}")),
        '\n' => out.push(b"\\n"),
        '\r' => out.push(b"\\r"),
        '\t' => out.push(b"\\t"),
        '\x08' => out.push(b"\\b"),
        '\x0c' => out.push(b"\\f"),
        '/' if json.slash => out.push(b"\\/"),
        ..' ' => out.format(format_args!("\\u{:04x}", u32::from(text))),
        '<' | '>' | '&' if json.html => out.format(format_args!("\\u{:04x}", u32::from(text))),
        '\x7f'.. if json.ascii => {
            for unit in text.encode_utf16(&mut [0; 2]) {
                out.format(format_args!("\\u{unit:04x}"));
            }
        }
        _ => out.char(c),
    }
}

fn percent(text: &[u8], kept: &str, space: &str, digits: &[u8; 16]) -> Zeroizing<Vec<u8>> {
    let mut out = Growing::with_capacity(text.len() * 3);
    // With nothing kept, letters and digits are encoded too.
    let kept =
        |byte: u8| !kept.is_empty() && (byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte));
    for &byte in text {
        match byte {
            b' ' => out.push(space.as_bytes()),
            byte if kept(byte) => out.push(&[byte]),
            byte => {
                out.push(b"%");
                out.byte(byte, digits);
            }
        }
    }
    out.0
}

/// Quoted as dash's `export -p` does: all `'` that stand together in one pair of `"`, and nothing after them where they
/// end the word.
fn dash(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Growing::with_capacity(text.len() + 16);
    for run in text.chunk_by(|a, b| (*a == b'\'') == (*b == b'\'')) {
        if run.starts_with(b"'") {
            out.push(b"'\"");
            out.push(run);
            out.push(b"\"'");
        } else {
            out.push(run);
        }
    }
    if text.ends_with(b"'") {
        out.0.pop();
    }
    out.0
}

/// Quoted as GNU programs do for a shell: what cannot be printed, which in the locale `C` is all that is not ASCII, in
/// `$'…'` of its own.
fn gnu(text: &[u8], ascii: bool) -> Zeroizing<Vec<u8>> {
    let mut out = Growing::with_capacity(text.len() + 16);
    let mut open = false;
    for chunk in text.utf8_chunks() {
        let chars = chunk.valid().chars().map(Char::Text);
        for c in chars.chain(chunk.invalid().iter().map(|byte| Char::Byte(*byte))) {
            let printable = matches!(c, Char::Text(c) if !c.is_control() && (c.is_ascii() || !ascii));
            let apostrophe = c == Char::Text('\'');
            if printable == open && !apostrophe {
                out.push(if open { b"''" } else { b"'$'" });
                open = !open;
            }
            match c {
                Char::Text('\'') => {
                    out.push(br"'\''");
                    open = false;
                }
                c if printable => out.char(c),
                Char::Text(c) if BASH.iter().any(|(named, _)| *named == c && c != '\x1b') => {
                    let name = BASH.iter().find(|(named, _)| *named == c).map_or(' ', |(_, name)| *name);
                    out.format(format_args!("\\{name}"));
                }
                c => c.each_byte(|byte| out.format(format_args!("\\{byte:03o}"))),
            }
        }
    }
    if open {
        out.push(b"'");
    }
    out.0
}

fn backslash(c: Char, special: &str, out: &mut Growing) {
    if let Char::Text(c) = c
        && special.contains(c)
    {
        out.push(b"\\");
    }
    out.char(c);
}

/// As bash's `set -x` prints what a text is compared with: `[[ x == "$SECRET" ]]`.
fn backslash_all(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Growing::with_capacity(text.len() * 2);
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            out.push(b"\\");
            out.char(Char::Text(c));
        }
        out.push(chunk.invalid());
    }
    out.0
}

fn replace_char(c: Char, table: &[(char, &str)], out: &mut Growing) {
    match table.iter().find(|(from, _)| c == Char::Text(*from)) {
        Some((_, to)) => out.push(to.as_bytes()),
        None => out.char(c),
    }
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Growing::with_capacity(text.len() * 2);
    let mut done = 0;
    for at in memchr::memmem::find_iter(text, from) {
        out.push(&text[done..at]);
        out.push(to);
        done = at + from.len();
    }
    out.push(&text[done..]);
    out.0
}

fn trim_terminators(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|b| !is_terminator(*b)).unwrap_or(text.len());
    let end = text.iter().rposition(|b| !is_terminator(*b)).map_or(start, |last| last + 1);
    &text[start..end]
}

pub(super) fn is_terminator(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// What a text of any bytes consists of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Char {
    Text(char),
    /// What is no UTF-8.
    Byte(u8),
}

impl Char {
    fn each_byte(self, mut take: impl FnMut(u8)) {
        match self {
            Self::Text(c) => c.encode_utf8(&mut [0; 4]).bytes().for_each(take),
            Self::Byte(byte) => take(byte),
        }
    }
}

/// `text` with `rule` applied to control characters, what is not ASCII, and what is `special`; nothing if there is
/// none of these.
fn escaped(text: &[u8], special: &str, rule: impl Fn(Char, &mut Growing)) -> Option<Zeroizing<Vec<u8>>> {
    // One bit for each ASCII character.
    let special = special.bytes().fold(1 << 0x7f | 0xffff_ffff, |bits: u128, byte| bits | 1 << byte);
    let is_special = |byte: &u8| !byte.is_ascii() || special >> byte & 1 != 0;
    if !text.iter().any(is_special) {
        return None;
    }
    let mut out = Growing::with_capacity(text.len() * 2);
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(at) = rest.bytes().position(|byte| is_special(&byte)) {
            let (plain, from) = rest.split_at(at);
            out.push(plain.as_bytes());
            let mut chars = from.chars();
            if let Some(c) = chars.next() {
                rule(Char::Text(c), &mut out);
            }
            rest = chars.as_str();
        }
        out.push(rest.as_bytes());
        chunk.invalid().iter().for_each(|byte| rule(Char::Byte(*byte), &mut out));
    }
    Some(out.0)
}

/// Bytes that are overwritten also where they move because they got too many.
struct Growing(Zeroizing<Vec<u8>>);

impl Growing {
    fn with_capacity(capacity: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(capacity)))
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.0.capacity() - self.0.len() < bytes.len() {
            let mut larger = Vec::with_capacity(2 * self.0.capacity() + bytes.len());
            larger.extend_from_slice(&self.0);
            self.0 = Zeroizing::new(larger);
        }
        self.0.extend_from_slice(bytes);
    }

    fn byte(&mut self, byte: u8, digits: &[u8; 16]) {
        self.push(&[digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
    }

    /// `\u20ac`, `\U0001f600` or, if `short`, `\xe4`.
    fn point(&mut self, c: char, digits: &[u8; 16], short: bool) {
        let point = u32::from(c).to_be_bytes();
        let (letter, from) = match point {
            [0, 0, 0, _] if short => (b"\\x", 3),
            [0, 0, ..] => (b"\\u", 2),
            _ => (b"\\U", 0),
        };
        self.push(letter);
        point[from..].iter().for_each(|byte| self.byte(*byte, digits));
    }

    fn char(&mut self, c: Char) {
        match c {
            Char::Text(c) => self.push(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Char::Byte(byte) => self.push(&[byte]),
        }
    }

    fn format(&mut self, text: fmt::Arguments<'_>) {
        // It only grows, which does not fail.
        let _ = self.write_fmt(text);
    }
}

impl fmt::Write for Growing {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

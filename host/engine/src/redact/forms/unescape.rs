//! What tools make of a value that holds escapes: keys of service accounts are JSON with line breaks as `\n`.

use zeroize::Zeroizing;

use super::{Char, Growing};

/// `value` without its escapes, once for each way of taking them that changes something.
pub(super) fn all(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    if memchr::memchr(b'\\', value).is_none() {
        return Vec::new();
    }
    let mut texts: Vec<_> = [line_break, json, shell].map(|rule| unescaped(value, rule)).into();
    texts.dedup();
    texts.retain(|text| **text != value);
    texts
}

/// Takes what stands after a backslash, gives out what it means, and answers how long it is; nothing if it is no escape.
type Rule = fn(&[u8], &mut Growing) -> Option<usize>;

fn unescaped(text: &[u8], rule: Rule) -> Zeroizing<Vec<u8>> {
    let mut out = Growing::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.push(&rest[..at]);
        let after = &rest[at + 1..];
        match rule(after, &mut out) {
            Some(taken) => rest = &after[taken..],
            None => {
                out.push(b"\\");
                rest = after;
            }
        }
    }
    out.push(rest);
    out.0
}

/// `sed 's/\\n/\n/g'`, `${KEY//\\n/$'\n'}`, and programs that put the lines of a key together.
fn line_break(after: &[u8], out: &mut Growing) -> Option<usize> {
    after.starts_with(b"n").then(|| {
        out.push(b"\n");
        1
    })
}

/// `jq -r`, and every reader of JSON.
fn json(after: &[u8], out: &mut Growing) -> Option<usize> {
    let plain = match after.first()? {
        plain @ (b'"' | b'\\' | b'/') => *plain,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => {
            let unit = |at: &[u8]| {
                let digits = at.strip_prefix(b"u")?.get(..4)?;
                u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
            };
            let first = unit(after)?;
            let second = after[5..].strip_prefix(b"\\").and_then(unit);
            let mut chars = char::decode_utf16([first].into_iter().chain(second));
            let Some(Ok(c)) = chars.next() else { return None };
            out.char(Char::Text(c));
            return Some(if c.len_utf16() == 2 { 11 } else { 5 });
        }
        _ => return None,
    };
    out.push(&[plain]);
    Some(1)
}

/// dash's `echo`, bash's `echo -e`, and `printf %b`.
fn shell(after: &[u8], out: &mut Growing) -> Option<usize> {
    let plain = match after.first()? {
        b'\\' => b'\\',
        b'a' => 0x07,
        b'b' => 0x08,
        b'e' => 0x1b,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'x' => return number(after, 1, 2, 16, out),
        b'0' => return number(after, 1, 3, 8, out).or_else(|| number(after, 0, 1, 8, out)),
        b'1'..=b'7' => return number(after, 0, 3, 8, out),
        _ => return None,
    };
    out.push(&[plain]);
    Some(1)
}

/// A byte by its number, of at most `most` digits after the first `skipped` bytes.
fn number(after: &[u8], skipped: usize, most: usize, radix: u32, out: &mut Growing) -> Option<usize> {
    let digits = after[skipped..].iter().take(most).take_while(|b| char::from(**b).is_digit(radix)).count();
    let end = skipped + digits;
    let number = u32::from_str_radix(str::from_utf8(&after[skipped..end]).ok()?, radix).ok()?;
    out.push(&[number as u8]);
    Some(end)
}

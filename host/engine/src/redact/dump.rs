//! Bytes that `xxd`, `hexdump` and `od` print: as numbers or characters, so many a line, between addresses and a column of
//! text.
//!
//! A line is taken for one of a dump where all of it can be read as one: an address and numbers, or, as with `od -An`,
//! numbers behind a space. What it stands for is not certain (`6261` may be `ba` or `ab`), so it is read in every way that
//! it can be. Lines that follow each other, of one kind or by turns of several, are a block: a value may go on from each to
//! the next. Between them, `*` stands for lines like the one before.

use std::ops::Range;

use zeroize::Zeroizing;

/// Digits of an address.
const ADDRESS: Range<usize> = 6..17;
/// Longer lines are not looked at: none of a dump that somebody wants to read are.
const LONGEST_LINE: usize = 8 * 1024;
/// Bytes that are read for a `*`, at most: no value is so much longer than this and always the same.
const MOST_REPEATED: usize = 1024;

/// A way to read lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Numbers of hexadecimal digits, the first byte first.
    Hex,
    /// The same, the last byte first, as the numbers of most processors are.
    HexBackwards,
    /// Bytes of three octal digits, or numbers of six with the last byte first.
    Octal,
    /// Bytes as decimal numbers.
    Decimal,
    /// Bytes of eight digits.
    Bits,
    /// Columns of four characters: a character, its escape, its name or three octal digits.
    Characters,
}

const READINGS: [Reading; 6] = [
    Reading::Hex,
    Reading::HexBackwards,
    Reading::Octal,
    Reading::Decimal,
    Reading::Bits,
    Reading::Characters,
];

/// Where a byte stands in the text.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The beginning of its line.
    pub(super) line: usize,
    /// Its digits; none where a `*` stands for it.
    digits: Option<Range<usize>>,
    /// Its character beside them.
    character: Option<usize>,
}

/// The bytes of a block, read in one way.
#[derive(Default)]
pub(super) struct Dump {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    places: Vec<Place>,
    /// Whether the text ends with it, so that it may go on.
    pub(super) is_open: bool,
}

impl Dump {
    /// Where the byte at `at` is; that of the last one where it is after that.
    pub(super) fn place(&self, at: usize) -> Option<&Place> {
        self.places.get(at).or(self.places.last())
    }

    /// Where in the text `bytes` are: for each line, their digits and their characters.
    pub(super) fn ranges(&self, bytes: Range<usize>) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        for line in self.places[bytes].chunk_by(|a, b| a.line == b.line) {
            let digits = line.iter().filter_map(|place| place.digits.clone());
            let characters = line.iter().filter_map(|place| Some(place.character?..place.character? + 1));
            let all = |a: Range<usize>, b: Range<usize>| a.start.min(b.start)..a.end.max(b.end);
            ranges.extend(digits.reduce(all));
            ranges.extend(characters.reduce(all));
        }
        ranges
    }
}

/// Whether `line` could be one of a dump. Nearly all lines of other texts are not, and by their first bytes.
#[inline]
pub(super) fn may_be_line(line: &[u8]) -> bool {
    let Some([a, b, c, d]) = line.first_chunk() else { return may_be_short(line) };
    // Without a branch for each: which of them is the first that differs cannot be foreseen.
    let are_digits = IS_DIGIT[usize::from(*a)]
        & IS_DIGIT[usize::from(*b)]
        & IS_DIGIT[usize::from(*c)]
        & IS_DIGIT[usize::from(*d)];
    (*a == b' ') | are_digits && may_be_long(line)
}

/// Which bytes are hexadecimal digits.
const IS_DIGIT: [bool; 256] = {
    let mut is_digit = [false; 256];
    let mut byte = 0;
    while byte < is_digit.len() {
        is_digit[byte] = (byte as u8).is_ascii_hexdigit();
        byte += 1;
    }
    is_digit
};

fn may_be_short(line: &[u8]) -> bool {
    matches!(line, b"*" | [b' ', _, ..])
}

#[inline(never)]
fn may_be_long(line: &[u8]) -> bool {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if line.len() > LONGEST_LINE || digits > 0 {
        return line.len() <= LONGEST_LINE && ADDRESS.contains(&digits);
    }
    let Some(first) = line.iter().position(|byte| *byte != b' ') else { return false };
    let number = line[first..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let is_number = number > 0 && matches!(line.get(first + number), None | Some(b' ' | b':'));
    let columns = || line.rchunks_exact(COLUMN).take(3).all(|column| column[0] == b' ');
    is_number || columns()
}

/// Whether `line` could be the beginning of a line of a dump.
pub(super) fn may_begin_line(line: &[u8]) -> bool {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let begins = match line.first() {
        None => false,
        Some(b' ') => true,
        Some(b'*') => line.len() == 1,
        Some(_) => match line.get(digits) {
            None => digits < ADDRESS.end,
            Some(next) => ADDRESS.contains(&digits) && matches!(next, b' ' | b':'),
        },
    };
    begins && line.len() <= LONGEST_LINE
}

/// The blocks of `text`, in every way that they can be read. `lines` are those that [could be](may_be_line) of a dump, in
/// order. `next`: where what could become another line begins, at the end of the text.
pub(super) fn of(text: &[u8], lines: &[Range<usize>], next: Option<usize>) -> Vec<Dump> {
    let mut dumps = Vec::new();
    let end = next.unwrap_or(text.len());
    let follows = |a: &Range<usize>, b: &Range<usize>| after_break(text, a.end) == b.start;
    for block in lines.chunk_by(follows) {
        let is_open = block.last().is_some_and(|line| after_break(text, line.end) == end);
        let is_squeezed = block.iter().any(|line| text[line.clone()] == *b"*");
        // It is not said of which kind an address is.
        let radices: &[u32] = if is_squeezed { &[16, 8, 10] } else { &[16] };
        for reading in READINGS {
            for radix in radices {
                read_block(text, block, reading, *radix, is_open, &mut dumps);
            }
        }
    }
    dumps
}

/// The place after the line break at `at`.
fn after_break(text: &[u8], at: usize) -> usize {
    match &text[at..] {
        [b'\r', b'\n', ..] => at + 2,
        [_, ..] => at + 1,
        [] => at,
    }
}

fn read_block(
    text: &[u8],
    block: &[Range<usize>],
    reading: Reading,
    radix: u32,
    is_open: bool,
    dumps: &mut Vec<Dump>,
) {
    let mut dump = Dump::default();
    // The bytes of the last line, and its address.
    let mut last: (Range<usize>, Option<u64>) = (0..0, None);
    let mut is_repeated = false;
    for range in block {
        let line = &text[range.clone()];
        if line == b"*" {
            is_repeated = true;
            continue;
        }
        let (address, body) = address(line);
        let number = address.and_then(|digits| u64::from_str_radix(str::from_utf8(digits).ok()?, radix).ok());
        let from = dump.bytes.len();
        if is_repeated && let (Some(before), Some(now), width @ 1..) = (last.1, number, last.0.len()) {
            repeat(&mut dump, last.0.clone(), now.saturating_sub(before) / width as u64);
        }
        let start = dump.bytes.len();
        is_repeated = false;
        let mut add = |byte: u8, digits: Range<usize>| {
            dump.bytes.push(byte);
            let digits = range.start + digits.start..range.start + digits.end;
            dump.places.push(Place { line: range.start, digits: Some(digits), character: None });
        };
        match read_line(line, body, address.is_some(), reading, &mut add) {
            Some(characters) => {
                for (at, place) in dump.places[start..].iter_mut().enumerate() {
                    place.character = characters.map(|from| range.start + from + at);
                }
                last = (start..dump.bytes.len(), number);
            }
            // One of another kind may stand between those of this one.
            None => {
                dump.bytes.truncate(from);
                dump.places.truncate(from);
            }
        }
    }
    if !dump.bytes.is_empty() {
        dump.is_open = is_open;
        dumps.push(dump);
    }
}

/// Adds what a `*` stands for: the bytes `line` again, as lines at so many times its length before the next.
fn repeat(dump: &mut Dump, line: Range<usize>, lines: u64) {
    let most = MOST_REPEATED.div_ceil(line.len());
    let lines = usize::try_from(lines.saturating_sub(1)).map_or(most, |lines| lines.min(most));
    for _ in 0..lines {
        dump.bytes.extend_from_within(line.clone());
        let places: Vec<Place> = dump.places[line.clone()].to_vec();
        dump.places.extend(places.into_iter().map(|place| Place { digits: None, character: None, ..place }));
    }
}

/// The address of a line, and where what follows begins.
fn address(line: &[u8]) -> (Option<&[u8]>, usize) {
    let indent = line.iter().take_while(|byte| **byte == b' ').count();
    let digits = line[indent..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let end = indent + digits;
    let follows = line.get(end);
    let is_address = match indent {
        0 => matches!(follows, None | Some(b' ' | b':')),
        // Without a colon it is a number like the next.
        _ => follows == Some(&b':'),
    };
    if is_address && ADDRESS.contains(&digits) {
        (Some(&line[indent..end]), end + usize::from(follows == Some(&b':')))
    } else {
        (None, 0)
    }
}

/// Reads the bytes of `line` from `body` on. Returns where their characters begin, where the line has a column of these;
/// nothing if the line cannot be read.
fn read_line(
    line: &[u8],
    body: usize,
    has_address: bool,
    reading: Reading,
    add: &mut impl FnMut(u8, Range<usize>),
) -> Option<Option<usize>> {
    if !has_address && line.first() != Some(&b' ') {
        return None;
    }
    if reading == Reading::Characters {
        return read_characters(line, body, has_address, add).map(|()| None);
    }
    let has_colon = body > 0 && line[body - 1] == b':';
    let mut count = 0;
    let mut at = body;
    loop {
        let spaces = line[at..].iter().take_while(|byte| **byte == b' ').count();
        let rest = &line[at + spaces..];
        // Two spaces or more, and a character for each byte: `xxd`.
        let beside =
            line.len().checked_sub(count).filter(|beside| has_colon && count > 0 && at + 2 <= *beside);
        if let Some(beside) = beside
            && beside <= at + spaces
        {
            return Some(Some(beside));
        }
        match rest {
            [] => return Some(None),
            [b'|', .., b'|'] | [b'>', .., b'<'] if rest.len() == count + 2 => {
                return Some(Some(at + spaces + 1));
            }
            _ if spaces == 0 => return None,
            _ => {}
        }
        at += spaces;
        let length = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        count += read_number(&rest[..length], at, reading, add)?;
        at += length;
    }
}

/// Reads the bytes of a number that stands at `at`, and returns how many they are.
fn read_number(
    digits: &[u8],
    at: usize,
    reading: Reading,
    add: &mut impl FnMut(u8, Range<usize>),
) -> Option<usize> {
    let text =
        str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let number = |text: &str, radix| u64::from_str_radix(text, radix).ok();
    let whole = at..at + digits.len();
    match reading {
        Reading::Hex | Reading::HexBackwards => {
            if !digits.len().is_multiple_of(2)
                || digits.len() > 64
                || reading == Reading::HexBackwards && digits.len() > 16
            {
                return None;
            }
            let count = digits.len() / 2;
            for place in 0..count {
                let place = if reading == Reading::Hex { place } else { count - 1 - place };
                let byte = number(&text[2 * place..2 * place + 2], 16)?;
                add(byte as u8, at + 2 * place..at + 2 * place + 2);
            }
            Some(count)
        }
        Reading::Octal if digits.len() == 3 => {
            add(u8::try_from(number(text, 8)?).ok()?, whole);
            Some(1)
        }
        Reading::Octal if digits.len() == 6 => {
            let [low, high] = u16::try_from(number(text, 8)?).ok()?.to_le_bytes();
            add(low, whole.clone());
            add(high, whole);
            Some(2)
        }
        Reading::Decimal if digits.len() <= 3 => {
            add(u8::try_from(number(text, 10)?).ok()?, whole);
            Some(1)
        }
        Reading::Bits if digits.len() == 8 => {
            add(u8::try_from(number(text, 2)?).ok()?, whole);
            Some(1)
        }
        Reading::Octal | Reading::Decimal | Reading::Bits | Reading::Characters => None,
    }
}

const COLUMN: usize = 4;

fn read_characters(
    line: &[u8],
    body: usize,
    has_address: bool,
    add: &mut impl FnMut(u8, Range<usize>),
) -> Option<()> {
    let body = match (has_address, line.len() % COLUMN) {
        (true, _) => body,
        (false, 0) => 0,
        // Below a line with an address of so many digits, as of `od -t x1 -c`.
        (false, more) => COLUMN + more,
    };
    let columns = line.get(body..)?;
    let blank = line[..body].iter().all(|byte| *byte == b' ');
    if columns.is_empty() && !has_address || !columns.len().is_multiple_of(COLUMN) || !has_address && !blank {
        return None;
    }
    for (number, column) in columns.chunks(COLUMN).enumerate() {
        let at = body + COLUMN * number;
        let byte = match *column {
            [b' ', b' ', b' ', byte] => byte,
            [b' ', b' ', b'\\', name] => match name {
                b'0' => 0,
                b'a' => 0x07,
                b'b' => 0x08,
                b't' => b'\t',
                b'n' => b'\n',
                b'v' => 0x0b,
                b'f' => 0x0c,
                b'r' => b'\r',
                _ => return None,
            },
            [b' ', b' ', b's', b'p'] => b' ',
            [b' ', b' ', b'n', b'l'] => b'\n',
            [b' ', b' ', b'h', b't'] => b'\t',
            [b' ', b' ', b'c', b'r'] => b'\r',
            [b' ', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7'] => {
                (a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')
            }
            _ => return None,
        };
        add(byte, at..at + COLUMN);
    }
    Some(())
}

#[cfg(test)]
mod tests;

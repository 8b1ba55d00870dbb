//! What was probably meant where a text is no YAML: found by reading its lines as a person does.
//!
//! The parser says where it could not go on, which may be far below the mistake, in words of its own. This looks for the
//! first line up to there that cannot be right, for one of the slips that people make. What it does not know it leaves to the
//! parser's words.

use std::ops::Range;

use super::line::{
    Quoted, after_dash, close_brackets, close_quote, indent_of, is_plain_key, split_key, uncommented,
};
use crate::diagnostic::quoted;

/// A mistake.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slip {
    /// Where it is, in bytes of the text.
    pub(super) at: Range<usize>,
    /// What to do about it.
    pub(super) hint: String,
}

/// The slip because of which the parser gave up at byte `failed_at` of `text`.
pub(super) fn find(text: &str, failed_at: usize) -> Option<Slip> {
    let failed_at = failed_at.min(text.len());
    let end = text.get(failed_at..)?.find('\n').map_or(text.len(), |end| failed_at + end);
    let mut walk = Walk { text, at: 0, line: 0, levels: Vec::new(), last: Last::Nothing };
    while walk.at <= end {
        match walk.item() {
            Ok(true) => {}
            Ok(false) => return None,
            Err(slip) => return (slip.at.start <= end).then_some(slip),
        }
    }
    None
}

/// A block list or mapping that is open.
#[derive(Debug, Clone, Copy)]
struct Level {
    indent: usize,
    is_list: bool,
    /// The line of its last entry, from 1.
    line: usize,
}

/// The value that was read last.
#[derive(Debug, Clone)]
enum Last {
    /// There is none yet: it follows on the next lines.
    Nothing,
    /// An unquoted text, which may go on. With its place, where it has a line of its own without a key.
    Plain { alone: Option<Range<usize>> },
    /// One that is over.
    Whole,
}

struct Walk<'a> {
    text: &'a str,
    /// Where the next line begins.
    at: usize,
    /// How many lines were read.
    line: usize,
    levels: Vec<Level>,
    last: Last,
}

/// What a line holds behind its dashes.
struct Entry<'a> {
    from: usize,
    body: &'a str,
    key: Option<&'a str>,
    value: &'a str,
    value_at: usize,
    in_list: bool,
    /// The indentation of what it belongs to.
    parent: usize,
}

const OR_BLOCK: &str = "or write `|` and put it on the next line";
const COLON: &str = "YAML takes what stands before `: ` for a key";

impl<'a> Walk<'a> {
    /// Reads a line, and those over which its value goes on. Whether there was one.
    fn item(&mut self) -> Result<bool, Slip> {
        let Some((start, line)) = self.next_line() else { return Ok(false) };
        let indent = indent_of(line);
        let rest = line.trim();
        // A key that is no text is read by nobody here.
        if rest == "?" || rest.starts_with("? ") {
            return Ok(false);
        }
        let is_marker = indent == 0 && (rest.starts_with('%') || rest.starts_with("---") || rest == "...");
        if rest.is_empty() || rest.starts_with('#') || is_marker || self.goes_on(start, indent, line)? {
            return Ok(true);
        }
        let mut column = indent;
        let mut in_list = false;
        while let Some(after) = after_dash(&line[column..]) {
            self.enter(column, true);
            column += after;
            in_list = true;
        }
        let body = uncommented(&line[column..]);
        let (key, value) = split_key(body).map_or((None, body), |(key, value)| (Some(key), value));
        if key.is_some() {
            self.enter(column, false);
        }
        let from = start + column;
        let value_at = from + (body.len() - value.len());
        let parent = self.levels.last().map_or(0, |level| level.indent);
        let entry = Entry { from, body, key, value, value_at, in_list, parent };
        self.last =
            self.value(&entry).map_err(|slip| if entry.is_command() { entry.whole() } else { slip })?;
        Ok(true)
    }

    /// Brings the open levels to a line that is indented by `indent`. Whether it only goes on with the text above.
    fn goes_on(&mut self, start: usize, indent: usize, line: &str) -> Result<bool, Slip> {
        let body = uncommented(&line[indent..]);
        let at = start + indent..start + indent + body.len();
        let key = split_key(body).map(|(key, _)| key);
        let is_item = after_dash(body).is_some();
        let deeper = self.levels.last().copied().filter(|level| indent > level.indent);
        match (&self.last, deeper) {
            (Last::Nothing, Some(_)) => return Ok(false),
            // It stands beside the keys of a mapping.
            (Last::Plain { alone: Some(text) }, _)
                if key.is_some() && self.text[..text.start].ends_with(&line[..indent]) && indent > 0 =>
            {
                return Err(self.no_key(text.clone()));
            }
            (Last::Plain { .. }, Some(_)) if key.is_none() => return Ok(true),
            (_, Some(level)) => {
                let word = key.map(|key| after_dash(key).map_or(key, |after| &key[after..]));
                if !is_item && key.is_some() && (level.is_list || !word.is_some_and(is_plain_key)) {
                    let hint = format!("quote the whole text, {OR_BLOCK}: {COLON}");
                    return Err(Slip { at, hint });
                }
                return Err(self.misplaced(at, indent, level));
            }
            (_, None) => {}
        }
        let mut left = None;
        while let Some(level) = self.levels.last().copied()
            && (level.indent > indent || (level.indent == indent && level.is_list && !is_item))
        {
            left = Some(level).filter(|level| level.indent > indent).or(left);
            self.levels.pop();
        }
        let is_between = self.levels.last().is_none_or(|level| level.indent < indent);
        if let Some(level) = left.filter(|_| is_between) {
            return Err(self.misplaced(at, indent, level));
        }
        let in_mapping = self.levels.last().is_some_and(|level| !level.is_list);
        if key.is_none() && !is_item && in_mapping {
            return Err(self.no_key(at));
        }
        Ok(false)
    }

    /// A line that is indented by `indent` and belongs to `level`.
    fn misplaced(&self, at: Range<usize>, indent: usize, level: Level) -> Slip {
        let key = split_key(&self.text[at.clone()]).map(|(key, _)| key).filter(|key| is_plain_key(key));
        let what = key.map_or_else(|| "this line".to_owned(), quoted);
        let Level { indent: wanted, line, .. } = level;
        let hint =
            format!("indent {what} by {wanted} spaces like line {line}, or correct that: it has {indent}");
        Slip { at, hint }
    }

    /// A line of a mapping, at `at`, without a key.
    fn no_key(&self, at: Range<usize>) -> Slip {
        let line = &self.text[at.clone()];
        let is_word = |word: &str| is_plain_key(word) && word.len() < line.len();
        let meant = ['=', ':'].into_iter().find_map(|sign| {
            let (key, value) = line.split_once(sign)?;
            is_word(key.trim()).then(|| (key.trim(), value.trim(), sign))
        });
        let hint = match meant {
            Some((key, value, ':')) => {
                format!("put a space behind the colon: {}", quoted(&format!("{key}: {value}")))
            }
            Some((key, value, _)) => {
                format!("write {}: YAML has no `=`", quoted(&format!("{key}: {value}")))
            }
            None => match line.split_once(' ').filter(|(key, _)| is_plain_key(key)) {
                Some((key, value)) => {
                    format!(
                        "put a colon behind the key, as in {}",
                        quoted(&format!("{key}: {}", value.trim()))
                    )
                }
                None => "write `key: value`: this line has no key with a colon and a space".to_owned(),
            },
        };
        Slip { at, hint }
    }

    fn enter(&mut self, indent: usize, is_list: bool) {
        let line = self.line;
        match self.levels.last_mut() {
            Some(level) if level.indent == indent && level.is_list == is_list => level.line = line,
            _ => self.levels.push(Level { indent, is_list, line }),
        }
        self.last = Last::Nothing;
    }

    /// Reads the value of `entry`.
    fn value(&mut self, entry: &Entry<'_>) -> Result<Last, Slip> {
        let Entry { value, value_at, .. } = *entry;
        let Some(first) = value.chars().next() else { return Ok(Last::Nothing) };
        let behind = &value[first.len_utf8()..];
        let what = entry.what();
        let slip = |hint: String| Err(Slip { at: value_at..value_at + value.len(), hint });
        match first {
            '|' | '>' => {
                let fits = |byte| matches!(byte, b'+' | b'-' | b'1'..=b'9');
                if behind.len() > 2 || !behind.bytes().all(fits) {
                    return slip(format!("quote {what}: YAML takes `{first}` for the beginning of a block"));
                }
                self.skip_block(entry.parent);
                Ok(Last::Whole)
            }
            '"' | '\'' => match close_quote(self.text, value_at) {
                Quoted::Closed(end) => self.behind(entry, end),
                Quoted::Open => Err(entry.open()),
                Quoted::Escape(at) => {
                    let escape = &self.text[at.clone()];
                    let hint = format!(
                        "write {}, or single quotes around the text: YAML has no escape {}",
                        quoted(&format!("\\{escape}")),
                        quoted(escape)
                    );
                    Err(Slip { at, hint })
                }
            },
            '[' | '{' => match close_brackets(self.text, value_at) {
                Some(end) => self.behind(entry, end),
                None => Err(entry.open()),
            },
            '*' | '&' if !behind.contains(' ') && behind.chars().all(char::is_alphanumeric) => {
                Ok(Last::Whole)
            }
            '*' => slip(format!("quote {what}: YAML takes `*` for the beginning of an alias")),
            '&' if behind.starts_with([' ', '&']) => {
                slip(format!("quote {what}: YAML takes `&` for the beginning of an anchor"))
            }
            '@' | '`' | '%' | ']' | '}' | ',' => {
                slip(format!("quote {what}: YAML lets no unquoted text begin with `{first}`"))
            }
            _ if split_key(value).is_some() => slip(format!("quote {what}, {OR_BLOCK}: {COLON}")),
            _ => {
                let alone = entry.key.is_none() && !entry.in_list;
                Ok(Last::Plain { alone: alone.then(|| value_at..value_at + value.len()) })
            }
        }
    }

    /// Goes on behind the quotes or brackets of `entry`, which end at `end`.
    fn behind(&mut self, entry: &Entry<'_>, end: usize) -> Result<Last, Slip> {
        let from = entry.value_at;
        let inside = self.text.get(from..end).unwrap_or("");
        let more = inside.split_once('\n').map(|(_, more)| more);
        // A value goes on in lines that are indented more than what it belongs to.
        let leaves = |line: &str| {
            indent_of(line) <= entry.parent
                && (split_key(line.trim()).is_some() || after_dash(line.trim()).is_some())
        };
        if more.is_some_and(|more| more.lines().any(leaves)) {
            return Err(entry.open());
        }
        let line_end = self.text[end..].find('\n').map_or(self.text.len(), |at| end + at);
        let rest = &self.text[end..line_end];
        let rest = if rest.trim_start().starts_with('#') { "" } else { uncommented(rest) };
        if !rest.trim().is_empty() {
            if more.is_some() {
                return Err(entry.open());
            }
            let (what, sign) = (entry.what(), &self.text[from..=from]);
            let hint = match sign {
                "[" => format!("quote {what}, {OR_BLOCK}: YAML takes `[` for the beginning of a list"),
                "{" => format!("quote {what}, {OR_BLOCK}: YAML takes `{{` for the beginning of a mapping"),
                sign => format!("quote all of {what}, {OR_BLOCK}: YAML ends the text at the second `{sign}`"),
            };
            return Err(Slip { at: from..end + rest.len(), hint });
        }
        while self.at <= end && self.next_line().is_some() {}
        Ok(Last::Whole)
    }

    /// Passes over the lines of a block that belongs to what is indented by `parent`.
    fn skip_block(&mut self, parent: usize) {
        loop {
            let (at, count) = (self.at, self.line);
            let Some((_, line)) = self.next_line() else { return };
            if !line.trim().is_empty() && indent_of(line) <= parent {
                (self.at, self.line) = (at, count);
                return;
            }
        }
    }

    /// The next line, without its end, and the place of its first byte.
    fn next_line(&mut self) -> Option<(usize, &'a str)> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let start = self.at;
        let length = rest.find('\n').unwrap_or(rest.len());
        self.at += length + 1;
        self.line += 1;
        Some((start, rest[..length].trim_end_matches('\r')))
    }
}

impl Entry<'_> {
    /// What a hint calls its value.
    fn what(&self) -> String {
        match self.key {
            Some(key) => format!("the value of {}", quoted(key)),
            None if self.in_list => "the entry".to_owned(),
            None => "the value".to_owned(),
        }
    }

    /// Whether it is a command that has a colon, and no key.
    fn is_command(&self) -> bool {
        self.in_list && self.key.is_some_and(|key| !is_plain_key(key))
    }

    fn whole(&self) -> Slip {
        let hint = format!("quote the entry, {OR_BLOCK}: {COLON}");
        Slip { at: self.from..self.from + self.body.len(), hint }
    }

    /// Its quote or bracket does not end with it.
    fn open(&self) -> Slip {
        let sign = self.value.chars().next().unwrap_or('"');
        let at = self.value_at..self.value_at + 1;
        let hint = match sign {
            '"' | '\'' => {
                format!("close the quote `{sign}` that opens here: it is missing where the value ends")
            }
            _ => format!("close the bracket `{sign}` that opens here: the other one is missing"),
        };
        Slip { at, hint }
    }
}

#[cfg(test)]
mod tests;

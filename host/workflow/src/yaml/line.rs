//! What a line of YAML holds, looked at without a parser.

use std::ops::Range;

/// How many spaces `line` begins with.
pub(super) fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// The first tab with which a line of `text` is indented, from the line of byte `from` on.
pub(super) fn indenting_tab(text: &str, from: usize) -> Option<usize> {
    let mut at = text.get(..from)?.rfind('\n').map_or(0, |end| end + 1);
    for line in text.get(at..)?.split_inclusive('\n') {
        let indent = indent_of(line);
        if line[indent..].starts_with('\t') && !line.trim().is_empty() {
            return Some(at + indent);
        }
        at += line.len();
    }
    None
}

/// Where the entry of a list begins behind its dash; `None` where `line` begins with none.
pub(super) fn after_dash(line: &str) -> Option<usize> {
    let rest = line.strip_prefix('-')?;
    if rest.is_empty() {
        return Some(1);
    }
    rest.starts_with(' ').then(|| 1 + indent_of(rest))
}

/// `line` without a comment, and without the spaces before that.
pub(super) fn uncommented(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, char) in line.char_indices() {
        match quote {
            Some(open) if char == open => quote = None,
            Some(_) => {}
            None if char == '#' && before.is_whitespace() => return line[..at].trim_end(),
            // A quote within an unquoted text is a character like any other.
            None if matches!(char, '"' | '\'')
                && matches!(before, ' ' | '[' | '{' | ',')
                && line[at..].len() > 1 =>
            {
                quote = line[at + 1..].contains(char).then_some(char);
            }
            None => {}
        }
        before = char;
    }
    line.trim_end()
}

/// The key of `body` and the value behind it, which may be empty.
pub(super) fn split_key(body: &str) -> Option<(&str, &str)> {
    let from = match body.chars().next()? {
        '"' | '\'' => match close_quote(body, 0) {
            Quoted::Closed(end) if body[end..].trim_start().starts_with(':') => end,
            _ => return None,
        },
        '[' | '{' | '|' | '>' | '#' => return None,
        _ => 0,
    };
    let colon = body[from..]
        .match_indices(':')
        .map(|(at, _)| from + at)
        .find(|at| matches!(body.as_bytes().get(at + 1), None | Some(b' ' | b'\t')))?;
    Some((body[..colon].trim_end(), body[colon + 1..].trim_start()))
}

/// Whether `key` looks like one of a mapping, and not like the beginning of a command.
pub(super) fn is_plain_key(key: &str) -> bool {
    let is_word = |text: &str| {
        !text.is_empty()
            && text.chars().all(|char| char.is_alphanumeric() || matches!(char, '_' | '-' | '.' | '<'))
    };
    is_word(key) || key.starts_with(['"', '\''])
}

/// Where a quoted text ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Quoted {
    /// Behind its last quote.
    Closed(usize),
    /// Nowhere.
    Open,
    /// It has an escape at this place that YAML does not know.
    Escape(Range<usize>),
}

/// Reads the quoted text that begins at byte `from`.
pub(super) fn close_quote(text: &str, from: usize) -> Quoted {
    let rest = text.get(from..).unwrap_or("");
    let Some(quote) = rest.chars().next() else { return Quoted::Open };
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, char)) = chars.next() {
        if char == quote {
            if quote == '\'' && chars.peek().is_some_and(|(_, next)| *next == '\'') {
                chars.next();
                continue;
            }
            return Quoted::Closed(from + at + 1);
        }
        if char == '\\' && quote == '"' {
            let Some((next_at, next)) = chars.next() else { return Quoted::Open };
            if !"0abt\tnvfre \"/\\N_LPxuU\n\r".contains(next) {
                return Quoted::Escape(from + at..from + next_at + next.len_utf8());
            }
        }
    }
    Quoted::Open
}

/// Where the brackets end that open at byte `from`; `None` where they do not, or not in their order.
pub(super) fn close_brackets(text: &str, from: usize) -> Option<usize> {
    let mut open = Vec::new();
    let mut at = from;
    let mut before = '[';
    while let Some(char) = text.get(at..)?.chars().next() {
        let mut next = at + char.len_utf8();
        match char {
            '[' => open.push(']'),
            '{' => open.push('}'),
            ']' | '}' => {
                if open.pop() != Some(char) {
                    return None;
                }
                if open.is_empty() {
                    return Some(next);
                }
            }
            '"' | '\'' if matches!(before, ' ' | '\n' | '[' | '{' | ',' | ':') => match close_quote(text, at)
            {
                Quoted::Closed(end) => next = end,
                Quoted::Open | Quoted::Escape(_) => return None,
            },
            '#' if matches!(before, ' ' | '\n') => {
                next = text[at..].find('\n').map_or(text.len(), |end| at + end);
            }
            _ => {}
        }
        before = char;
        at = next;
    }
    None
}

//! The texts that were read, and places in them.

use std::ops::Range;

/// A range of bytes in one of the texts. Spans sort in the order in which files were read, then as the text runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Span {
    pub(crate) file: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn new(file: u32, range: Range<usize>) -> Self {
        let at = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self {
            file,
            start: at(range.start),
            end: at(range.end.max(range.start)),
        }
    }

    /// How many bytes it covers.
    pub(crate) fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// From the start of this span to the end of `other`, which follows it.
    pub(crate) fn to(self, other: Self) -> Self {
        Self {
            end: other.end.max(self.end),
            ..self
        }
    }
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

impl<T> Spanned<T> {
    pub(crate) fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// All texts of one workflow, the root file first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    files: Vec<Source>,
}

#[derive(Debug, Clone)]
struct Source {
    name: String,
    text: String,
    /// The offset of each line's first byte.
    lines: Vec<u32>,
}

/// A place as people count: from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Sources {
    /// Adds a file and gives its number. A byte order mark at the start is dropped: it takes no column.
    pub(crate) fn add(&mut self, name: &str, text: &str) -> u32 {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = vec![0];
        lines.extend(
            text.bytes()
                .zip(1u32..)
                .filter_map(|(byte, next)| (byte == b'\n').then_some(next)),
        );
        self.files.push(Source {
            name: name.to_owned(),
            text: text.to_owned(),
            lines,
        });
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    pub(crate) fn name(&self, file: u32) -> &str {
        self.files
            .get(file as usize)
            .map_or("", |source| source.name.as_str())
    }

    pub(crate) fn text(&self, file: u32) -> &str {
        self.files
            .get(file as usize)
            .map_or("", |source| source.text.as_str())
    }

    pub(crate) fn position(&self, span: Span) -> Position {
        let (line, before) = self.line_until(span);
        let column = u32::try_from(before.chars().count())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        Position { line, column }
    }

    /// The whole line in which `span` starts, without its end, and the part of `span` on it as bytes of that line.
    pub(crate) fn line(&self, span: Span) -> (&str, Range<usize>) {
        let (number, before) = self.line_until(span);
        let rest = self
            .files
            .get(span.file as usize)
            .and_then(|source| {
                source
                    .text
                    .get(*source.lines.get(number as usize - 1)? as usize..)
            })
            .unwrap_or("");
        let line = rest.split(['\n', '\r']).next().unwrap_or("");
        let start = before.len().min(line.len());
        let end = (start + (span.end - span.start) as usize).min(line.len());
        // A span can end in the middle of a character only where it was cut by the line's end above.
        let end = (end..=line.len())
            .find(|at| line.is_char_boundary(*at))
            .unwrap_or(line.len());
        (line, start..end)
    }

    /// The number of the line in which `span` starts, and that line's text before it.
    fn line_until(&self, span: Span) -> (u32, &str) {
        let Some(source) = self.files.get(span.file as usize) else {
            return (1, "");
        };
        let index = source
            .lines
            .partition_point(|start| *start <= span.start)
            .saturating_sub(1);
        let start = source.lines.get(index).copied().unwrap_or(0) as usize;
        let end = (span.start as usize).min(source.text.len());
        let end = (start..=end)
            .rev()
            .find(|at| source.text.is_char_boundary(*at))
            .unwrap_or(start);
        (
            u32::try_from(index + 1).unwrap_or(u32::MAX),
            source.text.get(start..end).unwrap_or(""),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_count_from_one() {
        let mut sources = Sources::default();
        let file = sources.add("f.yml", "\u{feff}a: ä\r\nbö: x\n");
        let at = |start| sources.position(Span::new(file, start..start));
        assert_eq!(at(0), Position { line: 1, column: 1 });
        assert_eq!(at(5), Position { line: 1, column: 5 });
        assert_eq!(at(7), Position { line: 2, column: 1 });
        assert_eq!(at(12), Position { line: 2, column: 5 });
        assert_eq!(at(400), Position { line: 3, column: 1 });
        assert_eq!(sources.line(Span::new(file, 3..9)), ("a: ä", 3..5));
    }
}

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
        Self { file, start: at(range.start), end: at(range.end.max(range.start)) }
    }

    /// How many bytes it covers.
    pub(crate) fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// From the start of this span to the end of `other`, which follows it.
    pub(crate) fn to(self, other: Self) -> Self {
        Self { end: other.end.max(self.end), ..self }
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
    /// How many bytes it has. Of one that is too large, nothing else is kept.
    size: usize,
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
    /// The largest file that is read, in bytes.
    pub(crate) const MOST_BYTES: usize = 4 * 1024 * 1024;

    /// Adds a file and gives its number. A byte order mark at the start is dropped: it takes no column.
    pub(crate) fn add(&mut self, name: &str, text: &str) -> u32 {
        let size = text.len();
        let text = if size > Self::MOST_BYTES { "" } else { text };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = vec![0];
        lines.extend(text.bytes().zip(1u32..).filter_map(|(byte, next)| (byte == b'\n').then_some(next)));
        self.files.push(Source { name: name.to_owned(), size, text: text.to_owned(), lines });
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    pub(crate) fn name(&self, file: u32) -> &str {
        self.files.get(file as usize).map_or("", |source| source.name.as_str())
    }

    pub(crate) fn size(&self, file: u32) -> usize {
        self.files.get(file as usize).map_or(0, |source| source.size)
    }

    pub(crate) fn text(&self, file: u32) -> &str {
        self.files.get(file as usize).map_or("", |source| source.text.as_str())
    }

    /// The number of the line in which `span` starts, from 1.
    pub(crate) fn line_number(&self, span: Span) -> u32 {
        let lines = self.files.get(span.file as usize).map_or(&[][..], |source| &source.lines);
        u32::try_from(lines.partition_point(|start| *start <= span.start).max(1)).unwrap_or(u32::MAX)
    }

    /// Where `span` starts.
    pub(crate) fn position(&self, span: Span) -> Position {
        Cursor::new(self).position(span)
    }

    /// The whole line in which `span` starts, without its end, and the part of `span` on it as bytes of that line.
    pub(crate) fn line(&self, span: Span) -> (&str, Range<usize>) {
        let Some(source) = self.files.get(span.file as usize) else { return ("", 0..0) };
        let number = self.line_number(span) as usize;
        let start = source.lines.get(number - 1).map_or(0, |start| *start as usize);
        let end = source.lines.get(number).map_or(source.text.len(), |next| *next as usize);
        let line = source.text.get(start..end).unwrap_or("").trim_end_matches(['\n', '\r']);
        let at = |offset: u32| {
            let offset = (offset as usize).saturating_sub(start).min(line.len());
            (offset..=line.len()).find(|at| line.is_char_boundary(*at)).unwrap_or(line.len())
        };
        (line, at(span.start)..at(span.end.max(span.start)))
    }
}

/// Finds positions one after the other. Where they come in the order of the text, no part of a line is counted twice:
/// a hostile file is one line with a thousand errors.
pub(crate) struct Cursor<'a> {
    sources: &'a Sources,
    last: Span,
    column: u32,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(sources: &'a Sources) -> Self {
        Self { sources, last: Span { file: u32::MAX, ..Span::default() }, column: 1 }
    }

    pub(crate) fn position(&mut self, span: Span) -> Position {
        let line = self.sources.line_number(span);
        let source = self.sources.files.get(span.file as usize);
        let line_start = source.and_then(|source| source.lines.get(line as usize - 1)).copied().unwrap_or(0);
        let goes_on = self.last.file == span.file && (line_start..=span.start).contains(&self.last.start);
        let (from, column) = if goes_on { (self.last.start, self.column) } else { (line_start, 1) };
        let text = source.map_or("", |source| source.text.as_str());
        let end = (span.start as usize).min(text.len());
        let between = text.as_bytes().get(from as usize..end).unwrap_or_default();
        // Every character but its first byte is a continuation byte: this counts characters, and cannot miss a boundary.
        let characters = between.iter().filter(|byte| (**byte & 0xc0) != 0x80).count();
        self.last = span;
        self.column = column.saturating_add(u32::try_from(characters).unwrap_or(u32::MAX));
        Position { line, column: self.column }
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

//! The last lines that a step has written, as a terminal would have shown them in the end.

use std::collections::VecDeque;

use loom_contract::event::{Output, Stream};
use loom_contract::redacted::OutputBytes;

/// Lines that are kept.
const LINES: usize = 15;
/// Bytes of a line that are kept.
const LONGEST: usize = 1000;

/// The last lines of a step.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<Line>,
    /// Per stream, whether its last line goes on in its next chunk.
    open: [bool; 2],
}

/// A line, without its terminator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) bytes: OutputBytes,
    /// Whether more of it was written.
    pub(super) is_cut: bool,
    stream: Stream,
}

impl Tail {
    /// Takes what was written next.
    pub(super) fn push(&mut self, output: &Output) {
        let stream = output.stream;
        let mut rest = 0..output.bytes.len();
        let is_open = &mut self.open[usize::from(stream == Stream::Stderr)];
        let goes_on = std::mem::replace(is_open, output.open);
        if goes_on {
            let end = end_of_line(&output.bytes);
            self.go_on(stream, &output.bytes.part(0..end));
            rest.start = (end + 1).min(rest.end);
        }
        // Of a chunk of many lines, only the last ones are looked at.
        let text = &output.bytes[rest.clone()];
        let mut starts: Vec<usize> = Vec::new();
        let mut end = text.len();
        let mut filled = 0;
        while end > 0 && filled < LINES {
            let start = text[..end - 1].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            filled += usize::from(!text[start..end].trim_ascii().is_empty());
            starts.push(start);
            end = start;
        }
        for start in starts.into_iter().rev() {
            let start = rest.start + start;
            let end = start + end_of_line(&output.bytes[start..]);
            self.add(Line::new(stream, &output.bytes.part(start..end)));
        }
    }

    /// What the lines say, the last one last.
    pub(super) fn texts(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.lines.iter().map(|line| &*line.bytes)
    }

    /// The lines, the last one last; none where nothing was said.
    pub(super) fn into_lines(self) -> Vec<Line> {
        let mut lines = self.lines;
        while lines.back().is_some_and(Line::is_blank) {
            lines.pop_back();
        }
        while lines.front().is_some_and(Line::is_blank) {
            lines.pop_front();
        }
        lines.into()
    }

    fn add(&mut self, line: Line) {
        // Of several empty lines one says as much.
        if line.is_blank() && self.lines.back().is_none_or(Line::is_blank) {
            return;
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// More of the last line of `stream`.
    fn go_on(&mut self, stream: Stream, more: &OutputBytes) {
        let Some(line) = self.lines.iter_mut().rev().find(|line| line.stream == stream) else { return };
        if more.contains(&b'\r') {
            *line = Line::new(stream, more);
        } else {
            line.is_cut |= !more.is_empty();
        }
    }
}

impl Line {
    fn new(stream: Stream, bytes: &OutputBytes) -> Self {
        let state = last_state(bytes);
        let end = state.start + shortened(&bytes[state.clone()]);
        Self { bytes: bytes.part(state.start..end), is_cut: end < state.end, stream }
    }

    fn is_blank(&self) -> bool {
        self.bytes.trim_ascii().is_empty()
    }
}

fn end_of_line(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len())
}

/// What a terminal shows of a line in the end: each carriage return lets the next state stand in the place of the one
/// before.
fn last_state(line: &[u8]) -> std::ops::Range<usize> {
    let mut end = line.len();
    while end > 0 && line[end - 1] == b'\r' {
        end -= 1;
    }
    let start = line[..end].iter().rposition(|b| *b == b'\r').map_or(0, |at| at + 1);
    start..end
}

/// Where `line` is cut: between characters, and not within the sequence of a colour.
fn shortened(line: &[u8]) -> usize {
    if line.len() <= LONGEST {
        return line.len();
    }
    let continues = |b: u8| b & 0b1100_0000 == 0b1000_0000;
    let end = (LONGEST - 3..=LONGEST).rev().find(|at| !continues(line[*at])).unwrap_or(LONGEST);
    match line[..end].iter().rposition(|b| *b == 0x1b) {
        Some(escape) if !line[escape..end].contains(&b'm') => escape,
        _ => end,
    }
}

#[cfg(test)]
mod tests {
    use loom_contract::event::{OutputTo, Phase};
    use loom_contract::id::{JobId, StepIndex};

    use super::*;

    fn chunk(stream: Stream, bytes: &[u8], open: bool) -> Output {
        let phase = Phase::Step(JobId::new("job").unwrap(), StepIndex::at(0));
        Output { phase, stream, bytes: OutputBytes::assume_masked(bytes.into()), open, to: OutputTo::All }
    }

    fn tail(chunks: &[&[u8]]) -> Vec<String> {
        let mut tail = Tail::default();
        chunks.iter().for_each(|bytes| tail.push(&chunk(Stream::Stdout, bytes, false)));
        tail.into_lines().iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect()
    }

    #[test]
    fn lines_are_counted_and_not_the_chunks_that_they_came_in() {
        let slow: Vec<String> = (1..=40).map(|n| format!("line {n}\n")).collect();
        let chunks: Vec<&[u8]> = slow.iter().map(String::as_bytes).collect();
        let last: Vec<String> = (26..=40).map(|n| format!("line {n}")).collect();
        assert_eq!(tail(&chunks), last);
        assert_eq!(tail(&[slow.concat().as_bytes()]), last);
        assert_eq!(tail(&[b"a\nb"]), ["a", "b"]);
        assert!(tail(&[]).is_empty() && tail(&[b"\n\n", b" \r\n"]).is_empty());
    }

    #[test]
    fn empty_lines_push_nothing_away() {
        let mut chunks: Vec<&[u8]> = vec![b"Error: expected 3, got 4\n"];
        chunks.extend([&b"\n"[..]; 40]);
        assert_eq!(tail(&chunks), ["Error: expected 3, got 4"]);
        let all = format!("cause\n{}done\n", "\n".repeat(40));
        assert_eq!(tail(&[all.as_bytes()]), ["cause", "", "done"]);
        let pushed_to_the_front = format!("a\n\n{}", "b\n".repeat(14));
        assert_eq!(tail(&[pushed_to_the_front.as_bytes()]), ["b"; 14]);
    }

    #[test]
    fn a_line_is_its_last_state() {
        assert_eq!(tail(&[b"1%\r2%\r60%\n", b"x\r\n", b"50%\r100%\r"]), ["60%", "x", "100%"]);
    }

    #[test]
    fn a_long_line_is_cut_and_goes_on_across_chunks_of_the_other_stream() {
        let mut tail = Tail::default();
        let long = "ä".repeat(LONGEST);
        tail.push(&chunk(Stream::Stdout, long.as_bytes(), true));
        tail.push(&chunk(Stream::Stderr, b"between\n", false));
        tail.push(&chunk(Stream::Stdout, b"more\nnext\n", false));
        let lines = tail.into_lines();
        let shown: Vec<_> =
            lines.iter().map(|line| (std::str::from_utf8(&line.bytes).unwrap(), line.is_cut)).collect();
        assert_eq!(shown, [(&*"ä".repeat(LONGEST / 2), true), ("between", false), ("next", false)]);

        let mut tail = Tail::default();
        tail.push(&chunk(Stream::Stdout, &b"1%\r".repeat(400), true));
        tail.push(&chunk(Stream::Stdout, b"98%\r99%\n", false));
        assert_eq!(&*tail.into_lines()[0].bytes, b"99%");
        let red = [&[b'x'; LONGEST - 3][..], b"\x1b[31mred"].concat();
        assert_eq!(shortened(&red), LONGEST - 3);
    }
}

//! Output beyond what may be recorded of a phase: its beginning and its end are kept, what is between is counted.
//!
//! The beginning goes on as it comes. From then on the terminal goes on seeing everything, and the end waits here: at most
//! [`END`] bytes of each phase that runs, until that phase is over.

use std::collections::{HashMap, VecDeque};

use loom_contract::event::{Event, EventBody, Level, Message, Output, OutputTo, Phase, Stream};
use loom_contract::redacted::OutputBytes;
use loom_contract::time::Timestamp;
use serde_json::{Map, Value};

/// The longest end of a phase's output that is kept, in bytes; of a small limit a quarter.
const END: u64 = 1 << 20;
/// Bytes of the limit for which a line may be recorded: each takes 200 bytes on the disk, however short it is. Output of
/// shorter lines on average is limited by their number, where that is not [`FEW_LINES`].
const BYTES_OF_LINE: u64 = 32;
/// So many lines are always recorded.
const FEW_LINES: u64 = 1 << 20;
/// Chunks below this size, in bytes, are put together where they can be: so many small ones take little more than they hold.
const SMALL: usize = 4096;

/// What was written in each phase that runs, and what waits for its end.
pub(crate) struct OutputLimit {
    /// Bytes of each phase's output that may be recorded; 0 for any number.
    most: u64,
    phases: HashMap<Phase, Kept>,
}

/// The output of one phase.
#[derive(Default)]
struct Kept {
    /// Bytes of the beginning.
    beginning: u64,
    /// Its lines.
    lines: u64,
    /// Whether there is more than that.
    is_beyond: bool,
    /// Whether that is since there are so many lines.
    has_many_lines: bool,
    /// The end so far, oldest first.
    end: VecDeque<Piece>,
    /// Its bytes.
    end_bytes: u64,
    /// What is neither in the beginning nor in the end.
    left_out: Counted,
    /// When something else was said in the phase last: what waits is written after it.
    said: Option<Timestamp>,
}

struct Piece {
    at: Timestamp,
    stream: Stream,
    bytes: OutputBytes,
    /// Bytes of it that are left out.
    skip: usize,
    open: bool,
}

#[derive(Default, Clone, Copy)]
struct Counted {
    bytes: u64,
    lines: u64,
}

impl OutputLimit {
    pub(crate) fn new(most: u64) -> Self {
        Self { most, phases: HashMap::new() }
    }

    /// What of `output`, which was written `at`, goes on now.
    pub(crate) fn take(&mut self, at: Timestamp, output: Output) -> [Option<Output>; 2] {
        if self.most == 0 {
            return [Some(output), None];
        }
        if !self.phases.contains_key(&output.phase) {
            self.phases.insert(output.phase.clone(), Kept::default());
        }
        let Some(kept) = self.phases.get_mut(&output.phase) else { return [Some(output), None] };
        if kept.is_beyond {
            kept.hold(at, &output, self.most);
            return [None, Some(Output { to: OutputTo::Terminal, ..output })];
        }
        let lines = kept.lines + memchr::memchr_iter(b'\n', &output.bytes).count() as u64;
        let mut room = self.most - END.min(self.most / 4) - kept.beginning;
        if lines > (self.most / BYTES_OF_LINE).max(FEW_LINES) {
            room = 0;
            kept.has_many_lines = true;
        }
        if output.bytes.len() as u64 <= room {
            kept.beginning += output.bytes.len() as u64;
            kept.lines = lines;
            return [Some(output), None];
        }
        kept.is_beyond = true;
        // Whole lines of it still fit.
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(output.bytes.len());
        let fits = memchr::memrchr(b'\n', &output.bytes[..room]).map_or(0, |end| end + 1);
        kept.beginning += fits as u64;
        let part = |range, open| Output { bytes: output.bytes.part(range), open, ..output.clone() };
        let first = (fits > 0).then(|| part(0..fits, false));
        let rest = part(fits..output.bytes.len(), output.open);
        kept.hold(at, &rest, self.most);
        [first, Some(Output { to: OutputTo::Terminal, ..rest })]
    }

    /// Something that is no output was said in `phase`, `at` that time.
    pub(crate) fn said(&mut self, phase: &Phase, at: Timestamp) {
        if let Some(kept) = self.phases.get_mut(phase) {
            kept.said = Some(at);
        }
    }

    /// What is still to be recorded of `phase`, which ends `at` that time.
    pub(crate) fn end(&mut self, phase: &Phase, at: Timestamp) -> Vec<Event> {
        let Some(kept) = self.phases.remove(phase) else { return Vec::new() };
        // Within a stream, time does not run backwards.
        let not_before_said = |at: Timestamp| kept.said.map_or(at, |said| said.max(at));
        let mut events = Vec::new();
        if kept.left_out.bytes > 0 {
            let first = kept.end.front().map_or(at, |piece| piece.at);
            let message = kept.left_out.message(self.most, kept.has_many_lines);
            events
                .push(Event { at: not_before_said(first), body: EventBody::Message(phase.clone(), message) });
        }
        for piece in kept.end {
            let bytes =
                if piece.skip == 0 { piece.bytes } else { piece.bytes.part(piece.skip..piece.bytes.len()) };
            let output = Output {
                phase: phase.clone(),
                stream: piece.stream,
                bytes,
                open: piece.open,
                to: OutputTo::Record,
            };
            events.push(Event { at: not_before_said(piece.at), body: EventBody::Output(output) });
        }
        events
    }
}

impl Kept {
    /// Takes `output` for the end, and leaves out what is then too much, the oldest first and by whole lines.
    fn hold(&mut self, at: Timestamp, output: &Output, most: u64) {
        self.end_bytes += output.bytes.len() as u64;
        match self.end.back_mut() {
            Some(last)
                if last.stream == output.stream
                    && !last.open
                    && last.bytes.ends_with(b"\n")
                    && last.bytes.len() + output.bytes.len() <= SMALL =>
            {
                last.bytes = last.bytes.followed_by(&output.bytes);
                last.open = output.open;
            }
            _ => self.end.push_back(Piece {
                at,
                stream: output.stream,
                bytes: output.bytes.clone(),
                skip: 0,
                open: output.open,
            }),
        }
        // What the beginning could not fill with whole lines is the end's.
        let most = if self.has_many_lines { END.min(most / 4) } else { most - self.beginning };
        while self.end_bytes > most {
            let Some(first) = self.end.front_mut() else { return };
            let length = first.bytes.len();
            let excess = usize::try_from(self.end_bytes - most).unwrap_or(usize::MAX);
            // The end of the first line with which there is no excess any more.
            let enough = first.skip.saturating_add(excess).min(length) - 1;
            let end = memchr::memchr(b'\n', &first.bytes[enough..]).map_or(length, |end| enough + end + 1);
            let left_out = &first.bytes[first.skip..end];
            let unterminated = !left_out.ends_with(b"\n") && !first.open;
            let lines = memchr::memchr_iter(b'\n', left_out).count() as u64 + u64::from(unterminated);
            self.left_out.bytes += left_out.len() as u64;
            self.left_out.lines += lines;
            self.end_bytes -= left_out.len() as u64;
            first.skip = end;
            if end == length {
                self.end.pop_front();
            }
        }
    }
}

impl Counted {
    fn message(self, most: u64, has_many_lines: bool) -> Message {
        let Self { bytes, lines } = self;
        let of = if lines == 1 { "line" } else { "lines" };
        let short = if has_many_lines { ", or so many short lines" } else { "" };
        let data = [("left_out_bytes", bytes), ("left_out_lines", lines), ("output_max_bytes", most)];
        Message {
            level: Level::Warn,
            message: format!(
                "{bytes} bytes of output ({lines} {of}) are left out of the record here: of more than {most} bytes{short} \
                 (runtime.outputMaxBytes), the beginning and the end are kept"
            ),
            data: Some(
                data.map(|(name, number)| (name.to_owned(), Value::from(number)))
                    .into_iter()
                    .collect::<Map<_, _>>(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use loom_contract::id::{JobId, StepIndex};
    use proptest::prelude::*;

    use super::*;

    fn phase() -> Phase {
        Phase::Step(JobId::new("a").expect("a job id"), StepIndex::at(0))
    }

    /// What goes on of `chunks`, each written a nanosecond after the one before; with what is said at the end.
    fn through(most: u64, chunks: &[(&[u8], bool)]) -> Vec<Event> {
        let mut limit = OutputLimit::new(most);
        let mut events = Vec::new();
        for (at, (bytes, open)) in chunks.iter().enumerate() {
            let at = Timestamp::from_unix_nanos(at as u64);
            let bytes = OutputBytes::assume_masked(Arc::from(*bytes));
            let output =
                Output { phase: phase(), stream: Stream::Stdout, bytes, open: *open, to: OutputTo::All };
            let taken = limit.take(at, output).into_iter().flatten();
            events.extend(taken.map(|output| Event { at, body: EventBody::Output(output) }));
        }
        events.extend(limit.end(&phase(), Timestamp::from_unix_nanos(chunks.len() as u64)));
        events
    }

    /// The bytes that are recorded, those that are shown, and what is left out.
    fn parts(events: &[Event]) -> (Vec<u8>, Vec<u8>, Option<(u64, u64)>) {
        let (mut recorded, mut shown, mut left_out) = (Vec::new(), Vec::new(), None);
        for event in events {
            match &event.body {
                EventBody::Output(output) => {
                    if output.to != OutputTo::Terminal {
                        recorded.extend_from_slice(&output.bytes);
                    }
                    if output.to != OutputTo::Record {
                        shown.extend_from_slice(&output.bytes);
                    }
                }
                EventBody::Message(_, message) => {
                    let number = |name: &str| message.data.as_ref()?.get(name)?.as_u64();
                    assert!(left_out.is_none(), "it is said once");
                    left_out = number("left_out_bytes").zip(number("left_out_lines"));
                }
                _ => panic!("{event:?}"),
            }
        }
        (recorded, shown, left_out)
    }

    #[test]
    fn nothing_is_left_out_at_the_limit_and_a_line_one_beyond() {
        let text = "y\n".repeat(500);
        assert_eq!(
            parts(&through(1000, &[(text.as_bytes(), false)])),
            (text.clone().into(), text.clone().into(), None)
        );
        let more = format!("{text}z");
        let (recorded, shown, left_out) = parts(&through(1000, &[(text.as_bytes(), false), (b"z", false)]));
        assert_eq!((shown, left_out), (more.into_bytes(), Some((2, 1))));
        assert_eq!(recorded, format!("{}z", "y\n".repeat(499)).as_bytes());
    }

    #[test]
    fn a_phase_without_lines_keeps_its_end_in_pieces() {
        let chunks: Vec<(Vec<u8>, bool)> = (100..200u8).map(|byte| (vec![byte; 100], true)).collect();
        let chunks: Vec<(&[u8], bool)> = chunks.iter().map(|(bytes, open)| (&bytes[..], *open)).collect();
        let (recorded, _, left_out) = parts(&through(1000, &chunks));
        let kept: Vec<u8> = recorded.chunks(100).map(|piece| piece[0]).collect();
        assert_eq!(kept, [100, 101, 102, 103, 104, 105, 106, 197, 198, 199]);
        assert_eq!(left_out, Some((9000, 0)));
    }

    #[test]
    fn of_many_short_lines_fewer_bytes_are_kept() {
        let chunk = "\n".repeat(1 << 16);
        let chunks = vec![(chunk.as_bytes(), false); 33];
        let (recorded, shown, left_out) = parts(&through(1 << 22, &chunks));
        assert_eq!(shown.len(), 33 << 16);
        // 1 Mi lines at the beginning, and an end of 1 MiB.
        assert_eq!((recorded.len(), left_out), (32 << 16, Some((1 << 16, 1 << 16))));
    }

    proptest! {
        #[test]
        fn beginning_and_end_are_kept_and_the_rest_is_counted(
            most in 1u64..300,
            lines in prop::collection::vec((0usize..30, 1usize..4), 0..60),
        ) {
            let mut chunks = Vec::new();
            for (number, (length, several)) in lines.iter().enumerate() {
                let line = format!("{number}{}\n", "x".repeat(*length));
                chunks.push(line.repeat(*several));
            }
            let all = chunks.concat();
            let chunks: Vec<(&[u8], bool)> = chunks.iter().map(|chunk| (chunk.as_bytes(), false)).collect();
            let events = through(most, &chunks);
            let (recorded, shown, left_out) = parts(&events);
            prop_assert_eq!(shown, all.as_bytes());
            prop_assert!(recorded.len() as u64 <= most);
            match left_out {
                None => {
                    prop_assert!(all.len() as u64 <= most);
                    prop_assert_eq!(recorded, all.as_bytes());
                }
                Some((bytes, lines)) => {
                    prop_assert!(all.len() as u64 > most);
                    prop_assert_eq!(recorded.len() as u64 + bytes, all.len() as u64);
                    let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
                    prop_assert_eq!(count(&recorded) + lines, count(all.as_bytes()));
                    // It is a beginning and an end.
                    let is_cut = |at: usize| {
                        let (first, last) = recorded.split_at(at);
                        all.as_bytes().starts_with(first) && all.as_bytes().ends_with(last)
                    };
                    prop_assert!((0..=recorded.len()).any(is_cut));
                }
            }
            let recorded = events.iter().filter(|event| !matches!(
                &event.body, EventBody::Output(output) if output.to == OutputTo::Terminal));
            let times: Vec<Timestamp> = recorded.map(|event| event.at).collect();
            prop_assert!(times.is_sorted());
        }
    }
}

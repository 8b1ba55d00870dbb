//! Bytes that processes write, on their way into events: masked, then cut into lines.

pub(crate) mod limit;

use std::sync::Arc;

use loom_contract::event::{LINE_LIMIT, Level, Output, OutputTo, Phase, Stream};
use loom_contract::redacted::OutputBytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use serde_json::{Map, Value};

use crate::emit::Emitter;
use crate::mask::{LastLine, MaskFile};
use crate::redact;

/// Where a process's output is recorded.
#[derive(Debug, Clone)]
pub struct OutputSink {
    route: Arc<Route>,
    stream: Stream,
}

/// Which phase takes output now. All steps of a job share one, so that a process that an earlier step left in the
/// background goes on being heard, in whatever runs when it speaks.
#[derive(Debug)]
pub(crate) struct Route {
    emitter: Emitter,
    /// Where the job writes what is to be masked.
    mask: Option<Arc<MaskFile>>,
    phase: Mutex<Option<Phase>>,
    opened: Condvar,
}

impl Route {
    /// A route that is closed, for a job that writes into `mask` what is to be masked.
    pub(crate) fn new(emitter: Emitter, mask: Option<Arc<MaskFile>>) -> Arc<Self> {
        Arc::new(Self { emitter, mask, phase: Mutex::new(None), opened: Condvar::new() })
    }

    /// Output belongs to `phase` from now on.
    pub(crate) fn open(&self, phase: Phase) {
        *self.phase.lock() = Some(phase);
        self.opened.notify_all();
    }

    /// Nobody takes output: who writes waits. When this returns, nothing more is sent for the phase before.
    pub(crate) fn close(&self) {
        *self.phase.lock() = None;
    }

    /// Masks what the job has asked for since it was last looked at. Blocks the thread while nobody takes output, if
    /// something has to be said.
    pub(crate) fn look_at_masks(&self, last_line: LastLine) {
        let Some(mask) = &self.mask else { return };
        for problem in mask.look(last_line) {
            if let Some(phase) = self.wait_for_phase().clone() {
                self.emitter.message(phase, Level::Warn, problem.to_string(), None);
            }
        }
    }

    /// Says `message` in the phase that takes output now; nothing where none does.
    pub(crate) fn say(&self, level: Level, message: String, data: Option<Map<String, Value>>) {
        let phase = self.phase.lock();
        if let Some(phase) = phase.clone() {
            self.emitter.message(phase, level, message, data);
        }
    }

    fn wait_for_phase(&self) -> MutexGuard<'_, Option<Phase>> {
        let mut phase = self.phase.lock();
        self.opened.wait_while(&mut phase, |phase| phase.is_none());
        phase
    }

    fn send(&self, stream: Stream, bytes: Arc<[u8]>, open: bool) {
        let permit = self.emitter.reserve(bytes.len());
        let phase = self.wait_for_phase();
        // Sent under the lock, so that `close` orders it before whatever its caller sends next.
        if let Some(phase) = phase.clone() {
            let bytes = OutputBytes::assume_masked(bytes);
            self.emitter.output(Output { phase, stream, bytes, open, to: OutputTo::All }, permit);
        }
    }
}

impl OutputSink {
    /// A sink for `stream` into whatever phase `route` is open to.
    pub(crate) fn new(route: &Arc<Route>, stream: Stream) -> Self {
        Self { route: Arc::clone(route), stream }
    }

    /// Says `message` where the output is recorded, if it is now.
    pub fn message(&self, level: Level, message: String, data: Option<Map<String, Value>>) {
        self.route.say(level, message, data);
    }

    /// What takes a stream of bytes that is to be recorded.
    pub fn lines(&self) -> Lines {
        Lines::new(self.clone())
    }

    /// Records `text` as a line of its own. Blocks the thread while too much output is on its way.
    pub fn line(&self, text: &str) {
        let mut lines = Lines::new(self.clone());
        lines.push(text.as_bytes());
        if !text.ends_with('\n') {
            lines.push(b"\n");
        }
        lines.end();
    }
}

/// Masks a stream of bytes, then cuts it into chunks of whole lines, none longer than [`LINE_LIMIT`].
pub struct Lines {
    redact: redact::Stream,
    cut: Cut,
}

impl Lines {
    pub(crate) fn new(sink: OutputSink) -> Self {
        let redact = sink.route.emitter.redactor().stream();
        Self { redact, cut: Cut { sink, held: Vec::new() } }
    }

    /// Takes what was read, and hands on all lines that it completes. Blocks the thread while too much output is on its
    /// way.
    pub fn push(&mut self, bytes: &[u8]) {
        self.cut.sink.route.look_at_masks(LastLine::Waits);
        self.redact.push(bytes, &mut |shown| self.cut.push(shown));
    }

    /// Hands on what is held, complete or not: the stream has ended.
    pub fn end(&mut self) {
        self.redact.end(&mut |shown| self.cut.push(shown));
        self.cut.flush(false);
    }
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("sink", &self.cut.sink).finish_non_exhaustive()
    }
}

struct Cut {
    sink: OutputSink,
    /// The beginning of a line whose end has not been read.
    held: Vec<u8>,
}

impl Cut {
    fn push(&mut self, bytes: &[u8]) {
        for read in bytes.chunks(LINE_LIMIT) {
            self.push_read(read);
        }
    }

    /// At most [`LINE_LIMIT`] bytes at once, so that only the first line, with what is held, can be too long.
    fn push_read(&mut self, bytes: &[u8]) {
        let Some(end) = memchr::memrchr(b'\n', bytes) else {
            self.hold(bytes);
            return;
        };
        let (whole, rest) = bytes.split_at(end + 1);
        let first_end = memchr::memchr(b'\n', whole).unwrap_or(end);
        if self.held.len() + first_end > LINE_LIMIT {
            // The first line got too long with this read: bring it to its end apart from the others.
            let (first, others) = whole.split_at(first_end + 1);
            self.hold(first);
            self.flush(false);
            if !others.is_empty() {
                self.send(others.into(), false);
            }
        } else if self.held.is_empty() {
            self.send(whole.into(), false);
        } else {
            self.held.extend_from_slice(whole);
            self.flush(false);
        }
        self.hold(rest);
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        // A terminator does not count towards the limit.
        while self.held.strip_suffix(b"\n").unwrap_or(&self.held).len() > LINE_LIMIT {
            let cut = char_boundary(&self.held, LINE_LIMIT);
            let rest = self.held.split_off(cut);
            self.flush(true);
            self.held = rest;
        }
    }

    fn flush(&mut self, open: bool) {
        if !self.held.is_empty() {
            let bytes = Arc::from(self.held.as_slice());
            self.held.clear();
            self.send(bytes, open);
        }
    }

    fn send(&self, bytes: Arc<[u8]>, open: bool) {
        self.sink.route.send(self.sink.stream, bytes, open);
    }
}

/// The largest cut at or below `at` that does not divide a UTF-8 character; `at` itself in what is no UTF-8.
fn char_boundary(bytes: &[u8], at: usize) -> usize {
    let continues = |b: &u8| b & 0b1100_0000 == 0b1000_0000;
    (at.saturating_sub(3)..=at).rev().find(|i| bytes.get(*i).is_none_or(|b| !continues(b))).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::emit;
    use loom_contract::event::EventBody;
    use loom_contract::phase::PhaseCode;
    use proptest::prelude::*;

    fn chunks(reads: &[Vec<u8>]) -> Vec<(Vec<u8>, bool)> {
        let (emitter, mut receiver) = emit::channel(Clock::start(), redact::Redactor::default());
        let route = Route::new(emitter, None);
        route.open(Phase::Run(PhaseCode::RunBootstrap));
        let mut lines = Lines::new(OutputSink::new(&route, Stream::Stdout));
        let mut chunks = Vec::new();
        let mut drain = |receiver: &mut tokio::sync::mpsc::UnboundedReceiver<emit::Envelope>| {
            while let Ok(envelope) = receiver.try_recv() {
                if let EventBody::Output(output) = &envelope.event.body {
                    chunks.push((output.bytes.to_vec(), output.open));
                }
            }
        };
        for read in reads {
            lines.push(read);
            drain(&mut receiver);
        }
        lines.end();
        drain(&mut receiver);
        chunks
    }

    #[test]
    fn a_long_line_is_cut_at_characters() {
        let mut text = "ä".repeat(LINE_LIMIT).into_bytes();
        text.push(b'\n');
        let chunks = chunks(&[text]);
        assert_eq!(chunks.iter().map(|c| c.1).collect::<Vec<_>>(), [true, false]);
        assert_eq!(chunks[0].0.len(), LINE_LIMIT);
        assert!(chunks.iter().all(|c| std::str::from_utf8(&c.0).is_ok()));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_line_is_too_long(
            reads in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..50),
                    (0usize..200_000).prop_map(|n| vec![b'x'; n]),
                ],
                0..12,
            )
        ) {
            let chunks = chunks(&reads);
            let all: Vec<u8> = chunks.iter().flat_map(|c| c.0.clone()).collect();
            prop_assert_eq!(all, reads.concat());
            for (index, (bytes, open)) in chunks.iter().enumerate() {
                prop_assert!(!bytes.is_empty());
                prop_assert!(bytes.split(|b| *b == b'\n').all(|line| line.len() <= LINE_LIMIT));
                let last = index + 1 == chunks.len();
                prop_assert_eq!(*open, !bytes.ends_with(b"\n") && !last);
            }
        }
    }
}

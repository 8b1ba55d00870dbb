//! One `events.jsonl`: lines in, whole lines out.

use std::path::PathBuf;

use fs_err as fs;
use loom_contract::event::{EventLine, Output, Phase};
use loom_contract::time::Timestamp;

use crate::RecordError;
use crate::fault::{fault, write_all};

/// A stream of events on its way to a file.
#[derive(Debug)]
pub(crate) struct EventStream {
    path: PathBuf,
    file: Option<fs::File>,
    /// Length of what stands whole in the file, in bytes.
    written: u64,
    seq: u64,
    buffer: Vec<u8>,
    broken: bool,
}

/// Past this many bytes a stream is written out without waiting for a quiet moment.
pub(crate) const BATCH: usize = 256 * 1024;

impl EventStream {
    /// Makes the file, and the folders above it.
    pub(crate) fn create(path: PathBuf) -> Result<Self, RecordError> {
        if let Some(folder) = path.parent() {
            crate::atomic::make_folder(folder)?;
        }
        let open = || fs::OpenOptions::new().append(true).create(true).open(&path);
        let file = fault("create", &path).and_then(|()| open());
        let file = file.map_err(|e| RecordError::new("create", &path, e))?;
        Ok(Self { path, file: Some(file), written: 0, seq: 0, buffer: Vec::new(), broken: false })
    }

    /// A stream whose file could not be made: it swallows what it is given.
    pub(crate) fn broken(path: PathBuf) -> Self {
        Self { path, file: None, written: 0, seq: 0, buffer: Vec::new(), broken: true }
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.buffer.is_empty()
    }

    pub(crate) fn is_large(&self) -> bool {
        self.buffer.len() >= BATCH
    }

    /// Adds an event, with the next position of this stream.
    pub(crate) fn push(&mut self, line: &mut EventLine) {
        self.seq += 1;
        line.seq = self.seq;
        // Into memory, of types whose keys are texts: cannot fail.
        let _ = serde_json::to_writer(&mut self.buffer, line);
        self.buffer.push(b'\n');
    }

    /// Writes out what is held. After a failure the file is cut back to its last whole line and left alone.
    pub(crate) fn flush(&mut self) -> Result<(), RecordError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let result = match &mut self.file {
            Some(file) if !self.broken => write_all(file, &self.path, &self.buffer).inspect_err(|_| {
                let _ = file.set_len(self.written);
            }),
            _ => Ok(()),
        };
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(2 * BATCH);
        result.map_err(|source| {
            self.broken = true;
            RecordError::new("write", &self.path, source)
        })
    }
}

/// The number of lines that `output` ends.
pub(crate) fn lines_of(output: &Output) -> u64 {
    let unterminated = !output.bytes.is_empty() && !output.bytes.ends_with(b"\n") && !output.open;
    memchr::memchr_iter(b'\n', &output.bytes).count() as u64 + u64::from(unterminated)
}

/// Adds `output` to its own stream and, with other positions, to `mirror`. Returns how many lines it ended.
///
/// The bytes of a line are encoded once. Nothing here allocates per line.
pub(crate) fn push_output(
    output: &Output,
    at: Timestamp,
    own: &mut EventStream,
    mut mirror: Option<&mut EventStream>,
) -> u64 {
    let mut head = format!(",\"ts\":\"{at}\",\"type\":\"output\"");
    if let Phase::Step(_, step) = &output.phase {
        head.push_str(&format!(",\"step\":\"{step}\""));
    }
    head.push_str(&format!(",\"stream\":\"{}\",\"line\":\"", output.stream.as_str()));
    let text = std::str::from_utf8(&output.bytes).ok();
    let mut lines = 0;
    let mut start = 0;
    while start < output.bytes.len() {
        let rest = &output.bytes[start..];
        let end = memchr::memchr(b'\n', rest);
        let line = &rest[..end.unwrap_or(rest.len())];
        let partial = end.is_none() && output.open;

        push_seq(own);
        let tail = own.buffer.len();
        own.buffer.extend_from_slice(head.as_bytes());
        let lossy = push_escaped(&mut own.buffer, line, text.is_some());
        own.buffer.extend_from_slice(match (partial, lossy) {
            (false, false) => b"\"}\n",
            (true, false) => b"\",\"partial\":true}\n",
            (false, true) => b"\",\"lossy\":true}\n",
            (true, true) => b"\",\"partial\":true,\"lossy\":true}\n",
        });
        if let Some(mirror) = &mut mirror {
            push_seq(mirror);
            mirror.buffer.extend_from_slice(&own.buffer[tail..]);
        }
        lines += u64::from(!partial);
        start += line.len() + 1;
    }
    lines
}

fn push_seq(stream: &mut EventStream) {
    stream.seq += 1;
    stream.buffer.extend_from_slice(b"{\"seq\":");
    stream.buffer.extend_from_slice(itoa::Buffer::new().format(stream.seq).as_bytes());
}

/// Adds `line` as the inside of a JSON string; what is no UTF-8 becomes U+FFFD. Says whether that happened.
fn push_escaped(out: &mut Vec<u8>, line: &[u8], valid: bool) -> bool {
    if valid {
        push_escaped_text(out, line);
        return false;
    }
    let text = String::from_utf8_lossy(line);
    push_escaped_text(out, text.as_bytes());
    matches!(text, std::borrow::Cow::Owned(_))
}

fn push_escaped_text(out: &mut Vec<u8>, text: &[u8]) {
    // A fold without an early end is a loop over whole vectors for the compiler.
    let plain = !text.iter().fold(false, |found, b| found | needs_escape(*b));
    if plain {
        out.extend_from_slice(text);
        return;
    }
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| needs_escape(*b)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            control => {
                let hex = |n: u8| b"0123456789abcdef"[usize::from(n)];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[hex(control >> 4), hex(control & 15)]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use loom_contract::event::{OutputTo, Stream};
    use loom_contract::id::{JobId, StepIndex};
    use loom_contract::redacted::OutputBytes;
    use proptest::prelude::*;

    use super::*;

    fn output_of(bytes: &[u8], open: bool) -> Output {
        Output {
            phase: Phase::Step(JobId::new("a").expect("a job id"), StepIndex::at(0)),
            stream: Stream::Stderr,
            bytes: OutputBytes::assume_masked(Arc::from(bytes)),
            open,
            to: OutputTo::All,
        }
    }

    fn encode(bytes: &[u8], open: bool) -> (Vec<EventLine>, Vec<EventLine>, u64) {
        let output = output_of(bytes, open);
        let (mut own, mut mirror) = (EventStream::broken("own".into()), EventStream::broken("mirror".into()));
        mirror.seq = 41;
        let lines = push_output(&output, Timestamp::from_unix_nanos(1), &mut own, Some(&mut mirror));
        let parse = |stream: &EventStream| -> Vec<EventLine> {
            let text = std::str::from_utf8(&stream.buffer).expect("UTF-8");
            text.lines().map(|line| serde_json::from_str(line).expect("an event line")).collect()
        };
        (parse(&own), parse(&mirror), lines)
    }

    #[test]
    fn an_output_line_has_its_keys_in_order() {
        let phase = Phase::Step(JobId::new("a").expect("a job id"), StepIndex::at(0));
        let output = Output {
            phase,
            stream: Stream::Stdout,
            bytes: OutputBytes::assume_masked(Arc::from(&b"a\"\\\x1b\t\n"[..])),
            open: false,
            to: OutputTo::All,
        };
        let mut own = EventStream::broken("own".into());
        push_output(&output, Timestamp::from_unix_nanos(0), &mut own, None);
        assert_eq!(
            String::from_utf8_lossy(&own.buffer),
            "{\"seq\":1,\"ts\":\"1970-01-01T00:00:00.000000000Z\",\"type\":\"output\",\"step\":\"01\",\
             \"stream\":\"stdout\",\"line\":\"a\\\"\\\\\\u001b\\t\"}\n"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300), open: bool) {
            let (own, mirror, lines) = encode(&bytes, open);
            let mut expected: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
            if expected.last().is_some_and(|last| last.is_empty()) {
                expected.pop();
            }
            prop_assert_eq!(own.len(), expected.len());
            let unterminated = !bytes.is_empty() && !bytes.ends_with(b"\n");
            for (index, (line, bytes)) in own.iter().zip(&expected).enumerate() {
                let last = index + 1 == own.len();
                let text = String::from_utf8_lossy(bytes).into_owned();
                prop_assert_eq!(line.lossy, std::str::from_utf8(bytes).is_err());
                prop_assert_eq!(line.line.as_ref(), Some(&text));
                prop_assert_eq!(line.partial, last && unterminated && open);
                prop_assert_eq!(line.seq, index as u64 + 1);
                prop_assert_eq!(mirror[index].seq, index as u64 + 42);
                prop_assert_eq!(&mirror[index].line, &line.line);
            }
            prop_assert_eq!(lines, own.iter().filter(|l| !l.partial).count() as u64);
            prop_assert_eq!(lines, lines_of(&output_of(&bytes, open)));
        }
    }
}

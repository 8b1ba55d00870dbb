//! What records take and how their runs ended, written down when it was first looked at.
//!
//! It is a note for the next look and no more: what is missing in it is measured again, and before anything
//! is removed the receipt itself is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::BorrowedFd;

use loom_contract::id::RunId;
use loom_contract::layout::RECORD_SIZES;
use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// The longest file that is read, in bytes.
const MOST: u64 = 16 << 20;
/// The first line, by which the file is known for Loom's.
const HEAD: &str = "{\"format\":1,\"holds\":\"sizes of records\"}";
const NEW: &str = ".records.jsonl.tmp";

/// The size of a record, and its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) bytes: u64,
    pub(super) passed: bool,
}

#[derive(Serialize, Deserialize)]
struct Line {
    run_id: RunId,
    bytes: u64,
    passed: bool,
}

/// The sizes of all records.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    known: BTreeMap<RunId, Size>,
    is_changed: bool,
}

impl Sizes {
    /// Reads the sizes that are written down in the open runtime folder.
    pub(super) fn read(runtime: BorrowedFd<'_>) -> Self {
        let text = super::read(runtime, RECORD_SIZES, MOST).unwrap_or_default();
        let mut lines = text.split(|byte| *byte == b'\n');
        let is_own = lines.next() == Some(HEAD.as_bytes());
        let lines = lines.filter(|_| is_own).filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        let known = lines.map(|line| (line.run_id, Size { bytes: line.bytes, passed: line.passed }));
        Self { known: known.collect(), is_changed: false }
    }

    pub(super) fn get(&self, id: &RunId) -> Option<Size> {
        self.known.get(id).copied()
    }

    pub(super) fn put(&mut self, id: &RunId, size: Size) {
        self.known.insert(id.clone(), size);
        self.is_changed = true;
    }

    pub(super) fn forget(&mut self, id: &RunId) {
        self.is_changed |= self.known.remove(id).is_some();
    }

    /// Writes down what has changed, without what `is_there` says no to. Another file in its place stays; so
    /// does the old one where there is no room for a new one.
    pub(super) fn write(mut self, runtime: BorrowedFd<'_>, is_there: impl Fn(&RunId) -> bool) {
        if !self.is_changed {
            return;
        }
        let is_own = match statat(runtime, RECORD_SIZES, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => true,
            _ => {
                super::read(runtime, RECORD_SIZES, MOST).is_some_and(|text| text.starts_with(HEAD.as_bytes()))
            }
        };
        if !is_own {
            return;
        }
        self.known.retain(|id, _| is_there(id));
        let mut text = format!("{HEAD}\n").into_bytes();
        for (run_id, Size { bytes, passed }) in self.known {
            let _ = serde_json::to_writer(&mut text, &Line { run_id, bytes, passed });
            text.push(b'\n');
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // One that is there was torn.
        let _ = unlinkat(runtime, NEW, AtFlags::empty());
        let written = openat(runtime, NEW, flags, Mode::from_raw_mode(0o644)).map_err(std::io::Error::from);
        let written = written.and_then(|file| File::from(file).write_all(&text));
        let written = written.and_then(|()| Ok(renameat(runtime, NEW, runtime, RECORD_SIZES)?));
        if let Err(error) = written {
            tracing::debug!(%error, "the sizes of records are not written down");
            let _ = unlinkat(runtime, NEW, AtFlags::empty());
        }
    }
}

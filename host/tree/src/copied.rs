//! What is known of a copy that stays: of each file, what the original and the copy looked like when it was
//! copied. A file of which both look the same today is not read again.
//!
//! That rests on the time of change, which only the kernel sets. It does not tell apart what happened within
//! one tick of a file system's clock, so entries from the last ticks before the record was written are in
//! doubt, as in git's index: their content is compared. After a power failure a file may look right and be
//! empty; so a record counts until the machine starts again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use parking_lot::Mutex;
use rustix::fs::{FileType, Stat, fstat};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::fault::fault;
use crate::{FileError, dir};

const FORMAT: u32 = 1;
/// The coarsest clock of a file system on which sources are, in seconds.
const COARSEST: i64 = 2;
/// A tick of the kernel's clock, and some more, in nanoseconds: what file systems with fine stamps do not tell
/// apart.
const TICK: u32 = 20_000_000;
const HASH: usize = blake3::OUT_LEN;

/// A point in time as file systems keep it: seconds since 1970, and nanoseconds.
pub(crate) type Time = (i64, u32);

/// What a file looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    mode: u32,
    size: i64,
    modified: Time,
    changed: Time,
    inode: u64,
}

impl Seen {
    #[expect(clippy::unnecessary_cast, reason = "the types of the fields differ between architectures")]
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            mode: stat.st_mode as u32,
            size: stat.st_size as i64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            changed: changed(stat),
            inode: stat.st_ino as u64,
        }
    }

    /// The size of a file in bytes; nothing for a symlink.
    pub(crate) fn file_size(&self) -> u64 {
        match FileType::from_raw_mode(self.mode) {
            FileType::RegularFile => u64::try_from(self.size).unwrap_or(0),
            _ => 0,
        }
    }
}

/// A file that was copied.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Row<'a> {
    #[serde(borrow)]
    pub(crate) name: &'a [u8],
    pub(crate) from: Seen,
    pub(crate) to: Seen,
}

/// The rows of a folder, in the order of their names.
#[derive(Debug, Default)]
pub(crate) struct Rows<'a> {
    rows: Vec<Row<'a>>,
    from_before: Time,
    to_before: Time,
}

/// How a file is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Both the original and the copy are what they were.
    Same,
    /// They look the same; whether they are, only their content says.
    InDoubt,
    /// One of them is not what it was, or nothing is known.
    Other,
}

impl Rows<'_> {
    pub(crate) fn look_up(&self, name: &[u8], from: &Seen, to: &Seen) -> Known {
        let Ok(at) = self.rows.binary_search_by(|row| row.name.cmp(name)) else { return Known::Other };
        let row = &self.rows[at];
        if row.from != *from || row.to != *to {
            return Known::Other;
        }
        match from.changed < self.from_before && to.changed < self.to_before {
            true => Known::Same,
            false => Known::InDoubt,
        }
    }

    /// The row of `name` and how its original is known, which looks like `from` today, whatever has become of
    /// the copy.
    pub(crate) fn original(&self, name: &[u8], from: &Seen) -> Option<(Row<'_>, Known)> {
        let row = self.rows[self.rows.binary_search_by(|row| row.name.cmp(name)).ok()?];
        let (seconds, nanoseconds) = self.from_before;
        let began = seconds + COARSEST;
        let just_before = match nanoseconds.checked_sub(TICK) {
            Some(nanoseconds) => (began, nanoseconds),
            None => (began - 1, 1_000_000_000 - TICK + nanoseconds),
        };
        let is_fine = from.changed.1 != 0;
        let known = match row.from == *from {
            false => Known::Other,
            true if from.changed < self.from_before || (is_fine && from.changed < just_before) => Known::Same,
            true => Known::InDoubt,
        };
        Some((row, known))
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Row<'_>> {
        self.rows.iter()
    }
}

/// The record of a copy that was whole.
#[derive(Debug, Default)]
pub struct Copied {
    bytes: Vec<u8>,
    from_before: Time,
    to_before: Time,
    /// Where in the bytes the rows of a folder are; a big folder has several parts.
    folders: HashMap<Vec<u8>, Vec<(usize, usize)>>,
}

#[derive(Serialize, Deserialize)]
struct Head<'a> {
    format: u32,
    boot: &'a str,
    from_before: Time,
    to_before: Time,
    /// Paths of folders, and how many bytes their rows take.
    #[serde(borrow)]
    parts: Vec<(&'a [u8], usize)>,
}

impl Copied {
    /// The record of which nothing is known.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Reads the record at `path`. One that is damaged, or from before the machine was started, is as good as
    /// none.
    pub fn load(path: &Path) -> Self {
        Self::read(path).unwrap_or_default()
    }

    fn read(path: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        fs_err::File::open(path).ok()?.read_to_end(&mut bytes).ok()?;
        let (hash, text) = bytes.split_first_chunk::<HASH>()?;
        if blake3::hash(text) != *hash {
            return None;
        }
        let (head, rest) = postcard::take_from_bytes::<Head<'_>>(text).ok()?;
        if head.format != FORMAT || head.boot.is_empty() || head.boot != boot() {
            return None;
        }
        let mut at = bytes.len() - rest.len();
        let mut folders: HashMap<Vec<u8>, Vec<(usize, usize)>> = HashMap::with_capacity(head.parts.len());
        for (folder, length) in head.parts {
            let end = at.checked_add(length).filter(|end| *end <= bytes.len())?;
            folders.entry(folder.to_owned()).or_default().push((at, end));
            at = end;
        }
        let (from_before, to_before) = (head.from_before, head.to_before);
        Some(Self { from_before, to_before, folders, bytes })
    }

    /// The rows of the folder at `path`, which is relative to the whole copy.
    pub(crate) fn rows(&self, path: &[u8]) -> Rows<'_> {
        let parts = self.folders.get(path).map_or(&[][..], Vec::as_slice);
        let mut rows: Vec<Row<'_>> = Vec::new();
        for (start, end) in parts {
            // The hash says that this program wrote them.
            rows.extend(postcard::from_bytes::<Vec<Row<'_>>>(&self.bytes[*start..*end]).unwrap_or_default());
        }
        rows.sort_unstable_by_key(|row| row.name);
        Rows { rows, from_before: self.from_before, to_before: self.to_before }
    }

    /// Removes the record at `path`, before anything in the copy is changed.
    ///
    /// # Errors
    /// It is still there.
    pub fn forget(path: &Path) -> Result<(), FileError> {
        let removed = fault("remove", || path.to_owned()).map_err(io::Error::from);
        match removed.and_then(|()| fs_err::remove_file(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::write(path, error)),
            _ => Ok(()),
        }
    }

    /// The folders of which something is known, relative to the whole copy.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &[u8]> {
        self.folders.keys().map(Vec::as_slice)
    }

    /// Whether something is known of the folder at `path`, which is relative to the whole copy, or of one below it.
    pub(crate) fn has_below(&self, path: &[u8]) -> bool {
        let is_there =
            |folder: &Vec<u8>| folder.strip_prefix(path).is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
        self.folders.contains_key(path) || self.folders.keys().any(is_there)
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }
}

/// A record that is being made, by several threads.
#[derive(Debug)]
pub struct Recording {
    from_before: Time,
    parts: Mutex<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl Default for Recording {
    fn default() -> Self {
        Self::begin()
    }
}

impl Recording {
    /// Begins one, before anything of the original is looked at.
    pub fn begin() -> Self {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let from_before = (now.tv_sec - COARSEST, u32::try_from(now.tv_nsec).unwrap_or_default());
        Self { from_before, parts: Mutex::default() }
    }

    /// Adds rows of the folder at `path`, which is relative to the whole copy.
    pub(crate) fn add(&self, path: Vec<u8>, rows: &[Row<'_>]) {
        // Cannot fail: there is memory, and the types are plain.
        if let Ok(text) = postcard::to_stdvec(rows) {
            self.parts.lock().push((path, text));
        }
    }

    /// The names of the rows so far, by folder.
    pub(crate) fn names(&self) -> BTreeMap<Vec<u8>, HashSet<Vec<u8>>> {
        let mut names: BTreeMap<Vec<u8>, HashSet<Vec<u8>>> = BTreeMap::new();
        for (folder, text) in self.parts.lock().iter() {
            // This program has just written them.
            let rows = postcard::from_bytes::<Vec<Row<'_>>>(text).unwrap_or_default();
            let own = rows.iter().map(|row| row.name.to_owned());
            names.entry(folder.clone()).or_default().extend(own);
        }
        names
    }

    /// Writes it to `path`, whole or not at all, when everything is copied and nobody works in the copy yet.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn store(self, path: &Path) -> Result<(), FileError> {
        let temporary = path.with_added_extension("new");
        let write = || -> io::Result<()> {
            fault("create", || temporary.clone())?;
            let mut file = fs_err::File::create(&temporary)?;
            // From here on, whatever changes in the copy is no older than this file.
            let to_before = changed(&fstat(&file)?);
            let parts = self.parts.into_inner();
            let head = Head {
                format: FORMAT,
                boot: &boot(),
                from_before: self.from_before,
                to_before,
                parts: parts.iter().map(|(path, text)| (&path[..], text.len())).collect(),
            };
            let mut text = postcard::to_stdvec(&head).map_err(io::Error::other)?;
            text.reserve(parts.iter().map(|(_, text)| text.len()).sum());
            for (_, part) in &parts {
                text.extend_from_slice(part);
            }
            fault("write", || temporary.clone())?;
            file.write_all(blake3::hash(&text).as_bytes())?;
            file.write_all(&text)?;
            fault("rename", || temporary.clone())?;
            fs_err::rename(&temporary, path)
        };
        write().map_err(|error| {
            let _ = fs_err::remove_file(&temporary);
            FileError::write(path, error)
        })
    }
}

#[expect(clippy::unnecessary_cast, reason = "the types of the fields differ between architectures")]
fn changed(stat: &Stat) -> Time {
    (stat.st_ctime as i64, stat.st_ctime_nsec as u32)
}

/// The random id of this start of the machine; empty where it is not known.
fn boot() -> String {
    fs_err::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The path `folder` below `base`, which is relative to the whole copy.
pub(crate) fn below(base: &[u8], folder: &[u8]) -> Vec<u8> {
    if folder.is_empty() { base.to_vec() } else { dir::join(base, folder) }
}

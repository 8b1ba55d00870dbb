//! Values that a job learns while it runs: whatever it writes into the file that [`VARIABLE`] names is masked from then
//! on, for all jobs of the run.
//!
//! Loom makes the file and keeps it open. The path is the job's: what the job puts in its place is never opened. Whoever
//! records output looks first whether the file has changed, so that a value is masked where it is printed right after it
//! was written.
//!
//! A line is a value; one that is a JSON string, with its quotes, stands for the text that it encodes, as of several
//! lines. An empty line is none. A last line that has no end is a value only when the step is over.

use std::fmt;
use std::io;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::redact::Redactor;
use crate::secrets::{self, SecretsDir};

/// The variable that names the file to which a job writes values that are to be masked.
pub const VARIABLE: &str = "LOOM_MASK";
/// Bytes of the file that are read.
pub const LONGEST: usize = 1 << 20;
/// Values of one job that are masked.
const MOST_VALUES: usize = 1000;

/// What is written as one line of the file for `value`, which may have several.
pub fn line_of(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// The file of a job. What is in it is removed with [`MaskFile::remove`].
pub(crate) struct MaskFile {
    /// A folder of its own.
    folder: PathBuf,
    path: PathBuf,
    file: fs::File,
    in_memory: bool,
    redactor: Redactor,
    read: Mutex<Read>,
}

/// What has been read so far.
#[derive(Default)]
struct Read {
    /// The file's size and the times of its last changes, in seconds and nanoseconds.
    state: [i64; 5],
    /// The lines that were looked at.
    text: Zeroizing<Vec<u8>>,
    values: usize,
    /// Bytes of these.
    bytes: usize,
    said: Vec<Problem>,
}

/// What to do with a last line that has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastLine {
    /// It may go on.
    Waits,
    /// Nobody writes any more.
    IsWhole,
}

/// What keeps values from being masked as the job may expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// A value is too short.
    Short,
    /// The file is too long.
    Long,
    /// There are too many values.
    Many,
    /// The file is on a disk.
    OnDisk,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => write!(f, "a value in the file of {VARIABLE} is too short to be masked in output"),
            Self::Long => write!(
                f,
                "more than 1 MiB was written to the file of {VARIABLE}; what came after that is not masked in output"
            ),
            Self::Many => write!(
                f,
                "the file of {VARIABLE} has more than {MOST_VALUES} values; those after these are not masked in \
                 output"
            ),
            Self::OnDisk => {
                write!(f, "the file of {VARIABLE} is on a disk: no folder for it is in memory")
            }
        }
    }
}

impl MaskFile {
    /// Makes the file of the job `job`, empty, for this user alone.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn create(dir: &SecretsDir, job: &str, redactor: Redactor) -> io::Result<Self> {
        // No job, whose secrets have a folder beside this one, is called so.
        let folder = dir.path.join(format!(".{job}"));
        dir.make_folder(&folder)?;
        let path = folder.join("mask");
        let mut make = fs::OpenOptions::new();
        let file = make.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { folder, path, file, in_memory: dir.in_memory, redactor, read: Mutex::default() })
    }

    /// Where the job finds it on the host.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets other users write to it who can reach it: those of a container that it is mounted into. On the host, the
    /// folder around it keeps everybody out.
    ///
    /// # Errors
    /// Its permissions cannot be changed.
    pub(crate) fn share(&self) -> io::Result<()> {
        self.file.file().set_permissions(std::fs::Permissions::from_mode(0o666))
    }

    /// Masks what has been written since. Returns what has not been said yet.
    pub(crate) fn look(&self, last_line: LastLine) -> Vec<Problem> {
        // What cannot be read, which is open and this user's own, has nothing new.
        self.read_changes(last_line).unwrap_or_default()
    }

    fn read_changes(&self, last_line: LastLine) -> io::Result<Vec<Problem>> {
        let stat = rustix::fs::fstat(&self.file)?;
        let state = [
            stat.st_size,
            stat.st_mtime,
            stat.st_mtime_nsec as i64,
            stat.st_ctime,
            stat.st_ctime_nsec as i64,
        ];
        let mut read = self.read.lock();
        let is_whole = last_line == LastLine::IsWhole;
        if read.state == state && !is_whole || stat.st_size == 0 {
            return Ok(Vec::new());
        }
        read.state = state;
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        let mut text = Zeroizing::new(vec![0; size.min(LONGEST)]);
        let mut length = 0;
        while length < text.len() {
            match self.file.file().read_at(&mut text[length..], length as u64) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        text.truncate(length);
        let line_start = |text: &[u8]| memchr::memrchr(b'\n', text).map_or(0, |last| last + 1);
        if !is_whole {
            let whole = line_start(&text);
            text.truncate(whole);
        }
        // A job that has written from the beginning again, as `>` does, has all of it read again.
        let known = if text.starts_with(&read.text) { line_start(&read.text) } else { 0 };
        let mut problems = Vec::new();
        if size > LONGEST {
            problems.push(Problem::Long);
        }
        for line in text[known..].split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            if read.values == MOST_VALUES {
                problems.push(Problem::Many);
                break;
            }
            // Also where the file is written anew again and again.
            if read.bytes + line.len() > LONGEST {
                problems.push(Problem::Long);
                break;
            }
            if read.values == 0 {
                secrets::keep_memory_private();
                problems.extend((!self.in_memory).then_some(Problem::OnDisk));
            }
            let quoted = line.starts_with(b"\"").then(|| serde_json::from_slice::<String>(line).ok());
            let value = quoted.flatten().map(|text| Zeroizing::new(text.into_bytes()));
            let value = value.as_deref().map_or(line, Vec::as_slice);
            read.values += 1;
            read.bytes += line.len();
            if !self.redactor.learn(value) {
                problems.push(Problem::Short);
            }
        }
        read.text = text;
        problems.retain(|problem| !read.said.contains(problem));
        problems.dedup();
        read.said.extend(&problems);
        Ok(problems)
    }

    /// Removes it.
    ///
    /// # Errors
    /// It stays.
    pub(crate) fn remove(&self) -> io::Result<()> {
        secrets::remove(&self.folder)
    }
}

impl fmt::Debug for MaskFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskFile").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

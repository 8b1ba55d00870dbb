//! The user's own files: bounded texts, and paths in one form.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use loom_contract::error::ErrorInfo;

/// The stable code of a file that a command was to write and did not.
const NOT_WRITTEN: &str = "NOT_WRITTEN";

/// The text of the file at `path`.
///
/// # Errors
/// It cannot be read, is no regular file, is not UTF-8, or is longer than `most` bytes.
pub(crate) fn read_text(path: &Path, most: u64) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    // Callers say which file it is, and in which words: an error with the path in it would say it twice.
    // Without waiting for the other end of a pipe, which is then refused.
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > most) {
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, format!("longer than {most} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
        std::io::Error::new(ErrorKind::InvalidData, format!("line {line} is not UTF-8"))
    })
}

/// Writes a new file, and the folder that it stands in.
///
/// # Errors
/// There is something at `path` already, which is left as it is, or it cannot be written.
pub(crate) fn write_new(path: &Path, text: &str) -> Result<(), ErrorInfo> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(text.as_bytes())
    };
    let not_written = |error: std::io::Error| ErrorInfo::new(NOT_WRITTEN, error.to_string());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(not_written)?;
    }
    write().map_err(|error| {
        if error.kind() == ErrorKind::AlreadyExists {
            ErrorInfo::new(NOT_WRITTEN, format!("{} exists already", path.display()))
                .with_hint("it is left as it is; move it away to have a new one")
        } else {
            not_written(error)
        }
    })
}

/// `path` without `.` and `..`, as far as that can be said without looking at the disk.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

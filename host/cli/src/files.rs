//! The user's own files: bounded texts, and paths in one form.

use std::io::{ErrorKind, Write as _};
use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use loom_contract::error::ErrorInfo;

/// The stable code of what a command was to write and did not.
pub(crate) const NOT_WRITTEN: &str = "NOT_WRITTEN";

/// The text of the file at `path`.
///
/// # Errors
/// It cannot be read, is no regular file, is not UTF-8, or is longer than `most` bytes.
pub(crate) fn read_text(path: &Path, most: u64) -> std::io::Result<String> {
    // Callers say which file it is, and in which words: an error with the path in it would say it twice.
    let bytes = loom_record::read::bytes(path, most)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
        std::io::Error::new(ErrorKind::InvalidData, format!("line {line} is not UTF-8"))
    })
}

/// Makes sure that `path`, a file that belongs to the repository at `root`, is no link that leads out of
/// it: what others have written must not have files of this machine read, and quoted in errors and records.
///
/// # Errors
/// It is one. What is not there is none.
pub(crate) fn inside(root: &Path, path: &Path) -> std::io::Result<()> {
    match std::fs::canonicalize(path) {
        Ok(real) if !real.starts_with(root) => Err(std::io::Error::new(
            ErrorKind::InvalidFilename,
            "it is a link that leads out of the repository",
        )),
        // Whoever reads it says what is wrong.
        _ => Ok(()),
    }
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

//! Small files of JSON in which it is noted what is Loom's.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use serde::de::DeserializeOwned;

/// The longest file that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// What the file `name` of `folder` holds; `None` where there is none, an error where something else is called so.
pub(crate) fn read<T: DeserializeOwned>(folder: BorrowedFd<'_>, name: &str) -> Result<Option<T>, ()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(_) => return Err(()),
    };
    let is_file =
        fstat(&file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    let mut bytes = Vec::new();
    if !is_file || file.take(LONGEST).read_to_end(&mut bytes).is_err() {
        return Err(());
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|_| ())
}

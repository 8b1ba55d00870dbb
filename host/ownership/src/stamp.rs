use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Statx, StatxFlags, statx};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// The identity of a file or folder that no name, copy or restored backup has: its inode and the time at which it was made.
///
/// Not the device: its number changes when a machine starts again. Time of birth is missing on few file systems; an inode
/// alone may be given to another file later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    inode: u64,
    /// Seconds and nanoseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    born: Option<(i64, u32)>,
}

impl Stamp {
    /// The stamp of what `file` is open on.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(file: impl AsFd) -> Result<Self, Errno> {
        let wanted = StatxFlags::INO | StatxFlags::BTIME;
        let found = statx(file, c"", AtFlags::EMPTY_PATH, wanted)?;
        Ok(Self { inode: found.stx_ino, born: born(&found) })
    }
}

fn born(found: &Statx) -> Option<(i64, u32)> {
    let known = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
    known.then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec))
}

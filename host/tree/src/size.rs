//! What a tree takes on the disk.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};

use crate::dir;

/// The size on the disk of an open folder and everything in it, in bytes. Links are not followed; what cannot
/// be looked at counts as nothing.
pub fn size(folder: BorrowedFd<'_>) -> u64 {
    let mut bytes = fstat(folder).map_or(0, |stat| disk_size(&stat));
    let _ = dir::for_each_entry(folder, |name, kind| {
        bytes += if kind == FileType::Directory {
            dir::open_child(folder, name).map_or(0, |below| size(below.as_fd()))
        } else {
            statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_or(0, |stat| disk_size(&stat))
        };
    });
    bytes
}

/// The size of one file on the disk, in bytes.
pub fn disk_size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

//! The archive of what was collected: a tar of GNU's format, which takes names of any bytes and length.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::Compression;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, renameat, statat, unlinkat,
};
use rustix::io::{Errno, read};
use tar::{EntryType, Header};

use crate::copy::{OpenTree, random_name};
use crate::fault::fault;
use crate::gzip::Gzip;
use crate::{Error, dir};

/// The name of the archive in the folder of what it holds.
pub(crate) const NAME: &str = "artifacts.tar.gz";

/// The level of compression: of the fast ones, the last that is worth its time. Over level 1: text by a third
/// smaller in a fifth more time, programs by an eighth in two thirds more; level 3 costs as much again and
/// saves half of that.
const LEVEL: u32 = 2;
const BUFFER: usize = 256 << 10;
const BLOCK: usize = 512;
/// The field of a header for a name, or for the target of a symlink.
const FIELD: usize = 100;

/// Packs `files` of `tree`, in this order, into an archive at its root. It is there whole or not at all. It
/// depends on the files alone: it names no owners, and no time but theirs, in whole seconds.
pub(crate) fn pack(tree: OpenTree<'_>, files: &[Vec<u8>], cancel: &AtomicBool) -> Result<(), Error> {
    let beside = random_name();
    let cannot = |errno| Error::write(tree.path.join(NAME), errno);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let rw_all = Mode::from_raw_mode(0o666);
    let fault = |doing| fault(doing, || tree.path.join(NAME));
    let file = fault("create").and_then(|()| openat(tree.root, &*beside, flags, rw_all)).map_err(cannot)?;
    let to = Gzip::new(std::fs::File::from(file), Compression::new(LEVEL));
    let packer = TarWriter { tree, to, buffer: vec![0; BUFFER], folder: None, cancel };
    let packed = packer.pack(files).and_then(|()| {
        fault("rename").and_then(|()| renameat(tree.root, &*beside, tree.root, NAME)).map_err(cannot)
    });
    if packed.is_err() {
        // Where it cannot be removed, the act fails all the same.
        let _ = unlinkat(tree.root, &*beside, AtFlags::empty());
    }
    packed
}

struct TarWriter<'a> {
    tree: OpenTree<'a>,
    to: Gzip<std::fs::File>,
    buffer: Vec<u8>,
    /// The folder that was opened last.
    folder: Option<(&'a [u8], OwnedFd)>,
    cancel: &'a AtomicBool,
}

impl<'a> TarWriter<'a> {
    fn pack(mut self, files: &'a [Vec<u8>]) -> Result<(), Error> {
        for file in files {
            self.check_cancel()?;
            self.file(file)?;
        }
        let tree = self.tree;
        // Two empty blocks end a tar.
        self.write(&[0; 2 * BLOCK])?;
        self.to.finish().map(drop).map_err(|error| Error::write(tree.path.join(NAME), error))
    }

    fn file(&mut self, path: &'a [u8]) -> Result<(), Error> {
        let (folder, name) = dir::split(path);
        let cannot = |errno| Error::read(self.tree.path_of(path), errno);
        if self.folder.as_ref().is_none_or(|(last, _)| *last != folder) {
            self.folder = Some((folder, dir::open_beneath(self.tree.root, folder).map_err(cannot)?));
        }
        let folder = self.folder.as_ref().map_or(self.tree.root, |(_, open)| open.as_fd());
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(cannot)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            let target = readlinkat(folder, name, Vec::new()).map_err(cannot)?.into_bytes();
            return self.header(EntryType::Symlink, path, &target, &stat);
        }
        let file = dir::open_file(folder, name).map_err(cannot)?;
        // The size of what is open, which is what is read.
        let stat = fstat(&file).map_err(cannot)?;
        self.header(EntryType::Regular, path, b"", &stat)?;
        self.content(path, file.as_fd(), &stat)
    }

    fn header(&mut self, kind: EntryType, path: &[u8], target: &[u8], stat: &Stat) -> Result<(), Error> {
        self.long(EntryType::GNULongName, path)?;
        self.long(EntryType::GNULongLink, target)?;
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o777);
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        header.set_size(if kind == EntryType::Regular { size(stat) } else { 0 });
        let (name, link) = (path.len().min(FIELD), target.len().min(FIELD));
        header.as_old_mut().name[..name].copy_from_slice(&path[..name]);
        header.as_old_mut().linkname[..link].copy_from_slice(&target[..link]);
        self.write_header(header)
    }

    /// Gives the next header a name, or a target, that does not fit into it.
    fn long(&mut self, kind: EntryType, text: &[u8]) -> Result<(), Error> {
        if text.len() <= FIELD {
            return Ok(());
        }
        let mut header = Header::new_gnu();
        let name = b"././@LongLink";
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_mtime(0);
        let size = text.len() as u64 + 1;
        header.set_size(size);
        self.write_header(header)?;
        self.write(text)?;
        self.write(&[0])?;
        self.fill_block(size)
    }

    fn write_header(&mut self, mut header: Header) -> Result<(), Error> {
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.write(header.as_bytes())
    }

    fn content(&mut self, path: &[u8], file: BorrowedFd<'_>, stat: &Stat) -> Result<(), Error> {
        let mut left = size(stat);
        let mut buffer = std::mem::take(&mut self.buffer);
        while left > 0 {
            self.check_cancel()?;
            let wanted = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            let got = match read(file, &mut buffer[..wanted]) {
                Ok(got) if got > 0 => got,
                // Somebody else is at work in the folder.
                Ok(_) => {
                    let source =
                        io::Error::new(io::ErrorKind::UnexpectedEof, "it was cut off while it was packed");
                    return Err(Error::read(self.tree.path_of(path), source));
                }
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(Error::read(self.tree.path_of(path), errno)),
            };
            self.write(&buffer[..got])?;
            left -= got as u64;
        }
        self.buffer = buffer;
        self.fill_block(size(stat))
    }

    fn fill_block(&mut self, size: u64) -> Result<(), Error> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if over > 0 { self.write(&[0; BLOCK][over..]) } else { Ok(()) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let path = || self.tree.path.join(NAME);
        fault("write", path).map_err(|errno| Error::write(path(), errno))?;
        self.to.write_all(bytes).map_err(|error| Error::write(path(), error))
    }

    fn check_cancel(&self) -> Result<(), Error> {
        if self.cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

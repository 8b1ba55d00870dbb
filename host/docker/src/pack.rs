//! A folder as a tar stream, read while it is sent: nothing is kept but a few buffers.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use loom_tree::dir::{self, Listing};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::{Errno, read};
use tar::{EntryType, Header};
use tokio::sync::mpsc;

use crate::Error;

/// What is sent at once, and how many of them wait for the network.
const CHUNK: usize = 256 << 10;
pub(crate) const CHUNKS: usize = 4;
const BLOCK: usize = 512;
/// The field of a header for a name, or for the target of a symlink.
const FIELD: usize = 100;
/// Folders above the one that is read which stay open; the others are opened again.
const OPEN: usize = 64;

/// Who is the owner of all that is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ids {
    /// The user's number; 0 for root.
    pub uid: u32,
    /// The group's.
    pub gid: u32,
}

/// What was packed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// How many files and symlinks.
    pub files: u64,
    /// The size of the files in bytes.
    pub bytes: u64,
    /// What is no file, folder or symlink, and was left out.
    pub left_out: Vec<PathBuf>,
}

/// Whether something is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Yes,
    /// Not it, and nothing below it.
    No,
    /// Not it, but perhaps something below it.
    Below,
}

/// What is asked about a path below the root. The root itself is the empty path, and only an entry more or less.
pub(crate) type Choose = dyn Fn(&[u8]) -> Keep + Send;

/// Packs what is in the folder `root`, in the order of names, each of which gets `prefix` before it: nothing, or a folder
/// with a slash at its end.
///
/// # Errors
/// Something cannot be read, or was cut off meanwhile. The receiver is told too, so that it does not take what it got for
/// the whole. That it does not listen any more is no error.
pub(crate) fn pack(
    root: &Path,
    prefix: &str,
    owner: Ids,
    choose: &Choose,
    to: mpsc::Sender<io::Result<Bytes>>,
) -> Result<Packed, Error> {
    let mut packer = Packer {
        path: root,
        prefix: prefix.as_bytes(),
        owner,
        choose,
        to,
        chunk: BytesMut::with_capacity(CHUNK),
        deaf: false,
        links: HashMap::new(),
        packed: Packed::default(),
    };
    let done = packer.pack();
    match &done {
        Ok(()) => packer.send(),
        // The connection is cut by it; what it says is not shown to anybody.
        Err(error) => drop(packer.to.blocking_send(Err(io::Error::other(error.to_string())))),
    }
    done.map(|()| packer.packed)
}

struct Packer<'a> {
    path: &'a Path,
    prefix: &'a [u8],
    owner: Ids,
    choose: &'a Choose,
    to: mpsc::Sender<io::Result<Bytes>>,
    chunk: BytesMut,
    /// Nobody listens any more.
    deaf: bool,
    /// Files that have several names, by device and number: the first of them.
    links: HashMap<(u64, u64), Vec<u8>>,
    packed: Packed,
}

/// A folder on the way down.
struct Level {
    /// Not open any more where many are below it.
    fd: Option<OwnedFd>,
    path: Vec<u8>,
    /// Of the folder itself, if it is still to be packed: when something below it is.
    pending: Option<Stat>,
    listing: Listing,
    /// Numbers in the listing, the last name first.
    left: Vec<usize>,
}

impl Packer<'_> {
    fn pack(&mut self) -> Result<(), Error> {
        let root = dir::open_root(self.path).map_err(|errno| Error::file("read", self.path, errno))?;
        let root = root.as_fd();
        let again = dir::open_child(root, b".").map_err(|errno| self.cannot(b"", errno))?;
        if (self.choose)(b"") == Keep::Yes {
            let mut stat = fstat(root).map_err(|errno| self.cannot(b"", errno))?;
            // Whole seconds need no header beside the plain one.
            stat.st_mtime_nsec = 0;
            self.header(EntryType::Directory, b".", b"", &stat);
        }
        let mut levels = vec![self.level(again, Vec::new(), None)?];
        while let Some(depth) = levels.len().checked_sub(1) {
            if self.deaf {
                return Ok(());
            }
            let level = &mut levels[depth];
            let Some(index) = level.left.pop() else {
                levels.pop();
                continue;
            };
            let fd = match level.fd.take() {
                Some(fd) => fd,
                None => {
                    dir::open_beneath(root, &level.path).map_err(|errno| self.cannot(&level.path, errno))?
                }
            };
            let (name, kind) = (level.listing.name(index).to_vec(), level.listing.kind(index));
            let path = dir::join(&level.path, &name);
            let keep = (self.choose)(&path);
            let down = kind == FileType::Directory && keep != Keep::No;
            if keep == Keep::Yes {
                self.folders(&mut levels)?;
                if !down {
                    self.entry(fd.as_fd(), &name, &path, kind)?;
                }
            }
            let child = if down { Some(dir::open_child(fd.as_fd(), &name)) } else { None };
            levels[depth].fd = Some(fd);
            if let Some(child) = child {
                let child = child.map_err(|errno| self.cannot(&path, errno))?;
                let stat = fstat(&child).map_err(|errno| self.cannot(&path, errno))?;
                if keep == Keep::Yes {
                    self.header(EntryType::Directory, &path, b"", &stat);
                }
                let pending = (keep == Keep::Below).then_some(stat);
                levels.push(self.level(child, path, pending)?);
                if let Some(far) = levels.len().checked_sub(OPEN) {
                    levels[far].fd = None;
                }
            }
        }
        self.write(&[0; 2 * BLOCK]);
        Ok(())
    }

    fn level(&self, fd: OwnedFd, path: Vec<u8>, pending: Option<Stat>) -> Result<Level, Error> {
        let listing = Listing::of(fd.as_fd()).map_err(|errno| self.cannot(&path, errno))?;
        let mut left: Vec<usize> = (0..listing.iter().len()).collect();
        left.sort_unstable_by(|a, b| listing.name(*b).cmp(listing.name(*a)));
        Ok(Level { fd: Some(fd), path, pending, listing, left })
    }

    /// Packs the folders that were passed over and now have something in them.
    fn folders(&mut self, levels: &mut [Level]) -> Result<(), Error> {
        for level in levels {
            if let Some(stat) = level.pending.take() {
                self.header(EntryType::Directory, &level.path, b"", &stat);
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        kind: FileType,
    ) -> Result<(), Error> {
        match kind {
            FileType::RegularFile => self.file(folder, name, path),
            FileType::Symlink => {
                let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
                let stat = stat.map_err(|errno| self.cannot(path, errno))?;
                let target =
                    readlinkat(folder, name, Vec::new()).map_err(|errno| self.cannot(path, errno))?;
                self.header(EntryType::Symlink, path, target.as_bytes(), &stat);
                self.packed.files += 1;
                Ok(())
            }
            _ => {
                self.packed.left_out.push(PathBuf::from(std::ffi::OsStr::from_bytes(path)));
                Ok(())
            }
        }
    }

    fn file(&mut self, folder: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<(), Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(folder, name, flags, Mode::empty()).map_err(|errno| self.cannot(path, errno))?;
        // The size of what is open, which is what is read.
        let stat = fstat(&file).map_err(|errno| self.cannot(path, errno))?;
        self.packed.files += 1;
        if stat.st_nlink > 1 {
            let first = self.links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_vec());
            if first != path {
                let first = first.clone();
                self.header(EntryType::Link, path, &[self.prefix, &first].concat(), &stat);
                return Ok(());
            }
        }
        self.header(EntryType::Regular, path, b"", &stat);
        self.packed.bytes += size(&stat);
        self.content(file.as_fd(), path, size(&stat))
    }

    fn content(&mut self, file: BorrowedFd<'_>, path: &[u8], size: u64) -> Result<(), Error> {
        let mut left = size;
        while left > 0 {
            if self.deaf {
                return Ok(());
            }
            if self.chunk.len() >= CHUNK {
                self.send();
            }
            let at = self.chunk.len();
            let room = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK - at);
            self.chunk.resize(at + room, 0);
            let got = loop {
                match read(file, &mut self.chunk[at..]) {
                    Err(Errno::INTR) => {}
                    got => break got,
                }
            };
            let got = got.map_err(|errno| self.cannot(path, errno))?;
            self.chunk.truncate(at + got);
            if got == 0 {
                let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "it was cut off while it was sent");
                return Err(Error::file("read", self.path_of(path), cut));
            }
            left -= got as u64;
        }
        self.fill_block(size);
        Ok(())
    }

    fn header(&mut self, kind: EntryType, path: &[u8], target: &[u8], stat: &Stat) {
        let mut records = Vec::new();
        let mut slashed = [self.prefix, path].concat();
        if kind == EntryType::Directory {
            slashed.push(b'/');
        }
        if slashed.len() > FIELD {
            record(&mut records, "path", &slashed);
        }
        if target.len() > FIELD {
            record(&mut records, "linkpath", target);
        }
        if stat.st_mtime_nsec != 0 && stat.st_mtime >= 0 {
            let time = format!("{}.{:09}", stat.st_mtime, stat.st_mtime_nsec);
            record(&mut records, "mtime", time.as_bytes());
        }
        if !records.is_empty() {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::XHeader);
            header.set_size(records.len() as u64);
            let name = b"PaxHeaders";
            header.as_old_mut().name[..name.len()].copy_from_slice(name);
            header.set_mode(0o644);
            header.set_mtime(0);
            self.write_header(header);
            self.write(&records);
            self.fill_block(records.len() as u64);
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        header.set_size(if kind == EntryType::Regular { size(stat) } else { 0 });
        let (name, link) = (slashed.len().min(FIELD), target.len().min(FIELD));
        header.as_old_mut().name[..name].copy_from_slice(&slashed[..name]);
        header.as_old_mut().linkname[..link].copy_from_slice(&target[..link]);
        self.write_header(header);
    }

    fn write_header(&mut self, mut header: Header) {
        header.set_uid(u64::from(self.owner.uid));
        header.set_gid(u64::from(self.owner.gid));
        header.set_cksum();
        self.write(header.as_bytes());
    }

    fn fill_block(&mut self, size: u64) {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if over > 0 {
            self.write(&[0; BLOCK][over..]);
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.chunk.len() + bytes.len() > CHUNK {
            self.send();
        }
        self.chunk.extend_from_slice(bytes);
    }

    fn send(&mut self) {
        let chunk = std::mem::replace(&mut self.chunk, BytesMut::with_capacity(CHUNK)).freeze();
        if !chunk.is_empty() && self.to.blocking_send(Ok(chunk)).is_err() {
            self.deaf = true;
        }
    }

    fn path_of(&self, path: &[u8]) -> PathBuf {
        self.path.join(std::ffi::OsStr::from_bytes(path))
    }

    fn cannot(&self, path: &[u8], errno: Errno) -> Error {
        Error::file("read", self.path_of(path), errno)
    }
}

/// One line of an extended header: its own length in digits, a name, a value.
fn record(records: &mut Vec<u8>, name: &str, value: &[u8]) {
    let rest = name.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() > length {
        length += 1;
    }
    records.extend_from_slice(format!("{length} {name}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_itself() {
        for length in [1, 80, 88, 89, 90, 91, 92, 980, 990, 991, 992, 9_990] {
            let mut records = Vec::new();
            record(&mut records, "path", &vec![b'x'; length]);
            let digits = records.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let said: usize = std::str::from_utf8(&records[..digits]).unwrap().parse().unwrap();
            assert_eq!(said, records.len(), "{length}");
        }
    }
}

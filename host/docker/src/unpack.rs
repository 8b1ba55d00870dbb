//! A tar out of a container, written where it can do no harm.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use loom_tree::{dir, link};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timestamps, fchmod, linkat, mkdirat, openat, statat, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::EntryType;

use crate::Error;
use crate::entries::{Entries, Head};

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// How many files and symlinks.
    pub files: u64,
    /// The size of the files in bytes.
    pub bytes: u64,
    /// What was left out, and why: the end of a sentence.
    pub left_out: Vec<(String, &'static str)>,
}

const BUFFER: usize = 256 << 10;
/// What may be read and listed by its owner until all is in it.
const OPEN: Mode = Mode::RWXU;

/// Writes the entries of an archive below the folder `into`.
pub(crate) fn unpack(from: &mut dyn Read, into: &Path) -> Result<Unpacked, Error> {
    let root = dir::open_root(into).map_err(|errno| Error::file("write", into, errno))?;
    let mut unpacker = Unpacker {
        into,
        root,
        parent: None,
        folders: Vec::new(),
        buffer: vec![0; BUFFER],
        unpacked: Unpacked::default(),
    };
    let read = |error| Error::file("read", "what came out of the container", error);
    let mut entries = Entries::new(from);
    while let Some(head) = entries.next().map_err(read)? {
        unpacker.entry(&head, &mut entries)?;
    }
    unpacker.finish()
}

struct Unpacker<'a> {
    into: &'a Path,
    root: OwnedFd,
    /// The folder that was written to last, by its path.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// With the permissions and times that they get when all is in them.
    folders: Vec<(Vec<u8>, Mode, Timestamps)>,
    buffer: Vec<u8>,
    unpacked: Unpacked,
}

impl Unpacker<'_> {
    fn entry(&mut self, head: &Head, content: &mut impl Read) -> Result<(), Error> {
        let path = checked(&head.path)?;
        let mode = Mode::from_raw_mode(head.mode & 0o777);
        let times = Timestamps { last_access: head.modified, last_modification: head.modified };
        if path.is_empty() {
            // The folder itself, which is the caller's.
            return Ok(());
        }
        match head.kind {
            EntryType::Directory => self.folder(path, mode, times),
            EntryType::Regular | EntryType::Continuous => self.file(content, &path, mode, &times),
            EntryType::Symlink => self.symlink(&path, &head.target, &times),
            EntryType::Link => self.hard_link(&path, &checked(&head.target)?),
            _ => {
                self.leave_out(&path, "is no file, folder or symlink");
                Ok(())
            }
        }
    }

    fn folder(&mut self, path: Vec<u8>, mode: Mode, times: Timestamps) -> Result<(), Error> {
        let (_, name) = split(&path);
        let parent = self.parent(&path)?;
        match mkdirat(&parent, name, OPEN) {
            Ok(()) => {}
            // It may be one that nothing could be put into; it gets its permissions when all is.
            Err(Errno::EXIST) if is_folder(&parent, name) => drop(dir::open_up(parent.as_fd(), name)),
            Err(Errno::EXIST) => {
                unlinkat(&parent, name, AtFlags::empty()).map_err(|errno| self.cannot(&path, errno))?;
                mkdirat(&parent, name, OPEN).map_err(|errno| self.cannot(&path, errno))?;
            }
            Err(errno) => return Err(self.cannot(&path, errno)),
        }
        self.parent = Some((split(&path).0.to_vec(), parent));
        self.folders.push((path, mode, times));
        Ok(())
    }

    fn file(
        &mut self,
        content: &mut impl Read,
        path: &[u8],
        mode: Mode,
        times: &Timestamps,
    ) -> Result<(), Error> {
        let (_, name) = split(path);
        let parent = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || openat(&parent, name, flags, Mode::RUSR | Mode::WUSR);
        let file = match create() {
            Err(Errno::EXIST) => {
                unlinkat(&parent, name, AtFlags::empty()).map_err(|errno| self.cannot(path, errno))?;
                create()
            }
            file => file,
        };
        let file = file.map_err(|errno| self.cannot(path, errno))?;
        loop {
            let got = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::file("read", "what came out of the container", error)),
            };
            let mut rest = &self.buffer[..got];
            while !rest.is_empty() {
                match rustix::io::write(&file, rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(self.cannot(path, errno)),
                }
            }
            self.unpacked.bytes += got as u64;
        }
        fchmod(&file, mode).map_err(|errno| self.cannot(path, errno))?;
        rustix::fs::futimens(&file, times).map_err(|errno| self.cannot(path, errno))?;
        self.unpacked.files += 1;
        self.parent = Some((split(path).0.to_vec(), parent));
        Ok(())
    }

    fn symlink(&mut self, path: &[u8], target: &[u8], times: &Timestamps) -> Result<(), Error> {
        // Wherever it leads: nothing here goes through a link.
        if let Err(why) = link::check_text(target) {
            self.leave_out(path, why);
            return Ok(());
        }
        let (_, name) = split(path);
        let parent = self.parent(path)?;
        let make = |parent: &OwnedFd| symlinkat(target, parent, name);
        replace(&parent, name, make).map_err(|errno| self.cannot(path, errno))?;
        // A file system without times for symlinks keeps none.
        let _ = utimensat(&parent, name, times, AtFlags::SYMLINK_NOFOLLOW);
        self.unpacked.files += 1;
        self.parent = Some((split(path).0.to_vec(), parent));
        Ok(())
    }

    fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Error> {
        let (folder, file) = split(target);
        let parent = self.parent(path)?;
        let (_, name) = split(path);
        let link = |parent: &OwnedFd| {
            let from = dir::open_beneath(self.root.as_fd(), folder)?;
            // The symlink itself, if it is one.
            linkat(&from, file, parent, name, AtFlags::empty())
        };
        match replace(&parent, name, link) {
            Err(Errno::NOENT) => {
                self.leave_out(path, "is another name of something that was left out");
                return Ok(());
            }
            linked => linked.map_err(|errno| self.cannot(path, errno))?,
        }
        self.unpacked.files += 1;
        self.parent = Some((split(path).0.to_vec(), parent));
        Ok(())
    }

    /// The open folder that `path` is in, made where it is missing; to be given back.
    fn parent(&mut self, path: &[u8]) -> Result<OwnedFd, Error> {
        let (folder, _) = split(path);
        if let Some((_, open)) = self.parent.take_if(|(of, _)| of == folder) {
            return Ok(open);
        }
        match dir::open_beneath(self.root.as_fd(), folder) {
            Ok(open) => Ok(open),
            Err(Errno::NOENT) => self.make_folders(folder),
            Err(errno) => Err(self.cannot(folder, errno)),
        }
    }

    fn make_folders(&self, folder: &[u8]) -> Result<OwnedFd, Error> {
        let cannot = |errno| self.cannot(folder, errno);
        let mut at = dir::open_child(self.root.as_fd(), b".").map_err(cannot)?;
        for name in folder.split(|&byte| byte == b'/') {
            match mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(cannot(errno)),
            }
            at = dir::open_child(at.as_fd(), name).map_err(cannot)?;
        }
        Ok(at)
    }

    /// Permissions and times of folders, the deepest first: a folder that may not be written is closed when it is full.
    fn finish(mut self) -> Result<Unpacked, Error> {
        self.folders.sort_by(|(a, ..), (b, ..)| b.cmp(a));
        for (path, mode, times) in &self.folders {
            let folder = match dir::open_beneath(self.root.as_fd(), path) {
                Ok(folder) => folder,
                // A later entry of the same archive has taken its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(self.cannot(path, errno)),
            };
            rustix::fs::futimens(&folder, times).map_err(|errno| self.cannot(path, errno))?;
            fchmod(&folder, *mode).map_err(|errno| self.cannot(path, errno))?;
        }
        Ok(self.unpacked)
    }

    fn leave_out(&mut self, path: &[u8], why: &'static str) {
        self.unpacked.left_out.push((String::from_utf8_lossy(path).into_owned(), why));
    }

    fn cannot(&self, path: &[u8], errno: Errno) -> Error {
        use std::os::unix::ffi::OsStrExt as _;
        let below: PathBuf = std::ffi::OsStr::from_bytes(path).into();
        Error::file("write", self.into.join(below), errno)
    }
}

/// A path of names only, one below the other. Empty for the root.
pub(crate) fn checked(path: &[u8]) -> Result<Vec<u8>, Error> {
    let refused = |why| Error::Unsafe { path: String::from_utf8_lossy(path).into_owned(), why };
    if path.starts_with(b"/") {
        return Err(refused("is an absolute path"));
    }
    let mut names = Vec::new();
    for name in path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
        link::check_name(name).map_err(refused)?;
        names.push(name);
    }
    Ok(names.join(&b'/'))
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Makes something that is no folder in place of another that is none.
fn replace(parent: &OwnedFd, name: &[u8], make: impl Fn(&OwnedFd) -> Result<(), Errno>) -> Result<(), Errno> {
    match make(parent) {
        Err(Errno::EXIST) => unlinkat(parent, name, AtFlags::empty()).and_then(|()| make(parent)),
        made => made,
    }
}

fn is_folder(parent: &OwnedFd, name: &[u8]) -> bool {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests;

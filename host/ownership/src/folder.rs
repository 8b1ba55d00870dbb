//! Folders that are the user's alone.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, mkdirat, open, openat, readlinkat};
use rustix::io::Errno;

use crate::Error;
use crate::system::overflow_uid;

/// More symbolic links on one path than this lead nowhere, as for the kernel.
const MOST_LINKS: usize = 40;
const WRITABLE_BY_OTHERS: u32 = 0o002;
const WRITABLE_BY_GROUP: u32 = 0o020;
const STICKY: u32 = 0o1000;

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Enough to look at a folder above, which may be one that cannot be read.
const PASS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An open folder that belongs to this user, that nobody else can write to, and on the way to which nobody else can put
/// another one in its place. Clones are of the same folder.
#[derive(Debug, Clone)]
pub struct PrivateFolder {
    fd: Arc<OwnedFd>,
    path: PathBuf,
}

impl PrivateFolder {
    /// Opens the folder at the absolute `path`, and makes it where it does not exist, with those above it, for this user
    /// alone whatever the umask.
    ///
    /// # Errors
    /// [`Error::NotPrivate`] where somebody else could write to it or replace it; else what the system says.
    pub fn open_or_make(path: &Path) -> Result<Self, Error> {
        Walk::along(path)?.end()
    }

    /// Opens the folder `name` in this one, and makes it where it does not exist. A symbolic link is no folder.
    ///
    /// # Errors
    /// [`Error::NotPrivate`] where it is not the user's alone, else what the system says.
    pub fn folder(&self, name: &str) -> Result<Self, Error> {
        if let Some(folder) = self.existing(name)? {
            return Ok(folder);
        }
        let path = self.path.join(name);
        make(self.fd.as_fd(), OsStr::new(name)).map_err(Error::doing("make the folder", &path))?;
        self.existing(name)?.ok_or_else(|| not_a_folder(&path, Errno::NOENT))
    }

    /// Opens the folder `name` in this one; `None` where there is none.
    ///
    /// # Errors
    /// As of [`Self::folder`].
    pub fn existing(&self, name: &str) -> Result<Option<Self>, Error> {
        Self::existing_in(&self.fd, &self.path.join(name))
    }

    /// Opens the folder at `path`, which is in the open folder `parent`; `None` where there is none.
    ///
    /// # Errors
    /// As of [`Self::folder`].
    pub(crate) fn existing_in(parent: &OwnedFd, path: &Path) -> Result<Option<Self>, Error> {
        let name = path.file_name().unwrap_or_default();
        let fd = match openat(parent, name.as_bytes(), OPEN, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.map_err(|errno| not_a_folder(path, errno))?,
        };
        check_own(path, path, &stat(&fd, path)?)?;
        Ok(Some(Self { fd: Arc::new(fd), path: path.to_owned() }))
    }

    /// Where it is, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its descriptor, for what is done below it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A way from the root folder to a folder, one name after the other.
struct Walk<'a> {
    wanted: &'a Path,
    at: OwnedFd,
    path: PathBuf,
    left: VecDeque<OsString>,
    links: usize,
    /// Whether others may write to the folder that was reached: then what is in it must belong to who can be trusted.
    shared: bool,
}

impl<'a> Walk<'a> {
    fn along(wanted: &'a Path) -> Result<Self, Error> {
        let mut walk = Self::begin(wanted)?;
        while let Some(next) = walk.left.pop_front() {
            walk.enter(&next)?;
        }
        Ok(walk)
    }

    fn begin(wanted: &'a Path) -> Result<Self, Error> {
        let at = open("/", PASS, Mode::empty()).map_err(Error::doing("open the folder", Path::new("/")))?;
        let left = names(wanted);
        let mut walk = Self { wanted, at, path: PathBuf::from("/"), left, links: 0, shared: false };
        walk.look()?;
        Ok(walk)
    }

    /// Goes on to `name`, through it where it is a symbolic link.
    fn enter(&mut self, name: &OsStr) -> Result<(), Error> {
        if name == ".." {
            self.path.pop();
            let above = openat(&self.at, "..", PASS, Mode::empty());
            self.at = above.map_err(Error::doing("open the folder", &self.path))?;
            return self.look();
        }
        let path = self.path.join(name);
        let next = match openat(&self.at, name, PASS, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) => {
                make(self.at.as_fd(), name).map_err(Error::doing("make the folder", &path))?;
                openat(&self.at, name, PASS, Mode::empty()).map_err(|errno| not_a_folder(&path, errno))?
            }
            Err(Errno::LOOP | Errno::NOTDIR) => return self.follow(name, &path),
            Err(errno) => return Err(not_a_folder(&path, errno)),
        };
        let shared = self.shared;
        self.at = next;
        self.path = path;
        self.look_at(shared)
    }

    /// Goes where the symbolic link `name` leads.
    fn follow(&mut self, name: &OsStr, path: &Path) -> Result<(), Error> {
        let link = openat(&self.at, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let link = link.map_err(Error::doing("look at", path))?;
        let found = stat(&link, path)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Symlink {
            return Err(not_a_folder(path, Errno::NOTDIR));
        }
        if self.shared && !is_trusted(found.st_uid) {
            return Err(self.unsafe_because(path, format!("is a link of user {}", found.st_uid)));
        }
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(not_a_folder(path, Errno::LOOP));
        }
        let target = readlinkat(&link, "", Vec::new()).map_err(Error::doing("look at", path))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        for name in names(&target).into_iter().rev() {
            self.left.push_front(name);
        }
        if target.is_absolute() {
            let root = open("/", PASS, Mode::empty());
            self.at = root.map_err(Error::doing("open the folder", Path::new("/")))?;
            self.path = PathBuf::from("/");
            self.look()?;
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), Error> {
        self.look_at(false)
    }

    /// Whether the folder that was reached is safe to go through. `in_shared`: who may write above it could have made it.
    fn look_at(&mut self, in_shared: bool) -> Result<(), Error> {
        let found = stat(&self.at, &self.path)?;
        // In a user namespace, the folders of the world outside belong to nobody that has a number.
        let is_safe_owner = is_trusted(found.st_uid) || (!in_shared && found.st_uid == overflow_uid());
        if !is_safe_owner {
            return Err(self.unsafe_because(
                &self.path,
                format!("belongs to user {}, who could replace what is in it", found.st_uid),
            ));
        }
        let is_writable = is_writable_by_others(&found);
        if is_writable && found.st_mode & STICKY == 0 && !self.left.is_empty() {
            let why = format!("is writable by others (mode {:o})", found.st_mode & 0o7777);
            return Err(self.unsafe_because(&self.path, why));
        }
        self.shared = is_writable;
        Ok(())
    }

    fn unsafe_because(&self, culprit: &Path, why: String) -> Error {
        not_private(self.wanted, culprit, why)
    }

    /// As a folder that others may not write to.
    fn end(self) -> Result<PrivateFolder, Error> {
        let fd = self.open()?;
        check_own(self.wanted, &self.path, &stat(&fd, &self.path)?)?;
        Ok(PrivateFolder { fd: Arc::new(fd), path: self.path })
    }

    /// As a folder in which others can replace nothing that is not theirs, though they may add to it.
    fn end_at_parent(self) -> Result<OwnedFd, Error> {
        let fd = self.open()?;
        let found = stat(&fd, &self.path)?;
        if is_writable_by_others(&found) && found.st_mode & STICKY == 0 {
            let why = format!("is writable by others (mode {:o})", found.st_mode & 0o7777);
            return Err(self.unsafe_because(&self.path, why));
        }
        Ok(fd)
    }

    fn open(&self) -> Result<OwnedFd, Error> {
        openat(&self.at, ".", OPEN, Mode::empty()).map_err(Error::doing("open the folder", &self.path))
    }
}

/// The names on the way along `path`; `..` among them, which after a link is not what it looks like.
fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

/// Makes a folder for this user alone, whatever the umask. That it exists by now is fine: it is looked at.
fn make(folder: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    match mkdirat(folder, name.as_bytes(), Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn stat(fd: impl AsFd, path: &Path) -> Result<Stat, Error> {
    fstat(fd).map_err(Error::doing("look at", path))
}

/// Root can do everything anyway.
fn is_trusted(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}

/// A group that has the number of its user is the user's own: many systems give each user one, and let it write.
fn is_writable_by_others(found: &Stat) -> bool {
    let own_group = found.st_gid == found.st_uid && found.st_gid == rustix::process::geteuid().as_raw();
    found.st_mode & WRITABLE_BY_OTHERS != 0 || (found.st_mode & WRITABLE_BY_GROUP != 0 && !own_group)
}

fn check_own(wanted: &Path, path: &Path, found: &Stat) -> Result<(), Error> {
    if found.st_uid != rustix::process::geteuid().as_raw() {
        return Err(not_private(wanted, path, format!("belongs to user {}", found.st_uid)));
    }
    if is_writable_by_others(found) {
        let why = format!("is writable by others (mode {:o})", found.st_mode & 0o7777);
        return Err(not_private(wanted, path, why));
    }
    Ok(())
}

fn not_private(wanted: &Path, culprit: &Path, why: String) -> Error {
    let hint = if why.starts_with("is writable") {
        format!(
            "if nobody else was to write there: chmod go-w {}; else name another folder in your own config file \
             (`loom config show` says where that is)",
            culprit.display()
        )
    } else {
        "name a folder of your own in your config file (`loom config show` says where that is)".to_owned()
    };
    Error::NotPrivate { path: wanted.to_owned(), culprit: culprit.to_owned(), why, hint }
}

fn not_a_folder(path: &Path, errno: Errno) -> Error {
    Error::io("open the folder", path, errno)
}

/// Opens the folder above `path`, which is safe to make something in or to remove it from, and the name in it.
///
/// # Errors
/// Others can replace what is in it; it does not exist.
pub(crate) fn parent_of(path: &Path) -> Result<(OwnedFd, OsString), Error> {
    let missing = || Error::io("look at", path, Errno::INVAL);
    let (parent, name) = path.parent().zip(path.file_name()).ok_or_else(missing)?;
    // Nothing is made for this: where the parent is gone, so is what was in it.
    rustix::fs::statat(CWD, parent, rustix::fs::AtFlags::empty()).map_err(Error::doing("look at", parent))?;
    Ok((Walk::along(parent)?.end_at_parent()?, name.to_owned()))
}

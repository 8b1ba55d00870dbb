//! A way down a tree: folders opened one from the other, in parallel, without holding more of them open than
//! a process may.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::dir;

/// The folders that one act came by.
#[derive(Debug)]
pub struct Descent<'a> {
    root: BorrowedFd<'a>,
    /// The folders by number, the root first: the folder that each is in, and its name there.
    ways: Mutex<Vec<(u32, Arc<[u8]>)>>,
    open: Arc<AtomicUsize>,
    /// The number of folders that are held open at most for the sake of those in them.
    most: usize,
}

/// A folder that is open.
#[derive(Debug)]
pub struct Open {
    id: u32,
    fd: OwnedFd,
    open: Arc<AtomicUsize>,
}

/// A folder that was seen and is to be opened.
#[derive(Debug)]
pub struct Child {
    id: u32,
    name: Arc<[u8]>,
    /// The folder that it is in, as long as that may stay open.
    parent: Option<Arc<Open>>,
}

impl Open {
    /// The number of the folder; the root has 0.
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl Child {
    /// The number of the folder.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The name of the folder in the one that it is in.
    pub fn name(&self) -> &Arc<[u8]> {
        &self.name
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsFd for Open {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<'a> Descent<'a> {
    /// Begins at an open folder.
    pub fn new(root: BorrowedFd<'a>) -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
        let most = usize::try_from(limit / 8).unwrap_or(usize::MAX).min(256);
        Self { root, ways: Mutex::new(vec![(0, Arc::default())]), open: Arc::default(), most }
    }

    /// Opens the root once more.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn root(&self) -> Result<Arc<Open>, Errno> {
        Ok(self.count(0, dir::open_child(self.root, b".")?))
    }

    /// Notes a folder in an open one.
    pub fn child(&self, parent: &Arc<Open>, name: &[u8]) -> Child {
        let name: Arc<[u8]> = name.into();
        let id = {
            let mut ways = self.ways.lock();
            ways.push((parent.id, name.clone()));
            u32::try_from(ways.len() - 1).unwrap_or(u32::MAX)
        };
        let held = self.open.load(Ordering::Relaxed) <= self.most;
        Child { id, name, parent: held.then(|| parent.clone()) }
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// It cannot be opened; with `LOOP` or `NOTDIR` because it, or one above it, is a symlink.
    pub fn open(&self, child: Child) -> Result<Arc<Open>, Errno> {
        let fd = match child.parent {
            Some(parent) => dir::open_child(parent.as_fd(), &child.name)?,
            None => dir::open_beneath(self.root, &self.path(child.id))?,
        };
        Ok(self.count(child.id, fd))
    }

    /// Opens a folder as [`Self::open`] does, but takes the right to look into a folder whose owner has none.
    ///
    /// # Errors
    /// As [`Self::open`], and where it is another user's.
    pub fn force_open(&self, child: Child) -> Result<Arc<Open>, Errno> {
        let Child { id, name, parent } = child;
        match self.open(Child { id, name: name.clone(), parent: parent.clone() }) {
            Err(Errno::ACCESS) => {}
            opened => return opened,
        }
        let fd = match parent {
            Some(parent) => dir::open_up(parent.as_fd(), &name)?,
            None => {
                let path = self.path(id);
                let end = path.len() - name.len();
                let parent = dir::open_beneath(self.root, &path[..end.saturating_sub(1)])?;
                dir::open_up(parent.as_fd(), &name)?
            }
        };
        Ok(self.count(id, fd))
    }

    /// The path of a folder below the root, by its number; that of the root is empty.
    pub fn path(&self, mut id: u32) -> Vec<u8> {
        let ways = self.ways.lock();
        let mut names: Vec<&[u8]> = Vec::new();
        while id != 0 {
            let Some((parent, name)) = ways.get(id as usize) else { break };
            names.push(name);
            id = *parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    fn count(&self, id: u32, fd: OwnedFd) -> Arc<Open> {
        self.open.fetch_add(1, Ordering::Relaxed);
        Arc::new(Open { id, fd, open: self.open.clone() })
    }
}

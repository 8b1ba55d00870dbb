//! The ledger of a run that lives.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use crate::folder::parent_of;
use crate::line::{Head, Line, State, text};
use crate::{Error, Mark, Object, ObjectKind, PrivateFolder, Stamp, remove};

/// What a run has made outside its record and may remove: written to a file before it is made. Clones are of the same
/// ledger. The run lives as long as one of them does, and as this process does.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    runs: PrivateFolder,
    name: String,
    head: Head,
    /// Locked by the kernel as long as it is open.
    file: Mutex<(File, State)>,
    ensuring: Mutex<()>,
}

impl Ledger {
    /// `file` is locked and holds `head`.
    pub(crate) fn new(runs: PrivateFolder, name: String, head: Head, file: File) -> Self {
        Self(Arc::new(Shared {
            runs,
            name,
            head,
            file: Mutex::new((file, State::default())),
            ensuring: Mutex::default(),
        }))
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.0.runs.path().join(&self.0.name)
    }

    /// By which the run's processes are known.
    pub fn mark(&self) -> &Mark {
        &self.0.head.mark
    }

    /// Makes the folder at `path` with the permission bits `mode`, less the umask. The folder above must exist and be safe:
    /// nobody else may be able to replace what is in it.
    ///
    /// # Errors
    /// There is something at `path` already, which is left as it is; the folder above is not safe; else what the system says.
    pub fn make_folder(&self, path: &Path, mode: u32) -> Result<(), Error> {
        let (parent, name) = parent_of(path)?;
        self.write(Line::Folder { path: path.to_owned() })?;
        let made = mkdirat(&parent, name.as_bytes(), Mode::from_raw_mode(mode)).and_then(|()| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Stamp::of(openat(&parent, name.as_bytes(), flags, Mode::empty())?)
        });
        match made {
            Ok(stamp) => self.write(Line::FolderMade { path: path.to_owned(), stamp }),
            Err(errno) => {
                self.write(Line::FolderGone { path: path.to_owned() })?;
                Err(Error::io("make the folder", path, errno))
            }
        }
    }

    /// Makes the folder at `path` as [`Self::make_folder`] does, unless this run has made it already.
    ///
    /// # Errors
    /// As there.
    pub fn ensure_folder(&self, path: &Path, mode: u32) -> Result<(), Error> {
        let _one_at_a_time = self.0.ensuring.lock();
        if self.has_folder(path) { Ok(()) } else { self.make_folder(path, mode) }
    }

    /// Removes the folder at `path` with everything in it, where this run made it; else leaves it as it is.
    ///
    /// # Errors
    /// Something in it stays.
    pub fn remove_folder(&self, path: &Path) -> Result<(), Error> {
        let Some(folder) = self.state(|state| state.folder(path).cloned()) else { return Ok(()) };
        remove::folder(&folder)?;
        self.write(Line::FolderGone { path: path.to_owned() })
    }

    /// Whether this run made a folder at `path` and has not removed it.
    pub fn has_folder(&self, path: &Path) -> bool {
        self.state(|state| state.folder(path).is_some())
    }

    /// Says that `object` is about to be made, or (with an id) that it was.
    ///
    /// # Errors
    /// It cannot be written, and so nothing may be made.
    pub fn note(&self, object: Object) -> Result<(), Error> {
        self.write(Line::Object(object))
    }

    /// Says that what `note` was told of is gone, or was never made.
    pub fn forget(&self, kind: ObjectKind, name: &str) {
        // What is listed and gone is looked for once more by the next run.
        let _ = self.write(Line::ObjectGone { kind, name: name.to_owned() });
    }

    /// The run has come to its end, and does not count as alive any more. What is still listed was kept on purpose.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn end(&self) -> Result<(), Error> {
        if self.state(|state| state.is_empty()) {
            let removed = unlinkat(self.0.runs.fd(), &self.0.name, AtFlags::empty());
            return removed.or_else(gone).map_err(Error::doing("remove", &self.path()));
        }
        self.write(Line::Ended)?;
        let unlocked = flock(&self.0.file.lock().0, FlockOperation::Unlock);
        unlocked.map_err(Error::doing("unlock", &self.path()))
    }

    fn write(&self, line: Line) -> Result<(), Error> {
        let mut locked = self.0.file.lock();
        let (file, state) = &mut *locked;
        let written = text(&line).and_then(|text| file.write_all(&text));
        written.map_err(|error| Error::io("write to", &self.path(), error))?;
        state.apply(line);
        Ok(())
    }

    fn state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.0.file.lock().1)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A run that could not be bootstrapped made nothing, and leaves no trace.
        let (file, state) = &mut *self.file.lock();
        let is_ours = Stamp::of(file.as_fd()).is_ok_and(|stamp| stamp == self.head.own);
        if state.is_empty() && !state.ended && is_ours {
            let _ = unlinkat(self.runs.fd(), &self.name, AtFlags::empty());
        }
    }
}

pub(crate) fn gone(errno: Errno) -> Result<(), Errno> {
    if errno == Errno::NOENT { Ok(()) } else { Err(errno) }
}

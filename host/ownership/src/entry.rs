//! The ledger of a run that does not live any more.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use loom_contract::id::RunId;
use rustix::fs::{AtFlags, unlinkat};

use crate::ledger::gone;
use crate::line::{Head, Line, State, text};
use crate::{Error, Mark, Object, ObjectKind, PrivateFolder, remove};

/// What a run that does not live any more has left. Nobody else looks at it as long as this value lives.
#[derive(Debug)]
pub struct Entry {
    runs: PrivateFolder,
    name: String,
    head: Head,
    state: State,
    /// Locked.
    file: File,
    last_written: Option<SystemTime>,
}

impl Entry {
    pub(crate) fn new(runs: PrivateFolder, name: String, head: Head, state: State, file: File) -> Self {
        let last_written = file.metadata().and_then(|metadata| metadata.modified()).ok();
        Self { runs, name, head, state, file, last_written }
    }

    /// The run.
    pub fn run_id(&self) -> &RunId {
        &self.head.run_id
    }

    /// The repository's root at that time.
    pub fn repo_root(&self) -> &Path {
        &self.head.repo_root
    }

    /// Whether the run came to its end: then what it has left was kept on purpose.
    pub fn ended(&self) -> bool {
        self.state.ended
    }

    /// By which its processes are known; `None` where there can be none any more, since the machine was started again.
    pub fn mark(&self) -> Option<&Mark> {
        (!self.state.ended && self.head.is_of_this_boot()).then_some(&self.head.mark)
    }

    /// When something was last written down; `None` where the file system does not say.
    pub fn last_written(&self) -> Option<SystemTime> {
        self.last_written
    }

    /// The folders that it has left, as far as is known.
    pub fn folders(&self) -> Vec<PathBuf> {
        self.state.folders.iter().map(|folder| folder.path.clone()).collect()
    }

    /// Whether what stands at `path` is the folder that the run has made there.
    pub fn has_made(&self, path: &Path) -> bool {
        self.state.folder(path).is_some_and(remove::stands)
    }

    /// What it has left with the daemons.
    pub fn objects(&self) -> &[Object] {
        &self.state.objects
    }

    /// Removes the folder at `path` with everything in it. Where there is something else than what the run made, it is left
    /// as it is, and forgotten.
    ///
    /// # Errors
    /// Something in it stays.
    pub fn remove_folder(&mut self, path: &Path) -> Result<(), Error> {
        let Some(folder) = self.state.folder(path) else { return Ok(()) };
        remove::folder(folder)?;
        self.write(Line::FolderGone { path: path.to_owned() });
        Ok(())
    }

    /// Says that an object is gone.
    pub fn forget(&mut self, kind: ObjectKind, name: &str) {
        self.write(Line::ObjectGone { kind, name: name.to_owned() });
    }

    /// Removes the ledger where nothing is left that it lists.
    ///
    /// # Errors
    /// It stays.
    pub fn close(self) -> Result<(), Error> {
        if !self.state.is_empty() {
            return Ok(());
        }
        let path = self.runs.path().join(&self.name);
        unlinkat(self.runs.fd(), &self.name, AtFlags::empty())
            .or_else(gone)
            .map_err(Error::doing("remove", &path))
    }

    fn write(&mut self, line: Line) {
        // What cannot be written is found out once more by the next run.
        let _ = text(&line).and_then(|text| self.file.write_all(&text));
        self.state.apply(line);
    }
}

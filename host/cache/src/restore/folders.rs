//! The last pass of a restore: folders get the permissions and times that the entry says, once nothing in
//! them changes any more.

use std::os::fd::AsFd;
use std::sync::Arc;

use loom_tree::{Child, Descent, FirstError, Open, dir};
use parking_lot::Mutex;
use rayon::Scope;
use rustix::fs::{Mode, fchmod, fstat, futimens};
use rustix::io::Errno;

use super::context::{RWX, RestoreContext};
use crate::Error;

/// Gives the folders the permissions and times that the entry says.
pub(super) fn finish(context: &RestoreContext<'_>, dirty: &[bool]) -> Result<(), Error> {
    let manifest = context.manifest;
    // By folder: it, or one in it, is dirty.
    let mut leads: Vec<bool> = dirty.to_vec();
    for folder in (1..leads.len()).rev() {
        if leads[folder] {
            leads[manifest.folders[folder].parent as usize] = true;
        }
    }
    if !leads.first().is_some_and(|&leads| leads) {
        return Ok(());
    }
    let finish = Finish {
        context,
        dirty,
        leads: &leads,
        descent: Descent::new(context.root),
        closed: Mutex::default(),
        failure: FirstError::new(context.cancel),
    };
    let top = finish.descent.root().map_err(|errno| Error::read(context.tree, errno))?;
    rayon::scope(|scope| finish.children(scope, &top, 0));
    let Finish { closed, failure, .. } = finish;
    failure.into_result(Error::Cancelled)?;
    let mut closed = closed.into_inner();
    // From below, since what is in a closed folder cannot be reached.
    closed.sort_unstable_by(|one, other| other.cmp(one));
    for (folder, mode) in closed {
        let path = manifest.path(folder);
        let done = dir::open_beneath(context.root, &path).and_then(|open| set_mode(&open, mode));
        done.map_err(|errno| context.cannot(&path, errno))?;
    }
    Ok(())
}

struct Finish<'a> {
    context: &'a RestoreContext<'a>,
    dirty: &'a [bool],
    leads: &'a [bool],
    descent: Descent<'a>,
    /// Folders whose permissions would be in the way.
    closed: Mutex<Vec<(usize, u16)>>,
    failure: FirstError<'a, Error>,
}

impl Finish<'_> {
    fn children<'s>(&'s self, scope: &Scope<'s>, open: &Arc<Open>, folder: usize) {
        let manifest = self.context.manifest;
        for child in manifest.children_of(folder).filter(|&child| self.leads[child]) {
            let task = self.descent.child(open, manifest.folder_name(child));
            scope.spawn(move |scope| self.folder(scope, task, child));
        }
    }

    fn folder<'s>(&'s self, scope: &Scope<'s>, task: Child, folder: usize) {
        if self.failure.is_set() {
            return;
        }
        let done = self.descent.open(task).and_then(|open| {
            self.children(scope, &open, folder);
            let meta = self.context.manifest.folders[folder].meta.filter(|_| self.dirty[folder]);
            let Some(meta) = meta else { return Ok(()) };
            self.context.fault("set the time of", &self.context.manifest.path(folder))?;
            futimens(&open, &meta.time.to_set())?;
            if meta.mode & RWX == RWX {
                return set_mode(&open, meta.mode);
            }
            self.closed.lock().push((folder, meta.mode));
            Ok(())
        });
        if let Err(errno) = done {
            self.failure.set(self.context.cannot(&self.context.manifest.path(folder), errno));
        }
    }
}

fn set_mode(open: &impl AsFd, mode: u16) -> Result<(), Errno> {
    match fstat(open)?.st_mode & 0o7777 {
        there if there == u32::from(mode) => Ok(()),
        _ => fchmod(open, Mode::from_raw_mode(mode.into())),
    }
}

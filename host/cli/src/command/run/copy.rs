//! The run's copy of the repository: the slot that it is in, brought up to date.

use std::path::Path;
use std::thread::JoinHandle;

use loom_contract::error::{ErrorInfo, code};
use loom_ownership::{Slot, SlotEnd};
use loom_tree::FileError;
use loom_workspace::{Aside, Patterns, Snapshot};

use super::bootstrap::Start;
use super::traces;

/// The slot of a run.
pub(super) struct HeldSlot {
    slot: Slot,
    /// Removes what had to leave the copy.
    removal: Option<JoinHandle<()>>,
}

impl HeldSlot {
    /// Notes how the run ended. What is still on its way out goes before.
    pub(super) fn end(&mut self, passed: bool) {
        if let Some(removal) = self.removal.take() {
            // What it could not remove is tried again by the next run.
            let _ = removal.join();
        }
        let end = if passed { SlotEnd::Passed } else { SlotEnd::Failed };
        if let Err(error) = self.slot.end(end) {
            tracing::warn!(%error, "it is not noted how the run ended");
        }
    }
}

/// Takes a slot, and brings the copy in it up to date.
pub(super) fn make(start: &Start<'_>) -> Result<(Snapshot, HeldSlot), ErrorInfo> {
    let repo_root = &start.source.repo_root;
    let folders = &start.place.folders;
    loom_workspace::check_outside(repo_root, &folders.workspaces).map_err(|error| told(&error))?;
    let owned =
        |error: loom_ownership::Error| crate::command::ownership_error(code::WORKSPACE_FAILED, &error);
    let mut slot = folders.slots(repo_root).and_then(|slots| slots.take()).map_err(owned)?;
    if slot.last().is_some_and(|last| last.ended.is_none()) {
        // That run was killed just now, and its processes may still write there.
        traces::clean_after_the_dead(repo_root, &folders.runs);
    }
    let had_copy = slot.has_copy();
    slot.begin(start.run_id).map_err(owned)?;
    let made = match update(start, &slot) {
        // What jobs have left cannot be put right; it can be left behind.
        Err(loom_workspace::Error::File(FileError::Write { path, source }))
            if had_copy && path.starts_with(slot.path()) =>
        {
            tracing::warn!(path = %path.display(), error = %source, "the copy is made anew");
            slot.renew().map_err(owned)?;
            update(start, &slot)
        }
        made => made,
    };
    match made {
        Ok(snapshot) => {
            let removal = remove_aside(&slot.aside());
            Ok((snapshot, HeldSlot { slot, removal }))
        }
        Err(error) => {
            HeldSlot { slot, removal: None }.end(false);
            Err(told(&error))
        }
    }
}

fn update(start: &Start<'_>, slot: &Slot) -> Result<Snapshot, loom_workspace::Error> {
    let (dir, record, aside) = (slot.path(), slot.record(), slot.aside());
    let aside = Aside::open(&aside).map_err(|errno| FileError::write(aside, errno))?;
    let kept = Patterns::none();
    let place = loom_workspace::Slot { dir: &dir, record: &record, aside: &aside, kept: &kept };
    loom_workspace::update(&start.source.repo_root, &place, start.stop_copy)
}

/// Removes what has left the copy, in the background.
fn remove_aside(aside: &Path) -> Option<JoinHandle<()>> {
    let aside = aside.to_owned();
    let remove = move || {
        let emptied = Aside::open(&aside).map(|aside| aside.empty());
        if let Ok(Err(error)) = emptied {
            tracing::warn!(%error, "what a job has left stays");
        }
    };
    std::thread::Builder::new().spawn(remove).ok()
}

fn told(error: &loom_workspace::Error) -> ErrorInfo {
    let info = ErrorInfo::new(code::WORKSPACE_FAILED, error.to_string());
    match error.hint() {
        Some(hint) => info.with_hint(hint),
        None => info,
    }
}

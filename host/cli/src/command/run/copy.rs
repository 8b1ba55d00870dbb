//! The run's copy of the repository: the slot that it is in, brought up to date.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use loom_contract::error::{ErrorInfo, code};
use loom_contract::id::RunId;
use loom_contract::receipt::RunReceipt;
use loom_ownership::{LastRun, Slot, SlotEnd};
use loom_record::read;
use loom_tree::FileError;
use loom_workflow::Plan;
use loom_workspace::{Aside, Patterns, Snapshot};

use super::traces::{self, Folders};
use super::{Given, Mode};
use crate::command::kept;

/// The slot of a run.
pub(super) struct HeldSlot {
    slot: Slot,
    /// Removes what had to leave the copy.
    removal: Option<JoinHandle<()>>,
}

impl HeldSlot {
    /// Removes it with the copy.
    pub(super) fn remove(self) {
        if let Err(error) = self.slot.remove() {
            tracing::warn!(%error, "a copy of the repository stays");
        }
    }

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

/// A copy as a run has left it.
pub(super) struct Left {
    /// The run.
    pub(super) run_id: RunId,
    /// Where jobs run in it.
    pub(super) workspace: PathBuf,
    /// The commit that it was made from.
    pub(super) head_sha: Option<String>,
    /// Nobody else has it.
    pub(super) slot: HeldSlot,
}

/// Takes the slot of the last run of the repository that still has one; nothing where another run has that now, or its
/// record is gone.
pub(super) fn of_last_run(folders: &Folders, repo_root: &Path) -> Result<Option<Left>, ErrorInfo> {
    let Some(slots) = folders.existing_slots() else { return Ok(None) };
    let of_run = |logs: &Path| {
        let is_its = |last: LastRun| logs.ends_with(last.run_id.as_str());
        slots.numbers().into_iter().find(|number| slots.last(*number).is_some_and(is_its))
    };
    let Some((run, number)) =
        read::runs(repo_root).into_iter().find_map(|run| of_run(&run.logs).map(|number| (run, number)))
    else {
        return Ok(None);
    };
    let owned = |error| crate::command::ownership_error(code::WORKSPACE_FAILED, &error);
    let Some(slot) = slots.take_number(number).map_err(owned)? else { return Ok(None) };
    // It may have been another's in between. A run that was killed may not have come to the end of its copy.
    let Some(last) =
        slot.last().filter(|last| last.ended.is_some() && run.logs.ends_with(last.run_id.as_str()))
    else {
        return Ok(None);
    };
    let Ok(receipt) = read::document::<RunReceipt>(&run.receipt) else { return Ok(None) };
    let workspace = receipt.snapshot_path.map(PathBuf::from);
    let Some(workspace) = workspace.filter(|path| path.starts_with(slot.path()) && path.is_dir()) else {
        return Ok(None);
    };
    Ok(Some(Left {
        run_id: last.run_id.clone(),
        workspace,
        head_sha: receipt.snapshot_head_sha,
        slot: HeldSlot { slot, removal: None },
    }))
}

/// Whose copy it is.
pub(super) struct CopyFor<'a> {
    pub(super) repo_root: &'a Path,
    pub(super) run_id: &'a RunId,
    pub(super) folders: &'a Folders,
    pub(super) mode: Mode<'a>,
    /// Nothing of earlier runs is to be found.
    pub(super) fresh: bool,
    /// Ends it early when it becomes true.
    pub(super) cancel: &'a AtomicBool,
}

/// The key of the kept folders of `plan`; none where it keeps none.
///
/// # Errors
/// See [`kept::key`].
pub(super) fn key(plan: &Plan, repo_root: &Path, stop: &AtomicBool) -> Result<Option<String>, ErrorInfo> {
    plan.kept_folders().map(|kept| kept::key(&kept, repo_root, stop)).transpose()
}

/// Takes a slot, and brings the copy in it up to date. In `resumed`, the slot of an earlier run whose work is gone on with,
/// all stays that its jobs have made.
pub(super) fn make(
    whose: &CopyFor<'_>,
    plan: &Plan,
    resumed: Option<Slot>,
) -> Result<(Snapshot, HeldSlot), ErrorInfo> {
    let CopyFor { repo_root, run_id, folders, .. } = *whose;
    loom_workspace::check_outside(repo_root, &folders.workspaces).map_err(|error| told(&error))?;
    let owned =
        |error: loom_ownership::Error| crate::command::ownership_error(code::WORKSPACE_FAILED, &error);
    let kept = match whose.mode {
        // Kept folders are a cache.
        Mode::Compared(Given::None | Given::Some(..)) => None,
        Mode::Usual | Mode::Compared(Given::All(_)) => plan.kept_folders(),
    };
    let key = kept.as_ref().map(|kept| kept::key(kept, repo_root, whose.cancel)).transpose()?;
    let patterns = Patterns::new(kept.as_ref().map_or(&[][..], |kept| &kept.keep));
    let patterns = patterns.map_err(|error| ErrorInfo::new(code::WORKSPACE_FAILED, error.to_string()))?;
    let slots = folders.slots(repo_root).map_err(owned)?;
    let goes_on = resumed.is_some();
    let mut slot = match resumed {
        Some(slot) => slot,
        None if whose.mode == Mode::Usual || kept.is_some() => slots.take().map_err(owned)?,
        // What is kept in another slot is not for this run.
        None => slots.take_new().map_err(owned)?,
    };
    if slot.last().is_some_and(|last| last.ended.is_none()) {
        // That run was killed just now, and its processes may still write there.
        traces::clean_after_the_dead(repo_root, &folders.runs);
    }
    let had_copy = slot.has_copy();
    slot.begin(run_id, key.as_deref()).map_err(owned)?;
    if whose.fresh && had_copy {
        slot.renew().map_err(owned)?;
    }
    let made = match update(whose, &slot, &patterns, goes_on) {
        // What jobs have left cannot be put right; it can be left behind, unless it is what the run is to go on with.
        Err(loom_workspace::Error::File(FileError::Write { path, source }))
            if had_copy && !goes_on && path.starts_with(slot.path()) =>
        {
            tracing::warn!(path = %path.display(), error = %source, "the copy is made anew");
            slot.renew().map_err(owned)?;
            update(whose, &slot, &patterns, false)
        }
        made => made,
    };
    match made {
        Ok(snapshot) => {
            if let Some(key) = key.filter(|key| slot.kept() != Some(key)) {
                slot.keep(&key).map_err(owned)?;
            }
            let removal = remove_aside(&slot.aside());
            Ok((snapshot, HeldSlot { slot, removal }))
        }
        Err(error) => {
            HeldSlot { slot, removal: None }.end(false);
            let error = told(&error);
            Err(if goes_on { error.with_hint("run everything: `loom run --local`") } else { error })
        }
    }
}

fn update(
    whose: &CopyFor<'_>,
    slot: &Slot,
    kept: &Patterns,
    resumed: bool,
) -> Result<Snapshot, loom_workspace::Error> {
    let (dir, record, aside) = (slot.path(), slot.record(), slot.aside());
    let aside = Aside::open(&aside).map_err(|errno| FileError::write(aside, errno))?;
    let place = loom_workspace::Slot {
        dir: &dir,
        record: &record,
        aside: &aside,
        kept,
        stay: slot.kept().is_some(),
        resumed,
    };
    loom_workspace::update(whose.repo_root, &place, whose.cancel)
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

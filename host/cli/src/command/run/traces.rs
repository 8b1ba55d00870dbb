//! What runs leave outside of the repository: copies of it, files of secrets, processes, caches; and how that is cleared
//! away.

use std::path::{Path, PathBuf};
use std::time::Duration;

use loom_cache::Store;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::id::RunId;
use loom_engine::clock::Clock;
use loom_engine::secrets::SecretsDir;
use loom_engine::{process, secrets};
use loom_ownership::{Entry, HeldFor, Ledger, Note, Notes, PrivateFolder, Runs, Slots};
use loom_record::{Limits, Retention};

use crate::command;
use crate::config::Effective;
use crate::settings;

/// How long processes of killed runs are killed again.
const DEAD_RUN_KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// Where copies of repositories are in the cache folder, unless the user says otherwise.
const WORKSPACES: &str = "workspaces";
/// Where files are in it that are on their way to containers or from them.
const STAGING: &str = "staging";

/// The user's folders that a run uses, each proven to be the user's alone.
#[derive(Clone)]
pub(in crate::command) struct Folders {
    pub(in crate::command) cache_dir: PrivateFolder,
    /// The copies of this repository.
    pub(in crate::command) workspaces: PathBuf,
    pub(in crate::command) runs: Runs,
    pub(in crate::command) staging: PathBuf,
    notes: Notes,
}

impl Folders {
    /// Opens those that `config` names, for the repository at `repo_root`.
    ///
    /// # Errors
    /// There is no place for them, or somebody else could write there.
    pub(in crate::command) fn open(config: &Effective, repo_root: &Path) -> Result<Self, ErrorInfo> {
        let (Some(cache_dir), Some(workspace_dir)) = (&config.cache_dir, &config.workspace_dir) else {
            let message = "no place for the workspace: neither XDG_CACHE_HOME nor HOME is set";
            return Err(ErrorInfo::new(code::WORKSPACE_FAILED, message)
                .with_hint("set one of them to an absolute path, or runtime.cacheDir in your config file"));
        };
        let open = || -> Result<Self, loom_ownership::Error> {
            let cache = PrivateFolder::open_or_make(&cache_dir.value)?;
            let staging = cache.folder(STAGING)?;
            // Made with the first copy. Below the cache folder there are no links; where the user says that it is, there
            // may be.
            let workspaces = if workspace_dir.value == cache_dir.value.join(WORKSPACES) {
                cache.existing(WORKSPACES)?
            } else {
                Some(PrivateFolder::open_or_make(&workspace_dir.value)?)
            };
            let own = loom_workspace::repo_workspaces_dir(Path::new(""), repo_root);
            let there = match &workspaces {
                Some(workspaces) => workspaces.existing(&own.to_string_lossy())?,
                None => None,
            };
            let base =
                workspaces.map_or_else(|| cache.path().join(WORKSPACES), |base| base.path().to_owned());
            Ok(Self {
                workspaces: there.map_or_else(|| base.join(own), |there| there.path().to_owned()),
                runs: Runs::open(&cache)?,
                notes: Notes::open(&cache)?,
                staging: staging.path().to_owned(),
                cache_dir: cache,
            })
        };
        open().map_err(|error| command::ownership_error(code::WORKSPACE_FAILED, &error))
    }

    /// Opens them as [`Self::open`] does, for who only looks: `None` where no run has made them yet.
    pub(in crate::command) fn existing(
        config: &Effective,
        repo_root: &Path,
    ) -> Result<Option<Self>, ErrorInfo> {
        let parts = [STAGING, "runs"];
        let is_there = |dir: &PathBuf| parts.iter().all(|part| dir.join(part).is_dir());
        match &config.cache_dir {
            Some(dir) if is_there(&dir.value) => Self::open(config, repo_root).map(Some),
            _ => Ok(None),
        }
    }

    /// The notes of whose the folders are that are named after repositories.
    pub(in crate::command) fn notes(&self) -> &Notes {
        &self.notes
    }

    /// The folder for the caches of the repository at `repo_root`.
    ///
    /// # Errors
    /// Somebody else could write there.
    pub(in crate::command) fn cache_store(&self, repo_root: &Path) -> Result<PathBuf, loom_ownership::Error> {
        let store = command::cache_store(&self.cache_dir, repo_root)?;
        self.note(HeldFor::Cache, &store, repo_root);
        Ok(store.path().to_owned())
    }

    /// Notes that `folder` is for the repository at `repo_root`, so that it is known whose it was when that is gone.
    pub(in crate::command) fn note(&self, held: HeldFor, folder: &PrivateFolder, repo_root: &Path) {
        if let Err(error) = self.notes.write(held, folder, repo_root) {
            tracing::warn!(%error, "it is not noted whose a folder is");
        }
    }

    /// The places of copies of the repository at `repo_root`, which [`Self::open`] was told.
    ///
    /// # Errors
    /// Somebody else could write there.
    pub(in crate::command) fn slots(&self, repo_root: &Path) -> Result<Slots, loom_ownership::Error> {
        let copies = PrivateFolder::open_or_make(&self.workspaces)?;
        self.note(HeldFor::Workspaces, &copies, repo_root);
        Ok(Slots::new(copies))
    }

    /// The same for who only looks; `None` where no run has made one.
    pub(in crate::command) fn existing_slots(&self) -> Option<Slots> {
        let above =
            PrivateFolder::open_or_make(self.workspaces.parent().filter(|above| above.is_dir())?).ok()?;
        above.existing(self.workspaces.file_name()?.to_str()?).ok()?.map(Slots::new)
    }

    /// Where the run's files are that are on their way to containers or from them.
    pub(in crate::command) fn staging_of(&self, run_id: &RunId) -> PathBuf {
        self.staging.join(run_id.as_str())
    }
}

fn secrets_folder(run_id: &RunId) -> String {
    format!("{run_id}-secrets")
}

/// Where the run's files of secrets are put.
pub(in crate::command) fn secrets_dir(run_id: &RunId, ledger: Option<&Ledger>) -> SecretsDir {
    let bases = settings::secret_bases();
    let usable = |base: &&PathBuf| {
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        secrets::is_in_memory(base) && rustix::fs::access(base.as_path(), access).is_ok()
    };
    let in_memory = bases.iter().find(usable);
    let base = in_memory.or(bases.last()).cloned().unwrap_or_default();
    SecretsDir {
        path: base.join(secrets_folder(run_id)),
        in_memory: in_memory.is_some(),
        ledger: ledger.cloned(),
    }
}

/// Ends and removes what runs whose Loom was killed have left, of whatever repository, and closes the receipts of those of
/// the repository at `repo_root`.
pub(in crate::command) fn clean_after_the_dead(repo_root: &Path, runs: &Runs) {
    let (ended, dead): (Vec<Entry>, Vec<Entry>) = runs.not_alive().into_iter().partition(Entry::ended);
    for mut run in ended {
        // What it could not remove when it ended.
        let was_to_go = left_by_mistake(&run);
        if was_to_go.is_empty() {
            continue;
        }
        process::end_groups_of(&run);
        for folder in was_to_go {
            if let Err(error) = run.remove_folder(&folder) {
                tracing::warn!(%error, "a folder of a run stays");
            }
        }
        close(run);
    }
    dead.iter().for_each(process::end_groups_of);
    let marks: Vec<_> = dead.iter().filter_map(Entry::mark).collect();
    process::kill_marked(&marks, DEAD_RUN_KILL_TIMEOUT);
    for mut run in dead {
        for folder in run.folders() {
            if let Err(error) = run.remove_folder(&folder) {
                tracing::warn!(%error, "a folder of a dead run stays");
            }
        }
        close(run);
    }
    if let Err(error) = loom_record::recover(repo_root, |run_id| runs.is_alive(run_id.as_str())) {
        tracing::warn!(%error, "a dead run's receipt stays open");
    }
}

/// The folders that a run which came to its end has not been able to remove: all but the copy of the repository, which is
/// kept on purpose.
pub(in crate::command) fn left_by_mistake(ended: &Entry) -> Vec<PathBuf> {
    let secrets = secrets_folder(ended.run_id());
    let is_staging = |folder: &Path| folder.parent().is_some_and(|above| above.ends_with(STAGING));
    let mut folders = ended.folders();
    // As its ledger: the copy of the repository has no dot.
    let group = format!("{}.", ended.run_id());
    let is_group =
        |folder: &Path| folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&group));
    folders.retain(|folder| folder.ends_with(&secrets) || is_staging(folder) || is_group(folder));
    folders
}

/// Removes the slots of the repository that were used longest ago, where there are more than `keep` that nobody uses; and
/// those of repositories that are gone.
pub(in crate::command) fn prune(folders: &Folders, keep: u64) {
    if let Some(slots) = folders.existing_slots() {
        let mut numbers = slots.numbers();
        // Ids of runs are stamps of one length.
        let used = |number: &u32| slots.last(*number).map(|last| last.run_id.as_str().to_owned());
        numbers.sort_by_cached_key(used);
        let surplus = numbers.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
        for number in numbers.into_iter().take(surplus) {
            remove_slot(&slots, number);
        }
    }
    for note in folders.notes.all() {
        if note.held() != HeldFor::Workspaces || note.roots().iter().any(|root| root.is_dir()) {
            continue;
        }
        let Ok(Some(folder)) = note.open() else { continue };
        let slots = Slots::new(folder);
        for number in slots.numbers() {
            remove_slot(&slots, number);
        }
        forget(folders, &note);
    }
}

/// Removes the note of a folder for copies, and the folder, where that is empty.
pub(in crate::command) fn forget(folders: &Folders, note: &Note) {
    if (note.remove_empty() || !note.folder().exists())
        && let Err(error) = folders.notes.remove(note)
    {
        tracing::warn!(%error, "the note of a repository that is gone stays");
    }
}

fn remove_slot(slots: &Slots, number: u32) {
    let removed =
        slots.take_number(number).and_then(|slot| slot.map_or(Ok(()), loom_ownership::Slot::remove));
    if let Err(error) = removed {
        tracing::warn!(%error, "an old copy of a repository stays");
    }
}

/// How long a run looks for old records when it has ended, about.
const TIME_FOR_RECORDS: Duration = Duration::from_millis(50);

/// Removes old records of the repository at `repo_root`, as far as there is time, after the run `run_id`.
pub(in crate::command) fn retain(repo_root: &Path, run_id: &RunId, runs: &Runs, config: &Effective) {
    let how = Retention {
        limits: limits(config),
        now: Clock::start().started_at(),
        time: Some(TIME_FOR_RECORDS),
        just_ended: Some(run_id.clone()),
        dry_run: false,
    };
    let retained = loom_record::retain(repo_root, &how, |run_id| runs.is_alive(run_id.as_str()));
    if let Err(error) = retained {
        tracing::warn!(%error, "old records stay");
    }
}

/// What records may stay, as `config` says.
pub(in crate::command) fn limits(config: &Effective) -> Limits {
    let limit = |value: u64| (value > 0).then_some(value);
    Limits {
        count: config.keep_records.value,
        bytes: limit(config.records_max_bytes.value),
        age: limit(config.records_max_days.value)
            .map(|days| Duration::from_secs(days.saturating_mul(24 * 60 * 60))),
    }
}

pub(in crate::command) fn close(run: Entry) {
    if let Err(error) = run.close() {
        tracing::warn!(%error, "a ledger stays");
    }
}

/// Makes the cache of the repository at `repo_root` no larger than `max_bytes`.
pub(in crate::command) fn shrink_cache(folders: &Folders, repo_root: &Path, max_bytes: u64) {
    let Ok(store) = folders.cache_store(repo_root) else { return };
    let collected = Store::open(&store).and_then(|store| store.gc(max_bytes, &[]));
    if let Err(error) = collected {
        tracing::warn!(%error, "the cache stays larger than it may be");
    }
}

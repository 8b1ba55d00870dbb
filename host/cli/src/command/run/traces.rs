//! What runs leave outside of the repository: copies of it, files of secrets, processes, caches; and how that is cleared
//! away.

use std::path::{Path, PathBuf};
use std::time::Duration;

use loom_cache::Store;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::id::RunId;
use loom_engine::secrets::SecretsDir;
use loom_engine::{process, secrets};
use loom_ownership::{Entry, Ledger, PrivateFolder, Runs};

use crate::command;
use crate::config::Effective;
use crate::settings;

/// How long processes of killed runs are killed again.
const DEAD_RUN_KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// Where copies of repositories are in the cache folder, unless the user says otherwise.
const WORKSPACES: &str = "workspaces";

/// The user's folders that a run uses, each proven to be the user's alone.
#[derive(Clone)]
pub(super) struct Folders {
    pub(super) cache_dir: PrivateFolder,
    /// The copies of this repository.
    pub(super) workspaces: PathBuf,
    pub(super) runs: Runs,
    staging: PathBuf,
}

impl Folders {
    /// Opens those that `config` names, for the repository at `repo_root`.
    ///
    /// # Errors
    /// There is no place for them, or somebody else could write there.
    pub(super) fn open(config: &Effective, repo_root: &Path) -> Result<Self, ErrorInfo> {
        let (Some(cache_dir), Some(workspace_dir)) = (&config.cache_dir, &config.workspace_dir) else {
            let message = "no place for the workspace: neither XDG_CACHE_HOME nor HOME is set";
            return Err(ErrorInfo::new(code::WORKSPACE_FAILED, message)
                .with_hint("set one of them to an absolute path, or runtime.cacheDir in your config file"));
        };
        let open = || -> Result<Self, loom_ownership::Error> {
            let cache = PrivateFolder::open_or_make(&cache_dir.value)?;
            let staging = cache.folder("staging")?;
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
                staging: staging.path().to_owned(),
                cache_dir: cache,
            })
        };
        open().map_err(|error| command::ownership_error(code::WORKSPACE_FAILED, &error))
    }

    /// The folder for the caches of the repository at `repo_root`.
    ///
    /// # Errors
    /// Somebody else could write there.
    pub(super) fn cache_store(&self, repo_root: &Path) -> Result<PathBuf, loom_ownership::Error> {
        command::cache_store(&self.cache_dir, repo_root)
    }

    /// Where the run's files are that are on their way to containers or from them.
    pub(super) fn staging_of(&self, run_id: &RunId) -> PathBuf {
        self.staging.join(run_id.as_str())
    }
}

/// Where the run's files of secrets are put.
pub(super) fn secrets_dir(run_id: &RunId, ledger: Option<&Ledger>) -> SecretsDir {
    let bases = settings::secret_bases();
    let usable = |base: &&PathBuf| {
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        secrets::is_in_memory(base) && rustix::fs::access(base.as_path(), access).is_ok()
    };
    let in_memory = bases.iter().find(usable);
    let base = in_memory.or(bases.last()).cloned().unwrap_or_default();
    SecretsDir {
        path: base.join(format!("{run_id}-secrets")),
        in_memory: in_memory.is_some(),
        ledger: ledger.cloned(),
    }
}

/// Ends and removes what runs whose Loom was killed have left, of whatever repository, and closes the receipts of those of
/// the repository at `repo_root`.
pub(super) fn clean_after_the_dead(repo_root: &Path, runs: &Runs) {
    let dead: Vec<Entry> = runs.not_alive().into_iter().filter(|run| !run.ended()).collect();
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

/// Removes the workspaces of failed runs of the repository at `repo_root` but for the newest few.
pub(super) fn prune(repo_root: &Path, folders: &Folders, keep: u64) {
    let is_own = |run: &Entry| {
        run.ended()
            && run.repo_root() == repo_root
            && run.folders().iter().any(|folder| folder.starts_with(&folders.workspaces))
    };
    let kept: Vec<Entry> = folders.runs.not_alive().into_iter().filter(is_own).collect();
    let surplus = kept.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
    for mut run in kept.into_iter().take(surplus) {
        for folder in run.folders() {
            if let Err(error) = run.remove_folder(&folder) {
                tracing::warn!(%error, "an old workspace stays");
            }
        }
        close(run);
    }
}

fn close(run: Entry) {
    if let Err(error) = run.close() {
        tracing::warn!(%error, "a ledger stays");
    }
}

/// Makes the cache of the repository at `repo_root` no larger than `max_bytes`.
pub(super) fn shrink_cache(folders: &Folders, repo_root: &Path, max_bytes: u64) {
    let Ok(store) = folders.cache_store(repo_root) else { return };
    let collected = Store::open(&store).and_then(|store| store.gc(max_bytes, &[]));
    if let Err(error) = collected {
        tracing::warn!(%error, "the cache stays larger than it may be");
    }
}

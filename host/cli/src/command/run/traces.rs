//! What runs leave outside of the repository: copies of it, files of secrets, processes, caches; and how that is cleared
//! away.

use std::path::{Path, PathBuf};
use std::time::Duration;

use loom_cache::Store;
use loom_engine::secrets::SecretsDir;
use loom_engine::{process, secrets};

use crate::settings;

/// How long processes of a killed run are hunted.
const HUNT: Duration = Duration::from_secs(2);

/// Where the run's files of secrets are put.
pub(super) fn secrets_dir(run_id: &str) -> SecretsDir {
    let bases = settings::secret_bases();
    let usable = |base: &&PathBuf| {
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        secrets::is_in_memory(base) && rustix::fs::access(base.as_path(), access).is_ok()
    };
    let in_memory = bases.iter().find(usable);
    let base = in_memory.or(bases.last()).cloned().unwrap_or_default();
    SecretsDir { path: secrets_folder(&base, run_id), in_memory: in_memory.is_some() }
}

fn secrets_folder(base: &Path, run_id: &str) -> PathBuf {
    base.join(format!("{run_id}-secrets"))
}

/// Where the run's files are that are on their way to containers or from them.
pub(super) fn staging_dir(cache_dir: &Path, run_id: &str) -> PathBuf {
    cache_dir.join("staging").join(run_id)
}

/// Removes what a run has left there.
pub(super) fn remove_staging(cache_dir: &Path, run_id: &str) {
    if let Err(error) = secrets::remove(&staging_dir(cache_dir, run_id)) {
        tracing::warn!(%error, "files that were on their way to a container stay");
    }
}

/// Ends and removes what runs whose Loom was killed have left.
pub(super) fn clean_after_the_dead(repo_root: &Path, cache_dir: &Path, workspaces: &Path) {
    let cleaned = loom_record::recover(repo_root, |dead| {
        process::kill_run(dead.run_id.as_str(), HUNT);
        if let Err(error) = loom_workspace::remove(&workspaces.join(dead.run_id.as_str())) {
            tracing::warn!(%error, "a dead run's workspace stays");
        }
        remove_staging(cache_dir, dead.run_id.as_str());
        for base in settings::secret_bases() {
            if let Err(error) = secrets::remove(&secrets_folder(&base, dead.run_id.as_str())) {
                tracing::warn!(%error, "files of a dead run's secrets stay");
            }
        }
    });
    if let Err(error) = cleaned {
        tracing::warn!(%error, "a dead run's receipt stays open");
    }
}

/// Removes the workspaces of failed runs but for the newest few. Those of runs that live are left alone.
pub(super) fn prune(repo_root: &Path, workspaces: &Path, keep: u64) {
    let Ok(entries) = fs_err::read_dir(workspaces) else {
        return;
    };
    let mut kept: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !loom_record::is_alive(repo_root, name))
        .collect();
    // Run ids are stamps of one length: their order is that of time.
    kept.sort_unstable();
    let surplus = kept.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
    for name in kept.into_iter().take(surplus) {
        if let Err(error) = loom_workspace::remove(&workspaces.join(name)) {
            tracing::warn!(%error, "an old workspace stays");
        }
    }
}

/// Makes the cache in the folder `store` no larger than `max_bytes`.
pub(super) fn shrink_cache(store: &Path, max_bytes: u64) {
    let collected = Store::open(store).and_then(|store| store.gc(max_bytes, &[]));
    if let Err(error) = collected {
        tracing::warn!(%error, "the cache stays larger than it may be");
    }
}

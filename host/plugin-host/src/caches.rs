//! The caches of a run: the store, and who has what of a workspace that jobs share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use loom_cache::Store;
use loom_contract::id::JobId;
use loom_tree::glob_base;
use parking_lot::{Mutex, MutexGuard};

/// The store of a run, and what its jobs do with it.
#[derive(Debug)]
pub struct Caches {
    pub(crate) store: Store,
    /// The names and keys of the entries that may be restored; none where all may.
    only: Option<BTreeSet<(String, String)>>,
    state: Mutex<State>,
    /// Held while files are restored: a job that wants the same entry waits for it instead of writing beside it.
    pub(crate) restoring: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    claims: Vec<Claim>,
    last_claim: u64,
    restored: Vec<RestoredCache>,
    uses: BTreeMap<(JobId, String), Use>,
}

/// What a job has had of one of its caches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Use {
    /// The keys of the entries that it was given, as the store has them.
    pub found: BTreeSet<String>,
    /// Its paths, filled in.
    pub paths: BTreeSet<String>,
}

/// A cache that a running job uses.
#[derive(Debug, Clone)]
struct Claim {
    number: u64,
    job: JobId,
    cache: Cache,
}

/// Paths of a workspace, and what they are kept under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cache {
    pub(crate) workspace: PathBuf,
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) paths: Vec<String>,
}

/// An entry that was restored in this run.
#[derive(Debug)]
struct RestoredCache {
    cache: Cache,
    /// The key that it was found under.
    found: String,
}

impl Caches {
    /// The caches of a run that keeps them in `store`.
    pub fn new(store: Store) -> Self {
        Self { store, only: None, state: Mutex::default(), restoring: tokio::sync::Mutex::default() }
    }

    /// The same, but of what was saved, only the entries of these names and keys are there for jobs.
    #[must_use]
    pub fn only(self, entries: BTreeSet<(String, String)>) -> Self {
        Self { only: Some(entries), ..self }
    }

    /// What jobs have had of their caches so far, by job and name of the cache in the store.
    pub fn uses(&self) -> BTreeMap<(JobId, String), Use> {
        self.state().uses.clone()
    }

    /// Whether the entry may be restored.
    pub(crate) fn may_restore(&self, name: &str, key: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&(name.to_owned(), key.to_owned())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// `job` uses `cache` from now on, until what is returned is dropped.
    pub(crate) fn claim(self: &Arc<Self>, job: &JobId, cache: Cache) -> Claimed {
        let mut state = self.state();
        let used = state.uses.entry((job.clone(), cache.name.clone())).or_default();
        used.paths.extend(cache.paths.iter().cloned());
        state.last_claim += 1;
        let number = state.last_claim;
        state.claims.push(Claim { number, job: job.clone(), cache: cache.clone() });
        Claimed { caches: Arc::clone(self), number, job: job.clone(), cache }
    }

    /// Whether the entry that was found under `found` is in the workspace already.
    pub(crate) fn is_restored(&self, cache: &Cache, found: &str) -> bool {
        self.state().restored.iter().any(|restored| {
            restored.found == found
                && restored.cache.name == cache.name
                && restored.cache.workspace == cache.workspace
                && restored.cache.paths == cache.paths
        })
    }

    /// Notes that the entry that was found under `found` is in the workspace now, and nothing else in its paths.
    pub(crate) fn restored(&self, cache: &Cache, found: &str) {
        let mut state = self.state();
        state.restored.retain(|restored| !restored.cache.overlaps(cache));
        state.restored.push(RestoredCache { cache: cache.clone(), found: found.to_owned() });
    }
}

/// A claim that holds.
#[derive(Debug)]
pub(crate) struct Claimed {
    caches: Arc<Caches>,
    number: u64,
    job: JobId,
    pub(crate) cache: Cache,
}

impl Claimed {
    pub(crate) fn caches(&self) -> &Arc<Caches> {
        &self.caches
    }

    /// The job has what was saved under `key`.
    pub(crate) fn found(&self, key: &str) {
        let mut state = self.caches.state();
        let used = state.uses.entry((self.job.clone(), self.cache.name.clone())).or_default();
        used.found.insert(key.to_owned());
    }

    /// Whether another job was first to use the same paths, for something else.
    pub(crate) fn is_busy(&self) -> bool {
        self.caches.state().claims.iter().any(|other| {
            let same = (&other.cache.name, &other.cache.key) == (&self.cache.name, &self.cache.key);
            other.number < self.number && other.job != self.job && !same && other.cache.overlaps(&self.cache)
        })
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.caches.state().claims.retain(|claim| claim.number != self.number);
    }
}

impl Cache {
    /// Whether both could name one file.
    fn overlaps(&self, other: &Self) -> bool {
        self.workspace == other.workspace
            && self.paths.iter().any(|path| {
                let path = glob_base(path);
                other
                    .paths
                    .iter()
                    .map(|other| glob_base(other))
                    .any(|other| path.starts_with(&other) || other.starts_with(&path))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(workspace: &str, name: &str, key: &str, paths: &[&str]) -> Cache {
        let paths = paths.iter().map(|&path| path.to_owned()).collect();
        Cache { workspace: workspace.into(), name: name.to_owned(), key: key.to_owned(), paths }
    }

    #[test]
    fn paths_overlap_where_one_file_could_be_in_both() {
        let table = [
            ("a", "a", true),
            ("a", "a/", true),
            ("./a", "a/b", true),
            ("a/b", "a/c", false),
            ("a", "ab", false),
            ("**", "a", true),
            ("a/*/x", "a/b", true),
            ("a/*/x", "b", false),
            ("a/b*", "a/c", true),
        ];
        for (one, other, overlap) in table {
            let (one, other) = (cache("w", "", "k", &[one]), cache("w", "", "l", &["z", other]));
            assert_eq!(one.overlaps(&other), overlap, "{one:?} {other:?}");
            assert_eq!(other.overlaps(&one), overlap, "{other:?} {one:?}");
        }
        assert!(!cache("v", "", "k", &["a"]).overlaps(&cache("w", "", "k", &["a"])));
    }

    #[test]
    fn who_comes_first_has_the_paths_until_the_job_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let caches = Arc::new(Caches::new(Store::open(folder.path()).unwrap()));
        let job = |name| JobId::new(name).unwrap();
        let first = caches.claim(&job("a"), cache("w", "", "k", &["x"]));
        let same = caches.claim(&job("b"), cache("w", "", "k", &["x"]));
        let other = caches.claim(&job("c"), cache("w", "", "l", &["x/y"]));
        let elsewhere = caches.claim(&job("d"), cache("v", "", "l", &["x"]));
        let own = caches.claim(&job("a"), cache("w", "n", "m", &["x"]));
        assert_eq!(
            [&first, &same, &other, &elsewhere, &own].map(Claimed::is_busy),
            [false, false, true, false, true]
        );
        drop(first);
        drop(same);
        assert!(!other.is_busy());
    }

    #[test]
    fn an_entry_stands_until_another_takes_its_paths() {
        let folder = tempfile::tempdir().unwrap();
        let caches = Caches::new(Store::open(folder.path()).unwrap());
        let (one, other) = (cache("w", "", "k", &["x"]), cache("w", "", "l", &["x"]));
        assert!(!caches.is_restored(&one, "k"));
        caches.restored(&one, "k");
        assert!(caches.is_restored(&one, "k"));
        // Found by another job's fallback key.
        assert!(caches.is_restored(&other, "k"));
        caches.restored(&other, "l");
        assert!(!caches.is_restored(&one, "k"));
    }
}

//! Jobs that may run side by side and keep the same path under different keys.

use std::collections::HashMap;

use super::graph::Needed;
use super::route;
use crate::diagnostic::{Problems, quoted};
use crate::document::{CacheEntry, CacheKey};
use crate::workflow::{Job, Workflow};

/// Warns where two host jobs of one stage, of which neither waits for the other, restore one path from two keys: they
/// share the workspace, so only one of them gets its own.
pub(super) fn warn_of_shared_paths(
    workflow: &Workflow,
    order: &[usize],
    needs: &[Vec<Needed>],
    problems: &mut Problems,
) {
    let jobs: Vec<&Job> = order.iter().filter_map(|place| workflow.jobs.get(*place)).collect();
    // A bound, not a promise: a warning is not worth walking a huge graph for every pair.
    let mut left = 200_000;
    let mut keepers: HashMap<(Option<usize>, &str), Keeper<'_>> = HashMap::new();
    for (rank, job) in jobs.iter().enumerate() {
        if route::provider(&job.definition) != route::HOST {
            continue;
        }
        for entry in job.definition.cache.iter().flat_map(|cache| cache.entries()) {
            if entry.is_disabled() {
                continue;
            }
            for path in entry.paths.iter().flat_map(|paths| &paths.value) {
                let path = plain(path);
                let keeper = Keeper { rank, job, entry };
                let Some(first) = keepers.get(&(job.stage, path)) else {
                    keepers.insert((job.stage, path), keeper);
                    continue;
                };
                if first.key() == keeper.key()
                    || first.rank == rank
                    || waits(rank, first.rank, needs, &mut left)
                {
                    continue;
                }
                let hint = format!(
                    "give {} one cache in jobs `{}` and `{}`, with one key, and with one name or the same paths; or let one need the other: they may run side by side",
                    quoted(path),
                    first.job.id,
                    job.id
                );
                problems.warning(entry.span, workflow.owners.pointer(entry.span, "cache"), hint);
            }
        }
    }
}

/// `./x/` means `x`.
fn plain(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.strip_prefix("./").unwrap_or(path)
}

struct Keeper<'a> {
    rank: usize,
    job: &'a Job,
    entry: &'a CacheEntry,
}

impl<'a> Keeper<'a> {
    /// What tells its key from others: caches of different names are kept apart, and those without by their paths.
    fn key(&self) -> (Option<&'a str>, Vec<&'a str>, Vec<&'a str>) {
        let name = self.entry.name.as_ref().map(|name| &*name.value);
        let mut paths: Vec<&str> = match name {
            Some(_) => Vec::new(),
            None => self.entry.paths.iter().flat_map(|paths| &paths.value).map(|path| plain(path)).collect(),
        };
        paths.sort_unstable();
        let parts = match self.entry.key.as_ref() {
            None => vec![],
            Some(CacheKey::Template(template)) => vec![&*template.value],
            Some(CacheKey::Spec(spec)) => {
                let files = spec.files.iter().flat_map(|files| &files.value).map(|file| &**file);
                let prefix = spec.prefix.iter().chain(spec.template.iter()).map(|text| &*text.value);
                prefix.chain(["\0"]).chain(files).collect()
            }
        };
        (name, paths, parts)
    }
}

/// Whether one of two jobs waits for the other in the end. Looks at no more than `left` needs.
fn waits(one: usize, other: usize, needs: &[Vec<Needed>], left: &mut usize) -> bool {
    let mut reaches = |from: usize, to: usize| {
        let mut open = vec![from];
        let mut seen = std::collections::HashSet::new();
        while let Some(at) = open.pop() {
            if at == to || *left == 0 {
                return true;
            }
            *left -= 1;
            if seen.insert(at) {
                open.extend(needs.get(at).into_iter().flatten().map(|need| need.rank));
            }
        }
        false
    };
    reaches(one, other) || reaches(other, one)
}

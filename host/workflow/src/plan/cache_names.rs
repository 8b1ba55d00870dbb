//! What caches refer to: a name that nothing sets is an error before the run, not in the middle of it.

use crate::diagnostic::{Problems, quoted};
use crate::document::{CacheEntry, CacheKey, Text};
use crate::owners::Owners;
use crate::predefined::PREDEFINED;
use crate::source::Span;
use crate::template::Template;
use crate::workflow::Job;

/// What only caches may refer to.
const OWN: [&str; 5] = ["head_sha", "job_id", "job_name", "pipeline_id", "run_id"];

/// Reports the names that the caches of `job` refer to in keys, paths and fallback keys, and that neither its `variables`
/// nor Loom sets.
pub(super) fn check<'v>(
    job: &Job,
    variables: impl Iterator<Item = &'v str> + Clone,
    owners: &Owners,
    problems: &mut Problems,
) {
    for entry in job.definition.cache.iter().flat_map(|cache| cache.entries()) {
        if entry.is_disabled() {
            continue;
        }
        for (span, text) in texts(entry) {
            let template = Template::parse(text).unwrap_or_default();
            for name in template.refs() {
                let known = || variables.clone().chain(OWN).chain(PREDEFINED);
                if known().any(|known| known == name) {
                    continue;
                }
                let mut names: Vec<&str> = known().collect();
                names.sort_unstable();
                names.dedup();
                let meant = problems.similar(name, names.iter().copied());
                let meant =
                    meant.map(|meant| format!("did you mean {}? ", quoted(meant))).unwrap_or_default();
                let hint = format!(
                    "{} in {} is set nowhere: {meant}write `$$` for a dollar sign, or name one of {}",
                    quoted(name),
                    quoted(text),
                    names.join(", ")
                );
                problems.error(span, owners.pointer(span, "cache"), hint);
            }
        }
    }
}

/// The texts of `entry` that are filled in.
fn texts(entry: &CacheEntry) -> impl Iterator<Item = (Span, &Text)> {
    let key = match entry.key.as_ref() {
        Some(CacheKey::Template(template)) => [Some(template), None],
        Some(CacheKey::Spec(spec)) => [spec.prefix.as_ref(), spec.template.as_ref()],
        None => [None, None],
    };
    let lists = [&entry.paths, &entry.fallback_keys].into_iter().filter_map(|list| list.as_ref());
    let listed = lists.flat_map(|list| list.value.iter().map(|text| (list.span, text)));
    key.into_iter().flatten().map(|text| (text.span, &text.value)).chain(listed)
}

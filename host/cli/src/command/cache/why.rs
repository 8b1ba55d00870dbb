//! `loom cache why`: what became of a job's caches in its last run, from what that run has left and what is stored.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use loom_cache::{Cause, Info, Store};
use loom_contract::error::{ErrorInfo, code};
use loom_contract::id::JobId;
use loom_contract::layout;
use loom_contract::receipt::RunReceipt;
use loom_contract::section::Section;
use loom_contract::summary::SectionSummary;
use loom_contract::visible::on_one_line;
use loom_contract::words::counted;
use serde::Deserialize;

use super::{shown, size, time};

/// What the section's metrics say of one cache.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    name: String,
    key: String,
    hit: bool,
    matched_key: Option<String>,
    skip_reason: Option<String>,
    files: u64,
    bytes: u64,
}

/// The files that a key was made from: path to hash.
type Inputs = BTreeMap<String, String>;

pub(super) fn why(job: &str) -> Result<String, ErrorInfo> {
    let job_id = JobId::new(job).map_err(|_| not_run(job))?;
    let repo_root = crate::command::repo_root_or_here()?;
    let (store, _) = super::open()?;
    for receipt in loom_record::read::receipts(&repo_root) {
        let dir = layout::logs_of_receipt(&receipt);
        // One that is damaged, or whose logs were removed, says nothing.
        let read = loom_record::read::document::<RunReceipt>(&receipt);
        if read.map_or(true, |read| read.is_for_comparison()) {
            continue;
        }
        let files = layout::job(&job_id);
        let summary = dir.join(files.section_summary(Section::CacheRestore));
        let Ok(summary) = loom_record::read::document::<SectionSummary>(&summary) else { continue };
        let events = loom_record::read::events(&dir.join(files.section_events(Section::CacheRestore)))
            .map_err(|error| error.to_info())?;
        let lines = summary.metrics.and_then(|mut metrics| metrics.remove("caches")).unwrap_or_default();
        let lines: Vec<Line> = serde_json::from_value(lines).unwrap_or_default();
        let inputs: Vec<(String, Inputs)> = events
            .into_iter()
            .filter_map(|event| {
                let data = event.data?;
                let inputs = serde_json::from_value(data.get("inputs")?.clone()).ok()?;
                Some((data.get("digest")?.as_str()?.to_owned(), inputs))
            })
            .collect();
        let mut text = format!("job {job} in run {}\n", summary.run_id);
        for line in &lines {
            let inputs = inputs.iter().filter(|(digest, _)| line.key.contains(digest));
            let inputs: Inputs = inputs.flat_map(|(_, inputs)| inputs.clone()).collect();
            explain(&mut text, line, &inputs, &store)?;
        }
        return Ok(text);
    }
    Err(not_run(job))
}

fn not_run(job: &str) -> ErrorInfo {
    let message = format!("no run of this repository has restored a cache for a job `{job}`");
    ErrorInfo::new(code::CACHE_FAILED, message).with_hint("name a job with `cache` that has run, by its id")
}

fn explain(text: &mut String, line: &Line, inputs: &Inputs, store: &Store) -> Result<(), ErrorInfo> {
    let _ = writeln!(text, "\n{}: key {}", shown(&line.name), on_one_line(&line.key));
    let exact = line.matched_key.as_ref() == Some(&line.key);
    let what = match (&line.skip_reason, &line.matched_key) {
        (Some(reason), _) => format!("left out: {reason}"),
        (None, Some(_)) if exact => "hit".to_owned(),
        (None, Some(matched)) => format!("hit under a fallback key: {matched}"),
        (None, None) => "miss: nothing was saved under it".to_owned(),
    };
    let _ = writeln!(text, "  {}", on_one_line(&what));
    if line.hit {
        let _ = writeln!(text, "  {}, {}", counted(line.files, "file"), size(line.bytes));
    }
    if let Ok(Some(reason)) = store.is_quarantined(&line.name, &line.key) {
        let _ = writeln!(
            text,
            "  in quarantine: job {} of run {} differed",
            on_one_line(&reason.job),
            on_one_line(&reason.run)
        );
    }
    if exact {
        return Ok(());
    }
    for eviction in store.evictions().map_err(|error| crate::command::cache_error(&error))? {
        if (&eviction.name, &eviction.key) == (&line.name, &line.key) {
            let cause = match &eviction.cause {
                Cause::Limit { max_bytes, used } => {
                    format!("the cache was larger than {}; last used {}", size(*max_bytes), time(*used))
                }
                Cause::Damaged { why } => format!("it was damaged: {}", on_one_line(why)),
            };
            let _ = writeln!(text, "  an entry was removed {}: {cause}", time(eviction.when));
        }
    }
    let listed = store.list().map_err(|error| crate::command::cache_error(&error))?;
    let others = listed.entries.iter().filter(|entry| entry.name == line.name && entry.key != line.key);
    // The nearest: most inputs in common, then the newest.
    let nearest = others.max_by_key(|entry| (common(entry, inputs), entry.saved));
    let Some(nearest) = nearest.filter(|entry| !inputs.is_empty() && !entry.origin.inputs.is_empty()) else {
        return Ok(());
    };
    let _ = writeln!(
        text,
        "  nearest entry: {}\n    saved {} by job {}",
        on_one_line(&nearest.key),
        time(nearest.saved),
        on_one_line(&nearest.origin.job)
    );
    for difference in differences(nearest, inputs) {
        let _ = writeln!(text, "    {}", on_one_line(&difference));
    }
    Ok(())
}

fn common(entry: &Info, inputs: &Inputs) -> usize {
    entry.origin.inputs.iter().filter(|(path, hash)| inputs.get(path) == Some(hash)).count()
}

/// How the files of a key differ from those of an entry.
fn differences(entry: &Info, inputs: &Inputs) -> Vec<String> {
    let then: BTreeMap<&str, &str> =
        entry.origin.inputs.iter().map(|(path, hash)| (path.as_str(), hash.as_str())).collect();
    let mut differences: Vec<String> = inputs
        .iter()
        .filter_map(|(path, hash)| match then.get(path.as_str()) {
            None => Some(format!("new:     {path}")),
            Some(then) if then != hash => Some(format!("changed: {path}")),
            Some(_) => None,
        })
        .collect();
    let gone = then.keys().filter(|path| !inputs.contains_key(**path));
    differences.extend(gone.map(|path| format!("gone:    {path}")));
    differences
}

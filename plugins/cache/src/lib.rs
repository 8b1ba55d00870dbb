//! The cache around providers: before a job, restores what earlier ones have saved; after it, saves what this one made.
//! What is restored and saved, under which key and when, is decided here; the host moves the bytes.

mod key;
mod report;
mod settings;

use std::collections::BTreeMap;
use std::time::Instant;

use loom_sdk::store::{self, Cache, Content, Lookup, Restored, Saved};
use loom_sdk::{Job, Message, Outcome, Result, Wrapper, state};
use serde::{Deserialize, Serialize};

use crate::report::{Line, Report};
use crate::settings::{CacheSettings, Caches, Policy, When};

/// Under which the keys of the job are kept for [`Wrapper::after`].
const KEYS: &str = "keys";

#[derive(Debug, Default)]
struct JobCache {
    /// As long as these live, the host keeps other jobs off their paths.
    open: Vec<Cache>,
}

loom_sdk::export_wrapper!(JobCache);

/// What is known of a cache when the job's steps are over: its key is made once.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    key: String,
    hit: bool,
    /// Why it is not to be saved, whatever becomes of the job.
    closed: Option<Closed>,
}

/// Why a cache is neither restored nor saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Closed {
    /// Its key is in quarantine.
    Quarantined,
    /// Another job uses its paths for another key: what stands there is not its own.
    Busy,
}

impl Wrapper for JobCache {
    fn before(&mut self, job: Job<'_>) -> Result<()> {
        let variables = variables(job);
        let caches = read(job, &variables)?;
        let (mut report, mut known) = (Report::new(), BTreeMap::new());
        for cache in &caches {
            if cache.disabled {
                report.add(Line::skipped(cache, "", "cache_disabled"));
                continue;
            }
            let key = make_key(cache, &variables)?;
            let open = Cache::new(&cache.name(), &key, &cache.paths);
            let (line, closed) = restore(cache, &open, &key)?;
            known.insert(cache.name(), Known { key, hit: line.is_exact_hit(), closed });
            report.add(line);
            self.open.push(open);
        }
        state::set(KEYS, serde_json::to_vec(&known)?)?;
        report.finish()
    }

    fn after(&mut self, job: Job<'_>, outcome: Outcome) -> Result<()> {
        let caches = read(job, &variables(job))?;
        let known: BTreeMap<String, Known> = match state::get(KEYS) {
            Some(kept) => serde_json::from_slice(&kept)?,
            None => BTreeMap::new(),
        };
        let mut report = Report::new();
        for cache in &caches {
            match known.get(&cache.name()) {
                Some(known) if !cache.disabled => report.add(save(cache, known, outcome)),
                _ => report.add(Line::skipped(cache, "", "cache_disabled")),
            }
        }
        report.finish()
    }
}

/// The job's caches, with their paths and fallback keys filled in.
fn read(job: Job<'_>, variables: &BTreeMap<String, String>) -> Result<Vec<CacheSettings>> {
    let caches: Caches = serde_json::from_str(&job.keyword())?;
    let mut caches = caches.into_list();
    for cache in caches.iter_mut().filter(|cache| !cache.disabled) {
        for text in &mut cache.fallback_keys {
            *text = key::fill(text, variables)?;
        }
        for path in &mut cache.paths {
            *path = within(key::fill(path, variables)?, variables);
        }
    }
    Ok(caches)
}

/// A path below the workspace, also where it was written with the workspace's own.
fn within(path: String, variables: &BTreeMap<String, String>) -> String {
    let below = variables.get("CI_PROJECT_DIR").and_then(|root| path.strip_prefix(root.as_str()));
    match below {
        Some("" | "/") => ".".to_owned(),
        Some(below) if below.starts_with('/') => below.trim_start_matches('/').to_owned(),
        _ => path,
    }
}

/// What keys, prefixes and paths may refer to.
fn variables(job: Job<'_>) -> BTreeMap<String, String> {
    let mut variables: BTreeMap<String, String> = job.predefined().into_iter().collect();
    variables.extend(job.variables());
    variables.extend([
        ("job_name".to_owned(), job.name()),
        ("job_id".to_owned(), job.id()),
        ("run_id".to_owned(), job.run_id()),
        ("pipeline_id".to_owned(), job.pipeline_id()),
    ]);
    variables.insert("head_sha".to_owned(), job.head_sha().unwrap_or_default());
    variables
}

fn make_key(cache: &CacheSettings, variables: &BTreeMap<String, String>) -> Result<String> {
    let made = key::make(cache, variables, &|globs| {
        let hash = store::hash_files(globs)?;
        Ok((hash.digest, hash.files))
    })?;
    let text = format!("{}: key `{}`, from {}", cache.label(), made.key, made.from);
    let message = if made.no_files {
        Message::warn(format!("{text}: none of them exists, so the key never changes"))
    } else {
        Message::info(text)
    };
    message.with("cache", cache.name()).with("key", made.key.as_str()).record();
    Ok(made.key)
}

/// Restores `cache`, and says why it is not to be saved.
fn restore(cache: &CacheSettings, open: &Cache, key: &str) -> Result<(Line, Option<Closed>)> {
    if let Some(reason) = open.quarantined()? {
        let text =
            format!("{}: the key is in quarantine, since {reason}; the job runs without it", cache.label());
        Message::warn(text).with("cache", cache.name()).with("key", key).record();
        return Ok((Line::skipped(cache, key, "cache_key_quarantined"), Some(Closed::Quarantined)));
    }
    if cache.policy == Policy::Push {
        return Ok((Line::skipped(cache, key, "cache_policy_push"), None));
    }
    let mut lookups = vec![(key.to_owned(), Lookup::Exact)];
    for fallback in &cache.fallback_keys {
        lookups.push((fallback.clone(), Lookup::Exact));
        lookups.push((fallback.clone(), Lookup::Prefix));
    }
    for (looked_for, by) in lookups {
        let (content, text, reason) = match open.restore(&looked_for, by)? {
            Restored::Miss => continue,
            Restored::Busy => {
                let text = format!(
                    "{}: not restored, since a running job uses its paths for another key",
                    cache.label()
                );
                Message::warn(text).with("cache", cache.name()).with("key", key).record();
                return Ok((Line::skipped(cache, key, "cache_path_busy"), Some(Closed::Busy)));
            }
            Restored::Hit(content) => (content, "restored", None),
            Restored::Already(content) => {
                (content, "an earlier job has restored", Some("cache_already_restored"))
            }
        };
        say_hit(cache, text, key, &content);
        return Ok((Line::hit(cache, key, content, reason), None));
    }
    Message::info(format!("{}: nothing is saved under the key", cache.label()))
        .with("cache", cache.name())
        .with("key", key)
        .record();
    Ok((Line::miss(cache, key), None))
}

fn say_hit(cache: &CacheSettings, what: &str, key: &str, content: &Content) {
    let under = if content.key == key { String::new() } else { format!(", saved under `{}`", content.key) };
    let text = format!("{}: {what} {}{under}", cache.label(), amount(content));
    Message::info(text).with("cache", cache.name()).with("key", content.key.as_str()).record();
}

/// How much `content` is, in words.
fn amount(content: &Content) -> String {
    format!("{}, {}", counted(content.files, "file"), counted(content.bytes, "byte"))
}

fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Saves `cache` where its settings allow. That it cannot be saved is told and no more: the job's result stands.
fn save(cache: &CacheSettings, known: &Known, outcome: Outcome) -> Line {
    let key = known.key.as_str();
    let met = match cache.when {
        When::Always => true,
        When::OnSuccess => outcome == Outcome::Success,
        When::OnFailure => outcome == Outcome::Failed,
    };
    let reason = if cache.policy == Policy::Pull {
        Some("cache_policy_pull")
    } else if let Some(closed) = known.closed {
        Some(match closed {
            Closed::Quarantined => "cache_key_quarantined",
            Closed::Busy => "cache_path_busy",
        })
    } else if !met {
        Some("cache_when_not_met")
    } else {
        None
    };
    if let Some(reason) = reason {
        return Line::skipped(cache, key, reason).with_hit(known.hit);
    }
    let begun = Instant::now();
    match Cache::new(&cache.name(), key, &cache.paths).save() {
        Ok(Saved::Stored(content)) => {
            let text = format!(
                "{}: saved {} under `{key}`; the store grew by {} in {} ms",
                cache.label(),
                amount(&content),
                counted(content.stored_bytes, "byte"),
                begun.elapsed().as_millis()
            );
            Message::info(text).with("cache", cache.name()).with("key", key).record();
            Line::saved(cache, content)
        }
        Ok(Saved::Unchanged) => Line::skipped(cache, key, "cache_unchanged").with_hit(known.hit),
        Ok(Saved::Nothing) => {
            let text =
                format!("{}: not saved, since nothing is at {}", cache.label(), cache.paths.join(", "));
            Message::warn(text).with("cache", cache.name()).record();
            Line::miss(cache, key)
        }
        Err(error) => {
            Message::warn(format!("{}: not saved: {error}", cache.label()))
                .with("cache", cache.name())
                .record();
            Line::miss(cache, key)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_workspace_is_one_below_it() {
        let variables = [("CI_PROJECT_DIR".to_owned(), "/w/s".to_owned())].into();
        for (path, expected) in [
            ("/w/s/a/b", "a/b"),
            ("/w/s//a", "a"),
            ("/w/s", "."),
            ("/w/s/", "."),
            ("/w/store/a", "/w/store/a"),
            ("/etc", "/etc"),
            ("a/b", "a/b"),
        ] {
            assert_eq!(within(path.to_owned(), &variables), expected, "{path}");
        }
    }
}

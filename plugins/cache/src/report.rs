//! What the sections say in numbers: one section serves all caches of a job.

use std::time::Instant;

use loom_sdk::store::Content;
use loom_sdk::{Result, section};
use serde::Serialize;

use crate::settings::CacheSettings;

/// The metrics of a section, as the runtime contract has them.
#[derive(Debug)]
pub(crate) struct Report {
    begun: Instant,
    caches: Vec<Line>,
}

/// One cache.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    name: String,
    key: String,
    hit: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    matched_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skip_reason: Option<&'static str>,
    files: u64,
    bytes: u64,
    stored_bytes: u64,
}

#[derive(Serialize)]
struct Metrics {
    hit: bool,
    files: u64,
    bytes: u64,
    stored_bytes: u64,
    duration_ms: u64,
    caches: Vec<Line>,
}

impl Line {
    fn new(cache: &CacheSettings, key: &str) -> Self {
        Self {
            name: cache.name(),
            key: key.to_owned(),
            hit: false,
            matched_key: None,
            skip_reason: None,
            files: 0,
            bytes: 0,
            stored_bytes: 0,
        }
    }

    pub(crate) fn miss(cache: &CacheSettings, key: &str) -> Self {
        Self::new(cache, key)
    }

    pub(crate) fn skipped(cache: &CacheSettings, key: &str, reason: &'static str) -> Self {
        Self { skip_reason: Some(reason), ..Self::new(cache, key) }
    }

    /// An entry was found; `reason` says why nothing was done with it.
    pub(crate) fn hit(
        cache: &CacheSettings,
        key: &str,
        content: Content,
        reason: Option<&'static str>,
    ) -> Self {
        let Content { key: matched, files, bytes, stored_bytes } = content;
        let line =
            Self { hit: true, skip_reason: reason, files, bytes, stored_bytes, ..Self::new(cache, key) };
        Self { matched_key: Some(matched), ..line }
    }

    pub(crate) fn saved(cache: &CacheSettings, content: Content) -> Self {
        let Content { key, files, bytes, stored_bytes } = content;
        Self { files, bytes, stored_bytes, ..Self::new(cache, &key) }
    }

    pub(crate) fn with_hit(self, hit: bool) -> Self {
        Self { hit, ..self }
    }

    pub(crate) fn is_exact_hit(&self) -> bool {
        self.matched_key.as_ref() == Some(&self.key)
    }
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), caches: Vec::new() }
    }

    pub(crate) fn add(&mut self, line: Line) {
        self.caches.push(line);
    }

    /// Tells the host. The section is left out only where every cache was.
    pub(crate) fn finish(self) -> Result<()> {
        let sum = |of: fn(&Line) -> u64| self.caches.iter().map(of).sum();
        let reasons: Option<Vec<&str>> = self.caches.iter().map(|line| line.skip_reason).collect();
        let metrics = Metrics {
            hit: self.caches.iter().all(|line| line.hit),
            files: sum(|line| line.files),
            bytes: sum(|line| line.bytes),
            stored_bytes: sum(|line| line.stored_bytes),
            duration_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            caches: self.caches,
        };
        section::metrics(&serde_json::to_string(&metrics)?)?;
        match reasons.as_deref() {
            Some([first, ..]) => section::skip(first),
            _ => Ok(()),
        }
    }
}

//! What was found, in a document and in words.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use loom_contract::cache_diff::{
    Blamed, CacheDiff, CacheKey, CachesUsed, Cause, ComparedRun, Difference, Verdict,
};
use loom_contract::layout::RuntimePath;
use loom_contract::status::RunStatus;
use loom_contract::time::Timestamp;
use loom_contract::version;
use loom_contract::visible::on_one_line;
use loom_contract::words::counted;

use super::blame::{Finding, named};
use super::facts::{Facts, Place, Subject};
use crate::command::command_line;
use crate::command::run::Given;
use crate::command::source::Source;

/// Differences that are shown at most, of each job and of the workspace, and noted in a quarantine.
const SHOWN: usize = 20;
/// Differences that are listed in the document at most.
const LISTED: usize = 1000;

/// A run that was made.
pub(super) struct Made {
    pub(super) receipt: PathBuf,
    exit_code: i32,
    caches: CachesUsed,
    keys: Vec<CacheKey>,
    reason: String,
}

impl Made {
    pub(super) fn new(receipt: &Path, exit_code: i32, given: Given<'_>, reason: &str) -> Self {
        let (caches, keys) = match given {
            Given::None => (CachesUsed::Off, Vec::new()),
            Given::All(_) => (CachesUsed::All, Vec::new()),
            Given::Some(_, keys) => (CachesUsed::Some, keys.iter().cloned().collect()),
        };
        Self { receipt: receipt.to_owned(), exit_code, caches, keys, reason: reason.to_owned() }
    }
}

/// All that is known when the last run has been looked at.
pub(super) struct Outcome<'a> {
    pub(super) source: &'a Source,
    pub(super) started_at: Timestamp,
    pub(super) finished_at: Timestamp,
    pub(super) exit_code: i32,
    pub(super) without: &'a Path,
    pub(super) with: &'a Path,
    /// Of the run without caches, and of the one with them.
    pub(super) facts: (&'a Facts, &'a Facts),
    pub(super) differ: &'a BTreeSet<Place>,
    pub(super) finding: &'a Finding,
    pub(super) made: &'a [Made],
}

impl Outcome<'_> {
    fn verdict(&self) -> Verdict {
        match self.finding {
            _ if self.differ.is_empty() => Verdict::Same,
            finding if !finding.blamed.is_empty() => Verdict::CachesChangeResult,
            finding if finding.unknown.is_empty() => Verdict::NotDeterministic,
            _ => Verdict::Undecided,
        }
    }

    fn words(&self, place: &Place) -> String {
        self.facts.0.words(self.facts.1, place)
    }

    fn cause(&self, place: &Place) -> Cause {
        let finding = self.finding;
        if finding.blamed.iter().any(|(_, places)| places.contains(place)) {
            Cause::Caches
        } else if finding.not_deterministic.contains(place) {
            Cause::NotDeterministic
        } else {
            Cause::Unknown
        }
    }

    /// The document of the comparison.
    pub(super) fn document(&self) -> CacheDiff {
        let root = &self.source.repo_root;
        let below = |path: &Path| RuntimePath::new(root, path);
        let run = |made: &Made| ComparedRun {
            receipt_path: below(&made.receipt),
            exit_code: made.exit_code,
            caches: made.caches,
            keys: made.keys.clone(),
            reason: made.reason.clone(),
        };
        let difference = |place: &Place| Difference {
            job: match &place.subject {
                Subject::Job(job) => Some(job.clone()),
                Subject::Workspace => None,
            },
            what: self.words(place),
            cause: self.cause(place),
        };
        let blamed = |(keys, places): &(BTreeSet<CacheKey>, BTreeSet<Place>)| Blamed {
            keys: keys.iter().cloned().collect(),
            differences: places.iter().take(LISTED).map(|place| self.line(place)).collect(),
        };
        CacheDiff {
            schema_version: Cow::Borrowed(version::V1),
            kind: Cow::Borrowed(version::KIND_CACHE_DIFF),
            loom_version: env!("CARGO_PKG_VERSION").to_owned(),
            command: command_line(),
            repo_root: root.to_string_lossy().into_owned(),
            workflow_path: self.source.workflow_path.to_string_lossy().into_owned(),
            started_at: self.started_at,
            finished_at: self.finished_at,
            duration_ms: self.finished_at.millis_since(self.started_at),
            status: RunStatus::of_exit_code(self.exit_code),
            exit_code: self.exit_code,
            verdict: self.verdict(),
            receipt_without_caches: below(self.without),
            receipt_with_caches: below(self.with),
            runs: self.made.iter().map(run).collect(),
            differences: self.differ.iter().take(LISTED).map(difference).collect(),
            differences_left_out: self.differ.len().saturating_sub(LISTED) as u64,
            blamed: self.finding.blamed.iter().map(blamed).collect(),
            innocent: self.finding.innocent.iter().cloned().collect(),
            undecided: self.finding.undecided.iter().cloned().collect(),
        }
    }

    /// What differs, and whose it is.
    fn line(&self, place: &Place) -> String {
        let whose = match &place.subject {
            Subject::Job(job) => format!("job {job}"),
            Subject::Workspace => "workspace".to_owned(),
        };
        format!("{whose}: {}", self.words(place))
    }

    /// What the quarantine of `key`, one of `keys` that are to blame for `places`, says.
    pub(super) fn reasons(
        &self,
        keys: &BTreeSet<CacheKey>,
        key: &CacheKey,
        places: &BTreeSet<Place>,
    ) -> Vec<String> {
        let others: Vec<String> = keys.iter().filter(|other| *other != key).map(named).collect();
        let together = (!others.is_empty()).then(|| format!("only together with {}", others.join(", ")));
        let more = places.len().saturating_sub(SHOWN);
        let more = (more > 0).then(|| format!("and {more} more"));
        let lines = places.iter().take(SHOWN).map(|place| self.line(place));
        together.into_iter().chain(lines).chain(more).collect()
    }
}

/// The lines that tell what `found` says; only what it comes to where it is to be `short`.
pub(super) fn verdict(found: &CacheDiff, short: bool) -> String {
    let hits = found.innocent.len()
        + found.undecided.len()
        + found.blamed.iter().map(|b| b.keys.len()).sum::<usize>();
    let mut text = "cache-diff: ".to_owned();
    text.push_str(match found.verdict {
        Verdict::Same if hits == 0 => {
            "the same with caches and without, but no key hit: there was nothing to restore"
        }
        Verdict::Same => "the same with caches and without",
        Verdict::CachesChangeResult => "caches change the result",
        Verdict::NotDeterministic => {
            "the jobs do not come to the same each time, caches or not; no cache is to blame"
        }
        Verdict::Undecided => {
            "the result is not the same with caches and without, and what causes it was not found"
        }
    });
    text.push('\n');
    if !short {
        table(&mut text, found);
    }
    for blamed in &found.blamed {
        let note = if blamed.keys.len() > 1 { " (only together)" } else { "" };
        for key in &blamed.keys {
            let name = if key.name.is_empty() { "cache" } else { &key.name };
            let _ = writeln!(text, "quarantined: {} {}{note}", on_one_line(name), on_one_line(&key.key));
        }
    }
    if !found.undecided.is_empty() {
        let keys = counted(found.undecided.len() as u64, "key");
        let _ = writeln!(text, "not tried to the end, and not in quarantine: {keys} that hit");
    }
    text
}

fn table(text: &mut String, found: &CacheDiff) {
    let subject = |difference: &Difference| {
        difference.job.as_ref().map_or_else(|| "workspace".to_owned(), |job| job.to_string())
    };
    let width = found.differences.iter().map(|d| subject(d).chars().count()).max().unwrap_or_default();
    let mut shown = ("", 0);
    let subjects: Vec<String> = found.differences.iter().map(subject).collect();
    for (difference, subject) in found.differences.iter().zip(&subjects) {
        if shown.0 != subject {
            shown = (subject, 0);
        }
        shown.1 += 1;
        let all = subjects.iter().filter(|other| *other == subject).count();
        if shown.1 == SHOWN + 1 {
            let _ = writeln!(text, "  {subject:<width$}  and {} more", all - SHOWN);
        }
        if shown.1 > SHOWN {
            continue;
        }
        let note = match (difference.cause, found.verdict) {
            (Cause::NotDeterministic, Verdict::CachesChangeResult | Verdict::Undecided) => {
                " (not the same each time, caches or not)"
            }
            (Cause::Unknown, Verdict::CachesChangeResult) => " (what causes it was not found)",
            _ => "",
        };
        let _ = writeln!(text, "  {subject:<width$}  {}{note}", on_one_line(&difference.what));
    }
    if found.differences_left_out > 0 {
        let _ = writeln!(text, "  and {} more", found.differences_left_out);
    }
}

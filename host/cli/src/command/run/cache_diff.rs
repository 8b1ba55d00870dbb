//! `loom run --cache-diff`: whether caches change what a run comes to, and which.
//!
//! ```text
//!  run without caches, run with them ──> facts: what each came to ──> compared
//!                                            │ where they differ
//!                                            └──> blame: more runs, with some entries or none ──> who causes it
//!  words: the document, the terminal, the reasons of quarantines
//! ```
//!
//! Every run works in a copy of the repository of its own and, so that all find the same entries, with a store of its own
//! that begins as the repository's: what they save is thrown away.

mod blame;
mod facts;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use loom_cache::{Reason, Store};
use loom_contract::cache_diff::CacheKey;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::exit;
use loom_contract::id::JobId;
use loom_contract::layout;
use loom_contract::redacted::Redacted;
use loom_engine::clock::Clock;
use loom_engine::process;
use loom_engine::redact::Redactor;
use loom_plugin_host::Use;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use self::blame::{Finding, Suspect, Trial};
use self::facts::{Facts, Kept, Subject};
use self::words::{Made, Outcome};
use super::{Compared, Done, Given, Mode, Place, execute, receipt_line};
use crate::args;
use crate::command::source::Source;
use crate::failure;
use crate::terminal::{self, Terminal};
use crate::text::Text;

pub(super) fn run(
    args: &args::Run,
    terminal: Terminal,
    clock: Clock,
    redactor: &Redactor,
) -> Result<i32, ErrorInfo> {
    let heard = Heard::listen();
    let done = compare(args, terminal, clock, redactor, &heard);
    match (done, heard.signal()) {
        // It came between two runs, or while what they left was read.
        (Err(_), Some(signal)) => {
            terminal.say(format!("loom run: cancelled by {}\n", failure::signal_name(signal)));
            Ok(exit::of_signal(signal))
        }
        (done, _) => done,
    }
}

fn compare(
    args: &args::Run,
    terminal: Terminal,
    clock: Clock,
    redactor: &Redactor,
    heard: &Heard,
) -> Result<i32, ErrorInfo> {
    let source = Source::find(&args.workflow)?;
    let pair = Pair { args, terminal, redactor, source: &source, heard };
    let mut made = Vec::new();
    let why = "without caches";
    let first = pair.execute(clock, Given::None, why, &mut made)?;
    let Some(without) = first.compared else { return Ok(first.exit_code) };
    let frozen = Frozen::make(&without.place, &source.repo_root)?;
    let why = "with caches";
    let second = pair.execute(Clock::start(), Given::All(&frozen.folder), why, &mut made)?;
    let Some(with) = second.compared else { return Ok(second.exit_code) };

    let uses = with.caches.as_ref().map(|caches| caches.uses()).unwrap_or_default();
    let suspects = suspects(&uses, &with);
    let kept = kept(&uses, &with);
    let facts = |compared: &Compared| -> Result<Facts, ErrorInfo> {
        let mut facts = Facts::of(compared, &heard.stop)?;
        facts.leave_out(&kept)?;
        Ok(facts)
    };
    let (first_facts, second_facts) = (facts(&without)?, facts(&with)?);
    let differ = first_facts.differ(&second_facts);
    let mut cancelled = None;
    let finding = if differ.is_empty() {
        let innocent = suspects.iter().map(|suspect| suspect.key.clone()).collect();
        Finding { innocent, ..Finding::default() }
    } else {
        pair.say(&format!("the two differ; at most {} more runs find out why", blame::MOST_TRIALS));
        let mut trial = |trial: &Trial| {
            let given = match trial.keys.is_empty() {
                true => Given::None,
                false => Given::Some(&frozen.folder, &trial.keys),
            };
            let done = pair.execute(Clock::start(), given, &trial.why, &mut made)?;
            let Some(compared) = done.compared else {
                cancelled = Some(done.exit_code);
                return Ok(None);
            };
            let facts = facts(&compared);
            compared.slot.remove();
            facts.map(Some)
        };
        let found = blame::find(&first_facts, &second_facts, &suspects, &mut trial)?;
        let Some(found) = found else { return Ok(cancelled.unwrap_or(exit::FAILURE)) };
        found
    };
    let exit_code = if differ.is_empty() { second.exit_code } else { exit::FAILURE };
    let outcome = Outcome {
        source: &source,
        started_at: clock.started_at(),
        finished_at: clock.now(),
        exit_code,
        without: &without.receipt,
        with: &with.receipt,
        facts: (&first_facts, &second_facts),
        differ: &differ,
        finding: &finding,
        made: &made,
    };
    let quarantined = quarantine(&source, &with, &outcome, &suspects, redactor);
    let document = Redacted::new(outcome.document(), redactor);
    let receipts: Vec<PathBuf> = made.iter().map(|made| made.receipt.clone()).collect();
    let path = with
        .receipt
        .with_extension("")
        .with_added_extension(layout::CACHE_DIFF_SUFFIX.trim_start_matches('.'));
    loom_record::write_cache_diff(&source.repo_root, &path, &document, &receipts, redactor)
        .map_err(|error| error.to_info())?;
    if let Err(error) = quarantined {
        let message = format!(
            "--cache-diff: caches change the result, but their keys cannot be put into quarantine: {}",
            error.message
        );
        return Err(ErrorInfo { message, ..error });
    }
    if !differ.is_empty() && !with.kept.is_empty() {
        pair.say(&format!(
            "the run with caches also found what earlier runs left in kept folders ({}); \
             `loom run --local --fresh` begins without",
            with.kept.join(", ")
        ));
    }
    pair.say_end(&document, &with.reason, &[&path, &without.receipt, &with.receipt]);
    if exit_code == exit::SUCCESS {
        // What failed or differs is to be looked at.
        without.slot.remove();
        if with.kept.is_empty() {
            with.slot.remove();
        }
    }
    Ok(exit_code)
}

/// What the runs of a comparison have in common.
struct Pair<'a> {
    args: &'a args::Run,
    terminal: Terminal,
    redactor: &'a Redactor,
    source: &'a Source,
    heard: &'a Heard,
}

impl Pair<'_> {
    /// Makes a run, and says `why`.
    fn execute(
        &self,
        clock: Clock,
        given: Given<'_>,
        why: &str,
        made: &mut Vec<Made>,
    ) -> Result<Done, ErrorInfo> {
        if self.heard.signal().is_some() {
            return Err(ErrorInfo::new(code::CANCELLED, "the run was cancelled"));
        }
        let why = Redacted::new(why.to_owned(), self.redactor);
        self.say(&format!("run {}, {why}", made.len() + 1));
        let done = execute(self.args, self.terminal, clock, Mode::Compared(given), self.redactor)?;
        if let Some(compared) = &done.compared {
            made.push(Made::new(&compared.receipt, done.exit_code, given, &why));
        }
        Ok(done)
    }

    /// Says what is being done.
    fn say(&self, what: &str) {
        if !self.args.quiet {
            self.terminal.say(format!("cache-diff: {what}\n"));
        }
    }

    /// Says what came of it, the receipts, and the error last.
    fn say_end(
        &self,
        document: &Redacted<loom_contract::cache_diff::CacheDiff>,
        reason: &ErrorInfo,
        receipts: &[&Path],
    ) {
        let mut text = Text::from(words::verdict(document, self.args.quiet));
        let receipts: String =
            receipts.iter().map(|path| receipt_line(&self.source.repo_root, path, self.redactor)).collect();
        if document.exit_code == exit::SUCCESS {
            text.push("loom run passed\n");
            text.push(&receipts);
        } else {
            text.push(&receipts);
            match document.differences.is_empty() {
                true => text.append(failure::told("run", reason)),
                false => text.push("loom run: --cache-diff found differences (exit code 1)\n"),
            }
        }
        self.terminal.say(text);
        terminal::drain();
    }
}

/// Listens for signals as long as it lives: also between the runs, which listen for themselves.
struct Heard {
    /// The number of the last signal; 0 before the first.
    signal: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    listeners: Vec<signal_hook::SigId>,
}

impl Heard {
    fn listen() -> Self {
        let (signal, stop) = (Arc::default(), Arc::default());
        let ignored = process::ignored_signals();
        let mut listeners = Vec::new();
        for number in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|number| !ignored.contains(number)) {
            let value = usize::try_from(number).unwrap_or_default();
            listeners.extend(flag::register_usize(number, Arc::clone(&signal), value));
            listeners.extend(flag::register(number, Arc::clone(&stop)));
        }
        Self { signal, stop, listeners }
    }

    fn signal(&self) -> Option<i32> {
        i32::try_from(self.signal.load(Ordering::SeqCst)).ok().filter(|signal| *signal != 0)
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        for listener in self.listeners.drain(..) {
            signal_hook::low_level::unregister(listener);
        }
    }
}

/// The repository's store as it was when the comparison began.
struct Frozen<'a> {
    place: &'a Place,
    folder: PathBuf,
}

impl<'a> Frozen<'a> {
    /// Made in the name of the run whose place is `place`, which has not ended.
    fn make(place: &'a Place, repo_root: &Path) -> Result<Self, ErrorInfo> {
        let owned =
            |error: &loom_ownership::Error| crate::command::ownership_error(code::CACHE_FAILED, error);
        let store = place.folders.cache_store(repo_root).map_err(|error| owned(&error))?;
        let folder = place.staging.with_added_extension("caches");
        place.ledger.make_folder(&folder, 0o700).map_err(|error| owned(&error))?;
        let frozen = Self { place, folder };
        let linked = Store::open(&store).and_then(|store| store.linked(&frozen.folder));
        linked.map_err(|error| crate::command::cache_error(&error))?;
        Ok(frozen)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.place.remove(&self.folder);
    }
}

/// Where `job` leaves its files: where it works.
fn files_of(job: &JobId, compared: &Compared) -> Subject {
    let seen = compared.seen.lock();
    if seen.contains_key(job) { Subject::Job(job.clone()) } else { Subject::Workspace }
}

/// The keys that hit.
fn suspects(uses: &BTreeMap<(JobId, String), Use>, with: &Compared) -> Vec<Suspect> {
    let mut suspects: BTreeMap<CacheKey, BTreeSet<Subject>> = BTreeMap::new();
    for ((job, name), used) in uses {
        for key in &used.found {
            let key = CacheKey { name: name.clone(), key: key.clone() };
            let subjects = suspects.entry(key).or_default();
            subjects.extend([Subject::Job(job.clone()), files_of(job, with)]);
        }
    }
    suspects.into_iter().map(|(key, subjects)| Suspect { key, subjects }).collect()
}

/// What caches keep, where jobs work.
fn kept(uses: &BTreeMap<(JobId, String), Use>, with: &Compared) -> Kept {
    let mut kept = Kept::new();
    for ((job, _), used) in uses {
        kept.entry(files_of(job, with)).or_default().extend(used.paths.iter().cloned());
    }
    // Folders that stay in the workspace are a cache, too.
    if !with.kept.is_empty() {
        kept.entry(Subject::Workspace).or_default().extend(with.kept.iter().cloned());
        for job in with.seen.lock().keys() {
            kept.entry(Subject::Job(job.clone())).or_default().extend(with.kept.iter().cloned());
        }
    }
    kept
}

/// Puts what is blamed into quarantine, each key with what it changes.
fn quarantine(
    source: &Source,
    with: &Compared,
    outcome: &Outcome<'_>,
    suspects: &[Suspect],
    redactor: &Redactor,
) -> Result<(), ErrorInfo> {
    if outcome.finding.blamed.is_empty() {
        return Ok(());
    }
    let store = with.place.folders.cache_store(&source.repo_root);
    let store = store.map_err(|error| crate::command::ownership_error(code::CACHE_FAILED, &error))?;
    let failed = |error: loom_cache::Error| crate::command::cache_error(&error);
    let store = Store::open(&store).map_err(failed)?;
    let logs = layout::logs_of_receipt(&with.receipt);
    let run = logs.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for (keys, places) in &outcome.finding.blamed {
        for key in keys {
            let subjects = suspects.iter().filter(|suspect| suspect.key == *key).flat_map(|s| &s.subjects);
            let jobs: Vec<&JobId> = subjects
                .filter_map(|subject| match subject {
                    Subject::Job(job) => Some(job),
                    Subject::Workspace => None,
                })
                .collect();
            // Of the jobs that had the entry, one that differs itself, where there is one.
            let differs =
                |job: &&&JobId| places.iter().any(|place| place.subject == Subject::Job((**job).clone()));
            let job = jobs.iter().find(differs).or(jobs.first());
            let job = job.map(|job| job.to_string()).unwrap_or_default();
            let differences = Redacted::new(outcome.reasons(keys, key, places), redactor).into_inner();
            let reason = Reason { run: run.clone(), job, differences, when: SystemTime::now() };
            store.quarantine(&key.name, &key.key, &reason).map_err(failed)?;
        }
    }
    Ok(())
}

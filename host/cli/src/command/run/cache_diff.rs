//! `loom run --cache-diff`: whether caches change what a run comes to.
//!
//! Two runs, without caches and with them, each in a copy of the repository of its own, are compared by what they left:
//! how jobs and steps ended, artifacts, and the workspaces. Times and the order of output do not count. The keys that hit
//! where something differs go into quarantine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use fs_err as fs;
use loom_cache::{Reason, Store, key};
use loom_contract::error::{ErrorInfo, code};
use loom_contract::exit;
use loom_contract::graph_ir::Cache;
use loom_contract::id::JobId;
use loom_contract::layout;
use loom_contract::manifest::{JobManifest, PipelineManifest};
use loom_contract::receipt::RunReceipt;
use loom_contract::redacted::{Mask, Redact, Redacted};
use loom_contract::section::Section;
use loom_contract::visible::on_one_line;
use loom_engine::clock::Clock;
use loom_engine::redact::{MASK_BEGINS, Redactor};

use super::{Done, Mode, Place, execute};
use crate::args;
use crate::command::source::Source;
use crate::config::Flags;
use crate::terminal::{self, Terminal};

/// Differences that are listed at most, of each job and of the workspace.
const LISTED: usize = 20;

/// What a run has left.
struct Left {
    receipt_path: PathBuf,
    receipt: RunReceipt,
    jobs: BTreeMap<JobId, JobManifest>,
    logs: PathBuf,
    workspace: Option<PathBuf>,
}

/// A key that hit, by the name of its cache.
type Hit = (String, String);

pub(super) fn run(
    args: &args::Run,
    terminal: Terminal,
    clock: Clock,
    redactor: &Redactor,
) -> Result<Done, ErrorInfo> {
    let source = Source::find(&args.workflow)?;
    terminal.say("cache-diff: the first of two runs, without caches\n");
    let without = execute(args, terminal, clock, Mode::Compared { caches_off: true }, redactor)?;
    if without.signal.is_some() {
        return Ok(without);
    }
    terminal.say("cache-diff: the second run, with caches\n");
    let with = execute(args, terminal, Clock::start(), Mode::Compared { caches_off: false }, redactor)?;
    let (Some(first), Some(second), None) = (&without.receipt, &with.receipt, with.signal) else {
        return Ok(with);
    };
    let first = Left::read(first, without.place.as_ref())?;
    let second = Left::read(second, with.place.as_ref())?;
    // They name files, and are shown and stored.
    let differences = Redacted::new(compare(&first, &second)?, redactor);
    if differences.is_empty() {
        for (left, done) in [(&first, &without), (&second, &with)] {
            // A failed run's workspace is to be looked at.
            if let (exit::SUCCESS, Some(place)) = (left.receipt.exit_code, &done.place) {
                place.remove(&place.workspace);
            }
        }
        terminal.say("cache-diff: the same with caches and without\n");
        terminal::drain();
        return Ok(with);
    }
    let quarantined = quarantine(&source, &second, &differences)?;
    terminal.say(words(&first, &second, &differences, &quarantined));
    terminal::drain();
    Ok(Done { exit_code: exit::FAILURE, ..with })
}

impl Left {
    fn read(receipt: &Path, place: Option<&Place>) -> Result<Self, ErrorInfo> {
        let told = |error: loom_record::RecordError| error.to_info();
        let read: RunReceipt = loom_record::read::document(receipt).map_err(told)?;
        let logs = layout::logs_of_receipt(receipt);
        let manifest: PipelineManifest =
            loom_record::read::document(&logs.join(layout::PIPELINE_MANIFEST)).map_err(told)?;
        let mut jobs = BTreeMap::new();
        for job in manifest.jobs {
            let manifest = loom_record::read::document(&logs.join(&job.manifest_path)).map_err(told)?;
            jobs.insert(job.job_id, manifest);
        }
        let made = place.filter(|_| read.snapshot_path.is_some());
        let workspace = made.map(|place| place.workspace.clone());
        Ok(Self { receipt_path: receipt.to_owned(), receipt: read, jobs, logs, workspace })
    }

    /// The keys that `job` got an entry from.
    fn hits(&self, job: &JobId) -> Vec<Hit> {
        let sections = self.jobs.get(job).map(|job| job.system_sections.as_slice()).unwrap_or_default();
        let restore = sections.iter().find(|section| section.section == Section::CacheRestore);
        let caches = restore.and_then(|section| section.metrics.as_ref()?.get("caches")?.as_array());
        let text = |value: &serde_json::Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
        caches
            .into_iter()
            .flatten()
            .filter_map(|cache| Some((text(cache, "name").unwrap_or_default(), text(cache, "matched_key")?)))
            .collect()
    }
}

/// What differs, by job; what differs in the workspace that host jobs share has no job.
#[derive(Default)]
struct Differences {
    jobs: BTreeMap<JobId, Vec<String>>,
    workspace: Vec<String>,
}

impl Redact for Differences {
    fn redact(&mut self, mask: &dyn Mask) {
        self.jobs.redact(mask);
        self.workspace.redact(mask);
    }
}

impl Differences {
    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.workspace.is_empty()
    }
}

fn compare(without: &Left, with: &Left) -> Result<Differences, ErrorInfo> {
    let mut differences = Differences::default();
    let names: BTreeSet<&JobId> = without.jobs.keys().chain(with.jobs.keys()).collect();
    for name in names {
        let found = match (without.jobs.get(name), with.jobs.get(name)) {
            (Some(one), Some(other)) => compare_jobs(without, one, with, other)?,
            (Some(_), None) => vec!["only the run without caches has it".to_owned()],
            _ => vec!["only the run with caches has it".to_owned()],
        };
        if !found.is_empty() {
            differences.jobs.insert(name.clone(), found);
        }
    }
    if let (Some(one), Some(other)) = (&without.workspace, &with.workspace) {
        differences.workspace = compare_workspaces(one, other, &cache_paths(&with.receipt))?;
    }
    Ok(differences)
}

fn compare_jobs(
    without: &Left,
    one: &JobManifest,
    with: &Left,
    other: &JobManifest,
) -> Result<Vec<String>, ErrorInfo> {
    let mut found = Vec::new();
    if one.status != other.status {
        found.push(format!("{} without caches, {} with them", one.status, other.status));
    }
    for (one, other) in one.steps.iter().zip(&other.steps) {
        if (one.status, one.exit_code) != (other.status, other.exit_code) {
            let end =
                |code: Option<i32>| code.map_or("did not run".to_owned(), |code| format!("exit code {code}"));
            found.push(format!(
                "step {}: {} without caches, {} with them",
                one.step,
                end(one.exit_code),
                end(other.exit_code)
            ));
        }
    }
    let artifacts = |left: &Left, job: &JobManifest| -> BTreeMap<PathBuf, PathBuf> {
        let folder = layout::job(&job.job_id).artifacts();
        let paths = job.artifacts.iter().flat_map(|artifacts| &artifacts.paths);
        paths
            .map(|path| {
                let below = Path::new(path).strip_prefix(&folder).unwrap_or(Path::new(path));
                (below.to_owned(), left.logs.join(path))
            })
            .collect()
    };
    let (ours, theirs) = (artifacts(without, one), artifacts(with, other));
    let names: BTreeSet<&PathBuf> = ours.keys().chain(theirs.keys()).collect();
    for name in names {
        if let Some(how) =
            compare_files(ours.get(name).map(PathBuf::as_path), theirs.get(name).map(PathBuf::as_path))?
        {
            found.push(format!("artifact {}: {how}", name.display()));
        }
    }
    Ok(found)
}

/// The globs that any job keeps: what they name is the caches' own affair.
fn cache_paths(receipt: &RunReceipt) -> Vec<String> {
    let graph: Option<loom_contract::graph_ir::GraphIr> =
        serde_json::from_value(serde_json::to_value(&receipt.graph_ir).unwrap_or_default()).ok();
    let nodes = graph.into_iter().flat_map(|graph| graph.nodes);
    let caches: Vec<Cache> = nodes.filter_map(|node| node.cache).collect();
    caches.iter().flat_map(Cache::entries).flat_map(|entry| entry.paths.clone()).collect()
}

fn compare_workspaces(one: &Path, other: &Path, kept: &[String]) -> Result<Vec<String>, ErrorInfo> {
    compare_folders(one, other, |all| {
        let kept = key::select(all, kept).map_err(|error| crate::command::cache_error(&error))?;
        Ok(kept.into_iter().map(Path::to_owned).collect())
    })
}

/// How two folders differ, but for what `ignored` chooses of all paths. One that does not exist is empty.
fn compare_folders(
    one: &Path,
    other: &Path,
    ignored: impl FnOnce(&[PathBuf]) -> Result<BTreeSet<PathBuf>, ErrorInfo>,
) -> Result<Vec<String>, ErrorInfo> {
    let never = AtomicBool::new(false);
    let list = |folder: &Path| match folder.is_dir() {
        true => loom_workspace::list_everything(folder, &never)
            .map_err(|error| ErrorInfo::new(code::WORKSPACE_FAILED, error.to_string())),
        false => Ok(Vec::new()),
    };
    let all: BTreeSet<PathBuf> = list(one)?.into_iter().chain(list(other)?).collect();
    let all: Vec<PathBuf> = all.into_iter().collect();
    let ignored = ignored(&all)?;
    let mut found = Vec::new();
    for path in all.iter().filter(|path| !ignored.contains(*path)) {
        let [ours, theirs] = [one, other].map(|folder| folder.join(path));
        let there = |path: &Path| fs::symlink_metadata(path).is_ok();
        let how = compare_files(
            Some(ours.as_path()).filter(|path| there(path)),
            Some(theirs.as_path()).filter(|path| there(path)),
        )?;
        found.extend(how.map(|how| format!("{}: {how}", path.display())));
    }
    Ok(found)
}

/// How two files differ; none where they do not.
fn compare_files(one: Option<&Path>, other: Option<&Path>) -> Result<Option<&'static str>, ErrorInfo> {
    let (one, other) = match (one, other) {
        (Some(one), Some(other)) => (one, other),
        (None, None) => return Ok(None),
        (Some(_), None) => return Ok(Some("missing with caches")),
        (None, Some(_)) => return Ok(Some("there only with caches")),
    };
    let compare = || -> std::io::Result<Option<&'static str>> {
        let (ours, theirs) = (fs::symlink_metadata(one)?, fs::symlink_metadata(other)?);
        if ours.file_type() != theirs.file_type() {
            return Ok(Some("of another kind"));
        }
        if ours.is_symlink() {
            return Ok((fs::read_link(one)? != fs::read_link(other)?).then_some("leads elsewhere"));
        }
        if ours.is_file() && (ours.len() != theirs.len() || !same_content(one, other)?) {
            return Ok(Some("other content"));
        }
        Ok((ours.mode() != theirs.mode()).then_some("other permissions"))
    };
    compare().map_err(|error| ErrorInfo::new(code::WORKSPACE_FAILED, format!("cannot compare: {error}")))
}

fn same_content(one: &Path, other: &Path) -> std::io::Result<bool> {
    let mut files = [fs::File::open(one)?, fs::File::open(other)?];
    let mut buffers = [vec![0; 64 * 1024], vec![0; 64 * 1024]];
    loop {
        let mut counts = [0; 2];
        for at in 0..2 {
            while counts[at] < buffers[at].len() {
                match files[at].read(&mut buffers[at][counts[at]..])? {
                    0 => break,
                    count => counts[at] += count,
                }
            }
        }
        if buffers[0][..counts[0]] != buffers[1][..counts[1]] {
            return Ok(false);
        }
        if counts[0] == 0 {
            return Ok(true);
        }
    }
}

/// Puts the keys that hit in jobs that differ into quarantine.
fn quarantine(
    source: &Source,
    with: &Left,
    differences: &Redacted<Differences>,
) -> Result<Vec<Hit>, ErrorInfo> {
    let mut blamed: BTreeMap<Hit, (String, Vec<String>)> = BTreeMap::new();
    for (job, found) in &differences.jobs {
        for hit in with.hits(job) {
            blamed
                .entry(hit)
                .or_insert_with(|| (job.to_string(), Vec::new()))
                .1
                .extend(found.iter().cloned());
        }
    }
    if !differences.workspace.is_empty() {
        for job in with.jobs.values().filter(|job| job.provider == "host") {
            for hit in with.hits(&job.job_id) {
                let found = differences.workspace.iter().take(LISTED).cloned();
                blamed.entry(hit).or_insert_with(|| (job.job_id.to_string(), Vec::new())).1.extend(found);
            }
        }
    }
    let config = crate::command::effective(&source.repo_root, Flags::default())?;
    let Some(cache_dir) = config.cache_dir else { return Ok(Vec::new()) };
    let failed = |error: loom_cache::Error| crate::command::cache_error(&error);
    let place = crate::command::known_cache_store(&cache_dir.value, &source.repo_root);
    let place = place.map_err(|error| crate::command::ownership_error(code::CACHE_FAILED, &error))?;
    let store = Store::open(&place).map_err(failed)?;
    let run = with.logs.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let listed = store.list().map_err(failed)?.entries;
    for ((shown_name, shown_key), (job, differences)) in &blamed {
        let (run, job, when) = (run.clone(), job.clone(), SystemTime::now());
        let reason = Reason { run, job, differences: differences.clone(), when };
        let meant = listed.iter().filter(|entry| is(&entry.name, shown_name) && is(&entry.key, shown_key));
        let meant: BTreeSet<(&str, &str)> = meant.map(|entry| (&*entry.name, &*entry.key)).collect();
        for (name, key) in meant.into_iter().chain([(&**shown_name, &**shown_key)]) {
            store.quarantine(name, key, &reason).map_err(failed)?;
        }
    }
    Ok(blamed.into_keys().collect())
}

/// Whether a run shows the key or name `stored` as `shown`. The store has a hash behind one that held the value of a secret.
fn is(stored: &str, shown: &str) -> bool {
    stored == shown
        || (shown.contains(MASK_BEGINS)
            && stored.strip_prefix(shown).is_some_and(|rest| rest.starts_with('-')))
}

fn words(without: &Left, with: &Left, differences: &Redacted<Differences>, quarantined: &[Hit]) -> String {
    let mut text = "cache-diff: the result is not the same with caches and without\n".to_owned();
    let jobs = differences.jobs.iter().map(|(job, found)| (job.as_str(), found));
    let workspace = ("workspace", &differences.workspace);
    let subjects: Vec<(&str, &Vec<String>)> = jobs.chain([workspace]).collect();
    let width = subjects.iter().map(|(subject, _)| subject.chars().count()).max().unwrap_or_default();
    for (subject, found) in subjects {
        for line in found.iter().take(LISTED) {
            let _ = writeln!(text, "  {subject:<width$}  {}", on_one_line(line));
        }
        if found.len() > LISTED {
            let _ = writeln!(text, "  {subject:<width$}  and {} more", found.len() - LISTED);
        }
    }
    for (name, key) in quarantined {
        let name = if name.is_empty() { "cache" } else { name };
        let _ = writeln!(text, "quarantined: {} {}", on_one_line(name), on_one_line(key));
    }
    if quarantined.is_empty() {
        text.push_str("no cache hit where it differs: the jobs themselves do not do the same each time\n");
    }
    let _ = writeln!(text, "receipt without caches: {}", without.receipt_path.display());
    let _ = writeln!(text, "receipt with caches: {}", with.receipt_path.display());
    text.push_str("loom run: --cache-diff found differences (exit code 1)\n");
    text
}

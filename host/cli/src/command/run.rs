//! `loom run --local`: wires workflow, workspace, plugins, engine, record and report together.

mod bootstrap;
mod cache_diff;
mod copy;
mod past;
mod resume;
mod runtime;
mod selection;
mod shell;
pub(super) mod traces;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loom_contract::cache_diff::CacheKey;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::exit;
use loom_contract::id::RunId;
use loom_contract::layout::{self, RuntimePath};
use loom_contract::phase_report::PhaseReport;
use loom_contract::redacted::Redacted;
use loom_contract::visible::on_one_line;
use loom_engine::cancel::{self, Cancel, Canceller, Urgency};
use loom_engine::clock::Clock;
use loom_engine::guard::Guard;
use loom_engine::port::Seen;
use loom_engine::process::{Asked, JobLimits};
use loom_engine::redact::Redactor;
use loom_engine::{Reused, Settings, limits, process, secrets};
use loom_ownership::Ledger;
use loom_plugin_host::Caches;
use loom_record::{Ended, Record, RunFacts};
use loom_workflow::Plan;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::Run;
use crate::command::run::bootstrap::{Known, Start, bootstrap, load_plan};
use crate::command::run::copy::HeldSlot;
use crate::command::run::past::Past;
use crate::command::run::selection::{Jobs, Wanted};
use crate::command::run::traces::Folders;
use crate::command::source::Source;
use crate::config::{Effective, Flags};
use crate::plugins::Environment;
use crate::report::{Report, Verbosity};
use crate::terminal::{self, Terminal};
use crate::text::Text;
use crate::{failure, settings};

pub(super) use self::shell::shell;

pub(crate) fn run(args: &Run, terminal: Terminal) -> super::Done {
    let clock = Clock::start();
    if !args.local {
        return Err(ErrorInfo::new(ONLY_LOCAL, "only local execution exists: run `loom run --local`"));
    }
    let redactor = Redactor::default();
    terminal::mask_log(&redactor);
    let done = match args {
        Run { dry_run: true, .. } => dry_run(args, terminal),
        Run { cache_diff: true, .. } => cache_diff::run(args, terminal, clock, &redactor),
        _ => execute(args, terminal, clock, Mode::Usual, &redactor).map(|done| done.exit_code),
    };
    done.map_err(|error| Redacted::new(error, &redactor).into_inner())
}

/// The stable code of a run that would be somewhere else.
const ONLY_LOCAL: &str = "ONLY_LOCAL";

/// Prints what would run.
fn dry_run(args: &Run, terminal: Terminal) -> Result<i32, ErrorInfo> {
    let source = Source::find(&args.workflow)?;
    let wanted = wanted(args, &source)?;
    if nothing_failed(&wanted, terminal) {
        return Ok(exit::SUCCESS);
    }
    let plan = load_plan(&source, terminal)?;
    let standing = standing(&source, &wanted, &plan, terminal)?;
    let selected = selection::select(&plan, &wanted, standing)?.selected;
    super::print(selection::table(&plan, &selected))
}

/// The jobs that a run would not run again.
fn standing(
    source: &Source,
    wanted: &Wanted,
    plan: &Plan,
    terminal: Terminal,
) -> Result<Option<HashMap<usize, Reused>>, ErrorInfo> {
    let Some(last) = &wanted.last else { return Ok(None) };
    let config = super::effective(&source.repo_root, Flags { jobs: None, workspace_mount: None })?;
    let key = copy::key(plan, &source.repo_root, &AtomicBool::new(false))?;
    let Some(folders) = Folders::existing(&config, &source.repo_root)? else { return Ok(None) };
    match resume::take(&folders, last, key.as_deref()) {
        Ok(_) => Ok(Some(resume::standing(plan, last, &resume::definitions(plan)))),
        Err(why) => {
            terminal.say(format!("cannot go on with {}: {why}\n", last.run_id));
            Ok(None)
        }
    }
}

fn wanted(args: &Run, source: &Source) -> Result<Wanted, ErrorInfo> {
    let past = (args.rerun_failed || args.from_step.is_some())
        .then(|| Past::of(&source.repo_root, &source.workflow_path))
        .transpose()?;
    let goes_on = |past: &&Past| args.from_step.is_some() || !past.none_passed();
    let last = past.as_ref().filter(goes_on).and_then(Past::last).cloned();
    if args.from_step.is_some() && last.is_none() {
        let message = "`--from-step` has nothing to go on with: no run of this workflow came to its jobs";
        return Err(ErrorInfo::new(code::WORKSPACE_FAILED, message));
    }
    let jobs = if let Some(past) = past.filter(|_| args.rerun_failed) {
        Jobs::Again(past)
    } else if args.job.is_empty() && args.stage.is_empty() {
        Jobs::All
    } else {
        Jobs::Named { jobs: args.job.clone(), stages: args.stage.clone() }
    };
    Ok(Wanted { jobs, alone: args.no_deps, last, from_step: args.from_step })
}

/// Whether what failed is wanted and nothing did, which is told.
fn nothing_failed(wanted: &Wanted, terminal: Terminal) -> bool {
    let nothing = matches!(&wanted.jobs, Jobs::Again(past) if past.all_passed());
    if nothing {
        terminal.say("loom run: every job of the last run passed; nothing to run again\n");
    }
    nothing
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode<'a> {
    /// Itself.
    Usual,
    /// To be compared with others: its workspace stays, how it ended is not the last word, and what it saves goes to a
    /// store of its own.
    Compared(Given<'a>),
}

/// Which entries of caches a compared run is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given<'a> {
    /// None: every cache counts as disabled.
    None,
    /// Those of the store in this folder.
    All(&'a Path),
    /// Of these, the ones with these keys.
    Some(&'a Path, &'a BTreeSet<CacheKey>),
}

/// A run that is over.
struct Done {
    exit_code: i32,
    /// What a compared run has left, where it came as far as its jobs and was not cancelled; it is still to be told how it
    /// ended.
    compared: Option<Compared>,
}

/// What there is to compare of a run.
struct Compared {
    receipt: PathBuf,
    /// Why it failed, where it did.
    reason: ErrorInfo,
    place: Place,
    workspace: PathBuf,
    /// Where that is; nobody else has it.
    slot: HeldSlot,
    /// The folders that stay in it from run to run.
    kept: Vec<String>,
    /// What the files of jobs have become that work in a copy of their own.
    seen: Seen,
    /// None where no job has a cache.
    caches: Option<Arc<Caches>>,
}

/// What a run makes outside its record.
struct Place {
    folders: Folders,
    ledger: Ledger,
    staging: PathBuf,
}

impl Place {
    fn make(folders: Folders, run_id: &RunId, repo_root: &Path) -> Result<Self, ErrorInfo> {
        let make = || -> Result<_, loom_ownership::Error> {
            let ledger = folders.runs.register(run_id, repo_root)?;
            let staging = folders.staging_of(run_id);
            ledger.make_folder(&staging, 0o700)?;
            Ok((ledger, staging))
        };
        let (ledger, staging) = make().map_err(|e| ErrorInfo::new(code::WORKSPACE_FAILED, e.to_string()))?;
        Ok(Self { folders, ledger, staging })
    }

    fn remove(&self, folder: &Path) {
        if let Err(error) = self.ledger.remove_folder(folder) {
            tracing::warn!(%error, "a folder of this run stays");
        }
    }
}

impl Drop for Place {
    /// The run is over; what it has not removed stays on purpose.
    fn drop(&mut self) {
        if let Err(error) = self.ledger.end() {
            tracing::warn!(%error, "the run's ledger cannot be closed");
        }
    }
}

/// Errors here are those of a run that could not even begin its record.
fn execute(
    args: &Run,
    terminal: Terminal,
    clock: Clock,
    mode: Mode<'_>,
    redactor: &Redactor,
) -> Result<Done, ErrorInfo> {
    let source = Source::find(&args.workflow)?;
    let wanted = wanted(args, &source)?;
    if nothing_failed(&wanted, terminal) {
        return Ok(Done { exit_code: exit::SUCCESS, compared: None });
    }
    let flags = Flags { jobs: args.jobs, workspace_mount: args.docker_workspace_mount };
    let (config, refused) = match super::effective(&source.repo_root, flags) {
        Ok(config) => (config, None),
        // The run ends in its bootstrap, so that its record says why.
        Err(error) => (settings::built_in(flags), Some(error)),
    };
    // What keeps the run from starting is told in its bootstrap.
    let ready = match refused {
        Some(error) => Err(error),
        None => Folders::open(&config, &source.repo_root),
    };
    if let Ok(folders) = &ready {
        traces::clean_after_the_dead(&source.repo_root, &folders.runs);
    }

    let runtime = runtime::start()?;
    let environment: Environment = settings::environment().into();
    let hidden = config.unlocking_variables();
    secrets::mask_variables(redactor, &environment, &hidden);
    let facts = RunFacts {
        command: super::command_line(),
        loom_version: env!("CARGO_PKG_VERSION").to_owned(),
        repo_root: source.repo_root.clone(),
        workflow_path: source.workflow_path.clone(),
        started_at: clock.started_at(),
    };
    let record = Record::open(facts, Arc::new(redactor.clone())).map_err(|error| error.to_info())?;
    let run_id = record.ids().run_id.clone();
    let verbosity = Verbosity::new(args.quiet, args.verbose, args.stream);
    let mut report = Report::new(terminal, verbosity, redactor.clone(), source.repo_root.clone());
    if mode != Mode::Usual {
        report.is_compared();
    }
    report.run_started(&run_id, RuntimePath::new(&source.repo_root, record.dir()));

    let jobs_at_once = limits::make_room(config.jobs.value);
    if jobs_at_once < config.jobs.value {
        terminal.say(format!(
            "warning: {jobs_at_once} of {} jobs run at once: more do not fit into the limit of open files; raise it \
             (`ulimit -n`)\n",
            config.jobs.value
        ));
    }
    let (canceller, cancel) = cancel::channel();
    if !terminal.interactive {
        terminal::detach();
    }
    let runs = ready.as_ref().ok().map(|folders| folders.runs.clone());
    let place = ready.and_then(|folders| Place::make(folders, &run_id, &source.repo_root));
    let ledger = place.as_ref().ok().map(|place| &place.ledger);
    let secrets_dir = traces::secrets_dir(&run_id, ledger);
    let control = control(&config, ledger);
    let mark = ledger.map(|ledger| ledger.mark().word.clone()).unwrap_or_default();
    // A run without its guard would be a run that a SIGKILL can leave behind: better none at all.
    let start_guard = |place: &Place| {
        process::become_subreaper().map_err(|e| internal("become the parent of orphaned processes", &e))?;
        Guard::start(&place.ledger.path(), &secrets_dir.path)
            .map_err(|e| internal("start the guard process", &e))
    };
    let guarded = place.and_then(|place| start_guard(&place).map(|guard| (place, guard)));
    let (place, guard) = match guarded {
        Ok((place, guard)) => (Ok(place), Some(guard)),
        Err(error) => (Err(error), None),
    };

    // Not below the workspace, which jobs see; beside what else can be made again. Without such a place no job runs.
    let staging = place.as_ref().map(|place| place.staging.clone()).unwrap_or_default();
    let logs = record.dir().to_owned();
    let mut known = Known::default();
    let seen = Seen::default();
    let stop_copy = Arc::new(AtomicBool::new(false));
    let end = runtime.block_on(async {
        tokio::spawn(listen(canceller, Arc::clone(&stop_copy)));
        let run_settings = Settings {
            ids: record.ids().clone(),
            clock,
            jobs_at_once: jobs_at_once.get(),
            fail_fast: args.fail_fast,
            env: settings::environment_of_jobs(&hidden),
            redactor: redactor.clone(),
            secrets_dir,
            mark,
            caches_off: mode == Mode::Compared(Given::None),
            seen: (mode != Mode::Usual).then(|| Arc::clone(&seen)),
            control,
            output_max_bytes: config.output_max_bytes.value,
            staging_dir: staging,
            artifacts_dir: Box::new(move |job| logs.join(layout::job(job).artifacts())),
        };
        let bootstrap = || {
            let place = place.as_ref().map_err(ErrorInfo::clone)?;
            let start = Start {
                source: &source,
                run_id: &run_id,
                wanted: &wanted,
                config: &config,
                environment: &environment,
                redactor,
                cancel: &cancel,
                place,
                stop_copy: &stop_copy,
                mode,
                fresh: args.fresh,
                quiet: args.quiet,
                terminal,
            };
            bootstrap(&start, &mut known)
        };
        let on_event = |event: &Redacted<_>| {
            let recorded = record.write(event);
            report.event(event);
            recorded
        };
        loom_engine::run(run_settings, cancel.clone(), bootstrap, on_event, || record.settle()).await
    });
    report.finish();

    let failed = end.error.as_ref().map(|error| error.message.clone()).or_else(|| report.failure());
    let ended = Ended {
        exit_code: end.exit_code,
        error: failed.clone(),
        snapshot_path: known.snapshot_path.clone(),
        snapshot_head_sha: known.head_sha,
        graph_ir: known.graph_ir,
    };
    let receipt = record.receipt_path();
    let finished = std::thread::scope(|scope| {
        if let Some(slot) = &mut known.slot {
            // What jobs of earlier runs left may still be on its way out.
            let end = || slot.end(end.exit_code == exit::SUCCESS);
            if std::thread::Builder::new().spawn_scoped(scope, end).is_err() {
                // Its next run finds out.
                tracing::warn!("it is not noted how the run ended");
            }
        }
        if let Ok(place) = &place {
            place.remove(&place.staging);
        }
        record.finish(ended, clock.now())
    });
    if let (Ok(place), Some(_), Mode::Usual) = (&place, &known.caches, mode) {
        traces::shrink_cache(&place.folders, &source.repo_root, config.cache_max_bytes.value);
    }
    guard.into_iter().for_each(Guard::done);
    let place = place.ok();
    let place = match (place, mode) {
        (Some(place), Mode::Usual) => {
            let folders = place.folders.clone();
            drop(place);
            // Only a run that had a copy has a reason to look for others.
            if known.slot.take().is_some() {
                traces::prune(&folders, config.keep_runs.value);
            }
            None
        }
        (place, _) => place,
    };
    if finished.as_ref().is_ok_and(|report| !report.valid) {
        terminal.say("warning: the run's phases are not complete; see phase-report.json\n");
    }
    let came_to_its_jobs = end.error.is_none() && finished.is_ok();
    let end = ending(&finished, end.exit_code, end.error.as_ref(), failed.as_deref(), &cancel);
    // A signal that came too late to cancel it is for who compares.
    let is_cancelled = end.signal.is_some_and(|signal| end.exit_code == exit::of_signal(signal));
    let compared = match (place, known.snapshot_path, known.slot) {
        (Some(place), Some(workspace), Some(slot)) if came_to_its_jobs && !is_cancelled => {
            let caches = known.caches;
            let kept = known.kept;
            Some(Compared { receipt, reason: end.reason, place, workspace, slot, kept, seen, caches })
        }
        _ => {
            terminal.say(report.totals(clock.now().millis_since(clock.started_at())));
            say_end(&source.repo_root, &receipt, end.exit_code, &end.reason, redactor, terminal);
            None
        }
    };
    // Signals are still heard while a slow reader is waited for.
    terminal::drain();
    if let (Some(runs), Mode::Usual) = (&runs, mode) {
        traces::retain(&source.repo_root, &run_id, runs, &config);
    }
    runtime.shutdown_background();
    Ok(Done { exit_code: end.exit_code, compared })
}

/// What the configuration says of limits and control groups.
fn control(config: &Effective, ledger: Option<&Ledger>) -> Asked {
    Asked {
        limits: JobLimits {
            memory: config.memory.value.limit(),
            pids: Some(config.pids.value).filter(|most| *most > 0),
        },
        groups: config.control_groups.value,
        ledger: ledger.cloned(),
    }
}

fn internal(what: &str, error: &std::io::Error) -> ErrorInfo {
    ErrorInfo::new(code::INTERNAL, format!("cannot {what}: {error}"))
}

/// The first signal asks the run to end, the second one ends it. One that was ignored when Loom was started stays so: that
/// is how `nohup` and shells ask a program to go on.
async fn listen(canceller: Canceller, stop_copy: Arc<AtomicBool>) {
    let ignored = process::ignored_signals();
    let stream = |kind: SignalKind| {
        if ignored.contains(&kind.as_raw_value()) {
            return None;
        }
        signal(kind).inspect_err(|error| tracing::error!(?kind, %error, "cannot listen for a signal")).ok()
    };
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [mut interrupt, mut terminate, mut hangup] = kinds.map(stream);
    loop {
        let got = tokio::select! {
            () = next(&mut interrupt) => kinds[0],
            () = next(&mut terminate) => kinds[1],
            () = next(&mut hangup) => kinds[2],
        };
        stop_copy.store(true, Ordering::Relaxed);
        terminal::give_up();
        let urgency = if canceller.urgency() == Urgency::None { Urgency::Ask } else { Urgency::Kill };
        canceller.raise(urgency, Some(got.as_raw_value()));
    }
}

/// Waits for the next signal; for ever where there is no stream of them.
async fn next(stream: &mut Option<Signal>) {
    match stream {
        Some(stream) => drop(stream.recv().await),
        None => std::future::pending().await,
    }
}

/// How a run ended.
struct Ending {
    exit_code: i32,
    /// Why it failed, where it did.
    reason: ErrorInfo,
    /// The signal that cancelled it.
    signal: Option<i32>,
}

fn ending(
    finished: &Result<PhaseReport, Redacted<ErrorInfo>>,
    exit_code: i32,
    error: Option<&Redacted<ErrorInfo>>,
    failed: Option<&str>,
    cancel: &Cancel,
) -> Ending {
    let signal = cancel.signal();
    let ended = |message: &str| ErrorInfo::new(code::INTERNAL, message);
    match finished {
        Ok(_) => {
            let reason = match (error, failed, signal) {
                (_, _, Some(signal)) => ended(&format!("cancelled by {}", failure::signal_name(signal))),
                (Some(error), ..) => ErrorInfo::clone(error),
                (None, failed, _) => ended(failed.unwrap_or("failed")),
            };
            Ending { exit_code, reason, signal }
        }
        Err(error) => Ending { exit_code: exit::FAILURE, reason: ErrorInfo::clone(error), signal },
    }
}

fn say_end(
    repo_root: &Path,
    receipt: &Path,
    exit_code: i32,
    reason: &ErrorInfo,
    redactor: &Redactor,
    terminal: Terminal,
) {
    let mut text = Text::default();
    let receipt = receipt_line(repo_root, receipt, redactor);
    if exit_code == exit::SUCCESS {
        text.push("loom run passed\n");
        text.push(&receipt);
    } else {
        text.push(&receipt);
        text.append(failure::told("run", reason));
    }
    terminal.say(text);
}

/// The line that says where a receipt is.
fn receipt_line(repo_root: &Path, receipt: &Path, redactor: &Redactor) -> String {
    let shown = Redacted::new(RuntimePath::new(repo_root, receipt), redactor);
    format!("receipt: {}\n", on_one_line(&shown.to_string()))
}

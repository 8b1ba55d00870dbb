//! `loom run --local`: wires workflow, workspace, plugins, engine, record and report together.

mod selection;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use loom_contract::error::{ErrorInfo, code};
use loom_contract::exit;
use loom_contract::graph_ir::GraphIr;
use loom_engine::cancel::{self, Cancel, Canceller, Urgency};
use loom_engine::clock::Clock;
use loom_engine::guard::Guard;
use loom_engine::port::{Provider, SecretResolver};
use loom_engine::redact::Redactor;
use loom_engine::secrets::SecretsDir;
use loom_engine::{Prepared, Settings, process, secrets};
use loom_plugin_host::Runtime;
use loom_record::{Ended, Record, RunFacts};
use loom_workflow::Plan;
use loom_workspace::Snapshot;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Run;
use crate::command::run::selection::Wanted;
use crate::command::source::{self, Source};
use crate::config::{Effective, Flags};
use crate::report::{Report, Verbosity};
use crate::resolvers::Environment;
use crate::terminal::{self, Terminal};
use crate::{failure, resolvers, settings};

/// How long processes of a killed run are hunted.
const HUNT: Duration = Duration::from_secs(2);

pub(crate) fn run(args: &Run, terminal: Terminal) -> i32 {
    let clock = Clock::start();
    if !args.local {
        terminal.say("loom run: only local execution exists: run `loom run --local`\n");
        return exit::FAILURE;
    }
    let result = if args.dry_run { dry_run(args, terminal) } else { execute(args, terminal, clock) };
    match result {
        Ok(code) => code,
        Err(error) => {
            terminal.say(&format!("loom run: {}\n", failure::words(&error)));
            exit::FAILURE
        }
    }
}

/// Prints what would run.
fn dry_run(args: &Run, terminal: Terminal) -> Result<i32, ErrorInfo> {
    let source = Source::find(&args.workflow)?;
    let wanted = wanted(args, &source)?;
    let plan = load_plan(&source, terminal)?;
    let selected = selection::select(&plan, &wanted)?;
    Ok(super::print(selection::table(&plan, &selected).as_bytes()))
}

fn wanted(args: &Run, source: &Source) -> Result<Wanted, ErrorInfo> {
    if args.rerun_failed {
        return Ok(Wanted::Again(selection::failed_last_time(&source.repo_root, &source.workflow_path)?));
    }
    Ok(if args.job.is_empty() { Wanted::All } else { Wanted::Jobs(args.job.clone()) })
}

/// What is known of a run when it ends; filled by its bootstrap.
#[derive(Default)]
struct Known {
    graph_ir: Option<GraphIr>,
    snapshot_path: Option<PathBuf>,
    head_sha: Option<String>,
}

/// What plugins are given.
struct Given<'a> {
    config: &'a Effective,
    environment: &'a Environment,
    cancel: &'a Cancel,
}

/// Errors here are those of a run that could not even begin its record.
fn execute(args: &Run, terminal: Terminal, clock: Clock) -> Result<i32, ErrorInfo> {
    let source = Source::find(&args.workflow)?;
    let wanted = wanted(args, &source)?;
    if matches!(&wanted, Wanted::Again(jobs) if jobs.is_empty()) {
        terminal.say("loom run: every job of the last run passed; nothing to run again\n");
        return Ok(exit::SUCCESS);
    }
    let flags = Flags { jobs: args.jobs, workspace_mount: args.docker_workspace_mount };
    let (config, refused) = match settings::effective(Some(&source.repo_root), flags) {
        Ok(config) => (config, None),
        // The run ends in its bootstrap, so that its record says why.
        Err(error) => (settings::built_in(flags), Some(error)),
    };
    let folders = config.cache_dir.as_ref().zip(config.workspace_dir.as_ref()).map(|(cache, workspaces)| {
        (&cache.value, loom_workspace::repo_workspaces_dir(&workspaces.value, &source.repo_root))
    });
    // What keeps the run from starting is told in its bootstrap.
    let ready = match (refused, &folders) {
        (Some(error), _) => Err(error),
        (None, Some(folders)) => Ok(folders),
        (None, None) => {
            let message = "no place for the workspace: neither XDG_CACHE_HOME nor HOME is set";
            Err(ErrorInfo::new(code::WORKSPACE_FAILED, message)
                .with_hint("set one of them to an absolute path, or runtime.cacheDir in a config file"))
        }
    };
    if let Ok((_, workspaces)) = &ready {
        clean_after_the_dead(&source.repo_root, workspaces);
    }

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| internal("start the runtime", &e))?;
    let record = Record::open(RunFacts {
        command: super::command_line(),
        loom_version: env!("CARGO_PKG_VERSION").to_owned(),
        repo_root: source.repo_root.clone(),
        workflow_path: source.workflow_path.clone(),
        started_at: clock.started_at(),
    })
    .map_err(|error| error.to_info())?;
    let run_id = record.ids().run_id.clone();
    let verbosity = Verbosity::new(args.quiet, args.verbose, args.stream);
    let mut report = Report::new(terminal, verbosity);
    report.run_started(&run_id, record.dir());

    let (canceller, cancel) = cancel::channel();
    if !terminal.interactive {
        terminal::detach();
    }
    let secrets_dir = secrets_dir(run_id.as_str());
    // A run without its guard would be a run that a SIGKILL can leave behind: better none at all.
    let guard = process::become_subreaper()
        .map_err(|e| internal("become the parent of orphaned processes", &e))
        .and_then(|()| {
            Guard::start(run_id.as_str(), &secrets_dir.path).map_err(|e| internal("start the guard process", &e))
        });
    let (guard, ready) = match guard {
        Ok(guard) => (Some(guard), ready),
        Err(error) => (None, ready.and(Err(error))),
    };
    let place =
        ready.map(|(cache_dir, workspaces)| (cache_dir, workspaces, workspaces.join(run_id.as_str())));

    let environment: Environment = settings::environment(&[]).into();
    let hidden = config.unlocking_variables();
    let redactor = Redactor::default();
    secrets::mask_variables(&redactor, &environment, &hidden);
    let mut known = Known::default();
    let stop_copy = Arc::new(AtomicBool::new(false));
    let end = runtime.block_on(async {
        tokio::spawn(listen(canceller, Arc::clone(&stop_copy)));
        let run_settings = Settings {
            ids: record.ids().clone(),
            clock,
            jobs_at_once: config.jobs.value.get(),
            fail_fast: args.fail_fast,
            env: settings::environment(&hidden),
            redactor: redactor.clone(),
            secrets_dir,
        };
        let bootstrap = || {
            let (cache_dir, _, workspace) = place.as_ref().map_err(ErrorInfo::clone)?;
            let given = Given { config: &config, environment: &environment, cancel: &cancel };
            bootstrap(&source, &wanted, &given, cache_dir, workspace, &stop_copy, &mut known, terminal)
        };
        let on_event = |event: &_| {
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
        graph_ir: known.graph_ir.map(|graph| masked(graph, &redactor)),
    };
    let receipt = record.receipt_path();
    // A successful run's workspace goes while the receipt is being synced.
    let keep = end.exit_code != exit::SUCCESS && known.snapshot_path.is_some();
    let finished = std::thread::scope(|scope| {
        if let (Ok((_, _, workspace)), false) = (&place, keep) {
            scope.spawn(|| loom_workspace::remove(workspace));
        }
        record.finish(ended, clock.now())
    });
    if let Ok((_, workspaces, _)) = &place {
        prune(&source.repo_root, workspaces, config.keep_runs.value);
    }
    guard.into_iter().for_each(Guard::done);
    let exit_code =
        say_end(&finished, end.exit_code, end.error.as_ref(), failed.as_deref(), &cancel, &receipt, terminal);
    // Signals are still heard while a slow reader is waited for.
    terminal::drain();
    runtime.shutdown_background();
    Ok(exit_code)
}

fn internal(what: &str, error: &std::io::Error) -> ErrorInfo {
    ErrorInfo::new(code::INTERNAL, format!("cannot {what}: {error}"))
}

/// Reads the workflow, then loads the plugins that it needs while the repository is copied.
#[expect(clippy::too_many_arguments, reason = "wiring: all that a run is made of meets here")]
fn bootstrap(
    source: &Source,
    wanted: &Wanted,
    given: &Given<'_>,
    cache_dir: &Path,
    workspace: &Path,
    stop_copy: &AtomicBool,
    known: &mut Known,
    terminal: Terminal,
) -> Result<Prepared, ErrorInfo> {
    let plan = load_plan(source, terminal)?;
    let selected = selection::select(&plan, wanted)?;
    refuse_unsupported(&plan, &selected, terminal)?;
    known.graph_ir = Some(plan.graph_ir());
    let tasks = tokio::runtime::Handle::current();
    let (plugins, snapshot) = std::thread::scope(|scope| {
        let plugins = scope.spawn(|| {
            let runtime = Runtime::new(Some(cache_dir.join("components"))).map_err(|e| e.to_info())?;
            let resolvers = load_resolvers(&plan, &selected, &runtime, given, &tasks)?;
            Ok((load_providers(&plan, &selected, &runtime)?, resolvers))
        });
        let snapshot = loom_workspace::create(&source.repo_root, workspace, stop_copy).map_err(|error| {
            let info = ErrorInfo::new(code::WORKSPACE_FAILED, error.to_string());
            match error.hint() {
                Some(hint) => info.with_hint(hint),
                None => info,
            }
        });
        let plugins = plugins.join().unwrap_or_else(|_| {
            Err(ErrorInfo::new(code::INTERNAL, "loading the plugins failed; this is a bug in Loom"))
        });
        (plugins, snapshot)
    });
    let snapshot: Snapshot = snapshot?;
    for warning in &snapshot.warnings {
        terminal.say(&format!("warning: {warning}\n"));
    }
    known.snapshot_path = Some(snapshot.path().to_owned());
    known.head_sha = snapshot.head_sha.clone();
    let (providers, resolvers) = plugins?;
    Ok(Prepared {
        selected,
        plan,
        workflow_path: source.in_repo(),
        workspace: snapshot.path().to_owned(),
        head_sha: snapshot.head_sha.clone(),
        branch: snapshot.branch.clone(),
        providers,
        resolvers,
    })
}

fn load_plan(source: &Source, terminal: Terminal) -> Result<Plan, ErrorInfo> {
    let loaded = source.load()?;
    source::show(&loaded.diagnostics, terminal);
    let Some(plan) = loaded.plan else {
        let errors = loaded.diagnostics.to_contract();
        let first = errors.first().map_or_else(String::new, |e| {
            format!("{}:{}:{}: {} {}: {}", e.file, e.line, e.column, e.code, e.pointer, e.hint)
        });
        let message = match errors.len() + loaded.diagnostics.left_out() {
            0 | 1 => format!("the workflow is not valid: {first}"),
            count => format!("the workflow is not valid: {first} (and {} more)", count - 1),
        };
        return Err(ErrorInfo::new(code::WF_SCHEMA_V1, message));
    };
    Ok(plan)
}

/// Refuses what the selected jobs ask for and this version cannot run.
fn refuse_unsupported(plan: &Plan, selected: &[bool], terminal: Terminal) -> Result<(), ErrorInfo> {
    let mut refused = plan.not_executable().clone();
    refused.retain(|diagnostic| {
        let name = diagnostic.pointer.split('/').nth(1);
        plan.jobs.iter().zip(selected).any(|(job, selected)| *selected && name == Some(&job.name))
    });
    let Some(first) = refused.iter().next() else { return Ok(()) };
    source::show(&refused, terminal);
    let message =
        format!("{}:{}:{}: {}: {}", first.file, first.line, first.column, first.pointer, first.hint);
    Err(ErrorInfo::new(code::WF_NOT_SUPPORTED, message))
}

/// The providers that the selected jobs of `plan` name, from the bundled components.
fn load_providers(
    plan: &Plan,
    selected: &[bool],
    runtime: &Runtime,
) -> Result<HashMap<String, Arc<dyn Provider>>, ErrorInfo> {
    let mut providers: HashMap<String, Arc<dyn Provider>> = HashMap::new();
    for (job, selected) in plan.jobs.iter().zip(selected) {
        if !selected || providers.contains_key(&job.provider) {
            continue;
        }
        let Some(component) = loom_plugin_bundle::component(&job.provider) else {
            let message =
                format!("job `{}` needs the provider `{}`, which is not bundled", job.id, job.provider);
            return Err(ErrorInfo::new(code::PLUGIN_INCOMPATIBLE, message));
        };
        let provider = runtime.load_provider(component).map_err(|e| e.to_info())?;
        providers.insert(job.provider.clone(), provider);
    }
    Ok(providers)
}

/// The resolvers for the secrets of the selected jobs of `plan`, which begin to open their vaults at once.
fn load_resolvers(
    plan: &Plan,
    selected: &[bool],
    runtime: &Runtime,
    given: &Given<'_>,
    tasks: &tokio::runtime::Handle,
) -> Result<HashMap<String, Arc<dyn SecretResolver>>, ErrorInfo> {
    let jobs = plan.jobs.iter().zip(selected).filter(|(_, selected)| **selected);
    let references: Vec<&str> =
        jobs.flat_map(|(job, _)| &job.secrets).map(|secret| secret.reference.as_str()).collect();
    let mut resolvers: HashMap<String, Arc<dyn SecretResolver>> = HashMap::new();
    for scheme in loom_plugin_bundle::SCHEMES {
        let begins = |reference: &&&str| reference.strip_prefix(scheme).is_some_and(|r| r.starts_with("://"));
        let own: Vec<String> = references.iter().filter(begins).map(|r| (*r).to_owned()).collect();
        let Some(component) = loom_plugin_bundle::component(scheme).filter(|_| !own.is_empty()) else {
            continue;
        };
        secrets::keep_memory_private();
        let config = resolvers::plugin_config(scheme, &own, given.config, given.environment);
        let resolver = runtime.load_resolver(component, config).map_err(|e| e.to_info())?;
        resolvers.insert(scheme.to_owned(), Arc::clone(&resolver) as Arc<dyn SecretResolver>);
        let cancel = given.cancel.clone();
        tasks.spawn(async move { resolver.open(&own, cancel).await });
    }
    Ok(resolvers)
}

/// Where the run's files of secrets are put.
fn secrets_dir(run_id: &str) -> SecretsDir {
    let bases = settings::secret_bases();
    let usable = |base: &&PathBuf| {
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        secrets::is_in_memory(base) && rustix::fs::access(base.as_path(), access).is_ok()
    };
    let in_memory = bases.iter().find(usable);
    let base = in_memory.or(bases.last()).cloned().unwrap_or_default();
    SecretsDir { path: secrets_folder(&base, run_id), in_memory: in_memory.is_some() }
}

fn secrets_folder(base: &Path, run_id: &str) -> PathBuf {
    base.join(format!("{run_id}-secrets"))
}

/// `graph` without the values of secrets that somebody has written into the workflow.
fn masked(mut graph: GraphIr, redactor: &Redactor) -> GraphIr {
    let mask = |text: &mut String| *text = redactor.text(text).into_owned();
    for node in &mut graph.nodes {
        node.script.iter_mut().for_each(mask);
        let services = node.services.iter_mut().flat_map(|service| &mut service.variables);
        let arguments = node.image_build.iter_mut().flat_map(|build| &mut build.args);
        let variables = node.variables.iter_mut().chain(services).chain(arguments);
        variables.for_each(|variable| mask(&mut variable.value));
    }
    graph
}

/// The first signal asks the run to end, the second one ends it.
async fn listen(canceller: Canceller, stop_copy: Arc<AtomicBool>) {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let mut signals = Vec::new();
    for kind in kinds {
        match signal(kind) {
            Ok(stream) => signals.push((kind, stream)),
            Err(error) => tracing::error!(?kind, %error, "cannot listen for a signal"),
        }
    }
    let [(_, interrupt), (_, terminate), (_, hangup)] = signals.as_mut_slice() else {
        return;
    };
    loop {
        let got = tokio::select! {
            _ = interrupt.recv() => kinds[0],
            _ = terminate.recv() => kinds[1],
            _ = hangup.recv() => kinds[2],
        };
        stop_copy.store(true, Ordering::Relaxed);
        terminal::give_up();
        let urgency = if canceller.urgency() == Urgency::None { Urgency::Ask } else { Urgency::Kill };
        canceller.raise(urgency, Some(got.as_raw_value()));
    }
}

/// Ends and removes what runs whose Loom was killed have left.
fn clean_after_the_dead(repo_root: &Path, workspaces: &Path) {
    let cleaned = loom_record::recover(repo_root, |dead| {
        process::kill_run(dead.run_id.as_str(), HUNT);
        if let Err(error) = loom_workspace::remove(&workspaces.join(dead.run_id.as_str())) {
            tracing::warn!(%error, "a dead run's workspace stays");
        }
        for base in settings::secret_bases() {
            if let Err(error) = secrets::remove(&secrets_folder(&base, dead.run_id.as_str())) {
                tracing::warn!(%error, "files of a dead run's secrets stay");
            }
        }
    });
    if let Err(error) = cleaned {
        tracing::warn!(%error, "a dead run's receipt stays open");
    }
}

/// Removes the workspaces of failed runs but for the newest few. Those of runs that live are left alone.
fn prune(repo_root: &Path, workspaces: &Path, keep: u64) {
    let Ok(entries) = fs_err::read_dir(workspaces) else {
        return;
    };
    let mut kept: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !loom_record::is_alive(repo_root, name))
        .collect();
    // Run ids are stamps of one length: their order is that of time.
    kept.sort_unstable();
    let surplus = kept.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
    for name in kept.into_iter().take(surplus) {
        if let Err(error) = loom_workspace::remove(&workspaces.join(name)) {
            tracing::warn!(%error, "an old workspace stays");
        }
    }
}

fn say_end(
    finished: &Result<loom_contract::phase_report::PhaseReport, ErrorInfo>,
    exit_code: i32,
    error: Option<&ErrorInfo>,
    failed: Option<&str>,
    cancel: &Cancel,
    receipt: &Path,
    terminal: Terminal,
) -> i32 {
    let mut exit_code = exit_code;
    let mut text = String::new();
    let reason = match finished {
        Ok(report) => {
            if !report.valid {
                text.push_str("warning: the run's phases are not complete; see phase-report.json\n");
            }
            match (error, failed, cancel.signal()) {
                (_, _, Some(signal)) => format!("cancelled by {}", failure::signal_name(signal)),
                (Some(error), ..) => failure::hint_first(&mut text, error),
                (None, Some(failed), _) => failed.to_owned(),
                (None, None, _) => "failed".to_owned(),
            }
        }
        Err(error) => {
            exit_code = exit::FAILURE;
            failure::hint_first(&mut text, error)
        }
    };
    let receipt = format!("receipt: {}\n", receipt.display());
    if exit_code == exit::SUCCESS {
        text.push_str("loom run passed\n");
        text.push_str(&receipt);
    } else {
        text.push_str(&receipt);
        text.push_str(&format!("loom run: {reason}\n"));
    }
    terminal.say(&text);
    exit_code
}

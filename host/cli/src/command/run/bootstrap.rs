//! What a run finds out before its jobs: the plan, the plugins that it needs, the copy of the repository.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use loom_cache::Store;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::graph_ir::{Cache, GraphIr};
use loom_contract::id::RunId;
use loom_contract::redacted::Redacted;
use loom_engine::Prepared;
use loom_engine::cancel::Cancel;
use loom_engine::port::{Provider, SecretResolver, Wrapper};
use loom_engine::redact::Redactor;
use loom_ownership::Slot;
use loom_plugin_host::{Caches, DockerConfig, Runtime};
use loom_workflow::{Diagnostics, Plan};

use super::copy::{self, CopyFor, HeldSlot};
use super::selection::{self, Selection, Wanted};
use super::{Given, Mode, Place, resume};
use crate::command::kept;
use crate::command::source::{self, Source};
use crate::config::{Effective, WorkspaceMount};
use crate::plugins::{self, Environment};
use crate::settings;
use crate::terminal::Terminal;

/// What a bootstrap works with.
pub(super) struct Start<'a> {
    pub(super) source: &'a Source,
    pub(super) run_id: &'a RunId,
    pub(super) wanted: &'a Wanted,
    pub(super) config: &'a Effective,
    pub(super) environment: &'a Environment,
    pub(super) redactor: &'a Redactor,
    pub(super) cancel: &'a Cancel,
    pub(super) place: &'a Place,
    pub(super) stop_copy: &'a AtomicBool,
    pub(super) mode: Mode<'a>,
    /// Nothing of earlier runs is to be found.
    pub(super) fresh: bool,
    /// Only how the run ends is told.
    pub(super) quiet: bool,
    pub(super) terminal: Terminal,
}

/// What is known of a run when it ends; filled by its bootstrap.
#[derive(Default)]
pub(super) struct Known {
    pub(super) graph_ir: Option<GraphIr>,
    pub(super) snapshot_path: Option<PathBuf>,
    /// Where that is.
    pub(super) slot: Option<HeldSlot>,
    /// The folders that stay in it from run to run.
    pub(super) kept: Vec<String>,
    pub(super) head_sha: Option<String>,
    /// The caches, where a job has one.
    pub(super) caches: Option<Arc<Caches>>,
}

impl Start<'_> {
    /// Whose copy of the repository is made.
    pub(super) fn copy_for(&self) -> CopyFor<'_> {
        CopyFor {
            repo_root: &self.source.repo_root,
            run_id: self.run_id,
            folders: &self.place.folders,
            mode: self.mode,
            fresh: self.fresh,
            cancel: self.stop_copy,
        }
    }
}

/// Reads the workflow, then loads the plugins that it needs while the repository is copied.
pub(super) fn bootstrap(start: &Start<'_>, known: &mut Known) -> Result<Prepared, ErrorInfo> {
    let plan = load_plan(start.source, start.terminal)?;
    if plan.kept_folders().is_some() {
        refuse(&kept::refused(&plan, &start.source.repo_root), code::WF_SCHEMA_V1, start.terminal)?;
    }
    let definitions = resume::definitions(&plan);
    let resumed = resumed(start, &plan)?;
    let standing = start.wanted.last.as_ref().filter(|_| resumed.is_some());
    let standing = standing.map(|last| resume::standing(&plan, last, &definitions));
    let Selection { selected, reused, first_step } = selection::select(&plan, start.wanted, standing)?;
    // What the failed jobs have left is of no use without what others have made.
    let resumed = resumed.filter(|_| !reused.is_empty() || first_step.is_some());
    let goes_on = resumed.is_some();
    refuse_unsupported(&plan, &selected, start.terminal)?;
    let secrets = plan.jobs.iter().flat_map(|job| &job.secrets);
    plugins::mask_environment(secrets, start.environment, start.redactor);
    known.graph_ir = Some(plan.graph_ir());
    known.kept = plan.kept_folders().map(|kept| kept.keep).unwrap_or_default();
    let tasks = tokio::runtime::Handle::current();
    let (plugins, snapshot) = std::thread::scope(|scope| {
        let load = || {
            let components = start.place.folders.cache_dir.path().join("components");
            let runtime = Runtime::new(Some(components)).map_err(|e| e.to_info())?;
            let resolvers = load_resolvers(&plan, &selected, &runtime, start, &tasks)?;
            let cache = load_cache(&plan, &selected, &runtime, start)?;
            Ok((load_providers(&plan, &selected, &runtime, start, &tasks)?, resolvers, cache))
        };
        let loading = std::thread::Builder::new().spawn_scoped(scope, load);
        let snapshot = copy::make(&start.copy_for(), &plan, resumed);
        let plugins = match loading {
            Ok(loading) => loading.join().unwrap_or_else(|_| {
                Err(ErrorInfo::new(code::INTERNAL, "loading the plugins failed; this is a bug in Loom"))
            }),
            // There is no thread to be had.
            Err(_) => load(),
        };
        (plugins, snapshot)
    });
    let (snapshot, slot) = snapshot?;
    known.slot = Some(slot);
    for warning in &snapshot.warnings {
        let warning = Redacted::new(warning.to_string(), start.redactor);
        start.terminal.say(format!("warning: {warning}\n"));
    }
    if goes_on && !start.quiet {
        start.terminal.say(resume::told(start.wanted, &plan, &selected, &reused, first_step, &snapshot));
    }
    known.snapshot_path = Some(snapshot.path().to_owned());
    known.head_sha = snapshot.head_sha.clone();
    let (providers, resolvers, cache) = plugins?;
    let (cache, caches) = cache.unzip();
    known.caches = caches;
    Ok(Prepared {
        selected,
        reused,
        first_step,
        definitions,
        plan,
        workflow_path: start.source.in_repo(),
        workspace: snapshot.path().to_owned(),
        borrowed_objects: snapshot.borrowed_objects.clone(),
        head_sha: snapshot.head_sha.clone(),
        branch: snapshot.branch.clone(),
        providers,
        resolvers,
        schemes: &loom_plugin_bundle::SCHEMES,
        cache,
    })
}

/// The slot of the run whose work is to be gone on with. Where that cannot be, it is told why.
///
/// # Errors
/// It cannot be, and the run would not be what was asked for.
fn resumed(start: &Start<'_>, plan: &Plan) -> Result<Option<Slot>, ErrorInfo> {
    let Some(last) = start.wanted.last.as_ref().filter(|_| !start.fresh) else { return Ok(None) };
    let key = copy::key(plan, &start.source.repo_root, start.stop_copy)?;
    let why = match resume::take(&start.place.folders, last, key.as_deref()) {
        Ok(slot) => return Ok(Some(slot)),
        Err(why) => Redacted::new(why, start.redactor),
    };
    if start.wanted.from_step.is_some() {
        let message = format!("`--from-step` has nothing to go on with: of {}, {}", last.run_id, *why);
        return Err(ErrorInfo::new(code::WORKSPACE_FAILED, message)
            .with_hint("leave out `--from-step`: the job runs from its first step, after what it needs"));
    }
    if !start.quiet {
        let what = "what did not pass is run again with what it needs";
        start.terminal.say(format!("cannot go on with {}: {}; {what}\n", last.run_id, *why));
    }
    Ok(None)
}

/// The plan of the workflow that `source` names; what is wrong with it is shown.
pub(super) fn load_plan(source: &Source, terminal: Terminal) -> Result<Plan, ErrorInfo> {
    if let Some(refused) = source::plugin_set(&source.repo_root) {
        return Err(refused);
    }
    let loaded = source.load()?;
    source::show(&loaded.diagnostics, terminal);
    let Some(mut plan) = loaded.plan else {
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
    // Messages name the workflow as seen from here; what is recorded is the same from everywhere.
    let in_repo = source.in_repo();
    for place in plan.jobs.iter_mut().flat_map(|job| &mut job.sources) {
        if place.file == source.shown {
            place.file.clone_from(&in_repo);
        }
    }
    Ok(plan)
}

/// Refuses what the selected jobs ask for and this version cannot run.
pub(super) fn refuse_unsupported(
    plan: &Plan,
    selected: &[bool],
    terminal: Terminal,
) -> Result<(), ErrorInfo> {
    let mut refused = plan.not_executable().clone();
    refused.retain(|diagnostic| {
        let name = diagnostic.pointer.split('/').nth(1);
        plan.jobs.iter().zip(selected).any(|(job, selected)| *selected && name == Some(&job.name))
    });
    refuse(&refused, code::WF_NOT_SUPPORTED, terminal)
}

/// Shows what is refused, where anything is.
pub(super) fn refuse(refused: &Diagnostics, code: &'static str, terminal: Terminal) -> Result<(), ErrorInfo> {
    let Some(first) = refused.iter().next() else { return Ok(()) };
    source::show(refused, terminal);
    let message =
        format!("{}:{}:{}: {}: {}", first.file, first.line, first.column, first.pointer, first.hint);
    Err(ErrorInfo::new(code, message))
}

/// The providers that the selected jobs of `plan` name, from the bundled components.
pub(super) fn load_providers(
    plan: &Plan,
    selected: &[bool],
    runtime: &Runtime,
    start: &Start<'_>,
    tasks: &tokio::runtime::Handle,
) -> Result<HashMap<String, Arc<dyn Provider>>, ErrorInfo> {
    let mut providers: HashMap<String, Arc<dyn Provider>> = HashMap::new();
    let chosen = plan.jobs.iter().zip(selected).filter(|(_, selected)| **selected);
    let alone = chosen.map(|(job, _)| &job.provider).collect::<BTreeSet<_>>().len() == 1;
    for (job, selected) in plan.jobs.iter().zip(selected) {
        if !selected || providers.contains_key(&job.provider) {
            continue;
        }
        let Some(component) = loom_plugin_bundle::component(&job.provider) else {
            let message =
                format!("job `{}` needs the provider `{}`, which is not bundled", job.id, job.provider);
            return Err(ErrorInfo::new(code::PLUGIN_INCOMPATIBLE, message));
        };
        let config = plugins::provider_config(
            &job.provider,
            start.config,
            &start.source.repo_root,
            start.environment,
            || docker(start, alone),
        );
        if let Some(docker) = config.docker.clone() {
            tasks.spawn(async move { docker.open().await });
        }
        let provider = runtime.load_provider(component, config).map_err(|e| e.to_info())?;
        providers.insert(job.provider.clone(), provider);
    }
    Ok(providers)
}

/// Where the daemon is, and whether nothing writes to the run's copy of the repository: `alone` if no job works elsewhere
/// than in a container.
fn docker(start: &Start<'_>, alone: bool) -> DockerConfig {
    let rests = alone && start.config.workspace_mount.value == WorkspaceMount::EphemeralVolume;
    let (runs, ledger) = (start.place.folders.runs.clone(), start.place.ledger.clone());
    settings::docker(&start.source.repo_root, alone, rests, runs, ledger)
}

/// The resolvers for the secrets of the selected jobs of `plan`, which begin to open their vaults at once.
pub(super) fn load_resolvers(
    plan: &Plan,
    selected: &[bool],
    runtime: &Runtime,
    start: &Start<'_>,
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
        let config = plugins::plugin_config(scheme, &own, start.config, start.environment);
        let resolver = runtime.load_resolver(component, config).map_err(|e| e.to_info())?;
        resolvers.insert(scheme.to_owned(), Arc::clone(&resolver) as Arc<dyn SecretResolver>);
        let cancel = start.cancel.clone();
        tasks.spawn(async move { resolver.open(&own, cancel).await });
    }
    Ok(resolvers)
}

/// What works around jobs with caches, and what it keeps them in.
type WithCaches = (Arc<dyn Wrapper>, Arc<Caches>);

/// That for the selected jobs of `plan`; none where no job has caches, or the run has none.
fn load_cache(
    plan: &Plan,
    selected: &[bool],
    runtime: &Runtime,
    start: &Start<'_>,
) -> Result<Option<WithCaches>, ErrorInfo> {
    let caches = plan.jobs.iter().zip(selected).filter(|(_, selected)| **selected);
    let mut entries = caches.filter_map(|(job, _)| job.cache.as_ref()).flat_map(Cache::entries);
    if entries.all(|entry| entry.disabled) {
        return Ok(None);
    }
    let Some(caches) = open_caches(start)? else { return Ok(None) };
    let caches = Arc::new(caches);
    let kept = Arc::clone(&caches);
    let wrapper = runtime.load_wrapper(loom_plugin_bundle::CACHE, caches).map_err(|error| error.to_info())?;
    Ok(Some((wrapper, kept)))
}

/// The caches that the run is given; none where its store cannot be used, which is told.
///
/// # Errors
/// The run is to be compared, and would be as one with caches that has none.
fn open_caches(start: &Start<'_>) -> Result<Option<Caches>, ErrorInfo> {
    let linked = |from: &Path| -> Result<Store, ErrorInfo> {
        let folder = start.place.staging.join("caches");
        fs_err::create_dir_all(&folder)
            .map_err(|error| ErrorInfo::new(code::CACHE_FAILED, error.to_string()))?;
        let store = Store::open(from).and_then(|store| store.linked(&folder));
        store.map_err(|error| crate::command::cache_error(&error))
    };
    match start.mode {
        Mode::Compared(Given::All(from)) => return Ok(Some(Caches::new(linked(from)?))),
        Mode::Compared(Given::Some(from, keys)) => {
            let keys = keys.iter().map(|key| (key.name.clone(), key.key.clone()));
            return Ok(Some(Caches::new(linked(from)?).only(keys.collect())));
        }
        Mode::Compared(Given::None) | Mode::Usual => {}
    }
    // Git is asked where it is, which takes some milliseconds.
    // Jobs make anew what they would have found.
    let without = |trouble: &dyn Display, hint: Option<String>| {
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        let text = format!("this run has no caches: {trouble}{hint}");
        if start.mode == Mode::Usual {
            start.terminal.say(format!("warning: {text}\n"));
            return Ok(None);
        }
        Err(ErrorInfo::new(code::CACHE_FAILED, format!("--cache-diff has nothing to compare: {text}")))
    };
    let store = match start.place.folders.cache_store(&start.source.repo_root) {
        Ok(store) => store,
        Err(error) => return without(&error, error.hint().map(str::to_owned)),
    };
    let opened = Store::open_or_none(&store);
    match (&opened.store, &opened.trouble) {
        (_, None) => {}
        (Some(_), Some(trouble @ loom_cache::Error::Older { .. })) => {
            start.terminal.say(format!("warning: {trouble}; it was emptied\n"));
        }
        (Some(_), Some(trouble)) => {
            start.terminal.say(format!("warning: {trouble}; it was put right\n"));
        }
        (None, Some(trouble)) => {
            return without(trouble, trouble.hint().map(|hint| hint.to_string()));
        }
    }
    Ok(opened.store.map(Caches::new))
}

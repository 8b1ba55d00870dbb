//! What a run finds out before its jobs: the plan, the plugins that it needs, the copy of the repository.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use loom_cache::Store;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::graph_ir::{Cache, GraphIr};
use loom_engine::cancel::Cancel;
use loom_engine::port::{Provider, SecretResolver, Wrapper};
use loom_engine::redact::Redactor;
use loom_engine::{Prepared, secrets};
use loom_plugin_host::{Caches, Runtime};
use loom_workflow::Plan;
use loom_workspace::Snapshot;

use super::selection::{self, Wanted};
use crate::command::cache_store;
use crate::command::source::{self, Source};
use crate::config::Effective;
use crate::plugins::{self, Environment};
use crate::terminal::Terminal;

/// What a bootstrap works with.
pub(super) struct Start<'a> {
    pub(super) source: &'a Source,
    pub(super) wanted: &'a Wanted,
    pub(super) config: &'a Effective,
    pub(super) environment: &'a Environment,
    pub(super) redactor: &'a Redactor,
    pub(super) cancel: &'a Cancel,
    /// Where what can be made again is kept.
    pub(super) cache_dir: &'a Path,
    /// Where the copy of the repository is to be.
    pub(super) workspace: &'a Path,
    pub(super) stop_copy: &'a AtomicBool,
    pub(super) terminal: Terminal,
}

/// What is known of a run when it ends; filled by its bootstrap.
#[derive(Default)]
pub(super) struct Known {
    pub(super) graph_ir: Option<GraphIr>,
    pub(super) snapshot_path: Option<PathBuf>,
    pub(super) head_sha: Option<String>,
    /// Whether a job has a cache.
    pub(super) has_caches: bool,
}

/// Reads the workflow, then loads the plugins that it needs while the repository is copied.
pub(super) fn bootstrap(start: &Start<'_>, known: &mut Known) -> Result<Prepared, ErrorInfo> {
    let plan = load_plan(start.source, start.terminal)?;
    let selected = selection::select(&plan, start.wanted)?;
    refuse_unsupported(&plan, &selected, start.terminal)?;
    let wanted = plan.jobs.iter().zip(&selected).filter(|(_, selected)| **selected);
    plugins::mask_environment(wanted.flat_map(|(job, _)| &job.secrets), start.environment, start.redactor);
    known.graph_ir = Some(plan.graph_ir());
    let tasks = tokio::runtime::Handle::current();
    let (plugins, snapshot) = std::thread::scope(|scope| {
        let plugins = scope.spawn(|| {
            let components = start.cache_dir.join("components");
            let runtime = Runtime::new(Some(components)).map_err(|e| e.to_info())?;
            let resolvers = load_resolvers(&plan, &selected, &runtime, start, &tasks)?;
            let cache = load_cache(&plan, &selected, &runtime, start)?;
            Ok((load_providers(&plan, &selected, &runtime, start, &tasks)?, resolvers, cache))
        });
        let repo_root = &start.source.repo_root;
        let snapshot = loom_workspace::create(repo_root, start.workspace, start.stop_copy).map_err(|error| {
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
        start.terminal.say(format!("warning: {warning}\n"));
    }
    known.snapshot_path = Some(snapshot.path().to_owned());
    known.head_sha = snapshot.head_sha.clone();
    let (providers, resolvers, cache) = plugins?;
    known.has_caches = cache.is_some();
    Ok(Prepared {
        selected,
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

pub(super) fn load_plan(source: &Source, terminal: Terminal) -> Result<Plan, ErrorInfo> {
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
        let config = plugins::provider_config(&job.provider, alone, start.config, &start.source.repo_root);
        if let Some(docker) = config.docker.clone() {
            tasks.spawn(async move { docker.open().await });
        }
        let provider = runtime.load_provider(component, config).map_err(|e| e.to_info())?;
        providers.insert(job.provider.clone(), provider);
    }
    Ok(providers)
}

/// The resolvers for the secrets of the selected jobs of `plan`, which begin to open their vaults at once.
fn load_resolvers(
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
        secrets::keep_memory_private();
        let config = plugins::plugin_config(scheme, &own, start.config, start.environment);
        let resolver = runtime.load_resolver(component, config).map_err(|e| e.to_info())?;
        resolvers.insert(scheme.to_owned(), Arc::clone(&resolver) as Arc<dyn SecretResolver>);
        let cancel = start.cancel.clone();
        tasks.spawn(async move { resolver.open(&own, cancel).await });
    }
    Ok(resolvers)
}

/// The wrapper for the selected jobs of `plan` that have caches.
fn load_cache(
    plan: &Plan,
    selected: &[bool],
    runtime: &Runtime,
    start: &Start<'_>,
) -> Result<Option<Arc<dyn Wrapper>>, ErrorInfo> {
    let caches = plan.jobs.iter().zip(selected).filter(|(_, selected)| **selected);
    let mut entries = caches.filter_map(|(job, _)| job.cache.as_ref()).flat_map(Cache::entries);
    if entries.all(|entry| entry.disabled) {
        return Ok(None);
    }
    // Git is asked where it is, which takes some milliseconds.
    let store = cache_store(start.cache_dir, &start.source.repo_root);
    let store = Store::open(&store).map_err(|error| crate::command::cache_error(&error))?;
    let caches = Arc::new(Caches::new(store));
    let wrapper = runtime.load_wrapper(loom_plugin_bundle::CACHE, caches).map_err(|error| error.to_info())?;
    Ok(Some(wrapper))
}

/// `graph` without the values of secrets that somebody has written into the workflow.
pub(super) fn masked(mut graph: GraphIr, redactor: &Redactor) -> GraphIr {
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

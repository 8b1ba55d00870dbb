//! Resolved keywords as Graph IR holds them, with every default filled in.

use loom_contract::graph_ir::{
    Artifacts, Cache, CacheEntry, CacheKey, CacheKeyParts, CachePolicy, ImageBuild, ImageOptions, Node,
    Ready, Retry, RetryWhen, Secret, Service, Timeout, Variable, When,
};
use loom_contract::id::JobId;
use loom_contract::source_line::SourceLine;

use super::references;
use super::route;
use super::variables::{Known, Resolved};
use crate::document;
use crate::document::{Field, Image, ImageSpec, Text};
use crate::source::{Sources, Spanned};
use crate::workflow::Job;

/// The graph's node of `job`, which runs in `stage`.
pub(super) fn node(job: &Job, id: JobId, stage: &str, variables: Resolved) -> Node {
    let definition = &*job.definition;
    let known = variables.known;
    let known = &known;
    let spec = match definition.image.as_ref() {
        Some(Image::Spec(spec)) => Some(&**spec),
        _ => None,
    };
    Node {
        id,
        stage: stage.to_owned(),
        target: definition.target.as_ref().map(text).unwrap_or_default(),
        provider: route::provider(definition).to_owned(),
        image: route::image(definition).map(|name| filled(name, false, known)),
        image_build: spec.and_then(|spec| image_build(spec, known)),
        image_options: spec.map(image_options).filter(|options| *options != ImageOptions::default()),
        script: definition.script.iter().flat_map(|steps| steps.iter()).map(command).collect(),
        secrets: definition.secrets.iter().flatten().map(|(name, value)| secret(name, value)).collect(),
        services: definition
            .services
            .iter()
            .flat_map(|services| &services.list)
            .zip(variables.services)
            .map(|(value, variables)| service(value, variables, known))
            .collect(),
        variables: variables.job,
        cache: definition.cache.as_ref().and_then(|value| cache(value, known)),
        artifacts: definition.artifacts.as_ref().map(artifacts),
        runner_pool: definition.runner_pool.as_ref().map(text),
        invariant: definition.invariant.as_ref().map(document::Invariant::to_json),
        timeout: definition.timeout.as_ref().map(timeout).filter(|timeout| *timeout != Timeout::default()),
        retry: definition.retry.as_ref().map(retry),
        allow_failure: definition.allow_failure.as_ref().is_some_and(|flag| flag.value),
        matrix: job
            .matrix
            .iter()
            .map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned()))
            .collect(),
    }
}

/// Where each step of `job` is written.
pub(super) fn sources(job: &Job, sources: &Sources) -> Vec<SourceLine> {
    let steps = job.definition.script.iter().flat_map(|steps| steps.iter());
    let source = |step: &document::Step| SourceLine {
        file: sources.name(step.span.file).to_owned(),
        line: sources.line_number(step.span),
    };
    steps.map(source).collect()
}

fn text(value: &Spanned<Text>) -> String {
    value.value.as_ref().to_owned()
}

fn texts(values: &[Text]) -> Vec<String> {
    values.iter().map(|value| value.as_ref().to_owned()).collect()
}

fn listed(values: &Field<Spanned<Vec<Text>>>) -> Vec<String> {
    values.iter().flat_map(|values| texts(&values.value)).collect()
}

/// `value` as it is known before the run. What is not has been reported.
fn filled(value: &str, path: bool, known: &Known) -> String {
    references::fill(value, path, known).unwrap_or_default()
}

fn path(value: &Spanned<Text>, known: &Known) -> String {
    filled(&value.value, true, known)
}

fn command(step: &document::Step) -> String {
    step.command.as_ref().to_owned()
}

fn image_build(spec: &ImageSpec, known: &Known) -> Option<ImageBuild> {
    let build = spec.build.as_ref()?;
    Some(ImageBuild {
        context: build.context.as_ref().map(|value| path(value, known)).unwrap_or_default(),
        dockerfile: build.dockerfile.as_ref().map(|value| path(value, known)).unwrap_or_default(),
        args: build
            .args
            .iter()
            .map(|(name, value)| Variable { key: name.as_ref().to_owned(), value: text(value) })
            .collect(),
        target: build.target.as_ref().map(text),
    })
}

fn image_options(spec: &ImageSpec) -> ImageOptions {
    ImageOptions {
        entrypoint: spec.entrypoint.as_ref().map(|words| texts(&words.value)),
        pull_policy: spec.pull_policy.as_ref().map(|policy| policy.value),
        user: spec.user.as_ref().map(text),
        platform: spec.platform.as_ref().map(text),
    }
}

fn secret(name: &Text, secret: &document::Secret) -> Secret {
    Secret {
        name: name.as_ref().to_owned(),
        reference: secret.reference.as_ref().map(text).unwrap_or_default(),
        file: secret.file.as_ref().is_none_or(|flag| flag.value),
        required: secret.required.as_ref().is_none_or(|flag| flag.value),
    }
}

fn service(service: &document::Service, variables: Vec<Variable>, known: &Known) -> Service {
    Service {
        name: filled(&service.name, false, known),
        alias: service.alias.as_deref().map(str::to_owned),
        variables,
        entrypoint: service.entrypoint.as_deref().map(texts),
        command: service.command.as_deref().map(texts),
        ready: service.ready.as_ref().map(|ready| Ready {
            command: ready.command.as_deref().map(str::to_owned),
            port: ready.port,
            timeout_ms: ready.timeout_ms,
        }),
    }
}

fn cache(cache: &document::Cache, known: &Known) -> Option<Cache> {
    match cache {
        document::Cache::Off => None,
        document::Cache::One(entry) => Some(Cache::One(Box::new(cache_entry(entry, known)))),
        document::Cache::List(entries) => {
            Some(Cache::List(entries.iter().map(|entry| cache_entry(entry, known)).collect()))
        }
    }
}

fn cache_entry(entry: &document::CacheEntry, known: &Known) -> CacheEntry {
    CacheEntry {
        name: entry.name.as_ref().map(text),
        disabled: entry.is_disabled(),
        paths: listed(&entry.paths),
        key: entry.key.as_ref().map(|key| match key {
            document::CacheKey::Template(template) => CacheKey::Template(text(template)),
            document::CacheKey::Spec(spec) => CacheKey::Parts(CacheKeyParts {
                prefix: spec.prefix.as_ref().map(text),
                files: spec
                    .files
                    .iter()
                    .flat_map(|files| files.value.iter().map(|file| filled(file, true, known)))
                    .collect(),
                template: spec.template.as_ref().map(text),
            }),
        }),
        fallback_keys: listed(&entry.fallback_keys),
        policy: entry.policy.as_ref().map_or(CachePolicy::PullPush, |policy| policy.value),
        when: entry.when.as_ref().map_or(When::OnSuccess, |when| when.value),
    }
}

fn artifacts(artifacts: &document::Artifacts) -> Artifacts {
    Artifacts {
        paths: listed(&artifacts.paths),
        exclude: listed(&artifacts.exclude),
        name: artifacts.name.as_ref().map(text),
        when: artifacts.when.as_ref().map_or(When::OnSuccess, |when| when.value),
    }
}

fn timeout(timeout: &document::Timeout) -> Timeout {
    Timeout {
        job_ms: timeout.job.as_ref().map(|time| time.value),
        step_ms: timeout.step.as_ref().map(|time| time.value),
    }
}

fn retry(retry: &document::Retry) -> Retry {
    Retry {
        max: retry.max.as_ref().map_or(0, |max| max.value),
        when: retry.when.as_ref().map_or_else(|| vec![RetryWhen::Always], |when| when.value.clone()),
    }
}

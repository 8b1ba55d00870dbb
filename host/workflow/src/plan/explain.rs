//! Where each value of a job came from.

use super::Plan;
use crate::document;
use crate::document::{Image, Text};
use crate::source::Span;
use crate::workflow::Job;

/// A value of a job, and the place that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Origin {
    /// The keyword, with the name inside it where it has several: `variables.HOME_DIR`, `cache.pnpm.paths`.
    pub key: String,
    /// What is written there: its first line.
    pub written: String,
    /// Who says it: `default`, `template .base`, `job build`, or `workflow` for the root's own variables.
    pub from: String,
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

impl Plan {
    /// Where each value of `job` came from, in the order of the keywords. `job` is an id; the name of a matrix job stands
    /// for its first. `None` for a name that no job has.
    pub fn explain(&self, job: &str) -> Option<Vec<Origin>> {
        let jobs = &self.workflow.jobs;
        let planned = self.jobs.iter().find(|planned| planned.id.as_str() == job);
        let job = match planned {
            Some(planned) => jobs.get(planned.place)?,
            None => jobs.iter().find(|known| &*known.definition.name.value == job)?,
        };
        let spans = spans(job);
        Some(spans.into_iter().map(|(key, span)| self.origin(key, span)).collect())
    }

    fn origin(&self, key: String, span: Span) -> Origin {
        let position = self.sources.position(span);
        let (line, range) = self.sources.line(span);
        let from = match self.workflow.owners.of(span).map(|name| &**name) {
            None => "workflow".to_owned(),
            Some("default") => "default".to_owned(),
            Some(name) if name.starts_with('.') => format!("template {name}"),
            Some(name) => format!("job {name}"),
        };
        Origin {
            key,
            written: line.get(range).unwrap_or("").trim_end().to_owned(),
            from,
            file: self.sources.name(span.file).to_owned(),
            line: position.line,
            column: position.column,
        }
    }
}

fn spans(job: &Job) -> Vec<(String, Span)> {
    // Field by field, so that no keyword is forgotten.
    let document::Job {
        name: _,
        span: _,
        weight: _,
        stage,
        target,
        script,
        // What it gives is explained where it stands: in the parents.
        extends: _,
        needs,
        variables,
        image,
        services,
        secrets,
        cache,
        artifacts,
        runner_pool,
        invariant,
        timeout,
        retry,
        allow_failure,
        parallel,
        provider,
    } = &*job.definition;
    let mut found = Found::default();
    found.add("stage", stage.as_ref().map(|stage| stage.span));
    found.add("target", target.as_ref().map(|target| target.span));
    found.add("provider", provider.as_ref().map(|provider| provider.span));
    found.image(image.as_ref());
    for (index, step) in script.iter().flat_map(|steps| steps.iter()).enumerate() {
        found.add(format!("script.{index}"), Some(step.span));
    }
    for need in needs.iter().flat_map(|needs| needs.iter()) {
        found.add(format!("needs.{}", need.job.value), Some(need.job.span));
    }
    for (name, variable) in variables.iter().flatten() {
        found.add(format!("variables.{name}"), Some(variable.value.span));
    }
    for (name, secret) in secrets.iter().flatten() {
        found.add(format!("secrets.{name}.ref"), secret.reference.as_ref().map(|value| value.span));
        found.add(format!("secrets.{name}.file"), secret.file.as_ref().map(|value| value.span));
        found.add(format!("secrets.{name}.required"), secret.required.as_ref().map(|value| value.span));
    }
    found.add("services", services.as_ref().map(|services| services.span));
    for entry in cache.iter().flat_map(|cache| cache.entries()) {
        let at = |field: &str| match entry.name.as_ref() {
            Some(name) => format!("cache.{}.{field}", name.value),
            None => format!("cache.{field}"),
        };
        found.add(at("disabled"), entry.disabled.as_ref().map(|value| value.span));
        found.add(at("paths"), entry.paths.as_ref().map(|value| value.span));
        found.add(at("key"), entry.key.as_ref().map(crate::document::CacheKey::span));
        found.add(at("fallback_keys"), entry.fallback_keys.as_ref().map(|value| value.span));
        found.add(at("policy"), entry.policy.as_ref().map(|value| value.span));
        found.add(at("when"), entry.when.as_ref().map(|value| value.span));
    }
    if let Some(artifacts) = artifacts.as_ref() {
        found.add("artifacts.paths", artifacts.paths.as_ref().map(|value| value.span));
        found.add("artifacts.exclude", artifacts.exclude.as_ref().map(|value| value.span));
        found.add("artifacts.name", artifacts.name.as_ref().map(|value| value.span));
        found.add("artifacts.when", artifacts.when.as_ref().map(|value| value.span));
    }
    found.add("runner_pool", runner_pool.as_ref().map(|value| value.span));
    found.add("invariant", invariant.as_ref().map(|value| value.span));
    if let Some(timeout) = timeout.as_ref() {
        found.add("timeout.job", timeout.job.as_ref().map(|value| value.span));
        found.add("timeout.step", timeout.step.as_ref().map(|value| value.span));
    }
    if let Some(retry) = retry.as_ref() {
        found.add("retry.max", retry.max.as_ref().map(|value| value.span));
        found.add("retry.when", retry.when.as_ref().map(|value| value.span));
    }
    found.add("allow_failure", allow_failure.as_ref().map(|value| value.span));
    found.add("parallel", parallel.as_ref().map(|parallel| parallel.span));
    found.spans
}

#[derive(Default)]
struct Found {
    spans: Vec<(String, Span)>,
}

impl Found {
    fn add(&mut self, key: impl Into<String>, span: Option<Span>) {
        self.spans.extend(span.map(|span| (key.into(), span)));
    }

    fn image(&mut self, image: Option<&Image>) {
        let spec = match image {
            None | Some(Image::Host) => return,
            Some(Image::Name(name)) => return self.add("image", Some(name.span)),
            Some(Image::Spec(spec)) => spec,
        };
        self.add("image.name", spec.name.as_ref().map(|name| name.span));
        if let Some(build) = spec.build.as_ref() {
            self.add("image.build.context", build.context.as_ref().map(|value| value.span));
            self.add("image.build.dockerfile", build.dockerfile.as_ref().map(|value| value.span));
            for (name, value) in &build.args {
                let name: &Text = name;
                self.add(format!("image.build.args.{name}"), Some(value.span));
            }
            self.add("image.build.target", build.target.as_ref().map(|value| value.span));
        }
        self.add("image.entrypoint", spec.entrypoint.as_ref().map(|value| value.span));
        self.add("image.pull_policy", spec.pull_policy.as_ref().map(|value| value.span));
        self.add("image.user", spec.user.as_ref().map(|value| value.span));
        self.add("image.platform", spec.platform.as_ref().map(|value| value.span));
    }
}

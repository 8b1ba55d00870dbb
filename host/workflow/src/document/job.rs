//! A job or template as it was typed, and `default`, which has the same keywords.

use std::sync::Arc;

use super::merge::replace;
use super::value::{Reader, Text, is_name, name_pattern};
use super::{
    Artifacts, Cache, Image, Invariant, Need, Parallel, Parent, Retry, Secrets, Services, Step, Timeout,
    Variables, artifacts, cache, extends, image, invariant, needs, parallel, retry, script, secrets,
    services, timeout, variables,
};
use crate::diagnostic::{Pointer, quoted};
use crate::source::{Span, Spanned};
use crate::yaml::{Entry, Node};

/// Every keyword of a job.
pub(super) const KEYWORDS: [&str; 18] = [
    "stage",
    "target",
    "script",
    "extends",
    "needs",
    "variables",
    "image",
    "services",
    "secrets",
    "cache",
    "artifacts",
    "runner_pool",
    "invariant",
    "timeout",
    "retry",
    "allow_failure",
    "parallel",
    "provider",
];
/// Those that `default` may hold.
pub(super) const DEFAULT_KEYWORDS: [&str; 8] =
    ["image", "services", "cache", "variables", "target", "artifacts", "timeout", "retry"];
/// The most characters of a job's name, without a template's dot.
pub(super) const MOST_NAME: usize = 64;

/// A job, a template, or `default`.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) name: Spanned<Text>,
    /// From its name to the end of its last value.
    pub(crate) span: Span,
    /// The keywords that were typed, also those whose value was refused.
    pub(crate) given: Given,
    pub(crate) stage: Option<Spanned<Text>>,
    pub(crate) target: Option<Spanned<Text>>,
    pub(crate) script: Option<Arc<Vec<Step>>>,
    pub(crate) extends: Option<Vec<Parent>>,
    pub(crate) needs: Option<Arc<Vec<Need>>>,
    pub(crate) variables: Variables,
    pub(crate) image: Option<Image>,
    pub(crate) services: Option<Arc<Services>>,
    pub(crate) secrets: Secrets,
    pub(crate) cache: Option<Cache>,
    pub(crate) artifacts: Option<Artifacts>,
    pub(crate) runner_pool: Option<Spanned<Text>>,
    pub(crate) invariant: Option<Invariant>,
    pub(crate) timeout: Option<Timeout>,
    pub(crate) retry: Option<Retry>,
    pub(crate) allow_failure: Option<Spanned<bool>>,
    pub(crate) parallel: Option<Arc<Parallel>>,
    pub(crate) provider: Option<Spanned<Text>>,
    /// What a copy of it, with all that it inherits, costs at most: [`Entry::weight`].
    pub(crate) weight: usize,
}

/// A set of keywords.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Given(u32);

impl Given {
    /// Every keyword: for a job of which not all could be read.
    pub(crate) const ALL: Self = Self(u32::MAX);

    pub(crate) fn contains(self, keyword: &str) -> bool {
        self.0 & Self::bit(keyword) != 0
    }

    fn insert(&mut self, keyword: &str) {
        self.0 |= Self::bit(keyword);
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.0 |= other.0;
    }

    fn bit(keyword: &str) -> u32 {
        KEYWORDS.iter().position(|known| *known == keyword).map_or(0, |index| 1 << index)
    }
}

pub(super) fn is_keyword(key: &str) -> bool {
    KEYWORDS.contains(&key)
}

impl Job {
    /// A job with nothing in it, called `name`.
    pub(crate) fn empty(name: Spanned<Text>) -> Self {
        let span = name.span;
        Self {
            name,
            span,
            given: Given::default(),
            stage: None,
            target: None,
            script: None,
            extends: None,
            needs: None,
            variables: Variables::new(),
            image: None,
            services: None,
            secrets: Secrets::new(),
            cache: None,
            artifacts: None,
            runner_pool: None,
            invariant: None,
            timeout: None,
            retry: None,
            allow_failure: None,
            parallel: None,
            provider: None,
            weight: 0,
        }
    }

    /// Whether it never runs itself.
    pub(crate) fn is_template(&self) -> bool {
        self.name.value.starts_with('.')
    }

    /// Reads a job or template.
    pub(super) fn read(entry: &Entry, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let bare = entry.key.strip_prefix('.').unwrap_or(&entry.key);
        if !is_name(bare, MOST_NAME) {
            let hint =
                format!("rename job {} to match ^\\.?{}$", quoted(&entry.key), name_pattern(MOST_NAME));
            reader.error(entry.key_span, at, hint);
        }
        let hint = format!("set job {} to a mapping of job keywords", quoted(&entry.key));
        let entries = reader.map(&entry.value, at, &hint)?;
        let mut job = Self::empty(Spanned::new(entry.key.as_str().into(), entry.key_span));
        job.span = entry.key_span.to(entry.value.span);
        job.weight = entry.weight();
        for entry in entries {
            let place = at.key(&entry.key);
            if is_keyword(&entry.key) {
                job.read_keyword(&entry.key, &entry.value, &place, reader);
            } else {
                job.given.join(reader.unknown_job_key(entry, &place));
            }
        }
        Some(job)
    }

    /// Reads `default`.
    pub(super) fn read_default(entry: &Entry, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let hint = "set default to a mapping of job keywords";
        let entries = reader.map(&entry.value, at, hint)?;
        let mut job = Self::empty(Spanned::new("default".into(), entry.key_span));
        job.span = entry.key_span.to(entry.value.span);
        job.weight = entry.weight();
        for entry in entries {
            let place = at.key(&entry.key);
            if DEFAULT_KEYWORDS.contains(&entry.key.as_str()) {
                job.read_keyword(&entry.key, &entry.value, &place, reader);
            } else if is_keyword(&entry.key) {
                let key = &entry.key;
                let hint = format!("move `{key}` into the jobs or a template; default does not allow it");
                reader.error(entry.key_span, &place, hint);
            } else {
                reader.unknown_key(entry, &place, "default", &DEFAULT_KEYWORDS);
            }
        }
        Some(job)
    }

    /// Counts every keyword as given.
    pub(crate) fn forgive(&mut self) {
        self.given = Given::ALL;
    }

    /// Puts `nearer` over this one: mappings are merged, everything else is replaced.
    pub(crate) fn merge(&mut self, nearer: &Self) {
        self.given.join(nearer.given);
        replace(&mut self.stage, &nearer.stage);
        replace(&mut self.target, &nearer.target);
        replace(&mut self.script, &nearer.script);
        replace(&mut self.needs, &nearer.needs);
        for (name, variable) in &nearer.variables {
            self.variables.insert(name.clone(), variable.clone());
        }
        merge(&mut self.image, &nearer.image, Image::merge);
        replace(&mut self.services, &nearer.services);
        for (name, secret) in &nearer.secrets {
            match self.secrets.get_mut(name) {
                Some(below) => below.merge(secret),
                None => {
                    self.secrets.insert(name.clone(), secret.clone());
                }
            }
        }
        merge(&mut self.cache, &nearer.cache, Cache::merge);
        merge(&mut self.artifacts, &nearer.artifacts, Artifacts::merge);
        replace(&mut self.runner_pool, &nearer.runner_pool);
        merge(&mut self.invariant, &nearer.invariant, Invariant::merge);
        merge(&mut self.timeout, &nearer.timeout, Timeout::merge);
        merge(&mut self.retry, &nearer.retry, Retry::merge);
        replace(&mut self.allow_failure, &nearer.allow_failure);
        replace(&mut self.parallel, &nearer.parallel);
        replace(&mut self.provider, &nearer.provider);
        self.weight = self.weight.saturating_add(nearer.weight);
    }

    /// Puts another definition of the same job over this one, as the including file does.
    pub(crate) fn merge_definition(&mut self, nearer: &Self) {
        self.merge(nearer);
        replace(&mut self.extends, &nearer.extends);
        self.name = nearer.name.clone();
        self.span = nearer.span;
    }

    fn read_keyword(&mut self, keyword: &str, value: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) {
        self.given.insert(keyword);
        match keyword {
            "stage" => self.stage = reader.filled_text(value, at, "set stage to one of the stages"),
            "target" => self.target = read_target(value, at, reader),
            "script" => self.script = script::read(value, at, reader).map(Arc::new),
            "extends" => self.extends = extends::read(value, at, reader),
            "needs" => self.needs = needs::read(value, at, reader).map(Arc::new),
            "variables" => self.variables = variables::read(value, at, reader),
            "image" => self.image = image::read(value, at, reader),
            "services" => self.services = services::read(value, at, reader).map(Arc::new),
            "secrets" => self.secrets = secrets::read(value, at, reader),
            "cache" => self.cache = cache::read(value, at, reader),
            "artifacts" => self.artifacts = artifacts::read(value, at, reader),
            "runner_pool" => {
                self.runner_pool = reader.filled_text(value, at, "set runner_pool to the name of a pool")
            }
            "invariant" => self.invariant = invariant::read(value, at, reader),
            "timeout" => self.timeout = timeout::read(value, at, reader),
            "retry" => self.retry = retry::read(value, at, reader),
            "allow_failure" => {
                self.allow_failure = reader.flag(value, at, "set allow_failure to true or false");
            }
            "parallel" => self.parallel = parallel::read(value, at, reader).map(Arc::new),
            "provider" => self.provider = read_provider(value, at, reader),
            _ => {}
        }
    }
}

impl Reader<'_> {
    /// Reports a key that no job has, and gives the keyword that was probably meant.
    fn unknown_job_key(&mut self, entry: &Entry, at: &Pointer<'_>) -> Given {
        let key = quoted(&entry.key);

        let mut given = Given::default();
        let hint = match self.similar(&entry.key, KEYWORDS) {
            Some(meant) => {
                given.insert(meant);
                format!("rename unknown key {key}; did you mean `{meant}`?")
            }
            None => format!("remove unknown key {key}; it is no job keyword"),
        };
        self.error(entry.key_span, at, hint);
        given
    }
}

fn read_target(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Spanned<Text>> {
    let hint = "set target to linux, the only supported target";
    let target = reader.text(node, at, hint)?;
    if &*target.value != "linux" {
        reader.error(target.span, at, hint);
        return None;
    }
    Some(target)
}

fn read_provider(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Spanned<Text>> {
    let hint = "set provider to the name of a provider, as in `host`";
    let provider = reader.filled_text(node, at, hint)?;
    if !is_name(&provider.value, MOST_NAME) {
        let hint =
            format!("rename provider {} to match ^{}$", quoted(&provider.value), name_pattern(MOST_NAME));
        reader.error(provider.span, at, hint);
        return None;
    }
    Some(provider)
}

fn merge<T: Clone>(slot: &mut Option<T>, nearer: &Option<T>, merge: impl FnOnce(&mut T, &T)) {
    match (slot, nearer) {
        (Some(below), Some(nearer)) => merge(below, nearer),
        (slot, nearer) => replace(slot, nearer),
    }
}

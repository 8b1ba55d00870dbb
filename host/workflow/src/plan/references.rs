//! What keywords refer to beside `variables`: the table of their places. A name that nothing sets is an error before the run,
//! not in the middle of it.
//!
//! Commands are no such place (`script`, `entrypoint`, `command` and `ready.command`): what stands there is for the shell
//! that they are given to. Nor are references of secrets, whose words are names in a vault.

use std::collections::BTreeSet;

use super::variables::Known;
use crate::diagnostic::{Problems, quoted};
use crate::document::{CacheKey, Image, Text, outside};
use crate::owners::Owners;
use crate::predefined::PREDEFINED;
use crate::source::Span;
use crate::template::Template;
use crate::workflow::Job;

/// What only caches may refer to.
const OF_CACHES: [&str; 5] = ["head_sha", "job_id", "job_name", "pipeline_id", "run_id"];
/// What names the root of the workspace, where paths begin anyway.
const ROOTS: [&str; 2] = ["CI_PROJECT_DIR", "LOOM_PROJECT_DIR"];
/// The longest text that is filled in before the run, in bytes: as long as a path may be.
const LONGEST: usize = 4096;

/// A text that may refer to variables.
struct Place<'j> {
    span: Span,
    keyword: &'static str,
    text: &'j Text,
    filled: Filled,
}

/// When the references of a text are filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filled {
    /// When the job starts. In caches, some more names are known.
    AtStart { in_cache: bool },
    /// Before the run, to a path or, else, to an image's name.
    Before { path: bool },
}

/// Why a text cannot be filled in before the run.
pub(super) enum Unfilled {
    /// This name is known only when the job starts.
    Later(String),
    /// It would be longer than [`LONGEST`].
    TooLong,
}

/// Reports the names that `job` refers to and that neither its variables nor Loom sets, and what has to be known before the
/// run and is not.
pub(super) fn check(job: &Job, known: &Known, owners: &Owners, problems: &mut Problems) {
    for place in places(job).into_iter().filter(|place| place.text.contains('$')) {
        let Place { span, keyword, text, filled } = place;
        let template = Template::parse(text).unwrap_or_default();
        let own: &[&str] = if filled == (Filled::AtStart { in_cache: true }) { &OF_CACHES } else { &[] };
        let is_set =
            |name: &str| known.get(name).is_some() || PREDEFINED.contains(&name) || own.contains(&name);
        let mut error = |hint: String| problems.error(span, owners.pointer(span, keyword), hint);
        let unset: Vec<&str> = template.refs().filter(|name| !is_set(name)).collect();
        if unset.is_empty() {
            if let Filled::Before { path } = filled
                && let Some(hint) = problem_before(text, path, known)
            {
                error(hint);
            }
            continue;
        }
        for name in unset {
            let names: BTreeSet<&str> = known.names().chain(own.iter().copied()).chain(PREDEFINED).collect();
            let meant = problems.similar(name, names.iter().copied());
            let meant = meant.map(|meant| format!("did you mean {}? ", quoted(meant))).unwrap_or_default();
            let hint = format!(
                "{} in {} is set nowhere: {meant}write `$$` for a dollar sign, or name one of {}",
                quoted(name),
                quoted(text),
                listed(names)
            );
            problems.error(span, owners.pointer(span, keyword), hint);
        }
    }
}

/// `text` with its references filled in, as is known before the run; a path without the workspace's root.
pub(super) fn fill(text: &str, path: bool, known: &Known) -> Result<String, Unfilled> {
    if !text.contains('$') {
        return Ok(text.to_owned());
    }
    let template = Template::parse(text).unwrap_or_default();
    let length = template.refs().filter_map(|name| known.get(name)).map(Template::len);
    if length.fold(template.len(), usize::saturating_add) > LONGEST {
        return Err(Unfilled::TooLong);
    }
    let mut whole = template.resolve(|name| known.get(name));
    if path {
        whole = whole.below(&ROOTS);
    }
    if let Some(name) = whole.refs().next() {
        return Err(Unfilled::Later(name.to_owned()));
    }
    Ok(whole.render(&mut |_| None))
}

/// What to do about a text that has to be known before the run.
fn problem_before(text: &str, path: bool, known: &Known) -> Option<String> {
    let whole = match fill(text, path, known) {
        Ok(whole) => whole,
        Err(Unfilled::TooLong) => {
            return Some(format!("shorten {}: filled in, it has more than {LONGEST} bytes", quoted(text)));
        }
        Err(Unfilled::Later(name)) => {
            let names: BTreeSet<&str> = known.names().chain(known.predefined()).collect();
            return Some(format!(
                "{} in {} is known only when the job starts, too late here: name one of {}",
                quoted(&name),
                quoted(text),
                listed(names)
            ));
        }
    };
    if path {
        let problem = outside(&whole)?;
        return Some(format!("correct the path {}, which is {}: {problem}", quoted(text), quoted(&whole)));
    }
    let is_name =
        !whole.is_empty() && !whole.contains(|char: char| char.is_whitespace() || char.is_control());
    (!is_name)
        .then(|| format!("correct {}: it comes to {}, which names no image", quoted(text), quoted(&whole)))
}

fn listed(names: BTreeSet<&str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    names.join(", ")
}

/// Every place of `job`.
fn places(job: &Job) -> Vec<Place<'_>> {
    let definition = &*job.definition;
    let mut places = Vec::new();
    let mut add = |filled: Filled, keyword: &'static str, span: Span, text| {
        places.push(Place { span, keyword, text, filled });
    };
    let (start, cached) = (Filled::AtStart { in_cache: false }, Filled::AtStart { in_cache: true });
    let (name, path) = (Filled::Before { path: false }, Filled::Before { path: true });
    for entry in definition.cache.iter().flat_map(|cache| cache.entries()) {
        if entry.is_disabled() {
            continue;
        }
        match entry.key.as_ref() {
            Some(CacheKey::Template(template)) => add(cached, "cache", template.span, &template.value),
            Some(CacheKey::Spec(spec)) => {
                for text in [spec.prefix.as_ref(), spec.template.as_ref()].into_iter().flatten() {
                    add(cached, "cache", text.span, &text.value);
                }
                spec.files
                    .iter()
                    .flat_map(|files| files.value.iter().map(|file| (files.span, file)))
                    .for_each(|(span, file)| add(path, "cache", span, file));
            }
            None => {}
        }
        for list in [&entry.paths, &entry.fallback_keys].into_iter().filter_map(|list| list.as_ref()) {
            list.value.iter().for_each(|text| add(cached, "cache", list.span, text));
        }
    }
    if let Some(artifacts) = definition.artifacts.as_ref() {
        for list in [&artifacts.paths, &artifacts.exclude].into_iter().filter_map(|list| list.as_ref()) {
            list.value.iter().for_each(|text| add(start, "artifacts", list.span, text));
        }
        artifacts.name.iter().for_each(|text| add(start, "artifacts", text.span, &text.value));
    }
    match definition.image.as_ref() {
        None | Some(Image::Host) => {}
        Some(Image::Name(text)) => add(name, "image", text.span, &text.value),
        Some(Image::Spec(spec)) => {
            spec.name.iter().for_each(|text| add(name, "image", text.span, &text.value));
            [&spec.user, &spec.platform]
                .into_iter()
                .filter_map(|text| text.as_ref())
                .for_each(|text| add(start, "image", text.span, &text.value));
            if let Some(build) = spec.build.as_ref() {
                [&build.context, &build.dockerfile]
                    .into_iter()
                    .filter_map(|text| text.as_ref())
                    .for_each(|text| add(path, "image", text.span, &text.value));
                build
                    .args
                    .values()
                    .chain(build.target.iter())
                    .for_each(|text| add(start, "image", text.span, &text.value));
            }
        }
    }
    if let Some(services) = definition.services.as_ref() {
        services.list.iter().for_each(|service| add(name, "services", services.span, &service.name));
    }
    places
}

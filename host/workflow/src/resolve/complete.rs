//! What a job must have once everything is inherited.

use crate::diagnostic::{Pointer, Problems};
use crate::document::{Field, Image, Job, Keyword, Reader};
use crate::owners::Owners;
use crate::source::Span;

/// Reports what is missing in `job`, and what does not go together.
pub(super) fn check(job: &Job, owners: &Owners, problems: &mut Problems) {
    let root = Pointer::Root;
    let name = root.key(&job.name.value);
    let required = [
        (Keyword::Stage, job.stage.is_absent(), "one of the stages"),
        (Keyword::Target, job.target.is_absent(), "linux, here, in a template or in default"),
        (Keyword::Script, job.script.is_absent(), "a non-empty list of commands"),
    ];
    for (keyword, is_absent, what) in required {
        if is_absent {
            let keyword = keyword.name();
            problems.error(job.name.span, name.key(keyword), format!("add required key {keyword}: {what}"));
        }
    }
    check_parts(job, owners, &mut Reader::new(problems));
    check_secrets(job, owners, problems);
    check_place(job, owners, problems);
}

/// What is missing is missing where the value was written, which may be a template.
fn check_parts(job: &Job, owners: &Owners, reader: &mut Reader<'_>) {
    let owner = |span: Span| owners.of(span).map_or("", |name| name);
    if let Some(Image::Spec(spec)) = job.image.as_ref() {
        spec.check(owner(spec.span), reader);
    }
    if let Some(cache) = job.cache.as_ref()
        && let Some(entry) = cache.entries().first()
    {
        cache.check(owner(entry.span), reader);
    }
    if let Some(artifacts) = job.artifacts.as_ref() {
        artifacts.check(owner(artifacts.span), reader);
    }
    if let Some(retry) = job.retry.as_ref() {
        retry.check(owner(retry.span), reader);
    }
}

fn check_secrets(job: &Job, owners: &Owners, problems: &mut Problems) {
    let in_matrix =
        |name| job.parallel.iter().flat_map(|parallel| &parallel.matrix).any(|row| row.contains_key(name));
    for (name, secret) in job.secrets.iter().flatten() {
        let root = Pointer::Root;
        let owner = root.key(owners.of(secret.span).map_or("", |name| name));
        let secrets = owner.key("secrets");
        let at = secrets.key(name);
        if secret.reference.is_absent() {
            problems.error(secret.span, at.key("ref"), "add required key ref: <scheme>://<place>");
        }
        if job.variables.as_ref().is_some_and(|variables| variables.contains_key(name)) {
            let hint =
                format!("rename `{name}`, or remove it from variables or from secrets: it stands in both");
            problems.error(secret.span, at, hint);
        } else if in_matrix(name) {
            let hint =
                format!("rename `{name}`, or remove it from the matrix or from secrets: it stands in both");
            problems.error(secret.span, at, hint);
        }
    }
}

/// Image, services and provider must agree on where the job runs.
fn check_place(job: &Job, owners: &Owners, problems: &mut Problems) {
    let has_image = matches!(job.image, Field::Given(Image::Name(_) | Image::Spec(_)));
    // An image that was refused is one all the same.
    let may_have_image = has_image || matches!(job.image, Field::Refused);
    if let Some(services) = job.services.as_ref()
        && !services.list.is_empty()
        && !may_have_image
    {
        let hint = format!(
            "set image in `{}`, or remove its services: they run beside a container, not beside the host",
            job.name.value
        );
        problems.error(services.span, owners.pointer(services.span, "services"), hint);
    }
    let Some(provider) = job.provider.as_ref() else { return };
    let name = &job.name.value;
    let hint = match &*provider.value {
        "host" if has_image => format!("remove provider or the image of `{name}`: the host runs no images"),
        "docker" if !may_have_image => format!("set image in `{name}`: the provider docker needs one"),
        _ => return,
    };
    problems.error(provider.span, owners.pointer(provider.span, "provider"), hint);
}

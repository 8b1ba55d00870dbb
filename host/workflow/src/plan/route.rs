//! Which provider runs a job, and in what image.

use crate::document::{Image, Job, Text};

/// The host shell.
pub(super) const HOST: &str = "host";
/// Containers.
pub(super) const DOCKER: &str = "docker";

/// The name of the provider that runs `job`: the one that it asks for, else containers for an image, else the host.
pub(super) fn provider(job: &Job) -> &str {
    match job.provider.as_ref() {
        Some(provider) => &provider.value,
        None if image(job).is_some() => DOCKER,
        None => HOST,
    }
}

/// The name of the image that `job` runs in.
pub(super) fn image(job: &Job) -> Option<&Text> {
    match job.image.as_ref()? {
        Image::Host => None,
        Image::Name(name) => Some(&name.value),
        Image::Spec(spec) => spec.name.as_ref().map(|name| &name.value),
    }
}

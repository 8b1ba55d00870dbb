//! Images: what is there, and what is fetched.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::models::CreateImageInfo;
use bollard::query_parameters::{CreateImageOptions, RemoveImageOptions};
use futures_util::StreamExt as _;
use tokio::time::Instant;

use crate::{Docker, Error, Logins, Reason};

/// Lines about how far a pull is come no more often than this.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What is known of an image that the daemon has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageInfo {
    /// The digest of its description: `sha256:…`. Two images with the same id are the same.
    pub id: String,
    /// `name@sha256:…` in the registries that it was pulled from or pushed to.
    pub digests: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// What it runs.
    pub entrypoint: Vec<String>,
    /// Arguments of that, or what it runs where there is no entrypoint.
    pub command: Vec<String>,
    /// As whom; empty for root.
    pub user: String,
    /// Where; empty for `/`.
    pub working_dir: String,
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub arch: String,
    /// It says how to find out whether it is well.
    pub has_healthcheck: bool,
}

/// When an image is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// If the daemon has none of this name, or only one for another platform.
    #[default]
    IfNotPresent,
    /// Not at all.
    Never,
}

impl Docker {
    /// What the daemon has under a name, digest or id, if it has something.
    ///
    /// # Errors
    /// [`Error::Invalid`] if that can be no image's name; the daemon went away.
    pub async fn image(&self, reference: &str) -> Result<Option<ImageInfo>, Error> {
        check_reference(reference)?;
        match self.api().inspect_image(reference).await {
            Ok(image) => Ok(Some(info(image))),
            Err(error) => match Error::of(format!("inspect the image `{reference}`"), error) {
                error if error.is_not_found() => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Sees to it that the daemon has an image. `platform` is `os/arch` or `os/arch/variant`; nothing for that of the
    /// daemon. `on_line` is told how a pull goes, in lines for people.
    ///
    /// # Errors
    /// In the daemon's words, with a [`hint`](Error::hint) where they are known.
    pub async fn ensure_image(
        &self,
        reference: &str,
        policy: PullPolicy,
        platform: Option<&str>,
        logins: &Logins,
        mut on_line: impl FnMut(&str),
    ) -> Result<ImageInfo, Error> {
        let doing = format!("pull the image `{reference}`");
        let there = match policy {
            PullPolicy::Always => None,
            _ => self.image(reference).await?,
        };
        let other = match there {
            Some(image) if platform.is_none_or(|platform| image.is_for(platform)) => return Ok(image),
            Some(ImageInfo { os, arch, .. }) => {
                let wanted = platform.unwrap_or_default();
                Some(format!("the daemon has it for {os}/{arch}, not for {wanted}"))
            }
            None => None,
        };
        if policy == PullPolicy::Never {
            let reason = if other.is_some() { Reason::Platform } else { Reason::NotThere };
            let what = other.unwrap_or_else(|| "the daemon does not have it".to_owned());
            let words = format!("{what}, and it may not be pulled");
            return Err(Error::Refused { doing: format!("use the image `{reference}`"), reason, words });
        }
        let doing = match other {
            Some(other) => format!("{doing} ({other})"),
            None => doing,
        };
        let login = logins.of_registry(registry(reference)).await?;
        let options = CreateImageOptions {
            from_image: Some(with_tag(reference)),
            platform: platform.unwrap_or_default().to_owned(),
            ..CreateImageOptions::default()
        };
        let mut steps = self.slow().create_image(Some(options), None, login);
        let mut progress = Progress::default();
        while let Some(step) = self.watch(&doing, steps.next()).await? {
            let step = step.map_err(|error| Error::of(doing.clone(), error))?;
            if let Some(line) = progress.line(step, Instant::now()) {
                on_line(&line);
            }
        }
        match self.image(reference).await? {
            Some(image) => Ok(image),
            None => Err(Error::refused(doing, Some(404), "it was not there after it was pulled")),
        }
    }

    /// Removes a name of an image, and the image with its last name. That it is not there is fine.
    ///
    /// # Errors
    /// What the daemon says, as where a container is made of it.
    pub async fn remove_image(&self, reference: &str) -> Result<(), Error> {
        check_reference(reference)?;
        match self.slow().remove_image(reference, None::<RemoveImageOptions>, None).await {
            Ok(_) => Ok(()),
            Err(error) => match Error::of(format!("remove the image `{reference}`"), error) {
                error if error.is_not_found() => Ok(()),
                error => Err(error),
            },
        }
    }
}

impl ImageInfo {
    fn is_for(&self, platform: &str) -> bool {
        let mut parts = platform.split('/');
        parts.next() == Some(&self.os) && parts.next().is_none_or(|arch| arch == self.arch)
    }
}

fn info(image: bollard::models::ImageInspect) -> ImageInfo {
    let config = image.config.unwrap_or_default();
    let pair = |text: String| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (text, String::new()),
    };
    let has_healthcheck = config
        .healthcheck
        .and_then(|check| check.test)
        .is_some_and(|test| !test.is_empty() && test.first().is_none_or(|word| word != "NONE"));
    ImageInfo {
        id: image.id.unwrap_or_default(),
        digests: image.repo_digests.unwrap_or_default(),
        env: config.env.unwrap_or_default().into_iter().map(pair).collect(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        os: image.os.unwrap_or_default(),
        arch: image.architecture.unwrap_or_default(),
        has_healthcheck,
    }
}

/// A reference becomes a part of a request's path, so it may not be able to mean another request.
pub(crate) fn check_reference(reference: &str) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@+".contains(&byte);
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    if reference.bytes().all(plain) && reference.split('/').all(part) {
        return Ok(());
    }
    Err(Error::invalid(format!("the image `{reference}`"), "has a name that no image can have"))
}

/// The host that an image is pulled from.
pub(crate) fn registry(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// Without a tag the daemon would pull all of them.
fn with_tag(reference: &str) -> String {
    let name = reference.rsplit_once('/').map_or(reference, |(_, name)| name);
    if name.contains([':', '@']) { reference.to_owned() } else { format!("{reference}:latest") }
}

/// How far a pull is.
#[derive(Default)]
struct Progress {
    layers: BTreeMap<String, Layer>,
    reported: Option<Instant>,
}

#[derive(Default)]
struct Layer {
    done: bool,
    current: i64,
    total: i64,
}

impl Progress {
    /// What to say of this step, if it is worth a line and time for one.
    fn line(&mut self, step: CreateImageInfo, now: Instant) -> Option<String> {
        let status = step.status.unwrap_or_default();
        let Some(id) = step.id.filter(|_| !status.starts_with("Pulling from")) else {
            return (!status.is_empty()).then_some(status);
        };
        let layer = self.layers.entry(id).or_default();
        layer.done = matches!(&*status, "Pull complete" | "Already exists");
        match (&*status, step.progress_detail) {
            // The same numbers begin again when the layer is unpacked.
            ("Downloading", Some(detail)) => {
                layer.current = detail.current.unwrap_or(layer.current);
                layer.total = detail.total.unwrap_or(layer.total);
            }
            ("Download complete" | "Pull complete", _) => layer.current = layer.total,
            _ => {}
        }
        if self.reported.is_some_and(|last| now < last + REPORT_EVERY) {
            return None;
        }
        self.reported = Some(now);
        let done = self.layers.values().filter(|layer| layer.done).count();
        let sum = |of: fn(&Layer) -> i64| megabytes(self.layers.values().map(of).sum());
        let (current, total) = (sum(|layer| layer.current), sum(|layer| layer.total));
        Some(format!("{done} of {} layers, {current} of {total} MB", self.layers.len()))
    }
}

fn megabytes(bytes: i64) -> String {
    let tenths = bytes.max(0) / 100_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_what_stands_before_the_first_slash_if_it_looks_like_a_host() {
        for (reference, host) in [
            ("alpine", "docker.io"),
            ("library/alpine:3.20", "docker.io"),
            ("ghcr.io/a/b", "ghcr.io"),
            ("localhost/a", "localhost"),
            ("127.0.0.1:5000/a/b@sha256:00", "127.0.0.1:5000"),
        ] {
            assert_eq!(registry(reference), host, "{reference}");
        }
    }

    #[test]
    fn one_tag_is_pulled() {
        for (reference, pulled) in [
            ("alpine", "alpine:latest"),
            ("alpine:3", "alpine:3"),
            ("host:5000/a", "host:5000/a:latest"),
            ("a@sha256:00", "a@sha256:00"),
        ] {
            assert_eq!(with_tag(reference), pulled, "{reference}");
        }
    }

    #[test]
    fn a_reference_cannot_become_another_request() {
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "../containers",
            "a/../../containers",
            "a?b=c",
            "a#b",
            "a b",
            "a%2e",
            "a\nb",
        ] {
            assert!(check_reference(bad).is_err(), "{bad}");
        }
        for good in ["a", "a.b/c_d-e:F", "sha256:00ff", "h:1/a@sha256:00"] {
            assert!(check_reference(good).is_ok(), "{good}");
        }
    }
}

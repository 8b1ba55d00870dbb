//! Runs a job's steps in a container of its image, each as a process of its own. The container is there for the whole job.

use loom_sdk::docker::{
    self, Command, Container, ContainerSpec, Image, ImageBuild, PullPolicy, WorkspaceMount,
};
use loom_sdk::{Error, ErrorKind, Exit, Job, Message, Provider, Result, Step, config};
use serde::Deserialize;

mod services;

use services::Service;

#[derive(Debug, Default)]
struct Docker {
    container: Option<Container>,
}

loom_sdk::export_provider!(Docker);

/// What the workflow says.
#[derive(Deserialize)]
struct Keywords {
    image: Option<String>,
    image_build: Option<Build>,
    image_options: ImageOptions,
    #[serde(default)]
    services: Vec<Service>,
}

#[derive(Deserialize)]
struct Build {
    context: String,
    dockerfile: String,
    #[serde(default)]
    args: Vec<Variable>,
    target: Option<String>,
}

#[derive(Deserialize)]
struct Variable {
    key: String,
    value: String,
}

#[derive(Deserialize)]
struct ImageOptions {
    entrypoint: Option<Vec<String>>,
    pull_policy: Option<Pull>,
    user: Option<String>,
    platform: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Pull {
    IfNotPresent,
    Always,
    Never,
}

/// What the user's configuration says.
#[derive(Deserialize)]
struct Settings {
    workspace_mount: Mount,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mount {
    EphemeralVolume,
    BindMount,
}

impl Provider for Docker {
    fn prepare(&mut self, job: Job<'_>) -> Result<()> {
        let keywords: Keywords = serde_json::from_str(&job.keyword())?;
        let settings: Settings = serde_json::from_str(&config::json())?;
        let Some(image) = keywords.image else {
            return Err(Error::new(ErrorKind::Invalid, "IMAGE_MISSING", "the job has no image to run in")
                .with_hint("give it an `image`, or leave `provider: docker` out"));
        };
        let options = keywords.image_options;

        let daemon = docker::connect()?;
        let rootless = if daemon.rootless { ", rootless" } else { "" };
        Message::info(format!(
            "{} {} ({}{rootless}) at {}",
            daemon.engine, daemon.version, daemon.platform, daemon.address
        ))
        .with("address", daemon.address)
        .with("version", daemon.version)
        .with("api", daemon.api)
        .record();

        let found = match &keywords.image_build {
            Some(build) => self::build(&image, build, &options)?,
            None => fetch(&image, &options)?,
        };
        let digest = found.digest.as_deref().unwrap_or(&found.id);
        let how = match &keywords.image_build {
            Some(_) => "was built",
            None if found.pulled => "was pulled",
            None => "was there",
        };
        Message::info(format!("image `{image}` {how}: {digest}"))
            .with("image", image.as_str())
            .with("digest", digest)
            .with("pulled", found.pulled)
            .record();

        let mount = match settings.workspace_mount {
            Mount::EphemeralVolume => WorkspaceMount::EphemeralVolume,
            Mount::BindMount => WorkspaceMount::BindMount,
        };
        let mut spec = container(&image, &options).mount_workspace(mount).mount_secrets();
        if !keywords.services.is_empty() {
            let network = services::start(&keywords.services)?;
            spec = spec.join(&network, &[]);
        }
        let container = spec.create()?;
        container.start()?;
        let (id, name) = (container.id(), container.name());
        Message::info(format!("container {name}")).with("container", name).with("container_id", id).record();
        self.container = Some(container);
        Ok(())
    }

    fn run_step(&mut self, job: Job<'_>, step: Step<'_>) -> Result<Exit> {
        let Some(container) = &self.container else {
            return Err(Error::new(ErrorKind::Failed, "CONTAINER_MISSING", "the job has no container"));
        };
        let command = step.command();
        let mut argv = vec!["sh"];
        argv.extend(step.shell_options(job));
        argv.push(&command);
        Command::new(&argv).inherit_job_env().stdout(&step.stdout()).stderr(&step.stderr()).run(container)
    }
}

fn fetch(image: &str, options: &ImageOptions) -> Result<Image> {
    let policy = match options.pull_policy {
        Some(Pull::Always) => PullPolicy::Always,
        Some(Pull::Never) => PullPolicy::Never,
        Some(Pull::IfNotPresent) | None => PullPolicy::IfNotPresent,
    };
    docker::ensure_image(image, policy, options.platform.as_deref())
}

fn build(image: &str, build: &Build, options: &ImageOptions) -> Result<Image> {
    let mut request = ImageBuild::new(image, &build.context).dockerfile(&build.dockerfile);
    for Variable { key, value } in &build.args {
        request = request.arg(key, value);
    }
    if let Some(stage) = &build.target {
        request = request.target(stage);
    }
    if let Some(platform) = &options.platform {
        request = request.platform(platform);
    }
    request.run()
}

/// A shell that waits, after the workflow's own entrypoint where it names one. The image's own is not run.
fn container(image: &str, options: &ImageOptions) -> ContainerSpec {
    let mut entrypoint: Vec<String> = options.entrypoint.clone().unwrap_or_default();
    entrypoint.retain(|word| !word.is_empty());
    let shell = vec!["sh".to_owned()];
    let spec = ContainerSpec::new("job", image).open_stdin();
    let spec = if entrypoint.is_empty() {
        spec.entrypoint(&shell).command(&[])
    } else {
        spec.entrypoint(&entrypoint).command(&shell)
    };
    let spec = match &options.user {
        Some(user) => spec.user(user),
        None => spec,
    };
    match &options.platform {
        Some(platform) => spec.platform(platform),
        None => spec,
    }
}

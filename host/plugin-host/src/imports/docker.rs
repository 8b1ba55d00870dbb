//! `loom:docker/engine`: what `loom_docker` does for jobs, as plugins call it.

pub(crate) mod command;
pub(crate) mod container;

use std::sync::Arc;

use loom_contract::event::{Finish, Level, Stream as Recorded};
use loom_contract::section::Section;
use loom_contract::status::Status;
use loom_docker::{Build, Error as DockerError, ImageInfo, JobDocker, Network};
use loom_engine::cancel::{Cancel, Urgency};
use loom_engine::port::{JobContext, OpenSection};
use wasmtime::component::Resource;

use crate::bindings::loom::docker::engine::{Daemon, Host, HostImageBuild, HostNetwork, Image, PullPolicy};
use crate::bindings::loom::host::types::{Error, ErrorKind};
use crate::docker::{section_end, to_plugin_error};
use crate::guest::{self, Guest};
use crate::imports::types::error;
use crate::imports::workspace;
use crate::manifest::DockerRight;

/// An image that is to be built.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
#[derive(Clone)]
pub struct BuildHandle {
    build: Build,
    /// Relative to the workspace, as is the next.
    context: String,
    dockerfile: Option<String>,
}

/// A network of the guest's own job.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct NetworkHandle(Network);

/// What `work` comes to, unless the job is cancelled first.
async fn unless_cancelled<T>(
    mut cancel: Cancel,
    work: impl Future<Output = Result<T, DockerError>>,
) -> Result<T, Error> {
    tokio::select! {
        done = work => done.map_err(|error| to_plugin_error(&error)),
        () = cancel.reached(Urgency::Ask) => Err(cancelled()),
    }
}

fn cancelled() -> Error {
    error(ErrorKind::Cancelled, "DOCKER_CANCELLED", "the job was cancelled")
}

impl Host for Guest {
    async fn connect(&mut self) -> wasmtime::Result<Result<Daemon, Error>> {
        let run = self.config.docker.clone();
        let run = run.ok_or_else(|| wasmtime::format_err!("the run has no Docker daemon"))?;
        let job = Arc::clone(self.job()?);
        let mut cancel = job.cancel.clone();
        let docker = tokio::select! {
            docker = self.kept.docker.connect(&run, &job) => docker,
            () = cancel.reached(Urgency::Ask) => Err(cancelled()),
        };
        Ok(docker.map(|docker| {
            let daemon = docker.daemon();
            Daemon {
                engine: if daemon.podman { "Podman" } else { "Docker" }.to_owned(),
                address: daemon.address.clone(),
                version: daemon.engine_version.clone(),
                api: daemon.api_version.clone(),
                platform: format!("{}/{}", daemon.os, daemon.arch),
                rootless: daemon.rootless,
            }
        }))
    }

    async fn ensure_image(
        &mut self,
        name: String,
        policy: PullPolicy,
        platform: Option<String>,
    ) -> wasmtime::Result<Result<Image, Error>> {
        let job = Arc::clone(self.job()?);
        Ok(self.pull(&job, name, policy, platform).await)
    }
}

impl HostImageBuild for Guest {
    fn new(&mut self, name: String, context: String) -> wasmtime::Result<Resource<BuildHandle>> {
        let build = Build { tags: vec![name], ..Build::default() };
        Ok(self.table.push(BuildHandle { build, context, dockerfile: None })?)
    }

    fn dockerfile(&mut self, build: Resource<BuildHandle>, path: String) -> wasmtime::Result<()> {
        self.table.get_mut(&build)?.dockerfile = Some(path);
        Ok(())
    }

    fn arg(&mut self, build: Resource<BuildHandle>, name: String, value: String) -> wasmtime::Result<()> {
        self.table.get_mut(&build)?.build.args.push((name, value));
        Ok(())
    }

    fn target(&mut self, build: Resource<BuildHandle>, stage: String) -> wasmtime::Result<()> {
        self.table.get_mut(&build)?.build.target = Some(stage);
        Ok(())
    }

    fn platform(&mut self, build: Resource<BuildHandle>, platform: String) -> wasmtime::Result<()> {
        self.table.get_mut(&build)?.build.platform = Some(platform);
        Ok(())
    }

    async fn run(&mut self, build: Resource<BuildHandle>) -> wasmtime::Result<Result<Image, Error>> {
        let handle = self.table.get(&build)?.clone();
        let name = handle.build.tags.first().cloned().unwrap_or_default();
        let job = Arc::clone(self.job()?);
        let section = job.open_section(Section::ImageBuild);
        let built = self.build(handle, &job, &section).await;
        section.finish(match &built {
            Ok(_) => Finish::new(Status::Success),
            Err(error) => section_end(&job, error),
        });
        Ok(built.map(|image| self.enter_image(&job, &name, image, false)))
    }

    fn drop(&mut self, build: Resource<BuildHandle>) -> wasmtime::Result<()> {
        self.table.delete(build)?;
        Ok(())
    }
}

impl HostNetwork for Guest {
    async fn create(&mut self, name: String) -> wasmtime::Result<Result<Resource<NetworkHandle>, Error>> {
        let cancel = self.job()?.cancel.clone();
        let docker = match self.docker_for(DockerRight::Run, "make networks") {
            Ok(docker) => docker,
            Err(error) => return Ok(Err(error)),
        };
        Ok(match unless_cancelled(cancel, docker.create_network(&name)).await {
            Ok(network) => Ok(self.table.push(NetworkHandle(network))?),
            Err(error) => Err(error),
        })
    }

    fn drop(&mut self, network: Resource<NetworkHandle>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl Guest {
    /// The job's side of the daemon, for a plugin that has `right`: it may do `what`.
    fn docker_for(&self, right: DockerRight, what: &str) -> Result<Arc<JobDocker>, Error> {
        if self.plugin.manifest.capabilities.docker.contains(&right) {
            self.kept.docker.get()
        } else {
            Err(self.denied(what))
        }
    }

    fn denied(&self, what: &str) -> Error {
        let message = format!("the plugin `{}` may not {what}", self.plugin.reference.name);
        let hint = "its manifest does not ask for it under `capabilities.docker`".to_owned();
        Error {
            hint: Some(hint),
            ..error(ErrorKind::Denied, loom_contract::error::code::PLUGIN_DENIED, message)
        }
    }

    async fn pull(
        &mut self,
        job: &Arc<JobContext>,
        name: String,
        policy: PullPolicy,
        platform: Option<String>,
    ) -> Result<Image, Error> {
        let docker = self.kept.docker.get()?;
        let may_pull = self.plugin.manifest.capabilities.docker.contains(&DockerRight::Pull);
        let policy = match policy {
            PullPolicy::Always if may_pull => loom_docker::PullPolicy::Always,
            PullPolicy::IfNotPresent if may_pull => loom_docker::PullPolicy::IfNotPresent,
            PullPolicy::Always => return Err(self.denied("pull images")),
            PullPolicy::IfNotPresent | PullPolicy::Never => loom_docker::PullPolicy::Never,
        };
        let mut pulled = false;
        let scope = self.scope;
        let on_line = |line: &str| {
            pulled = true;
            guest::say(scope, Some(job), Level::Info, line.to_owned(), None);
        };
        let ensure = docker.ensure_image(&name, policy, platform.as_deref(), on_line);
        let image = unless_cancelled(job.cancel.clone(), ensure).await?;
        Ok(self.enter_image(job, &name, image, pulled))
    }

    async fn build(
        &mut self,
        handle: BuildHandle,
        job: &JobContext,
        section: &OpenSection,
    ) -> Result<ImageInfo, Error> {
        let BuildHandle { mut build, context, dockerfile } = handle;
        let docker = self.docker_for(DockerRight::Build, "build images")?;
        let root = job.workspace.canonicalize().map_err(Error::from)?;
        let about =
            |what: &str, cause: Error| Error { message: format!("{what}: {}", cause.message), ..cause };
        build.context =
            workspace::inside(&root, &context).map_err(|cause| about("the context of the image", cause))?;
        if let Some(dockerfile) = dockerfile {
            let path = workspace::inside(&root, &dockerfile);
            let path = path.map_err(|cause| about("the Dockerfile of the image", cause))?;
            let below = path.strip_prefix(&build.context).map_err(|_| {
                let message = format!("the Dockerfile `{dockerfile}` is not below the context `{context}`");
                error(ErrorKind::Invalid, "DOCKERFILE_OUTSIDE", message)
            })?;
            build.dockerfile = Some(below.to_string_lossy().into_owned());
        }
        let mut lines = section.sink(Recorded::Stdout).lines();
        let built = {
            let on_line = |line: &str| {
                lines.push(line.as_bytes());
                lines.push(b"\n");
            };
            unless_cancelled(job.cancel.clone(), docker.build(build, on_line)).await
        };
        lines.end();
        built
    }

    /// The daemon has an image. If it is the job's own, its variables are filled in from that.
    fn enter_image(&self, job: &Arc<JobContext>, name: &str, image: ImageInfo, pulled: bool) -> Image {
        let (id, digest) = (image.id, image.digests.into_iter().next());
        if job.image.as_deref() == Some(name) {
            let digest = digest.as_ref().unwrap_or(&id);
            for (message, data) in self.kept.docker.enter_image(job, &image.env, digest).warnings() {
                self.say(Level::Warn, message, Some(data));
            }
        }
        Image { id, digest, pulled }
    }
}

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
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use self::wit::loom::docker::engine::{self, Daemon, Host, HostImageBuild, HostNetwork, Image, PullPolicy};
use crate::config::PluginConfig;
use crate::docker::{DockerState, section_end, to_plugin_error};
use crate::guest::{Guest, OwnJob};
use crate::imports::workspace;
use crate::info::PluginInfo;
use crate::manifest::DockerRight;
use crate::messages::Messages;
use crate::types::{Error, ErrorKind, Failure, error};
use crate::wall::Wall;

mod wit {
    wasmtime::component::bindgen!({
        path: "../../wit",
        interfaces: "import loom:docker/engine@0.1.0;",
        imports: {
            "loom:docker/engine.connect": async | trappable,
            "loom:docker/engine.ensure-image": async | trappable,
            "loom:docker/engine.[method]image-build.run": async | trappable,
            "loom:docker/engine.[method]container-spec.create": async | trappable,
            "loom:docker/engine.[static]network.create": async | trappable,
            "loom:docker/engine.[method]container.start": async | trappable,
            "loom:docker/engine.[method]container.wait-healthy": async | trappable,
            "loom:docker/engine.[method]command.run": async | trappable,
            default: trappable,
        },
        with: {
            "loom:host/types": crate::types::wit,
            "loom:docker/engine.image-build": super::BuildHandle,
            "loom:docker/engine.network": super::NetworkHandle,
            "loom:docker/engine.container-spec": super::container::Spec,
            "loom:docker/engine.container": super::container::ContainerHandle,
            "loom:docker/engine.command": super::command::Request,
        },
        trappable_error_type: { "loom:host/types.error" => crate::types::Failure },
    });
}

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

/// The part of a guest that the functions work on.
pub(crate) struct View<'a> {
    plugin: &'a PluginInfo,
    config: &'a PluginConfig,
    docker: &'a DockerState,
    job: &'a OwnJob,
    messages: &'a Messages,
    call: u64,
    wall: &'a Wall,
    table: &'a mut ResourceTable,
}

struct Engine;

impl HasData for Engine {
    type Data<'a> = View<'a>;
}

/// Offers the interface to guests.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    engine::add_to_linker::<_, Engine>(linker, |guest| View {
        plugin: &guest.plugin,
        config: &guest.config,
        docker: &guest.kept.docker,
        job: &guest.job,
        messages: &guest.messages,
        call: guest.call,
        wall: &guest.wall,
        table: &mut guest.table,
    })
}

impl Host for View<'_> {
    async fn connect(&mut self) -> Result<Daemon, Failure> {
        let _of_job = self.wall.of_job();
        let run = self.config.docker.as_ref();
        let run = run.ok_or_else(|| wasmtime::format_err!("the run has no Docker daemon"))?;
        let job = self.job.get()?;
        let mut cancel = job.cancel.clone();
        let docker = tokio::select! {
            docker = self.docker.connect(run, job) => docker?,
            () = cancel.reached(Urgency::Ask) => return Err(cancelled().into()),
        };
        let daemon = docker.daemon();
        Ok(Daemon {
            engine: if daemon.podman { "Podman" } else { "Docker" }.to_owned(),
            address: daemon.address.clone(),
            version: daemon.engine_version.clone(),
            api: daemon.api_version.clone(),
            platform: format!("{}/{}", daemon.os, daemon.arch),
            rootless: daemon.rootless,
        })
    }

    async fn ensure_image(
        &mut self,
        name: String,
        policy: PullPolicy,
        platform: Option<String>,
    ) -> Result<Image, Failure> {
        let _of_job = self.wall.of_job();
        let job = self.job.get()?;
        Ok(self.pull(job, name, policy, platform).await?)
    }
}

impl HostImageBuild for View<'_> {
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

    async fn run(&mut self, build: Resource<BuildHandle>) -> Result<Image, Failure> {
        let _of_job = self.wall.of_job();
        let handle = self.table.get(&build)?.clone();
        let name = handle.build.tags.first().cloned().unwrap_or_default();
        let job = self.job.get()?;
        let section = job.open_section(Section::ImageBuild);
        let built = self.build(handle, job, &section).await;
        section.finish(match &built {
            Ok(_) => Finish::new(Status::Success),
            Err(error) => section_end(job, error),
        });
        Ok(self.enter_image(job, &name, built?, false))
    }

    fn drop(&mut self, build: Resource<BuildHandle>) -> wasmtime::Result<()> {
        self.table.delete(build)?;
        Ok(())
    }
}

impl HostNetwork for View<'_> {
    async fn create(&mut self, name: String) -> Result<Resource<NetworkHandle>, Failure> {
        let _of_job = self.wall.of_job();
        let cancel = self.job.get()?.cancel.clone();
        let docker = self.docker_for(DockerRight::Run, "make networks")?;
        let network = unless_cancelled(cancel, docker.create_network(&name)).await?;
        Ok(self.table.push(NetworkHandle(network))?)
    }

    fn drop(&mut self, network: Resource<NetworkHandle>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl View<'_> {
    /// The job's side of the daemon, for a plugin that has `right`: it may do `what`.
    fn docker_for(&self, right: DockerRight, what: &str) -> Result<Arc<JobDocker>, Error> {
        if self.plugin.manifest.capabilities.docker.contains(&right) {
            self.docker.get()
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
        job: &JobContext,
        name: String,
        policy: PullPolicy,
        platform: Option<String>,
    ) -> Result<Image, Error> {
        let docker = self.docker.get()?;
        let may_pull = self.plugin.manifest.capabilities.docker.contains(&DockerRight::Pull);
        let policy = match policy {
            PullPolicy::Always if may_pull => loom_docker::PullPolicy::Always,
            PullPolicy::IfNotPresent if may_pull => loom_docker::PullPolicy::IfNotPresent,
            PullPolicy::Always => return Err(self.denied("pull images")),
            PullPolicy::IfNotPresent | PullPolicy::Never => loom_docker::PullPolicy::Never,
        };
        let mut pulled = false;
        let on_line = |line: &str| {
            pulled = true;
            self.messages.record(Level::Info, line.to_owned(), None);
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
    fn enter_image(&self, job: &JobContext, name: &str, image: ImageInfo, pulled: bool) -> Image {
        let (id, digest) = (image.id, image.digests.into_iter().next());
        if job.image.as_deref() == Some(name) {
            let digest = digest.as_ref().unwrap_or(&id);
            for (message, data) in self.docker.enter_image(job, &image.env, digest).warnings() {
                self.messages.record(Level::Warn, message, Some(data));
            }
        }
        Image { id, digest, pulled }
    }
}

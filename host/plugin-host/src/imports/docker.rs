//! `loom:docker/engine`.

use std::sync::Arc;
use std::time::Duration;

use loom_contract::error::code;
use loom_contract::event::{Finish, Level, Stream as Recorded};
use loom_contract::section::Section;
use loom_contract::status::Status as Ended;
use loom_contract::words::counted;
use loom_docker::{
    Build, Chunk, Container, ContainerSpec, Error as DockerError, Exec, ExecExit, ExecSpec, Expect, Gone,
    Ids, ImageInfo, KeepOutput, Network, Networking, Outside, Packed, Scope, Status, Stream,
};
use loom_engine::cancel::{Cancel, GRACE, Urgency};
use loom_engine::environment::WORKSPACE_IN_CONTAINER;
use loom_engine::mask::{FILE_IN_CONTAINER, VARIABLE};
use loom_engine::output::OutputSink;
use loom_engine::port::{JobContext, OpenSection};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use wasmtime::component::Resource;
use zeroize::Zeroizing;

use crate::bindings::loom::docker::engine::{
    Daemon, Host, HostCommand, HostContainer, HostContainerSpec, HostImageBuild, HostNetwork, Image,
    PullPolicy, WorkspaceMount,
};
use crate::bindings::loom::host::types::{Error, ErrorKind, Exit};
use crate::docker::{Bound, Filling, Made, RunDocker, Share, VolumeFiles, Wanted, ids, not_done, told};
use crate::guest::{self, Guest};
use crate::imports::types::{Sink, error};
use crate::imports::workspace;
use crate::manifest::DockerRight;

/// Reads from its input, which is kept nowhere, a script that sets those secrets that are variables, and becomes what would
/// have run without. What every shell has in itself is enough for it.
const TAKE_VARIABLES: &str = r#"while IFS= read -r LOOM_LINE; do LOOM_SCRIPT="$LOOM_SCRIPT$LOOM_LINE
"; done
eval "$LOOM_SCRIPT" && [ "$LOOM_LAST" = line ] || exit 125
unset LOOM_LINE LOOM_SCRIPT LOOM_LAST
exec "$@" </dev/null"#;
/// By which it knows that it has all of it.
const LAST_VARIABLE: &[u8] = b"LOOM_LAST=line\n";

/// The exit code of who cannot find the program that it is to run.
const NO_PROGRAM: i64 = 127;

/// Chunks of output that wait to be recorded.
const WAITING: usize = 16;

/// An image that is to be built.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
#[derive(Clone)]
pub struct BuildHandle {
    build: Build,
    /// Relative to the workspace, as is the next.
    context: String,
    dockerfile: Option<String>,
}

/// A container that is to be made.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
#[derive(Clone)]
pub struct Spec {
    spec: ContainerSpec,
    workspace: Option<WorkspaceMount>,
    secrets: bool,
    inherits: bool,
    service: Option<String>,
}

/// A network of the guest's own job.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct NetworkHandle(Network);

/// A container of the guest's own job.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
#[derive(Clone)]
pub struct ContainerHandle {
    container: Container,
    /// What it starts with.
    program: String,
    /// Who runs its processes.
    user: String,
    workspace: Option<WorkspaceMount>,
    /// What its volumes are filled with.
    filling: Option<Filling>,
    /// What it is given as its input.
    input: Option<Arc<Zeroizing<Vec<u8>>>>,
    /// The name by which its output is told.
    service: Option<String>,
    /// Whether the file is in it into which the job writes what is to be masked.
    has_mask: bool,
}

/// A command that is to be run.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
#[derive(Clone)]
pub struct Request {
    spec: ExecSpec,
    inherits: bool,
    stdout: Option<Result<OutputSink, Error>>,
    stderr: Option<Result<OutputSink, Error>>,
}

/// Whether the user of a container, as it is named to the daemon, is root.
fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), None | Some("" | "0" | "root"))
}

/// What `work` comes to, unless the job is cancelled first.
async fn unless_cancelled<T>(
    cancel: Cancel,
    work: impl Future<Output = Result<T, DockerError>>,
) -> Result<T, Error> {
    unless_asked(cancel, async { work.await.map_err(|error| told(&error)) }).await
}

/// The same for what is in words for plugins already.
async fn unless_asked<T>(
    mut cancel: Cancel,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        done = work => done,
        () = cancel.reached(Urgency::Ask) => {
            Err(error(ErrorKind::Cancelled, "DOCKER_CANCELLED", "the job was cancelled"))
        }
    }
}

impl Host for Guest {
    async fn connect(&mut self) -> wasmtime::Result<Result<Daemon, Error>> {
        let (access, job) = (self.docker()?, Arc::clone(self.job()?));
        let mut cancel = job.cancel.clone();
        let docker = tokio::select! {
            docker = access.connect() => docker,
            () = cancel.reached(Urgency::Ask) => {
                Err(error(ErrorKind::Cancelled, "DOCKER_CANCELLED", "the job was cancelled"))
            }
        };
        Ok(docker.map(|docker| {
            let scope = || access.scope(&docker, job.ids.run_id.as_str(), job.id.as_str());
            self.kept.docker.scope.get_or_init(scope);
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
        let scope = match self.scope() {
            Ok(scope) => scope,
            Err(error) => return Ok(Err(error)),
        };
        let may_pull = self.plugin.manifest.capabilities.docker.contains(&DockerRight::Pull);
        let policy = match policy {
            PullPolicy::Always if may_pull => loom_docker::PullPolicy::Always,
            PullPolicy::IfNotPresent if may_pull => loom_docker::PullPolicy::IfNotPresent,
            PullPolicy::Always => return Ok(Err(self.denied("pull images"))),
            PullPolicy::IfNotPresent | PullPolicy::Never => loom_docker::PullPolicy::Never,
        };
        let access = self.docker()?;
        let platform = platform.or_else(|| access.default_platform().map(str::to_owned));
        let logins = access.logins();
        let cancel = self.job()?.cancel.clone();
        let mut pulled = false;
        let (job, place) = (Arc::clone(self.job()?), self.place);
        let told_lines = |line: &str| {
            pulled = true;
            guest::say(place, Some(&job), Level::Info, line.to_owned(), None);
        };
        let there = scope.docker().ensure_image(&name, policy, platform.as_deref(), &logins, told_lines);
        let image = match unless_cancelled(cancel, there).await {
            Ok(image) => image,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(self.known(name, image, pulled)?))
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
        let job = Arc::clone(self.job()?);
        let section = job.open_section(Section::ImageBuild);
        let built = self.build(handle, &job, &section).await;
        section.finish(match &built {
            Ok(_) => Finish::new(Ended::Success),
            Err(error) => not_done(&job, error),
        });
        Ok(match built {
            Ok((name, image)) => Ok(self.known(name, image, false)?),
            Err(error) => Err(error),
        })
    }

    fn drop(&mut self, build: Resource<BuildHandle>) -> wasmtime::Result<()> {
        self.table.delete(build)?;
        Ok(())
    }
}

impl HostContainerSpec for Guest {
    fn new(&mut self, name: String, image: String) -> wasmtime::Result<Resource<Spec>> {
        let spec =
            ContainerSpec { name, image, init: true, output: KeepOutput::No, ..ContainerSpec::default() };
        Ok(self.table.push(Spec { spec, workspace: None, secrets: false, inherits: false, service: None })?)
    }

    fn entrypoint(&mut self, spec: Resource<Spec>, argv: Vec<String>) -> wasmtime::Result<()> {
        self.table.get_mut(&spec)?.spec.entrypoint = Some(argv);
        Ok(())
    }

    fn command(&mut self, spec: Resource<Spec>, argv: Vec<String>) -> wasmtime::Result<()> {
        self.table.get_mut(&spec)?.spec.command = Some(argv);
        Ok(())
    }

    fn open_stdin(&mut self, spec: Resource<Spec>) -> wasmtime::Result<()> {
        self.table.get_mut(&spec)?.spec.stdin_open = true;
        Ok(())
    }

    fn user(&mut self, spec: Resource<Spec>, user: String) -> wasmtime::Result<()> {
        self.table.get_mut(&spec)?.spec.user = Some(user);
        Ok(())
    }

    fn platform(&mut self, spec: Resource<Spec>, platform: String) -> wasmtime::Result<()> {
        self.table.get_mut(&spec)?.spec.platform = Some(platform);
        Ok(())
    }

    fn mount_workspace(&mut self, spec: Resource<Spec>, how: WorkspaceMount) -> wasmtime::Result<()> {
        self.table.get_mut(&spec)?.workspace = Some(how);
        Ok(())
    }

    fn mount_secrets(&mut self, spec: Resource<Spec>) -> wasmtime::Result<()> {
        self.table.get_mut(&spec)?.secrets = true;
        Ok(())
    }

    fn env(&mut self, spec: Resource<Spec>, name: String, value: String) -> wasmtime::Result<()> {
        self.table.get_mut(&spec)?.spec.env.push((name, value));
        Ok(())
    }

    fn inherit_job_env(&mut self, spec: Resource<Spec>) -> wasmtime::Result<()> {
        self.table.get_mut(&spec)?.inherits = true;
        Ok(())
    }

    fn join(
        &mut self,
        spec: Resource<Spec>,
        network: Resource<NetworkHandle>,
        aliases: Vec<String>,
    ) -> wasmtime::Result<()> {
        let network = self.table.get(&network)?.0.clone();
        self.table.get_mut(&spec)?.spec.networking = Networking::Joined { network, aliases };
        Ok(())
    }

    fn serve(&mut self, spec: Resource<Spec>, name: String) -> wasmtime::Result<()> {
        let spec = self.table.get_mut(&spec)?;
        spec.spec.output = KeepOutput::Yes;
        spec.service = Some(name);
        Ok(())
    }

    async fn create(
        &mut self,
        spec: Resource<Spec>,
    ) -> wasmtime::Result<Result<Resource<ContainerHandle>, Error>> {
        let spec = self.table.get(&spec)?.clone();
        Ok(match self.create_container(spec).await {
            Ok(handle) => Ok(self.table.push(handle)?),
            Err(error) => Err(error),
        })
    }

    fn drop(&mut self, spec: Resource<Spec>) -> wasmtime::Result<()> {
        self.table.delete(spec)?;
        Ok(())
    }
}

impl HostNetwork for Guest {
    async fn create(&mut self, name: String) -> wasmtime::Result<Result<Resource<NetworkHandle>, Error>> {
        if !self.plugin.manifest.capabilities.docker.contains(&DockerRight::Run) {
            return Ok(Err(self.denied("make networks")));
        }
        let cancel = self.job()?.cancel.clone();
        let scope = match self.scope() {
            Ok(scope) => scope,
            Err(error) => return Ok(Err(error)),
        };
        Ok(match unless_cancelled(cancel, scope.create_network(&name, Outside::Reachable)).await {
            Ok(network) => Ok(self.table.push(NetworkHandle(network))?),
            Err(error) => Err(error),
        })
    }

    fn drop(&mut self, network: Resource<NetworkHandle>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl HostContainer for Guest {
    fn id(&mut self, handle: Resource<ContainerHandle>) -> wasmtime::Result<String> {
        Ok(self.table.get(&handle)?.container.id().to_owned())
    }

    fn name(&mut self, handle: Resource<ContainerHandle>) -> wasmtime::Result<String> {
        Ok(self.table.get(&handle)?.container.name().to_owned())
    }

    async fn start(&mut self, handle: Resource<ContainerHandle>) -> wasmtime::Result<Result<(), Error>> {
        let ContainerHandle { container, program, user, workspace, filling, input, service, has_mask: _ } =
            self.table.get(&handle)?.clone();
        let job = Arc::clone(self.job()?);
        let start = async {
            match &input {
                Some(input) => container.start_with_input(input).await,
                None => container.start().await,
            }
        };
        if let Some(name) = service {
            let started = unless_cancelled(job.cancel.clone(), Box::pin(start)).await;
            let services = &self.kept.docker.services;
            match &started {
                Ok(()) => services.follow(&job, &container, name),
                Err(error) => services.failed(&job, &container, not_done(&job, error)).await,
            }
            return Ok(started);
        }
        let start = async {
            start.await?;
            let state = container.state().await?;
            if state.status != Status::Ended {
                return Ok(());
            }
            Err(not_started(&program, state.exit_code))
        };
        let scope = match self.scope() {
            Ok(scope) => scope,
            Err(error) => return Ok(Err(error)),
        };
        let filled = async {
            let Some(filling) = &filling else { return Box::pin(start).await.map(|()| None) };
            let (started, sent) = tokio::join!(Box::pin(start), Box::pin(filling.send(&job, &user)));
            started?;
            let (owner, packed) = sent?;
            Box::pin(filling.send_secrets(&job, owner)).await?;
            // What stays now goes with the job.
            let _ = scope.remove(&filling.through.resource()).await;
            Ok(Some((owner, packed)))
        };
        let filled = match unless_cancelled(job.cancel.clone(), Box::pin(filled)).await {
            Ok(filled) => filled,
            Err(error) => return Ok(Err(error)),
        };
        filling.iter().flat_map(Filling::objects).for_each(|text| self.say(Level::Info, text, None));
        match (workspace, filled) {
            (Some(WorkspaceMount::EphemeralVolume), Some((owner, packed)))
                if filling.is_some_and(|filling| filling.workspace) =>
            {
                self.say_sent(packed);
                job.set_files(Arc::new(VolumeFiles { container, owner }));
            }
            (Some(WorkspaceMount::EphemeralVolume), _) => {
                self.say_mount(
                    "ephemeral_volume",
                    "a layer over the run's copy of the repository",
                    Map::new(),
                );
                job.set_files(Arc::new(VolumeFiles { container, owner: Ids::default() }));
            }
            (Some(WorkspaceMount::BindMount), _) => {
                self.say_mount("bind_mount", "the run's copy of the repository itself", Map::new());
            }
            (None, _) => {}
        }
        Ok(Ok(()))
    }

    async fn wait_healthy(
        &mut self,
        handle: Resource<ContainerHandle>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<(), Error>> {
        let handle = self.table.get(&handle)?.clone();
        let job = Arc::clone(self.job()?);
        let within = Duration::from_millis(timeout_ms.into());
        let services = &self.kept.docker.services;
        let is_awaited = services.is_awaited(&handle.container);
        let expect = if is_awaited { Expect::Running } else { Expect::Health };
        let wait = handle.container.wait_healthy(within, expect);
        let healthy = unless_cancelled(job.cancel.clone(), wait).await;
        if let (Err(error), Some(_)) = (&healthy, &handle.service) {
            services.failed(&job, &handle.container, not_done(&job, error)).await;
        }
        Ok(healthy)
    }

    fn drop(&mut self, handle: Resource<ContainerHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl HostCommand for Guest {
    fn new(&mut self, argv: Vec<String>) -> wasmtime::Result<Resource<Request>> {
        let spec = ExecSpec { command: argv, ..ExecSpec::default() };
        Ok(self.table.push(Request { spec, inherits: false, stdout: None, stderr: None })?)
    }

    fn inherit_job_env(&mut self, command: Resource<Request>) -> wasmtime::Result<()> {
        self.table.get_mut(&command)?.inherits = true;
        Ok(())
    }

    fn env(&mut self, command: Resource<Request>, name: String, value: String) -> wasmtime::Result<()> {
        self.table.get_mut(&command)?.spec.env.push((name, value));
        Ok(())
    }

    fn user(&mut self, command: Resource<Request>, user: String) -> wasmtime::Result<()> {
        self.table.get_mut(&command)?.spec.user = Some(user);
        Ok(())
    }

    fn stdout(&mut self, command: Resource<Request>, sink: Resource<Sink>) -> wasmtime::Result<()> {
        let sink = self.table.get(&sink)?.open(self);
        self.table.get_mut(&command)?.stdout = Some(sink);
        Ok(())
    }

    fn stderr(&mut self, command: Resource<Request>, sink: Resource<Sink>) -> wasmtime::Result<()> {
        let sink = self.table.get(&sink)?.open(self);
        self.table.get_mut(&command)?.stderr = Some(sink);
        Ok(())
    }

    async fn run(
        &mut self,
        command: Resource<Request>,
        container: Resource<ContainerHandle>,
    ) -> wasmtime::Result<Result<Exit, Error>> {
        let request = self.table.get(&command)?.clone();
        let handle = self.table.get(&container)?.clone();
        let cancel = self.job()?.cancel.clone();
        let (stdout, stderr) = match (request.stdout.clone().transpose(), request.stderr.clone().transpose())
        {
            (Ok(stdout), Ok(stderr)) => (stdout, stderr),
            (Err(error), _) | (_, Err(error)) => return Ok(Err(error)),
        };
        let spec = match self.exec_spec(request, &handle) {
            Ok(spec) => spec,
            Err(error) => return Ok(Err(error)),
        };
        let services = &self.kept.docker.services;
        if handle.service.is_some() {
            services.awaits(&handle.container);
        }
        let ended = async {
            let exec = handle.container.exec(&spec).await?;
            heard(exec, cancel, stdout, stderr).await
        };
        let exit = match ended.await {
            Ok(exit) => exit,
            Err(error) => {
                let error = match handle.container.state().await {
                    Ok(state) if state.status == Status::Ended && !state.oom_killed => DockerError::Gone {
                        container: handle.container.name().to_owned(),
                        how: Gone::Ended { exit_code: state.exit_code },
                    },
                    _ => error,
                };
                return Ok(Err(told(&started(&handle.program, error))));
            }
        };
        if exit.code == 0 {
            services.is_ready(&handle.container);
        }
        if exit.oom_killed {
            let text = "the memory that the container may use was used up, and a process was killed for it";
            self.say(Level::Warn, text.to_owned(), None);
        }
        if exit.output_open {
            let text = "the step has ended, but something that it started still holds its output open; it is not heard any more";
            let data = Map::from_iter([("code".to_owned(), "output_detached".into())]);
            self.say(Level::Warn, text.to_owned(), Some(data));
        }
        Ok(match i32::try_from(exit.code) {
            Ok(code @ 0..=255) => Ok(Exit::Code(code)),
            _ => Err(error(
                ErrorKind::Failed,
                "DOCKER_EXIT",
                format!("the daemon says that it ended with {}", exit.code),
            )),
        })
    }

    fn drop(&mut self, command: Resource<Request>) -> wasmtime::Result<()> {
        self.table.delete(command)?;
        Ok(())
    }
}

impl Guest {
    fn docker(&self) -> wasmtime::Result<Arc<RunDocker>> {
        self.config.docker.clone().ok_or_else(|| wasmtime::format_err!("the run has no Docker daemon"))
    }

    /// What the job makes things with.
    fn scope(&self) -> Result<Scope, Error> {
        let unconnected = || error(ErrorKind::Invalid, "DOCKER_UNCONNECTED", "`connect` was not called");
        self.kept.docker.scope.get().cloned().ok_or_else(unconnected)
    }

    /// An image that the daemon has, from now on one that the job may run in.
    fn known(&mut self, name: String, image: ImageInfo, pulled: bool) -> wasmtime::Result<Image> {
        let job = Arc::clone(self.job()?);
        let unset = if job.image.as_ref() == Some(&name) { job.enter_image(&image.env) } else { &[] };
        for name in unset {
            let message = format!("variable `{name}` is referred to but not set; it is taken as empty");
            let data = Map::from_iter([("variable".to_owned(), name.as_str().into())]);
            self.say(Level::Warn, message, Some(data));
        }
        let (id, digest) = (image.id.clone(), image.digests.first().cloned());
        if job.image.as_ref() == Some(&name) {
            job.set_image_digest(digest.as_ref().unwrap_or(&id));
        }
        self.images.insert(name, image);
        Ok(Image { id, digest, pulled })
    }

    async fn build(
        &mut self,
        handle: BuildHandle,
        job: &JobContext,
        section: &OpenSection,
    ) -> Result<(String, ImageInfo), Error> {
        let BuildHandle { mut build, context, dockerfile } = handle;
        if !self.plugin.manifest.capabilities.docker.contains(&DockerRight::Build) {
            return Err(self.denied("build images"));
        }
        let scope = self.scope()?;
        let access = self.docker().map_err(|cause| error(ErrorKind::Failed, "DOCKER", cause.to_string()))?;
        let logins = access.logins();
        build.platform = build.platform.or_else(|| access.default_platform().map(str::to_owned));
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
        let name = build.tags.first().cloned().unwrap_or_default();
        let mut lines = section.sink(Recorded::Stdout).lines();
        let built = {
            let on_line = |line: &str| {
                lines.push(line.as_bytes());
                lines.push(b"\n");
            };
            unless_cancelled(job.cancel.clone(), scope.build(&build, &logins, on_line)).await
        };
        lines.end();
        Ok((name, built?))
    }

    /// How the workspace has come into the container.
    fn say_mount(&self, mount: &str, how: &str, mut data: Map<String, Value>) {
        data.insert("workspace_mount".to_owned(), mount.into());
        self.say(Level::Info, format!("workspace mount `{mount}`: {how}"), Some(data));
    }

    /// The workspace was sent.
    fn say_sent(&self, packed: Packed) {
        let how = format!("sent as {}, {}", counted(packed.files, "file"), counted(packed.bytes, "byte"));
        let data = Map::from_iter([
            ("files".to_owned(), packed.files.into()),
            ("bytes".to_owned(), packed.bytes.into()),
        ]);
        self.say_mount("ephemeral_volume", &how, data);
        for path in packed.left_out {
            self.say(Level::Warn, format!("`{}` is left out of the workspace", path.display()), None);
        }
    }

    fn denied(&self, what: &str) -> Error {
        let message = format!("the plugin `{}` may not {what}", self.plugin.reference.name);
        let hint = "its manifest does not ask for it under `capabilities.docker`".to_owned();
        Error { hint: Some(hint), ..error(ErrorKind::Denied, code::PLUGIN_DENIED, message) }
    }

    async fn create_container(&mut self, spec: Spec) -> Result<ContainerHandle, Error> {
        let Spec { mut spec, workspace, secrets, inherits, service } = spec;
        if !self.plugin.manifest.capabilities.docker.contains(&DockerRight::Run) {
            return Err(self.denied("run containers"));
        }
        let scope = self.scope()?;
        if workspace.is_some() {
            // What came before it has come up.
            self.kept.docker.services.are_up();
        }
        let job =
            Arc::clone(self.job().map_err(|cause| error(ErrorKind::Failed, "DOCKER", cause.to_string()))?);
        let cancel = job.cancel.clone();
        let access = self.docker().map_err(|cause| error(ErrorKind::Failed, "DOCKER", cause.to_string()))?;
        spec.platform = spec.platform.or_else(|| access.default_platform().map(str::to_owned));
        let user = spec
            .user
            .clone()
            .or_else(|| self.images.get(&spec.image).map(|image| image.user.clone()))
            .unwrap_or_default();
        let image = self.images.get(&spec.image);
        for (_, value) in &mut spec.env {
            *value = job.fill(value, image.map_or(&[], |image| &image.env));
        }
        let mut input = None;
        if inherits {
            let mut env = job.variables_in_container();
            env.retain(|(name, _)| !spec.env.iter().any(|(own, _)| own == name));
            env.append(&mut spec.env);
            spec.env = env;
            if let Some(mut script) = job.secret_variables() {
                let own = |given: &Option<Vec<String>>, of_image: fn(&ImageInfo) -> &Vec<String>| {
                    given.clone().or_else(|| Some(of_image(image?).clone())).unwrap_or_default()
                };
                let mut command = vec!["-c".to_owned(), TAKE_VARIABLES.to_owned(), "sh".to_owned()];
                command.extend(own(&spec.entrypoint, |image| &image.entrypoint));
                if spec.entrypoint.is_none() || spec.command.is_some() {
                    command.extend(own(&spec.command, |image| &image.command));
                }
                spec.entrypoint = Some(vec!["sh".to_owned()]);
                spec.command = Some(command);
                spec.takes_input = true;
                script.extend_from_slice(LAST_VARIABLE);
                input = Some(Arc::new(script));
            }
        }
        if workspace.is_some() {
            spec.working_dir = Some(WORKSPACE_IN_CONTAINER.to_owned());
        }
        let wanted = Wanted { job: &job, workspace, secrets, is_root: is_root(&user) };
        // On the heap, as other long ones: a plugin's stack is small.
        let make = Box::pin(access.create(&scope, &spec, &wanted));
        let Made { container, filling, has_mask } = unless_asked(cancel.clone(), make).await?;
        if workspace.is_some() && !has_mask && job.mask_file().is_some() {
            let text = format!(
                "there is no {VARIABLE} in the container: the daemon does not see the files of this machine"
            );
            self.say(Level::Info, text, None);
        }
        if workspace == Some(WorkspaceMount::BindMount) {
            let share = Box::pin(self.share(&access, &job, &container, &user));
            let share = unless_asked(cancel, share).await?;
            // One is enough to give the files back with.
            let bound = Bound { container: container.clone(), image: spec.image, share };
            let _ = self.kept.docker.bound.set(bound);
        }
        let program = spec.entrypoint.and_then(|words| words.into_iter().next()).unwrap_or_default();
        Ok(ContainerHandle { container, program, user, workspace, filling, input, service, has_mask })
    }

    /// Waits until the job may have the run's copy of the repository, which `container` has mounted as it is, and whose
    /// processes are those of `user`.
    async fn share(
        &mut self,
        access: &RunDocker,
        job: &JobContext,
        container: &Container,
        user: &str,
    ) -> Result<Share, Error> {
        let user = if is_root(user) {
            Ids::default()
        } else {
            ids(container, user).await.map_err(|error| told(&error))?
        };
        let is_rootless = self.scope()?.docker().daemon().rootless;
        let is_mine = !is_rootless && user.uid == rustix::process::getuid().as_raw();
        if user.uid == 0 || is_mine {
            return Ok(access.copy().share().await);
        }
        if !access.is_alone() {
            let text = format!(
                "the workspace is mounted as it is, for jobs on the host too, and so cannot be given to the user {} of \
                 the image, who may be unable to read or write it; with `ephemeral_volume` instead of `bind_mount` \
                 it belongs to them",
                user.uid
            );
            self.say(Level::Warn, text, None);
            return Ok(access.copy().share().await);
        }
        let text = format!("the workspace belongs to the user {} while {} has it", user.uid, job.id);
        self.say(Level::Info, text, None);
        Ok(access.copy().give_to(user).await)
    }

    /// What a command is given.
    fn exec_spec(&self, request: Request, handle: &ContainerHandle) -> Result<ExecSpec, Error> {
        let Request { mut spec, inherits, .. } = request;
        if inherits {
            let job = self.job().map_err(|cause| error(ErrorKind::Failed, "DOCKER", cause.to_string()))?;
            let mut env = job.environment_in_container().map_err(|cause| Error {
                hint: cause.hint,
                ..error(ErrorKind::Invalid, &cause.code, cause.message)
            })?;
            if handle.has_mask {
                env.push((VARIABLE.to_owned(), FILE_IN_CONTAINER.to_owned()));
            }
            // What was not copied belongs to the user outside, whom git in there does not trust.
            if handle.workspace.is_some()
                && !handle.filling.as_ref().is_some_and(|filling| filling.workspace)
                && !env.iter().any(|(name, _)| name == "GIT_CONFIG_COUNT")
            {
                let trust =
                    [("COUNT", "1"), ("KEY_0", "safe.directory"), ("VALUE_0", WORKSPACE_IN_CONTAINER)];
                env.extend(trust.map(|(name, value)| (format!("GIT_CONFIG_{name}"), value.to_owned())));
            }
            env.retain(|(name, _)| !spec.env.iter().any(|(own, _)| own == name));
            env.append(&mut spec.env);
            spec.env = env;
        }
        Ok(spec)
    }
}

/// The container's first process starts the program `program`, and says by its exit code why it could not. A container
/// may come to its end before or while it is first used.
fn started(program: &str, error: DockerError) -> DockerError {
    match error {
        DockerError::Gone { how: Gone::Ended { exit_code: NO_PROGRAM }, .. } => {
            not_started(program, NO_PROGRAM)
        }
        error => error,
    }
}

fn not_started(program: &str, exit_code: i64) -> DockerError {
    let words = match exit_code {
        NO_PROGRAM => format!("exec: \"{program}\": executable file not found in $PATH"),
        other => format!("it ended at once with exit code {other}"),
    };
    DockerError::NotStarted { program: program.to_owned(), words }
}

/// Records what a process prints until its end, and ends it where the job is cancelled.
async fn heard(
    mut exec: Exec,
    mut cancel: Cancel,
    stdout: Option<OutputSink>,
    stderr: Option<OutputSink>,
) -> Result<ExecExit, DockerError> {
    let control = exec.control();
    let (chunks, waiting) = mpsc::channel(WAITING);
    let writer = tokio::task::spawn_blocking(move || record(waiting, stdout.as_ref(), stderr.as_ref()));
    let listen = async {
        while let Some(chunk) = exec.next().await? {
            // The writer ends only after this.
            let _ = chunks.send(chunk).await;
        }
        exec.exit().await
    };
    let stop = async {
        let mut killed = cancel.clone();
        cancel.reached(Urgency::Ask).await;
        tokio::select! {
            _ = control.end(GRACE) => {}
            () = killed.reached(Urgency::Kill) => {
                let _ = control.end(Duration::ZERO).await;
            }
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = listen => ended,
        () = stop => Err(DockerError::Unresponsive { doing: "end a process".to_owned() }),
    };
    drop(chunks);
    let _ = writer.await;
    ended
}

/// On a thread that may wait: where too much output is on its way, the process does.
fn record(mut chunks: mpsc::Receiver<Chunk>, stdout: Option<&OutputSink>, stderr: Option<&OutputSink>) {
    let (mut stdout, mut stderr) = (stdout.map(OutputSink::lines), stderr.map(OutputSink::lines));
    while let Some(chunk) = chunks.blocking_recv() {
        let lines = match chunk.stream {
            Stream::Stdout => &mut stdout,
            Stream::Stderr => &mut stderr,
        };
        if let Some(lines) = lines {
            lines.push(&chunk.bytes);
        }
    }
    for lines in [stdout, stderr].iter_mut().flatten() {
        lines.end();
    }
}

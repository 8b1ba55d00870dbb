//! Containers on the user's Docker daemon. Needs the capability `docker`.
//!
//! Nothing here leads to what others have made, or to the host. What is made is removed when the job is over.

use std::fmt;
use std::time::Duration;

use crate::bindings::loom::docker::engine;
use crate::error::{Error, Result};
use crate::job::OutputSink;
use crate::process::Exit;

/// The daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Whose it is: `Docker` or `Podman`.
    pub engine: String,
    /// Where it is reached.
    pub address: String,
    /// The version of the engine.
    pub version: String,
    /// The version of the interface that is spoken with it.
    pub api: String,
    /// Its operating system and architecture, as in `linux/amd64`.
    pub platform: String,
    /// Whether it runs without the rights of root.
    pub rootless: bool,
}

/// Connects to the daemon, once for the run.
///
/// # Errors
/// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) where none answers.
pub fn connect() -> Result<Daemon> {
    let engine::Daemon { engine, address, version, api, platform, rootless } =
        engine::connect().map_err(Error::from_host)?;
    Ok(Daemon { engine, address, version, api, platform, rootless })
}

/// When an image is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// Where the daemon does not have it.
    #[default]
    IfNotPresent,
    /// Not at all.
    Never,
}

/// An image that the daemon has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The id of its configuration.
    pub id: String,
    /// Its digest in the registry that it came from.
    pub digest: Option<String>,
    /// Whether it was fetched now.
    pub pulled: bool,
}

/// Sees to it that the daemon has the image `name`. `platform` is as in `linux/arm64`; without, it is the daemon's own.
///
/// # Errors
/// The daemon's words.
pub fn ensure_image(name: &str, policy: PullPolicy, platform: Option<&str>) -> Result<Image> {
    let policy = match policy {
        PullPolicy::Always => engine::PullPolicy::Always,
        PullPolicy::IfNotPresent => engine::PullPolicy::IfNotPresent,
        PullPolicy::Never => engine::PullPolicy::Never,
    };
    let engine::Image { id, digest, pulled } =
        engine::ensure_image(name, policy, platform).map_err(Error::from_host)?;
    Ok(Image { id, digest, pulled })
}

/// An image to be built from the job's workspace. Needs `build` among the rights.
pub struct ImageBuild(engine::ImageBuild);

impl ImageBuild {
    /// `name` is what the image is called then, `context` the folder that the build sees, relative to the workspace.
    pub fn new(name: &str, context: &str) -> Self {
        Self(engine::ImageBuild::new(name, context))
    }

    /// The file with the instructions, relative to the workspace and below the context.
    #[must_use]
    pub fn dockerfile(self, path: &str) -> Self {
        self.0.dockerfile(path);
        self
    }

    /// A build argument. It can be seen in the image: no place for a secret.
    #[must_use]
    pub fn arg(self, name: &str, value: &str) -> Self {
        self.0.arg(name, value);
        self
    }

    /// The build stage that is wanted, instead of the last.
    #[must_use]
    pub fn target(self, stage: &str) -> Self {
        self.0.target(stage);
        self
    }

    /// As in `linux/arm64`.
    #[must_use]
    pub fn platform(self, platform: &str) -> Self {
        self.0.platform(platform);
        self
    }

    /// Builds it. What the build says is recorded in the section `image_build`.
    ///
    /// # Errors
    /// The step that failed, and the daemon's words.
    pub fn run(self) -> Result<Image> {
        let engine::Image { id, digest, pulled } = self.0.run().map_err(Error::from_host)?;
        Ok(Image { id, digest, pulled })
    }
}

/// How the job's workspace comes into a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkspaceMount {
    /// As a copy in a volume of its own, which goes with the container.
    EphemeralVolume,
    /// As it is. After `cleanup` everything in it belongs to the user again.
    BindMount,
}

/// A network for containers of the job. Dropping it leaves it there; the end of the job removes it.
pub struct Network(engine::Network);

impl Network {
    /// Makes one. `name` says what it is for.
    ///
    /// # Errors
    /// The daemon's words.
    pub fn create(name: &str) -> Result<Self> {
        engine::Network::create(name).map(Self).map_err(Error::from_host)
    }
}

/// A container to be made.
pub struct ContainerSpec(engine::ContainerSpec);

impl ContainerSpec {
    /// From an image that the daemon has. `name` says what it is for.
    pub fn new(name: &str, image: &str) -> Self {
        Self(engine::ContainerSpec::new(name, image))
    }

    /// What it runs first, instead of the image's own entrypoint; empty for nothing.
    #[must_use]
    pub fn entrypoint(self, argv: &[String]) -> Self {
        self.0.entrypoint(argv);
        self
    }

    /// What the entrypoint is given, instead of the image's own command.
    #[must_use]
    pub fn command(self, argv: &[String]) -> Self {
        self.0.command(argv);
        self
    }

    /// Keeps its standard input open, so that a shell waits for ever.
    #[must_use]
    pub fn open_stdin(self) -> Self {
        self.0.open_stdin();
        self
    }

    /// Who runs its processes, by name or number, with a group after `:` if wanted.
    #[must_use]
    pub fn user(self, user: &str) -> Self {
        self.0.user(user);
        self
    }

    /// As in `linux/arm64`.
    #[must_use]
    pub fn platform(self, platform: &str) -> Self {
        self.0.platform(platform);
        self
    }

    /// Puts the job's workspace at `/workspace`, which becomes the working directory.
    #[must_use]
    pub fn mount_workspace(self, how: WorkspaceMount) -> Self {
        self.0.mount_workspace(match how {
            WorkspaceMount::EphemeralVolume => engine::WorkspaceMount::EphemeralVolume,
            WorkspaceMount::BindMount => engine::WorkspaceMount::BindMount,
        });
        self
    }

    /// Puts the files of the job's secrets into `/run/loom/secrets`, to be read.
    #[must_use]
    pub fn mount_secrets(self) -> Self {
        self.0.mount_secrets();
        self
    }

    /// Sets a variable of its own processes. References in `value` are filled in from the job's variables and the image's.
    /// The daemon keeps it: no place for a secret.
    #[must_use]
    pub fn env(self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// Gives its own processes the job's variables. Those that are secrets reach them by a script that a shell of the image
    /// reads, and are not kept by the daemon. Needs the capability `job_env`.
    #[must_use]
    pub fn inherit_job_env(self) -> Self {
        self.0.inherit_job_env();
        self
    }

    /// Puts it into a network, where others find it by `aliases`.
    #[must_use]
    pub fn join(self, network: &Network, aliases: &[String]) -> Self {
        self.0.join(&network.0, aliases);
        self
    }

    /// It is a service: what its own processes print is recorded in the section `services`, each line behind `name`.
    #[must_use]
    pub fn serve(self, name: &str) -> Self {
        self.0.serve(name);
        self
    }

    /// Makes it. It does not run yet.
    ///
    /// # Errors
    /// The daemon's words.
    pub fn create(self) -> Result<Container> {
        self.0.create().map(Container).map_err(Error::from_host)
    }
}

/// A container. Dropping it leaves it running; the end of the job removes it.
pub struct Container(engine::Container);

impl Container {
    /// Its id.
    pub fn id(&self) -> String {
        self.0.id()
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.0.name()
    }

    /// Fills its volume with the workspace, and starts it.
    ///
    /// # Errors
    /// The daemon's words.
    pub fn start(&self) -> Result<()> {
        self.0.start().map_err(Error::from_host)
    }

    /// Waits until its health check is content; where it has none, until it runs.
    ///
    /// # Errors
    /// It ends, is unhealthy, or takes longer than `within`.
    pub fn wait_healthy(&self, within: Duration) -> Result<()> {
        let within = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
        self.0.wait_healthy(within).map_err(Error::from_host)
    }
}

/// A command to run in a container.
pub struct Command(engine::Command);

impl Command {
    /// `argv` is the program and its arguments.
    pub fn new(argv: &[&str]) -> Self {
        Self(engine::Command::new(&argv.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>()))
    }

    /// Gives it the job's variables, secrets included, of whose values the plugin itself sees nothing. Needs the capability
    /// `job_env`.
    #[must_use]
    pub fn inherit_job_env(self) -> Self {
        self.0.inherit_job_env();
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// Who runs it, instead of who runs the container's own processes.
    #[must_use]
    pub fn user(self, user: &str) -> Self {
        self.0.user(user);
        self
    }

    /// Records its standard output there; without, it is discarded.
    #[must_use]
    pub fn stdout(self, sink: &OutputSink) -> Self {
        self.0.stdout(&sink.0);
        self
    }

    /// Records its standard error there; without, it is discarded.
    #[must_use]
    pub fn stderr(self, sink: &OutputSink) -> Self {
        self.0.stderr(&sink.0);
        self
    }

    /// Runs it in a container that was started, and waits for its end. When the run is cancelled, Loom asks its processes
    /// to end and kills them 10 seconds later.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) where the container has no such program,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) where the container or the daemon is gone.
    pub fn run(self, container: &Container) -> Result<Exit> {
        self.0.run(&container.0).map(Exit::from_host).map_err(Error::from_host)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl fmt::Debug for ImageBuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageBuild").finish_non_exhaustive()
    }
}

impl fmt::Debug for ContainerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerSpec").finish_non_exhaustive()
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container").finish_non_exhaustive()
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command").finish_non_exhaustive()
    }
}

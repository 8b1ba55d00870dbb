//! The Docker daemon of a run, and what a job has made with it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::{Finish, Level, Stream as Recorded};
use loom_contract::section::Section;
use loom_contract::status::Status as Ended;
use loom_docker::{
    Chunk, Connect, Container, ContainerSpec, Docker, Error, ExecSpec, Follow, Ids, KeepOutput, Logins,
    Mount, Networking, Owner, Scope, Signal, Status, Stream, sweep,
};
use loom_engine::environment::WORKSPACE_IN_CONTAINER;
use loom_engine::output::OutputSink;
use loom_engine::port::{JobContext, JobFiles, OpenSection, Prints};
use loom_ownership::{Ledger, Runs};
use serde_json::json;
use tokio::sync::{OnceCell, mpsc};
use tokio::task::JoinHandle;

use crate::bindings::loom::host::types::{Error as Told, ErrorKind};
use crate::caches::fixed;

/// Where the daemon is, and what else of the user's settings is about it.
#[derive(Debug)]
pub struct DockerConfig {
    /// `DOCKER_HOST`.
    pub host: Option<String>,
    /// The folder with the certificates for `tcp://`, where TLS is asked for.
    pub certificates: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// Docker's own configuration file, which has the logins for registries.
    pub login_file: Option<PathBuf>,
    /// The `PATH` on which the credential helpers are found that it names.
    pub helpers_path: Option<OsString>,
    /// The repository, as labels name it.
    pub repo: String,
    /// Nothing writes into the run's copy of the repository as long as jobs are at work in containers: none of them works in
    /// the copy itself.
    pub workspace_rests: bool,
    /// The runs of the user. What dead ones have left is removed when the daemon is first needed.
    pub runs: Runs,
    /// Where what is made for this run is written down first.
    pub ledger: Ledger,
}

impl DockerConfig {
    async fn connect(&self) -> Result<Docker, Error> {
        Docker::connect(Connect {
            host: self.host.as_deref(),
            certificates: self.certificates.as_deref(),
            runtime_dir: self.runtime_dir.as_deref(),
        })
        .await
    }

    /// Removes what dead runs have left with the daemon. Returns what is gone, and what stays with the reason.
    ///
    /// # Errors
    /// The daemon cannot be reached: in words for people.
    pub async fn sweep(&self) -> Result<(Vec<String>, Vec<String>), String> {
        let docker = self.connect().await.map_err(|error| error.to_string())?;
        let swept = sweep(&docker, &self.runs).await;
        let left = swept.left.into_iter().map(|left| format!("{}: {}", left.thing, left.why));
        Ok((swept.removed.iter().map(ToString::to_string).collect(), left.collect()))
    }
}

/// The daemon, for all jobs of a run: connected to when it is first needed, once.
#[derive(Debug)]
pub struct RunDocker {
    config: DockerConfig,
    docker: OnceCell<Result<Docker, Told>>,
    /// A volume over the run's copy of the repository was tried, in vain.
    cannot_layer: AtomicBool,
    /// A file of this machine was to be mounted into a container, in vain.
    shares_no_files: AtomicBool,
}

impl RunDocker {
    /// Nothing is connected yet.
    pub fn new(config: DockerConfig) -> Self {
        Self {
            config,
            docker: OnceCell::new(),
            cannot_layer: AtomicBool::new(false),
            shares_no_files: AtomicBool::new(false),
        }
    }

    /// Connects ahead of the jobs. What goes wrong is told to the first one that needs it.
    pub async fn open(&self) {
        // It is kept.
        let _ = self.connect().await;
    }

    /// The daemon.
    pub(crate) async fn connect(&self) -> Result<Docker, Told> {
        let config = &self.config;
        let connect = async || {
            let docker = config.connect().await.map_err(|error| told(&error))?;
            let (swept, runs) = (docker.clone(), config.runs.clone());
            // Nobody waits for it.
            tokio::spawn(async move {
                for left in sweep(&swept, &runs).await.left {
                    tracing::warn!(thing = %left.thing, error = %left.why, "a dead run's thing stays");
                }
            });
            Ok(docker)
        };
        self.docker.get_or_init(connect).await.clone()
    }

    /// Makes a container from `spec`, with the workspace in a volume: a layer over the run's copy of the repository where
    /// that can be, for a container of root, who may write to what others own. Else the files have to be sent to it, and
    /// the second container is there for that: it has the same volume and never runs. The daemon does one thing at a time
    /// with a container, and starting one takes long.
    pub(crate) async fn create_with_volume(
        &self,
        scope: &Scope,
        spec: &ContainerSpec,
        workspace: &Path,
        is_root: bool,
    ) -> Result<(Container, Option<Container>), Error> {
        let mount =
            |volume| Mount::Volume { volume, at: WORKSPACE_IN_CONTAINER.to_owned(), read_only: false };
        let with = |volume| {
            let mut spec = spec.clone();
            spec.mounts.push(mount(volume));
            spec
        };
        if is_root && self.config.workspace_rests && !self.cannot_layer.load(Ordering::Relaxed) {
            if let Some(volume) = scope.create_volume_over("workspace", workspace).await? {
                let container = scope.create_container(&with(volume)).await?;
                let Err(error) = container.look_at(WORKSPACE_IN_CONTAINER).await else {
                    return Ok((container, None));
                };
                tracing::debug!(%error, "workspaces are sent to the daemon");
                // That it may stay until the end of the job is all that can come of it.
                let _ = scope.remove(&container.thing()).await;
            }
            self.cannot_layer.store(true, Ordering::Relaxed);
        }
        let volume = scope.create_volume("workspace").await?;
        let spec = with(volume.clone());
        let filler = ContainerSpec {
            name: format!("{}-files", spec.name),
            image: spec.image.clone(),
            entrypoint: Some(vec!["sh".to_owned()]),
            mounts: vec![mount(volume)],
            networking: Networking::None,
            platform: spec.platform.clone(),
            output: KeepOutput::No,
            ..ContainerSpec::default()
        };
        let both = tokio::try_join!(scope.create_container(&spec), scope.create_container(&filler));
        both.map(|(container, filler)| (container, Some(filler)))
    }

    /// Whether files of this machine may be mounted into containers, as far as is known.
    pub(crate) fn shares_files(&self) -> bool {
        !self.shares_no_files.load(Ordering::Relaxed)
    }

    /// They may not: the daemon is on another machine.
    pub(crate) fn shares_no_files(&self) {
        self.shares_no_files.store(true, Ordering::Relaxed);
    }

    /// The logins for registries.
    pub(crate) fn logins(&self) -> Logins {
        let helpers = self.config.helpers_path.clone().unwrap_or_default();
        self.config.login_file.as_ref().map_or_else(Logins::none, |file| Logins::of_file(file, helpers))
    }

    /// What makes things for a job.
    pub(crate) fn scope(&self, docker: &Docker, run_id: &str, job_id: &str) -> Scope {
        let owner =
            Owner { run_id: run_id.to_owned(), job_id: job_id.to_owned(), repo: self.config.repo.clone() };
        Scope::new(docker, owner, self.config.ledger.clone())
    }
}

/// What a job has made. It outlives the plugin's instances.
#[derive(Debug, Default)]
pub(crate) struct JobDocker {
    pub(crate) scope: OnceLock<Scope>,
    /// The section of the services, from the first one on until the job is over, and who listens to them.
    services: Mutex<Services>,
    /// The container that steps run in was made: what came before it has come up.
    pub(crate) has_workspace: OnceLock<()>,
    /// The container that the workspace is mounted into as it is, and its image.
    pub(crate) bound: OnceLock<(Container, String)>,
}

#[derive(Debug, Default)]
struct Services {
    section: Option<OpenSection>,
    list: Vec<Service>,
}

/// A service that runs, and is heard.
#[derive(Debug)]
struct Service {
    container: Container,
    listener: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl JobDocker {
    /// Records what the service `name` prints until its end.
    pub(crate) fn follow(&self, job: &Arc<JobContext>, container: &Container, name: String) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let section = services.section.get_or_insert_with(|| job.open_section(Section::Services));
        let message = format!("service `{name}` is started; container {}", container.name());
        let data = json!({ "service": name, "container": container.name(), "container_id": container.id() });
        job.message(Section::Services, Level::Info, message, data.as_object().cloned());
        let (stdout, stderr) = (section.sink(Recorded::Stdout), section.sink(Recorded::Stderr));
        let (chunks, waiting) = mpsc::channel(16);
        let writer = tokio::task::spawn_blocking(move || record_lines(waiting, &name, &stdout, &stderr));
        let mut output = container.output(None, Follow::Yes);
        let listener = tokio::spawn(async move {
            while let Ok(Some(chunk)) = output.next().await {
                if chunks.send(chunk).await.is_err() {
                    break;
                }
            }
        });
        services.list.push(Service { container: container.clone(), listener, writer });
    }

    /// The services did not come up: they end, and their section with them.
    pub(crate) async fn service_failed(&self, job: &Arc<JobContext>, error: &Told) {
        let mut services = self.take_services();
        services.section.get_or_insert_with(|| job.open_section(Section::Services));
        services.kill(not_done(job, error)).await;
    }

    /// The job could not be prepared. If that was while its services came up, they are what failed.
    pub(crate) async fn not_prepared(&self, job: &JobContext, error: &ErrorInfo) {
        if self.has_workspace.get().is_none() {
            self.take_services().kill(finish_of(job, error.clone())).await;
        }
    }

    fn take_services(&self) -> Services {
        std::mem::take(&mut *self.services.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sees to it that everything in a workspace that is mounted as it is belongs to the user.
    pub(crate) async fn give_back(&self, workspace: &Path) -> Result<(), Error> {
        match (self.scope.get(), self.bound.get()) {
            (Some(scope), Some((container, image))) => give_back(scope, container, image, workspace).await,
            _ => Ok(()),
        }
    }

    /// Gives the workspace back to the user and removes everything. Returns what could not be done, in sentences.
    pub(crate) async fn remove_all(&self, workspace: &Path) -> Vec<String> {
        let Some(scope) = self.scope.get() else { return Vec::new() };
        let mut said = Vec::new();
        if let Err(error) = self.give_back(workspace).await {
            said.push(format!("files of the workspace still belong to users of the container: {error}"));
        }
        let left = scope.remove_all().await;
        self.take_services().end(Finish::new(Ended::Success)).await;
        said.extend(left.iter().map(|left| format!("{} could not be removed: {}", left.thing, left.why)));
        said
    }
}

impl Services {
    /// Ends them before their time.
    async fn kill(self, finish: Finish) {
        for service in &self.list {
            // What cannot be killed is removed with the job.
            let _ = service.container.kill(Signal::Kill).await;
        }
        self.end(finish).await;
    }

    /// Their containers have ended: what they have said is recorded, and the section ends.
    async fn end(self, finish: Finish) {
        for mut service in self.list {
            // A daemon that is gone says nothing of an end.
            if tokio::time::timeout(LISTENING, &mut service.listener).await.is_err() {
                service.listener.abort();
            }
            // Nobody gives it anything any more.
            let _ = service.writer.await;
        }
        if let Some(section) = self.section {
            section.finish(finish);
        }
    }
}

/// How long what services have said last may take to arrive.
const LISTENING: Duration = Duration::from_secs(2);

/// On a thread that may wait: each line behind the name of who said it.
fn record_lines(mut chunks: mpsc::Receiver<Chunk>, name: &str, stdout: &OutputSink, stderr: &OutputSink) {
    let mut streams = [(stdout.lines(), true), (stderr.lines(), true)];
    while let Some(chunk) = chunks.blocking_recv() {
        let (lines, begins) = match chunk.stream {
            Stream::Stdout => &mut streams[0],
            Stream::Stderr => &mut streams[1],
        };
        for part in chunk.bytes.split_inclusive(|byte| *byte == b'\n') {
            if *begins {
                lines.push(format!("{name} | ").as_bytes());
            }
            lines.push(part);
            *begins = part.ends_with(b"\n");
        }
    }
    streams.iter_mut().for_each(|(lines, _)| lines.end());
}

/// Sees to it that everything in the workspace belongs to the user again.
async fn give_back(scope: &Scope, container: &Container, image: &str, workspace: &Path) -> Result<(), Error> {
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let path = workspace.to_owned();
    let foreign = tokio::task::spawn_blocking(move || has_foreign(&path, user)).await;
    if !foreign.unwrap_or(true) {
        return Ok(());
    }
    // Without the rights of root, the user is root in there.
    let owner = if scope.docker().daemon().rootless { "0:0".to_owned() } else { format!("{user}:{group}") };
    let args = ["-R".to_owned(), "-h".to_owned(), owner, WORKSPACE_IN_CONTAINER.to_owned()];
    let mut command = vec!["chown".to_owned()];
    command.extend(args.clone());
    if container.state().await.is_ok_and(|state| state.status == Status::Running) {
        let spec = ExecSpec { command, user: Some("0:0".to_owned()), ..ExecSpec::default() };
        let exit = container.exec(&spec).await?.exit().await?;
        if exit.code == 0 {
            return Ok(());
        }
    }
    let spec = ContainerSpec {
        name: "owner".to_owned(),
        image: image.to_owned(),
        entrypoint: Some(vec!["chown".to_owned()]),
        command: Some(args.into()),
        user: Some("0:0".to_owned()),
        mounts: vec![Mount::Bind {
            source: workspace.to_owned(),
            at: WORKSPACE_IN_CONTAINER.to_owned(),
            read_only: false,
        }],
        ..ContainerSpec::default()
    };
    let other = scope.create_container(&spec).await?;
    other.start().await?;
    other.wait().await.map(drop)
}

/// Whether anything in `folder` belongs to somebody else than `user`.
fn has_foreign(folder: &Path, user: u32) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs_err::read_dir(folder) else { return true };
    entries.flatten().any(|entry| {
        let Ok(metadata) = entry.metadata() else { return false };
        metadata.uid() != user || (metadata.is_dir() && has_foreign(&entry.path(), user))
    })
}

/// The files of a job that works in a volume.
#[derive(Debug)]
pub(crate) struct VolumeFiles {
    pub(crate) container: Container,
    pub(crate) owner: Ids,
}

#[async_trait]
impl JobFiles for VolumeFiles {
    async fn fetch(&self, patterns: &[String], into: &Path) -> Result<Vec<String>, ErrorInfo> {
        let mut roots: Vec<PathBuf> = patterns.iter().map(|pattern| fixed(pattern)).collect();
        roots.sort();
        roots.dedup_by(|below, above| below.starts_with(above));
        let mut said = Vec::new();
        for root in roots {
            let text = root.to_string_lossy();
            let (from, to) = match root.parent() {
                Some(parent) => (format!("{WORKSPACE_IN_CONTAINER}/{text}"), into.join(parent)),
                None => (format!("{WORKSPACE_IN_CONTAINER}/."), into.to_owned()),
            };
            let failed = |cause: std::io::Error| ErrorInfo::new(code::WORKSPACE_FAILED, cause.to_string());
            fs_err::create_dir_all(&to).map_err(failed)?;
            match self.container.download(&from, &to).await {
                Ok(unpacked) => {
                    let left_out = unpacked.left_out.iter();
                    said.extend(left_out.map(|(path, why)| format!("`{path}` is left out: it {why}")));
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(info(&error)),
            }
        }
        Ok(said)
    }

    async fn put(&self, from: &Path, removed: &[PathBuf]) -> Result<(), ErrorInfo> {
        for removed in removed.chunks(500) {
            let script = "cd \"$0\" && rm -f -- \"$@\"";
            let mut command: Vec<String> =
                ["sh", "-c", script, WORKSPACE_IN_CONTAINER].map(str::to_owned).into();
            command.extend(removed.iter().map(|path| path.to_string_lossy().into_owned()));
            let spec = ExecSpec { command, user: Some("0:0".to_owned()), ..ExecSpec::default() };
            let exit = async { self.container.exec(&spec).await?.exit().await };
            exit.await.map_err(|error| info(&error))?;
        }
        self.container
            .upload(from, WORKSPACE_IN_CONTAINER, self.owner)
            .await
            .map_err(|error| info(&error))?;
        Ok(())
    }

    async fn prints(&self) -> Result<Prints, ErrorInfo> {
        self.container.prints(WORKSPACE_IN_CONTAINER).await.map_err(|error| info(&error))
    }
}

/// What the user of a container is in numbers: `user`, where it is a name, as the container's own files say.
pub(crate) async fn ids(container: &Container, user: &str) -> Result<Ids, Error> {
    let (user, group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let number = |text: &str| text.parse::<u32>().ok();
    if user.is_empty() {
        return Ok(Ids::default());
    }
    if let (Some(uid), Some(gid)) = (number(user), group.map_or(Some(0), number)) {
        return Ok(Ids { uid, gid });
    }
    let users = table(container, "/etc/passwd").await?;
    let found =
        users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find_map(|line| match line[..] {
            [name, _, uid, gid, ..] if name == user || uid == user => Some((number(uid)?, number(gid)?)),
            _ => None,
        });
    let (uid, mut gid) = found.or(number(user).map(|uid| (uid, 0))).unwrap_or_default();
    if let Some(group) = group {
        let groups =
            if number(group).is_some() { String::new() } else { table(container, "/etc/group").await? };
        let found =
            groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).find_map(|line| match line[..] {
                [name, _, gid, ..] if name == group => number(gid),
                _ => None,
            });
        gid = number(group).or(found).unwrap_or(gid);
    }
    Ok(Ids { uid, gid })
}

/// A small file of a container; empty where there is none.
async fn table(container: &Container, path: &str) -> Result<String, Error> {
    let folder = tempfile::tempdir();
    let Ok(folder) = folder else { return Ok(String::new()) };
    match container.download(path, folder.path()).await {
        Ok(_) => {
            let name = Path::new(path).file_name().unwrap_or_default();
            Ok(fs_err::read_to_string(folder.path().join(name)).unwrap_or_default())
        }
        Err(error) if error.is_not_found() => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// An error of the daemon for a plugin.
pub(crate) fn told(error: &Error) -> Told {
    let (kind, code) = match error {
        Error::Unreachable { .. } => (ErrorKind::Unavailable, "DOCKER_UNREACHABLE"),
        Error::WentAway { .. } | Error::Unresponsive { .. } => (ErrorKind::Unavailable, "DOCKER_WENT_AWAY"),
        Error::Gone { .. } => (ErrorKind::Unavailable, "CONTAINER_GONE"),
        Error::NotStarted { .. } => (ErrorKind::NotFound, "CONTAINER_NOT_STARTED"),
        Error::Refused { .. } if error.is_not_found() => (ErrorKind::NotFound, "DOCKER_NOT_FOUND"),
        Error::Refused { .. } => (ErrorKind::Failed, "DOCKER_REFUSED"),
        Error::Build { .. } => (ErrorKind::Failed, "IMAGE_BUILD_FAILED"),
        Error::NotHealthy { .. } => (ErrorKind::Failed, "SERVICE_NOT_HEALTHY"),
        Error::Invalid { .. } => (ErrorKind::Invalid, "DOCKER_INVALID"),
        Error::Login { .. } => (ErrorKind::Failed, "DOCKER_LOGIN"),
        Error::NotRecorded { .. } => (ErrorKind::Failed, "DOCKER_NOT_RECORDED"),
        Error::Closed { .. } => (ErrorKind::Cancelled, "DOCKER_CLOSED"),
        Error::Unsafe { .. } | Error::File { .. } => (ErrorKind::Failed, "DOCKER_FILES"),
    };
    Told { kind, code: code.to_owned(), message: error.to_string(), hint: error.hint().map(str::to_owned) }
}

fn info(error: &Error) -> ErrorInfo {
    as_info(told(error))
}

fn as_info(Told { code, message, hint, .. }: Told) -> ErrorInfo {
    ErrorInfo { code: code.into(), message, hint }
}

/// How a section ends in which `error` came up.
pub(crate) fn not_done(job: &JobContext, error: &Told) -> Finish {
    finish_of(job, as_info(error.clone()))
}

fn finish_of(job: &JobContext, error: ErrorInfo) -> Finish {
    match job.cancel.is_cancelled() {
        true => Finish::new(Ended::Cancelled),
        false => Finish::failed(error),
    }
}

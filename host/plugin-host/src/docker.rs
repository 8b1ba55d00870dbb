//! The Docker daemon of a run, and what a job has made with it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::Finish;
use loom_contract::status::Status as Ended;
use loom_docker::{Connect, Container, Docker, Error, ExecSpec, Ids, Logins, Owner, Scope, sweep};
use loom_engine::environment::WORKSPACE_IN_CONTAINER;
use loom_engine::port::{JobContext, JobFiles, Prints};
use loom_ownership::{Ledger, Runs};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use crate::bindings::loom::host::types::{Error as Told, ErrorKind};
use crate::caches::fixed;

mod create;
mod owner;
mod services;

use create::Seen;
pub(crate) use create::{Filling, Made, Wanted};
use owner::Copy;
pub(crate) use owner::{Bound, Share};
use services::Services;

/// Where the daemon is, and what else of the user's settings is about it.
#[derive(Debug)]
pub struct DockerConfig {
    /// `DOCKER_HOST`.
    pub host: Option<String>,
    /// The folder with the certificates for `tcp://`, where TLS is asked for.
    pub certificates: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `DOCKER_CONTEXT`.
    pub context: Option<String>,
    /// The folder of Docker's own configuration, which has contexts and the logins for registries.
    pub folder: Option<PathBuf>,
    /// The `PATH` on which the credential helpers are found that it names.
    pub helpers_path: Option<OsString>,
    /// The repository, as labels name it.
    pub repo: String,
    /// Nothing writes into the run's copy of the repository as long as jobs are at work in containers: none of them works in
    /// the copy itself.
    pub workspace_rests: bool,
    /// No job of the run works on the host.
    pub alone: bool,
    /// `DOCKER_DEFAULT_PLATFORM`.
    pub default_platform: Option<String>,
    /// The runs of the user. What dead ones have left is removed when the daemon is first needed.
    pub runs: Runs,
    /// Where what is made for this run is written down first.
    pub ledger: Ledger,
}

impl DockerConfig {
    async fn connect(&self) -> Result<Docker, Error> {
        Docker::connect(Connect {
            host: self.host.as_deref(),
            context: self.context.as_deref(),
            folder: self.folder.as_deref(),
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
        let left = swept.residuals.into_iter().map(|left| format!("{}: {}", left.resource, left.why));
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
    /// What it sees of this machine.
    seen: Seen,
    copy: Copy,
    /// The removal of what dead runs have left, as long as nobody waits for it.
    sweep: Mutex<Option<JoinHandle<()>>>,
}

/// How long that may hold up the end of a job.
const SWEEPING: Duration = Duration::from_secs(30);

impl RunDocker {
    /// Nothing is connected yet.
    pub fn new(config: DockerConfig) -> Self {
        Self {
            config,
            docker: OnceCell::new(),
            cannot_layer: AtomicBool::new(false),
            seen: Seen::default(),
            copy: Copy::default(),
            sweep: Mutex::default(),
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
            let sweep = tokio::spawn(async move {
                for left in sweep(&swept, &runs).await.residuals {
                    tracing::warn!(resource = %left.resource, error = %left.why, "a dead run's resource stays");
                }
            });
            *self.sweep.lock().unwrap_or_else(PoisonError::into_inner) = Some(sweep);
            Ok(docker)
        };
        self.docker.get_or_init(connect).await.clone()
    }

    /// Whether the workspace may be a layer over the run's copy of the repository, for a container of root, who may write to
    /// what others own.
    fn may_layer(&self, is_root: bool) -> bool {
        is_root && self.config.workspace_rests && !self.cannot_layer.load(Ordering::Relaxed)
    }

    /// It was tried in vain.
    fn cannot_layer(&self) {
        self.cannot_layer.store(true, Ordering::Relaxed);
    }

    /// Whether no job of the run works on the host.
    pub(crate) fn is_alone(&self) -> bool {
        self.config.alone
    }

    /// The run's copy of the repository, for jobs that have it mounted as it is.
    pub(crate) fn copy(&self) -> &Copy {
        &self.copy
    }

    /// The platform of images where the workflow names none.
    pub(crate) fn default_platform(&self) -> Option<&str> {
        self.config.default_platform.as_deref()
    }

    /// Waits until what dead runs have left is removed, if nobody else does: a run that ends before would leave it again.
    pub(crate) async fn swept(&self) {
        let sweep = self.sweep.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sweep) = sweep
            && tokio::time::timeout(SWEEPING, sweep).await.is_err()
        {
            tracing::warn!("what dead runs have left is not removed in time");
        }
    }

    /// The logins for registries.
    pub(crate) fn logins(&self) -> Logins {
        let helpers = self.config.helpers_path.clone().unwrap_or_default();
        let file = self.config.folder.as_ref().map(|folder| folder.join("config.json"));
        file.map_or_else(Logins::none, |file| Logins::of_file(file, helpers))
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
    /// What runs beside its steps.
    pub(crate) services: Services,
    /// The workspace that is mounted as it is.
    pub(crate) bound: OnceLock<Bound>,
}

impl JobDocker {
    /// Sees to it that everything in a workspace that is mounted as it is belongs to the user.
    ///
    /// # Errors
    /// Why it does not, in words.
    pub(crate) async fn give_back(&self, workspace: &Path) -> Result<(), String> {
        match (self.scope.get(), self.bound.get()) {
            (Some(scope), Some(bound)) => owner::give_back(scope, bound, workspace).await,
            _ => Ok(()),
        }
    }

    /// A step is about to run: a workspace that is mounted as it is belongs to whoever runs it, if it can.
    ///
    /// # Errors
    /// Why it cannot, in words.
    pub(crate) async fn give(&self, workspace: &Path) -> Result<(), String> {
        let (Some(scope), Some(bound)) = (self.scope.get(), self.bound.get()) else { return Ok(()) };
        match bound.share.to_be_given() {
            Some(user) => owner::give_to(scope, bound, workspace, user).await,
            None => Ok(()),
        }
    }

    /// Gives the workspace back to the user and removes everything. Returns what could not be done, in sentences.
    pub(crate) async fn remove_all(&self, workspace: &Path) -> Vec<String> {
        let Some(scope) = self.scope.get() else { return Vec::new() };
        let mut said = Vec::new();
        if let Err(error) = self.give_back(workspace).await {
            said.push(format!("files of the workspace still belong to users of the container: {error}"));
        }
        self.services.settle().await;
        let left = scope.remove_all().await;
        self.services.end().await;
        said.extend(left.iter().map(|left| format!("{} could not be removed: {}", left.resource, left.why)));
        said
    }
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

pub(crate) fn finish_of(job: &JobContext, error: ErrorInfo) -> Finish {
    match job.cancel.is_cancelled() {
        true => Finish::new(Ended::Cancelled),
        false => Finish::failed(error),
    }
}

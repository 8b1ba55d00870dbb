//! The daemon of a run, for all its jobs.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use loom_ownership::{Ledger, Runs};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use crate::user::is_root;
use crate::visibility::Visibility;
use crate::workspace::SharedWorkspace;
use crate::{Connect, Docker, Error, Logins, sweep};

/// How long the removal of what dead runs have left may hold up the end of a job.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(30);

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
    pub workspace_is_immutable: bool,
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
        let residuals = swept.residuals.into_iter();
        let residuals = residuals.map(|residual| format!("{}: {}", residual.resource, residual.why));
        Ok((swept.removed.iter().map(ToString::to_string).collect(), residuals.collect()))
    }
}

/// The daemon, for all jobs of a run: connected to when it is first needed, once.
#[derive(Debug)]
pub struct RunDocker {
    config: DockerConfig,
    docker: OnceCell<Result<Docker, Arc<Error>>>,
    /// A volume over the run's copy of the repository was tried, in vain.
    cannot_layer: AtomicBool,
    /// Images and users of theirs who are not the one whose the files of that copy are.
    cannot_layer_for: Mutex<HashSet<(String, String)>>,
    visibility: Visibility,
    workspace: SharedWorkspace,
    /// The removal of what dead runs have left, as long as nobody waits for it.
    sweep: Mutex<Option<JoinHandle<()>>>,
}

impl RunDocker {
    /// Nothing is connected yet.
    pub fn new(config: DockerConfig) -> Self {
        Self {
            config,
            docker: OnceCell::new(),
            cannot_layer: AtomicBool::new(false),
            cannot_layer_for: Mutex::default(),
            visibility: Visibility::default(),
            workspace: SharedWorkspace::default(),
            sweep: Mutex::default(),
        }
    }

    /// Connects ahead of the jobs. What goes wrong is told to the first one that needs it.
    pub async fn open(&self) {
        // It is kept.
        let _ = self.connect().await;
    }

    /// The daemon.
    ///
    /// # Errors
    /// As [`Docker::connect`]; the first attempt's, each time.
    pub async fn connect(&self) -> Result<Docker, Arc<Error>> {
        let connect = async || {
            let docker = self.config.connect().await?;
            let (swept, runs) = (docker.clone(), self.config.runs.clone());
            let task = tokio::spawn(async move {
                for residual in sweep(&swept, &runs).await.residuals {
                    let (resource, error) = (residual.resource, residual.why);
                    tracing::warn!(%resource, %error, "a dead run's resource stays");
                }
            });
            *self.sweep.lock() = Some(task);
            Ok(docker)
        };
        self.docker.get_or_init(connect).await.clone()
    }

    /// Waits until what dead runs have left is removed, if nobody else does: a run that ends before would leave it again.
    pub async fn swept(&self) {
        let sweep = self.sweep.lock().take();
        if let Some(sweep) = sweep
            && tokio::time::timeout(SWEEP_TIMEOUT, sweep).await.is_err()
        {
            tracing::warn!("what dead runs have left is not removed in time");
        }
    }

    /// The settings.
    pub(crate) fn config(&self) -> &DockerConfig {
        &self.config
    }

    /// The logins for registries.
    pub(crate) fn logins(&self) -> Logins {
        let helpers = self.config.helpers_path.clone().unwrap_or_default();
        let file = self.config.folder.as_ref().map(|folder| folder.join("config.json"));
        file.map_or_else(Logins::none, |file| Logins::of_file(file, helpers))
    }

    /// Whether the workspace may be a layer over the run's copy of the repository, for a container of `image` whose
    /// processes are those of `user`: of root, who may write to what others own, or, as far as is known before there is a
    /// container, of the one whose the files are.
    pub(crate) fn may_layer(&self, image: &str, user: &str) -> bool {
        let may_own = || {
            let own = rustix::process::getuid();
            let number: Option<u32> = user.split(':').next().and_then(|user| user.parse().ok());
            let known = (image.to_owned(), user.to_owned());
            !own.is_root()
                && number.is_none_or(|number| number == own.as_raw())
                && !self.cannot_layer_for.lock().contains(&known)
        };
        self.config.workspace_is_immutable
            && !self.cannot_layer.load(Ordering::Relaxed)
            && (is_root(user) || may_own())
    }

    /// The user `user` of `image` turned out to be somebody else than the one whose the files are.
    pub(crate) fn cannot_layer_for(&self, image: &str, user: &str) {
        self.cannot_layer_for.lock().insert((image.to_owned(), user.to_owned()));
    }

    /// It was tried in vain.
    pub(crate) fn cannot_layer(&self) {
        self.cannot_layer.store(true, Ordering::Relaxed);
    }

    /// What the daemon sees of this machine.
    pub(crate) fn visibility(&self) -> &Visibility {
        &self.visibility
    }

    /// The run's copy of the repository, for jobs that have it mounted as it is.
    pub(crate) fn workspace(&self) -> &SharedWorkspace {
        &self.workspace
    }
}

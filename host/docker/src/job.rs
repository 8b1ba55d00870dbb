//! What a job has the daemon make: its containers, with the workspace, git's objects and secrets in them, its images and
//! its services; and the removal of all of it.
//!
//! ```text
//!  RunDocker ──> JobDocker ──> JobContainer ──> Exec
//!                   │  │            └─ VolumeFiles: the files of a job that works in a volume
//!                   │  └─ Services: watched until they end
//!                   └─ remove_all: gives the workspace back, and removes everything
//! ```

pub(crate) mod container;
mod create;
pub(crate) mod files;
mod give_back;
pub(crate) mod inputs;
pub(crate) mod services;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::job::give_back::BoundWorkspace;
use crate::job::inputs::JobInputs;
use crate::job::services::Services;
use crate::{Build, Daemon, Error, ImageInfo, Network, Outside, Owner, PullPolicy, RunDocker, Scope};

/// A job's side of the daemon. It outlives the job's calls.
#[derive(Debug)]
pub struct JobDocker {
    run: Arc<RunDocker>,
    scope: Scope,
    inputs: JobInputs,
    services: Services,
    /// The workspace that is mounted as it is.
    bound: OnceLock<BoundWorkspace>,
    /// The images that the job has asked for, by the names that it used.
    images: Mutex<BTreeMap<String, ImageInfo>>,
}

impl JobDocker {
    /// Connects to the daemon of `run`, for the job that has `inputs`. Nothing is made yet.
    ///
    /// # Errors
    /// As [`RunDocker::connect`].
    pub async fn connect(run: &Arc<RunDocker>, inputs: JobInputs) -> Result<Self, Arc<Error>> {
        let docker = run.connect().await?;
        let config = run.config();
        let owner =
            Owner { run_id: inputs.run_id.clone(), job_id: inputs.job_id.clone(), repo: config.repo.clone() };
        let scope = Scope::new(&docker, owner, config.ledger.clone());
        Ok(Self {
            run: Arc::clone(run),
            scope,
            inputs,
            services: Services::default(),
            bound: OnceLock::new(),
            images: Mutex::default(),
        })
    }

    /// The daemon.
    pub fn daemon(&self) -> &Daemon {
        self.scope.docker().daemon()
    }

    /// What runs beside its steps.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// An image that it has asked for, by the name that it used.
    pub fn image(&self, name: &str) -> Option<ImageInfo> {
        self.images.lock().get(name).cloned()
    }

    /// Sees to it that the daemon has the image `name`, for `platform` or else that of the user's settings. What a pull says
    /// goes to `on_line`.
    ///
    /// # Errors
    /// As [`Docker::ensure_image`](crate::Docker::ensure_image).
    pub async fn ensure_image(
        &self,
        name: &str,
        policy: PullPolicy,
        platform: Option<&str>,
        on_line: impl FnMut(&str),
    ) -> Result<ImageInfo, Error> {
        let platform = platform.or(self.run.config().default_platform.as_deref());
        let logins = self.run.logins();
        let image = self.scope.docker().ensure_image(name, policy, platform, &logins, on_line).await?;
        Ok(self.register_image(name, image))
    }

    /// Builds an image, for the platform of the user's settings where `build` names none. What the build says goes to
    /// `on_line`.
    ///
    /// # Errors
    /// As [`Scope::build`].
    pub async fn build(&self, mut build: Build, on_line: impl FnMut(&str)) -> Result<ImageInfo, Error> {
        build.platform = build.platform.or_else(|| self.run.config().default_platform.clone());
        let image = self.scope.build(&build, &self.run.logins(), on_line).await?;
        Ok(self.register_image(build.tags.first().map_or("", String::as_str), image))
    }

    /// Makes a network for its containers. `name` says what it is for.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn create_network(&self, name: &str) -> Result<Network, Error> {
        self.scope.create_network(name, Outside::Reachable).await
    }

    /// A step is about to run: a workspace that is mounted as it is belongs to whoever runs it, if it can.
    ///
    /// # Errors
    /// Why it cannot, in words.
    pub async fn give_workspace(&self) -> Result<(), String> {
        let Some(bound) = self.bound.get() else { return Ok(()) };
        match bound.lease.to_be_given() {
            Some(user) => give_back::give_to(&self.scope, bound, &self.inputs.workspace, user).await,
            None => Ok(()),
        }
    }

    /// Sees to it that everything in a workspace that is mounted as it is belongs to the user.
    ///
    /// # Errors
    /// Why it does not, in words.
    pub async fn give_back(&self) -> Result<(), String> {
        match self.bound.get() {
            Some(bound) => give_back::give_back(&self.scope, bound, &self.inputs.workspace).await,
            None => Ok(()),
        }
    }

    /// Gives the workspace back to the user and removes everything. Returns what could not be done, in sentences.
    pub async fn remove_all(&self) -> Vec<String> {
        let mut failures = Vec::new();
        if let Err(error) = self.give_back().await {
            failures.push(format!("files of the workspace still belong to users of the container: {error}"));
        }
        self.services.settle().await;
        let residuals = self.scope.remove_all().await;
        self.services.end().await;
        failures
            .extend(residuals.iter().map(|it| format!("{} could not be removed: {}", it.resource, it.why)));
        failures
    }

    /// From now on the job may run in the image.
    fn register_image(&self, name: &str, image: ImageInfo) -> ImageInfo {
        let mut images = self.images.lock();
        images.insert(name.to_owned(), image.clone());
        image
    }
}

//! A job's side of the Docker daemon in the terms of the engine and of plugins.
//!
//! What a job has the daemon make, and how, is known by [`loom_docker::JobDocker`]; here it gets what it needs of the job,
//! and what it says becomes errors, messages and sections.

mod error;
mod files;
mod notice;
mod services;

use std::sync::{Arc, OnceLock};

use loom_contract::error::ErrorInfo;
pub use loom_docker::{DockerConfig, RunDocker};
use loom_docker::{JobDocker, JobInputs};
use loom_engine::environment::ResolvedVariables;
use loom_engine::port::{JobContext, JobFiles, PreparedJob};

pub(crate) use error::{section_end, to_plugin_error};
pub(crate) use files::WorkspaceFiles;
pub(crate) use notice::notify;
pub(crate) use services::ServiceSection;

use crate::types::{Error as PluginError, ErrorKind, error as plugin_error};

/// What a job has with the daemon. It outlives the plugin's instances.
#[derive(Debug, Default)]
pub(crate) struct DockerState {
    docker: OnceLock<Arc<JobDocker>>,
    /// Resolved once the job's image is there.
    variables: OnceLock<ResolvedVariables>,
    image_digest: OnceLock<String>,
    files: OnceLock<Arc<dyn JobFiles>>,
    /// The record of what runs beside its steps.
    pub(crate) services: ServiceSection,
}

impl DockerState {
    /// Connects `job` to the daemon of `run`, unless it is.
    pub(crate) async fn connect(
        &self,
        run: &Arc<RunDocker>,
        job: &JobContext,
    ) -> Result<Arc<JobDocker>, PluginError> {
        if let Some(docker) = self.docker.get() {
            return Ok(Arc::clone(docker));
        }
        let docker = JobDocker::connect(run, inputs(job)).await.map_err(|error| to_plugin_error(&error))?;
        Ok(Arc::clone(self.docker.get_or_init(|| Arc::new(docker))))
    }

    /// What it was connected to.
    pub(crate) fn get(&self) -> Result<Arc<JobDocker>, PluginError> {
        let unconnected =
            || plugin_error(ErrorKind::Invalid, "DOCKER_UNCONNECTED", "`connect` was not called");
        self.docker.get().cloned().ok_or_else(unconnected)
    }

    /// The job's own image is there, with the environment `env` and this digest. Only the first one counts. Returns the
    /// job's variables there.
    pub(crate) fn enter_image(
        &self,
        job: &JobContext,
        env: &[(String, String)],
        digest: &str,
    ) -> &ResolvedVariables {
        // An image is looked for once.
        let _ = self.image_digest.set(digest.to_owned());
        self.variables.get_or_init(|| job.resolve_variables(env))
    }

    /// Where it runs in a volume, its files are there from now on. Only the first ones count.
    pub(crate) fn set_files(&self, files: WorkspaceFiles) {
        // A second time, the job works where it did.
        let _ = self.files.set(Arc::new(files));
    }

    /// The workflow's variables for `job`, whose state this is, as far as they are resolved: with those of its image once
    /// that is there.
    pub(crate) fn variables_of<'j>(&'j self, job: &'j JobContext) -> &'j [(String, String)] {
        self.variables.get().map_or_else(|| job.variables(), |resolved| &*resolved.variables)
    }

    /// See [`JobProvider::image_digest`](loom_engine::port::JobProvider::image_digest).
    pub(crate) fn image_digest(&self) -> Option<String> {
        self.image_digest.get().cloned()
    }

    /// What was made ready for the job's steps. Its services are up, as far as they were to be.
    pub(crate) fn prepared(&self) -> PreparedJob {
        self.services_are_up();
        PreparedJob { variables: self.variables.get().cloned(), files: self.files.get().cloned() }
    }

    /// As [`JobDocker::give_workspace`].
    pub(crate) async fn give_workspace(&self) -> Result<(), String> {
        match self.docker.get() {
            Some(docker) => docker.give_workspace().await,
            None => Ok(()),
        }
    }

    /// As [`JobDocker::give_back`].
    pub(crate) async fn give_back(&self) -> Result<(), String> {
        match self.docker.get() {
            Some(docker) => docker.give_back().await,
            None => Ok(()),
        }
    }

    /// The services are up, as far as they were to be.
    pub(crate) fn services_are_up(&self) {
        if let Some(docker) = self.docker.get() {
            self.services.are_up(docker.services());
        }
    }

    /// The job could not be prepared, for `error`. See [`ServiceSection::not_prepared`].
    pub(crate) async fn not_prepared(&self, job: &JobContext, error: ErrorInfo) -> ErrorInfo {
        match self.docker.get() {
            Some(docker) => self.services.not_prepared(job, docker.services(), error).await,
            None => error,
        }
    }

    /// Gives the workspace back to the user and removes everything. Returns what could not be done, in sentences.
    pub(crate) async fn remove_all(&self) -> Vec<String> {
        let Some(docker) = self.docker.get() else { return Vec::new() };
        let failures = docker.remove_all().await;
        self.services.end();
        failures
    }
}

/// What `job` is, and has on this machine.
fn inputs(job: &JobContext) -> JobInputs {
    JobInputs {
        run_id: job.ids.run_id.to_string(),
        job_id: job.id.to_string(),
        workspace: job.workspace.clone(),
        borrowed_objects: job.borrowed_objects.clone(),
        staging: job.staging.clone(),
        secrets: job.secret_files(),
        mask: job.mask_file(),
    }
}

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
use loom_docker::{JobContainer, JobDocker, JobInputs, MASK, SECRETS};
use loom_engine::cancel::Urgency;
use loom_engine::environment::ResolvedVariables;
use loom_engine::mask::VARIABLE;
use loom_engine::port::{JobContext, JobFiles, PreparedJob};

pub(crate) use error::{section_end, to_plugin_error};
pub(crate) use files::WorkspaceFiles;
pub(crate) use notice::notify;
pub(crate) use services::ServiceSection;

use crate::types::{Error as PluginError, ErrorKind, error as plugin_error};

/// Becomes the best shell of the image.
const SHELL: &str = "if command -v bash > /dev/null 2>&1; then exec bash; else exec sh; fi";
/// The exit code of a shell that was not waited for.
const CANCELLED: i64 = 130;

/// What a job has with the daemon. It outlives the plugin's instances.
#[derive(Debug, Default)]
pub(crate) struct DockerState {
    docker: OnceLock<Arc<JobDocker>>,
    /// Resolved once the job's image is there.
    variables: OnceLock<ResolvedVariables>,
    image_digest: OnceLock<String>,
    files: OnceLock<Arc<dyn JobFiles>>,
    container: OnceLock<JobContainer>,
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

    /// Its steps work in `container`. Only the first one counts.
    pub(crate) fn set_container(&self, container: JobContainer) {
        let _ = self.container.set(container);
    }

    /// Runs the user's own shell where its steps work, and returns its exit code. A job that is cancelled does not wait for
    /// it: it ends with its container.
    ///
    /// # Errors
    /// There is no such place, or the shell could not be run to its end.
    pub(crate) async fn shell(&self, job: &JobContext) -> Result<i64, PluginError> {
        let missing = || {
            plugin_error(
                ErrorKind::Invalid,
                "CONTAINER_MISSING",
                "the job has no container with its workspace",
            )
        };
        let container = self.container.get().ok_or_else(missing)?;
        let mut env = environment(job, self.variables_of(job), container.has_mask())?;
        env.extend(
            job.env
                .iter()
                .filter(|(name, _)| name == "TERM")
                .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value.to_str()?.to_owned()))),
        );
        let command = ["sh", "-c", SHELL].map(str::to_owned).to_vec();
        let docker = self.get()?;
        let mut cancel = job.cancel.clone();
        tokio::select! {
            ended = docker.attach(container, command, env) => {
                match ended {
                    Ok(code) => Ok(code),
                    Err(error) => Err(to_plugin_error(&container.explain(error).await)),
                }
            }
            () = cancel.reached(Urgency::Ask) => Ok(CANCELLED),
        }
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

/// The job's environment for a command in a container, secrets included.
pub(crate) fn environment(
    job: &JobContext,
    variables: &[(String, String)],
    has_mask: bool,
) -> Result<Vec<(String, String)>, PluginError> {
    let mut env = job.environment_in_container(variables, SECRETS).map_err(|cause| PluginError {
        hint: cause.hint,
        ..plugin_error(ErrorKind::Invalid, &cause.code, cause.message)
    })?;
    if has_mask {
        env.push((VARIABLE.to_owned(), MASK.to_owned()));
    }
    Ok(env)
}

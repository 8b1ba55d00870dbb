//! What the engine asks of the outside: providers of jobs, resolvers of secrets.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use loom_contract::error::ErrorInfo;
use loom_contract::event::{Level, Metrics, Phase, PluginRef};
use loom_contract::id::{JobId, RunIds, StepIndex};
use loom_contract::section::Section;
use loom_contract::status::SkipReason;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::cancel::Cancel;
use crate::emit::Emitter;
use crate::output::OutputSink;
use crate::process::JobProcesses;
use crate::redact::Redactor;
use crate::secrets::Given;

/// Runs jobs of one kind: on the host's shell, in containers, or wherever a plugin's author wants.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Who it is.
    fn plugin(&self) -> PluginRef;

    /// Takes a job. Nothing of the job happens before [`JobProvider::prepare`].
    ///
    /// # Errors
    /// The provider cannot be brought up.
    async fn open(&self, job: Arc<JobContext>) -> Result<Box<dyn JobProvider>, ErrorInfo>;
}

/// A provider with one job. The engine calls `prepare`, then `run_step` for each step until one does not succeed, then
/// always `cleanup`.
#[async_trait]
pub trait JobProvider: Send {
    /// Gets ready for the job's steps.
    ///
    /// # Errors
    /// It cannot; no step is run.
    async fn prepare(&mut self) -> Result<(), ErrorInfo>;

    /// Runs one step.
    ///
    /// # Errors
    /// The step could not be run to an end of its own.
    async fn run_step(&mut self, step: Step) -> Result<StepEnd, ErrorInfo>;

    /// Gives back what the job used. Called whatever happened before, also after a call that failed.
    ///
    /// # Errors
    /// Something could not be given back.
    async fn cleanup(&mut self, reason: CleanupReason) -> Result<(), ErrorInfo>;
}

/// Works around providers, for jobs that use its keyword.
#[async_trait]
pub trait Wrapper: Send + Sync {
    /// Who it is.
    fn plugin(&self) -> PluginRef;

    /// Takes a job, of which `keyword` is what the workflow says under the wrapper's keyword.
    ///
    /// # Errors
    /// The wrapper cannot be brought up.
    async fn open(&self, job: Arc<JobContext>, keyword: Value) -> Result<Box<dyn JobWrapper>, ErrorInfo>;
}

/// A wrapper with one job.
#[async_trait]
pub trait JobWrapper: Send {
    /// Works before the job's first step.
    ///
    /// # Errors
    /// It cannot; no step is run.
    async fn before(&mut self) -> Result<Report, ErrorInfo>;

    /// Works after the job's last step.
    ///
    /// # Errors
    /// Something went wrong; the job's result stands.
    async fn after(&mut self, succeeded: bool) -> Result<Report, ErrorInfo>;
}

/// What a wrapper says of a section.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Why it was left out.
    pub skip: Option<SkipReason>,
    /// What it counted.
    pub metrics: Option<Metrics>,
}

/// Finds the values of secrets whose references have one of its schemes.
#[async_trait]
pub trait SecretResolver: Send + Sync {
    /// Who it is.
    fn plugin(&self) -> PluginRef;

    /// Opens, ahead of the jobs, what `references` lead to. What goes wrong is told when they are resolved.
    async fn open(&self, references: &[String], cancel: Cancel);

    /// The values of `references`, in their order. Each error has one of the codes for secrets, or `PLUGIN_DENIED`.
    ///
    /// # Errors
    /// The resolver itself failed.
    async fn resolve(
        &self,
        references: &[String],
        cancel: Cancel,
    ) -> Result<Vec<Result<SecretValue, ErrorInfo>>, ErrorInfo>;
}

/// The value of a secret. Wiped when dropped, and never printed.
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// The value, for tests of resolvers.
    #[cfg(feature = "fake")]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

impl From<Vec<u8>> for SecretValue {
    fn from(value: Vec<u8>) -> Self {
        Self(Zeroizing::new(value))
    }
}

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretValue")
    }
}

/// A step to run.
#[derive(Debug)]
pub struct Step {
    /// Its position.
    pub index: StepIndex,
    /// Its command.
    pub command: String,
    /// Whether `command` has several lines of which the first to fail ends the step.
    pub multi_line: bool,
    /// Where its standard output is recorded.
    pub stdout: OutputSink,
    /// Where its standard error is recorded.
    pub stderr: OutputSink,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepEnd {
    /// The exit code; 128 + n where signal n ended it.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

/// Why a job is cleaned up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CleanupReason {
    /// Its steps are done.
    Done,
    /// A step, or something before, failed.
    Failed,
    /// The run was cancelled.
    Cancelled,
}

/// A job that runs, as providers see it.
#[derive(Debug)]
pub struct JobContext {
    /// The job.
    pub id: JobId,
    /// Its name in the workflow: that of all jobs of a matrix.
    pub name: String,
    /// The run's names.
    pub ids: RunIds,
    /// The commit that the workspace was made from.
    pub head_sha: Option<String>,
    /// Its stage.
    pub stage: String,
    /// Its image.
    pub image: Option<String>,
    /// The workflow's variables for it, with all references filled in; in order of name.
    pub variables: Vec<(String, String)>,
    /// The environment of its processes on the host, without secrets.
    pub env: Vec<(OsString, OsString)>,
    /// The workspace on the host.
    pub workspace: PathBuf,
    /// Whether the user wants to see each command.
    pub debug_trace: bool,
    /// Whether the run is to end.
    pub cancel: Cancel,
    /// The ledger of its processes.
    pub processes: JobProcesses,
    /// What must not be seen.
    pub redactor: Redactor,
    pub(crate) emitter: Emitter,
    /// The secrets that it has while it runs.
    pub(crate) given: Mutex<Given>,
}

impl JobContext {
    /// The environment of its processes on the host, secrets included.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut env = self.env.clone();
        self.given.lock().unwrap_or_else(PoisonError::into_inner).add_to(&mut env);
        env
    }

    /// Says `message` in the section `section`, which must be open.
    pub fn message(&self, section: Section, level: Level, message: String, data: Option<Map<String, Value>>) {
        self.emitter.message(Phase::Section(self.id.clone(), section), level, message, data);
    }

    /// Says `message` about the step `step`, which must be running.
    pub fn step_message(
        &self,
        step: StepIndex,
        level: Level,
        message: String,
        data: Option<Map<String, Value>>,
    ) {
        self.emitter.message(Phase::Step(self.id.clone(), step), level, message, data);
    }
}

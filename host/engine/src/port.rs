//! What the engine asks of the outside: providers of jobs, resolvers of secrets.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::{Finish, Level, Metrics, Phase, PluginRef, Stream};
use loom_contract::id::{JobId, RunIds, StepIndex};
use loom_contract::section::Section;
use loom_contract::status::SkipReason;
pub use loom_tree::Prints;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::cancel::Cancel;
use crate::emit::Emitter;
use crate::environment::{Definition, ResolvedVariables};
use crate::mask::{self, MaskFile};
use crate::output::{OutputSink, Route};
use crate::phase::PhaseGuard;
use crate::process::{JobLimits, JobProcesses, UsedUp};
use crate::redact::Redactor;
use crate::secrets::Given;

/// Runs jobs of one kind: on the host's shell, in containers, or wherever a plugin's author wants.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Who it is.
    fn plugin(&self) -> PluginRef;

    /// Where its jobs find their workspace, if that is not where it is on the host. The variables of such jobs are resolved
    /// by [`JobProvider::prepare`], which knows what they can refer to there.
    fn workspace(&self) -> Option<&Path> {
        None
    }

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
    async fn prepare(&mut self) -> Result<PreparedJob, ErrorInfo>;

    /// The digest of the image that the job runs in, or was to run in; one that no registry knows has its id for it. Asked
    /// after [`Self::prepare`], also where that failed.
    fn image_digest(&self) -> Option<String> {
        None
    }

    /// Runs one step.
    ///
    /// # Errors
    /// The step could not be run to an end of its own.
    async fn run_step(&mut self, step: Step) -> Result<StepEnd, ErrorInfo>;

    /// Runs the user's own shell where its steps run, with the user's terminal. Asked only of a provider whose jobs have
    /// their workspace elsewhere.
    ///
    /// # Errors
    /// It cannot, or the shell could not be run to an end of its own.
    async fn shell(&mut self) -> Result<StepEnd, ErrorInfo> {
        Err(ErrorInfo::new(code::PLUGIN_INCOMPATIBLE, "the job's provider has no shell"))
    }

    /// Sees to it that the files of the workspace can be read, which are about to be taken out of it: no step follows.
    async fn hand_over_files(&mut self);

    /// Gives back what the job used. Called whatever happened before, also after a call that failed.
    ///
    /// # Errors
    /// Something could not be given back.
    async fn cleanup(&mut self, reason: CleanupReason) -> Result<(), ErrorInfo>;
}

/// What a provider has made ready for a job's steps.
#[derive(Debug, Default)]
pub struct PreparedJob {
    /// The workflow's variables, where they could not be resolved on the host. See [`JobContext::resolve_variables`].
    pub variables: Option<ResolvedVariables>,
    /// The job's files, where they are not in the workspace on the host.
    pub files: Option<Arc<dyn JobFiles>>,
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

/// The files of a job that does not work in the run's workspace on the host, but in a copy elsewhere.
#[async_trait]
pub trait JobFiles: Send + Sync + std::fmt::Debug {
    /// Copies into the folder `into`, which is empty, at least what `patterns` match. They are relative to the workspace,
    /// and what names a folder means everything in it. Returns what had to be left out, in sentences.
    ///
    /// # Errors
    /// The copy cannot be read, or `into` cannot be written.
    async fn fetch(&self, patterns: &[String], into: &Path) -> Result<Vec<String>, ErrorInfo>;

    /// Removes `removed`, paths relative to the workspace, then puts everything that is in the folder `from` in.
    ///
    /// # Errors
    /// `from` cannot be read, or the copy cannot be written.
    async fn put(&self, from: &Path, removed: &[PathBuf]) -> Result<(), ErrorInfo>;

    /// What all of them come to, for who compares two runs.
    ///
    /// # Errors
    /// The copy cannot be read, or holds too many files.
    async fn prints(&self) -> Result<Prints, ErrorInfo>;
}

/// What the files of the jobs that work in a copy of their own have become, by job.
pub type Seen = Arc<Mutex<BTreeMap<JobId, Result<Prints, ErrorInfo>>>>;

/// A step to run.
#[derive(Debug)]
pub struct Step {
    /// Its position.
    pub index: StepIndex,
    /// Its command.
    pub command: String,
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

/// A section that is open; dropped, it ends as failed.
#[derive(Debug)]
pub struct OpenSection {
    guard: PhaseGuard,
    route: Arc<Route>,
    after: Phase,
}

/// What stays of a section that is over, while its processes go on. Dropped, nothing more is recorded of them.
#[derive(Debug)]
pub struct Afterwards {
    route: Arc<Route>,
}

impl Drop for Afterwards {
    fn drop(&mut self) {
        self.route.close();
    }
}

impl OpenSection {
    /// Where its output is recorded.
    pub fn sink(&self, stream: Stream) -> OutputSink {
        OutputSink::new(&self.route, stream)
    }

    /// Ends it.
    pub fn finish(self, finish: Finish) {
        self.route.close();
        self.guard.finish(finish);
    }

    /// Ends it, but not its processes: what its sinks take from now on is recorded behind it.
    pub fn finish_before_its_processes(self, finish: Finish) -> Afterwards {
        self.route.open(self.after);
        self.guard.finish(finish);
        Afterwards { route: self.route }
    }
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
    /// What the workflow says under the keywords that are its provider's, as Graph IR has it: an object.
    pub keywords: Value,
    pub(crate) definition: Definition,
    /// Where its provider resolves them, only from when it has.
    pub(crate) resolved: OnceLock<ResolvedVariables>,
    /// The environment of its processes on the host, without secrets.
    pub env: Vec<(OsString, OsString)>,
    /// The workspace on the host.
    pub workspace: PathBuf,
    /// Folders outside of the workspace whose git objects it needs.
    pub borrowed_objects: Vec<PathBuf>,
    /// A folder on the host for what is on its way to or from a copy of the workspace. To be made by who needs it; removed
    /// when the job is over.
    pub staging: PathBuf,
    pub(crate) files: OnceLock<Arc<dyn JobFiles>>,
    /// See [`JobFinish::image_digest`](loom_contract::event::JobFinish::image_digest).
    pub(crate) image_digest: OnceLock<String>,
    /// Whether the user wants to see each command.
    pub debug_trace: bool,
    /// Whether the run is to end.
    pub cancel: Cancel,
    /// The ledger of its processes.
    pub processes: JobProcesses,
    /// What it may use.
    pub limits: JobLimits,
    /// What its provider has seen it use up in the step that runs.
    pub(crate) used_up: Mutex<Option<UsedUp>>,
    /// What must not be seen.
    pub redactor: Redactor,
    pub(crate) emitter: Emitter,
    /// The secrets that it has while it runs.
    pub(crate) given: Mutex<Given>,
    /// Where it writes what is to be masked.
    pub(crate) mask: OnceLock<Arc<MaskFile>>,
}

impl JobContext {
    /// The environment of its processes on the host, secrets included.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut env = self.env.clone();
        self.given.lock().add_to(&mut env);
        if let Some(mask) = self.mask.get() {
            env.retain(|(name, _)| name != mask::VARIABLE);
            env.push((mask::VARIABLE.into(), mask.path().into()));
        }
        env
    }

    /// The workflow's variables for it, with all references filled in; in order of name. None before its provider has
    /// resolved them.
    pub fn variables(&self) -> &[(String, String)] {
        self.resolved.get().map_or(&[], |resolved| &resolved.variables)
    }

    /// The workflow's variables for it where it runs in an image whose environment is `env`: references that Loom does not
    /// predefine are filled in from there.
    pub fn resolve_variables(&self, env: &[(String, String)]) -> ResolvedVariables {
        let outer = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        self.definition.fill(outer)
    }

    /// What its processes in a container get over the environment of the image: what Loom predefines, `variables` and
    /// secrets, whose files the container has in the folder `secrets`.
    ///
    /// # Errors
    /// The value of a secret is no UTF-8, so that the container cannot be given it.
    pub fn environment_in_container(
        &self,
        variables: &[(String, String)],
        secrets: &str,
    ) -> Result<Vec<(String, String)>, ErrorInfo> {
        let mut env = self.definition.with(variables);
        self.given.lock().add_in_container(&mut env, secrets)?;
        Ok(env.into_iter().collect())
    }

    /// As above, without secrets: what may be kept in the configuration of a container.
    pub fn variables_in_container(&self, variables: &[(String, String)]) -> Vec<(String, String)> {
        self.definition.with(variables).into_iter().collect()
    }

    /// What Loom predefines for it; a name that has no value in this run is empty.
    pub fn predefined(&self) -> Vec<(String, String)> {
        self.definition.predefined()
    }

    /// `text` with its references filled in: from `variables`, what Loom predefines, and `env`. What is set nowhere is empty.
    pub fn fill(&self, text: &str, variables: &[(String, String)], env: &[(String, String)]) -> String {
        let outer = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        self.definition.fill_text(text, variables, &outer)
    }

    /// A shell script that sets those of its secrets that are variables; none where it has none.
    pub fn secret_variables(&self) -> Option<Zeroizing<Vec<u8>>> {
        self.given.lock().script()
    }

    /// The folder on the host with the files of its secrets, for this user alone; none where it has none.
    pub fn secret_files(&self) -> Option<PathBuf> {
        self.given.lock().folder().map(Path::to_owned)
    }

    /// The file on the host into which it writes what is to be masked, for this user alone; none where there is none.
    pub fn mask_file(&self) -> Option<PathBuf> {
        self.mask.get().map(|mask| mask.path().to_owned())
    }

    /// Lets other users write to that file who can reach it: those of a container that it is mounted into.
    ///
    /// # Errors
    /// Its permissions cannot be changed.
    pub fn share_mask_file(&self) -> std::io::Result<()> {
        self.mask.get().map_or(Ok(()), |mask| mask.share())
    }

    /// Its processes have used up `used` in the step that runs: where the step fails, its error says so.
    pub fn has_used_up(&self, used: UsedUp) {
        *self.used_up.lock() = Some(used);
    }

    /// Where its files are; none where they are in the workspace on the host.
    pub fn files(&self) -> Option<&Arc<dyn JobFiles>> {
        self.files.get()
    }

    /// Opens a section of its own for a part of the call that runs.
    pub fn open_section(&self, section: Section) -> OpenSection {
        let phase = Phase::Section(self.id.clone(), section);
        let guard = PhaseGuard::start(&self.emitter, phase.clone());
        let route = Route::new(self.emitter.clone(), self.mask.get().cloned());
        route.open(phase);
        OpenSection { guard, route, after: Phase::After(self.id.clone(), section) }
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

//! One job, from the preparation of its provider to its cleanup.

mod artifacts;
mod caches;
mod secrets;
mod shell;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::{EventBody, Finish, JobFinish, Level, Phase, PluginRef, Stream};
use loom_contract::graph_ir::{Cache, Node, RetryWhen};
use loom_contract::id::{JobId, StepIndex};
use loom_contract::phase::PhaseCode;
use loom_contract::section::Section;
use loom_contract::status::{SkipReason, Status};
use loom_workflow::PlanJob;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::cancel::{Cancel, Canceller, Urgency};
use crate::emit::Emitter;
use crate::environment::{self, Definition, ResolvedVariables};
use crate::mask::{self, LastLine};
use crate::output::{OutputSink, Route};
use crate::phase::PhaseGuard;
use crate::port::{CleanupReason, JobContext, JobProvider, PreparedJob, Provider, Step, StepEnd, Wrapper};
use crate::process::{self, ControlGroup, JobProcesses, Swept, UsedUp};
use crate::run::RunContext;

/// How long the files of a job may take to be looked at.
const MOST_TO_LOOK: Duration = Duration::from_secs(600);

/// A job that is about to run.
pub(crate) struct Job {
    pub(crate) run: Arc<RunContext>,
    pub(crate) plan: PlanJob,
    /// The jobs whose artifacts it gets.
    pub(crate) artifacts_from: Vec<JobId>,
    /// The position of the step that it begins with.
    pub(crate) first_step: usize,
    pub(crate) stage: String,
    pub(crate) workspace: PathBuf,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) emitter: Emitter,
    pub(crate) cancel: Cancel,
    /// Its first phase, which was started in the order of the jobs, for the first attempt.
    pub(crate) begun: Mutex<Option<PhaseGuard>>,
}

/// How the parts of a job that were run have come out so far.
struct Outcome {
    status: Status,
    exit_code: Option<i32>,
    error: Option<ErrorInfo>,
    /// What kind of failure it is; for a failure only.
    kind: RetryWhen,
}

impl Outcome {
    fn success() -> Self {
        Self { status: Status::Success, exit_code: Some(0), error: None, kind: RetryWhen::Always }
    }

    fn failed(kind: RetryWhen, error: ErrorInfo) -> Self {
        Self { status: Status::Failed, exit_code: None, error: Some(error), kind }
    }

    fn cancelled(exit_code: Option<i32>) -> Self {
        let error = ErrorInfo::new(code::CANCELLED, "the run was cancelled");
        Self { status: Status::Cancelled, exit_code, error: Some(error), kind: RetryWhen::Always }
    }
}

/// One attempt at a job.
struct Attempt<'a> {
    job: &'a Job,
    emitter: &'a Emitter,
    context: Arc<JobContext>,
    /// Cancels this attempt alone: a job that takes too long.
    canceller: Canceller,
    /// When the job has taken too long.
    deadline: Option<Instant>,
}

impl Job {
    /// Runs it to its end, as often as it is to be retried, and says how it came out.
    pub(crate) async fn run(self) -> Status {
        let mut retries = 0;
        loop {
            let (outcome, finish) = self.run_once().await;
            let id = self.plan.id.clone();
            let again = outcome.status == Status::Failed
                && !self.cancel.is_cancelled()
                && self.plan.retry.as_ref().is_some_and(|retry| {
                    let when = |when: &RetryWhen| *when == RetryWhen::Always || *when == outcome.kind;
                    retries < retry.max && retry.when.iter().any(when)
                });
            if !again {
                self.emitter.emit(EventBody::JobFinish(id, finish));
                return outcome.status;
            }
            retries += 1;
            self.emitter.emit(EventBody::JobRetry(id, finish));
        }
    }

    /// Everything that serves it.
    fn plugins(&self) -> Vec<PluginRef> {
        let schemes = crate::secrets::by_scheme(&self.plan.secrets).into_keys();
        let resolvers = schemes.filter_map(|scheme| self.run.resolvers.get(scheme)).map(|r| r.plugin());
        let cache = self.cache().map(|(wrapper, _)| wrapper.plugin());
        std::iter::once(self.provider.plugin()).chain(resolvers).chain(cache).collect()
    }

    /// What works around it, and its caches; where all are disabled it has none.
    fn cache(&self) -> Option<(&Arc<dyn Wrapper>, Cache)> {
        let mut cache = self.plan.cache.clone()?;
        if cache.entries().iter().all(|entry| entry.disabled) {
            return None;
        }
        if self.run.caches_off {
            cache.entries_mut().iter_mut().for_each(|entry| entry.disabled = true);
        }
        Some((self.run.cache.as_ref()?, cache))
    }

    /// What the workflow says under the keywords of providers, with the references to variables filled in. Of the
    /// environment of an image that is still to be found, nothing is known here.
    fn keywords(&self, definition: &Definition) -> Value {
        let Node { image, image_build, image_options, services, .. } = &self.plan.node;
        let (mut build, mut options) = (image_build.clone(), image_options.clone().unwrap_or_default());
        let variables = definition.fill(|_| None).variables;
        let build_texts = build.iter_mut().flat_map(|build| {
            build.args.iter_mut().map(|argument| &mut argument.value).chain(build.target.as_mut())
        });
        for text in build_texts.chain(options.user.as_mut()).chain(options.platform.as_mut()) {
            *text = definition.fill_text(text, &variables, &|_| None);
        }
        json!({ "image": image, "image_build": build, "image_options": options, "services": services })
    }

    /// The control group of an attempt at it, where the run has any and it works on this machine.
    fn control_group(&self) -> Option<ControlGroup> {
        let groups = self.run.groups.as_ref().filter(|_| self.plan.image.is_none())?;
        let made = groups.of_job();
        if let Err(error) = &made {
            let message = format!("job `{}` has no control group, and so no limits: {error}", self.plan.id);
            let phase = Phase::Run(PhaseCode::PipelineExecute);
            self.emitter.message(phase, Level::Warn, message, None);
        }
        made.ok()
    }

    /// An attempt at it of which nothing has happened yet.
    fn attempt(&self) -> Attempt<'_> {
        let id = self.plan.id.clone();
        let elsewhere = self.provider.workspace();
        let workspace = elsewhere.unwrap_or(&self.workspace);
        let definition = Definition::new(&self.run, &self.stage, &self.plan, workspace);
        let resolved = OnceLock::new();
        let on_host = |name: &str| {
            let known = self.run.env.iter().find(|(key, _)| key == name);
            known.map(|(_, value)| value.to_string_lossy().into_owned())
        };
        if elsewhere.is_none() {
            // Nobody else can have set it.
            let _ = resolved.set(definition.fill(on_host));
        }
        let variables = resolved.get().map_or(&[][..], |it: &ResolvedVariables| &it.variables);
        let env = environment::on_host(&self.run, definition.with(variables));
        let (canceller, cancel) = self.cancel.part();
        Attempt {
            job: self,
            emitter: &self.emitter,
            context: Arc::new(JobContext {
                id: id.clone(),
                name: self.plan.name.clone(),
                ids: self.run.ids.clone(),
                head_sha: self.run.head_sha.clone(),
                stage: self.stage.clone(),
                image: self.plan.image.clone(),
                keywords: self.keywords(&definition),
                debug_trace: environment::is_traced(&env),
                definition,
                resolved,
                env,
                workspace: self.workspace.clone(),
                borrowed_objects: self.run.borrowed_objects.clone(),
                staging: self.run.staging_dir.join(id.as_str()),
                files: OnceLock::new(),
                image_digest: OnceLock::new(),
                cancel,
                processes: JobProcesses::new(
                    self.run.ids.run_id.as_str(),
                    id.as_str(),
                    &self.run.mark,
                    self.control_group(),
                ),
                limits: self.run.limits,
                used_up: Mutex::default(),
                redactor: self.emitter.redactor().clone(),
                emitter: self.emitter.clone(),
                given: Mutex::default(),
                mask: OnceLock::new(),
            }),
            canceller,
            deadline: self
                .plan
                .timeout
                .and_then(|timeout| timeout.job_ms)
                .map(|ms| Instant::now() + Duration::from_millis(ms)),
        }
    }

    async fn run_once(&self) -> (Outcome, JobFinish) {
        let started_at = self.emitter.clock().now();
        let attempt = self.attempt();
        let outcome = attempt.run().await;
        attempt.remove_staging();
        let finish = JobFinish {
            status: outcome.status,
            exit_code: outcome.exit_code,
            error: outcome.error.clone(),
            skip_reason: None,
            reused_from: None,
            plugins: self.plugins(),
            artifacts: self.run.taken(&self.plan.id),
            image_digest: attempt.context.image_digest.get().cloned(),
            started_at: Some(started_at),
            duration_ms: self.emitter.clock().now().millis_since(started_at),
        };
        (outcome, finish)
    }
}

impl Attempt<'_> {
    /// Removes its files that were on their way.
    fn remove_staging(&self) {
        let staging = &self.context.staging;
        // Never a path that means something else elsewhere.
        if staging.is_absolute()
            && let Err(error) = crate::secrets::remove(staging)
        {
            tracing::warn!(%error, "files that were on their way stay");
        }
    }

    async fn run(&self) -> Outcome {
        let (provider, prepared) = self.prepare().await;
        let route = Route::new(self.emitter.clone(), self.context.mask.get().cloned());
        let mut wrapper = None;
        let prepared = match prepared {
            Ok(()) => self.restore_caches(&mut wrapper).await,
            Err(error) => Err(error),
        };
        let (mut provider, mut outcome) = match (provider, prepared) {
            (Some(mut provider), Ok(())) => {
                let outcome = self.execute(provider.as_mut(), &route).await;
                provider.hand_over_files().await;
                let outcome = self.save_caches(wrapper, outcome).await;
                let outcome = match self.take_artifacts(&outcome).await {
                    Ok(taken) => {
                        self.job.run.keep(&self.context.id, taken);
                        outcome
                    }
                    Err(_) if self.job.cancel.is_cancelled() => Outcome::cancelled(outcome.exit_code),
                    Err(error) if outcome.status == Status::Success => {
                        Outcome::failed(RetryWhen::ProviderFailure, error)
                    }
                    Err(_) => outcome,
                };
                self.look_at_files().await;
                (Some(provider), outcome)
            }
            (provider, prepared) => {
                let cancelled = self.job.cancel.is_cancelled();
                let reason = if cancelled { SkipReason::Cancelled } else { SkipReason::ProviderFailed };
                PhaseGuard::skip(self.emitter, self.phase(PhaseCode::JobExecution), reason);
                let outcome = match prepared {
                    Err(error) if !cancelled => Outcome::failed(RetryWhen::ProviderFailure, error),
                    _ => Outcome::cancelled(None),
                };
                (provider, outcome)
            }
        };
        let cleaned = self.clean_up(provider.as_deref_mut(), &route, outcome.status).await;
        if let Err(error) = cleaned
            && outcome.status == Status::Success
        {
            outcome = Outcome::failed(RetryWhen::ProviderFailure, error);
        }
        outcome
    }

    async fn prepare(&self) -> (Option<Box<dyn JobProvider>>, Result<(), ErrorInfo>) {
        let begun = self.job.begun.lock().take();
        let again = || PhaseGuard::start(self.emitter, self.phase(PhaseCode::JobProviderPrepare));
        let phase = begun.unwrap_or_else(again);
        let section = PhaseGuard::start(self.emitter, self.section(Section::Provider));
        self.say_provider();
        self.offer_mask();
        let open = async {
            if let Err(error) = self.give_secrets().await {
                return (None, Err(error));
            }
            match self.job.provider.open(Arc::clone(&self.context)).await {
                Ok(mut provider) => {
                    let prepared = provider.prepare().await;
                    if let Some(digest) = provider.image_digest() {
                        // An attempt prepares once.
                        let _ = self.context.image_digest.set(digest);
                    }
                    let result = match prepared {
                        Ok(prepared) => {
                            self.enter(prepared);
                            self.place_artifacts().await
                        }
                        Err(error) => Err(error),
                    };
                    (Some(provider), result)
                }
                Err(error) => (None, Err(error)),
            }
        };
        let ((provider, result), late) = self.within(None, open).await;
        let result = late.map_or(result.clone(), |late| Err(blamed(late, result.err())));
        let finish = match &result {
            Ok(()) => Finish::new(Status::Success),
            Err(_) if self.job.cancel.is_cancelled() => Finish::new(Status::Cancelled),
            Err(error) => Finish::failed(error.clone()),
        };
        section.finish(finish.clone());
        phase.finish(finish);
        (provider, result)
    }

    /// From now on the job works where its provider has made it ready.
    fn enter(&self, PreparedJob { variables, files }: PreparedJob) {
        // An attempt prepares once; what was resolved on the host stays.
        if let Some(variables) = variables {
            let _ = self.context.resolved.set(variables);
        }
        if let Some(files) = files {
            let _ = self.context.files.set(files);
        }
    }

    /// Which provider was chosen, why, and what it is given.
    fn say_provider(&self) {
        let (name, plugin) = (&self.job.plan.provider, self.job.provider.plugin());
        let workspace = self.job.workspace.to_string_lossy();
        let reason = match &self.job.plan.image {
            Some(image) => format!("the job has the image `{image}`"),
            None => "the job has no image".to_owned(),
        };
        let digest: String = plugin.digest.chars().take(12).collect();
        let message = format!(
            "provider `{name}`, since {reason}; plugin {} {} ({digest}); workspace {workspace}",
            plugin.name, plugin.version,
        );
        let data = json!({ "provider": name, "reason": reason, "workspace": workspace, "plugin": plugin });
        let say = |level, message, data| self.context.message(Section::Provider, level, message, data);
        say(Level::Info, message, object(data));
        for (message, data) in self.context.resolved.get().iter().flat_map(|resolved| resolved.warnings()) {
            say(Level::Warn, message, Some(data));
        }
    }

    /// Notes what the job's files have become, where somebody wants to know.
    async fn look_at_files(&self) {
        let (Some(seen), Some(files)) = (&self.job.run.seen, self.context.files()) else { return };
        let mut cancel = self.job.cancel.clone();
        let prints = tokio::select! {
            prints = files.prints() => prints,
            () = cancel.reached(Urgency::Ask) => Err(ErrorInfo::new(code::CANCELLED, "the run was cancelled")),
            () = tokio::time::sleep(MOST_TO_LOOK) => {
                let message = format!("reading the files of the job took longer than {} s", MOST_TO_LOOK.as_secs());
                Err(ErrorInfo::new(code::WORKSPACE_FAILED, message))
            }
        };
        seen.lock().insert(self.context.id.clone(), prints);
    }

    /// Starts `section`, and its phase, which has no other.
    fn start_section(&self, section: Section) -> (PhaseGuard, PhaseGuard) {
        let phase = PhaseGuard::start(self.emitter, self.phase(section.phase_code()));
        (phase, PhaseGuard::start(self.emitter, self.section(section)))
    }

    async fn execute(&self, provider: &mut dyn JobProvider, route: &Arc<Route>) -> Outcome {
        let phase = PhaseGuard::start(self.emitter, self.phase(PhaseCode::JobExecution));
        let mut outcome = Outcome::success();
        for (position, command) in self.job.plan.script.iter().enumerate().skip(self.job.first_step) {
            if self.job.cancel.is_cancelled() {
                outcome = Outcome::cancelled(None);
                break;
            }
            let index = StepIndex::at(position);
            let step_phase = Phase::Step(self.context.id.clone(), index);
            let guard = PhaseGuard::start(self.emitter, step_phase.clone());
            route.open(step_phase);
            let run = provider.run_step(Step {
                index,
                command: command.clone(),
                stdout: OutputSink::new(route, Stream::Stdout),
                stderr: OutputSink::new(route, Stream::Stderr),
            });
            let (result, late) =
                self.within(self.job.plan.timeout.and_then(|timeout| timeout.step_ms), run).await;
            route.look_at_masks(LastLine::IsWhole);
            route.close();
            let mut used_up = self.context.processes.used_up();
            for used in &used_up {
                self.context.step_message(
                    index,
                    Level::Warn,
                    used.words(self.context.limits),
                    data_of(*used),
                );
            }
            used_up.extend(self.context.used_up.lock().take());
            outcome = self.judge(&result, late, used_up.first().copied());
            guard.finish(Finish {
                exit_code: outcome.exit_code,
                signal: result.ok().and_then(|end| end.signal),
                error: outcome.error.clone(),
                ..Finish::new(outcome.status)
            });
            if outcome.status != Status::Success {
                break;
            }
        }
        phase.finish(Finish {
            exit_code: outcome.exit_code,
            error: outcome.error.clone(),
            ..Finish::new(outcome.status)
        });
        outcome
    }

    /// Does `work`. When that takes longer than `step_ms`, or beyond the job's own deadline, the attempt is cancelled and
    /// the error returned beside what the work comes to.
    async fn within<T>(&self, step_ms: Option<u64>, work: impl Future<Output = T>) -> (T, Option<ErrorInfo>) {
        let step =
            step_ms.map(|ms| (Instant::now() + Duration::from_millis(ms), ms, "step", code::STEP_TIMEOUT));
        let job_ms = self.job.plan.timeout.and_then(|timeout| timeout.job_ms).unwrap_or_default();
        let job = self.deadline.map(|at| (at, job_ms, "job", code::JOB_TIMEOUT));
        let Some((deadline, ms, what, code)) = step.into_iter().chain(job).min_by_key(|(at, ..)| *at) else {
            return (work.await, None);
        };
        let mut work = std::pin::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => (done, None),
            () = tokio::time::sleep_until(deadline) => {
                self.canceller.raise(Urgency::Ask, None);
                let seconds = Duration::from_millis(ms).as_secs_f64();
                let message = format!("the {what} took longer than its timeout of {seconds} s");
                (work.await, Some(ErrorInfo::new(code, message)))
            }
        }
    }

    fn judge(
        &self,
        result: &Result<StepEnd, ErrorInfo>,
        late: Option<ErrorInfo>,
        used_up: Option<UsedUp>,
    ) -> Outcome {
        let exit_code = result.as_ref().ok().map(|end| end.exit_code);
        if self.job.cancel.is_cancelled() {
            return Outcome::cancelled(exit_code);
        }
        if let Some(late) = late {
            let error = blamed(late, result.as_ref().err().cloned());
            return Outcome { exit_code, ..Outcome::failed(RetryWhen::Timeout, error) };
        }
        let error = match result {
            Ok(StepEnd { exit_code: 0, signal: None }) => return Outcome::success(),
            Ok(StepEnd { signal: Some(signal), .. }) => {
                ErrorInfo::new(code::STEP_SIGNALLED, format!("the step was ended by signal {signal}"))
            }
            Ok(StepEnd { exit_code, signal: None }) => {
                ErrorInfo::new(code::STEP_EXIT_NONZERO, format!("the step's exit code was {exit_code}"))
            }
            Err(error) => return Outcome::failed(RetryWhen::ProviderFailure, error.clone()),
        };
        let error = match used_up {
            Some(used) => process::explained(error, used, self.context.limits),
            None => error,
        };
        Outcome { exit_code, ..Outcome::failed(RetryWhen::ScriptFailure, error) }
    }

    async fn clean_up(
        &self,
        provider: Option<&mut (dyn JobProvider + '_)>,
        route: &Route,
        status: Status,
    ) -> Result<(), ErrorInfo> {
        let phase = PhaseGuard::start(self.emitter, self.phase(PhaseCode::JobCleanup));
        let section_phase = self.section(Section::Cleanup);
        let section = PhaseGuard::start(self.emitter, section_phase.clone());
        // What detached processes say from now on is heard here.
        route.open(section_phase);
        let result = match provider {
            Some(provider) => {
                let reason = match status {
                    Status::Success => CleanupReason::Done,
                    Status::Cancelled => CleanupReason::Cancelled,
                    Status::Failed | Status::Skipped => CleanupReason::Failed,
                };
                provider.cleanup(reason).await
            }
            None => Ok(()),
        };
        let ledger = Arc::clone(&self.context);
        let grace = self.job.cancel.urgency() < Urgency::Kill;
        let sweep = tokio::task::spawn_blocking(move || {
            let swept = ledger.processes.sweep(grace);
            (swept, ledger.processes.used_up(), ledger.processes.end_group())
        });
        let (swept, used_up, group) = sweep.await.unwrap_or((Swept::default(), Vec::new(), Ok(())));
        let say = |message, data| self.context.message(Section::Cleanup, Level::Warn, message, data);
        for process in swept.named {
            let message =
                format!("ended process {} that the job left behind: {}", process.pid, process.command);
            say(message, object(json!({ "pid": process.pid, "command": process.command })));
        }
        if swept.more > 0 {
            let message = format!("ended {} more processes that the job left behind", swept.more);
            say(message, object(json!({ "processes": swept.more })));
        }
        for used in used_up {
            say(used.words(self.context.limits), data_of(used));
        }
        if let Err(error) = group {
            say(format!("a control group of the job stays: {error}"), None);
        }
        route.look_at_masks(LastLine::IsWhole);
        route.close();
        if let Some(Err(error)) = self.context.mask.get().map(|mask| mask.remove()) {
            let message = format!("the file of {} stays: {error}", mask::VARIABLE);
            self.context.message(Section::Cleanup, Level::Warn, message, None);
        }
        let mut given = std::mem::take(&mut *self.context.given.lock());
        if let Err(error) = given.take_away() {
            let message = format!("a secret's file stays: {error}");
            self.context.message(Section::Cleanup, Level::Warn, message, None);
        }
        let finish = match &result {
            Ok(()) => Finish::new(Status::Success),
            Err(error) => Finish::failed(error.clone()),
        };
        section.finish(finish.clone());
        phase.finish(finish);
        result
    }

    fn phase(&self, code: PhaseCode) -> Phase {
        Phase::Job(self.context.id.clone(), code)
    }

    fn section(&self, section: Section) -> Phase {
        Phase::Section(self.context.id.clone(), section)
    }
}

/// The error of work that took longer than the workflow allows. It names the plugin that was waited for.
fn blamed(late: ErrorInfo, error: Option<ErrorInfo>) -> ErrorInfo {
    match error {
        Some(error) if error.code == code::PLUGIN_TIMEOUT => {
            ErrorInfo { message: format!("{}: {}", late.message, error.message), ..late }
        }
        _ => late,
    }
}

/// What programs read of it.
fn data_of(used: UsedUp) -> Option<Map<String, Value>> {
    object(json!({ "code": used.code() }))
}

fn object(value: Value) -> Option<Map<String, Value>> {
    if let Value::Object(map) = value { Some(map) } else { None }
}

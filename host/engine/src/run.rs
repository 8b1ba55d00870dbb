//! A whole run: bootstrap, pipeline, finalize.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::{Event, EventBody, Finish, JobFinish, Level, Phase, PlannedJob, TakenArtifacts};
use loom_contract::exit;
use loom_contract::id::{JobId, RunId, RunIds};
use loom_contract::phase::PhaseCode;
use loom_contract::redacted::Redacted;
use loom_contract::section::Section;
use loom_contract::status::{SkipReason, Status};
use loom_workflow::{Plan, PlanJob};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cancel::{Cancel, Urgency};
use crate::clock::Clock;
use crate::emit::{self, Emitter, Envelope};
use crate::environment;
use crate::job::Job;
use crate::output::limit::OutputLimit;
use crate::phase::PhaseGuard;
use crate::port::{Provider, SecretResolver, Seen, Wrapper};
use crate::process::{self, JobLimits, RunGroups};
use crate::redact::Redactor;
use crate::schedule::{Decision, JobShape, Schedule, Verdict};
use crate::secrets::SecretsDir;

/// What a run is given.
pub struct Settings {
    /// The run's names.
    pub ids: RunIds,
    /// The run's clock.
    pub clock: Clock,
    /// Jobs that may run at once; at least 1.
    pub jobs_at_once: usize,
    /// Whether the first failure keeps jobs of the same stage from starting.
    pub fail_fast: bool,
    /// The environment of jobs on the host: that of `loom` itself without what unlocks vaults. What `env://` references of
    /// the plan name is taken out of it, too.
    pub env: Vec<(OsString, OsString)>,
    /// What must not be seen.
    pub redactor: Redactor,
    /// Where files of secrets are put. It is removed when the run ends.
    pub secrets_dir: SecretsDir,
    /// The random word by which the run's processes are known, where it may start any.
    pub mark: String,
    /// Whether every cache counts as disabled.
    pub caches_off: bool,
    /// Where to note what the files of jobs have become that work in a copy of their own; none where nobody compares.
    pub seen: Option<Seen>,
    /// What the processes of a job may use together, and whether they are in a control group.
    pub control: process::Asked,
    /// Bytes of output of each step and section that may be recorded; of more, the beginning and the end. 0 for any number.
    pub output_max_bytes: u64,
    /// Where files of jobs are put that are on their way to or from where a job works; the folder need not exist.
    pub staging_dir: PathBuf,
    /// Where a job's artifacts are put; the folder need not exist.
    pub artifacts_dir: Box<dyn Fn(&JobId) -> PathBuf + Send + Sync>,
}

/// What `run.bootstrap` has found out.
pub struct Prepared {
    /// What to run.
    pub plan: Plan,
    /// Which of its jobs, by position; one that is not selected holds up nothing.
    pub selected: Vec<bool>,
    /// What is done already, by position: jobs that passed in earlier runs and are not selected.
    pub reused: HashMap<usize, Reused>,
    /// Where a job begins that does not begin with its first step: its position, and that of the step.
    pub first_step: Option<(usize, usize)>,
    /// What each job is, as a hash, by position.
    pub definitions: Vec<String>,
    /// The workflow's path, as jobs are told.
    pub workflow_path: String,
    /// Where jobs run.
    pub workspace: PathBuf,
    /// Folders outside of the workspace whose git objects it needs.
    pub borrowed_objects: Vec<PathBuf>,
    /// The commit that the workspace was made from.
    pub head_sha: Option<String>,
    /// The branch that was checked out.
    pub branch: Option<String>,
    /// The providers that the plan names.
    pub providers: HashMap<String, Arc<dyn Provider>>,
    /// The resolvers of secrets, by scheme.
    pub resolvers: HashMap<String, Arc<dyn SecretResolver>>,
    /// The schemes that there are resolvers for, loaded or not.
    pub schemes: &'static [&'static str],
    /// What works around jobs with caches, where the plan has any.
    pub cache: Option<Arc<dyn Wrapper>>,
}

/// A job that passed in an earlier run, whose work this one goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reused {
    /// The run in which it passed.
    pub from: RunId,
    /// The artifacts that it left there and the folder that they are in, where a job may take them.
    pub artifacts: Option<(PathBuf, TakenArtifacts)>,
}

/// How a run ended.
#[derive(Debug)]
pub struct RunEnd {
    /// The exit code of `loom`.
    pub exit_code: i32,
    /// Why the run could not start or go on; not set for jobs that failed.
    pub error: Option<Redacted<ErrorInfo>>,
}

/// How a run ended, before it is redacted.
struct End {
    exit_code: i32,
    error: Option<ErrorInfo>,
}

/// What all jobs of a run are told.
pub(crate) struct RunContext {
    pub(crate) ids: RunIds,
    pub(crate) workflow_path: String,
    pub(crate) head_sha: Option<String>,
    pub(crate) branch: Option<String>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) resolvers: HashMap<String, Arc<dyn SecretResolver>>,
    pub(crate) schemes: &'static [&'static str],
    pub(crate) secrets_dir: SecretsDir,
    pub(crate) mark: String,
    pub(crate) cache: Option<Arc<dyn Wrapper>>,
    pub(crate) caches_off: bool,
    pub(crate) seen: Option<Seen>,
    pub(crate) borrowed_objects: Vec<PathBuf>,
    pub(crate) limits: JobLimits,
    /// Those of jobs on this machine, where they are asked for and can be had.
    pub(crate) groups: Option<RunGroups>,
    pub(crate) staging_dir: PathBuf,
    pub(crate) artifacts_dir: Box<dyn Fn(&JobId) -> PathBuf + Send + Sync>,
    /// What jobs have left so far.
    artifacts: Mutex<HashMap<JobId, TakenArtifacts>>,
    /// What jobs have left that are not run again, and where.
    reused_artifacts: HashMap<JobId, (PathBuf, TakenArtifacts)>,
}

/// The jobs of a run, and what they need beside.
pub(crate) struct Jobs {
    pub(crate) plan: Plan,
    pub(crate) selected: Vec<bool>,
    pub(crate) reused: HashMap<usize, Reused>,
    pub(crate) first_step: Option<(usize, usize)>,
    pub(crate) workspace: PathBuf,
    pub(crate) providers: HashMap<String, Arc<dyn Provider>>,
}

/// Opens what the jobs of a run share.
pub(crate) fn open(settings: Settings, prepared: Prepared, emitter: &Emitter) -> (Arc<RunContext>, Jobs) {
    let mut env = settings.env;
    environment::remove_sources(&mut env, &prepared.plan);
    let is_selected = |at: usize| prepared.selected.get(at).copied().unwrap_or(true);
    let mut jobs = prepared.plan.jobs.iter().enumerate();
    // The others are in containers, of which the daemon takes care.
    let on_host = jobs.any(|(at, job)| job.image.is_none() && is_selected(at));
    let (groups, said) = if on_host { RunGroups::open(&settings.control) } else { (None, Vec::new()) };
    for message in said {
        emitter.message(Phase::Run(PhaseCode::PipelineExecute), Level::Warn, message, None);
    }
    let run = RunContext {
        ids: settings.ids,
        workflow_path: prepared.workflow_path,
        head_sha: prepared.head_sha,
        branch: prepared.branch,
        env,
        resolvers: prepared.resolvers,
        schemes: prepared.schemes,
        secrets_dir: settings.secrets_dir,
        mark: settings.mark,
        cache: prepared.cache,
        caches_off: settings.caches_off,
        seen: settings.seen,
        borrowed_objects: prepared.borrowed_objects,
        limits: settings.control.limits,
        groups,
        staging_dir: settings.staging_dir,
        artifacts_dir: settings.artifacts_dir,
        artifacts: Mutex::default(),
        reused_artifacts: artifacts_of(&prepared.plan, &prepared.reused),
    };
    let Prepared { plan, selected, workspace, providers, reused, first_step, .. } = prepared;
    (Arc::new(run), Jobs { plan, selected, reused, first_step, workspace, providers })
}

impl RunContext {
    /// Ends and removes what its jobs have left.
    pub(crate) fn close(&self) {
        process::sweep_rest();
        if let Some(groups) = &self.groups {
            groups.remove();
        }
        if let Err(error) = self.secrets_dir.remove() {
            tracing::warn!(%error, "a folder for secrets stays");
        }
    }

    /// The artifacts of `job` in this run, where it has left any.
    pub(crate) fn taken(&self, job: &JobId) -> Option<TakenArtifacts> {
        self.artifacts.lock().get(job).cloned()
    }

    /// The artifacts of `job` and the folder that they are in, where it has left any: in this run, or in the one in which it
    /// passed.
    pub(crate) fn left(&self, job: &JobId) -> Option<(PathBuf, TakenArtifacts)> {
        match self.taken(job) {
            Some(taken) => Some(((self.artifacts_dir)(job), taken)),
            None => self.reused_artifacts.get(job).cloned(),
        }
    }

    /// `job` has left these; what an earlier attempt has left does not count any more.
    pub(crate) fn keep(&self, job: &JobId, taken: Option<TakenArtifacts>) {
        let mut artifacts = self.artifacts.lock();
        match taken {
            Some(taken) => artifacts.insert(job.clone(), taken),
            None => artifacts.remove(job),
        };
    }
}

/// Runs what `bootstrap` prepares. Every event goes to `on_event`, redacted, in order, on this thread; when that fails, the
/// run is ended and fails. `settle` is called within `run.finalize` and returns when all that was said so far is on disk.
///
/// # Panics
/// Never; it is to be called within a tokio runtime with several threads, since it blocks the thread that polls it.
pub async fn run(
    settings: Settings,
    cancel: Cancel,
    bootstrap: impl FnOnce() -> Result<Prepared, ErrorInfo>,
    on_event: impl FnMut(&Redacted<Event>) -> Result<(), ErrorInfo>,
    settle: impl FnOnce() -> Result<(), ErrorInfo>,
) -> RunEnd {
    let redactor = settings.redactor.clone();
    let (emitter, events) = emit::channel(settings.clock, redactor.clone());
    let roster = Roster::new(redactor.clone());
    let limit = OutputLimit::new(settings.output_max_bytes);
    let mut dispatcher =
        Dispatcher { events, on_event, redactor: redactor.clone(), roster, limit, failure: None };

    let phase = PhaseGuard::start(&emitter, Phase::Run(PhaseCode::RunBootstrap));
    dispatcher.drain();
    let prepared = bootstrap();
    let mut pipeline = match prepared {
        Ok(prepared) if !cancel.is_cancelled() => {
            emitter.emit(EventBody::Planned(planned(&prepared)));
            phase.finish(Finish::new(Status::Success));
            let run_phase = PhaseGuard::start(&emitter, Phase::Run(PhaseCode::RunPipelineExecute));
            let pipeline_phase = PhaseGuard::start(&emitter, Phase::Run(PhaseCode::PipelineExecute));
            let all_passed = dispatcher.pipeline(settings, prepared, &emitter, &cancel).await;
            let end = dispatcher.judge(all_passed, None, &cancel);
            pipeline_phase.finish(end.finish());
            run_phase.finish(end.finish());
            end
        }
        prepared => {
            let error = prepared.err().filter(|_| !cancel.is_cancelled());
            let end = dispatcher.judge(false, error, &cancel);
            phase.finish(end.finish());
            let skipped =
                || Finish { exit_code: Some(end.exit_code), ..Finish::skipped(SkipReason::RunNotStarted) };
            let run_phase = PhaseGuard::start(&emitter, Phase::Run(PhaseCode::RunPipelineExecute));
            PhaseGuard::start(&emitter, Phase::Run(PhaseCode::PipelineExecute)).finish(skipped());
            run_phase.finish(skipped());
            end
        }
    };
    let finalize = PhaseGuard::start(&emitter, Phase::Run(PhaseCode::RunFinalize));
    dispatcher.drain();
    match settle() {
        Ok(()) => finalize.finish(Finish::new(Status::Success)),
        Err(error) => {
            finalize.finish(Finish::failed(error.clone()));
            dispatcher.failure.get_or_insert(error);
        }
    }
    dispatcher.drain();
    if pipeline.error.is_none()
        && let Some(error) = dispatcher.failure
    {
        pipeline = End { exit_code: exit::FAILURE, error: Some(error) };
    }
    let error = pipeline.error.map(|error| Redacted::new(error, &redactor));
    RunEnd { exit_code: pipeline.exit_code, error }
}

impl End {
    fn finish(&self) -> Finish {
        let status = match self.exit_code {
            exit::SUCCESS => Status::Success,
            exit::INTERRUPTED | exit::TERMINATED => Status::Cancelled,
            _ => Status::Failed,
        };
        Finish { exit_code: Some(self.exit_code), error: self.error.clone(), ..Finish::new(status) }
    }
}

fn artifacts_of(plan: &Plan, reused: &HashMap<usize, Reused>) -> HashMap<JobId, (PathBuf, TakenArtifacts)> {
    let of =
        |(at, reused): (&usize, &Reused)| Some((plan.jobs.get(*at)?.id.clone(), reused.artifacts.clone()?));
    reused.iter().filter_map(of).collect()
}

fn planned(prepared: &Prepared) -> Arc<[PlannedJob]> {
    let plan = &prepared.plan;
    let workspace = |job: &PlanJob| {
        let elsewhere = prepared.providers.get(&job.provider).and_then(|provider| provider.workspace());
        elsewhere.unwrap_or(&prepared.workspace)
    };
    plan.jobs
        .iter()
        .enumerate()
        .map(|(at, job)| PlannedJob {
            job_id: job.id.clone(),
            stage: plan.stages[job.stage].clone(),
            provider: job.provider.clone(),
            commands: job.script.clone(),
            sources: job.sources.clone(),
            needs: job.needs.iter().map(|&need| plan.jobs[need].id.clone()).collect(),
            attempts: job.retry.as_ref().map_or(0, |retry| retry.max).saturating_add(1),
            workspace: workspace(job).to_owned(),
            allow_failure: job.allow_failure,
            matrix: job.matrix.clone(),
            definition: prepared.definitions.get(at).cloned(),
        })
        .collect()
}

/// The one loop that starts jobs and hands events on.
struct Dispatcher<F> {
    events: mpsc::UnboundedReceiver<Envelope>,
    on_event: F,
    redactor: Redactor,
    roster: Roster,
    limit: OutputLimit,
    failure: Option<ErrorInfo>,
}

impl<F: FnMut(&Redacted<Event>) -> Result<(), ErrorInfo>> Dispatcher<F> {
    /// Runs all jobs that can run; says whether none of them failed.
    async fn pipeline(
        &mut self,
        settings: Settings,
        prepared: Prepared,
        emitter: &Emitter,
        cancel: &Cancel,
    ) -> bool {
        let (jobs_at_once, fail_fast) = (settings.jobs_at_once.max(1), settings.fail_fast);
        let (run, jobs) = open(settings, prepared, emitter);
        let Jobs { plan, selected, reused, first_step, workspace, providers } = jobs;
        let is_selected = |at: usize| selected.get(at).copied().unwrap_or(true);
        // Raised here too, when events cannot be recorded.
        let (inner, inner_cancel) = crate::cancel::channel();
        let mut outer = cancel.clone();
        let mut urgency = Urgency::None;
        let shape = |(at, job): (usize, &PlanJob)| JobShape {
            stage: job.stage,
            needs: job.needs.clone(),
            selected: is_selected(at),
        };
        let shapes = plan.jobs.iter().enumerate().map(shape).collect();
        let mut schedule = Schedule::new(shapes);
        let mut running: JoinSet<(usize, Status)> = JoinSet::new();
        let mut ids: HashMap<tokio::task::Id, usize> = HashMap::new();
        let mut all_passed = true;
        loop {
            for decision in schedule.decide(jobs_at_once) {
                match decision {
                    Decision::Start(at) => {
                        let plan_job: PlanJob = plan.jobs[at].clone();
                        let stage = plan.stages[plan_job.stage].clone();
                        let Some(provider) = providers.get(&plan_job.provider) else {
                            skip_job(emitter, &plan_job, SkipReason::ProviderFailed, None);
                            all_passed = false;
                            schedule.finished(at, Verdict::Blocks);
                            continue;
                        };
                        let from = plan_job.artifacts_from.iter();
                        let artifacts_from = from.map(|&need| plan.jobs[need].id.clone()).collect();
                        let phase = Phase::Job(plan_job.id.clone(), PhaseCode::JobProviderPrepare);
                        let begun = Mutex::new(Some(PhaseGuard::start(emitter, phase)));
                        let job = Job {
                            run: Arc::clone(&run),
                            plan: plan_job,
                            artifacts_from,
                            first_step: first_step.filter(|(job, _)| *job == at).map_or(0, |(_, step)| step),
                            stage,
                            workspace: workspace.clone(),
                            provider: Arc::clone(provider),
                            emitter: emitter.clone(),
                            cancel: inner_cancel.clone(),
                            begun,
                        };
                        let task = running.spawn(async move { (at, job.run().await) });
                        ids.insert(task.id(), at);
                    }
                    Decision::Skip(at, reason) => {
                        let reused = reused.get(&at).filter(|_| reason == SkipReason::NotSelected);
                        let reason = reused.map_or(reason, |_| SkipReason::Reused);
                        skip_job(emitter, &plan.jobs[at], reason, reused.map(|reused| reused.from.clone()));
                    }
                }
            }
            if schedule.is_done() {
                break;
            }
            tokio::select! {
                biased;
                () = outer.reached(next(urgency)), if urgency < Urgency::Kill => {
                    urgency = outer.urgency();
                    inner.raise(urgency, outer.signal());
                    schedule.cancel();
                }
                Some(ended) = running.join_next_with_id() => {
                    let (at, status) = match ended {
                        Ok((_, ended)) => ended,
                        Err(panic) => {
                            let Some(at) = ids.get(&panic.id()).copied() else { continue };
                            broken_job(emitter, &plan.jobs[at], &panic);
                            (at, Status::Failed)
                        }
                    };
                    let passed = match status {
                        Status::Success => true,
                        Status::Failed => plan.jobs[at].allow_failure,
                        Status::Skipped | Status::Cancelled => false,
                    };
                    all_passed &= passed;
                    schedule.finished(at, if passed { Verdict::Passed } else { Verdict::Blocks });
                    if !passed && fail_fast {
                        schedule.stop();
                    }
                }
                Some(envelope) = self.events.recv() => {
                    self.hand_on(envelope);
                    if self.failure.is_some() && inner.urgency() == Urgency::None {
                        inner.raise(Urgency::Kill, None);
                        schedule.cancel();
                    }
                }
            }
        }
        run.close();
        self.drain();
        all_passed
    }

    /// How the run ended, as far as can be said now.
    fn judge(&self, all_passed: bool, error: Option<ErrorInfo>, cancel: &Cancel) -> End {
        let error = error.or_else(|| self.failure.clone());
        match cancel.signal() {
            _ if error.is_some() => End { exit_code: exit::FAILURE, error },
            Some(signal) => End {
                exit_code: exit::of_signal(signal),
                error: Some(ErrorInfo::new(code::CANCELLED, format!("cancelled by signal {signal}"))),
            },
            None => End { exit_code: if all_passed { exit::SUCCESS } else { exit::FAILURE }, error: None },
        }
    }

    /// Hands on all events that are there.
    fn drain(&mut self) {
        while let Ok(envelope) = self.events.try_recv() {
            self.hand_on(envelope);
        }
    }

    /// Hands an event on, masked by all values that are known by now.
    fn hand_on(&mut self, envelope: Envelope) {
        if let Some(planned) = self.roster.again(&envelope.event) {
            self.give(&planned);
        }
        let Event { at, body } = envelope.event;
        match body {
            EventBody::Output(output) => {
                for output in self.limit.take(at, output).into_iter().flatten() {
                    self.mask_and_give(Event { at, body: EventBody::Output(output) });
                }
                return;
            }
            EventBody::Message(ref phase, _) => self.limit.said(phase, at),
            EventBody::PhaseFinish(ref phase, _) => {
                for event in self.limit.end(phase, at) {
                    self.mask_and_give(event);
                }
            }
            _ => {}
        }
        self.mask_and_give(Event { at, body });
    }

    fn mask_and_give(&mut self, event: Event) {
        let event = Redacted::new(event, &self.redactor);
        self.give(&event);
    }

    fn give(&mut self, event: &Redacted<Event>) {
        // Also after a failure: other files may still be written.
        if let Err(error) = (self.on_event)(event) {
            self.failure.get_or_insert(error);
        }
    }
}

/// The jobs of the run, which were planned before the values were known that their commands may hold.
struct Roster {
    redactor: Redactor,
    planned: Arc<[PlannedJob]>,
    /// As it was handed on last.
    shown: Arc<[PlannedJob]>,
    /// How many values were known then.
    values: usize,
}

impl Roster {
    fn new(redactor: Redactor) -> Self {
        Self { redactor, planned: Arc::from([]), shown: Arc::from([]), values: 0 }
    }

    /// What is to be handed on before `event`: the roster, where more of it is to be masked than before.
    fn again(&mut self, event: &Event) -> Option<Redacted<Event>> {
        let values = self.redactor.count();
        if let EventBody::Planned(planned) = &event.body {
            self.planned = Arc::clone(planned);
        } else if self.values == values || self.planned.is_empty() {
            return None;
        }
        self.values = values;
        let planned = Event { at: event.at, body: EventBody::Planned(Arc::clone(&self.planned)) };
        let planned = Redacted::new(planned, &self.redactor);
        match &planned.body {
            EventBody::Planned(shown) if *shown != self.shown => self.shown = Arc::clone(shown),
            _ => return None,
        }
        // The event itself says it.
        (!matches!(event.body, EventBody::Planned(_))).then_some(planned)
    }
}

fn next(urgency: Urgency) -> Urgency {
    if urgency == Urgency::None { Urgency::Ask } else { Urgency::Kill }
}

/// A job that never runs still closes its `job.cleanup`.
fn skip_job(emitter: &Emitter, job: &PlanJob, reason: SkipReason, reused_from: Option<RunId>) {
    PhaseGuard::skip(emitter, Phase::Job(job.id.clone(), PhaseCode::JobCleanup), reason);
    emitter.emit(EventBody::JobFinish(
        job.id.clone(),
        JobFinish {
            status: Status::Skipped,
            exit_code: None,
            error: None,
            skip_reason: Some(reason),
            reused_from,
            plugins: Vec::new(),
            artifacts: None,
            image_digest: None,
            started_at: None,
            duration_ms: 0,
        },
    ));
}

/// A job whose task panicked: its phases have closed as failed, its documents are still owed.
fn broken_job(emitter: &Emitter, job: &PlanJob, panic: &tokio::task::JoinError) {
    let error =
        ErrorInfo::new(code::INTERNAL, format!("the job's task failed; this is a bug in Loom: {panic}"));
    let cleanup = PhaseGuard::start(emitter, Phase::Job(job.id.clone(), PhaseCode::JobCleanup));
    let section = PhaseGuard::start(emitter, Phase::Section(job.id.clone(), Section::Cleanup));
    section.finish(Finish::failed(error.clone()));
    cleanup.finish(Finish::failed(error.clone()));
    emitter.emit(EventBody::JobFinish(
        job.id.clone(),
        JobFinish {
            status: Status::Failed,
            exit_code: None,
            error: Some(error),
            skip_reason: None,
            reused_from: None,
            plugins: Vec::new(),
            artifacts: None,
            image_digest: None,
            started_at: None,
            duration_ms: 0,
        },
    ));
}

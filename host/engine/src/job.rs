//! One job, from the preparation of its provider to its cleanup.

use std::path::PathBuf;
use std::sync::Arc;

use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::{EventBody, Finish, JobFinish, Level, Phase, Stream};
use loom_contract::id::StepIndex;
use loom_contract::phase::PhaseCode;
use loom_contract::section::Section;
use loom_contract::status::{SkipReason, Status};
use loom_workflow::PlanJob;
use serde_json::{Map, Value, json};

use crate::cancel::{Cancel, Urgency};
use crate::emit::Emitter;
use crate::environment;
use crate::output::{OutputSink, Route};
use crate::phase::PhaseGuard;
use crate::port::{CleanupReason, JobContext, JobProvider, Provider, Step, StepEnd};
use crate::process::JobProcesses;
use crate::run::RunContext;

/// A job that is about to run.
pub(crate) struct Job {
    pub(crate) run: Arc<RunContext>,
    pub(crate) plan: PlanJob,
    pub(crate) stage: String,
    pub(crate) workspace: PathBuf,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) emitter: Emitter,
    pub(crate) cancel: Cancel,
}

/// How the parts of a job that were run have come out so far.
struct Outcome {
    status: Status,
    exit_code: Option<i32>,
    error: Option<ErrorInfo>,
}

impl Outcome {
    fn success() -> Self {
        Self {
            status: Status::Success,
            exit_code: Some(0),
            error: None,
        }
    }

    fn failed(error: ErrorInfo) -> Self {
        Self {
            status: Status::Failed,
            exit_code: None,
            error: Some(error),
        }
    }

    fn cancelled(exit_code: Option<i32>) -> Self {
        let error = ErrorInfo::new(code::CANCELLED, "the run was cancelled");
        Self {
            status: Status::Cancelled,
            exit_code,
            error: Some(error),
        }
    }
}

impl Job {
    /// Runs it to its end and says how it came out.
    pub(crate) async fn run(self) -> Status {
        let started_at = self.emitter.clock().now();
        let id = self.plan.id.clone();
        let environment = environment::of_job(&self.run, &self.stage, &self.plan, &self.workspace);
        let context = Arc::new(JobContext {
            id: id.clone(),
            stage: self.stage.clone(),
            image: None,
            variables: environment.variables,
            env: environment.host,
            workspace: self.workspace.clone(),
            debug_trace: environment.debug_trace,
            cancel: self.cancel.clone(),
            processes: JobProcesses::new(self.run.ids.run_id.as_str(), id.as_str()),
            emitter: self.emitter.clone(),
        });

        let (provider, prepared) = self.prepare(&context, &environment.unset).await;
        let route = Route::new(self.emitter.clone());
        let (mut provider, mut outcome) = match (provider, prepared) {
            (Some(mut provider), Ok(())) => {
                let outcome = self.execute(provider.as_mut(), &route).await;
                (Some(provider), outcome)
            }
            (provider, prepared) => {
                let cancelled = self.cancel.is_cancelled();
                let reason = if cancelled { SkipReason::Cancelled } else { SkipReason::ProviderFailed };
                PhaseGuard::skip(&self.emitter, self.phase(PhaseCode::JobExecution), reason);
                let outcome = match prepared {
                    Err(error) if !cancelled => Outcome::failed(error),
                    _ => Outcome::cancelled(None),
                };
                (provider, outcome)
            }
        };
        if let Err(error) = self
            .clean_up(provider.as_deref_mut(), &context, &route, outcome.status)
            .await
            && outcome.status == Status::Success
        {
            outcome = Outcome::failed(error);
        }
        let duration_ms = self.emitter.clock().now().millis_since(started_at);
        self.emitter.emit(EventBody::JobFinish(
            id,
            JobFinish {
                status: outcome.status,
                exit_code: outcome.exit_code,
                error: outcome.error,
                skip_reason: None,
                plugins: vec![self.provider.plugin()],
                started_at: Some(started_at),
                duration_ms,
            },
        ));
        outcome.status
    }

    async fn prepare(
        &self,
        context: &Arc<JobContext>,
        unset: &[String],
    ) -> (Option<Box<dyn JobProvider>>, Result<(), ErrorInfo>) {
        let phase = PhaseGuard::start(&self.emitter, self.phase(PhaseCode::JobProviderPrepare));
        let section = PhaseGuard::start(&self.emitter, self.section(Section::Provider));
        let plugin = self.provider.plugin();
        let message = format!("provider `{}`: the job has no image", self.plan.provider);
        let data = object(json!({
            "provider": self.plan.provider,
            "reason": "the job has no image",
            "workspace": self.workspace.to_string_lossy(),
            "plugin": plugin,
        }));
        context.message(Section::Provider, Level::Info, message, data);
        for name in unset {
            let message = format!("variable `{name}` is referred to but not set; it is taken as empty");
            context.message(
                Section::Provider,
                Level::Warn,
                message,
                object(json!({ "variable": name })),
            );
        }
        let (provider, result) = match self.provider.open(Arc::clone(context)).await {
            Ok(mut provider) => {
                let result = provider.prepare().await;
                (Some(provider), result)
            }
            Err(error) => (None, Err(error)),
        };
        let finish = match &result {
            Ok(()) => Finish::new(Status::Success),
            Err(_) if self.cancel.is_cancelled() => Finish::new(Status::Cancelled),
            Err(error) => Finish::failed(error.clone()),
        };
        section.finish(finish.clone());
        phase.finish(finish);
        (provider, result)
    }

    async fn execute(&self, provider: &mut dyn JobProvider, route: &Arc<Route>) -> Outcome {
        let phase = PhaseGuard::start(&self.emitter, self.phase(PhaseCode::JobExecution));
        let mut outcome = Outcome::success();
        for (position, step) in self.plan.script.iter().enumerate() {
            if self.cancel.is_cancelled() {
                outcome = Outcome::cancelled(None);
                break;
            }
            let index = StepIndex::at(position);
            let step_phase = Phase::Step(self.plan.id.clone(), index);
            let guard = PhaseGuard::start(&self.emitter, step_phase.clone());
            route.open(step_phase);
            let result = provider
                .run_step(Step {
                    index,
                    command: step.command.clone(),
                    multi_line: step.multi_line,
                    stdout: OutputSink::new(route, Stream::Stdout),
                    stderr: OutputSink::new(route, Stream::Stderr),
                })
                .await;
            route.close();
            outcome = self.judge(&result);
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

    fn judge(&self, result: &Result<StepEnd, ErrorInfo>) -> Outcome {
        match result {
            _ if self.cancel.is_cancelled() => {
                Outcome::cancelled(result.as_ref().ok().map(|end| end.exit_code))
            }
            Ok(StepEnd {
                exit_code: 0,
                signal: None,
            }) => Outcome::success(),
            Ok(end) => {
                let error = match end.signal {
                    Some(signal) => ErrorInfo::new(
                        code::STEP_SIGNALLED,
                        format!("the step was ended by signal {signal}"),
                    ),
                    None => ErrorInfo::new(
                        code::STEP_EXIT_NONZERO,
                        format!("the step's exit code was {}", end.exit_code),
                    ),
                };
                Outcome {
                    exit_code: Some(end.exit_code),
                    ..Outcome::failed(error)
                }
            }
            Err(error) => Outcome::failed(error.clone()),
        }
    }

    async fn clean_up(
        &self,
        provider: Option<&mut (dyn JobProvider + '_)>,
        context: &Arc<JobContext>,
        route: &Route,
        status: Status,
    ) -> Result<(), ErrorInfo> {
        let phase = PhaseGuard::start(&self.emitter, self.phase(PhaseCode::JobCleanup));
        let section_phase = self.section(Section::Cleanup);
        let section = PhaseGuard::start(&self.emitter, section_phase.clone());
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
        let ledger = Arc::clone(context);
        let grace = self.cancel.urgency() < Urgency::Kill;
        let left = tokio::task::spawn_blocking(move || ledger.processes.sweep(grace))
            .await
            .unwrap_or_default();
        for process in left {
            context.message(
                Section::Cleanup,
                Level::Warn,
                format!(
                    "ended process {} that the job left behind: {}",
                    process.pid, process.command
                ),
                object(json!({ "pid": process.pid, "command": process.command })),
            );
        }
        route.close();
        let finish = match &result {
            Ok(()) => Finish::new(Status::Success),
            Err(error) => Finish::failed(error.clone()),
        };
        section.finish(finish.clone());
        phase.finish(finish);
        result
    }

    fn phase(&self, code: PhaseCode) -> Phase {
        Phase::Job(self.plan.id.clone(), code)
    }

    fn section(&self, section: Section) -> Phase {
        Phase::Section(self.plan.id.clone(), section)
    }
}

fn object(value: Value) -> Option<Map<String, Value>> {
    if let Value::Object(map) = value {
        Some(map)
    } else {
        None
    }
}

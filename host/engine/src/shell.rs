//! The user's own shell in the place of one job of a run.

use std::ffi::OsString;
use std::sync::Arc;

use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::Event;
use loom_contract::redacted::Redacted;
use parking_lot::Mutex;

use crate::cancel::Cancel;
use crate::emit;
use crate::job::Job;
use crate::run::{Jobs, Prepared, Settings, open};

/// What to run in the place of a job's steps.
#[derive(Debug, Clone)]
pub struct Shell {
    /// The shell, for a job on the host: an absolute path, or a name that is looked up in the job's `PATH`.
    pub program: OsString,
    /// Whether it gets the job's secrets.
    pub secrets: bool,
    /// Whether the job is one of the workflow: if not, nothing is said of a job in the environment.
    pub of_job: bool,
    /// How many of the job's steps run first. Where one fails, the rest of them does not run, and the shell is opened.
    pub after: usize,
}

/// Prepares the job at the place `at` of the plan as a run does, runs `shell` in its place with Loom's own standard streams,
/// and cleans up after it. Every event goes to `on_event`, redacted, in order. Returns the shell's exit code.
///
/// # Errors
/// The job cannot be prepared, the shell cannot be started, or something that it used could not be given back.
pub async fn shell(
    settings: Settings,
    cancel: Cancel,
    prepared: Prepared,
    at: usize,
    shell: Shell,
    mut on_event: impl FnMut(&Redacted<Event>),
) -> Result<i32, Redacted<ErrorInfo>> {
    let redactor = settings.redactor.clone();
    let (emitter, mut events) = emit::channel(settings.clock, redactor.clone());
    let (run, Jobs { plan, workspace, providers, .. }) = open(settings, prepared, &emitter);
    let no_provider = || ErrorInfo::new(code::INTERNAL, "the job has no provider; this is a bug in Loom");
    let found = plan.jobs.get(at).and_then(|job| Some((job.clone(), providers.get(&job.provider)?)));
    let ended = match found {
        None => Err(no_provider()),
        Some((mut plan_job, provider)) => {
            // A shell has all the time that its user takes.
            plan_job.node.timeout = None;
            plan_job.node.script.truncate(shell.after);
            if !shell.secrets {
                plan_job.node.secrets.clear();
            }
            let job = Job {
                run: Arc::clone(&run),
                first_step: 0,
                stage: plan.stages.get(plan_job.stage).cloned().unwrap_or_default(),
                plan: plan_job,
                artifacts_from: Vec::new(),
                workspace,
                provider: Arc::clone(provider),
                emitter: emitter.clone(),
                cancel,
                begun: Mutex::default(),
            };
            // Elsewhere than the events, which are handed on meanwhile: a shell may block what it runs on.
            let mut running = tokio::spawn(job.shell(shell));
            loop {
                tokio::select! {
                    biased;
                    Some(envelope) = events.recv() => on_event(&Redacted::new(envelope.event, &redactor)),
                    ended = &mut running => break ended.unwrap_or_else(|panic| {
                        Err(ErrorInfo::new(code::INTERNAL, format!("the shell's task failed; this is a bug in Loom: {panic}")))
                    }),
                }
            }
        }
    };
    run.close();
    while let Ok(envelope) = events.try_recv() {
        on_event(&Redacted::new(envelope.event, &redactor));
    }
    ended.map_err(|error| Redacted::new(error, &redactor))
}

//! A job without a run, for tests of what fills [`crate::port`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use loom_contract::event::{EventBody, Phase, Stream};
use loom_contract::id::{JobId, RunIds, StepIndex};
use loom_contract::redacted::Redacted;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::cancel::{self, Canceller};
use crate::clock::Clock;
use crate::emit::{self, Envelope};
use crate::environment::{Definition, ResolvedVariables};
use crate::output::{OutputSink, Route};
use crate::port::{JobContext, SecretValue, Step};
use crate::process::{JobLimits, JobProcesses, LeftBehind};
use crate::redact::Redactor;

/// A job of its own, and what it has caused.
pub struct FakeJob {
    /// The job, as a provider is given it.
    pub context: Arc<JobContext>,
    /// Cancels it.
    pub canceller: Canceller,
    route: Arc<Route>,
    events: mpsc::UnboundedReceiver<Envelope>,
}

impl std::fmt::Debug for FakeJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeJob").field("context", &self.context).finish_non_exhaustive()
    }
}

impl FakeJob {
    /// The job `id` in the folder `workspace`. `env` is the environment of its processes.
    pub fn new(
        id: JobId,
        workspace: PathBuf,
        variables: Vec<(String, String)>,
        env: Vec<(OsString, OsString)>,
    ) -> Self {
        let run_id = format!("fake-run-{}", std::process::id());
        let (emitter, events) = emit::channel(Clock::start(), Redactor::default());
        let (canceller, cancel) = cancel::channel();
        let context = JobContext {
            processes: JobProcesses::new(&run_id, id.as_str(), "", None),
            name: id.to_string(),
            ids: RunIds::from_stamp(7),
            head_sha: None,
            id,
            stage: "test".to_owned(),
            image: None,
            keywords: serde_json::Value::Null,
            definition: Definition::default(),
            resolved: OnceLock::from(ResolvedVariables { variables, unset: Vec::new() }),
            env,
            staging: workspace.join(".staging"),
            workspace,
            borrowed_objects: Vec::new(),
            files: OnceLock::new(),
            image_digest: OnceLock::new(),
            debug_trace: false,
            cancel,
            redactor: emitter.redactor().clone(),
            emitter: emitter.clone(),
            given: Mutex::default(),
            mask: OnceLock::new(),
            limits: JobLimits::default(),
            used_up: Mutex::default(),
        };
        Self { context: Arc::new(context), canceller, route: Route::new(emitter, None), events }
    }

    /// A step that runs from now on, until [`FakeJob::end_step`].
    pub fn step(&self, position: usize, command: &str) -> Step {
        let index = StepIndex::at(position);
        self.route.open(Phase::Step(self.context.id.clone(), index));
        Step {
            index,
            command: command.to_owned(),
            stdout: OutputSink::new(&self.route, Stream::Stdout),
            stderr: OutputSink::new(&self.route, Stream::Stderr),
        }
    }

    /// The step is over: nobody takes output.
    pub fn end_step(&self) {
        self.route.close();
    }

    /// Ends what the job left running and says what that was, as the engine does after cleanup. Blocks the thread.
    pub fn sweep(&self) -> Vec<LeftBehind> {
        self.context.processes.sweep(true).named
    }

    /// What was caused since this was asked last, as a run would hand it on.
    pub fn events(&mut self) -> Vec<EventBody> {
        std::iter::from_fn(|| self.events.try_recv().ok())
            .map(|envelope| Redacted::new(envelope.event, &self.context.redactor).into_inner().body)
            .collect()
    }
}

/// The bytes of a secret, for a test to compare.
pub fn reveal(value: &SecretValue) -> &[u8] {
    value.bytes()
}

//! The engine with a provider that is no plugin: what happens when providers misbehave.

#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::{Event, EventBody, JobFinish, Level, Phase, PluginRef};
use loom_contract::id::{JobId, RunIds};
use loom_contract::phase_report::{self, PhaseMark};
use loom_contract::redacted::Redacted;
use loom_contract::section::Section;
use loom_contract::status::{SkipReason, Status};
use loom_engine::cancel::{self, Urgency};
use loom_engine::clock::Clock;
use loom_engine::port::{
    CleanupReason, JobContext, JobProvider, JobWrapper, PreparedJob, Provider, Report, Step, StepEnd, Wrapper,
};
use loom_engine::process::Spawn;
use loom_engine::redact::Redactor;
use loom_engine::secrets::SecretsDir;
use loom_engine::{Prepared, RunEnd, Settings};
use loom_ownership::{PrivateFolder, Runs};
use serde_json::{Map, Value, json};

/// What the provider does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Open,
    Prepare,
    Step,
    StepPanics,
    Cleanup,
    /// Tells the value of a secret wherever it can.
    Tells,
    /// Registers values, one of them that a command holds.
    Learns,
}

/// What must not be seen, as a text and as a number.
const VALUE: &str = "the value of a secret";
const DIGITS: u64 = 471_108_154_711;

struct Shell(Fault);

struct ShellJob {
    fault: Fault,
    job: Arc<JobContext>,
}

fn broken(what: &str) -> ErrorInfo {
    ErrorInfo::new("test.broken", what.to_owned())
}

#[async_trait]
impl Provider for Shell {
    fn plugin(&self) -> PluginRef {
        if self.0 == Fault::Tells {
            let [name, version, digest] = ["name", "version", "digest"].map(|word| format!("{word} {VALUE}"));
            return PluginRef { name, version, digest };
        }
        PluginRef { name: "shell".to_owned(), version: "0".to_owned(), digest: String::new() }
    }

    async fn open(&self, job: Arc<JobContext>) -> Result<Box<dyn JobProvider>, ErrorInfo> {
        if self.0 == Fault::Open {
            return Err(broken("open"));
        }
        Ok(Box::new(ShellJob { fault: self.0, job }))
    }
}

#[async_trait]
impl JobProvider for ShellJob {
    async fn hand_over_files(&mut self) {}

    async fn prepare(&mut self) -> Result<PreparedJob, ErrorInfo> {
        if self.fault == Fault::Learns {
            // The roster is on its way since before the job began.
            tokio::time::sleep(Duration::from_millis(200)).await;
            for value in [VALUE, "a value that no command holds"] {
                self.job.redactor.register("KEY", value.as_bytes());
                self.job.message(Section::Provider, Level::Info, "more is known".to_owned(), None);
            }
        }
        if self.fault == Fault::Tells {
            self.job.message(Section::Provider, Level::Info, format!("a {VALUE} b"), Some(everywhere()));
        }
        if self.fault == Fault::Prepare { Err(broken("prepare")) } else { Ok(PreparedJob::default()) }
    }

    async fn run_step(&mut self, step: Step) -> Result<StepEnd, ErrorInfo> {
        assert!(self.fault != Fault::StepPanics, "the step panics");
        if self.fault == Fault::Tells {
            step.stdout.line(VALUE);
            self.job.step_message(step.index, Level::Warn, VALUE.to_owned(), Some(everywhere()));
            return Err(telling());
        }
        let spawn = Spawn {
            program: "/bin/sh".into(),
            name: "sh".into(),
            args: vec!["-c".into(), step.command.into()],
            cwd: self.job.workspace.clone(),
            env: self.job.env.clone(),
            stdout: Some(step.stdout),
            stderr: Some(step.stderr),
        };
        let mut process = self.job.processes.spawn(spawn).map_err(|e| broken(&e.to_string()))?;
        if self.fault == Fault::Step {
            // Its process is left running: the ledger ends it.
            return Err(broken("step"));
        }
        let exit = process.wait(&self.job.cancel).await;
        Ok(StepEnd { exit_code: exit.code(), signal: None })
    }

    async fn cleanup(&mut self, _: CleanupReason) -> Result<(), ErrorInfo> {
        match self.fault {
            Fault::Cleanup => Err(broken("cleanup")),
            Fault::Tells => Err(telling()),
            _ => Ok(()),
        }
    }
}

/// JSON with the value in every place that JSON has.
fn everywhere() -> Map<String, Value> {
    let value =
        json!({ VALUE: DIGITS, "list": [VALUE, DIGITS, { VALUE: [[VALUE]] }], "text": format!("<{VALUE}>") });
    value.as_object().unwrap().clone()
}

fn telling() -> ErrorInfo {
    ErrorInfo::new(format!("code.{VALUE}"), format!("message {VALUE}")).with_hint(format!("hint {VALUE}"))
}

#[async_trait]
impl Wrapper for Shell {
    fn plugin(&self) -> PluginRef {
        Provider::plugin(self)
    }

    async fn open(&self, _: Arc<JobContext>, _: Value) -> Result<Box<dyn JobWrapper>, ErrorInfo> {
        Ok(Box::new(Self(self.0)))
    }
}

#[async_trait]
impl JobWrapper for Shell {
    async fn before(&mut self) -> Result<Report, ErrorInfo> {
        Ok(Report { skip: Some(SkipReason::CacheUnchanged), metrics: Some(everywhere()) })
    }

    async fn after(&mut self, _: bool) -> Result<Report, ErrorInfo> {
        Err(telling())
    }
}

struct Outcome {
    end: RunEnd,
    events: Vec<Redacted<Event>>,
}

impl Outcome {
    fn job(&self, id: &str) -> &JobFinish {
        let found = self.events.iter().find_map(|event| match &event.body {
            EventBody::JobFinish(job, finish) if job.as_str() == id => Some(finish),
            _ => None,
        });
        found.unwrap()
    }

    fn marks(&self) -> Vec<PhaseMark> {
        let marks = self.events.iter().filter_map(|event| match &event.body {
            EventBody::PhaseStart(phase) => Some(PhaseMark { phase: phase.clone(), finish: None }),
            EventBody::PhaseFinish(phase, finish) => {
                Some(PhaseMark { phase: phase.clone(), finish: Some(finish.status) })
            }
            _ => None,
        });
        marks.filter(|mark| !matches!(mark.phase, Phase::Section(..))).collect()
    }
}

/// A folder of its own, which the run makes and removes.
fn secrets_dir() -> SecretsDir {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(format!("loom-engine-test-secrets-{process}-{number}"));
    let base = std::env::temp_dir().join(format!("loom-engine-test-{process}-{number}"));
    let runs = Runs::open(&PrivateFolder::open_or_make(&base).unwrap()).unwrap();
    let ledger = runs.register(&RunIds::from_stamp(7).run_id, Path::new("/")).unwrap();
    SecretsDir { path, in_memory: false, ledger: Some(ledger) }
}

const WORKFLOW: &str = "version: v1
stages: [ci, later]
default: {target: linux}
job: {stage: ci, cache: {key: k, paths: [c]}, script: [echo hello, sleep 0.1, 'echo the value of a secret']}
next: {stage: later, script: ['true']}
";

async fn run(
    fault: Fault,
    mut on_event: impl FnMut(&Redacted<Event>) -> Result<(), ErrorInfo>,
    cancel: cancel::Cancel,
) -> Outcome {
    let path = OsString::from("/usr/local/bin:/usr/bin:/bin");
    let redactor = Redactor::default();
    if fault == Fault::Tells {
        redactor.register("KEY", VALUE.as_bytes());
        redactor.register("PIN", DIGITS.to_string().as_bytes());
    }
    let settings = Settings {
        ids: RunIds::from_stamp(7),
        clock: Clock::start(),
        jobs_at_once: 2,
        fail_fast: false,
        env: vec![("PATH".into(), path)],
        redactor,
        secrets_dir: secrets_dir(),
        mark: "word".to_owned(),
        caches_off: false,
        seen: None,
        control: loom_engine::process::Asked::default(),
        output_max_bytes: 0,
        staging_dir: std::env::temp_dir().join("loom-engine-staging"),
        artifacts_dir: Box::new(|_| std::path::PathBuf::new()),
    };
    let bootstrap = || {
        let loaded = loom_workflow::load("workflow.yml", WORKFLOW, &loom_workflow::NoFiles);
        let provider: Arc<dyn Provider> = Arc::new(Shell(fault));
        Ok(Prepared {
            plan: loaded.plan.unwrap(),
            selected: Vec::new(),
            reused: HashMap::new(),
            first_step: None,
            definitions: Vec::new(),
            workflow_path: "workflow.yml".to_owned(),
            workspace: std::env::temp_dir(),
            borrowed_objects: Vec::new(),
            head_sha: None,
            branch: None,
            providers: HashMap::from([("host".to_owned(), provider)]),
            resolvers: HashMap::new(),
            schemes: &[],
            cache: (fault == Fault::Tells).then(|| Arc::new(Shell(fault)) as Arc<dyn Wrapper>),
        })
    };
    let mut events = Vec::new();
    let keep = |event: &Redacted<Event>| {
        events.push(event.clone());
        on_event(event)
    };
    let end = loom_engine::run(settings, cancel, bootstrap, keep, || Ok(())).await;
    let outcome = Outcome { end, events };
    let ids = RunIds::from_stamp(7);
    let jobs = ["job", "next"].map(|id| JobId::new(id).unwrap());
    let report = phase_report::check(&ids.run_id, &ids.pipeline_id, &jobs, &outcome.marks());
    assert!(report.valid, "{fault:?}: {report:#?}");
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_a_failed_job_with_whole_phases() {
    let (_canceller, cancel) = cancel::channel();
    for (fault, message) in [
        (Fault::Open, Some("open")),
        (Fault::Prepare, Some("prepare")),
        (Fault::Step, Some("step")),
        (Fault::Cleanup, Some("cleanup")),
        (Fault::StepPanics, None),
        (Fault::None, None),
    ] {
        let outcome = run(fault, |_| Ok(()), cancel.clone()).await;
        let passes = fault == Fault::None;
        assert_eq!(outcome.end.exit_code, i32::from(!passes), "{fault:?}");
        let job = outcome.job("job");
        assert_eq!(job.status, if passes { Status::Success } else { Status::Failed }, "{fault:?}");
        if let Some(message) = message {
            assert_eq!(job.error, Some(broken(message)), "{fault:?}");
        } else if !passes {
            assert_eq!(job.error.as_ref().map(|e| e.code.as_ref()), Some(code::INTERNAL));
        }
        let next = outcome.job("next");
        assert_eq!(next.skip_reason, (!passes).then_some(SkipReason::UpstreamFailed), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_plugins_tell_is_redacted() {
    let (_canceller, cancel) = cancel::channel();
    let outcome = run(Fault::Tells, |_| Ok(()), cancel).await;
    let mut seen = Vec::new();
    for event in &outcome.events {
        // All fields of all events, those too that nobody has thought of yet.
        let text = format!("{event:?}");
        assert!(!text.contains(VALUE) && !text.contains(&DIGITS.to_string()), "{text}");
        if let EventBody::Output(output) = &event.body {
            assert_eq!(&output.bytes[..], b"[REDACTED:SECRET_KEY]\n");
        }
        let kind = format!("{:?}", event.body).split('(').next().unwrap().to_owned();
        seen.extend(text.matches("[REDACTED:SECRET_").map(|_| kind.clone()));
    }
    let count = |kind: &str| seen.iter().filter(|seen| *seen == kind).count();
    assert_eq!(count("Planned"), 1, "{seen:#?}");
    assert!(count("Message") > 10 && count("PhaseFinish") > 10 && count("JobFinish") > 5, "{seen:#?}");
    let metrics = outcome.events.iter().find_map(|event| match &event.body {
        EventBody::PhaseFinish(_, finish) => finish.metrics.as_ref(),
        _ => None,
    });
    let (key, pin) = ("[REDACTED:SECRET_KEY]", "[REDACTED:SECRET_PIN]");
    let expected = json!({ key: pin, "list": [key, pin, { key: [[key]] }], "text": format!("<{key}>") });
    assert_eq!(metrics, expected.as_object());
    assert_eq!(outcome.job("job").error.as_ref().unwrap().code, "code.[REDACTED:SECRET_KEY]");
}

/// What was planned is handed on again when more of it must not be seen, and only then.
#[tokio::test(flavor = "multi_thread")]
async fn a_roster_is_masked_as_soon_as_its_values_are_known() {
    let (_canceller, cancel) = cancel::channel();
    let outcome = run(Fault::Learns, |_| Ok(()), cancel).await;
    let rosters: Vec<&str> = outcome
        .events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Planned(roster) => roster[0].commands.last().map(String::as_str),
            _ => None,
        })
        .collect();
    // On a slow machine the value may be known before the roster is handed on at all.
    let masked = "echo [REDACTED:SECRET_KEY]";
    assert!(rosters == ["echo the value of a secret", masked] || rosters == [masked], "{rosters:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_fails_ends_the_run_and_fails_it() {
    let (_canceller, cancel) = cancel::channel();
    let mut count = 0;
    let fail = |_: &Redacted<Event>| {
        count += 1;
        if count == 12 { Err(ErrorInfo::new(code::RECORD_FAILED, "disk full")) } else { Ok(()) }
    };
    let outcome = run(Fault::None, fail, cancel).await;
    assert_eq!(outcome.end.exit_code, 1);
    assert_eq!(outcome.end.error.map(|e| e.message.clone()).as_deref(), Some("disk full"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_cancelled_before_it_starts_runs_nothing() {
    let (canceller, cancel) = cancel::channel();
    canceller.raise(Urgency::Ask, Some(15));
    let path = Settings {
        ids: RunIds::from_stamp(7),
        clock: Clock::start(),
        jobs_at_once: 1,
        fail_fast: false,
        env: Vec::new(),
        redactor: Redactor::default(),
        secrets_dir: secrets_dir(),
        mark: "word".to_owned(),
        caches_off: false,
        seen: None,
        control: loom_engine::process::Asked::default(),
        output_max_bytes: 0,
        staging_dir: std::env::temp_dir().join("loom-engine-staging"),
        artifacts_dir: Box::new(|_| std::path::PathBuf::new()),
    };
    let mut phases = Vec::new();
    let on_event = |event: &Redacted<Event>| {
        if let EventBody::PhaseFinish(phase, finish) = &event.body {
            phases.push((phase.code().as_str(), finish.status));
        }
        Ok(())
    };
    let bootstrap = || Err(ErrorInfo::new(code::WORKSPACE_FAILED, "cancelled"));
    let end = loom_engine::run(path, cancel, bootstrap, on_event, || Ok(())).await;
    assert_eq!(end.exit_code, 143);
    let expected = [
        ("run.bootstrap", Status::Cancelled),
        ("pipeline.execute", Status::Skipped),
        ("run.pipeline_execute", Status::Skipped),
        ("run.finalize", Status::Success),
    ];
    assert_eq!(phases, expected);
}

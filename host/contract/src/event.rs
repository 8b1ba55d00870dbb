//! What happens in a run.
//!
//! An [`Event`] is what the engine says, once. The recorder turns it into lines of one or more `events.jsonl` files
//! ([`EventLine`]); the terminal's reporter reads the same events. Nothing else travels between them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::ErrorInfo;
use crate::id::{JobId, PipelineId, RunId, StepIndex};
use crate::phase::{PhaseCode, PhaseFamily, Scope};
use crate::redacted::{OutputBytes, Redact};
use crate::section::Section;
use crate::source_line::SourceLine;
use crate::status::{SkipReason, Status};
use crate::time::Timestamp;

/// Something that happened, and when.
#[derive(Debug, Clone, Redact)]
pub struct Event {
    /// When it happened; never earlier than the event before it of the same phase.
    pub at: Timestamp,
    /// What happened.
    pub body: EventBody,
}

/// The kinds of events.
#[derive(Debug, Clone, Redact)]
pub enum EventBody {
    /// The jobs of the run are known: inside `run.bootstrap`, and again whenever less of them may be shown than before.
    /// Never written as a line.
    Planned(Arc<[PlannedJob]>),
    /// A phase began.
    PhaseStart(Phase),
    /// A phase ended. Every phase that began ends.
    PhaseFinish(Phase, Finish),
    /// A section has something to say.
    Message(Phase, Message),
    /// A process wrote something.
    Output(Output),
    /// An attempt of a job failed and another one follows; what was recorded of it is set aside. Never written as a line.
    JobRetry(JobId, JobFinish),
    /// A job's last phase is over; its documents can be written. Never written as a line.
    JobFinish(JobId, JobFinish),
}

/// A job of the run, as its documents name it.
#[derive(Debug, Clone, PartialEq, Eq, Redact)]
pub struct PlannedJob {
    /// The job.
    pub job_id: JobId,
    /// Its stage.
    pub stage: String,
    /// The provider that runs it: `host`, `docker`, or a plugin's name.
    pub provider: String,
    /// The steps' commands, in order.
    pub commands: Vec<String>,
    /// Where each of them is written.
    pub sources: Vec<SourceLine>,
    /// The jobs that it waits for by name.
    pub needs: Vec<JobId>,
    /// How often it is tried, at most; at least 1.
    pub attempts: u32,
    /// The run's copy of the repository, where its steps find it.
    pub workspace: PathBuf,
    /// Whether its failure leaves the run as it is.
    pub allow_failure: bool,
    /// The values that make it one of the jobs of a matrix.
    pub matrix: BTreeMap<String, String>,
    /// A hash of what it is; see [`JobSummary::definition`](crate::summary::JobSummary::definition).
    pub definition: Option<String>,
}

/// How a job ended.
#[derive(Debug, Clone, Redact)]
pub struct JobFinish {
    /// How it ended.
    pub status: Status,
    /// The exit code of the step that decided it; 0 for a success; none for a job without a step that ended.
    pub exit_code: Option<i32>,
    /// Why it failed.
    pub error: Option<ErrorInfo>,
    /// Why it never ran.
    pub skip_reason: Option<SkipReason>,
    /// The run in which it passed, where it was not run again.
    pub reused_from: Option<RunId>,
    /// The plugins that served it.
    pub plugins: Vec<PluginRef>,
    /// The files that were taken out of its workspace.
    pub artifacts: Option<TakenArtifacts>,
    /// The digest of the image that it ran in; of an image that no registry knows, its id.
    pub image_digest: Option<String>,
    /// When it started; none for a job that never did.
    pub started_at: Option<Timestamp>,
    /// Milliseconds from its start to its end.
    pub duration_ms: u64,
}

/// What a job has left: files in the folder of its artifacts.
#[derive(Debug, Clone, PartialEq, Eq, Redact)]
pub struct TakenArtifacts {
    /// The files, relative to that folder; sorted by their bytes, never none.
    pub files: Arc<[PathBuf]>,
    /// Their sizes, added up.
    pub bytes: u64,
}

/// A plugin, by what it says of itself and by what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct PluginRef {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// blake3 of the component, in hex.
    pub digest: String,
}

/// One occurrence of a phase.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Redact)]
pub enum Phase {
    /// `run.bootstrap`, `run.pipeline_execute`, `pipeline.execute` or `run.finalize`.
    Run(PhaseCode),
    /// A phase of a job, as a whole.
    Job(JobId, PhaseCode),
    /// One section of a job's phase.
    Section(JobId, Section),
    /// What processes of a section that is over go on to say, and how they end: it neither begins nor ends itself.
    After(JobId, Section),
    /// One step of a job: `execution.script`.
    Step(JobId, StepIndex),
}

impl Phase {
    /// The phase's stable name.
    pub fn code(&self) -> PhaseCode {
        match self {
            Self::Run(code) | Self::Job(_, code) => *code,
            Self::Section(_, section) | Self::After(_, section) => section.phase_code(),
            Self::Step(..) => PhaseCode::ExecutionScript,
        }
    }

    /// The job that it belongs to.
    pub fn job_id(&self) -> Option<&JobId> {
        match self {
            Self::Run(_) => None,
            Self::Job(job_id, _)
            | Self::Section(job_id, _)
            | Self::After(job_id, _)
            | Self::Step(job_id, _) => Some(job_id),
        }
    }
}

/// How a phase ended.
#[derive(Debug, Clone, Redact)]
pub struct Finish {
    /// How it ended.
    pub status: Status,
    /// Milliseconds from its start to its end.
    pub duration_ms: u64,
    /// The exit code of the process that it stands for.
    pub exit_code: Option<i32>,
    /// The signal that ended that process.
    pub signal: Option<i32>,
    /// Why it was left out.
    pub skip_reason: Option<SkipReason>,
    /// What it counted.
    pub metrics: Option<Metrics>,
    /// Why it failed.
    pub error: Option<ErrorInfo>,
}

impl Finish {
    /// An ending with `status` and nothing else to say.
    pub fn new(status: Status) -> Self {
        Self {
            status,
            duration_ms: 0,
            exit_code: None,
            signal: None,
            skip_reason: None,
            metrics: None,
            error: None,
        }
    }

    /// Left out, for `reason`.
    pub fn skipped(reason: SkipReason) -> Self {
        Self { skip_reason: Some(reason), ..Self::new(Status::Skipped) }
    }

    /// Failed with `error`.
    pub fn failed(error: ErrorInfo) -> Self {
        Self { error: Some(error), ..Self::new(Status::Failed) }
    }
}

/// Counters of a section, by name.
pub type Metrics = Map<String, Value>;

/// A section's own words.
#[derive(Debug, Clone, Redact)]
pub struct Message {
    /// How much it matters.
    pub level: Level,
    /// The sentence.
    pub message: String,
    /// Facts for programs.
    pub data: Option<Map<String, Value>>,
}

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For those who look into a plugin.
    Debug,
    /// Ordinary.
    Info,
    /// Something that a person should look at.
    Warn,
    /// Something went wrong.
    Error,
}

/// The two output streams of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word on disk.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Bytes that a process wrote: whole lines, but for what `open` says.
///
/// Many lines travel as one chunk, since one allocation a line would cost more than everything else together. No line
/// in a chunk is longer than [`LINE_LIMIT`].
#[derive(Debug, Clone, Redact)]
pub struct Output {
    /// The step or section that it belongs to.
    pub phase: Phase,
    /// Where it was written to.
    pub stream: Stream,
    /// Lines, each ended by `\n`, but for the last of a chunk that is `open` or of a process that ended without one.
    pub bytes: OutputBytes,
    /// Whether the last line of `bytes` goes on in the next chunk of this stream.
    pub open: bool,
    /// Who takes it.
    pub to: OutputTo,
}

/// Who takes a chunk of output: of what is more than may be recorded, each takes another part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Redact)]
pub enum OutputTo {
    /// The record and the terminal.
    All,
    /// The terminal as it comes; the record counts it, and does not hold it.
    Terminal,
    /// The record, when the phase ends: the terminal has shown it, and it was counted.
    Record,
}

/// The longest line of output in one event, in bytes; longer ones are split.
pub const LINE_LIMIT: usize = 64 * 1024;

/// The kinds of lines in an `events.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// A phase began.
    PhaseStart,
    /// A phase ended.
    PhaseFinish,
    /// A process wrote a line.
    Output,
    /// A system section speaks.
    Message,
}

/// One line of an `events.jsonl`.
///
/// Phase events and messages carry the ids of their scope. Output carries only what a reader of that stream does not
/// know already, since it is nearly all of the bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventLine {
    /// Position in this stream, from 1 without gaps. An event that stands in two streams has a position in each.
    #[schemars(range(min = 1))]
    pub seq: u64,
    /// When it happened; never runs backwards within a stream. Lines that arrived in one read share it.
    pub ts: Timestamp,
    /// What kind of line this is.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// `loom.runtime.logs.v2`; left out of output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<Cow<'static, str>>,
    /// What the phase belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// The phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase_code: Option<PhaseCode>,
    /// The family of the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase_family: Option<PhaseFamily>,
    /// The run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// The pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_id: Option<PipelineId>,
    /// The job, in scopes `job` and `step`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// The system section, in its own stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section: Option<Section>,
    /// The step, in scope `step` and in its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepIndex>,
    /// Output: where it was written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
    /// Output: the line without its terminator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// Output: the line goes on in the next output event of the same `stream`, unless a message between the two says that
    /// output was left out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub partial: bool,
    /// Output: bytes that are no UTF-8 were replaced by U+FFFD.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lossy: bool,
    /// Message: how much it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Message: the sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Message: facts for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Map<String, Value>>,
    /// Finish: how the phase ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Finish: the exit code of the process that the phase stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Finish: the signal that ended that process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Finish: why the phase was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_reason: Option<SkipReason>,
    /// Finish: milliseconds since the phase began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Finish: what the phase counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// Finish: why the phase failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
}

pub(crate) fn is_false(value: &bool) -> bool {
    !value
}

impl EventLine {
    /// A line of `kind` in the phase `phase`, with the ids of its scope and nothing else.
    pub fn of_phase(kind: EventType, phase: &Phase, run_id: &RunId, pipeline_id: &PipelineId) -> Self {
        let code = phase.code();
        Self {
            seq: 0,
            ts: Timestamp::from_unix_nanos(0),
            kind,
            schema_version: Some(Cow::Borrowed(crate::version::LOGS)),
            scope: Some(code.scope()),
            phase_code: Some(code),
            phase_family: Some(code.family()),
            run_id: Some(run_id.clone()),
            pipeline_id: Some(pipeline_id.clone()),
            job_id: phase.job_id().cloned(),
            section: match phase {
                Phase::Section(_, section) | Phase::After(_, section) => Some(*section),
                _ => None,
            },
            step: if let Phase::Step(_, step) = phase { Some(*step) } else { None },
            stream: None,
            line: None,
            partial: false,
            lossy: false,
            level: None,
            message: None,
            data: None,
            status: None,
            exit_code: None,
            signal: None,
            skip_reason: None,
            duration_ms: None,
            metrics: None,
            error: None,
        }
    }
}

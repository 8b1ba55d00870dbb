//! What a run tells its user, from the same events that are recorded.

mod line;
mod live;

use std::collections::{HashMap, VecDeque};

use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::{
    Event, EventBody, JobFinish, Level, Message, Output, OutputTo, Phase, PlannedJob,
};
use loom_contract::id::{JobId, RunId, StepIndex};
use loom_contract::layout::{self, JobLayout, RuntimePath};
use loom_contract::redacted::{OutputBytes, Redacted};
use loom_contract::status::{SkipReason, Status};
use loom_contract::visible::on_one_line;
use loom_engine::redact::Redactor;

use crate::report::live::Live;
use crate::terminal::Terminal;
use crate::text::{Style, Text};

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// The receipt and the final status only.
    Quiet,
    /// Each job as it starts and ends.
    Default {
        /// Whether the output of jobs is shown.
        stream: bool,
    },
    /// More about the run.
    Verbose {
        /// Whether the output of jobs is shown.
        stream: bool,
    },
}

impl Verbosity {
    /// From the flags of the command line.
    pub(crate) fn new(quiet: bool, verbose: bool, stream: bool) -> Self {
        match (quiet, verbose) {
            (true, _) => Self::Quiet,
            (false, false) => Self::Default { stream },
            (false, true) => Self::Verbose { stream },
        }
    }

    fn streams(self) -> bool {
        matches!(self, Self::Default { stream: true } | Self::Verbose { stream: true })
    }
}

/// Lines of a failed step that are shown with it.
const TAIL_LINES: usize = 10;
/// Chunks of output that are kept for them.
const TAIL_CHUNKS: usize = 4;

/// The reporter of one run.
pub(crate) struct Report {
    terminal: Terminal,
    verbosity: Verbosity,
    redactor: Redactor,
    live: Live,
    run_dir: RuntimePath,
    roster: HashMap<JobId, PlannedJob>,
    tails: HashMap<JobId, Tail>,
    /// Attempts of jobs that were retried.
    attempts: HashMap<JobId, u32>,
    /// The first job to fail, and how many did.
    failures: Option<(String, usize)>,
    /// What a job that succeeded has done, in a word of seven characters.
    succeeded: &'static str,
}

/// What a failure of a job means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The run fails.
    Counts,
    /// Nothing.
    AllowedToFail,
    /// The job is tried again.
    Retried,
}

/// What the running step of a job said last.
#[derive(Default)]
struct Tail {
    step: Option<StepIndex>,
    failed: bool,
    chunks: VecDeque<OutputBytes>,
}

impl Report {
    /// A reporter that masks by `redactor` what it says beside events.
    pub(crate) fn new(terminal: Terminal, verbosity: Verbosity, redactor: Redactor) -> Self {
        let live = verbosity != Verbosity::Quiet && terminal.interactive;
        Self {
            terminal,
            verbosity,
            redactor,
            live: Live::new(live),
            run_dir: RuntimePath::default(),
            roster: HashMap::new(),
            tails: HashMap::new(),
            attempts: HashMap::new(),
            failures: None,
            succeeded: "passed ",
        }
    }

    /// The run is one of several that are compared: that a job has not failed does not yet say that all is well.
    pub(crate) fn is_compared(&mut self) {
        self.succeeded = "ended  ";
    }

    /// The run `run_id` has its log folder at `dir`.
    pub(crate) fn run_started(&mut self, run_id: &RunId, dir: RuntimePath) {
        self.run_dir = dir;
        if let Verbosity::Verbose { .. } = self.verbosity {
            let dir = Redacted::new(self.run_dir.clone(), &self.redactor).to_string();
            self.say(Text::from(format!("run: {run_id}\nlogs: {}", on_one_line(&dir))));
        }
    }

    pub(crate) fn event(&mut self, event: &Redacted<Event>) {
        match &event.body {
            EventBody::Planned(roster) => {
                self.roster = roster.iter().map(|job| (job.job_id.clone(), job.clone())).collect();
            }
            EventBody::PhaseStart(phase) => self.phase_started(phase),
            EventBody::PhaseFinish(Phase::Step(job_id, _), finish) => {
                if let Some(tail) = self.tails.get_mut(job_id) {
                    tail.failed = finish.status == Status::Failed;
                }
            }
            EventBody::PhaseFinish(..) => {}
            EventBody::Message(phase, message) => self.message(phase, message),
            EventBody::Output(output) if output.to == OutputTo::Record => {}
            EventBody::Output(output) => self.output(output),
            EventBody::JobRetry(job_id, end) => self.job_ended(job_id, end, Ending::Retried),
            EventBody::JobFinish(job_id, end) => {
                let allowed = self.roster.get(job_id).is_some_and(|job| job.allow_failure);
                self.job_ended(job_id, end, if allowed { Ending::AllowedToFail } else { Ending::Counts });
            }
        }
    }

    /// The run is over: the terminal is given back.
    pub(crate) fn finish(&mut self) {
        self.live.clear();
    }

    /// `job "build" failed (exit code 2)`: the first job to fail, and how many more did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failures.as_ref().map(|(first, count)| match count - 1 {
            0 => first.clone(),
            more => format!("{first}, and {more} more"),
        })
    }

    fn phase_started(&mut self, phase: &Phase) {
        match phase {
            Phase::Job(job_id, loom_contract::phase::PhaseCode::JobProviderPrepare) => {
                self.tails.insert(job_id.clone(), Tail::default());
                self.live.started(job_id);
                if self.verbosity != Verbosity::Quiet {
                    self.say(line(Style::Dim, "started", &format!("{job_id}")));
                }
            }
            Phase::Step(job_id, step) => {
                let tail = self.tails.entry(job_id.clone()).or_default();
                *tail = Tail { step: Some(*step), ..Tail::default() };
                let planned = self.roster.get(job_id);
                let command = planned.and_then(|job| job.commands.get(step.position()));
                self.live.step(job_id, *step, command.map_or("", String::as_str));
            }
            Phase::Run(_) | Phase::Job(..) | Phase::Section(..) | Phase::After(..) => {}
        }
    }

    fn message(&mut self, phase: &Phase, message: &Message) {
        let shown = match self.verbosity {
            Verbosity::Quiet => false,
            Verbosity::Default { .. } => message.level >= Level::Warn,
            Verbosity::Verbose { .. } => message.level >= Level::Info,
        };
        if !shown {
            return;
        }
        let prefix = phase.job_id().map(|job_id| format!("{job_id} |"));
        let mut text = Text::default();
        match message.level {
            Level::Error => text.styled(Style::Warning, "error: "),
            Level::Warn => text.styled(Style::Warning, "warning: "),
            Level::Info | Level::Debug => {}
        }
        for (at, words) in message.message.lines().enumerate() {
            text.push(if at > 0 { "\n" } else { "" });
            if let Some(prefix) = &prefix {
                text.styled(Style::Job, prefix);
                text.push(" ");
            }
            text.output(words.as_bytes());
        }
        self.say(text);
    }

    fn output(&mut self, output: &Output) {
        let Some(job_id) = output.phase.job_id() else {
            return;
        };
        if self.verbosity.streams() {
            let prefix = format!("{job_id} |");
            let mut text = Text::default();
            for (at, bytes) in line::lines(&output.bytes).enumerate() {
                text.push(if at > 0 { "\n" } else { "" });
                text.styled(Style::Job, &prefix);
                text.push(" ");
                text.output(bytes);
            }
            self.say(text);
        } else if self.verbosity != Verbosity::Quiet
            // Services speak during steps, too.
            && let Phase::Step(..) = output.phase
            && let Some(tail) = self.tails.get_mut(job_id)
        {
            tail.chunks.push_back(output.bytes.clone());
            if tail.chunks.len() > TAIL_CHUNKS {
                tail.chunks.pop_front();
            }
        }
    }

    fn job_ended(&mut self, job_id: &JobId, end: &JobFinish, ending: Ending) {
        let tail = self.tails.remove(job_id).unwrap_or_default();
        self.live.finished(job_id);
        // An exit code says why only where the step ended by itself.
        let by_itself =
            |error: &ErrorInfo| [code::STEP_EXIT_NONZERO, code::STEP_SIGNALLED].contains(&&*error.code);
        let why = match (end.exit_code, &end.error) {
            (_, Some(error)) if !by_itself(error) => error.to_string(),
            (Some(code), _) => format!("exit code {code}"),
            (None, _) => "no exit code".to_owned(),
        };
        if end.status == Status::Failed && ending == Ending::Counts {
            let failures = self
                .failures
                .get_or_insert_with(|| (format!("job \"{job_id}\" failed ({})", first(&why)), 0));
            failures.1 += 1;
        }
        // Whoever asked for other jobs knows that this one is left out.
        if self.verbosity == Verbosity::Quiet || end.skip_reason == Some(SkipReason::NotSelected) {
            return;
        }
        let duration = line::duration(end.duration_ms);
        let mut text = match end.status {
            Status::Success => line(Style::Good, self.succeeded, &format!("{job_id} ({duration})")),
            Status::Cancelled => line(Style::Bad, "cancelled", &format!("{job_id} ({duration})")),
            Status::Skipped => {
                let reason = end.skip_reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                line(Style::Dim, "skipped", &format!("{job_id}{reason}"))
            }
            Status::Failed => {
                let note = match ending {
                    Ending::Counts => "",
                    Ending::AllowedToFail => " (allowed to fail)",
                    Ending::Retried => "; trying again",
                };
                let what = format!("{job_id} ({duration}): {}{note}", first(&why));
                let mut text = line(Style::Bad, "failed ", &what);
                for more in why.lines().skip(1) {
                    quote(&mut text, more.as_bytes());
                }
                text
            }
        };
        if end.status == Status::Failed {
            let mut record = layout::job(job_id);
            if ending == Ending::Retried {
                let attempt = self.attempts.entry(job_id.clone()).or_default();
                *attempt += 1;
                record = record.attempt(*attempt);
            }
            self.add_failure(&mut text, &record, end, &tail);
        }
        self.say(text);
    }

    /// The last lines of the step that failed, and where to read on.
    fn add_failure(&self, text: &mut Text, record: &JobLayout, end: &JobFinish, tail: &Tail) {
        let pointer = match tail.step.filter(|_| tail.failed) {
            Some(step) => {
                let bytes: Vec<u8> = tail.chunks.iter().flat_map(|chunk| chunk.iter().copied()).collect();
                let lines: Vec<_> = line::lines(&bytes).collect();
                for bytes in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
                    quote(text, bytes);
                }
                record.step_events(step)
            }
            None => record.manifest(),
        };
        if let Some(hint) = end.error.as_ref().and_then(|error| error.hint.as_ref()) {
            text.push(&format!("\n  hint: {hint}"));
        }
        let pointer = Redacted::new(self.run_dir.join(&pointer), &self.redactor).to_string();
        text.push(&format!("\n  see {}", on_one_line(&pointer)));
    }

    fn say(&self, mut text: Text) {
        text.push("\n");
        self.live.around(|| self.terminal.say(text));
    }
}

/// A line that begins with a word that says what happened.
fn line(style: Style, word: &str, rest: &str) -> Text {
    let mut text = Text::default();
    text.styled(style, word);
    text.push(" ");
    text.push(rest);
    text
}

/// Adds a line that belongs to what stands above it.
fn quote(text: &mut Text, line: &[u8]) {
    text.push("\n  ");
    text.styled(Style::Dim, "|");
    text.push(" ");
    text.output(line);
}

/// The first line, which says what happened; the others what was said about it.
fn first(why: &str) -> &str {
    why.lines().next().unwrap_or_default()
}

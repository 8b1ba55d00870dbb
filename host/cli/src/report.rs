//! What a run tells its user, from the same events that are recorded.

mod bashism;
mod exit_words;
mod failed_job;
mod jobs;
mod line;
mod live;
mod own_tree;
mod tail;

use std::collections::HashMap;
use std::path::PathBuf;

use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::{Event, EventBody, Finish, JobFinish, Level, Message, Output, OutputTo, Phase};
use loom_contract::id::{JobId, RunId, StepIndex};
use loom_contract::layout::{self, RuntimePath};
use loom_contract::redacted::Redacted;
use loom_contract::status::{SkipReason, Status};
use loom_contract::visible::on_one_line;
use loom_engine::redact::Redactor;

use crate::report::exit_words::exit_in_words;
use crate::report::failed_job::{FailedJob, FailedStep, Meaning, Said};
use crate::report::jobs::{End, Jobs};
use crate::report::line::{listed, word};
use crate::report::live::Live;
use crate::report::own_tree::{Tree, in_own_tree};
use crate::report::tail::Tail;
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

/// Jobs that are named as the reason why another one did not run, at most.
const MOST_BLOCKERS: usize = 2;

/// The reporter of one run.
pub(crate) struct Report {
    terminal: Terminal,
    verbosity: Verbosity,
    redactor: Redactor,
    live: Live,
    repo_root: PathBuf,
    run_dir: RuntimePath,
    jobs: Jobs,
    running: HashMap<JobId, Running>,
    /// How often jobs were tried again.
    retries: HashMap<JobId, u32>,
    /// The first job to fail, and how many did.
    failures: Option<(String, usize)>,
    /// What a job that succeeded has done, in a word of seven characters.
    succeeded: &'static str,
}

/// A job that runs: its step, and what that one said last.
#[derive(Default)]
struct Running {
    step: Option<StepIndex>,
    failed: bool,
    signal: Option<i32>,
    tail: Tail,
}

impl Report {
    /// A reporter for a run of the repository at `repo_root`, which masks by `redactor` what it says beside events.
    pub(crate) fn new(
        terminal: Terminal,
        verbosity: Verbosity,
        redactor: Redactor,
        repo_root: PathBuf,
    ) -> Self {
        let live = verbosity != Verbosity::Quiet && terminal.interactive;
        Self {
            terminal,
            verbosity,
            redactor,
            live: Live::new(live),
            repo_root,
            run_dir: RuntimePath::default(),
            jobs: Jobs::default(),
            running: HashMap::new(),
            retries: HashMap::new(),
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
            EventBody::Planned(roster) => self.jobs.plan(roster),
            EventBody::PhaseStart(phase) => self.phase_started(phase),
            EventBody::PhaseFinish(Phase::Step(job_id, _), finish) => self.step_finished(job_id, finish),
            EventBody::PhaseFinish(..) => {}
            EventBody::Message(phase, message) => self.message(phase, message),
            EventBody::Output(output) if output.to == OutputTo::Record => {}
            EventBody::Output(output) => self.output(output),
            EventBody::JobRetry(job_id, end) => {
                *self.retries.entry(job_id.clone()).or_default() += 1;
                self.job_ended(job_id, end, Meaning::Retried);
            }
            EventBody::JobFinish(job_id, end) => {
                let allowed = self.jobs.get(job_id).is_some_and(|job| job.allow_failure);
                self.job_ended(job_id, end, if allowed { Meaning::AllowedToFail } else { Meaning::Counts });
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

    /// How many jobs ended how, of a run that took `duration_ms`; nothing where it is to be quiet, or had no jobs.
    pub(crate) fn totals(&self, duration_ms: u64) -> Text {
        if self.verbosity == Verbosity::Quiet {
            return Text::default();
        }
        self.jobs.totals(duration_ms)
    }

    fn phase_started(&mut self, phase: &Phase) {
        match phase {
            Phase::Job(job_id, loom_contract::phase::PhaseCode::JobProviderPrepare) => {
                self.running.insert(job_id.clone(), Running::default());
                self.live.started(job_id);
                if self.verbosity != Verbosity::Quiet {
                    self.say(word(Style::Dim, "started", job_id.as_str()));
                }
            }
            Phase::Step(job_id, step) => {
                self.running.insert(job_id.clone(), Running { step: Some(*step), ..Running::default() });
                let planned = self.jobs.get(job_id);
                let command = planned.and_then(|job| job.commands.get(step.position()));
                self.live.step(job_id, *step, command.map_or("", String::as_str));
            }
            Phase::Run(_) | Phase::Job(..) | Phase::Section(..) | Phase::After(..) => {}
        }
    }

    fn step_finished(&mut self, job_id: &JobId, finish: &Finish) {
        if let Some(running) = self.running.get_mut(job_id) {
            running.failed = finish.status == Status::Failed;
            running.signal = finish.signal;
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
        }
        if self.verbosity != Verbosity::Quiet
            // Services speak during steps, too.
            && let Phase::Step(..) = output.phase
            && let Some(running) = self.running.get_mut(job_id)
        {
            running.tail.push(output);
        }
    }

    fn job_ended(&mut self, job_id: &JobId, end: &JobFinish, meaning: Meaning) {
        let running = self.running.remove(job_id).unwrap_or_default();
        self.live.finished(job_id);
        let failed_step = running.step.filter(|_| running.failed);
        let retries = self.retries.get(job_id).copied().unwrap_or_default();
        // An exit code says why only where the step ended by itself.
        let by_itself =
            |error: &ErrorInfo| [code::STEP_EXIT_NONZERO, code::STEP_SIGNALLED].contains(&&*error.code);
        let (why, why_in_words) = match (end.exit_code, &end.error) {
            (_, Some(error)) if !by_itself(error) => (error.to_string(), error.to_string()),
            (Some(code), _) => (format!("exit code {code}"), exit_in_words(code, running.signal)),
            (None, _) => ("no exit code".to_owned(), "no exit code".to_owned()),
        };
        if end.status == Status::Failed && meaning == Meaning::Counts {
            let failures = self
                .failures
                .get_or_insert_with(|| (format!("job \"{job_id}\" failed ({})", first(&why)), 0));
            failures.1 += 1;
        }
        if meaning != Meaning::Retried {
            let ended = match end.status {
                Status::Success => End::Passed,
                Status::Failed if meaning == Meaning::AllowedToFail => End::AllowedToFail,
                Status::Failed => End::Failed { step: failed_step, attempts: retries + 1 },
                Status::Skipped => End::Skipped(end.skip_reason),
                Status::Cancelled => End::Cancelled,
            };
            self.jobs.ended(job_id, ended);
        }
        // Whoever asked for other jobs knows that this one is left out.
        if self.verbosity == Verbosity::Quiet || end.skip_reason == Some(SkipReason::NotSelected) {
            return;
        }
        // One that is tried again has been counted already.
        let number = if meaning == Meaning::Retried { retries } else { retries + 1 };
        let of = self.jobs.get(job_id).map_or(number, |job| job.attempts);
        let attempt = (retries > 0).then_some((number, of));
        let duration = line::duration(end.duration_ms);
        let text = match end.status {
            Status::Success => {
                let attempt = attempt.map(|(number, of)| format!(", attempt {number} of {of}"));
                let what = format!("{job_id} ({duration}){}", attempt.unwrap_or_default());
                word(Style::Good, self.succeeded, &what)
            }
            Status::Cancelled => word(Style::Bad, "cancelled", &format!("{job_id} ({duration})")),
            Status::Skipped => match &end.reused_from {
                Some(run_id) => word(Style::Dim, "reused ", &format!("{job_id} (passed in {run_id})")),
                None => {
                    let why = self.why_skipped(job_id, end.skip_reason);
                    word(Style::Dim, "skipped", &format!("{job_id}{why}"))
                }
            },
            Status::Failed => {
                let mut record = layout::job(job_id);
                if meaning == Meaning::Retried {
                    record = record.attempt(number);
                }
                let see = failed_step.map_or_else(|| record.manifest(), |step| record.step_events(step));
                let planned = self.jobs.get(job_id);
                // What it did before it is tried again is in the record; the last time counts.
                let told = failed_step.filter(|_| meaning != Meaning::Retried);
                let way_out = told.zip(planned).zip(end.exit_code).and_then(|((step, job), exit_code)| {
                    bashism::way_out(exit_code, job.commands.get(step.position())?, running.tail.texts())
                });
                let hint = end.error.as_ref().and_then(|error| error.hint.clone()).or(way_out);
                let shows_output = told.is_some() && !self.verbosity.streams();
                let failed = FailedJob {
                    job_id,
                    duration_ms: end.duration_ms,
                    why: why_in_words,
                    attempt,
                    meaning,
                    step: told.and_then(|step| Some(FailedStep::new(step, planned?))),
                    said: shows_output.then(|| self.said(job_id, running.tail)),
                    hint,
                    see: Redacted::new(self.run_dir.join(&see), &self.redactor).to_string(),
                };
                failed.text(self.terminal.width())
            }
        };
        self.say(text);
    }

    /// The last lines of a step of `job_id`. Of files that the user's own tree has, too, they name those.
    fn said(&self, job_id: &JobId, tail: Tail) -> Vec<Said> {
        let copy = self.jobs.get(job_id).map(|job| job.workspace.clone()).unwrap_or_default();
        let shown = Redacted::new(self.repo_root.clone(), &self.redactor);
        let tree = Tree { root: &self.repo_root, shown: &shown };
        let said = |line: tail::Line| Said {
            bytes: in_own_tree(&line.bytes, &copy, &tree).into_owned(),
            is_cut: line.is_cut,
        };
        tail.into_lines().into_iter().map(said).collect()
    }

    fn why_skipped(&self, job_id: &JobId, reason: Option<SkipReason>) -> String {
        let blockers = self.jobs.blocked_by(job_id);
        match reason {
            Some(_) if !blockers.is_empty() => format!(": {} failed", listed(&blockers, MOST_BLOCKERS)),
            Some(SkipReason::Cancelled) => ": the run was cancelled".to_owned(),
            Some(reason) => format!(" ({reason})"),
            None => String::new(),
        }
    }

    fn say(&self, mut text: Text) {
        text.push("\n");
        self.live.around(|| self.terminal.say(text));
    }
}

/// The first line, which says what happened; the others what was said about it.
fn first(why: &str) -> &str {
    why.lines().next().unwrap_or_default()
}

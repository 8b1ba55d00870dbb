//! What is told of a job that failed: a value, and how it looks.

use loom_contract::event::PlannedJob;
use loom_contract::id::{JobId, StepIndex};
use loom_contract::source_line::SourceLine;
use loom_contract::visible::{on_one_line, visible};

use super::line::{duration, quote, word};
use crate::text::{Style, Text};

/// A job that failed, from the first line to the last.
///
/// What is found out of its output some day, as the place and the words of a compiler's error, stands before
/// [`said`](Self::said).
#[derive(Debug)]
pub(super) struct FailedJob<'a> {
    pub(super) job_id: &'a JobId,
    pub(super) duration_ms: u64,
    /// Why, the first line in a few words.
    pub(super) why: String,
    /// Which attempt it was, and how many there may be; for a job that was tried again.
    pub(super) attempt: Option<(u32, u32)>,
    pub(super) meaning: Meaning,
    /// The step that failed; none where the job failed outside its steps.
    pub(super) step: Option<FailedStep>,
    /// The last lines of that step, without secrets; none where they are not for here.
    pub(super) said: Option<Vec<Said>>,
    /// What to do about it.
    pub(super) hint: Option<String>,
    /// Where to read on.
    pub(super) see: String,
}

/// What a failure means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The run fails.
    Counts,
    /// Nothing.
    AllowedToFail,
    /// The job is tried again.
    Retried,
}

/// A step that failed.
#[derive(Debug)]
pub(super) struct FailedStep {
    number: u32,
    of: usize,
    command: String,
    source: Option<SourceLine>,
}

/// A line of output.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) bytes: Vec<u8>,
    /// Whether it is not all of the line.
    pub(super) is_cut: bool,
}

impl FailedStep {
    /// Step `index` of `job`.
    pub(super) fn new(index: StepIndex, job: &PlannedJob) -> Self {
        Self {
            number: index.number(),
            of: job.commands.len(),
            command: job.commands.get(index.position()).cloned().unwrap_or_default(),
            source: job.sources.get(index.position()).cloned(),
        }
    }

    /// `step 2 of 3, .loom/workflow.yml:14`; of a job with one step the line only.
    fn place(&self) -> Option<String> {
        let step = (self.of > 1).then(|| format!("step {} of {}", self.number, self.of));
        let source = self.source.as_ref().map(|source| on_one_line(&source.to_string()).into_owned());
        let parts: Vec<String> = step.into_iter().chain(source).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// The first line of the command that says something, in at most `width` columns.
    fn command(&self, width: usize) -> String {
        let mut lines = self.command.lines().filter(|line| !line.trim().is_empty());
        let says = |line: &&str| !line.trim_start().starts_with('#');
        let first = lines.clone().find(says).or_else(|| lines.next()).unwrap_or_default();
        let shown = visible(first.trim()).into_owned();
        if self.command.lines().filter(|line| !line.trim().is_empty()).count() > 1 {
            let shown = console::truncate_str(&shown, width.saturating_sub(2), "").into_owned();
            return format!("{shown} …");
        }
        console::truncate_str(&shown, width, "…").into_owned()
    }
}

impl FailedJob<'_> {
    /// As lines for a terminal with `width` columns. Only what Loom says of a command is cut to them.
    pub(super) fn text(&self, width: usize) -> Text {
        let style = if self.meaning == Meaning::Counts { Style::Bad } else { Style::Warning };
        let mut text = word(style, "failed ", &self.first_line());
        for more in self.why.lines().skip(1) {
            quote(&mut text, more.as_bytes());
        }
        if let Some(step) = &self.step {
            if let Some(place) = step.place() {
                text.push(&format!("\n  {place}"));
            }
            text.push("\n  ");
            text.styled(Style::Dim, "$");
            text.push(&format!(" {}", step.command(width.saturating_sub(4))));
        }
        match self.said.as_deref() {
            None => {}
            Some([]) => {
                text.push("\n  ");
                text.styled(Style::Dim, "no output");
            }
            Some(lines) => {
                for line in lines {
                    quote(&mut text, &line.bytes);
                    text.styled(Style::Dim, if line.is_cut { " …" } else { "" });
                }
            }
        }
        if let Some(hint) = &self.hint {
            text.push(&format!("\n  hint: {hint}"));
        }
        text.push(&format!("\n  see {}", on_one_line(&self.see)));
        text
    }

    fn first_line(&self) -> String {
        let Self { job_id, why, .. } = self;
        let attempt = self.attempt.map(|(number, of)| format!("attempt {number} of {of}: "));
        let note = match self.meaning {
            Meaning::Counts => "",
            Meaning::AllowedToFail => " (allowed to fail)",
            Meaning::Retried => "; trying again",
        };
        let why = why.lines().next().unwrap_or_default();
        format!("{job_id} ({}): {}{why}{note}", duration(self.duration_ms), attempt.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "unit";

    fn failed<'a>(job_id: &'a JobId, said: &[&str]) -> FailedJob<'a> {
        let source = SourceLine { file: ".loom/workflow.yml".to_owned(), line: 14 };
        let said = said.iter().map(|line| Said { bytes: line.as_bytes().to_vec(), is_cut: false });
        FailedJob {
            job_id,
            duration_ms: 319,
            why: "exit code 101".to_owned(),
            attempt: None,
            meaning: Meaning::Counts,
            step: Some(FailedStep {
                number: 2,
                of: 3,
                command: "cargo test".to_owned(),
                source: Some(source),
            }),
            said: Some(said.collect()),
            hint: None,
            see: "/app/.loom/.runtime/logs/x/events.jsonl".to_owned(),
        }
    }

    #[test]
    fn a_failed_step_is_told_with_its_command_and_its_line() {
        let id = JobId::new(UNIT).unwrap();
        let block = failed(&id, &["running 2 tests", "\x1b[31merror\x1b[0m: no"]);
        assert_eq!(
            block.text(80).render(false),
            "failed  unit (319ms): exit code 101\n  step 2 of 3, .loom/workflow.yml:14\n  $ cargo test\n  \
             | running 2 tests\n  | error: no\n  see /app/.loom/.runtime/logs/x/events.jsonl"
        );
        assert!(block.text(80).render(true).starts_with("\x1b[1m\x1b[31mfailed \x1b[0m unit"));
    }

    #[test]
    fn what_is_not_known_takes_no_line() {
        let id = JobId::new(UNIT).unwrap();
        let mut block = failed(&id, &[]);
        block.meaning = Meaning::AllowedToFail;
        block.attempt = Some((2, 3));
        block.hint = Some("do it".to_owned());
        assert_eq!(
            block.text(80).render(false),
            "failed  unit (319ms): attempt 2 of 3: exit code 101 (allowed to fail)\n  \
             step 2 of 3, .loom/workflow.yml:14\n  $ cargo test\n  no output\n  hint: do it\n  \
             see /app/.loom/.runtime/logs/x/events.jsonl"
        );
        assert!(block.text(80).render(true).starts_with("\x1b[1m\x1b[33mfailed"));
        block.meaning = Meaning::Retried;
        (block.step, block.said, block.hint) = (None, None, None);
        block.why = "SPAWN_FAILED: cannot start\nmore\n".to_owned();
        assert_eq!(
            block.text(80).render(false),
            "failed  unit (319ms): attempt 2 of 3: SPAWN_FAILED: cannot start; trying again\n  | more\n  \
             see /app/.loom/.runtime/logs/x/events.jsonl"
        );
    }

    #[test]
    fn a_command_is_its_first_line_and_fits() {
        let shown = |command: &str, width| {
            let command = command.to_owned();
            FailedStep { number: 1, of: 1, command, source: None }.command(width)
        };
        assert_eq!(shown("make", 36), "make");
        assert_eq!(shown("make --keep-going all the tests there are", 20), "make --keep-going a…");
        assert_eq!(shown("\n# says why\n  make x\nmake y", 36), "make x …");
        assert_eq!(shown("# only", 36), "# only");
        assert_eq!(shown("cargo test --workspace\nx", 12), "cargo test …");
        assert_eq!(shown("a\x1b[2Jb", 36), "a^[[2Jb");
    }
}

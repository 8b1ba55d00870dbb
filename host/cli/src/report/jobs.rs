//! The jobs of a run: what is planned, how they have ended so far, and what that comes to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use loom_contract::event::PlannedJob;
use loom_contract::id::{JobId, StepIndex};
use loom_contract::status::SkipReason;

use super::line::duration;
use crate::text::{Style, Text};

/// Failed jobs that are named at the end, at most.
const MOST_NAMED: usize = 20;

/// The jobs of a run.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    planned: Arc<[PlannedJob]>,
    places: HashMap<JobId, usize>,
    /// By place, in the order of the plan.
    ended: BTreeMap<usize, Ended>,
    /// Those that failed and were not allowed to, in time.
    failed: Vec<usize>,
}

#[derive(Debug)]
struct Ended {
    end: End,
    /// The failed jobs that keep it from running; of a job that never ran.
    blocked_by: Vec<usize>,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Passed,
    Failed {
        /// The step that failed, where one did.
        step: Option<StepIndex>,
        /// How often it was tried.
        attempts: u32,
    },
    AllowedToFail,
    Skipped(Option<SkipReason>),
    Cancelled,
}

impl Jobs {
    /// These are the jobs. Said again, it only names them differently.
    pub(super) fn plan(&mut self, planned: &Arc<[PlannedJob]>) {
        if self.places.len() != planned.len() {
            self.places = planned.iter().zip(0..).map(|(job, place)| (job.job_id.clone(), place)).collect();
        }
        self.planned = Arc::clone(planned);
    }

    pub(super) fn get(&self, job_id: &JobId) -> Option<&PlannedJob> {
        self.planned.get(*self.places.get(job_id)?)
    }

    /// `job_id` has ended.
    pub(super) fn ended(&mut self, job_id: &JobId, end: End) {
        let Some(&place) = self.places.get(job_id) else { return };
        let blocked_by = match end {
            End::Skipped(Some(SkipReason::UpstreamFailed | SkipReason::UpstreamSkipped)) => {
                self.find_blockers(place)
            }
            End::Failed { .. } => {
                self.failed.push(place);
                Vec::new()
            }
            _ => Vec::new(),
        };
        self.ended.insert(place, Ended { end, blocked_by });
    }

    /// Of a job that was skipped, the jobs whose failure did that.
    pub(super) fn blocked_by(&self, job_id: &JobId) -> Vec<&str> {
        let ended = self.places.get(job_id).and_then(|place| self.ended.get(place));
        let places = ended.map_or(&[][..], |ended| &ended.blocked_by);
        places.iter().filter_map(|place| Some(self.planned.get(*place)?.job_id.as_str())).collect()
    }

    /// The failed jobs that it needs, be it by way of others; else those of earlier stages; else the first one, after which
    /// nothing was started any more.
    fn find_blockers(&self, place: usize) -> Vec<usize> {
        let Some(job) = self.planned.get(place) else { return Vec::new() };
        let mut blockers = Vec::new();
        for need in job.needs.iter().filter_map(|need| self.places.get(need)) {
            match self.ended.get(need) {
                Some(Ended { end: End::Failed { .. }, .. }) => blockers.push(*need),
                Some(Ended { blocked_by, .. }) => blockers.extend(blocked_by),
                None => {}
            }
        }
        blockers.sort_unstable();
        blockers.dedup();
        if blockers.is_empty() {
            // The plan is in the order of the stages.
            let is_earlier = |at: &&usize| {
                **at < place && self.planned.get(**at).is_some_and(|other| other.stage != job.stage)
            };
            blockers = self.failed.iter().filter(is_earlier).copied().collect();
        }
        if blockers.is_empty() {
            blockers.extend(self.failed.first());
        }
        blockers
    }

    /// `11 jobs in 5.1s: 5 passed, 4 failed, 1 allowed to fail, 1 skipped`, and which of them failed. Nothing of a run that has
    /// not come to its jobs.
    pub(super) fn totals(&self, duration_ms: u64) -> Text {
        let mut text = Text::default();
        let count = |matches: fn(&End) -> bool| self.ended.values().filter(|job| matches(&job.end)).count();
        let counts = [
            (count(|end| *end == End::Passed), "passed", Style::Good),
            (count(|end| matches!(end, End::Failed { .. })), "failed", Style::Bad),
            (count(|end| *end == End::AllowedToFail), "allowed to fail", Style::Warning),
            (count(|end| *end == End::Cancelled), "cancelled", Style::Bad),
            (count(|end| *end == End::Skipped(Some(SkipReason::Reused))), "reused", Style::Dim),
            (
                count(|end| {
                    let left_out = [Some(SkipReason::NotSelected), Some(SkipReason::Reused)];
                    matches!(end, End::Skipped(why) if !left_out.contains(why))
                }),
                "skipped",
                Style::Dim,
            ),
        ];
        let all: usize = counts.iter().map(|(count, ..)| count).sum();
        if all == 0 {
            return text;
        }
        let jobs = if all == 1 { "job" } else { "jobs" };
        text.push(&format!("{all} {jobs} in {}: ", duration(duration_ms)));
        for (at, (count, word, style)) in counts.into_iter().filter(|(count, ..)| *count > 0).enumerate() {
            text.push(if at > 0 { ", " } else { "" });
            text.styled(style, &format!("{count} {word}"));
        }
        text.push("\n");
        if !self.failed.is_empty() {
            text.styled(Style::Bad, "failed:");
            let named = self.failed.iter().take(MOST_NAMED);
            let names: Vec<String> = named.filter_map(|place| self.named(*place)).collect();
            let more = self.failed.len().saturating_sub(MOST_NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            text.push(&format!(" {}{more}\n", names.join(", ")));
        }
        text
    }

    /// `unit (step 2 of 3)`.
    fn named(&self, place: usize) -> Option<String> {
        let job = self.planned.get(place)?;
        let End::Failed { step, attempts } = self.ended.get(&place)?.end else { return None };
        let steps = job.commands.len();
        let step = step.filter(|_| steps > 1).map(|step| format!("step {} of {steps}", step.number()));
        let attempts = (attempts > 1).then(|| format!("{attempts} attempts"));
        let notes: Vec<String> = step.into_iter().chain(attempts).collect();
        Some(match notes.is_empty() {
            true => job.job_id.to_string(),
            false => format!("{} ({})", job.job_id, notes.join(", ")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> JobId {
        JobId::new(name).unwrap()
    }

    /// Jobs with `stage`, needs, and the number of their steps.
    fn jobs(list: &[(&str, &str, &[&str], usize)]) -> Jobs {
        let planned = list.iter().map(|(name, stage, needs, steps)| PlannedJob {
            job_id: id(name),
            stage: (*stage).to_owned(),
            provider: "host".to_owned(),
            commands: vec!["true".to_owned(); *steps],
            sources: Vec::new(),
            needs: needs.iter().map(|need| id(need)).collect(),
            attempts: 1,
            workspace: Default::default(),
            allow_failure: false,
            matrix: Default::default(),
            definition: None,
        });
        let mut jobs = Jobs::default();
        jobs.plan(&planned.collect());
        jobs
    }

    const FAILED: End = End::Failed { step: None, attempts: 1 };
    const BLOCKED: End = End::Skipped(Some(SkipReason::UpstreamFailed));

    #[test]
    fn who_blocks_whom_is_found_through_needs_and_stages() {
        let mut jobs = jobs(&[
            ("a", "one", &[], 1),
            ("b", "one", &[], 1),
            ("waits", "one", &["a"], 1),
            ("far", "one", &["waits"], 1),
            ("idle", "one", &[], 1),
            ("next", "two", &[], 1),
        ]);
        jobs.ended(&id("b"), FAILED);
        jobs.ended(&id("a"), FAILED);
        jobs.ended(&id("waits"), BLOCKED);
        jobs.ended(&id("far"), End::Skipped(Some(SkipReason::UpstreamSkipped)));
        // Nothing is started after the first failure.
        jobs.ended(&id("idle"), BLOCKED);
        jobs.ended(&id("next"), BLOCKED);
        let blocked_by = |name| jobs.blocked_by(&id(name));
        assert_eq!(blocked_by("waits"), ["a"]);
        assert_eq!(blocked_by("far"), ["a"]);
        assert_eq!(blocked_by("idle"), ["b"]);
        assert_eq!(blocked_by("next"), ["b", "a"]);
        assert!(blocked_by("a").is_empty());
    }

    #[test]
    fn a_run_is_added_up() {
        let mut jobs = jobs(&[
            ("unit", "one", &[], 3),
            ("flaky", "one", &[], 1),
            ("both", "one", &[], 2),
            ("lint", "one", &[], 1),
            ("other", "one", &[], 1),
            ("fine", "one", &[], 1),
        ]);
        assert_eq!(jobs.totals(12).render(false), "");
        jobs.ended(&id("fine"), End::Passed);
        assert_eq!(jobs.totals(12).render(false), "1 job in 12ms: 1 passed\n");
        jobs.ended(&id("unit"), End::Failed { step: Some(StepIndex::at(1)), attempts: 1 });
        jobs.ended(&id("flaky"), End::Failed { step: Some(StepIndex::at(0)), attempts: 3 });
        jobs.ended(&id("both"), End::Failed { step: Some(StepIndex::at(1)), attempts: 2 });
        jobs.ended(&id("lint"), End::AllowedToFail);
        jobs.ended(&id("other"), End::Skipped(Some(SkipReason::NotSelected)));
        assert_eq!(
            jobs.totals(5_130).render(false),
            "5 jobs in 5.1s: 1 passed, 3 failed, 1 allowed to fail\n\
             failed: unit (step 2 of 3), flaky (3 attempts), both (step 2 of 2, 2 attempts)\n"
        );
    }
}

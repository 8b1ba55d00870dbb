//! Who may start, and who never will: a state machine without a clock, a thread or a file.
//!
//! Two conditions gate a job, and both hold: every job of every earlier stage is over, and so are all its needs. A job
//! that failed blocks those that need it and all later stages; what it blocks is skipped with a reason. Jobs start in
//! stage order, then in the order of the file.

use std::collections::BTreeSet;

use loom_contract::status::SkipReason;

/// What the schedule knows of a job.
#[derive(Debug, Clone)]
pub struct JobShape {
    /// The position of its stage.
    pub stage: usize,
    /// The positions of the jobs that it needs, each before the end of the list.
    pub needs: Vec<usize>,
    /// Whether it is to run at all. One that is not holds up nothing.
    pub selected: bool,
}

/// What is to happen to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It starts now.
    Start(usize),
    /// It will never run.
    Skip(usize, SkipReason),
}

/// How a job that was started came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Others may go on.
    Passed,
    /// It blocks what comes after it.
    Blocks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Needs or stages are not over.
    Waiting,
    /// It may start.
    Ready,
    Running,
    Passed,
    Failed,
    Skipped,
}

/// The state of all jobs of a run.
#[derive(Debug)]
pub struct Schedule {
    shapes: Vec<JobShape>,
    states: Vec<State>,
    /// Jobs that need the job at this position.
    dependents: Vec<Vec<usize>>,
    /// Needs of the job at this position that are not over.
    open_needs: Vec<usize>,
    /// Jobs by stage, and how many of them are not over.
    stages: Vec<(Vec<usize>, usize)>,
    /// The stage that runs.
    stage: usize,
    ready: BTreeSet<usize>,
    running: usize,
    /// Jobs that are not over.
    open: usize,
    /// What to do at the next call: jobs that became blocked.
    skips: Vec<(usize, SkipReason)>,
    blocked: bool,
    cancelled: bool,
}

impl Schedule {
    /// A schedule of jobs listed in stage order. Needs must point to jobs of the same or an earlier stage, without a
    /// cycle.
    pub fn new(shapes: Vec<JobShape>) -> Self {
        let count = shapes.iter().map(|s| s.stage + 1).max().unwrap_or(0);
        let mut stages = vec![(Vec::new(), 0); count];
        let mut dependents = vec![Vec::new(); shapes.len()];
        for (job, shape) in shapes.iter().enumerate() {
            stages[shape.stage].0.push(job);
            stages[shape.stage].1 += 1;
            for need in &shape.needs {
                dependents[*need].push(job);
            }
        }
        let mut schedule = Self {
            states: vec![State::Waiting; shapes.len()],
            open_needs: shapes.iter().map(|s| s.needs.len()).collect(),
            shapes,
            dependents,
            stages,
            stage: 0,
            ready: BTreeSet::new(),
            running: 0,
            open: 0,
            skips: Vec::new(),
            blocked: false,
            cancelled: false,
        };
        schedule.open = schedule.shapes.len();
        schedule.open_stage();
        for job in 0..schedule.shapes.len() {
            if !schedule.shapes[job].selected {
                schedule.ready.remove(&job);
                schedule.skips.push((job, SkipReason::NotSelected));
                schedule.close(job, State::Passed);
            }
        }
        schedule
    }

    /// What to do now, with at most `slots` jobs running at once.
    pub fn decide(&mut self, slots: usize) -> Vec<Decision> {
        let mut decisions: Vec<_> = std::mem::take(&mut self.skips)
            .into_iter()
            .map(|(job, reason)| Decision::Skip(job, reason))
            .collect();
        while self.running < slots
            && let Some(job) = self.ready.pop_first()
        {
            self.states[job] = State::Running;
            self.running += 1;
            decisions.push(Decision::Start(job));
        }
        decisions
    }

    /// The job at `job`, which was started, is over.
    pub fn finished(&mut self, job: usize, verdict: Verdict) {
        self.running -= 1;
        match verdict {
            Verdict::Passed => self.close(job, State::Passed),
            Verdict::Blocks => {
                self.blocked = true;
                self.close(job, State::Failed);
            }
        }
    }

    /// Nothing starts any more, because the run is cancelled.
    pub fn cancel(&mut self) {
        if !self.cancelled {
            self.cancelled = true;
            self.skip_waiting(0, SkipReason::Cancelled);
        }
    }

    /// Nothing starts any more, because a job failed and the first failure is enough.
    pub fn stop(&mut self) {
        self.skip_waiting(0, SkipReason::UpstreamFailed);
    }

    /// Whether every job is over, and told so.
    pub fn is_done(&self) -> bool {
        self.open == 0 && self.skips.is_empty()
    }

    fn close(&mut self, job: usize, state: State) {
        // Skips cascade: worked off a list, since a chain of needs may be long.
        let mut closed = vec![(job, state)];
        while let Some((job, state)) = closed.pop() {
            self.states[job] = state;
            self.stages[self.shapes[job].stage].1 -= 1;
            self.open -= 1;
            for dependent in std::mem::take(&mut self.dependents[job]) {
                self.open_needs[dependent] -= 1;
                if self.states[dependent] != State::Waiting {
                    continue;
                }
                let reason = match state {
                    State::Failed => Some(SkipReason::UpstreamFailed),
                    State::Skipped if self.cancelled => Some(SkipReason::Cancelled),
                    State::Skipped => Some(SkipReason::UpstreamSkipped),
                    _ => None,
                };
                if let Some(reason) = reason {
                    self.skips.push((dependent, reason));
                    closed.push((dependent, State::Skipped));
                    self.states[dependent] = State::Skipped;
                } else {
                    self.offer(dependent);
                }
            }
        }
        while self.stages.get(self.stage).is_some_and(|(_, open)| *open == 0) {
            self.stage += 1;
            if self.blocked {
                self.skip_waiting(self.stage, SkipReason::UpstreamFailed);
            } else {
                self.open_stage();
            }
        }
    }

    /// Every job of this and later stages that has not started is skipped.
    fn skip_waiting(&mut self, from_stage: usize, reason: SkipReason) {
        self.ready.clear();
        let waiting: Vec<_> = (0..self.shapes.len())
            .filter(|job| {
                self.shapes[*job].stage >= from_stage
                    && matches!(self.states[*job], State::Waiting | State::Ready)
            })
            .collect();
        for job in waiting {
            self.states[job] = State::Skipped;
            self.stages[self.shapes[job].stage].1 -= 1;
            self.open -= 1;
            self.skips.push((job, reason));
        }
    }

    fn open_stage(&mut self) {
        // Stages without jobs are passed over.
        while self.stages.get(self.stage).is_some_and(|(jobs, _)| jobs.is_empty()) {
            self.stage += 1;
        }
        if let Some((jobs, _)) = self.stages.get(self.stage) {
            for job in jobs.clone() {
                self.offer(job);
            }
        }
    }

    fn offer(&mut self, job: usize) {
        if self.shapes[job].selected
            && self.states[job] == State::Waiting
            && self.shapes[job].stage <= self.stage
            && self.open_needs[job] == 0
        {
            self.states[job] = State::Ready;
            self.ready.insert(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(stage: usize, needs: &[usize]) -> JobShape {
        JobShape { stage, needs: needs.to_vec(), selected: true }
    }

    use Decision::{Skip, Start};
    use SkipReason::{Cancelled, UpstreamFailed, UpstreamSkipped};
    use Verdict::{Blocks, Passed};

    #[test]
    fn a_need_is_met_while_an_unrelated_job_runs() {
        let mut s = Schedule::new(vec![shape(0, &[]), shape(0, &[]), shape(0, &[0])]);
        assert_eq!(s.decide(8), [Start(0), Start(1)]);
        s.finished(0, Passed);
        assert_eq!(s.decide(8), [Start(2)]);
        s.finished(2, Passed);
        assert!(!s.is_done());
        s.finished(1, Passed);
        assert!(s.is_done());
    }

    #[test]
    fn stages_gate_also_what_needs_nothing() {
        let mut s = Schedule::new(vec![shape(0, &[]), shape(2, &[])]);
        assert_eq!(s.decide(8), [Start(0)]);
        s.finished(0, Passed);
        assert_eq!(s.decide(8), [Start(1)]);
    }

    #[test]
    fn a_failure_blocks_dependents_and_later_stages_but_not_siblings() {
        let mut s = Schedule::new(vec![
            shape(0, &[]),
            shape(0, &[]),
            shape(0, &[0]),
            shape(0, &[2]),
            shape(1, &[]),
            shape(1, &[1]),
        ]);
        assert_eq!(s.decide(1), [Start(0)]);
        s.finished(0, Blocks);
        assert_eq!(s.decide(1), [Skip(2, UpstreamFailed), Skip(3, UpstreamSkipped), Start(1)]);
        s.finished(1, Passed);
        assert_eq!(s.decide(1), [Skip(4, UpstreamFailed), Skip(5, UpstreamFailed)]);
        assert!(s.is_done());
    }

    #[test]
    fn nothing_starts_after_a_cancel() {
        let mut s = Schedule::new(vec![shape(0, &[]), shape(0, &[]), shape(1, &[0])]);
        assert_eq!(s.decide(1), [Start(0)]);
        s.cancel();
        assert_eq!(s.decide(1), [Skip(1, Cancelled), Skip(2, Cancelled)]);
        s.finished(0, Blocks);
        assert_eq!(s.decide(1), []);
        assert!(s.is_done());
    }

    #[test]
    fn a_job_that_ends_well_after_a_cancel_opens_nothing() {
        let mut s = Schedule::new(vec![shape(0, &[]), shape(0, &[0]), shape(1, &[])]);
        assert_eq!(s.decide(1), [Start(0)]);
        s.cancel();
        assert_eq!(s.decide(1), [Skip(1, Cancelled), Skip(2, Cancelled)]);
        s.finished(0, Passed);
        assert_eq!(s.decide(1), []);
        assert!(s.is_done());
    }

    #[test]
    fn what_is_not_selected_is_skipped_and_holds_up_nothing() {
        let mut s =
            Schedule::new(vec![shape(0, &[]), JobShape { selected: false, ..shape(0, &[]) }, shape(1, &[0])]);
        assert_eq!(s.decide(8), [Skip(1, SkipReason::NotSelected), Start(0)]);
        s.finished(0, Passed);
        assert_eq!(s.decide(8), [Start(2)]);
        let unselected = || JobShape { selected: false, ..shape(0, &[]) };
        let mut s = Schedule::new(vec![unselected(), unselected(), shape(1, &[])]);
        let skip = |job| Skip(job, SkipReason::NotSelected);
        assert_eq!(s.decide(8), [skip(0), skip(1), Start(2)]);
    }

    #[test]
    fn a_first_failure_that_is_enough_stops_eligible_siblings() {
        let mut s = Schedule::new(vec![shape(0, &[]), shape(0, &[]), shape(0, &[])]);
        assert_eq!(s.decide(2), [Start(0), Start(1)]);
        s.finished(0, Blocks);
        s.stop();
        assert_eq!(s.decide(2), [Skip(2, UpstreamFailed)]);
        assert!(!s.is_done());
        s.finished(1, Passed);
        assert!(s.is_done());
    }

    #[test]
    fn slots_bound_what_runs_and_order_is_the_files() {
        let mut s = Schedule::new((0..5).map(|_| shape(0, &[])).collect());
        assert_eq!(s.decide(2), [Start(0), Start(1)]);
        assert_eq!(s.decide(2), []);
        s.finished(1, Passed);
        assert_eq!(s.decide(2), [Start(2)]);
    }

    fn any_graph() -> impl Strategy<Value = Vec<JobShape>> {
        prop::collection::vec((0usize..4, prop::collection::vec(any::<prop::sample::Index>(), 0..4)), 1..30)
            .prop_map(|jobs| {
                let mut stages: Vec<_> = jobs.iter().map(|j| j.0).collect();
                stages.sort_unstable();
                jobs.iter()
                    .enumerate()
                    .map(|(at, (_, needs))| {
                        let mut needs: Vec<_> =
                            if at == 0 { Vec::new() } else { needs.iter().map(|n| n.index(at)).collect() };
                        needs.sort_unstable();
                        needs.dedup();
                        JobShape { stage: stages[at], needs, selected: true }
                    })
                    .collect()
            })
    }

    /// What ends a run early.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum End {
        Cancel,
        Stop,
    }

    proptest! {
        /// Whatever finishes in whatever order: each job starts or is skipped exactly once, nothing starts before its
        /// needs and stages, and who runs does not depend on the order.
        #[test]
        fn every_job_is_told_once(
            shapes in any_graph(), fails in prop::collection::vec(any::<bool>(), 30),
            order in prop::collection::vec(any::<prop::sample::Index>(), 60), slots in 1usize..4,
        ) {
            let mut s = Schedule::new(shapes.clone());
            let mut told = vec![None; shapes.len()];
            let mut over = vec![false; shapes.len()];
            let mut running = Vec::new();
            let mut order = order.into_iter();
            while !s.is_done() {
                for decision in s.decide(slots) {
                    let (Start(job) | Skip(job, _)) = decision;
                    prop_assert!(told[job].replace(decision).is_none());
                    match decision {
                        Start(_) => {
                            for need in &shapes[job].needs {
                                prop_assert!(over[*need] && !fails[*need] && matches!(told[*need], Some(Start(_))));
                            }
                            for (other, shape) in shapes.iter().enumerate() {
                                prop_assert!(shape.stage >= shapes[job].stage || (over[other] && !(fails[other] && matches!(told[other], Some(Start(_))))));
                            }
                            running.push(job);
                        }
                        Skip(..) => over[job] = true,
                    }
                }
                prop_assert!(running.len() <= slots);
                if !running.is_empty() {
                    let job = running.swap_remove(order.next().map_or(0, |i| i.index(running.len())));
                    over[job] = true;
                    s.finished(job, if fails[job] { Blocks } else { Passed });
                } else {
                    prop_assert!(s.is_done());
                }
            }
            prop_assert!(told.iter().all(Option::is_some));
        }

        /// With a selection, and a cancel or stop at any time: each job is told once, what is not selected never starts,
        /// and nothing starts after the end.
        #[test]
        fn nothing_starts_after_the_end_or_without_being_selected(
            shapes in any_graph(), selected in prop::collection::vec(any::<bool>(), 30),
            fails in prop::collection::vec(any::<bool>(), 30), slots in 1usize..4, when in 0usize..10,
            end in prop::sample::select(vec![End::Cancel, End::Stop]),
        ) {
            let mut shapes = shapes;
            shapes.iter_mut().zip(&selected).for_each(|(shape, selected)| shape.selected = *selected);
            let mut s = Schedule::new(shapes.clone());
            let mut told = vec![false; shapes.len()];
            let mut running = std::collections::VecDeque::new();
            let mut finished = 0;
            let mut ended = false;
            while !s.is_done() {
                if finished >= when && !ended {
                    match end {
                        End::Cancel => s.cancel(),
                        End::Stop => s.stop(),
                    }
                    ended = true;
                }
                for decision in s.decide(slots) {
                    let (Start(job) | Skip(job, _)) = decision;
                    prop_assert!(!std::mem::replace(&mut told[job], true));
                    if let Start(_) = decision {
                        prop_assert!(shapes[job].selected && !ended);
                        running.push_back(job);
                    }
                }
                match running.pop_front() {
                    Some(job) => s.finished(job, if fails[job] { Blocks } else { Passed }),
                    None => prop_assert!(s.is_done()),
                }
                finished += 1;
            }
            for decision in s.decide(slots) {
                let (Start(job) | Skip(job, _)) = decision;
                prop_assert!(matches!(decision, Skip(..)) && !std::mem::replace(&mut told[job], true));
            }
            prop_assert!(told.iter().all(|told| *told));
        }
    }
}

//! What a choice of jobs needs.

use super::Plan;

impl Plan {
    /// Adds to `chosen`, a flag for each job, what the chosen jobs need: their needs and the needs of these or, for a job
    /// that names none, all jobs of earlier stages, after which the stages promise it to run. What is `done` is not added,
    /// nor what only that needs.
    pub fn add_needed(&self, chosen: &mut [bool], done: impl Fn(usize) -> bool) {
        let mut open: Vec<usize> = (0..chosen.len()).filter(|at| chosen.get(*at) == Some(&true)).collect();
        // The jobs before this place are all chosen, or on their way: they stand in the order of their stages.
        let mut whole = 0;
        while let Some(at) = open.pop() {
            let Some(job) = self.jobs.get(at) else { continue };
            let (from, to) = match job.needs_stages {
                true => (whole, self.jobs.partition_point(|earlier| earlier.stage < job.stage)),
                false => (0, 0),
            };
            whole = whole.max(to);
            for needed in job.needs.iter().copied().chain(from..to) {
                if let Some(chosen) = chosen.get_mut(needed)
                    && !*chosen
                    && !done(needed)
                {
                    *chosen = true;
                    open.push(needed);
                }
            }
        }
    }
}

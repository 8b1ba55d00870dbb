//! How long a call into a guest takes, apart from what it waits for on behalf of the job.
//!
//! A step's process, an image that is pulled, a cache that is restored take the time that they take: that is the job's, whose
//! `timeout` the workflow has. All other time is the plugin's own, and bounded whatever the workflow says.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The time of one call.
#[derive(Debug)]
pub(crate) struct Wall(watch::Sender<Times>);

#[derive(Debug, Clone, Copy)]
struct Times {
    started: Instant,
    /// What is over of the job's time.
    of_job: Duration,
    /// Since when the job's time runs.
    since: Option<Instant>,
}

/// The job's time runs until this is dropped.
#[derive(Debug)]
pub(crate) struct OfJob<'w>(&'w Wall);

impl Wall {
    pub(crate) fn new() -> Self {
        let times = Times { started: Instant::now(), of_job: Duration::ZERO, since: None };
        Self(watch::Sender::new(times))
    }

    /// Begins anew.
    pub(crate) fn restart(&self) {
        self.0.send_replace(Times { started: Instant::now(), of_job: Duration::ZERO, since: None });
    }

    /// What is waited for from now on is the job's.
    pub(crate) fn of_job(&self) -> OfJob<'_> {
        self.0.send_modify(|times| times.since = Some(Instant::now()));
        OfJob(self)
    }

    /// Waits until the plugin has taken `limit` of its own time.
    pub(crate) async fn used_up(&self, limit: Duration) {
        let mut times = self.0.subscribe();
        loop {
            let Times { started, of_job, since } = *times.borrow_and_update();
            let left = (limit + of_job).saturating_sub(started.elapsed());
            if since.is_none() && left.is_zero() {
                return;
            }
            tokio::select! {
                // It cannot be gone: this borrows it.
                _ = times.changed() => {}
                () = tokio::time::sleep(left), if since.is_none() => {}
            }
        }
    }
}

impl Drop for OfJob<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|times| {
            let since = times.since.take();
            times.of_job += since.map(|since| since.elapsed()).unwrap_or_default();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_jobs_time_does_not_count() {
        let wall = Wall::new();
        let second = Duration::from_secs(1);
        let works = async {
            tokio::time::sleep(2 * second).await;
            let of_job = wall.of_job();
            tokio::time::sleep(1000 * second).await;
            drop(of_job);
            tokio::time::sleep(1000 * second).await;
        };
        let started = Instant::now();
        tokio::select! {
            () = wall.used_up(5 * second) => {}
            () = works => {}
        }
        assert_eq!(started.elapsed().as_secs(), 1005);
        wall.restart();
        wall.used_up(5 * second).await;
        assert_eq!(started.elapsed().as_secs(), 1010);
    }
}

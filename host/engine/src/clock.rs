//! The run's clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use loom_contract::time::Timestamp;

/// Wall-clock time that never runs backwards: the time at which it was made, plus what a monotonic clock counted since.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: u64,
    since: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        Self { start: u64::try_from(start).unwrap_or(u64::MAX), since: Instant::now() }
    }

    /// The time at which the clock was made.
    pub fn started_at(&self) -> Timestamp {
        Timestamp::from_unix_nanos(self.start)
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Timestamp::from_unix_nanos(self.start.saturating_add(elapsed))
    }
}

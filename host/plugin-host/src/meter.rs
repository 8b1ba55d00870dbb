//! How much CPU time a guest uses.
//!
//! A guest runs only while its future is polled, on the thread that polls it. So that thread's CPU clock, read around each
//! poll, tells what the guest and the host's short functions for it used: neither waiting nor other processes count.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};

/// The CPU time of one call into a guest.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Nanoseconds of the polls that are over.
    used: AtomicU64,
    /// What the thread's clock said at the start of the poll that runs.
    poll_started: AtomicU64,
}

impl Meter {
    /// Awaits `call`, measuring it from zero.
    pub(crate) async fn measure<F: Future>(&self, call: F) -> F::Output {
        self.used.store(0, Ordering::Relaxed);
        let mut call = pin!(call);
        std::future::poll_fn(|context| {
            self.poll_started.store(thread_cpu(), Ordering::Relaxed);
            let polled = call.as_mut().poll(context);
            self.used.store(self.used_ns(), Ordering::Relaxed);
            polled
        })
        .await
    }

    /// Nanoseconds so far. To be asked from within a poll.
    pub(crate) fn used_ns(&self) -> u64 {
        let poll = thread_cpu().saturating_sub(self.poll_started.load(Ordering::Relaxed));
        self.used.load(Ordering::Relaxed).saturating_add(poll)
    }
}

fn thread_cpu() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

//! Phases as guards: one that was started always ends.

use std::time::Instant;

use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::{EventBody, Finish, Phase};
use loom_contract::status::SkipReason;

use crate::emit::Emitter;

/// A phase that has been started. Dropped without [`PhaseGuard::finish`] it ends as failed.
#[derive(Debug)]
pub(crate) struct PhaseGuard {
    emitter: Emitter,
    phase: Option<Phase>,
    since: Instant,
}

impl PhaseGuard {
    /// Starts `phase`.
    pub(crate) fn start(emitter: &Emitter, phase: Phase) -> Self {
        emitter.emit(EventBody::PhaseStart(phase.clone()));
        Self { emitter: emitter.clone(), phase: Some(phase), since: Instant::now() }
    }

    /// Ends it; its duration is filled in.
    pub(crate) fn finish(mut self, finish: Finish) {
        self.close(finish);
    }

    /// Starts and ends `phase` without doing it.
    pub(crate) fn skip(emitter: &Emitter, phase: Phase, reason: SkipReason) {
        Self::start(emitter, phase).finish(Finish::skipped(reason));
    }

    fn close(&mut self, finish: Finish) {
        if let Some(phase) = self.phase.take() {
            let duration_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.emitter.emit(EventBody::PhaseFinish(phase, Finish { duration_ms, ..finish }));
        }
    }
}

impl Drop for PhaseGuard {
    fn drop(&mut self) {
        self.close(Finish::failed(ErrorInfo::new(
            code::INTERNAL,
            "the phase was abandoned; this is a bug in Loom",
        )));
    }
}

//! The way of events from jobs to the dispatcher, which alone hands them on.

use std::sync::Arc;

use loom_contract::event::{Event, EventBody, Level, Message, Output, Phase};
use parking_lot::{Condvar, Mutex};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::redact::Redactor;

/// Bytes of output that may be on their way at once. Whoever writes more waits, so that a slow disk slows the run
/// instead of growing memory.
const OUTPUT_BUDGET: usize = 8 * 1024 * 1024;

/// An event that is not masked, and what it holds of the output budget.
pub(crate) struct Envelope {
    pub(crate) event: Event,
    _permit: Option<Permit>,
}

/// A handle that stamps events and sends them to the dispatcher.
#[derive(Clone)]
pub(crate) struct Emitter {
    sender: mpsc::UnboundedSender<Envelope>,
    clock: Clock,
    budget: Arc<Budget>,
    redactor: Redactor,
}

impl std::fmt::Debug for Emitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emitter").finish_non_exhaustive()
    }
}

/// A new way of events, timed by `clock`; `redactor` masks what processes write.
pub(crate) fn channel(clock: Clock, redactor: Redactor) -> (Emitter, mpsc::UnboundedReceiver<Envelope>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Emitter { sender, clock, budget: Arc::default(), redactor }, receiver)
}

impl Emitter {
    /// The run's clock.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// What must not be seen.
    pub(crate) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Sends `body` as it is: the dispatcher masks it.
    pub(crate) fn emit(&self, body: EventBody) {
        // Fails only when the dispatcher is gone, and with it everyone who could read the event.
        let _ = self.sender.send(Envelope { event: Event { at: self.clock.now(), body }, _permit: None });
    }

    /// Says `message` in `phase`.
    pub(crate) fn message(
        &self,
        phase: Phase,
        level: Level,
        message: String,
        data: Option<Map<String, Value>>,
    ) {
        self.emit(EventBody::Message(phase, Message { level, message, data }));
    }

    /// Takes `bytes` from the output budget, waiting until they are free. Blocks the thread.
    pub(crate) fn reserve(&self, bytes: usize) -> Permit {
        self.budget.take(bytes);
        Permit { budget: Arc::clone(&self.budget), bytes }
    }

    /// Sends output, which was masked when it was read.
    pub(crate) fn output(&self, output: Output, permit: Permit) {
        let event = Event { at: self.clock.now(), body: EventBody::Output(output) };
        let _ = self.sender.send(Envelope { event, _permit: Some(permit) });
    }
}

#[derive(Default)]
struct Budget {
    used: Mutex<usize>,
    freed: Condvar,
}

impl Budget {
    fn take(&self, bytes: usize) {
        let mut used = self.used.lock();
        self.freed.wait_while(&mut used, |used| *used > 0 && *used + bytes > OUTPUT_BUDGET);
        *used += bytes;
    }
}

/// A share of the output budget, given back on drop.
pub(crate) struct Permit {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.budget.used.lock() -= self.bytes;
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    use super::*;

    fn permit(budget: &Arc<Budget>, bytes: usize) -> Permit {
        budget.take(bytes);
        Permit { budget: Arc::clone(budget), bytes }
    }

    #[test]
    fn output_waits_for_what_is_on_its_way_and_never_for_itself() {
        let budget = Arc::new(Budget::default());
        // More than the whole budget passes where nothing else is on its way.
        drop(permit(&budget, OUTPUT_BUDGET + 1));
        let first = permit(&budget, OUTPUT_BUDGET - 1);
        let second = permit(&budget, 1);
        let (says, hears) = channel();
        let waiting = Arc::clone(&budget);
        std::thread::spawn(move || {
            let third = permit(&waiting, 2);
            let _ = says.send(*waiting.used.lock());
            drop(third);
            let _ = says.send(*waiting.used.lock());
        });
        assert_eq!(hears.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
        drop(second);
        // One byte is free, and it needs two.
        assert_eq!(hears.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
        drop(first);
        let at_last = || hears.recv_timeout(Duration::from_secs(60));
        assert_eq!((at_last(), at_last()), (Ok(2), Ok(0)));
    }
}

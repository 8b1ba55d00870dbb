//! Cancellation: ask first, then kill.

use std::time::Duration;

use tokio::sync::watch;

/// How long a process has between SIGTERM and SIGKILL.
pub const GRACE: Duration = Duration::from_secs(10);

/// How urgently a run is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Urgency {
    /// It is not.
    #[default]
    None,
    /// No new work; running steps are asked to end and killed after [`GRACE`].
    Ask,
    /// Running steps are killed now.
    Kill,
}

/// The side that cancels.
#[derive(Debug, Clone)]
pub struct Canceller(watch::Sender<State>);

/// The side that is cancelled: by its own canceller, or by that of what it is part of.
#[derive(Debug, Clone)]
pub struct Cancel {
    own: watch::Receiver<State>,
    whole: Option<Box<Cancel>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    urgency: Urgency,
    signal: Option<i32>,
}

/// A pair of both.
pub fn channel() -> (Canceller, Cancel) {
    let (sender, receiver) = watch::channel(State::default());
    (Canceller(sender), Cancel { own: receiver, whole: None })
}

impl Canceller {
    /// Raises the urgency to `urgency`, because Loom got the signal `signal` where there was one. Urgency never sinks,
    /// and the first signal stays the reason.
    pub fn raise(&self, urgency: Urgency, signal: Option<i32>) {
        self.0.send_if_modified(|now| {
            let raised = urgency > now.urgency;
            if raised {
                now.urgency = urgency;
                now.signal = now.signal.or(signal);
            }
            raised
        });
    }

    /// The urgency now.
    pub fn urgency(&self) -> Urgency {
        self.0.borrow().urgency
    }
}

impl Cancel {
    /// A pair for a part of what this cancels: the part can be cancelled alone, and is whenever the whole is.
    pub fn part(&self) -> (Canceller, Self) {
        let (canceller, own) = channel();
        (canceller, Self { whole: Some(Box::new(self.clone())), ..own })
    }

    /// The urgency now.
    pub fn urgency(&self) -> Urgency {
        let whole = self.whole.as_ref().map_or(Urgency::None, |whole| whole.urgency());
        self.own.borrow().urgency.max(whole)
    }

    /// The signal that Loom got.
    pub fn signal(&self) -> Option<i32> {
        self.own.borrow().signal.or_else(|| self.whole.as_ref()?.signal())
    }

    /// Whether the work is to end.
    pub fn is_cancelled(&self) -> bool {
        self.urgency() > Urgency::None
    }

    /// Waits until the urgency is at least `urgency`; for ever where nobody can raise it any more.
    pub async fn reached(&mut self, urgency: Urgency) {
        let own = async {
            if self.own.wait_for(|now| now.urgency >= urgency).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        match &mut self.whole {
            Some(whole) => tokio::select! {
                () = own => {}
                () = Box::pin(whole.reached(urgency)) => {}
            },
            None => own.await,
        }
    }
}

//! The services of a job: their output is recorded, and so are their ends.
//!
//! One that was to be ready and is not fails the job. Any other end is reported once, whenever it came, when it is known
//! whether the service was to be ready.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{Chunk, Container, Follow, Signal, Status};

/// How long the last output of services may take to arrive.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(2);
/// Chunks of output that wait to be recorded.
const WAITING: usize = 16;

/// Records what becomes of one service.
pub trait ServiceRecorder: fmt::Debug + Send + Sync {
    /// Records its output, to the end. Called on a thread that may wait.
    fn output(&self, chunks: mpsc::Receiver<Chunk>);

    /// It has ended by itself. Called once, and not where that fails the job.
    fn ended(&self, end: &ServiceEnd);

    /// The job is over: the service ran until then, or had ended.
    fn summarize(&self, end: Option<&ServiceEnd>);
}

/// How a service has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEnd {
    /// The exit code of its first process; 128 + n where signal n ended it.
    pub exit_code: i64,
    /// It used up the memory that it may have.
    pub oom_killed: bool,
    /// The last lines of its output.
    pub log: Vec<String>,
}

/// The services of one job.
#[derive(Debug, Default)]
pub struct Services(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    list: Vec<Service>,
    /// They are up, as far as they were to be.
    are_up: bool,
    /// One in which a command was run in vain: it is to be ready, and is not yet.
    awaited: Option<Container>,
}

/// A service that was started.
#[derive(Debug)]
struct Service {
    container: Container,
    watch: Arc<Watch>,
    watcher: JoinHandle<()>,
}

/// What is to be reported of a service's end.
#[derive(Debug)]
struct Watch {
    recorder: Arc<dyn ServiceRecorder>,
    state: Mutex<WatchState>,
}

#[derive(Debug, Default)]
struct WatchState {
    /// It is known whether the service was to be ready.
    may_report: bool,
    /// Its end is nothing to be reported: it is ended, or fails the job.
    is_over: bool,
    end: Option<ServiceEnd>,
    is_reported: bool,
}

impl Services {
    /// Has `recorder` record what the service in `container` prints until its end, and how it ends.
    pub fn follow(&self, container: &Container, recorder: Arc<dyn ServiceRecorder>) {
        let mut inner = self.lock();
        let state = WatchState { may_report: inner.are_up, ..WatchState::default() };
        let watch = Arc::new(Watch { recorder: Arc::clone(&recorder), state: Mutex::new(state) });
        let (chunks, waiting) = mpsc::channel(WAITING);
        let writer = tokio::task::spawn_blocking(move || recorder.output(waiting));
        let (watched, own) = (Arc::clone(&watch), container.clone());
        let watcher = tokio::spawn(async move {
            let mut output = own.output(None, Follow::Yes);
            while let Ok(Some(chunk)) = output.next().await {
                if chunks.send(chunk).await.is_err() {
                    break;
                }
            }
            drop(chunks);
            // What it said stands before how it ended.
            let _ = writer.await;
            watched.see_end(&own).await;
        });
        inner.list.push(Service { container: container.clone(), watch, watcher });
    }

    /// A command is run in `container`: if that is a service, it is to be ready when the command succeeds.
    pub fn awaits(&self, container: &Container) {
        let mut inner = self.lock();
        if inner.list.iter().any(|service| service.container.id() == container.id()) {
            inner.awaited = Some(container.clone());
        }
    }

    /// The command succeeded.
    pub fn is_ready(&self, container: &Container) {
        let mut inner = self.lock();
        if inner.awaited.as_ref().is_some_and(|awaited| awaited.id() == container.id()) {
            inner.awaited = None;
        }
    }

    /// Whether `container` is to be ready by more than its health check, and is not yet.
    pub fn is_awaited(&self, container: &Container) -> bool {
        self.lock().awaited.as_ref().is_some_and(|awaited| awaited.id() == container.id())
    }

    /// They are up, as far as they were to be.
    pub fn are_up(&self) {
        let mut inner = self.lock();
        inner.are_up = !inner.list.is_empty();
        inner.list.iter().for_each(|service| service.watch.may_report());
    }

    /// The one that is to be ready by more than its health check, and is not yet.
    pub fn awaited(&self) -> Option<Container> {
        self.lock().awaited.clone()
    }

    /// Ends all of them before their time. The end of `failed` is reported by the caller.
    pub async fn kill(&self, failed: Option<&Container>) {
        let mut inner = std::mem::take(&mut *self.lock());
        inner.settle(failed).await;
        for service in &inner.list {
            // What cannot be killed is removed with the job.
            let _ = service.container.kill(Signal::Kill).await;
        }
        inner.await_output().await;
    }

    /// The job is over: what ended by itself is reported; nothing is from now on.
    pub async fn settle(&self) {
        let mut inner = std::mem::take(&mut *self.lock());
        inner.settle(None).await;
        *self.lock() = inner;
    }

    /// They were removed: what they have said is recorded, and that they have ended.
    pub async fn end(&self) {
        let mut inner = std::mem::take(&mut *self.lock());
        inner.await_output().await;
        if inner.are_up {
            inner.list.iter().for_each(|service| service.watch.summarize());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock()
    }
}

impl Inner {
    /// Sees to it that the ends of those that have ended by themselves are reported, but for that of `failed`, and that no
    /// other is from now on.
    async fn settle(&mut self, failed: Option<&Container>) {
        for service in &mut self.list {
            let has_failed = failed.is_some_and(|failed| failed.id() == service.container.id());
            if has_failed {
                service.watch.is_over();
                continue;
            }
            service.watch.may_report();
            let has_ended = service.container.state().await.is_ok_and(|state| state.status == Status::Ended);
            if has_ended && !service.watcher.is_finished() {
                // A daemon that is gone says nothing of an end.
                let _ = tokio::time::timeout(OUTPUT_TIMEOUT, &mut service.watcher).await;
            }
            service.watch.is_over();
        }
    }

    /// Their containers have ended.
    async fn await_output(&mut self) {
        for service in &mut self.list {
            if !service.watcher.is_finished()
                && tokio::time::timeout(OUTPUT_TIMEOUT, &mut service.watcher).await.is_err()
            {
                service.watcher.abort();
            }
        }
    }
}

impl Watch {
    /// Its output has ended, and with it, as a rule, the service.
    async fn see_end(&self, container: &Container) {
        if self.lock().is_over {
            return;
        }
        // One that was removed was so at the end of the job, or is missed by who needs it.
        let Ok(exit) = container.wait().await else { return };
        let log = container.last_output().await;
        let mut state = self.lock();
        state.end = Some(ServiceEnd { exit_code: exit.code, oom_killed: exit.oom_killed, log });
        self.report(&mut state);
    }

    fn may_report(&self) {
        let mut state = self.lock();
        state.may_report = true;
        self.report(&mut state);
    }

    fn is_over(&self) {
        self.lock().is_over = true;
    }

    fn summarize(&self) {
        self.recorder.summarize(self.lock().end.as_ref());
    }

    fn report(&self, state: &mut WatchState) {
        let Some(end) =
            state.end.as_ref().filter(|_| state.may_report && !state.is_over && !state.is_reported)
        else {
            return;
        };
        self.recorder.ended(end);
        state.is_reported = true;
    }

    fn lock(&self) -> MutexGuard<'_, WatchState> {
        self.state.lock()
    }
}

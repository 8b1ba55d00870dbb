//! The services of a job: they are heard, and their ends are told.
//!
//! Their section is open until they are up. What they say afterwards is recorded behind it, and so is how they ended. One
//! that was to be ready and is not fails the job; any other end is a warning, told once, whenever it came.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use loom_contract::error::ErrorInfo;
use loom_contract::event::{Finish, Level, Stream as Recorded};
use loom_contract::section::Section;
use loom_contract::status::Status as Ended;
use loom_docker::{Chunk, Container, Follow, Signal, Status, Stream};
use loom_engine::output::OutputSink;
use loom_engine::port::{Afterwards, JobContext, OpenSection};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How long what services have said last may take to arrive.
const LISTENING: Duration = Duration::from_secs(2);

/// The services of one job.
#[derive(Debug, Default)]
pub(crate) struct Services(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Until they are up.
    section: Option<OpenSection>,
    /// From then on.
    after: Option<Afterwards>,
    /// Where what they say is recorded.
    sinks: Option<(OutputSink, OutputSink)>,
    list: Vec<Service>,
    /// One in which a command was run in vain: it is to be ready, and is not yet.
    awaited: Option<Container>,
}

/// A service that was started, and is heard.
#[derive(Debug)]
struct Service {
    container: Container,
    watch: Arc<Watch>,
    watcher: JoinHandle<()>,
}

/// What is to be told of a service's end.
#[derive(Debug)]
struct Watch {
    name: String,
    container: String,
    sink: OutputSink,
    state: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    /// It is known whether the service was to be ready.
    may_tell: bool,
    /// Its end is nothing to be told: it is ended, or fails the job.
    is_over: bool,
    end: Option<Ending>,
    told: bool,
}

#[derive(Debug)]
struct Ending {
    exit_code: i64,
    oom_killed: bool,
    /// The last lines of its output.
    log: Vec<String>,
}

impl Services {
    /// Records what the service `name` prints until its end, and how it ends.
    pub(crate) fn follow(&self, job: &Arc<JobContext>, container: &Container, name: String) {
        let mut inner = self.lock();
        let (stdout, stderr) = match inner.sinks.clone() {
            Some(sinks) => sinks,
            None => {
                let section = inner.section.get_or_insert_with(|| job.open_section(Section::Services));
                let sinks = (section.sink(Recorded::Stdout), section.sink(Recorded::Stderr));
                inner.sinks.insert(sinks).clone()
            }
        };
        let message = format!("service `{name}` is started; container {}", container.name());
        let data = json!({ "service": name, "container": container.name(), "container_id": container.id() });
        stdout.message(Level::Info, message, object(data));
        let watch = Arc::new(Watch {
            name: name.clone(),
            container: container.name().to_owned(),
            sink: stdout.clone(),
            state: Mutex::new(Watched { may_tell: inner.section.is_none(), ..Watched::default() }),
        });
        let (chunks, waiting) = mpsc::channel(16);
        let writer = tokio::task::spawn_blocking(move || record_lines(waiting, &name, &stdout, &stderr));
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
    pub(crate) fn awaits(&self, container: &Container) {
        let mut inner = self.lock();
        if inner.list.iter().any(|service| service.container.id() == container.id()) {
            inner.awaited = Some(container.clone());
        }
    }

    /// The command succeeded.
    pub(crate) fn is_ready(&self, container: &Container) {
        let mut inner = self.lock();
        if inner.awaited.as_ref().is_some_and(|awaited| awaited.id() == container.id()) {
            inner.awaited = None;
        }
    }

    /// Whether `container` is to be ready by more than its health check, and is not yet.
    pub(crate) fn is_awaited(&self, container: &Container) -> bool {
        self.lock().awaited.as_ref().is_some_and(|awaited| awaited.id() == container.id())
    }

    /// They are up, as far as they were to be: their section is over.
    pub(crate) fn are_up(&self) {
        let mut inner = self.lock();
        let Some(section) = inner.section.take() else { return };
        inner.list.iter().for_each(|service| service.watch.may_tell());
        inner.after = Some(section.finish_before_its_processes(Finish::new(Ended::Success)));
    }

    /// A service did not come up, which `finish` says: all end, and their section with them.
    pub(crate) async fn failed(&self, job: &Arc<JobContext>, container: &Container, finish: Finish) {
        let mut inner = std::mem::take(&mut *self.lock());
        inner.section.get_or_insert_with(|| job.open_section(Section::Services));
        inner.kill(Some(container), finish).await;
    }

    /// The job could not be prepared. If that was while its services came up, they are what failed. Returns `error`, with
    /// what the service said last that was waited for in vain.
    pub(crate) async fn not_prepared(
        &self,
        mut error: ErrorInfo,
        finish: impl FnOnce(ErrorInfo) -> Finish,
    ) -> ErrorInfo {
        if self.lock().section.is_none() {
            return error;
        }
        let inner = std::mem::take(&mut *self.lock());
        let awaited = inner.awaited.clone();
        if let Some(container) = &awaited {
            let log = container.last_output().await;
            if !log.is_empty() {
                error.message.push_str("; its last output:\n");
                error.message.push_str(&log.join("\n"));
            }
        }
        inner.kill(awaited.as_ref(), finish(error.clone())).await;
        error
    }

    /// The job is over: what ended by itself is told; nothing is from now on.
    pub(crate) async fn settle(&self) {
        let mut inner = std::mem::take(&mut *self.lock());
        inner.settle(None).await;
        *self.lock() = inner;
    }

    /// They were removed: what they have said is recorded, and that they have ended.
    pub(crate) async fn end(&self) {
        let mut inner = std::mem::take(&mut *self.lock());
        inner.listen_to_the_end().await;
        if inner.after.is_some() {
            inner.list.iter().for_each(|service| service.watch.say_how_it_ended());
        }
        if let Some(section) = inner.section {
            section.finish(Finish::new(Ended::Success));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Ends them before their time. The end of `failed` is told by who asks for it.
    async fn kill(mut self, failed: Option<&Container>, finish: Finish) {
        self.settle(failed).await;
        for service in &self.list {
            // What cannot be killed is removed with the job.
            let _ = service.container.kill(Signal::Kill).await;
        }
        self.listen_to_the_end().await;
        if let Some(section) = self.section {
            section.finish(finish);
        }
    }

    /// Sees to it that the ends of those that have ended by themselves are told, but for that of `failed`, and that no
    /// other is from now on.
    async fn settle(&mut self, failed: Option<&Container>) {
        for service in &mut self.list {
            let has_failed = failed.is_some_and(|failed| failed.id() == service.container.id());
            if has_failed {
                service.watch.is_over();
                continue;
            }
            service.watch.may_tell();
            let has_ended = service.container.state().await.is_ok_and(|state| state.status == Status::Ended);
            if has_ended && !service.watcher.is_finished() {
                // A daemon that is gone says nothing of an end.
                let _ = tokio::time::timeout(LISTENING, &mut service.watcher).await;
            }
            service.watch.is_over();
        }
    }

    /// Their containers have ended.
    async fn listen_to_the_end(&mut self) {
        for service in &mut self.list {
            if !service.watcher.is_finished()
                && tokio::time::timeout(LISTENING, &mut service.watcher).await.is_err()
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
        state.end = Some(Ending { exit_code: exit.code, oom_killed: exit.oom_killed, log });
        self.tell(&mut state);
    }

    fn may_tell(&self) {
        let mut state = self.lock();
        state.may_tell = true;
        self.tell(&mut state);
    }

    fn is_over(&self) {
        self.lock().is_over = true;
    }

    fn tell(&self, state: &mut Watched) {
        let Some(end) = state.end.as_ref().filter(|_| state.may_tell && !state.is_over && !state.told) else {
            return;
        };
        let mut text = format!("service `{}` ended with exit code {}", self.name, end.exit_code);
        if end.oom_killed {
            text.push_str(" (it used up the memory that it may have)");
        }
        match end.log.as_slice() {
            [] => text.push_str("; it printed nothing"),
            log => {
                text.push_str("; its last output:\n");
                text.push_str(&log.join("\n"));
            }
        }
        self.sink.message(Level::Warn, text, object(self.data(Some(end))));
        state.told = true;
    }

    /// For who reads the record.
    fn say_how_it_ended(&self) {
        let state = self.lock();
        let text = match &state.end {
            Some(end) => format!("service `{}` had ended with exit code {}", self.name, end.exit_code),
            None => format!("service `{}` ran until the end of the job", self.name),
        };
        self.sink.message(Level::Info, text, object(self.data(state.end.as_ref())));
    }

    fn data(&self, end: Option<&Ending>) -> Value {
        match end {
            Some(end) => json!({
                "service": self.name, "container": self.container, "exit_code": end.exit_code,
                "oom_killed": end.oom_killed,
            }),
            None => json!({ "service": self.name, "container": self.container }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn object(value: Value) -> Option<Map<String, Value>> {
    if let Value::Object(map) = value { Some(map) } else { None }
}

/// On a thread that may wait: each line behind the name of who said it.
fn record_lines(mut chunks: mpsc::Receiver<Chunk>, name: &str, stdout: &OutputSink, stderr: &OutputSink) {
    let mut streams = [(stdout.lines(), true), (stderr.lines(), true)];
    while let Some(chunk) = chunks.blocking_recv() {
        let (lines, begins) = match chunk.stream {
            Stream::Stdout => &mut streams[0],
            Stream::Stderr => &mut streams[1],
        };
        for part in chunk.bytes.split_inclusive(|byte| *byte == b'\n') {
            if *begins {
                lines.push(format!("{name} | ").as_bytes());
            }
            lines.push(part);
            *begins = part.ends_with(b"\n");
        }
    }
    streams.iter_mut().for_each(|(lines, _)| lines.end());
}

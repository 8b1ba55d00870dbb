//! The record of a job's services.
//!
//! Their section is open until they are up. What they print afterwards is recorded behind it, and so is how they ended.

use std::sync::Arc;

use loom_contract::error::ErrorInfo;
use loom_contract::event::{Finish, Level, Stream as Recorded};
use loom_contract::section::Section;
use loom_contract::status::Status;
use loom_docker::{Chunk, Container, ServiceEnd, ServiceRecorder, Services, Stream};
use loom_engine::output::OutputSink;
use loom_engine::port::{Afterwards, JobContext, OpenSection};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::error::finish_of;

/// The section of one job's services.
#[derive(Debug, Default)]
pub(crate) struct ServiceSection(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Until they are up.
    section: Option<OpenSection>,
    /// From then on.
    after: Option<Afterwards>,
    /// Where their output is recorded.
    sinks: Option<(OutputSink, OutputSink)>,
}

/// Where one service is recorded.
#[derive(Debug)]
struct Recorder {
    name: String,
    container: String,
    stdout: OutputSink,
    stderr: OutputSink,
}

impl ServiceSection {
    /// Records the service `name`, one of `services`, which was started in `container`.
    pub(crate) fn follow(&self, job: &JobContext, services: &Services, container: &Container, name: String) {
        let mut state = self.lock();
        let (stdout, stderr) = match state.sinks.clone() {
            Some(sinks) => sinks,
            None => {
                let section = state.section.get_or_insert_with(|| job.open_section(Section::Services));
                let sinks = (section.sink(Recorded::Stdout), section.sink(Recorded::Stderr));
                state.sinks.insert(sinks).clone()
            }
        };
        let message = format!("service `{name}` is started; container {}", container.name());
        let data = json!({ "service": name, "container": container.name(), "container_id": container.id() });
        stdout.message(Level::Info, message, object(data));
        let recorder = Recorder { name, container: container.name().to_owned(), stdout, stderr };
        services.follow(container, Arc::new(recorder));
    }

    /// The services are up, as far as they were to be: their section is over.
    pub(crate) fn are_up(&self, services: &Services) {
        let mut state = self.lock();
        let Some(section) = state.section.take() else { return };
        services.are_up();
        state.after = Some(section.finish_before_its_processes(Finish::new(Status::Success)));
    }

    /// A service did not come up, which `finish` says: all end, and their section with them.
    pub(crate) async fn failed(
        &self,
        job: &JobContext,
        services: &Services,
        container: &Container,
        finish: Finish,
    ) {
        let State { section, after, .. } = std::mem::take(&mut *self.lock());
        let section = section.unwrap_or_else(|| job.open_section(Section::Services));
        services.kill(Some(container)).await;
        section.finish(finish);
        drop(after);
    }

    /// The job could not be prepared, for `error`. If that was while its services came up, they are what failed. Returns
    /// the error, with the last output of the service that was waited for in vain.
    pub(crate) async fn not_prepared(
        &self,
        job: &JobContext,
        services: &Services,
        mut error: ErrorInfo,
    ) -> ErrorInfo {
        let Some(section) = self.lock().section.take() else { return error };
        *self.lock() = State::default();
        let awaited = services.awaited();
        if let Some(container) = &awaited {
            let log = container.last_output().await;
            if !log.is_empty() {
                error.message.push_str("; its last output:\n");
                error.message.push_str(&log.join("\n"));
            }
        }
        services.kill(awaited.as_ref()).await;
        section.finish(finish_of(job, error.clone()));
        error
    }

    /// The services were removed.
    pub(crate) fn end(&self) {
        if let Some(section) = std::mem::take(&mut *self.lock()).section {
            section.finish(Finish::new(Status::Success));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl ServiceRecorder for Recorder {
    /// Each line stands behind the service's name.
    fn output(&self, mut chunks: mpsc::Receiver<Chunk>) {
        let mut streams = [(self.stdout.lines(), true), (self.stderr.lines(), true)];
        while let Some(chunk) = chunks.blocking_recv() {
            let (lines, begins) = match chunk.stream {
                Stream::Stdout => &mut streams[0],
                Stream::Stderr => &mut streams[1],
            };
            for part in chunk.bytes.split_inclusive(|byte| *byte == b'\n') {
                if *begins {
                    lines.push(format!("{} | ", self.name).as_bytes());
                }
                lines.push(part);
                *begins = part.ends_with(b"\n");
            }
        }
        streams.iter_mut().for_each(|(lines, _)| lines.end());
    }

    fn ended(&self, end: &ServiceEnd) {
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
        self.stdout.message(Level::Warn, text, self.data(Some(end)));
    }

    fn summarize(&self, end: Option<&ServiceEnd>) {
        let text = match end {
            Some(end) => format!("service `{}` had ended with exit code {}", self.name, end.exit_code),
            None => format!("service `{}` ran until the end of the job", self.name),
        };
        self.stdout.message(Level::Info, text, self.data(end));
    }
}

impl Recorder {
    fn data(&self, end: Option<&ServiceEnd>) -> Option<Map<String, Value>> {
        object(match end {
            Some(end) => json!({
                "service": self.name, "container": self.container, "exit_code": end.exit_code,
                "oom_killed": end.oom_killed,
            }),
            None => json!({ "service": self.name, "container": self.container }),
        })
    }
}

fn object(value: Value) -> Option<Map<String, Value>> {
    if let Value::Object(map) = value { Some(map) } else { None }
}

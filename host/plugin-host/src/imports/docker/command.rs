//! Commands of `loom:docker/engine`.

use std::time::Duration;

use loom_contract::event::Level;
use loom_docker::{Chunk, Error as DockerError, Exec, ExecExit, ExecSpec, Stream};
use loom_engine::cancel::{Cancel, GRACE, Urgency};
use loom_engine::output::OutputSink;
use loom_engine::port::JobContext;
use loom_engine::process::UsedUp;
use serde_json::Map;
use tokio::sync::mpsc;
use wasmtime::component::Resource;

use super::View;
use super::container::ContainerHandle;
use super::wit::loom::docker::engine::HostCommand;
use crate::docker::{environment, to_plugin_error};
use crate::grant;
use crate::types::{Error, ErrorKind, Exit, Failure, Sink, error};

/// Chunks of output that wait to be recorded.
const WAITING: usize = 16;

/// A command that is to be run.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
#[derive(Clone)]
pub struct Request {
    spec: ExecSpec,
    inherits: bool,
    stdout: Option<Sink>,
    stderr: Option<Sink>,
}

impl HostCommand for View<'_> {
    fn new(&mut self, argv: Vec<String>) -> wasmtime::Result<Resource<Request>> {
        let spec = ExecSpec { command: argv, ..ExecSpec::default() };
        Ok(self.table.push(Request { spec, inherits: false, stdout: None, stderr: None })?)
    }

    fn inherit_job_env(&mut self, command: Resource<Request>) -> wasmtime::Result<()> {
        self.table.get_mut(&command)?.inherits = true;
        Ok(())
    }

    fn env(&mut self, command: Resource<Request>, name: String, value: String) -> wasmtime::Result<()> {
        self.table.get_mut(&command)?.spec.env.push((name, value));
        Ok(())
    }

    fn user(&mut self, command: Resource<Request>, user: String) -> wasmtime::Result<()> {
        self.table.get_mut(&command)?.spec.user = Some(user);
        Ok(())
    }

    fn stdout(&mut self, command: Resource<Request>, sink: Resource<Sink>) -> wasmtime::Result<()> {
        let sink = self.table.get(&sink)?.clone();
        self.table.get_mut(&command)?.stdout = Some(sink);
        Ok(())
    }

    fn stderr(&mut self, command: Resource<Request>, sink: Resource<Sink>) -> wasmtime::Result<()> {
        let sink = self.table.get(&sink)?.clone();
        self.table.get_mut(&command)?.stderr = Some(sink);
        Ok(())
    }

    async fn run(
        &mut self,
        command: Resource<Request>,
        container: Resource<ContainerHandle>,
    ) -> Result<Exit, Failure> {
        let _of_job = self.wall.of_job();
        let request = self.table.get(&command)?.clone();
        let handle = self.table.get(&container)?.clone();
        Ok(self.execute(self.job.get()?, request, &handle).await?)
    }

    fn drop(&mut self, command: Resource<Request>) -> wasmtime::Result<()> {
        self.table.delete(command)?;
        Ok(())
    }
}

impl View<'_> {
    async fn execute(
        &mut self,
        job: &JobContext,
        request: Request,
        handle: &ContainerHandle,
    ) -> Result<Exit, Error> {
        let Request { spec, inherits, stdout, stderr } = request;
        let open = |sink: Option<Sink>| sink.map(|sink| sink.open(self.call)).transpose();
        let (stdout, stderr) = (open(stdout)?, open(stderr)?);
        let container = &handle.container;
        let env = if inherits {
            grant::job_env(self.plugin)?;
            Some(environment(job, self.docker.variables_of(job), container.has_mask())?)
        } else {
            None
        };
        let docker = self.docker.get()?;
        if container.is_service() {
            docker.services().awaits(container.container());
        }
        let cancel = job.cancel.clone();
        let ended = async {
            let exec = docker.exec(container, spec, env).await?;
            forward_output(exec, cancel, stdout, stderr).await
        };
        let exit = match ended.await {
            Ok(exit) => exit,
            Err(error) => return Err(to_plugin_error(&container.explain(error).await)),
        };
        if exit.code == 0 {
            docker.services().is_ready(container.container());
        }
        if exit.oom_killed {
            let text = "the memory that the container may use was used up, and a process was killed for it";
            self.messages.record(Level::Warn, text.to_owned(), None);
            job.has_used_up(UsedUp::Memory);
        }
        if exit.output_open {
            let text = "the step has ended, but something that it started still holds its output open; it is not heard any more";
            let data = Map::from_iter([("code".to_owned(), "output_detached".into())]);
            self.messages.record(Level::Warn, text.to_owned(), Some(data));
        }
        match i32::try_from(exit.code) {
            Ok(code @ 0..=255) => Ok(Exit::Code(code)),
            _ => {
                let message = format!("the daemon says that it ended with {}", exit.code);
                Err(error(ErrorKind::Failed, "DOCKER_EXIT", message))
            }
        }
    }
}

/// Records the output of a process until its end, and ends it where the job is cancelled.
async fn forward_output(
    mut exec: Exec,
    mut cancel: Cancel,
    stdout: Option<OutputSink>,
    stderr: Option<OutputSink>,
) -> Result<ExecExit, DockerError> {
    let control = exec.control();
    let (chunks, waiting) = mpsc::channel(WAITING);
    let writer = tokio::task::spawn_blocking(move || record(waiting, stdout.as_ref(), stderr.as_ref()));
    let listen = async {
        while let Some(chunk) = exec.next().await? {
            // The writer ends only after this.
            let _ = chunks.send(chunk).await;
        }
        exec.exit().await
    };
    let stop = async {
        let mut killed = cancel.clone();
        cancel.reached(Urgency::Ask).await;
        tokio::select! {
            _ = control.end(GRACE) => {}
            () = killed.reached(Urgency::Kill) => {
                let _ = control.end(Duration::ZERO).await;
            }
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = listen => ended,
        () = stop => Err(DockerError::Unresponsive { doing: "end a process".to_owned() }),
    };
    drop(chunks);
    let _ = writer.await;
    ended
}

/// On a thread that may wait: where too much output is on its way, the process does.
fn record(mut chunks: mpsc::Receiver<Chunk>, stdout: Option<&OutputSink>, stderr: Option<&OutputSink>) {
    let (mut stdout, mut stderr) = (stdout.map(OutputSink::lines), stderr.map(OutputSink::lines));
    while let Some(chunk) = chunks.blocking_recv() {
        let lines = match chunk.stream {
            Stream::Stdout => &mut stdout,
            Stream::Stderr => &mut stderr,
        };
        if let Some(lines) = lines {
            lines.push(&chunk.bytes);
        }
    }
    for lines in [stdout, stderr].iter_mut().flatten() {
        lines.end();
    }
}

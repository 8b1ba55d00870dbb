//! A process in a container that has the user's own standard streams, and the user's terminal where they are on one.
//!
//! ```text
//!  terminal (raw) ── Typed, a thread ──> the daemon ──> the process's own terminal
//!                 <── what it prints ─────────────────
//! ```

#![expect(clippy::disallowed_methods, reason = "the user's terminal is the process's own")]

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;

use bollard::exec::{ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use futures_util::StreamExt as _;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep};

use crate::output::{Chunks, chunk};
use crate::{Container, Error, Reason, Stream};

/// What is typed or piped in that waits for the daemon.
const WAITING: usize = 16;
/// With so many of these the daemon would leave the process alone. What it takes otherwise begins with Ctrl-P, by which shells
/// show what was typed before.
const NEVER_TYPED: &str = "ctrl-^";
/// Bytes of it at once.
const READ: usize = 32 << 10;
/// So long the daemon has to notice the end of a process whose output has ended.
const SETTLES: Duration = Duration::from_secs(10);
const LOOKS: Duration = Duration::from_millis(10);

/// A command for [`Container::attach`].
#[derive(Debug, Clone, Default)]
pub struct AttachSpec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its environment, over that of the container.
    pub env: Vec<(String, String)>,
}

impl Container {
    /// Runs a process in it whose standard streams are those of this process, and returns its exit code. Where standard input
    /// and output are a terminal, that is the process's own meanwhile, and what it was afterwards. Dropping the future leaves
    /// the process alone, and gives the terminal back.
    ///
    /// # Errors
    /// The process cannot be started, or the daemon or the container is gone before its end.
    pub async fn attach(&self, spec: &AttachSpec) -> Result<i64, Error> {
        let program = spec.command.first().cloned().unwrap_or_default();
        let doing = format!("run `{program}` in the container {}", self.name());
        let failed = |error: bollard::errors::Error| Error::of(doing.clone(), error);
        let on_this_side = |error: io::Error| Error::Refused {
            doing: doing.clone(),
            reason: Reason::Other,
            words: format!("the terminal cannot be used: {error}"),
        };
        let tty = isatty(stdin()) && isatty(stdout());
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(tty),
            detach_keys: tty.then(|| [NEVER_TYPED; 8].join(",")),
            cmd: Some(spec.command.clone()),
            env: Some(crate::spec::env(&spec.env)?),
            ..ExecConfig::default()
        };
        let docker = self.docker();
        let created = docker.watch(&doing, docker.slow().create_exec(self.id(), config)).await?;
        let id = created.map_err(failed)?.id;
        let options = StartExecOptions { detach: false, tty, output_capacity: None };
        let started = docker.watch(&doing, docker.slow().start_exec(&id, Some(options))).await?;
        let StartExecResults::Attached { output, input } = started.map_err(failed)? else {
            return Err(Error::invalid("the process", "was started without its streams"));
        };
        {
            // Until here a Ctrl-C ends Loom; from here on it is typed.
            let raw = if tty { Some(Raw::enter().map_err(on_this_side)?) } else { None };
            let typed = Typed::begin().map_err(on_this_side)?;
            let resized = async {
                let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
                if !tty {
                    return;
                }
                loop {
                    self.resize(&id).await;
                    if changes.recv().await.is_none() {
                        return;
                    }
                }
            };
            let printed = print(output, tty);
            let read = send(typed, input);
            let others = async { tokio::join!(resized, read) };
            let ended = tokio::select! {
                ended = printed => ended,
                // Neither is the end of what it prints.
                _ = async { others.await; std::future::pending::<()>().await } => Ok(()),
            };
            drop(raw);
            ended.map_err(|error| Error::of(doing.clone(), error))?;
        }
        let deadline = Instant::now() + SETTLES;
        loop {
            let looked = docker.watch(&doing, docker.slow().inspect_exec(&id)).await?.map_err(failed)?;
            match (looked.running, looked.exit_code) {
                (Some(false), Some(code)) => return Ok(code),
                _ if Instant::now() >= deadline => {
                    return Err(Error::Unresponsive { doing });
                }
                _ => sleep(LOOKS).await,
            }
        }
    }

    /// The terminal of the process `id` is as large as that of this process from now on.
    async fn resize(&self, id: &str) {
        if let Ok(size) = tcgetwinsize(stdout()) {
            let size = ResizeExecOptions { height: size.ws_row, width: size.ws_col };
            // It may have ended by now.
            let _ = self.docker().slow().resize_exec(id, size).await;
        }
    }
}

/// Prints what the process does, on a thread that may wait.
async fn print(mut output: Chunks, tty: bool) -> Result<(), bollard::errors::Error> {
    while let Some(next) = output.next().await {
        let chunk = chunk(next?);
        let print = move || match chunk.stream {
            Stream::Stdout => write_all(&mut io::stdout().lock(), &chunk.bytes),
            Stream::Stderr => write_all(&mut io::stderr().lock(), &chunk.bytes),
        };
        let printed = tokio::task::spawn_blocking(print).await;
        // Nobody reads any more, as of `| head`.
        if !tty && matches!(printed, Ok(Err(_))) {
            break;
        }
    }
    Ok(())
}

fn write_all(to: &mut impl io::Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).and_then(|()| to.flush())
}

/// Sends what is typed, and that there is no more.
async fn send(mut typed: Typed, mut input: Pin<Box<dyn AsyncWrite + Send>>) {
    while let Some(bytes) = typed.next.recv().await {
        let sent = input.write_all(&bytes).await;
        if sent.is_err() || input.flush().await.is_err() {
            return;
        }
    }
    let _ = input.shutdown().await;
    // Dropped, it would end the output, too.
    std::future::pending::<()>().await;
}

/// The terminal of this process, in which no key has a meaning of its own. Dropped, it is what it was.
struct Raw {
    before: Termios,
}

impl Raw {
    fn enter() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has gone away needs nothing.
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.before);
    }
}

/// What comes by the standard input, until it is dropped: what is typed then is for who comes after.
struct Typed {
    next: mpsc::Receiver<Vec<u8>>,
    /// Closed, the thread that reads ends.
    #[expect(dead_code, reason = "held")]
    end: OwnedFd,
}

impl Typed {
    fn begin() -> io::Result<Self> {
        let (over, end) = rustix::pipe::pipe()?;
        let (sender, next) = mpsc::channel(WAITING);
        let read = move || {
            let mut buffer = vec![0; READ];
            loop {
                let stdin = stdin();
                let mut ready = [PollFd::new(&over, PollFlags::IN), PollFd::new(&stdin, PollFlags::IN)];
                match poll(&mut ready, None) {
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(_) => return,
                    Ok(_) if !ready[0].revents().is_empty() => return,
                    Ok(_) => {}
                }
                match rustix::io::read(stdin, &mut buffer) {
                    Err(rustix::io::Errno::INTR) => {}
                    Ok(0) | Err(_) => return,
                    Ok(count) => {
                        if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                            return;
                        }
                    }
                }
            }
        };
        std::thread::Builder::new().name("typed".to_owned()).spawn(read)?;
        Ok(Self { next, end })
    }
}

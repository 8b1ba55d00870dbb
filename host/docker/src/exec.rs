//! A process in a container that runs already.

use std::fmt;
use std::time::{Duration, SystemTime};

use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ExecConfig, ExecInspectResponse};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use crate::control::ExecControl;
use crate::oom::ran_out_of_memory;
use crate::output::{Chunks, chunk};
use crate::random::random;
use crate::spec::{check_absolute, env};
use crate::words::{is_explained, program_in};
use crate::{Chunk, Container, Error, ExecSpec, Stream};

/// Output that is there when the process has ended is waited for no longer than this.
const DRAIN: Duration = Duration::from_millis(200);
/// Bytes of such output at most: what fits into pipes and sockets on the way. What a process that stays behind writes after
/// it would have no end.
const DRAIN_BYTES: usize = 4 << 20;
/// The daemon sends up to 32 KiB at once.
const FRAME: usize = 64 << 10;
/// How often a process whose output is open is looked at: as good as at once after it began, later seldom.
const LOOK_FIRST: Duration = Duration::from_millis(50);
const LOOK_LAST: Duration = Duration::from_secs(1);
/// How often one is looked at whose output has ended, so that it must end any moment.
const LOOK_CLOSED: Duration = Duration::from_millis(2);

/// The daemon learns that a process was killed before it learns that its container was; so much before at most.
const SETTLE: Duration = Duration::from_secs(1);
/// Beginnings of the daemon's words when a program cannot be started.
const REFUSED: [&[u8]; 2] = [b"OCI runtime exec failed", b"unable to find "];
/// The exit code where the kernel refuses to run a file.
const FORMAT_ERROR: i64 = 1;

/// The variable by which all processes of one exec are recognised.
pub(crate) const MARK: &str = "LOOM_EXEC";

/// A process that was started: its output is taken with [`next`](Self::next) until there is none, then
/// [`exit`](Self::exit) tells how it ended. Nothing is read ahead of who takes it, so a process waits where its output is
/// not taken.
///
/// Dropping it leaves the process alone: [`ExecControl::end`] ends it.
pub struct Exec {
    control: ExecControl,
    program: String,
    began: SystemTime,
    chunks: Chunks,
    /// What may be the daemon's words in place of the output of a process that could not be started.
    held: Option<Chunk>,
    /// What came after it.
    queued: Option<Chunk>,
    stage: Stage,
    /// The first output.
    first: Option<Bytes>,
    look: (Instant, Duration),
    broken: Option<bollard::errors::Error>,
    ended: Option<Ended>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Output may come at any time.
    Open,
    /// There is no more output.
    Closed,
    /// The process has ended; what it has written may be on its way.
    Draining { wait: Duration, bytes: usize },
    /// All was taken.
    Over,
}

#[derive(Debug, Clone, Copy)]
struct Ended {
    code: i64,
    started: bool,
    output_open: bool,
}

/// How a process in a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecExit {
    /// 128 + n where signal n ended it.
    pub code: i64,
    /// The container's memory was used up, and a process of it was killed for that while this one ran.
    pub oom_killed: bool,
    /// Another process still has its output open: one that it has left in the background.
    pub output_open: bool,
}

impl Container {
    /// Starts a process in it.
    ///
    /// # Errors
    /// [`Error::Gone`] if the container does not run; [`Error::Invalid`] by what the description says. That the program
    /// is not there may be told only by [`Exec::exit`].
    pub async fn exec(&self, spec: &ExecSpec) -> Result<Exec, Error> {
        let program = spec.command.first().cloned().unwrap_or_default();
        if program.is_empty() {
            return Err(Error::invalid("a command without a program", "cannot be run"));
        }
        if let Some(dir) = &spec.working_dir {
            check_absolute("the working folder", dir)?;
        }
        let doing = format!("run `{program}` in the container {}", self.name());
        let mark = format!("{MARK}={:016x}", random());
        let mut env = env(&spec.env)?;
        env.push(mark.clone());
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(false),
            cmd: Some(spec.command.clone()),
            env: Some(env),
            user: spec.user.clone(),
            working_dir: spec.working_dir.clone(),
            ..ExecConfig::default()
        };
        let failed = async |error| match Error::of(doing.clone(), error) {
            Error::Refused { words, .. } if let Some(program) = program_in(&words) => {
                Error::NotStarted { program, words }
            }
            error @ Error::Refused { .. } => match self.check_running(SETTLE).await {
                Err(gone @ Error::Gone { .. }) => gone,
                _ => error,
            },
            error => error,
        };
        let docker = self.docker();
        let began = SystemTime::now();
        let created = docker.watch(&doing, docker.slow().create_exec(self.id(), config)).await?;
        let id = match created {
            Ok(created) => created.id,
            Err(error) => return Err(failed(error).await),
        };
        let options = StartExecOptions { detach: false, tty: false, output_capacity: Some(FRAME) };
        let chunks = match docker.watch(&doing, docker.slow().start_exec(&id, Some(options))).await? {
            Ok(StartExecResults::Attached { output, .. }) => output,
            // Only where that was asked for.
            Ok(StartExecResults::Detached) => Box::pin(futures_util::stream::empty()),
            Err(error) => return Err(failed(error).await),
        };
        Ok(Exec {
            control: ExecControl::new(self.clone(), id.into(), mark.into(), spec.user.clone()),
            program,
            began,
            chunks,
            held: None,
            queued: None,
            stage: Stage::Open,
            first: None,
            look: (Instant::now() + LOOK_FIRST, LOOK_FIRST),
            broken: None,
            ended: None,
        })
    }
}

impl Exec {
    /// Handle with which the process can be ended while its output is taken.
    pub fn control(&self) -> ExecControl {
        self.control.clone()
    }

    /// The next output, or nothing after the last. It may be called again after its future was dropped; nothing is lost.
    ///
    /// # Errors
    /// The daemon or the container is gone.
    pub async fn next(&mut self) -> Result<Option<Chunk>, Error> {
        loop {
            if let Some(chunk) = self.queued.take() {
                return Ok(Some(chunk));
            }
            let wait = match self.stage {
                Stage::Over if self.has_started() => return Ok(self.held.take()),
                Stage::Over => return Ok(None),
                Stage::Closed => {
                    if self.has_ended(LOOK_CLOSED).await? {
                        self.stage = Stage::Over;
                    }
                    continue;
                }
                Stage::Draining { wait, bytes } if wait.is_zero() || bytes == 0 => {
                    self.ended.iter_mut().for_each(|ended| ended.output_open = true);
                    self.stage = Stage::Over;
                    continue;
                }
                Stage::Draining { wait, .. } => Instant::now() + wait,
                Stage::Open => {
                    if Instant::now() >= self.look.0 && self.has_ended(LOOK_FIRST).await? {
                        self.stage = Stage::Draining { wait: DRAIN, bytes: DRAIN_BYTES };
                        continue;
                    }
                    self.look.0
                }
            };
            let waiting = Instant::now();
            let next = tokio::time::timeout_at(wait, self.chunks.next()).await;
            if let Stage::Draining { wait, .. } = &mut self.stage {
                *wait = wait.saturating_sub(waiting.elapsed());
            }
            match next {
                Err(_) => {}
                Ok(Some(Ok(output))) => {
                    let chunk = chunk(output);
                    if let Stage::Draining { bytes, .. } = &mut self.stage {
                        *bytes = bytes.saturating_sub(chunk.bytes.len().max(1));
                    }
                    if self.first.is_none() {
                        self.first = Some(chunk.bytes.clone());
                        let refused = REFUSED.iter().any(|words| chunk.bytes.starts_with(words));
                        if refused || is_format_error(&chunk) {
                            self.held = Some(chunk);
                            continue;
                        }
                    }
                    if let Some(held) = self.held.take() {
                        self.queued = Some(chunk);
                        return Ok(Some(held));
                    }
                    return Ok(Some(chunk));
                }
                Ok(end) => {
                    self.broken = end.and_then(Result::err).filter(|error| !is_end(error));
                    self.stage = match self.stage {
                        Stage::Draining { .. } => Stage::Over,
                        _ => Stage::Closed,
                    };
                    self.look = (Instant::now(), LOOK_CLOSED);
                }
            }
        }
    }

    /// How it ended; output that was not taken is dropped.
    ///
    /// # Errors
    /// - [`Error::NotStarted`]: the program is not in the image, or cannot be run.
    /// - [`Error::Gone`]: the container ended or was removed, and its processes with it.
    /// - [`Error::WentAway`], [`Error::Unresponsive`]: how it ended cannot be known.
    pub async fn exit(&mut self) -> Result<ExecExit, Error> {
        while self.next().await?.is_some() {}
        if let Some(error) = self.broken.take() {
            return Err(Error::of(self.doing(), error));
        }
        let Some(ended) = self.ended else {
            return Err(Error::WentAway { doing: self.doing(), why: "how it ended is not known".to_owned() });
        };
        if !self.has_started() {
            let words = String::from_utf8_lossy(self.first.as_deref().unwrap_or_default()).trim().to_owned();
            // The runtime words it in many ways that the container has ended meanwhile.
            if !is_explained(&words) {
                self.container().check_running(SETTLE).await?;
            }
            return Err(Error::NotStarted { program: self.program.clone(), words });
        }
        // Killed, perhaps by what its container suffered, unless it was by us.
        let mut oom_killed = false;
        if ended.code == 137 {
            let was_asked = self.control.has_killed();
            let settle = if was_asked { Duration::ZERO } else { SETTLE };
            let container = self.container().clone();
            let (running, oom) = futures_util::join!(
                container.check_running(settle),
                ran_out_of_memory(container.docker(), container.id(), self.began, self.doing())
            );
            running?;
            oom_killed = oom? && !was_asked;
        }
        Ok(ExecExit { code: ended.code, oom_killed, output_open: ended.output_open })
    }

    fn container(&self) -> &Container {
        self.control.container()
    }

    fn doing(&self) -> String {
        format!("wait for `{}` in the container {}", self.program, self.container().name())
    }

    /// Whether the program was run: the daemon's own exit codes and words say if not.
    fn has_started(&self) -> bool {
        let Some(ended) = self.ended else { return true };
        let format_error = ended.code == FORMAT_ERROR && self.held.as_ref().is_some_and(is_format_error);
        ended.started && !format_error
    }

    /// Looks whether the process has ended, when it is time to, and waits until then.
    async fn has_ended(&mut self, first: Duration) -> Result<bool, Error> {
        tokio::time::sleep_until(self.look.0).await;
        let looked = self.control.inspect().await?;
        let ended = ended(&looked);
        self.ended = ended;
        if ended.is_none() {
            let (_, pause) = self.look;
            // A process that is quiet for long is looked at ever less often.
            self.look = (Instant::now() + pause, (pause * 5 / 4).clamp(first, LOOK_LAST));
        }
        Ok(ended.is_some())
    }
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec")
            .field("program", &self.program)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

fn ended(looked: &ExecInspectResponse) -> Option<Ended> {
    if looked.running != Some(false) {
        return None;
    }
    let started = !(matches!(looked.exit_code, Some(126 | 127)) && looked.pid.unwrap_or(0) == 0);
    looked.exit_code.map(|code| Ended { code, started, output_open: false })
}

/// An end without the farewell that TLS asks for is no worse than that of a socket, which has none.
fn is_end(error: &bollard::errors::Error) -> bool {
    use bollard::errors::Error::IOError;
    matches!(error, IOError { err } if err.kind() == std::io::ErrorKind::UnexpectedEof)
}

/// The words of the runtime, which has become the process by then.
fn is_format_error(chunk: &Chunk) -> bool {
    let text =
        chunk.bytes.strip_prefix(b"exec ").and_then(|text| text.strip_suffix(b": exec format error\n"));
    chunk.stream == Stream::Stderr && text.is_some_and(|program| !program.contains(&b'\n'))
}

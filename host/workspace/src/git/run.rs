//! Commands side by side, until they end or the run is cancelled.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

#[derive(Default)]
pub(super) struct Output {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

pub(super) enum RunError {
    Cancelled,
    Io(io::Error),
}

impl From<io::Error> for RunError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The time to wait for git before looking at the cancel flag again.
const POLL: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Starts all of `commands`, then collects what they write, in their order.
pub(super) fn run_together(commands: &mut [Command], cancel: &AtomicBool) -> Result<Vec<Output>, RunError> {
    let mut running = Vec::new();
    for command in commands {
        running.push(Running::start(command)?);
    }
    let mut buffer = vec![0; 64 << 10];
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Err(RunError::Cancelled);
        }
        let mut pipes: Vec<&mut Pipe> =
            running.iter_mut().flat_map(|run| &mut run.pipes).filter(|pipe| pipe.from.is_some()).collect();
        if pipes.is_empty() {
            break;
        }
        let mut fds: Vec<PollFd<'_>> = pipes
            .iter()
            .filter_map(|pipe| pipe.from.as_ref())
            .map(|from| PollFd::new(from, PollFlags::IN))
            .collect();
        match poll(&mut fds, Some(&POLL)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(RunError::Io(errno.into())),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        for (pipe, _) in pipes.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            pipe.take(&mut buffer)?;
        }
    }
    let mut outputs = Vec::new();
    for mut run in running {
        let status = run.child.wait()?;
        let [stdout, stderr] = &mut run.pipes;
        outputs.push(Output {
            status,
            stdout: std::mem::take(&mut stdout.bytes),
            stderr: std::mem::take(&mut stderr.bytes),
        });
    }
    Ok(outputs)
}

/// A git that was started and is ended with this value.
struct Running {
    child: Child,
    /// stdout, stderr.
    pipes: [Pipe; 2],
}

impl Running {
    fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().map(|pipe| pipe.into());
        let stderr = child.stderr.take().map(|pipe| pipe.into());
        Ok(Self { child, pipes: [stdout, stderr].map(|from| Pipe { from, bytes: Vec::new() }) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both do nothing for a child that was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Pipe {
    /// Gone once its end is reached.
    from: Option<OwnedFd>,
    bytes: Vec<u8>,
}

impl Pipe {
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let Some(from) = &self.from else { return Ok(()) };
        match rustix::io::read(from, &mut *buffer) {
            Ok(0) => self.from = None,
            Ok(read) => self.bytes.extend_from_slice(&buffer[..read]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }
}

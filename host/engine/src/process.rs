//! Processes: started, heard, ended. No other module starts one or signals one.
//!
//! A process leads a session of its own, and so a process group, and has no terminal; but for the user's own shell
//! (`foreground`). One thread per process starts it,
//! reads both of its streams and waits for its end, so that output is recorded in the order in which it arrives.
//!
//! Loom is a *child subreaper*: whatever a step leaves behind, in its session or out of it, becomes a child of Loom, where
//! the job's ledger finds it.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock, mpsc};
use std::time::{Duration, Instant};

use loom_contract::exit;
use parking_lot::{Mutex, MutexGuard};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus};
use tokio::sync::watch;

use crate::cancel::{Cancel, GRACE, Urgency};
use crate::output::{Lines, OutputSink};
use crate::process::control_group::ENTER;
use crate::process::start::{Image, Leads};

mod control_group;
mod foreground;
mod start;
mod sweep;
mod table;

pub use control_group::{Asked, Bytes, JobLimits, UsedUp, end_groups_of};
pub(crate) use control_group::{ControlGroup, RunGroups, explained};
pub use foreground::Foreground;
pub use sweep::LeftBehind;
pub(crate) use sweep::{Swept, sweep_rest};
pub use table::kill_marked;

/// How long the output of a process is still read after its end, where another process holds it open.
const DRAIN: Duration = Duration::from_millis(200);
/// Bytes per read. More would fall out of the processor's second-level cache.
const READ: usize = 64 * 1024;
/// The variable by which a process is known, whatever else its environment holds: its run, its job, and the random word of
/// the run, with slashes between them.
pub const MARK: &str = "LOOM_PROCESS_OF";

/// What to start.
#[derive(Debug)]
pub struct Spawn {
    /// The program's file: an absolute path. Nothing is looked up.
    pub program: PathBuf,
    /// What it is called: what it sees before its arguments.
    pub name: OsString,
    /// Its arguments, without its name.
    pub args: Vec<OsString>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Its environment, but for [`MARK`].
    pub env: Vec<(OsString, OsString)>,
    /// Where its standard output goes; `/dev/null` without.
    pub stdout: Option<OutputSink>,
    /// Where its standard error goes; `/dev/null` without.
    pub stderr: Option<OutputSink>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It ended by itself with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// The exit code as a shell reports it: 128 + n for signal n.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => exit::of_signal(signal),
        }
    }
}

/// What the thread that serves a process has seen of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    exit: Exit,
    /// Whether another process still held its output open.
    output_open: bool,
}

/// A process; `None` once it is reaped: from then on the number may be somebody else's.
type Alive = Arc<Mutex<Option<Pid>>>;

/// A process that was started. Dropped, it goes on until it ends or its job does.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    alive: Alive,
    /// `None` while it runs.
    end: watch::Receiver<Option<End>>,
}

impl Process {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether its output was still held open, by a process that it left behind, when it ended.
    pub fn left_output_open(&self) -> bool {
        self.end.borrow().is_some_and(|end| end.output_open)
    }

    /// Waits for its end. When `cancel` asks, it gets SIGTERM, and SIGKILL [`GRACE`] later or when `cancel` kills;
    /// signals go to its whole process group.
    pub async fn wait(&mut self, cancel: &Cancel) -> Exit {
        let mut cancel = cancel.clone();
        let mut killer = cancel.clone();
        tokio::select! {
            exit = ended(&mut self.end) => return exit,
            () = cancel.reached(Urgency::Ask) => {}
        }
        if cancel.urgency() < Urgency::Kill {
            self.ask_to_end();
            tokio::select! {
                exit = ended(&mut self.end) => return exit,
                () = killer.reached(Urgency::Kill) => {}
                () = tokio::time::sleep(GRACE) => {}
            }
        }
        self.signal(Signal::KILL);
        ended(&mut self.end).await
    }

    /// Sends SIGTERM to its group, and SIGKILL `grace` later, or when `cancel` kills, where it has not ended by then.
    pub async fn stop(&mut self, grace: Duration, cancel: &Cancel) -> Exit {
        let mut killer = cancel.clone();
        self.ask_to_end();
        tokio::select! {
            exit = ended(&mut self.end) => return exit,
            () = killer.reached(Urgency::Kill) => {}
            () = tokio::time::sleep(grace) => {}
        }
        self.signal(Signal::KILL);
        ended(&mut self.end).await
    }

    /// One that is stopped goes on: it could not act on the request.
    fn ask_to_end(&self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        // Under the lock, so that it is not reaped in between.
        if let Some(pid) = *self.alive.lock() {
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }
}

async fn ended(end: &mut watch::Receiver<Option<End>>) -> Exit {
    match end.wait_for(Option::is_some).await.map(|end| *end) {
        Ok(Some(end)) => end.exit,
        // The thread that served it is gone without a word.
        _ => Exit::Signal(Signal::KILL.as_raw()),
    }
}

/// The ledger of the processes of one job.
#[derive(Debug)]
pub struct JobProcesses {
    /// The value of [`MARK`].
    mark: String,
    /// Where they are from the start.
    group: Option<ControlGroup>,
    /// Each by the process that leads it.
    sessions: Mutex<HashSet<Pid>>,
    /// The processes that it started itself, as their attendants see them.
    started: Mutex<Vec<Alive>>,
    readers: Mutex<Vec<std::thread::JoinHandle<()>>>,
    /// Whether some of them may be in the session of Loom itself.
    in_own_session: AtomicBool,
}

/// Processes that Loom started and waits for itself. Only the job that one belongs to may take it for something left behind.
static ATTENDED: LazyLock<Mutex<HashSet<Pid>>> = LazyLock::new(Mutex::default);
/// How many jobs have a ledger now. What cannot be told apart is a job's own only when it is alone.
static LEDGERS: LazyLock<Mutex<usize>> = LazyLock::new(Mutex::default);

impl JobProcesses {
    /// The ledger of the job `job_id` of the run `run_id`, whose random word is `word`, and whose processes are in `group`.
    pub(crate) fn new(run_id: &str, job_id: &str, word: &str, group: Option<ControlGroup>) -> Self {
        *LEDGERS.lock() += 1;
        Self {
            mark: format!("{run_id}/{job_id}/{word}"),
            group,
            sessions: Mutex::default(),
            started: Mutex::default(),
            readers: Mutex::default(),
            in_own_session: AtomicBool::new(false),
        }
    }

    /// Starts a process in a session of its own.
    ///
    /// # Errors
    /// The program cannot be found or started.
    pub fn spawn(&self, spawn: Spawn) -> Result<Process, SpawnError> {
        let error = |source| SpawnError { program: spawn.name.clone(), cwd: spawn.cwd.clone(), source };
        let image = self.image(&spawn.program, &spawn.name, &spawn.args, &spawn.env).map_err(error)?;
        let (stdout, heard_out) = stream(spawn.stdout.clone()).map_err(error)?;
        let (stderr, heard_err) = stream(spawn.stderr.clone()).map_err(error)?;
        let streams = [null().map_err(error)?, stdout, stderr];

        let cwd = spawn.cwd.clone();
        let (started, is_started) = mpsc::sync_channel(1);
        let life = move || {
            // Held until the process is known: a sweep must not take it for an orphan.
            let mut attended = attended();
            let pid = start::start_in(&cwd, &image, &streams, Leads::Session);
            attended.extend(pid.as_ref().ok());
            drop((attended, image, streams));
            match pid {
                Ok(pid) => {
                    let (attendant, process) = Attendant::of(pid);
                    let _ = started.send(Ok(process));
                    attendant.attend([heard_out, heard_err]);
                }
                Err(error) => drop(started.send(Err(error))),
            }
        };
        let reader = std::thread::Builder::new().name("process".to_owned()).stack_size(128 * 1024);
        let reader = reader.spawn(life).map_err(error)?;
        let gone = || Err(io::Error::other("the thread that was to start it is gone"));
        let process = is_started.recv().unwrap_or_else(|_| gone()).map_err(error)?;
        self.enter(&process, reader);
        Ok(process)
    }

    /// Takes `process`, which was started, and the thread that attends to it.
    fn enter(&self, process: &Process, attendant: std::thread::JoinHandle<()>) {
        self.sessions.lock().insert(process.pid);
        let mut started = self.started.lock();
        started.retain(|alive| alive.lock().is_some());
        started.push(Arc::clone(&process.alive));
        drop(started);
        let mut readers = self.readers.lock();
        readers.retain(|reader| !reader.is_finished());
        readers.push(attendant);
    }

    /// How many of the processes that it started itself have not ended.
    pub fn running(&self) -> usize {
        self.started.lock().iter().filter(|alive| alive.lock().is_some()).count()
    }

    /// The process that `program`, called `name`, is with `args` and the environment `env`.
    fn image(
        &self,
        program: &Path,
        name: &OsString,
        args: &[OsString],
        env: &[(OsString, OsString)],
    ) -> io::Result<Image> {
        let args = std::iter::once(name).chain(args).map(OsString::as_os_str);
        let env = env.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        // Of two that have one name, the last one counts.
        let env: BTreeMap<_, _> = env.chain([(OsStr::new(MARK), OsStr::new(&self.mark))]).collect();
        let image = Image::new(program, args, env)?;
        match &self.group {
            Some(group) => entering(group, &image),
            None => Ok(image),
        }
    }

    /// What the job has used up since this was asked last, as far as its control group knows.
    pub(crate) fn used_up(&self) -> Vec<UsedUp> {
        self.group.as_ref().map(ControlGroup::used_up).unwrap_or_default()
    }

    /// Removes the job's control group with whatever is still in it. Blocks the thread: not at all where nothing is.
    ///
    /// # Errors
    /// Something in it does not end.
    pub(crate) fn end_group(&self) -> io::Result<()> {
        self.group.as_ref().map_or(Ok(()), ControlGroup::end)
    }
}

impl Drop for JobProcesses {
    fn drop(&mut self) {
        *LEDGERS.lock() -= 1;
        // None, but where the job was dropped before it was swept.
        for alive in self.started.get_mut() {
            if let Some(pid) = *alive.lock() {
                let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            }
        }
    }
}

/// Makes this process the parent of all that its descendants leave behind. To be called once, before any job runs.
///
/// # Errors
/// The system refuses.
pub fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// The numbers of the signals that this process ignores: those that were ignored when it was started, as long as it has not
/// said what to do with them.
pub fn ignored_signals() -> Vec<i32> {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or_default();
    (1..=64).filter(|signal| set & (1 << (signal - 1)) != 0).collect()
}

/// `image` as it is started in `group`.
fn entering(group: &ControlGroup, image: &Image) -> io::Result<Image> {
    // By which the shell says what it cannot do; no path is like it.
    let name = OsStr::new("loom");
    let entrances: Vec<PathBuf> = group.entrances().collect();
    let words = entrances.iter().map(|entrance| entrance.as_os_str());
    let words: Vec<&OsStr> = std::iter::once(name).chain(words).chain([name]).collect();
    image.by_shell(ENTER, &words)
}

/// Whether a process that does nothing ends well in `group`.
fn runs_in(group: &ControlGroup) -> io::Result<bool> {
    let nothing = Image::new(Path::new("/bin/sh"), ["sh", "-c", ":"].map(OsStr::new), [])?;
    let image = entering(group, &nothing)?;
    let mut attended = attended();
    let pid = start::start(&image, &[null()?, null()?, null()?], Leads::Session)?;
    attended.insert(pid);
    drop(attended);
    let (attendant, _process) = Attendant::of(pid);
    attendant.wait_for_end();
    Ok(attendant.reap() == Exit::Code(0))
}

/// A process that belongs to Loom itself, not to a job.
#[derive(Debug)]
pub(crate) struct Helper {
    pid: Pid,
}

impl Helper {
    /// Starts `program`, an absolute path, with nothing in its environment and a pipe to its standard input.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(program: &Path, args: &[&OsStr]) -> io::Result<(Self, io::PipeWriter)> {
        let args = std::iter::once(program.as_os_str()).chain(args.iter().copied());
        let image = Image::new(program, args, [])?;
        let (stdin, to_stdin) = io::pipe()?;
        let streams = [stdin.into(), null()?, null()?];
        let mut attended = attended();
        let pid = start::start(&image, &streams, Leads::Session)?;
        attended.insert(pid);
        Ok((Self { pid }, to_stdin))
    }

    /// Waits for its end, but no longer than `patience`.
    pub(crate) fn wait(self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let pidfd = rustix::process::pidfd_open(self.pid, PidfdFlags::empty());
        let ended = || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            !matches!(rustix::process::waitid(WaitId::Pid(self.pid), options), Ok(None))
        };
        while !ended() {
            if Instant::now() >= deadline {
                return;
            }
            match &pidfd {
                Ok(pidfd) => drop(wait_ready(&[], Some(pidfd), Some(deadline))),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        attended().remove(&self.pid);
    }
}

fn attended() -> MutexGuard<'static, HashSet<Pid>> {
    ATTENDED.lock()
}

/// What a stream of a process is given, and where it is heard; nothing is heard without a sink.
fn stream(sink: Option<OutputSink>) -> io::Result<(OwnedFd, Option<(OwnedFd, OutputSink)>)> {
    let Some(sink) = sink else { return Ok((null()?, None)) };
    let (from, to) = io::pipe()?;
    Ok((to.into(), Some((from.into(), sink))))
}

fn null() -> io::Result<OwnedFd> {
    let null = fs_err::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    Ok(null.into_parts().0.into())
}

/// A process could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start `{}` in {}", program.display(), cwd.display())]
pub struct SpawnError {
    /// What was to be started.
    pub program: OsString,
    /// Where.
    pub cwd: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// The thread of one process.
struct Attendant {
    alive: Alive,
    pid: Pid,
    pidfd: Option<OwnedFd>,
    end: watch::Sender<Option<End>>,
}

impl Attendant {
    /// That of the process `pid`, which was just started.
    fn of(pid: Pid) -> (Self, Process) {
        let (end, end_seen) = watch::channel(None);
        let alive = Arc::new(Mutex::new(Some(pid)));
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok();
        (Self { alive: Arc::clone(&alive), pid, pidfd, end }, Process { pid, alive, end: end_seen })
    }

    /// Reads until the process has ended and its streams are closed, or [`DRAIN`] later; then, where something else
    /// holds them open, goes on reading.
    fn attend(self, pipes: [Option<(OwnedFd, OutputSink)>; 2]) {
        let mut pipes: Vec<_> =
            pipes.into_iter().flatten().map(|(fd, sink)| (fd, Lines::new(sink))).collect();
        let mut buffer = vec![0; READ];
        let mut ended_at = None;
        while ended_at.is_none() || !pipes.is_empty() {
            let wait_until = ended_at.map(|at| at + DRAIN);
            if wait_until.is_some_and(|at| Instant::now() >= at) {
                break;
            }
            let pidfd = if ended_at.is_none() { self.pidfd.as_ref() } else { None };
            let ready = wait_ready(&pipes, pidfd, wait_until);
            read_ready(&mut pipes, &ready, &mut buffer);
            let no_pidfd = self.pidfd.is_none() && pipes.is_empty();
            if ended_at.is_none() && (no_pidfd || ready.last() == Some(&true)) {
                self.wait_for_end();
                ended_at = Some(Instant::now());
            }
        }
        let exit = self.reap();
        self.end.send_replace(Some(End { exit, output_open: !pipes.is_empty() }));
        while !pipes.is_empty() {
            let ready = wait_ready(&pipes, None, None);
            read_ready(&mut pipes, &ready, &mut buffer);
        }
    }

    /// Waits without reaping, so that the pid stays the process's own until nobody signals it any more.
    fn wait_for_end(&self) {
        let _ = rustix::process::waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    }

    fn reap(&self) -> Exit {
        let mut alive = self.alive.lock();
        let status = loop {
            match rustix::process::waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED) {
                Err(error) if error == rustix::io::Errno::INTR => {}
                status => break status.ok().flatten(),
            }
        };
        *alive = None;
        drop(alive);
        attended().remove(&self.pid);
        let code = status.as_ref().and_then(WaitIdStatus::exit_status).map(Exit::Code);
        let signal = || status.as_ref().and_then(WaitIdStatus::terminating_signal).map(Exit::Signal);
        code.or_else(signal).unwrap_or(Exit::Signal(Signal::KILL.as_raw()))
    }
}

/// Waits for data on a pipe, the end of the process or a point in time; one answer per pipe, then one for the process.
fn wait_ready(pipes: &[(OwnedFd, Lines)], pidfd: Option<&OwnedFd>, until: Option<Instant>) -> Vec<bool> {
    let mut fds: Vec<PollFd<'_>> =
        pipes.iter().map(|(fd, _)| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
    fds.extend(pidfd.map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
    let timeout = until.map(|at| at.saturating_duration_since(Instant::now()));
    let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) => {
            let mut ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            ready.resize(pipes.len() + 1, false);
            ready
        }
        // Interrupted: look again.
        Err(_) => vec![false; pipes.len() + 1],
    }
}

/// Reads once from each pipe that is ready; a pipe that has ended is taken out.
fn read_ready(pipes: &mut Vec<(OwnedFd, Lines)>, ready: &[bool], buffer: &mut [u8]) {
    let mut ready = ready.iter();
    pipes.retain_mut(|(fd, lines)| {
        if ready.next() != Some(&true) {
            return true;
        }
        match rustix::io::read(&*fd, &mut *buffer) {
            Ok(0) => {
                lines.end();
                false
            }
            Ok(count) => {
                lines.push(&buffer[..count]);
                true
            }
            Err(error) if error == rustix::io::Errno::INTR => true,
            Err(_) => {
                lines.end();
                false
            }
        }
    });
}

//! A process on the user's own terminal.
//!
//! It leads a process group in Loom's session, which is the terminal's foreground group while it runs: what is typed goes to
//! it, and so does Ctrl-C. Where Loom has no terminal it leads a session of its own, as any other process of a job.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal as NixSignal};
use rustix::process::{getpgrp, kill_process_group};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

use super::start::Leads;
use super::{
    Attendant, Cancel, End, Exit, GRACE, JobProcesses, OsString, PathBuf, Pid, Process, Signal, SpawnError,
    Urgency, WaitId, WaitIdOptions, attended, ended, io, start,
};

/// Where the standard streams of a process begin that are not standard ones.
const FIRST: i32 = 3;
/// So long a process that has stopped its own group needs until it stops.
const STOPS: Duration = Duration::from_millis(100);

/// What to start on the user's terminal.
#[derive(Debug)]
pub struct Foreground {
    /// An absolute path, a path with a slash relative to `cwd`, or a name that is looked up in the `PATH` of `env`.
    pub program: OsString,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Its environment, but for [`MARK`](super::MARK).
    pub env: Vec<(OsString, OsString)>,
}

/// The terminal that Loom's group is the foreground group of.
struct Terminal {
    fd: OwnedFd,
    own: Pid,
    settings: Option<Termios>,
}

impl Terminal {
    /// That of the standard input; none where that is no terminal, or another session's.
    ///
    /// # Errors
    /// Another process group has it.
    fn of_stdin() -> io::Result<Option<Self>> {
        let Ok(foreground) = tcgetpgrp(stdin()) else { return Ok(None) };
        let own = getpgrp();
        if foreground != own {
            return Err(io::Error::other("Loom is in the background of its terminal"));
        }
        let fd = rustix::io::fcntl_dupfd_cloexec(stdin(), FIRST)?;
        let settings = tcgetattr(&fd).ok();
        Ok(Some(Self { fd, own, settings }))
    }

    /// The group of `pid` has it from now on; where it has asked for it too early, it goes on.
    fn give_to(&self, pid: Pid) -> bool {
        let given = tcsetpgrp(&self.fd, pid).is_ok();
        given && kill_process_group(pid, Signal::CONT).is_ok()
    }

    /// Loom has it again, as it was.
    fn take_back(&self) {
        // A terminal that has gone away needs nothing.
        if tcsetpgrp(&self.fd, self.own).is_ok()
            && let Some(settings) = &self.settings
        {
            let _ = tcsetattr(&self.fd, OptionalActions::Drain, settings);
        }
    }

    /// The process `pid` has stopped by `signal`.
    fn stopped(&self, pid: Pid, signal: Option<i32>) {
        let wants_terminal = [Signal::TTIN, Signal::TTOU].iter().any(|it| signal == Some(it.as_raw()));
        if wants_terminal && self.give_to(pid) {
            return;
        }
        // It was suspended, and Loom with it; whoever continues Loom continues it.
        self.take_back();
        let _ = kill_process_group(self.own, Signal::TSTP);
        std::thread::sleep(STOPS);
        self.give_to(pid);
    }
}

impl JobProcesses {
    /// Runs a process with Loom's own standard streams to its end. When `cancel` asks it is told that its terminal is gone,
    /// and asked to end; it is killed [`GRACE`] later or when `cancel` kills.
    ///
    /// # Errors
    /// The program cannot be found or started.
    pub async fn run_in_foreground(&self, spawn: Foreground, cancel: &Cancel) -> Result<Exit, SpawnError> {
        let Foreground { program, cwd, env } = spawn;
        let error = |source| SpawnError { program: program.clone(), cwd: cwd.clone(), source };
        let found = find_program(&program, &cwd, &env).map_err(error)?;
        // The name as it was asked for, as a shell passes it on.
        let image = self.image(&found, &program, &[], &env).map_err(error)?;
        let streams = streams().map_err(error)?;
        let terminal = Terminal::of_stdin().map_err(error)?;
        let leads = match terminal {
            Some(_) => Leads::Group,
            None => Leads::Session,
        };
        if terminal.is_some() {
            self.in_own_session.store(true, Ordering::Relaxed);
        }
        let folder = cwd.clone();
        let (started, is_started) = mpsc::sync_channel(1);
        let life = move || {
            // Who is in the background stops where it changes the foreground, but for this.
            let mut mask = SigSet::empty();
            mask.add(NixSignal::SIGTTOU);
            let _ = mask.thread_block();
            // As in `spawn`.
            let mut attended = attended();
            let pid = start::start_in(&folder, &image, &streams, leads);
            attended.extend(pid.as_ref().ok());
            drop((attended, image, streams));
            match pid {
                Ok(pid) => {
                    let (attendant, process) = Attendant::of(pid);
                    let _ = started.send(Ok(process));
                    attendant.attend_in_foreground(terminal.as_ref());
                }
                Err(error) => drop(started.send(Err(error))),
            }
        };
        let thread = std::thread::Builder::new().name("shell".to_owned()).spawn(life).map_err(error)?;
        let gone = || Err(io::Error::other("the thread that was to start it is gone"));
        let mut process = is_started.recv().unwrap_or_else(|_| gone()).map_err(error)?;
        self.enter(&process, thread);
        Ok(process.wait_in_foreground(cancel).await)
    }
}

impl Process {
    /// Interactive shells do not mind SIGTERM.
    async fn wait_in_foreground(&mut self, cancel: &Cancel) -> Exit {
        let (mut asked, mut killed) = (cancel.clone(), cancel.clone());
        tokio::select! {
            exit = ended(&mut self.end) => return exit,
            () = asked.reached(Urgency::Ask) => {}
        }
        self.signal(Signal::HUP);
        self.ask_to_end();
        tokio::select! {
            exit = ended(&mut self.end) => return exit,
            () = killed.reached(Urgency::Kill) => {}
            () = tokio::time::sleep(GRACE) => {}
        }
        self.signal(Signal::KILL);
        ended(&mut self.end).await
    }
}

impl Attendant {
    /// Waits for its end; `terminal` is its own meanwhile.
    fn attend_in_foreground(self, terminal: Option<&Terminal>) {
        if let Some(terminal) = terminal {
            terminal.give_to(self.pid);
        }
        // Not reaped, so that the pid stays its own.
        let look = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
        loop {
            match rustix::process::waitid(WaitId::Pid(self.pid), look) {
                Ok(Some(status)) if status.stopped() => {
                    let taken = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
                    let _ = rustix::process::waitid(WaitId::Pid(self.pid), taken);
                    if let Some(terminal) = terminal {
                        terminal.stopped(self.pid, status.stopping_signal());
                    }
                }
                Err(error) if error == rustix::io::Errno::INTR => {}
                _ => break,
            }
        }
        let exit = self.reap();
        if let Some(terminal) = terminal {
            terminal.take_back();
        }
        self.end.send_replace(Some(End { exit, output_open: false }));
    }
}

/// The absolute path of a program.
fn find_program(name: &OsStr, cwd: &Path, env: &[(OsString, OsString)]) -> io::Result<PathBuf> {
    let program = Path::new(name);
    if name.as_bytes().contains(&b'/') {
        return Ok(cwd.join(program));
    }
    let path = env.iter().find(|(key, _)| key == "PATH").map_or_else(Default::default, |(_, v)| v.clone());
    let found = std::env::split_paths(&path).map(|dir| cwd.join(dir).join(program)).find(|candidate| {
        candidate.is_file() && rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok()
    });
    found.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("not found in PATH (`{}`)", path.display()))
    })
}

/// Loom's own standard streams.
fn streams() -> io::Result<[OwnedFd; 3]> {
    Ok([
        rustix::io::fcntl_dupfd_cloexec(stdin(), FIRST)?,
        rustix::io::fcntl_dupfd_cloexec(stdout(), FIRST)?,
        rustix::io::fcntl_dupfd_cloexec(stderr(), FIRST)?,
    ])
}

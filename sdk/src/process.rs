use std::time::Duration;

use crate::bindings::loom::exec::process;
use crate::bindings::loom::host::types;
use crate::error::{Error, Result};
use crate::job::OutputSink;

/// A process to start on the user's machine. Needs the capability `exec`, which names the program, the patterns of its
/// arguments and the variables that may be set for it.
///
/// It starts in the job's workspace, in a process group of its own and with an empty standard input.
#[derive(Debug)]
pub struct Command(process::Command);

impl Command {
    /// `program` is as the manifest has it: an absolute path, or a name that was looked up on the `PATH` of Loom itself when
    /// the plugin was loaded, whatever the `PATH` of the job is.
    pub fn new(program: &str) -> Self {
        Self(process::Command::new(program))
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<str>>(self, args: impl IntoIterator<Item = A>) -> Self {
        self.0.args(&args.into_iter().map(|arg| arg.as_ref().to_owned()).collect::<Vec<_>>());
        self
    }

    /// Sets the working directory: a path relative to the job's workspace, or an absolute one, and inside of it.
    #[must_use]
    pub fn cwd(self, path: &str) -> Self {
        self.0.cwd(path);
        self
    }

    /// Gives it the job's whole environment, secrets included, of which the plugin itself sees nothing. Needs the capability
    /// `job_env`. The job's environment may decide what code the process runs (`LD_PRELOAD`): no process that is to confine
    /// a job may have it. Without, it gets the `PATH` of Loom and what [`Command::env`] sets.
    #[must_use]
    pub fn inherit_job_env(self) -> Self {
        self.0.inherit_job_env();
        self
    }

    /// Sets a variable, which the manifest has to name as one of the program's `env`.
    #[must_use]
    pub fn env(self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// Records its standard output there; without, it is discarded.
    #[must_use]
    pub fn stdout(self, sink: &OutputSink) -> Self {
        self.0.stdout(&sink.0);
        self
    }

    /// Records its standard error there; without, it is discarded.
    #[must_use]
    pub fn stderr(self, sink: &OutputSink) -> Self {
        self.0.stderr(&sink.0);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`](crate::ErrorKind::Denied) where the manifest does not grant it,
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) where the program or the working directory does not exist.
    pub fn spawn(self) -> Result<Child> {
        self.0.spawn().map(Child).map_err(Error::from_host)
    }

    /// Starts it and waits for its end.
    ///
    /// # Errors
    /// Those of [`Command::spawn`].
    pub fn status(self) -> Result<Exit> {
        Ok(self.spawn()?.wait())
    }
}

/// A process that was started. Dropping it does not end the process; the end of the job does.
#[derive(Debug)]
pub struct Child(process::Child);

impl Child {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.pid()
    }

    /// Waits for its end. When the run is cancelled, Loom asks the process's group to end and kills it 10 seconds later.
    pub fn wait(&mut self) -> Exit {
        Exit::from_host(self.0.wait())
    }

    /// Asks its process group to end, kills it after `grace` where it has not, after 10 seconds at most, and waits for its
    /// end.
    pub fn stop(&mut self, grace: Duration) -> Exit {
        Exit::from_host(self.0.stop(u32::try_from(grace.as_millis()).unwrap_or(u32::MAX)))
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It ended by itself, with this code from 0 to 255.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// Whether it ended by itself with code 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    pub(crate) fn from_host(exit: types::Exit) -> Self {
        match exit {
            types::Exit::Code(code) => Self::Code(code),
            types::Exit::Signal(signal) => Self::Signal(signal),
        }
    }

    pub(crate) fn into_host(self) -> types::Exit {
        match self {
            Self::Code(code) => types::Exit::Code(code),
            Self::Signal(signal) => types::Exit::Signal(signal),
        }
    }
}

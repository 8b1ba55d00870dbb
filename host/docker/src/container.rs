//! One container: started, watched, ended.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, HealthStatusEnum};
use bollard::query_parameters::{
    AttachContainerOptions, InspectContainerOptions, KillContainerOptions, LogsOptions,
    StartContainerOptions, StopContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use crate::oom::ran_out_of_memory;
use crate::words::program_in;
use crate::{Docker, Error, Follow, Gone, Kind, Output, Reason, Resource, Signal};

/// The exit code of what was killed.
const KILLED: i64 = 137;
/// Podman calls a container stopped for less than a second, until it has tidied up.
const STOPPED: Duration = Duration::from_secs(10);
/// Longer than any container runs.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// A container of a scope. Clones are the same container.
#[derive(Clone)]
pub struct Container {
    docker: Docker,
    id: Arc<str>,
    name: Arc<str>,
}

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    /// Whether it runs.
    pub status: Status,
    /// Exit code of the first process; 0 as long as it runs.
    pub exit_code: i64,
    /// The container ended since its memory was used up.
    pub oom_killed: bool,
    /// What the health check says; `None` where there is none.
    pub health: Option<Health>,
}

/// Whether a container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Not started yet.
    Created,
    /// Started, and not ended.
    Running,
    /// Ended after it ran.
    Ended,
}

/// What a health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing yet.
    Starting,
    /// All is well.
    Healthy,
    /// The check has failed too often.
    Unhealthy,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit code of the first process; 128 + n where signal n ended it.
    pub code: i64,
    /// The container ended since its memory was used up.
    pub oom_killed: bool,
}

impl Container {
    pub(crate) fn new(docker: Docker, id: String, name: String) -> Self {
        Self { docker, id: id.into(), name: name.into() }
    }

    /// The daemon's identifier.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Human-readable name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The container as a resource of its scope.
    pub fn resource(&self) -> Resource {
        Resource { kind: Kind::Container, id: self.id.to_string(), name: self.name.to_string() }
    }

    pub(crate) fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`Error::NotStarted`] where its program is not there or cannot be run; else what the daemon says.
    pub async fn start(&self) -> Result<(), Error> {
        let doing = self.doing("start");
        let start = self.docker.slow().start_container(&self.id, None::<StartContainerOptions>);
        match self.docker.watch(&doing, start).await?.map_err(|error| Error::of(doing, error)) {
            Err(Error::Refused { words, .. }) if let Some(program) = program_in(&words) => {
                Err(Error::NotStarted { program, words })
            }
            started => started,
        }
    }

    /// Starts it, and gives its first process `input`, which is kept nowhere, as its standard input to the end. It must have
    /// been made to take some.
    ///
    /// # Errors
    /// As [`Self::start`]; the daemon does not take the input.
    pub async fn start_with_input(&self, input: &[u8]) -> Result<(), Error> {
        let doing = self.doing("give its input to");
        let failed = |error| Error::of(doing.clone(), error);
        let options =
            AttachContainerOptions { stdin: true, stream: true, ..AttachContainerOptions::default() };
        let attach = self.docker.slow().attach_container(&self.id, Some(options));
        let mut attached = self.docker.watch(&doing, attach).await?.map_err(failed)?;
        self.start().await?;
        let give = async {
            attached.input.write_all(input).await?;
            attached.input.shutdown().await
        };
        let given = self.docker.watch(&doing, give).await?;
        given.map_err(|error| Error::WentAway { doing: doing.clone(), why: error.to_string() })
    }

    /// What it is doing.
    ///
    /// # Errors
    /// [`Error::Gone`] if it was removed.
    pub async fn state(&self) -> Result<ContainerState, Error> {
        Ok(state_of(&self.inspect().await?))
    }

    /// Waits until it ends, if it runs; one that was never started has not ended either.
    ///
    /// # Errors
    /// [`Error::Gone`] if it was removed; the daemon went away.
    pub async fn wait(&self) -> Result<Exit, Error> {
        let doing = self.doing("wait for");
        let mut pause = Duration::from_millis(10);
        loop {
            let state = self.state().await?;
            if state.status == Status::Ended {
                // The daemon may come to know of the memory after the end.
                let oom_killed = state.oom_killed
                    || (state.exit_code == KILLED
                        && ran_out_of_memory(&self.docker, &self.id, SystemTime::now() - LONGEST, doing)
                            .await?);
                return Ok(Exit { code: state.exit_code, oom_killed });
            }
            if state.status == Status::Created {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(500));
                continue;
            }
            // A condition that holds already is answered at once, so that it does not matter when this is asked.
            let options = WaitContainerOptions { condition: "not-running".to_owned() };
            let mut ended = self.docker.slow().wait_container(&self.id, Some(options));
            match self.docker.watch(&doing, ended.next()).await? {
                // What it says is taken from the container itself, which also knows of memory.
                Some(Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. })) | None => {}
                Some(Err(error)) => return Err(self.explain(Error::of(doing, error)).await),
            }
        }
    }

    /// The output of its own processes, from the beginning, or only the last `tail` lines of it; as long as the
    /// container runs with `follow`, else what is there.
    pub fn output(&self, tail: Option<u32>, follow: Follow) -> Output {
        let options = LogsOptions {
            follow: follow == Follow::Yes,
            stdout: true,
            stderr: true,
            tail: tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string()),
            ..LogsOptions::default()
        };
        let chunks = Box::pin(self.docker.slow().logs(&self.id, Some(options)));
        Output::new(self.docker.clone(), self.doing("read the output of"), chunks)
    }

    /// Asks it to end, by the signal that its image names (usually TERM), and kills it after `grace`.
    ///
    /// # Errors
    /// What the daemon says. That it has ended already is fine.
    pub async fn stop(&self, grace: Duration) -> Result<(), Error> {
        let doing = self.doing("stop");
        let seconds = i32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
        let options = StopContainerOptions { signal: None, t: Some(seconds) };
        let stop = self.docker.slow().stop_container(&self.id, Some(options));
        let stopped = self.docker.watch(&doing, stop).await?;
        self.or_ended(stopped.map_err(|error| Error::of(doing, error)))
    }

    /// Sends a signal to its first process; KILL ends all of them.
    ///
    /// # Errors
    /// What the daemon says. That it has ended already is fine.
    pub async fn kill(&self, signal: Signal) -> Result<(), Error> {
        let doing = self.doing("kill");
        let options = KillContainerOptions { signal: format!("SIG{}", signal.name()) };
        let kill = self.docker.slow().kill_container(&self.id, Some(options));
        let killed = self.docker.watch(&doing, kill).await?;
        self.or_ended(killed.map_err(|error| Error::of(doing, error)))
    }

    /// The daemon's whole knowledge of it.
    pub(crate) async fn inspect(&self) -> Result<ContainerInspectResponse, Error> {
        let doing = self.doing("inspect");
        let until = Instant::now() + STOPPED;
        loop {
            let inspect = self.docker.slow().inspect_container(&self.id, None::<InspectContainerOptions>);
            match self.docker.watch(&doing, inspect).await? {
                Err(error) if Instant::now() < until && is_stopped_by_podman(&error) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                inspected => {
                    return inspected.map_err(|error| match Error::of(doing, error) {
                        error if error.is_not_found() => self.gone(Gone::Removed),
                        error => error,
                    });
                }
            }
        }
    }

    /// A better error where the reason is that the container is gone.
    pub(crate) async fn explain(&self, error: Error) -> Error {
        if !matches!(
            error,
            Error::Refused { reason: Reason::NotFound | Reason::Conflict | Reason::Other, .. }
        ) {
            return error;
        }
        match self.state().await {
            Err(gone @ Error::Gone { .. }) => gone,
            Ok(state) if state.status == Status::Ended => self.ended(&state),
            _ => error,
        }
    }

    /// Sees that it runs, and goes on doing so for a while.
    pub(crate) async fn check_running(&self, settle: Duration) -> Result<(), Error> {
        let until = Instant::now() + settle;
        let mut pause = Duration::from_millis(5);
        loop {
            let state = self.state().await?;
            if state.status != Status::Running {
                return Err(self.ended(&state));
            }
            if Instant::now() >= until {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    /// The error that it has ended while it was in use.
    fn ended(&self, state: &ContainerState) -> Error {
        let ended = Gone::Ended { exit_code: state.exit_code };
        self.gone(if state.oom_killed { Gone::OutOfMemory } else { ended })
    }

    fn gone(&self, how: Gone) -> Error {
        Error::Gone { container: self.name.to_string(), how }
    }

    pub(crate) fn doing(&self, verb: &str) -> String {
        format!("{verb} the container {}", self.name)
    }

    #[expect(clippy::unused_self, reason = "reads as what it is about")]
    fn or_ended(&self, result: Result<(), Error>) -> Result<(), Error> {
        match result {
            // Docker says so with 404 and 409, depending on whether it is still there.
            Err(Error::Refused { reason: Reason::NotFound | Reason::Conflict, .. }) => Ok(()),
            result => result,
        }
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container").field("name", &self.name).field("id", &self.id).finish_non_exhaustive()
    }
}

/// A state that Docker does not have, and so bollard neither.
fn is_stopped_by_podman(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::JsonDataError { message, .. } if message.contains("`stopped`"))
}

pub(crate) fn state_of(inspected: &ContainerInspectResponse) -> ContainerState {
    use ContainerStateStatusEnum as S;
    let state = inspected.state.as_ref();
    let status = match state.and_then(|state| state.status) {
        Some(S::CREATED) => Status::Created,
        Some(S::RUNNING | S::PAUSED | S::RESTARTING | S::STOPPING) => Status::Running,
        _ => Status::Ended,
    };
    let health = state.and_then(|state| state.health.as_ref()).and_then(|health| health.status);
    ContainerState {
        status,
        exit_code: state.and_then(|state| state.exit_code).unwrap_or(-1),
        oom_killed: state.and_then(|state| state.oom_killed).unwrap_or(false),
        health: match health {
            Some(HealthStatusEnum::STARTING) => Some(Health::Starting),
            Some(HealthStatusEnum::HEALTHY) => Some(Health::Healthy),
            Some(HealthStatusEnum::UNHEALTHY) => Some(Health::Unhealthy),
            _ => None,
        },
    }
}

//! What a container, and a process in it, is to be: only what a job may ask for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig, Mount as ApiMount,
    MountTmpfsOptions, MountType, MountVolumeOptions, NetworkingConfig,
};

use crate::image::check_reference;
use crate::owner::LABELS;
use crate::{Error, Network, Volume};

/// Processes and threads that a container may have at once: more than builds need, and less than keeps a machine from
/// starting any more.
const MOST_PROCESSES: i64 = 8192;

/// A container to be made. What is left out is as the image says.
#[derive(Debug, Clone, Default)]
pub struct ContainerSpec {
    /// What people call it, such as `job` or `postgres`: a part of its name.
    pub name: String,
    /// The image, by name, digest or id. It is not pulled.
    pub image: String,
    /// In place of the image's entrypoint; empty for none.
    pub entrypoint: Option<Vec<String>>,
    /// In place of the image's command.
    pub command: Option<Vec<String>>,
    /// Added to the image's environment. The daemon keeps it on its disk and shows it to everybody who may ask: a secret
    /// belongs into [`ExecSpec::env`](crate::ExecSpec::env), which is kept nowhere.
    pub env: Vec<(String, String)>,
    /// Absolute.
    pub working_dir: Option<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    pub user: Option<String>,
    /// What is mounted into it.
    pub mounts: Vec<Mount>,
    /// Where it can be reached, and what it can reach.
    pub networking: Networking,
    /// More labels than those of its scope; none of them may begin with `loom.`.
    pub labels: Vec<(String, String)>,
    /// In place of the image's health check.
    pub healthcheck: Option<Healthcheck>,
    /// Bytes of memory that all its processes may use together, without swap.
    pub memory_bytes: Option<u64>,
    /// Processes and threads that it may have at once; without, more than builds need.
    pub pids: Option<u64>,
    /// Processors that they may use, in thousandths: 1500 is one and a half.
    pub millicpus: Option<u64>,
    /// A small process with number 1 that passes signals on and reaps orphans.
    pub init: bool,
    /// Its input stays open, so that a program which reads it waits for ever.
    pub stdin_open: bool,
    /// It is [given its input](crate::Container::start_with_input) when it is started.
    pub takes_input: bool,
    /// `os/arch` or `os/arch/variant`.
    pub platform: Option<String>,
    /// Whether its own output is kept.
    pub output: KeepOutput,
}

/// A process to be started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Added to the container's environment. It is kept nowhere, so secrets may be in it.
    pub env: Vec<(String, String)>,
    /// Absolute; else that of the container.
    pub working_dir: Option<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`; else that of the container.
    pub user: Option<String>,
}

/// What is mounted into a container.
#[derive(Debug, Clone)]
pub enum Mount {
    /// A volume.
    Volume {
        /// Of the same scope.
        volume: Volume,
        /// Where: absolute.
        at: String,
        /// It cannot be written.
        read_only: bool,
    },
    /// A file or folder of the daemon's machine. Whether this may be asked for is the caller's to decide; what holds the
    /// daemon's socket is refused here.
    Bind {
        /// Absolute, and there.
        source: PathBuf,
        /// Where: absolute.
        at: String,
        /// It cannot be written.
        read_only: bool,
    },
    /// Memory.
    Tmpfs {
        /// Where: absolute.
        at: String,
        /// At most so many bytes; nothing for half of the memory.
        size_bytes: Option<u64>,
        /// Permissions of its root, such as `0o1777`.
        mode: u32,
    },
}

/// Which network a container is in.
#[derive(Debug, Clone, Default)]
pub enum Networking {
    /// The daemon's default one.
    #[default]
    Default,
    /// None. Starting it takes about half as long.
    None,
    /// One of the same scope.
    Joined {
        /// Which.
        network: Network,
        /// The names by which the others in it find this one.
        aliases: Vec<String>,
    },
}

/// How the daemon finds out whether a service is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthcheck {
    /// A program and its arguments. Exit code 0 means well.
    pub command: Vec<String>,
    /// Between two checks.
    pub interval: Duration,
    /// A check that takes longer has failed.
    pub timeout: Duration,
    /// So many in a row mean unhealthy.
    pub retries: u32,
    /// Failures in the beginning that do not count.
    pub start_period: Duration,
}

/// What becomes of the output of a container's own processes; that of execs goes to who started them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeepOutput {
    /// The daemon keeps it, as much of it as its setting says, for [`Container::output`](crate::Container::output).
    #[default]
    Yes,
    /// It is dropped.
    No,
}

impl ContainerSpec {
    /// Lets the container wait, doing nothing, for execs. It needs no more of the image than `sh`, and ends at once when
    /// it is asked to.
    #[must_use]
    pub fn waiting(mut self) -> Self {
        self.entrypoint = Some(vec!["sh".to_owned()]);
        self.command = Some(Vec::new());
        self.stdin_open = true;
        self.init = true;
        self.output = KeepOutput::No;
        self
    }

    /// As the API wants it, with the labels of a scope. `socket` is that of the daemon, if it is here.
    pub(crate) fn body(
        &self,
        mut labels: HashMap<String, String>,
        socket: Option<&Path>,
    ) -> Result<ContainerCreateBody, Error> {
        check_reference(&self.image)?;
        for (name, value) in &self.labels {
            if name.starts_with(LABELS) {
                return Err(Error::invalid(format!("the label `{name}`"), "is one that only Loom gives"));
            }
            labels.insert(name.clone(), value.clone());
        }
        if let Some(dir) = &self.working_dir {
            check_absolute("the working folder", dir)?;
        }
        let mounts: Result<Vec<_>, Error> = self.mounts.iter().map(|mount| mount.body(socket)).collect();
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut host = HostConfig {
            mounts: Some(mounts?),
            memory: self.memory_bytes.map(bytes),
            memory_swap: self.memory_bytes.map(bytes),
            nano_cpus: self.millicpus.map(|millis| bytes(millis.saturating_mul(1_000_000))),
            init: Some(self.init),
            pids_limit: Some(self.pids.map_or(MOST_PROCESSES, bytes)),
            // No program of the image gets more rights than who starts it.
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            ..HostConfig::default()
        };
        if self.output == KeepOutput::No {
            host.log_config = Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None });
        }
        let mut networking_config = None;
        match &self.networking {
            Networking::Default => {}
            Networking::None => host.network_mode = Some("none".to_owned()),
            Networking::Joined { network, aliases } => {
                host.network_mode = Some(network.name().to_owned());
                let endpoint =
                    EndpointSettings { aliases: Some(aliases.clone()), ..EndpointSettings::default() };
                let endpoints = HashMap::from([(network.name().to_owned(), endpoint)]);
                networking_config = Some(NetworkingConfig { endpoints_config: Some(endpoints) });
            }
        }
        // The API takes an entrypoint of one empty word for none.
        let no_entrypoint = || vec![String::new()];
        Ok(ContainerCreateBody {
            image: Some(self.image.clone()),
            entrypoint: self
                .entrypoint
                .as_ref()
                .map(|it| if it.is_empty() { no_entrypoint() } else { it.clone() }),
            cmd: self.command.clone(),
            env: Some(env(&self.env)?),
            working_dir: self.working_dir.clone(),
            user: self.user.clone(),
            labels: Some(labels),
            healthcheck: self.healthcheck.as_ref().map(Healthcheck::body),
            open_stdin: Some(self.stdin_open || self.takes_input),
            stdin_once: Some(self.takes_input),
            attach_stdin: Some(self.takes_input),
            host_config: Some(host),
            networking_config,
            ..ContainerCreateBody::default()
        })
    }
}

impl Mount {
    fn body(&self, socket: Option<&Path>) -> Result<ApiMount, Error> {
        let (typ, at, source, read_only) = match self {
            Self::Volume { volume, at, read_only } => {
                (MountType::VOLUME, at, Some(volume.name().to_owned()), *read_only)
            }
            Self::Bind { source, at, read_only } => {
                (MountType::BIND, at, Some(bind_source(source, socket)?), *read_only)
            }
            Self::Tmpfs { at, .. } => (MountType::TMPFS, at, None, false),
        };
        check_absolute("the mount point", at)?;
        let mut mount = ApiMount {
            typ: Some(typ),
            target: Some(at.clone()),
            source,
            read_only: Some(read_only),
            ..ApiMount::default()
        };
        match self {
            // Not filled with what the image has there: a volume holds what was put into it.
            Self::Volume { .. } => {
                mount.volume_options =
                    Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() });
            }
            Self::Bind { .. } => {}
            Self::Tmpfs { size_bytes, mode, .. } => {
                mount.tmpfs_options = Some(MountTmpfsOptions {
                    size_bytes: size_bytes.and_then(|bytes| i64::try_from(bytes).ok()),
                    mode: Some(i64::from(*mode)),
                    ..MountTmpfsOptions::default()
                });
            }
        }
        Ok(mount)
    }
}

impl Healthcheck {
    fn body(&self) -> HealthConfig {
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let words = std::iter::once("CMD".to_owned()).chain(self.command.iter().cloned());
        HealthConfig {
            test: Some(words.collect()),
            interval: Some(nanos(self.interval)),
            timeout: Some(nanos(self.timeout)),
            retries: Some(i64::from(self.retries)),
            start_period: Some(nanos(self.start_period)),
            start_interval: None,
        }
    }
}

/// `NAME=value` for each variable.
pub(crate) fn env(list: &[(String, String)]) -> Result<Vec<String>, Error> {
    let one = |(name, value): &(String, String)| {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Error::invalid(
                format!("the variable `{name}`"),
                "has a name that no variable can have",
            ));
        }
        if value.contains('\0') {
            return Err(Error::invalid(format!("the variable `{name}`"), "has a NUL in its value"));
        }
        Ok(format!("{name}={value}"))
    };
    list.iter().map(one).collect()
}

pub(crate) fn check_absolute(what: &str, path: &str) -> Result<(), Error> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(());
    }
    Err(Error::invalid(format!("{what} `{path}`"), "is no absolute path"))
}

/// Who has the daemon's socket has the daemon's machine.
fn bind_source(source: &Path, socket: Option<&Path>) -> Result<String, Error> {
    let what = || format!("the mount of `{}`", source.display());
    let Some(text) = source.to_str().filter(|_| source.is_absolute()) else {
        return Err(Error::invalid(what(), "is no absolute path in UTF-8"));
    };
    // What cannot be resolved here may still be there for a daemon on another machine, which knows better.
    if let Ok(real) = fs_err::canonicalize(source) {
        use std::os::unix::fs::FileTypeExt as _;
        let is_socket = fs_err::metadata(&real).is_ok_and(|meta| meta.file_type().is_socket());
        let holds_socket = socket
            .and_then(|socket| fs_err::canonicalize(socket).ok())
            .is_some_and(|socket| socket.starts_with(&real));
        if is_socket || holds_socket {
            return Err(Error::invalid(what(), "would hand out the Docker daemon's socket"));
        }
    }
    Ok(text.to_owned())
}

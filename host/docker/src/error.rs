//! What can go wrong, in the daemon's words where it has some.

use std::io;
use std::path::PathBuf;

use bollard::errors::Error as Api;

use crate::words::{is_folder_missing, is_missing};

/// Why the Docker daemon did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No daemon answers.
    #[error("Cannot connect to the Docker daemon at {}", attempts(tried))]
    Unreachable {
        /// Where it was looked for, at least one.
        tried: Vec<Attempt>,
    },
    /// The daemon was there, and ended or cut the connection. What it was doing may have been done or not.
    #[error("the Docker daemon went away: cannot {doing}: {why}")]
    WentAway {
        /// What was asked: an infinitive.
        doing: String,
        /// The transport's words.
        why: String,
    },
    /// The daemon takes connections and says nothing.
    #[error("the Docker daemon does not answer: cannot {doing}")]
    Unresponsive {
        /// What was asked: an infinitive.
        doing: String,
    },
    /// The daemon refused, or tried and failed.
    #[error("cannot {doing}: {words}")]
    Refused {
        /// What was asked: an infinitive.
        doing: String,
        /// What kind of reason it is.
        reason: Reason,
        /// The daemon's own words.
        words: String,
    },
    /// A step of a build failed.
    #[error("the build of `{tag}` failed{}: {words}", at_step(step.as_deref()))]
    Build {
        /// The image that was to be.
        tag: String,
        /// The step as the daemon printed it, `Step 2/5 : RUN make`, where it came to one.
        step: Option<String>,
        /// The daemon's own words.
        words: String,
    },
    /// A program could not be started in a container.
    #[error("cannot start `{program}` in the container: {}", not_started(program, words))]
    NotStarted {
        /// The first word of the command.
        program: String,
        /// The daemon's own words.
        words: String,
    },
    /// A container is not there any more, or has ended, while it was still needed.
    #[error("the container {container} {}", gone(how))]
    Gone {
        /// Name of the container.
        container: String,
        /// What became of the container.
        how: Gone,
    },
    /// A service did not become healthy.
    #[error("the container {container} {why}{}", with_log(log))]
    NotHealthy {
        /// Name of the container.
        container: String,
        /// The end of a sentence.
        why: String,
        /// The last lines of its output, and of its health check.
        log: Vec<String>,
    },
    /// What was asked for makes no sense, and was not sent to the daemon.
    #[error("{what} {why}")]
    Invalid {
        /// What is wrong, quoted.
        what: String,
        /// The end of a sentence.
        why: &'static str,
    },
    /// What came out of a container would have been written where it must not be.
    #[error("refused to unpack `{path}`: it {why}")]
    Unsafe {
        /// Path as it stands in the archive.
        path: String,
        /// The end of a sentence.
        why: &'static str,
    },
    /// A file or folder of this machine could not be read or written.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    File {
        /// `read` or `write`.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The login for a registry could not be had.
    #[error("cannot get the login for `{registry}` {why}")]
    Login {
        /// The registry's host name.
        registry: String,
        /// From where, and why not: the end of a sentence.
        why: String,
    },
    /// What was to be made could not be written to the run's ledger first, and so was not made, or is removed again.
    #[error("cannot {doing}: {why}")]
    NotRecorded {
        /// What was asked: an infinitive.
        doing: String,
        /// Why the ledger could not be written.
        why: String,
    },
    /// The daemon does not see a folder of this machine that is to be mounted as it is.
    #[error(
        "the Docker daemon at {address} does not see the workspace `{}`, which is to be mounted as it is", path.display()
    )]
    NotVisible {
        /// The daemon's, as `DOCKER_HOST` would name it.
        address: String,
        /// The folder.
        path: PathBuf,
    },
    /// What a container is to have of this machine could not be prepared.
    #[error("{what} cannot be made for the container: {source}")]
    NotStaged {
        /// What.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Everything of the scope was removed already, and it makes nothing more.
    #[error("cannot {doing}: the job is being cleaned up")]
    Closed {
        /// What was asked: an infinitive.
        doing: String,
    },
}

/// One address that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Address, as `DOCKER_HOST` would name it.
    pub address: String,
    /// Why there is no daemon: a fragment.
    pub why: String,
}

/// Why the daemon refused, as far as its words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is no such image, container, network or volume, or not for this platform.
    NotFound,
    /// The registry wants a login, or another one.
    Unauthorized,
    /// The registry asks to come back later.
    TooManyRequests,
    /// The daemon does not have an image that may not be pulled.
    NotThere,
    /// The daemon's disk is full.
    NoSpace,
    /// The daemon cannot reach the registry.
    Network,
    /// There is an image, but for another platform.
    Platform,
    /// Something is in use, being removed, or there already.
    Conflict,
    /// Anything else.
    Other,
}

/// What became of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gone {
    /// Removed.
    Removed,
    /// There, but not running.
    Ended {
        /// Exit code of its first process.
        exit_code: i64,
    },
    /// Killed, since it used up the memory that it may have.
    OutOfMemory,
}

/// Why an address of a kind that is not known is not tried.
pub(crate) const NO_SCHEME: &str = "the address must begin with `unix://` or `tcp://`";
/// Beginning of what stands for the address of a context.
pub(crate) const CONTEXT: &str = "the context `";

impl Error {
    /// What to do about it, where there is something to say: a fragment.
    pub fn hint(&self) -> Option<&'static str> {
        let reason = match self {
            Self::Unreachable { tried }
                if tried.iter().any(|attempt| attempt.why.contains("ermission denied")) =>
            {
                return Some("you may not use its socket: are you in the group `docker`?");
            }
            Self::Unreachable { tried }
                if tried.iter().any(|attempt| attempt.address.starts_with("ssh:")) =>
            {
                return Some("forward its socket (`ssh -L`), and set DOCKER_HOST to that of this machine");
            }
            Self::Unreachable { tried } if tried.iter().any(|attempt| attempt.why == NO_SCHEME) => {
                return Some("set DOCKER_HOST to such an address, or unset it");
            }
            Self::Unreachable { tried } if tried.iter().any(|it| it.address.starts_with(CONTEXT)) => {
                return Some("`docker context use` chooses another one; DOCKER_HOST goes before it");
            }
            Self::Unreachable { .. } => {
                return Some("is it running? another address can be set with DOCKER_HOST");
            }
            Self::NotVisible { .. } => {
                return Some(
                    "use `ephemeral_volume`, for which files are sent, or give the daemon this folder under the same name",
                );
            }
            Self::Refused { reason, .. } => *reason,
            Self::Build { words, .. } => Reason::of(None, words),
            Self::NotStarted { program, words } if is_missing(words) && program == "sh" => {
                return Some("steps run in a shell: take an image that has `sh`");
            }
            Self::NotStarted { program, .. } if program == "sh" => {
                return Some("steps run in a shell: take an image whose `sh` runs on this machine");
            }
            _ => return None,
        };
        match reason {
            Reason::NotFound => Some("check its name and tag; a private one needs `docker login`"),
            Reason::NotThere => Some("pull or build it, or let it be pulled: `pull_policy: if-not-present`"),
            Reason::Unauthorized => Some("log in with `docker login`, or check the login that is there"),
            Reason::TooManyRequests => Some("wait, or log in with `docker login` for a higher limit"),
            Reason::NoSpace => {
                Some("the daemon's disk is full: `docker system prune` frees what is not in use")
            }
            Reason::Network => {
                Some("the daemon cannot reach the registry: check its network, proxy and certificates")
            }
            Reason::Platform => {
                Some("the image exists for other platforms: set `platform`, or take another image")
            }
            Reason::Conflict | Reason::Other => None,
        }
    }

    /// What was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { reason: Reason::NotFound | Reason::NotThere, .. })
    }

    /// From bollard, with what was asked.
    pub(crate) fn of(doing: impl Into<String>, error: Api) -> Self {
        let doing = doing.into();
        match error {
            Api::DockerResponseServerError { status_code, message } => {
                Self::refused(doing, Some(status_code), &message)
            }
            Api::DockerStreamError { error } => Self::refused(doing, None, &error),
            Api::RequestTimeoutError => Self::Unresponsive { doing },
            Api::IOError { .. }
            | Api::HyperResponseError { .. }
            | Api::HyperLegacyError { .. }
            | Api::SocketNotFoundError(_) => Self::WentAway { doing, why: innermost(&error) },
            other => Self::Refused {
                doing,
                reason: Reason::Other,
                words: format!("its answer cannot be understood: {other}"),
            },
        }
    }

    pub(crate) fn refused(doing: String, status: Option<u16>, words: &str) -> Self {
        let words = words.trim().to_owned();
        Self::Refused { doing, reason: Reason::of(status, &words), words }
    }

    pub(crate) fn file(doing: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::File { doing, path: path.into(), source: source.into() }
    }

    pub(crate) fn invalid(what: impl Into<String>, why: &'static str) -> Self {
        Self::Invalid { what: what.into(), why }
    }
}

impl Reason {
    /// From the HTTP status, if there is one, and the daemon's words. Registries and daemons of many versions word it
    /// differently; what is not recognised is `Other`.
    fn of(status: Option<u16>, words: &str) -> Self {
        let words = words.to_lowercase();
        let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
        if says(&["no space left on device", "disk quota exceeded"]) {
            Self::NoSpace
        } else if says(&["toomanyrequests", "too many requests", "rate limit"]) {
            Self::TooManyRequests
        } else if says(&[
            "no matching manifest",
            "does not match the specified platform",
            "no match for platform",
        ]) {
            Self::Platform
        } else if says(&[
            "unauthorized",
            "authentication required",
            "no basic auth",
            "access denied",
            "denied: ",
        ]) {
            Self::Unauthorized
        } else if says(&[
            "dial tcp",
            "i/o timeout",
            "connection refused",
            "connection reset",
            "tls handshake",
            "no such host",
            "server misbehaving",
            "x509:",
            "request canceled while waiting",
            "proxyconnect",
        ]) {
            Self::Network
        } else if status == Some(404)
            || says(&["manifest unknown", "manifest for", "name unknown", "no such image"])
        {
            Self::NotFound
        } else if status == Some(409) || says(&["has active endpoints", "is in use", "already in progress"]) {
            Self::Conflict
        } else {
            Self::Other
        }
    }
}

/// The words at the bottom of a chain of errors: the system's own.
pub(crate) fn innermost(error: &Api) -> String {
    if let Api::SocketNotFoundError(_) = error {
        return "there is no socket".to_owned();
    }
    let mut at: &dyn std::error::Error = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

fn attempts(tried: &[Attempt]) -> String {
    let one = |attempt: &Attempt| format!("{}: {}", attempt.address, attempt.why);
    match tried {
        [] => "no address".to_owned(),
        [only] => one(only),
        [first, rest @ ..] => {
            let rest: Vec<String> = rest.iter().map(one).collect();
            format!("{} (also tried {})", one(first), rest.join(", "))
        }
    }
}

fn at_step(step: Option<&str>) -> String {
    step.map(|step| format!(" at `{step}`")).unwrap_or_default()
}

fn not_started(program: &str, words: &str) -> String {
    if words.contains("exec format error") {
        return "it is made for another processor, or is a script without a `#!` line (exec format error)"
            .to_owned();
    }
    if is_folder_missing(words) {
        return format!("its working folder is not there: {words}");
    }
    if is_missing(words) {
        return format!("the image has no `{program}`");
    }
    if words.contains("permission denied") {
        return "its file is not executable for this user (permission denied)".to_owned();
    }
    words.to_owned()
}

fn gone(how: &Gone) -> String {
    match how {
        Gone::Removed => "was removed by somebody else".to_owned(),
        Gone::Ended { exit_code } => {
            format!("ended with exit code {exit_code} while it was in use")
        }
        Gone::OutOfMemory => "was killed: it used up the memory that it may have".to_owned(),
    }
}

fn with_log(log: &[String]) -> String {
    if log.is_empty() { String::new() } else { format!("; its last output:\n{}", log.join("\n")) }
}

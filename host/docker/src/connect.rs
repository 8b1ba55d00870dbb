//! A connection to a daemon: where it is, what it is, and that it is still there.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker as Client};

use crate::context::{Connect, Endpoint, endpoints};
use crate::error::{NO_SCHEME, innermost};
use crate::{Attempt, Error};

/// To connect and to be told the version, on a loaded machine too.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// For an answer that needs no waiting for anything.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// An answer that may take as long as it likes is waited for as long as the daemon answers pings, so often.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Both for a daemon that was silent before, so that an end with several requests does not wait so long for each.
const PING_SILENT: Duration = Duration::from_secs(2);
/// bollard knows no request without a timeout.
const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 3600);

/// A daemon that was reached. Clones share the connection.
#[derive(Clone)]
pub struct Docker {
    /// For what is answered at once.
    api: Client,
    /// For what takes its time.
    slow: Client,
    daemon: Arc<Daemon>,
    /// The daemon did not answer the last ping.
    silent: Arc<AtomicBool>,
}

/// What is known of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Address, as `DOCKER_HOST` would name it.
    pub address: String,
    /// Version of the engine, such as `28.2.2`.
    pub engine_version: String,
    /// Version of the interface, such as `1.41`.
    pub api_version: String,
    /// Operating system of the containers, such as `linux`.
    pub os: String,
    /// Processor of the containers, as an image's platform names it, such as `amd64`.
    pub arch: String,
    /// The daemon runs without root's rights, as the same user: `root` in a container is this user outside.
    pub rootless: bool,
    /// The daemon is Podman.
    pub podman: bool,
}

impl Daemon {
    /// The daemon builds with BuildKit if it is asked to.
    pub(crate) fn has_buildkit(&self) -> bool {
        let mut parts = self.api_version.split('.').map(|part| part.parse().unwrap_or(0));
        let version: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        !self.podman && self.os == "linux" && version >= (1, 41)
    }
}

impl std::fmt::Debug for Docker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Docker").field(&self.daemon).finish()
    }
}

impl Docker {
    /// Connects to the daemon, and asks what it is.
    ///
    /// # Errors
    /// [`Error::Unreachable`], with every address that was tried, or the context that leads to none.
    pub async fn connect(connect: Connect<'_>) -> Result<Self, Error> {
        let mut tried = Vec::new();
        for Endpoint { address, certificates } in endpoints(connect)? {
            match Self::try_address(&address, certificates.as_deref()).await {
                Ok(docker) => return Ok(docker),
                Err(why) => tried.push(Attempt { address, why }),
            }
        }
        Err(Error::Unreachable { tried })
    }

    async fn try_address(address: &str, certificates: Option<&Path>) -> Result<Self, String> {
        let client = client(address, certificates)?.with_request_modifier(url_safe_login);
        let say = |error: &bollard::errors::Error| match error {
            bollard::errors::Error::RequestTimeoutError => "it does not answer".to_owned(),
            other => innermost(other),
        };
        // Not its `info`, which starts programs, takes locks, and does not come where one of these hangs.
        let both = futures_util::try_join!(client.version(), client.clone().negotiate_version());
        let (version, client) = both.map_err(|error| say(&error))?;
        let components = version.components.unwrap_or_default();
        let daemon = Daemon {
            address: address.to_owned(),
            engine_version: version.version.unwrap_or_default(),
            api_version: version.api_version.unwrap_or_default(),
            os: version.os.unwrap_or_default(),
            arch: version.arch.unwrap_or_default(),
            rootless: is_mine(address).await,
            podman: components.iter().any(|it| it.name.starts_with("Podman")),
        };
        let api = client.with_timeout(ANSWER_TIMEOUT);
        let slow = api.clone().with_timeout(FOR_EVER);
        Ok(Self { api, slow, daemon: Arc::new(daemon), silent: Arc::default() })
    }

    /// What the daemon is.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Asks the daemon whether it is there.
    ///
    /// # Errors
    /// [`Error::WentAway`] or [`Error::Unresponsive`].
    pub async fn ping(&self) -> Result<(), Error> {
        self.ping_while("ask whether it is there").await
    }

    async fn ping_while(&self, doing: &str) -> Result<(), Error> {
        let (_, timeout) = self.patience();
        let answer = tokio::time::timeout(timeout, self.api.ping()).await;
        self.silent.store(answer.is_err(), Ordering::Relaxed);
        match answer {
            Ok(answer) => answer.map(drop).map_err(|error| Error::of(doing, error)),
            Err(_) => Err(Error::Unresponsive { doing: doing.to_owned() }),
        }
    }

    /// How often the daemon is asked whether it is there, and how long it may take to answer.
    fn patience(&self) -> (Duration, Duration) {
        match self.silent.load(Ordering::Relaxed) {
            false => (PING_EVERY, PING_TIMEOUT),
            true => (PING_SILENT, PING_SILENT),
        }
    }

    /// For requests that are answered at once.
    pub(crate) fn api(&self) -> &Client {
        &self.api
    }

    /// For requests that are answered when something is done. Their futures belong into [`Self::watch`].
    pub(crate) fn slow(&self) -> &Client {
        &self.slow
    }

    /// Waits as long as the daemon lives.
    pub(crate) async fn watch<T>(&self, doing: &str, wait: impl Future<Output = T>) -> Result<T, Error> {
        let mut wait = pin!(wait);
        loop {
            tokio::select! {
                done = &mut wait => return Ok(done),
                () = tokio::time::sleep(self.patience().0) => {}
            }
            tokio::select! {
                // What is done is done, even if the daemon is not there any more.
                biased;
                done = &mut wait => return Ok(done),
                pinged = self.ping_while(doing) => pinged?,
            }
        }
    }
}

/// Whether a daemon on this machine runs as the user who asks, who is not root.
async fn is_mine(address: &str) -> bool {
    let Some(path) = address.strip_prefix("unix://") else { return false };
    let me = rustix::process::geteuid();
    let peer = async { tokio::net::UnixStream::connect(path).await?.peer_cred() };
    !me.is_root() && peer.await.is_ok_and(|peer| peer.uid() == me.as_raw())
}

fn client(address: &str, certificates: Option<&Path>) -> Result<Client, String> {
    let seconds = CONNECT_TIMEOUT.as_secs();
    let made = match (address.split_once("://"), certificates) {
        (Some(("unix", _)), _) => Client::connect_with_unix(address, seconds, API_DEFAULT_VERSION),
        (Some(("tcp" | "https", _)), Some(dir)) => {
            let [key, cert, ca] = ["key.pem", "cert.pem", "ca.pem"].map(|name| dir.join(name));
            Client::connect_with_ssl(address, &key, &cert, &ca, seconds, API_DEFAULT_VERSION)
        }
        (Some(("tcp" | "http", _)), None) => Client::connect_with_http(address, seconds, API_DEFAULT_VERSION),
        _ => return Err(NO_SCHEME.to_owned()),
    };
    made.map_err(|error| innermost(&error))
}

/// The daemon reads the login for a registry in the alphabet of base64 for URLs, and takes one that it cannot read for
/// none; bollard writes it in the other alphabet.
fn url_safe_login(mut request: BollardRequest) -> BollardRequest {
    for name in ["x-registry-auth", "x-registry-config"] {
        let Some(value) = request.headers_mut().get_mut(name) else { continue };
        let safe: Vec<u8> = value
            .as_bytes()
            .iter()
            .map(|byte| match byte {
                b'+' => b'-',
                b'/' => b'_',
                other => *other,
            })
            .collect();
        // It was a header before, and stays one.
        if let Ok(mut safe) = value_from(value, &safe) {
            safe.set_sensitive(true);
            *value = safe;
        }
    }
    request
}

/// A header's value of the type that bollard's `http` has, which is not named here.
fn value_from<T: for<'a> TryFrom<&'a [u8]>>(_of: &T, bytes: &[u8]) -> Result<T, ()> {
    T::try_from(bytes).map_err(drop)
}

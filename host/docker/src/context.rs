//! Which daemon Docker's own programs would use: that of `DOCKER_HOST`, of the context that `DOCKER_CONTEXT` names, of the
//! one that is the current one in Docker's configuration, or else one on a socket that is known.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::error::CONTEXT;
use crate::{Attempt, Error};

/// The socket of a daemon that runs as root.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// The socket of Podman run as root.
const PODMAN_SOCKET: &str = "/run/podman/podman.sock";
/// The context that means none.
const NO_CONTEXT: &str = "default";

/// Where to look for the daemon: what the environment says, read by the caller.
#[derive(Debug, Clone, Copy, Default)]
pub struct Connect<'a> {
    /// `DOCKER_HOST`: `unix:///path`, `tcp://host:port`. Nothing, or the empty text, means that of a context.
    pub host: Option<&'a str>,
    /// `DOCKER_CONTEXT`. Nothing, or the empty text, means the current one of Docker's configuration; without, or where it is
    /// `default`, the usual sockets are meant: Docker's, then those of rootless Docker and of Podman.
    pub context: Option<&'a str>,
    /// The folder of Docker's configuration, which has the contexts.
    pub folder: Option<&'a Path>,
    /// The folder with `ca.pem`, `cert.pem` and `key.pem` for `tcp://`: `DOCKER_CERT_PATH`, or `~/.docker`, where
    /// `DOCKER_TLS_VERIFY` is set. Nothing means no TLS. It goes with `host`: contexts have their own.
    pub certificates: Option<&'a Path>,
    /// `XDG_RUNTIME_DIR`, where the sockets of rootless daemons are.
    pub runtime_dir: Option<&'a Path>,
}

/// Where a daemon may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Address, as `DOCKER_HOST` would name it.
    pub(crate) address: String,
    /// The folder with `ca.pem`, `cert.pem` and `key.pem`, where TLS is spoken.
    pub(crate) certificates: Option<PathBuf>,
}

/// The part of Docker's `config.json` that is about contexts.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    current_context: Option<String>,
}

/// The `meta.json` of a context.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    name: String,
    #[serde(default)]
    endpoints: HashMap<String, MetaEndpoint>,
}

#[derive(Deserialize)]
struct MetaEndpoint {
    #[serde(rename = "Host", default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

/// Where to look for the daemon, the best first.
///
/// # Errors
/// [`Error::Unreachable`]: the context is none that can be used.
pub(crate) fn endpoints(connect: Connect<'_>) -> Result<Vec<Endpoint>, Error> {
    if let Some(host) = connect.host.filter(|host| !host.is_empty()) {
        let certificates = connect.certificates.map(Path::to_owned);
        return Ok(vec![Endpoint { address: host.to_owned(), certificates }]);
    }
    let unusable = |name: &str, why: String| Error::Unreachable {
        tried: vec![Attempt { address: format!("{CONTEXT}{name}`"), why }],
    };
    let name = match (connect.context.filter(|name| !name.is_empty()), connect.folder) {
        (Some(name), _) => Some(name.to_owned()),
        (None, Some(folder)) => {
            let path = folder.join("config.json");
            let why = |why: String| format!("`{}` cannot be read: {why}", path.display());
            match fs_err::read(&path) {
                Ok(text) => {
                    serde_json::from_slice::<Config>(&text)
                        // The error's own text may quote the file.
                        .map_err(|error| {
                            unusable("current", why(format!("line {} is not well-formed", error.line())))
                        })?
                        .current_context
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(unusable("current", why(error.to_string()))),
            }
        }
        (None, None) => None,
    };
    match name.as_deref() {
        None | Some("" | NO_CONTEXT) => Ok(known_sockets(connect.runtime_dir)),
        Some(name) => {
            let of = of_context(connect.folder, name).map_err(|why| unusable(name, why))?;
            Ok(of.map_or_else(|| known_sockets(connect.runtime_dir), |endpoint| vec![endpoint]))
        }
    }
}

fn known_sockets(runtime_dir: Option<&Path>) -> Vec<Endpoint> {
    let unix = |path: &Path| Endpoint { address: format!("unix://{}", path.display()), certificates: None };
    let mut list = vec![unix(Path::new(DEFAULT_SOCKET))];
    if let Some(dir) = runtime_dir {
        list.push(unix(&dir.join("docker.sock")));
        list.push(unix(&dir.join("podman/podman.sock")));
    }
    list.push(unix(Path::new(PODMAN_SOCKET)));
    list
}

/// What the context `name` leads to; nothing where it says nothing of a daemon.
fn of_context(folder: Option<&Path>, name: &str) -> Result<Option<Endpoint>, String> {
    let contexts = folder.ok_or("there is no folder of Docker's configuration")?.join("contexts");
    let id: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = contexts.join("meta").join(&id).join("meta.json");
    let text = fs_err::read(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("there is none of this name in `{}`", contexts.display()),
        _ => format!("it cannot be read: {error}"),
    })?;
    let meta: Meta = serde_json::from_slice(&text)
        .map_err(|error| format!("`{}` is not well-formed (line {})", path.display(), error.line()))?;
    if meta.name != name {
        return Err(format!("`{}` is that of another one, `{}`", path.display(), meta.name));
    }
    let Some(endpoint) = meta.endpoints.get("docker").filter(|endpoint| !endpoint.host.is_empty()) else {
        return Ok(None);
    };
    let address = endpoint.host.clone();
    if address.starts_with("unix://") {
        return Ok(Some(Endpoint { address, certificates: None }));
    }
    let tls = contexts.join("tls").join(&id).join("docker");
    let missing: Vec<&str> =
        ["ca.pem", "cert.pem", "key.pem"].into_iter().filter(|name| !tls.join(name).exists()).collect();
    if endpoint.skip_tls_verify {
        return Err(format!("the certificate of {address} is not to be verified, which Loom does not do"));
    }
    match missing.len() {
        0 => Ok(Some(Endpoint { address, certificates: Some(tls) })),
        3 => Ok(Some(Endpoint { address, certificates: None })),
        _ => Err(format!(
            "`{}` lacks {}, without which Loom speaks no TLS",
            tls.display(),
            missing.join(" and ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(folder: &Path, name: &str, meta: &str) -> PathBuf {
        let id: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
        let place = folder.join("contexts/meta").join(&id);
        fs_err::create_dir_all(&place).unwrap();
        fs_err::write(place.join("meta.json"), meta).unwrap();
        folder.join("contexts/tls").join(id).join("docker")
    }

    fn found(connect: Connect<'_>) -> Result<Vec<String>, String> {
        let addresses = |list: Vec<Endpoint>| list.into_iter().map(|endpoint| endpoint.address).collect();
        endpoints(connect).map(addresses).map_err(|error| error.to_string())
    }

    #[test]
    fn the_usual_sockets_are_looked_at_in_order_unless_a_host_is_named() {
        let connect = Connect { runtime_dir: Some(Path::new("/run/user/7")), ..Connect::default() };
        let usual = [
            "unix:///var/run/docker.sock",
            "unix:///run/user/7/docker.sock",
            "unix:///run/user/7/podman/podman.sock",
            "unix:///run/podman/podman.sock",
        ];
        assert_eq!(found(connect).unwrap(), usual);
        assert_eq!(found(Connect { host: Some(""), ..connect }).unwrap(), usual);
        assert_eq!(found(Connect { host: Some("tcp://h:1"), ..connect }).unwrap(), ["tcp://h:1"]);
        assert_eq!(found(Connect { context: Some("default"), ..connect }).unwrap(), usual);
    }

    #[test]
    fn a_host_goes_before_a_named_context_and_that_before_the_current_one() {
        let folder = tempfile::tempdir().unwrap();
        let meta = |name: &str, host: &str| {
            format!(
                r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}","SkipTLSVerify":false}}}}}}"#
            )
        };
        context(folder.path(), "current", &meta("current", "unix:///current.sock"));
        context(folder.path(), "named", &meta("named", "tcp://named:2375"));
        context(folder.path(), "shell", &meta("shell", "ssh://user@host"));
        context(folder.path(), "empty", r#"{"Name":"empty","Endpoints":{}}"#);
        let connect = Connect { folder: Some(folder.path()), ..Connect::default() };
        assert_eq!(found(connect).unwrap()[0], "unix:///var/run/docker.sock");
        fs_err::write(folder.path().join("config.json"), r#"{"auths":{},"currentContext":"current"}"#)
            .unwrap();
        assert_eq!(found(connect).unwrap(), ["unix:///current.sock"]);
        let named = Connect { context: Some("named"), ..connect };
        assert_eq!(found(named).unwrap(), ["tcp://named:2375"]);
        assert_eq!(found(Connect { host: Some("unix:///h"), ..named }).unwrap(), ["unix:///h"]);
        assert_eq!(found(Connect { context: Some("shell"), ..connect }).unwrap(), ["ssh://user@host"]);
        assert_eq!(found(Connect { context: Some("empty"), ..connect }).unwrap().len(), 2);
        for (name, words) in
            [("absent", "there is none of this name"), ("../named", "there is none of this name")]
        {
            let said = found(Connect { context: Some(name), ..connect }).unwrap_err();
            assert!(said.contains(words) && said.contains(&format!("the context `{name}`")), "{said}");
        }
        context(folder.path(), "broken", "{");
        assert!(
            found(Connect { context: Some("broken"), ..connect }).unwrap_err().contains("not well-formed")
        );
        context(folder.path(), "other", &meta("named", "tcp://named:2375"));
        assert!(found(Connect { context: Some("other"), ..connect }).unwrap_err().contains("another one"));
        fs_err::write(folder.path().join("config.json"), "secret = word").unwrap();
        let said = found(connect).unwrap_err();
        assert!(said.contains("config.json") && !said.contains("secret"), "{said}");
    }

    #[test]
    fn a_context_brings_its_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let meta = |skip: bool| {
            format!(
                r#"{{"Name":"far","Endpoints":{{"docker":{{"Host":"tcp://far:2376","SkipTLSVerify":{skip}}}}}}}"#
            )
        };
        let tls = context(folder.path(), "far", &meta(false));
        let connect = Connect { folder: Some(folder.path()), context: Some("far"), ..Connect::default() };
        assert_eq!(endpoints(connect).unwrap()[0].certificates, None);
        fs_err::create_dir_all(&tls).unwrap();
        fs_err::write(tls.join("ca.pem"), "").unwrap();
        assert!(found(connect).unwrap_err().contains("lacks cert.pem and key.pem"));
        fs_err::write(tls.join("cert.pem"), "").unwrap();
        fs_err::write(tls.join("key.pem"), "").unwrap();
        assert_eq!(endpoints(connect).unwrap()[0].certificates.as_deref(), Some(&*tls));
        context(folder.path(), "far", &meta(true));
        assert!(found(connect).unwrap_err().contains("is not to be verified"));
    }
}

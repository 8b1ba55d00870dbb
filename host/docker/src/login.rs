//! Logins for registries, from where the user's own Docker keeps them.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use futures_util::future::join_all;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use zeroize::Zeroizing;

use crate::Error;

/// A helper may have to ask the user for a password, or a server.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);

/// By which name the logins of Docker's own registry are kept.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Where logins for registries are found.
#[derive(Debug, Clone, Default)]
pub struct Logins {
    config: Option<PathBuf>,
    path: Option<OsString>,
}

/// The parts of Docker's `config.json` that are about logins.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: HashMap<String, Auth>,
    creds_store: Option<String>,
    cred_helpers: HashMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase", default)]
struct Auth {
    auth: Option<Zeroizing<String>>,
    username: Option<String>,
    password: Option<Zeroizing<String>>,
    identitytoken: Option<Zeroizing<String>>,
    registrytoken: Option<Zeroizing<String>>,
}

/// What a helper prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: Zeroizing<String>,
}

impl Logins {
    /// No logins: registries are asked as anybody.
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of a Docker configuration file: `$DOCKER_CONFIG/config.json`, or `~/.docker/config.json`. It need not be
    /// there. The credential helpers that it names are looked for in the folders of `path`, which is a `PATH`.
    pub fn of_file(config: impl Into<PathBuf>, path: impl Into<OsString>) -> Self {
        Self { config: Some(config.into()), path: Some(path.into()) }
    }

    /// The login for one registry, if there is one.
    pub(crate) async fn of_registry(&self, registry: &str) -> Result<Option<DockerCredentials>, Error> {
        let Some(config) = &self.config else { return Ok(None) };
        self.find(&read(config, registry)?, registry).await
    }

    /// All of them, for a build, which may pull from anywhere, and why some cannot be had: most builds need only a few.
    pub(crate) async fn all(&self) -> Result<(HashMap<String, DockerCredentials>, Vec<Error>), Error> {
        let Some(config) = &self.config else { return Ok(Default::default()) };
        let config = read(config, "any registry")?;
        let keys: BTreeSet<&String> = config.auths.keys().chain(config.cred_helpers.keys()).collect();
        let hosts: BTreeSet<&str> = keys.into_iter().map(|key| host(key)).collect();
        // At once: some may hang.
        let found = join_all(hosts.iter().map(|host| self.find(&config, host))).await;
        let (mut all, mut failed) = (HashMap::new(), Vec::new());
        for (host, login) in hosts.into_iter().zip(found) {
            match login {
                Ok(Some(login)) => {
                    // BuildKit asks for the login of Docker's own registry by another name.
                    if host == "docker.io" {
                        all.insert("registry-1.docker.io".to_owned(), login.clone());
                    }
                    all.insert(address(host), login);
                }
                Ok(None) => {}
                Err(error) => failed.push(error),
            }
        }
        Ok((all, failed))
    }

    async fn find(&self, config: &Config, registry: &str) -> Result<Option<DockerCredentials>, Error> {
        let is_it = |key: &str| host(key) == registry;
        let helper = config.cred_helpers.iter().find(|(key, _)| is_it(key)).map(|(_, helper)| helper);
        if let Some(helper) = helper.or(config.creds_store.as_ref()).filter(|helper| !helper.is_empty()) {
            return self.ask(helper, registry).await;
        }
        let Some((_, auth)) = config.auths.iter().find(|(key, _)| is_it(key)) else { return Ok(None) };
        let plain = |text: &Option<Zeroizing<String>>| text.as_ref().map(|text| text.to_string());
        let mut login = DockerCredentials {
            username: auth.username.clone(),
            password: plain(&auth.password),
            identitytoken: plain(&auth.identitytoken).filter(|token| !token.is_empty()),
            registrytoken: plain(&auth.registrytoken).filter(|token| !token.is_empty()),
            serveraddress: Some(address(registry)),
            ..DockerCredentials::default()
        };
        if let Some(both) = auth.auth.as_ref().filter(|text| !text.is_empty()) {
            let decoded = STANDARD.decode(both.trim()).ok().map(Zeroizing::new);
            let text = decoded.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok());
            let Some((user, password)) = text.and_then(|text| text.split_once(':')) else {
                return Err(Error::Login {
                    registry: registry.to_owned(),
                    why: "from Docker's configuration: its `auth` is no `user:password` in base64".to_owned(),
                });
            };
            login.username = Some(user.to_owned());
            // Docker itself pads some with NULs.
            login.password = Some(password.trim_end_matches('\0').to_owned());
        }
        let empty =
            login.username.is_none() && login.identitytoken.is_none() && login.registrytoken.is_none();
        Ok((!empty).then_some(login))
    }

    /// Asks `docker-credential-<helper>`, by Docker's own protocol.
    async fn ask(&self, helper: &str, registry: &str) -> Result<Option<DockerCredentials>, Error> {
        let program = format!("docker-credential-{helper}");
        let failed = |why: String| Error::Login {
            registry: registry.to_owned(),
            why: format!("from `{program}`: {why}"),
        };
        if !helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return Err(failed("that is no name of a helper".to_owned()));
        }
        let mut child = tokio::process::Command::new(&program)
            .arg("get")
            .env("PATH", self.path.as_deref().unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let stdin = child.stdin.take();
        let answer = async {
            if let Some(mut stdin) = stdin {
                // One that does not read what it is asked says so by its exit code.
                let _ = stdin.write_all(address(registry).as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let output = match tokio::time::timeout(HELPER_TIMEOUT, answer).await {
            Ok(output) => output.map_err(|error| failed(error.to_string()))?,
            Err(_) => return Err(failed(format!("it did not answer within {} s", HELPER_TIMEOUT.as_secs()))),
        };
        let said = Zeroizing::new(output.stdout);
        if !output.status.success() {
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            if said.contains("credentials not found") {
                return Ok(None);
            }
            let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(failed(format!(
                "{} ({})",
                if said.is_empty() { errors } else { said },
                output.status
            )));
        }
        let helped: Helped =
            serde_json::from_slice(&said).map_err(|_| failed("its answer is no login".to_owned()))?;
        let mut login =
            DockerCredentials { serveraddress: Some(address(registry)), ..DockerCredentials::default() };
        // By which helpers say that the secret is no password.
        if helped.username == "<token>" {
            login.identitytoken = Some(helped.secret.to_string());
        } else {
            login.username = Some(helped.username);
            login.password = Some(helped.secret.to_string());
        }
        Ok(Some(login))
    }
}

fn read(path: &Path, registry: &str) -> Result<Config, Error> {
    let text = match fs_err::read(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Config::default()),
        Err(error) => return Err(Error::file("read", path, error)),
    };
    serde_json::from_slice(&text).map_err(|error| Error::Login {
        registry: registry.to_owned(),
        // The error's own text may quote the file.
        why: format!("from `{}`: it is not well-formed (line {})", path.display(), error.line()),
    })
}

/// By which a registry's login is kept and asked for.
fn address(registry: &str) -> String {
    if registry == "docker.io" { DOCKER_HUB.to_owned() } else { registry.to_owned() }
}

/// The host in a key of the configuration, which may be a URL.
fn host(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    match rest.split_once('/').map_or(rest, |(host, _)| host) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Where nothing else happens, the clock of the test goes on by itself.
    #[tokio::test(start_paused = true)]
    async fn a_helper_that_hangs_is_ended_at_its_limit_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.json");
        fs_err::write(&config, r#"{"credsStore":"hangs"}"#).unwrap();
        let program = folder.path().join("docker-credential-hangs");
        // The whole path: there is no other program on its `PATH`.
        fs_err::write(&program, "#!/bin/sh\nexec /bin/sleep 1000\n").unwrap();
        fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let logins = Logins::of_file(&config, folder.path());
        let begun = tokio::time::Instant::now();
        let error = logins.of_registry("registry.invalid").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot get the login for `registry.invalid` from `docker-credential-hangs`: it did not answer within 60 s"
        );
        assert_eq!(begun.elapsed().as_secs(), HELPER_TIMEOUT.as_secs());
    }
}

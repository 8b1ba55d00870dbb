//! Pulls, from a registry of one image that asks for a login.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fs_err as fs;
use loom_docker::{Build, Builder, Docker, Error, Logins, PullPolicy, Reason};
use sha2::Digest as _;

use crate::support::{docker, with_scope};

/// The three bytes of the password's end become `+`, `/` or the like in base64, wherever they are.
const USER: &str = "somebody";
const PASSWORD: &str = "p:w~~~>>>???";

struct Registry {
    address: String,
    /// What was asked for, by whom.
    asked: Arc<Mutex<Vec<String>>>,
}

/// By path: the type of its content, and that.
type Content = HashMap<String, (&'static str, Vec<u8>)>;

impl Registry {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (content, log) = (Arc::new(content(&address)), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (content, log) = (content.clone(), log.clone());
                // A daemon that hangs up is no matter of this test.
                std::thread::spawn(move || drop(answer(&stream.unwrap(), &content, &log)));
            }
        });
        Self { address, asked }
    }

    fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

fn digest(bytes: &[u8]) -> String {
    let hash = sha2::Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn content(address: &str) -> Content {
    let mut tar = tar::Builder::new(Vec::new());
    let text = format!("of {address}").into_bytes();
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", &*text).unwrap();
    let layer = tar.into_inner().unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["A=b"],"Cmd":["run"],"User":"me"}},
        "rootfs":{{"type":"layers","diff_ids":["{}"]}},"history":[{{"created_by":"test"}}]}}"#,
        digest(&layer)
    );
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    let part = |kind: &str, bytes: &[u8]| {
        format!(r#"{{"mediaType":"{kind}","size":{},"digest":"{}"}}"#, bytes.len(), digest(bytes))
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{},"layers":[{}]}}"#,
        part("application/vnd.docker.container.image.v1+json", config.as_bytes()),
        part("application/vnd.docker.image.rootfs.diff.tar.gzip", &layer)
    );
    let mut content = Content::from([("/v2/".to_owned(), ("application/json", b"{}".to_vec()))]);
    for (name, bytes) in [("1", &manifest), (&*digest(manifest.as_bytes()), &manifest)] {
        content.insert(format!("/v2/some/image/manifests/{name}"), (kind, bytes.clone().into_bytes()));
    }
    for bytes in [config.as_bytes(), &layer] {
        content.insert(
            format!("/v2/some/image/blobs/{}", digest(bytes)),
            ("application/octet-stream", bytes.to_vec()),
        );
    }
    content
}

fn answer(stream: &TcpStream, content: &Content, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    let mut login = String::new();
    for line in lines {
        let line = line?;
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            login = value.to_owned();
        }
        if line.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let expected = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    log.lock().unwrap().push(format!("{path} {}", login == expected));
    let (status, kind, bytes) = match content.get(path) {
        _ if login != expected => ("401 Unauthorized", "text/plain", &b"{}"[..]),
        Some((kind, bytes)) => ("200 OK", *kind, &**bytes),
        None => (
            "404 Not Found",
            "application/json",
            &br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#[..],
        ),
    };
    let mut to = stream;
    write!(
        to,
        "HTTP/1.1 {status}\r\nWww-Authenticate: Basic realm=\"test\"\r\nDocker-Distribution-Api-Version: registry/2.0\r\n\
         Docker-Content-Digest: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        digest(bytes),
        bytes.len()
    )?;
    if !request.starts_with("HEAD") {
        to.write_all(bytes)?;
    }
    Ok(())
}

/// A Docker configuration with a login of `auths`.
fn logins(folder: &Path, registry: &str, password: &str) -> Logins {
    let auth = STANDARD.encode(format!("{USER}:{password}"));
    let text = format!(r#"{{"auths": {{"https://{registry}/v1/": {{"auth": "{auth}"}}}}, "more": 1}}"#);
    fs::write(folder.join("config.json"), text).unwrap();
    Logins::of_file(folder.join("config.json"), "")
}

async fn pull(
    docker: &Docker,
    image: &str,
    policy: PullPolicy,
    logins: &Logins,
) -> (Result<String, Error>, Vec<String>) {
    let mut lines = Vec::new();
    let pulled = docker.ensure_image(image, policy, None, logins, |line| lines.push(line.to_owned())).await;
    (pulled.map(|image| image.id), lines)
}

#[tokio::test]
async fn an_image_is_pulled_with_the_users_login_when_the_policy_says_so() {
    let Some(docker) = docker().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start();
    let logins = logins(folder.path(), &registry.address, PASSWORD);
    let image = registry.image("some/image:1");
    let (never, _) = pull(&docker, &image, PullPolicy::Never, &logins).await;
    assert!(matches!(never, Err(Error::Refused { reason: Reason::NotThere, .. })), "{never:?}");
    assert!(registry.asked.lock().unwrap().is_empty());
    let (pulled, lines) = pull(&docker, &image, PullPolicy::IfNotPresent, &logins).await;
    let id = pulled.unwrap();
    assert!(lines[0].starts_with("Pulling from some/image"), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("of 1 layers, ")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("Digest: sha256:")), "{lines:?}");
    let asked = registry.asked.lock().unwrap().len();
    for policy in [PullPolicy::IfNotPresent, PullPolicy::Never] {
        let (there, lines) = pull(&docker, &image, policy, &logins).await;
        assert_eq!((there.unwrap(), lines), (id.clone(), Vec::new()));
    }
    assert_eq!(registry.asked.lock().unwrap().len(), asked, "nothing was asked for");
    pull(&docker, &image, PullPolicy::Always, &logins).await.0.unwrap();
    assert!(registry.asked.lock().unwrap().len() > asked);
    let info = docker.image(&image).await.unwrap().unwrap();
    assert_eq!(
        (info.env, &*info.user, info.command),
        (vec![("A".to_owned(), "b".to_owned())], "me", vec!["run".to_owned()])
    );
    assert!(info.digests[0].contains("@sha256:"), "{:?}", info.digests);
    let other = docker.ensure_image(&image, PullPolicy::Never, Some("linux/s390x"), &logins, |_| ()).await;
    assert!(matches!(other, Err(Error::Refused { reason: Reason::Platform, .. })), "{other:?}");
    docker.remove_image(&image).await.unwrap();
    docker.remove_image(&image).await.unwrap();
    assert_eq!(docker.image(&image).await.unwrap(), None);
}

#[tokio::test]
async fn a_pull_that_fails_is_told_in_the_daemons_words_with_a_hint() {
    let Some(docker) = docker().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start();
    let good = logins(folder.path(), &registry.address, PASSWORD);
    let other = tempfile::tempdir().unwrap();
    let bad = logins(other.path(), &registry.address, "wrong");
    let closed = "127.0.0.1:1/some/image:1".to_owned();
    for (image, logins, reason) in [
        (registry.image("some/image:1"), &Logins::none(), Reason::Unauthorized),
        (registry.image("some/image:1"), &bad, Reason::Unauthorized),
        (registry.image("some/image:none"), &good, Reason::NotFound),
        (registry.image("none"), &good, Reason::NotFound),
        (closed, &good, Reason::Network),
    ] {
        let error = pull(&docker, &image, PullPolicy::IfNotPresent, logins).await.0.unwrap_err();
        assert!(matches!(&error, Error::Refused { reason: is, .. } if *is == reason), "{error:?}");
        assert!(error.to_string().starts_with(&format!("cannot pull the image `{image}`: ")), "{error}");
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn a_build_may_pull_what_the_user_may() {
    with_scope(async |scope| {
        let registry = Registry::start();
        let folder = tempfile::tempdir().unwrap();
        let logins = logins(folder.path(), &registry.address, PASSWORD);
        let base = registry.image("some/image:1");
        fs::write(folder.path().join("Dockerfile"), format!("FROM {base}\n")).unwrap();
        fs::write(folder.path().join(".dockerignore"), "*").unwrap();
        let tag = "loom-test/from-registry:1".to_owned();
        for builder in [Builder::Best, Builder::Classic] {
            let tags = vec![tag.clone()];
            let build = Build { context: folder.path().to_owned(), tags, builder, ..Build::default() };
            let refused = scope.build(&build, &Logins::none(), |_| ()).await.unwrap_err();
            assert!(matches!(refused, Error::Build { .. }) && refused.hint().is_some(), "{refused:?}");
            let built = scope.build(&build, &logins, |_| ()).await.unwrap();
            assert_eq!(built.user, "me");
            for image in [&tag, &base] {
                scope.docker().remove_image(image).await.unwrap();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_login_comes_from_a_helper() {
    let Some(docker) = docker().await else { return };
    let registry = Registry::start();
    let folder = tempfile::tempdir().unwrap();
    let image = registry.image("some/image:1");
    let config = folder.path().join("config.json");
    let name = "of-a-test";
    let helper = folder.path().join(format!("docker-credential-{name}"));
    let script = format!(
        "#!/bin/sh\nread -r it\n[ \"$1\" = get ] && [ \"$it\" = {} ] || {{ echo credentials not found in native keychain; exit 1; }}\n\
         printf '%s' '{{\"ServerURL\":\"x\",\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n",
        registry.address
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, PermissionsExt::from_mode(0o755)).unwrap();
    let logins = Logins::of_file(&config, folder.path());
    for text in [
        format!(r#"{{"credHelpers": {{"{}": "{name}"}}, "credsStore": "none"}}"#, registry.address),
        format!(r#"{{"credsStore": "{name}"}}"#),
    ] {
        fs::write(&config, text).unwrap();
        pull(&docker, &image, PullPolicy::Always, &logins).await.0.unwrap();
    }
    docker.remove_image(&image).await.unwrap();
    // It knows of no login for another one, which is as good as none.
    let other = Registry::start();
    let error = pull(&docker, &other.image("some/image:1"), PullPolicy::Always, &logins).await.0.unwrap_err();
    assert!(matches!(&error, Error::Refused { reason: Reason::Unauthorized, .. }), "{error:?}");
    fs::write(&helper, "#!/bin/sh\necho the vault is locked\nexit 1\n").unwrap();
    let error = pull(&docker, &image, PullPolicy::Always, &logins).await.0.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("docker-credential-{name}`: the vault is locked")), "{text}");
    fs::remove_file(&helper).unwrap();
    for bad in ["../../bin/sh", "not-there-at-all"] {
        fs::write(&config, format!(r#"{{"credsStore": "{bad}"}}"#)).unwrap();
        let error = pull(&docker, &image, PullPolicy::Always, &logins).await.0.unwrap_err();
        assert!(matches!(&error, Error::Login { .. }), "{error:?}");
    }
    fs::write(&config, "{").unwrap();
    let error = pull(&docker, &image, PullPolicy::Always, &logins).await.0.unwrap_err();
    assert!(error.to_string().contains("config.json"), "{error}");
}

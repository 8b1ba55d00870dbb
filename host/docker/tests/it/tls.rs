//! A daemon behind TLS, as `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` ask for: both sides show a certificate.

use std::path::Path;
use std::sync::Arc;

use loom_docker::{Connect, Docker, Error};
use loom_docker_testimage::{Authority, SOCKET};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::support::{docker, run, running, sh};

/// A way to the daemon that only users of this authority can take. Returns its address.
async fn serve(authority: &Authority) -> String {
    let (certificate, key) = authority.sign_daemon().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().der().clone()).unwrap();
    let provider = Arc::new(default_provider());
    let users =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(users)
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Who has no certificate gets no further.
                let Ok(mut from) = acceptor.accept(stream).await else { return };
                let mut to = UnixStream::connect(SOCKET).await.unwrap();
                drop(copy_bidirectional(&mut from, &mut to).await);
            });
        }
    });
    format!("tcp://127.0.0.1:{port}")
}

async fn connect(host: &str, certificates: Option<&Path>) -> Result<Docker, Error> {
    Docker::connect(Connect { host: Some(host), certificates, ..Connect::default() }).await
}

#[tokio::test]
async fn a_daemon_is_reached_over_tls_by_who_has_a_certificate_and_knows_its_own() {
    if docker().await.is_none() {
        return;
    }
    let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let host = serve(&authority).await;
    let user = tempfile::tempdir().unwrap();
    authority.write_user(&authority, user.path()).unwrap();
    let docker = connect(&host, Some(user.path())).await.unwrap();
    assert_eq!(docker.daemon().address, host);
    let scope = crate::support::scope(&docker);
    let container = running(&scope).await;
    // A connection that becomes a stream in both directions.
    let ran = run(&container, &sh("echo over tls; exit 3")).await.unwrap();
    assert_eq!((ran.stdout.as_str(), ran.exit.code), ("over tls\n", 3));
    assert!(scope.remove_all().await.is_empty());

    // A daemon that is not the expected one; a user whom the daemon does not know; no TLS at all.
    authority.write_user(&stranger, user.path()).unwrap();
    let error = connect(&host, Some(user.path())).await.unwrap_err().to_string();
    assert!(error.contains(&host) && error.contains("certificate"), "{error}");
    stranger.write_user(&authority, user.path()).unwrap();
    assert!(connect(&host, Some(user.path())).await.is_err());
    assert!(connect(&host, None).await.is_err());
}

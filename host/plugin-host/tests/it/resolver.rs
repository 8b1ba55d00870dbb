//! What a resolver of secrets is given, and what it is not.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use loom_contract::error::ErrorInfo;
use loom_engine::cancel::{self, Cancel};
use loom_engine::port::SecretResolver as _;
use loom_plugin_bundle::guests;
use loom_plugin_host::{Credential, PluginConfig, Resolver, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new(None).unwrap());

fn resolver(config: PluginConfig) -> Arc<Resolver> {
    RUNTIME.load_resolver(guests::RESOLVER, config).unwrap()
}

fn never() -> Cancel {
    cancel::channel().1
}

async fn ask(resolver: &Resolver, reference: &str) -> Result<Vec<u8>, ErrorInfo> {
    let answers = resolver.resolve(&[format!("test://{reference}")], never()).await?;
    let answer = answers.into_iter().next().unwrap();
    answer.map(|value| loom_engine::fake::reveal(&value).to_vec())
}

async fn text(resolver: &Resolver, reference: &str) -> String {
    String::from_utf8(ask(resolver, reference).await.unwrap()).unwrap()
}

/// It was refused, and the text says what was asked for.
async fn denied(resolver: &Resolver, reference: &str, words: &str, granted: &str) {
    let error = ask(resolver, reference).await.unwrap_err();
    assert_eq!(error.code, "PLUGIN_DENIED", "{error}");
    assert_eq!(error.message, format!("the plugin `resolver` may not {words}"));
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains(granted)), "{:?}", error.hint);
}

fn environment(variables: &[(&str, &str)]) -> Arc<[(OsString, OsString)]> {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_are_those_of_the_references_and_the_manifest() {
    let environment = environment(&[("TOKEN", "t0ken"), ("ALWAYS", "yes"), ("OTHER", "no")]);
    let resolver = resolver(PluginConfig {
        referenced: vec!["TOKEN".into(), "UNSET".into()],
        environment,
        ..Default::default()
    });
    assert_eq!(text(&resolver, "env TOKEN").await, "t0ken");
    assert_eq!(text(&resolver, "env ALWAYS").await, "yes");
    assert_eq!(ask(&resolver, "env UNSET").await.unwrap_err().code, "SECRETS_REF_NOT_FOUND");
    denied(&resolver, "env OTHER", "read the environment variable `OTHER`", "`TOKEN`, `UNSET`, `ALWAYS`")
        .await;
    denied(&resolver, "env token", "read the environment variable `token`", "`TOKEN`").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_those_of_the_slots_and_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    fs_err::write(&key_file, b"\x00key").unwrap();
    let key_path = key_file.to_str().unwrap().to_owned();
    let environment =
        environment(&[("PW", "correct horse"), ("KEY", &key_path), ("GONE", "/nowhere/key"), ("EMPTY", "")]);
    let owner = |owner: &str| Some(owner.to_owned());
    let credentials = [
        (("password".to_owned(), owner("a")), Credential::Variable("PW".into())),
        (("keyfile".to_owned(), owner("a")), Credential::FileIn("KEY".into())),
        (("password".to_owned(), owner("b")), Credential::Variable("NOT_SET".into())),
        (("keyfile".to_owned(), owner("b")), Credential::FileIn("GONE".into())),
        (("password".to_owned(), owner("c")), Credential::Variable("EMPTY".into())),
        (("secret".to_owned(), None), Credential::Variable("PW".into())),
    ];
    let resolver =
        resolver(PluginConfig { credentials: credentials.into(), environment, ..Default::default() });
    assert_eq!(text(&resolver, "credential password a").await, "correct horse");
    assert_eq!(ask(&resolver, "credential keyfile a").await.unwrap(), b"\x00key");
    // Not configured is no error of the host's.
    assert_eq!(ask(&resolver, "credential password").await.unwrap_err().message, "there is none");
    for (reference, words) in [
        ("credential password b", "the environment variable `NOT_SET` is not set"),
        ("credential password c", "the environment variable `EMPTY` is not set"),
        (
            "credential keyfile b",
            "the key file that the environment variable `GONE` names cannot be read: entity not found",
        ),
    ] {
        let error = ask(&resolver, reference).await.unwrap_err();
        assert_eq!((error.code.as_ref(), error.message.as_str()), ("SECRETS_PROVIDER_UNAVAILABLE", words));
    }
    denied(&resolver, "credential secret", "have the credential `secret`", "`password`, `keyfile`").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_those_of_the_configuration_and_below_the_roots() {
    let folder = tempfile::tempdir().unwrap();
    let (vault, other) = (folder.path().join("vault"), folder.path().join("other"));
    fs_err::write(&vault, "content").unwrap();
    fs_err::write(&other, "secret").unwrap();
    let [vault, other] = [vault, other].map(|path| path.to_str().unwrap().to_owned());
    let gone = format!("{vault}.gone");
    let files = vec![PathBuf::from(&vault), PathBuf::from(&gone)];
    let resolver = resolver(PluginConfig { files, ..Default::default() });
    assert_eq!(text(&resolver, &format!("read {vault}")).await, "content");
    assert_eq!(text(&resolver, &format!("exists {vault}")).await, "true");
    assert_eq!(text(&resolver, &format!("exists {gone}")).await, "false");
    assert_eq!(ask(&resolver, &format!("read {gone}")).await.unwrap_err().code, "SECRETS_REF_NOT_FOUND");
    let granted = format!("`{vault}` to read");
    denied(&resolver, &format!("read {other}"), &format!("read `{other}`"), &granted).await;
    denied(&resolver, &format!("exists {other}"), &format!("read `{other}`"), &granted).await;
    denied(&resolver, &format!("write {vault} x"), &format!("write `{vault}`"), &granted).await;
    for path in ["vault", &format!("{vault}/../other"), "/etc/passwd", ""] {
        denied(&resolver, &format!("read {path}"), &format!("read `{path}`"), &granted).await;
    }
    assert_eq!(fs_err::read_to_string(&vault).unwrap(), "content");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_holds_what_is_below_it_and_nothing_that_leads_out() {
    let root = PathBuf::from("/dev/shm/loom-resolver-test");
    if !std::path::Path::new("/dev/shm").is_dir() {
        eprintln!("skipped: this machine has no /dev/shm, which the guest's manifest names");
        return;
    }
    let own = root.join(format!("{}", std::process::id()));
    fs_err::create_dir_all(&own).unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs_err::write(outside.path().join("x"), "outside").unwrap();
    fs_err::os::unix::fs::symlink(outside.path(), own.join("out")).unwrap();
    let resolver = resolver(PluginConfig::default());
    let inside = own.join("new").to_str().unwrap().to_owned();
    assert_eq!(text(&resolver, &format!("write {inside} words")).await, "");
    assert_eq!(text(&resolver, &format!("read {inside}")).await, "words");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs_err::metadata(&inside).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let through = own.join("out/x").to_str().unwrap().to_owned();
    denied(&resolver, &format!("read {through}"), &format!("read `{through}`"), "loom-resolver-test").await;
    denied(&resolver, &format!("write {through} y"), &format!("write `{through}`"), "loom-resolver-test")
        .await;
    assert_eq!(fs_err::read_to_string(outside.path().join("x")).unwrap(), "outside");
    fs_err::remove_dir_all(&own).unwrap();
}

/// A server that answers one request, and says what it was asked.
fn server(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        listener.set_nonblocking(true).unwrap();
        let mut accepted = None;
        loom_deadlines::wait_for("a request", || {
            accepted = listener.accept().ok();
            accepted.is_some()
        });
        let (mut stream, _) = accepted.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(loom_deadlines::PATIENCE)).unwrap();
        let mut asked = Vec::new();
        let mut buffer = [0; 4096];
        while !asked.ends_with(b"\r\n\r\n") {
            let count = stream.read(&mut buffer).unwrap();
            assert_ne!(count, 0);
            asked.extend_from_slice(&buffer[..count]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    });
    (origin, served)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_to_the_configured_server_and_no_other() {
    let (origin, served) = server("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = format!("http://{}", other.local_addr().unwrap());
    let resolver = resolver(PluginConfig { origins: vec![format!("{origin}/")], ..Default::default() });
    denied(&resolver, &format!("http POST {origin}/x"), &format!("send POST to `{origin}`"), &origin).await;
    denied(&resolver, &format!("http GET {other}/x"), &format!("send GET to `{other}`"), &origin).await;
    let secure = origin.replace("http:", "https:");
    denied(&resolver, &format!("http GET {secure}/x"), &format!("send GET to `{secure}`"), &origin).await;
    // Neither the text before `@` nor a longer name makes another server the granted one.
    let host = origin.trim_start_matches("http://");
    let disguised = format!("http://{host}@127.0.0.2:1");
    denied(&resolver, &format!("http GET {disguised}/x"), "send GET to `http://127.0.0.2:1`", &origin).await;
    assert_eq!(text(&resolver, &format!("http GET {origin}/a?b=c")).await, "200 hello");
    let asked = served.join().unwrap();
    assert!(asked.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_lowercase().contains("\r\nx-word: loom\r\n"), "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let answer = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/secret\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (origin, served) = server(answer);
    let resolver = resolver(PluginConfig { origins: vec![origin.clone()], ..Default::default() });
    assert_eq!(text(&resolver, &format!("http GET {origin}/")).await, "302 ");
    served.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_an_error_that_names_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let resolver = resolver(PluginConfig { origins: vec![origin.clone()], ..Default::default() });
    let error = ask(&resolver, &format!("http GET {origin}/")).await.unwrap_err();
    assert_eq!(error.code, "SECRETS_PROVIDER_UNAVAILABLE");
    assert!(error.message.starts_with(&format!("no answer from {origin}: ")), "{}", error.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_instance_serves_the_run_and_is_opened_early() {
    let resolver = resolver(PluginConfig::default());
    resolver.open(&["test://a".to_owned(), "test://b".to_owned()], never()).await;
    assert_eq!(text(&resolver, "opened").await, "test://a,test://b");
    assert_eq!(text(&resolver, "calls").await, "2");
    assert_eq!(text(&resolver, "calls").await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_arrive_as_they_are() {
    let settings = serde_json::json!({ "vaults": { "a/b": { "path": "/x" } } });
    let settings = settings.as_object().unwrap().clone();
    let resolver = resolver(PluginConfig { settings, ..Default::default() });
    assert_eq!(text(&resolver, "config").await, r#"{"vaults":{"a/b":{"path":"/x"}}}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_codes_for_secrets() {
    let resolver = resolver(PluginConfig::default());
    for (reference, code) in [
        ("fail invalid X", "SECRETS_REF_INVALID"),
        ("fail not-found X", "SECRETS_REF_NOT_FOUND"),
        ("fail unavailable X", "SECRETS_PROVIDER_UNAVAILABLE"),
        ("fail other X", "SECRETS_PROVIDER_UNAVAILABLE"),
        ("fail other SECRETS_REQUIRED_MISSING", "SECRETS_REQUIRED_MISSING"),
        ("fail other PLUGIN_TRAPPED", "SECRETS_PROVIDER_UNAVAILABLE"),
    ] {
        let error = ask(&resolver, reference).await.unwrap_err();
        assert_eq!((error.code.as_ref(), error.message.as_str()), (code, "as it was told"), "{reference}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_resolver_prints_is_shown_to_nobody_and_a_lost_instance_is_replaced() {
    let resolver = resolver(PluginConfig::default());
    let error = ask(&resolver, "panic hunter2").await.unwrap_err();
    assert_eq!(error.code, "PLUGIN_TRAPPED");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    let error = ask(&resolver, "loop").await.unwrap_err();
    assert_eq!(error.code, "PLUGIN_TIMEOUT");
    assert_eq!(text(&resolver, "calls").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_without_vaults_says_so() {
    let error = resolver(PluginConfig::default()).list_items("a", never()).await.unwrap_err();
    assert_eq!(error.code, "PLUGIN_INCOMPATIBLE");
    assert!(error.message.ends_with("manages no vaults"), "{error}");
}

#[test]
fn a_plugin_of_another_kind_is_refused() {
    let error = RUNTIME.load_resolver(guests::MISBEHAVING, PluginConfig::default()).unwrap_err().to_info();
    assert_eq!(error.code, "PLUGIN_INCOMPATIBLE");
    assert!(error.message.ends_with("is a provider, not a secret resolver"), "{error}");
    let error = RUNTIME.load_provider(guests::RESOLVER, PluginConfig::default()).unwrap_err().to_info();
    assert!(error.message.ends_with("is a secret resolver, not a provider"), "{error}");
}

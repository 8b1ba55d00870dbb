//! Secrets of 1Password, from a Connect server that stands in the test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use loom_contract::event::Level;
use loom_contract::status::Status;
use loom_tests::{Loom, RunOutput, TestEnv, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{env_of_job, errors, messages, text};

pub(super) const TOKEN: &str = "connect-token-of-the-test";

/// What the server does with a request that has the right token.
#[derive(Clone)]
pub(super) enum Manner {
    Answers,
    /// Each request gets this instead: a status line, further headers and a body.
    Says(String),
    /// The first requests get 503.
    Wakes(usize),
    /// It reads, and never answers.
    Hangs,
}

/// A Connect server on a port of this machine. Its thread ends with the test's process.
pub(super) struct Connect {
    pub(super) address: String,
    /// The targets of the requests so far.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Connect {
    pub(super) fn start(manner: Manner, items: Vec<Value>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some((target, token)) = request(&stream) else { continue };
                let number = {
                    let mut log = log.lock().unwrap();
                    log.push(target.clone());
                    log.len()
                };
                let answer = match &manner {
                    _ if token != TOKEN => {
                        status("401 Unauthorized", &json!({"message": format!("no {token}")}))
                    }
                    Manner::Hangs => {
                        open.push(stream);
                        continue;
                    }
                    Manner::Says(words) => words.clone(),
                    Manner::Wakes(at) if number <= *at => status("503 Service Unavailable", &json!({})),
                    Manner::Answers | Manner::Wakes(_) => answer(&target, &items),
                };
                // A client may have gone.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { address, asked }
    }

    /// `loom run` as its user would start it.
    pub(super) fn run<'e>(&self, env: &'e TestEnv) -> Loom<'e> {
        let loom = env.loom(&["run", "--local"]);
        loom.env("OP_CONNECT_HOST", &self.address).env("OP_CONNECT_TOKEN", TOKEN)
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// The target of a request and its token.
fn request(stream: &TcpStream) -> Option<(String, String)> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let target = lines.next()?.strip_prefix("GET ")?.split(' ').next()?.to_owned();
    let headers = lines.take_while(|line| !line.is_empty());
    let token = |line: String| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.replace("Bearer ", ""))
    };
    let token = headers.filter_map(token).last();
    Some((target, token.unwrap_or_default()))
}

fn status(status: &str, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// The vault `app` with the id `v1` holds `items`; the vault `other` holds none.
fn answer(target: &str, items: &[Value]) -> String {
    let parts: Vec<&str> = target.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        ["v1", "vaults"] => {
            status("200 OK", &json!([{"id": "v1", "name": "app"}, {"id": "v2", "name": "other"}]))
        }
        ["v1", "vaults", vault, query] if query.starts_with("items?filter=") => {
            let named = |item: &&Value| {
                let title = item["title"].as_str().unwrap();
                *query == format!("items?filter=title%20eq%20%22{}%22", title.replace(' ', "%20"))
            };
            let found = items.iter().filter(|_| *vault == "v1").filter(named);
            let found =
                found.map(|item| json!({"id": item["id"], "title": item["title"], "vault": {"id": vault}}));
            status("200 OK", &found.collect())
        }
        ["v1", "vaults", "v1", "items", id] => match items.iter().find(|item| item["id"] == *id) {
            Some(item) => status("200 OK", item),
            None => status("404 Not Found", &json!({"status": 404, "message": "item not found"})),
        },
        _ => status("404 Not Found", &json!({})),
    }
}

pub(super) fn items() -> Vec<Value> {
    vec![
        json!({"id": "i1", "title": "data base", "sections": [{"id": "s1", "label": "admin"}], "fields": [
            {"id": "username", "label": "username", "value": "somebody else"},
            {"id": "password", "label": "password", "value": PASSWORD},
            {"id": "f1", "label": "password", "section": {"id": "s1"}, "value": ADMIN},
        ]}),
        json!({"id": "i2", "title": "twin", "fields": []}),
        json!({"id": "i3", "title": "twin", "fields": []}),
        json!({"id": "i4", "title": "odd", "fields": [
            {"id": "nul", "label": "nul", "value": "before\u{0}after it"},
            {"id": "long", "label": "long", "value": long()},
        ]}),
    ]
}

const PASSWORD: &str = "correct \"horse\" battery\nstaple";
const ADMIN: &str = "another word for admins";

/// More than a variable can hold.
fn long() -> String {
    (0..20_000).map(|number| format!("{number:010}")).collect()
}

pub(super) fn planted(secrets: &[&str], steps: &[&str]) -> TestEnv {
    let env = env_of_job(secrets, steps);
    for (name, value) in
        [("OP_CONNECT_TOKEN", TOKEN), ("PASSWORD", PASSWORD), ("ADMIN", ADMIN), ("NUL", "before\0after it")]
    {
        env.plant(name, value);
    }
    env
}

#[test]
fn fields_are_found_by_title_section_and_id() {
    let server = Connect::start(Manner::Answers, items());
    let env = planted(
        &[
            "A: {ref: op://app/data base/password, file: false}",
            "B: {ref: op://App/data base/Admin/Password, file: false}",
            "C: {ref: op://v1/i1/username, file: false}",
            "D: {ref: op://app/data base/password}",
            "E: {ref: op://app/data base/none, required: false}",
        ],
        &["echo \"$A, $B, ${#C}, ${E-none}\"; cat \"$D\" | wc -c"],
    );
    let run = server.run(&env).run();
    let length = PASSWORD.len();
    assert_eq!(text(&run), format!("[REDACTED:SECRET_A], [REDACTED:SECRET_B], 13, none\n{length}"),);
    let asked = server.asked();
    let count = |what: &str| asked.iter().filter(|target| *target == what).count();
    assert_eq!(count("/v1/vaults"), 1, "{asked:?}");
    let warnings = messages(&run, "job", Level::Warn);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("`none`"), "{warnings:?}");
}

#[test]
fn what_is_not_there_or_there_twice_is_not_found() {
    let server = Connect::start(Manner::Answers, items());
    let env = planted(&[], &["true"]);
    for (reference, word) in [
        ("op://nowhere/data base/password", "`nowhere`"),
        ("op://app/nothing/password", "`nothing`"),
        ("op://other/data base/password", "`data base`"),
        ("op://app/data base/nobody", "`nobody`"),
        ("op://app/twin/password", "`twin`"),
    ] {
        let secret = format!("KEY: {{ref: {reference}}}");
        env.write(".loom/workflow.yml", &super::workflow(&super::job("job", &[&secret], &["true"])));
        let run = server.run(&env).run();
        errors::is_told(&run, "SECRETS_REF_NOT_FOUND", "KEY", "op", true);
        assert!(run.stderr.contains(word), "{reference}: {}", run.stderr);
    }
}

#[test]
fn values_that_no_variable_can_hold_are_told_and_fit_in_a_file() {
    let server = Connect::start(Manner::Answers, items());
    for (field, why) in [("nul", "holds a NUL byte"), ("long", "is longer than 128 KiB")] {
        let secret = format!("KEY: {{ref: op://app/odd/{field}, file: FILE}}");
        let env = planted(&[&secret.replace("FILE", "false")], &["true"]);
        env.plant("LONG", long());
        let run = server.run(&env).run();
        errors::is_told(&run, "SECRETS_REQUIRED_MISSING", "KEY", "op", true);
        assert!(
            run.stderr.contains(why) && run.stderr.contains("hint: leave `file: false` out"),
            "{}",
            run.stderr
        );

        let env = planted(&[&secret.replace("FILE", "true")], &["wc -c < \"$KEY\"; cat \"$KEY\""]);
        env.plant("LONG", long());
        let run = server.run(&env).run();
        let length = if field == "nul" { 15 } else { long().len() };
        assert_eq!(text(&run), format!("{length}\n[REDACTED:SECRET_KEY]"));
    }
}

/// The run fails over the server, which `words` say.
fn is_unavailable(run: &RunOutput, words: &[&str]) {
    errors::is_told(run, "SECRETS_PROVIDER_UNAVAILABLE", "KEY", "op", true);
    for word in words {
        assert!(run.stderr.contains(word), "`{word}` is not in: {}", run.stderr);
    }
}

pub(super) const SECRET: [&str; 1] = ["KEY: {ref: op://app/data base/password}"];

#[test]
fn a_wrong_token_and_a_server_that_is_down_are_told_apart() {
    let server = Connect::start(Manner::Answers, items());
    let env = planted(&SECRET, &["true"]);
    env.plant("WRONG", "a-token-of-somebody-else");
    let run = server.run(&env).env("OP_CONNECT_TOKEN", "a-token-of-somebody-else").run();
    is_unavailable(&run, &[&server.address, "refused the token (401)", "OP_CONNECT_TOKEN"]);

    let down = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = server.run(&env).env("OP_CONNECT_HOST", &format!("http://{down}")).run();
    is_unavailable(&run, &[&format!("http://{down}"), "Connection refused"]);
}

#[test]
fn what_is_not_configured_is_told_precisely() {
    let env = planted(&SECRET, &["true"]);
    let hint = "set OP_CONNECT_HOST to the address of a 1Password Connect server";
    is_unavailable(&env.run(&[]), &["no 1Password Connect server is configured", hint]);
    let run = env.loom(&["run", "--local"]).env("OP_CONNECT_HOST", "http://127.0.0.1:1").run();
    is_unavailable(&run, &["OP_CONNECT_TOKEN is not", hint]);
    let run = env.loom(&["run", "--local"]).env("OP_CONNECT_TOKEN", TOKEN).run();
    is_unavailable(&run, &["no 1Password Connect server is configured", hint]);
    env.plant_variable("OP_SERVICE_ACCOUNT_TOKEN", "ops_service-account-of-the-test");
    is_unavailable(&env.run(&[]), &["`OP_SERVICE_ACCOUNT_TOKEN` cannot be used", hint]);
    env.write(".loom/config.yml", "providers: {op: {serviceAccountTokenEnv: MY_TOKEN}}\n");
    let run = env.loom(&["run", "--local"]).env("MY_TOKEN", "ops_service-account-of-the-test").run();
    is_unavailable(&run, &["`MY_TOKEN` cannot be used"]);
}

#[test]
fn strange_answers_are_told_without_their_words() {
    let value = "a value in a strange answer";
    let body = |text: &str| {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len())
    };
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/{value}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let cut = format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n[\"{value}\"");
    let env = planted(&SECRET, &["true"]);
    env.plant("STRANGE", value);
    for (answer, word) in [
        (status("500 Internal Server Error", &json!({"message": value})), "answered 500"),
        (status("403 Forbidden", &json!({"message": value})), "refused the token (403)"),
        (redirect, "answered 302"),
        (body(&format!("<html>{value}</html>")), "is it a 1Password Connect server?"),
        (body(&format!("{{\"{value}\": 1}}")), "is it a 1Password Connect server?"),
        (cut, "no answer from"),
        (format!("{value}\r\n\r\n"), "no answer from"),
        (String::new(), "no answer from"),
    ] {
        let server = Connect::start(Manner::Says(answer.clone()), items());
        is_unavailable(&server.run(&env).run(), &[word]);
        assert_eq!(server.asked().len(), 1, "nothing is followed or tried again: {answer}");
    }
}

#[test]
fn a_retry_asks_again() {
    let server = Connect::start(Manner::Wakes(2), items());
    let env = crate::env(&super::workflow(
        "job:
  stage: ci
  retry: {max: 2, when: [provider_failure]}
  secrets:
    KEY: {ref: op://app/data base/password, file: false}
  script: ['echo \"$KEY\"']
",
    ));
    env.plant("KEY", PASSWORD);
    let run = server.run(&env).run();
    assert_eq!(text(&run), "[REDACTED:SECRET_KEY]");
    assert!(!run.run.job("job").attempts.is_empty());
}

#[test]
fn a_second_signal_ends_a_run_whose_server_never_answers() {
    let server = Connect::start(Manner::Hangs, items());
    let env = planted(&SECRET, &["true"]);
    let mut child = server.run(&env).spawn();
    wait_for("the request", || !server.asked().is_empty());
    // Nothing says that the first one has arrived: so another one, and another one.
    wait_for("the end of the run", || {
        std::thread::sleep(Duration::from_millis(50));
        child.try_wait().unwrap().is_some() || kill_process(Pid::from_child(&child), Signal::INT).is_err()
    });
    let run = RunOutput::of(&env, &child.output());
    assert_eq!((run.exit_code, run.run.job("job").status), (130, Status::Cancelled), "{}", run.stderr);
}

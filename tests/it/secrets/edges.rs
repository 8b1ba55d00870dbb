//! Values, names, servers and moments at the edge of what is usual.

use loom_contract::error::code;
use loom_tests::{RunOutput, Running, TestEnv, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use super::op::{Connect, Manner, SECRET, items, planted};
use super::{env_of_job, job, workflow};
use crate::{LOOM, env};

/// The key of a service account: JSON, with line breaks as `\n`.
const ACCOUNT: &str = r#"{"type": "service_account", "private_key": "-----BEGIN CANARY KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj\n-----END CANARY KEY-----\n"}"#;

#[test]
fn what_a_shell_or_jq_makes_of_escapes_in_a_value_is_masked() {
    for step in ["echo \"$KEY\"", "printf '%b' \"$KEY\"", "printf %s \"$KEY\" | sed 's/\\\\n/\\n/g'"] {
        let env = env_of_job(&["KEY: {ref: env://SOURCE, file: false}"], &[step]);
        env.plant("KEY", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj");
        env.plant_variable("SOURCE", ACCOUNT);
        let run = env.run(&[]);
        assert_eq!(run.exit_code, 0, "{}", run.stderr);
    }
}

#[test]
fn a_variable_that_a_secret_is_made_of_is_in_no_job_and_its_value_is_masked_in_all() {
    let first = job("first", &[], &["echo \"${SOURCE-none} ${OTHER-none} $COPY\"; cat known"]);
    let first = first.replace("  script", "  variables: {COPY: 'is $SOURCE.'}\n  script");
    let second = job(
        "second",
        &["SOURCE: {ref: env://SOURCE, file: false}", "FILE: {ref: env://OTHER}"],
        &["echo \"$SOURCE ${OTHER-none}\"; cat $FILE"],
    );
    let env = env(&workflow(&(first + &second + "  needs: [first]\n")));
    env.plant_variable("SOURCE", "in the environment of loom");
    env.plant_variable("OTHER", "and this is there, too");
    env.write("known", "in the environment of loom\nand this is there, too\n");
    // Also where the job that asks for it does not run.
    for selection in [&[][..], &["--job", "first"]] {
        let run = env.run(selection);
        assert_eq!(run.exit_code, 0, "{}", run.stderr);
        let masks = ["[REDACTED:SECRET_SOURCE]", "[REDACTED:SECRET_FILE]"];
        assert_eq!(run.run.output("first", "01"), ["none none is .", masks[0], masks[1]]);
        if selection.is_empty() {
            let own = ["[REDACTED:SECRET_SOURCE] none", "[REDACTED:SECRET_FILE]"];
            assert_eq!(run.run.output("second", "01"), own);
        }
    }
}

#[test]
fn a_value_that_is_no_text_is_masked_in_the_name_of_a_process() {
    let env = env_of_job(
        &["KEY: {ref: env://SOURCE, file: false}"],
        &["sh -c 'while :; do sleep 100; done' \"$KEY\" > /dev/null 2>&1 &"],
    );
    let value = b"some bytes\xff that are no text";
    env.plant("KEY", value);
    let mut loom = env.loom(&["run", "--local"]);
    loom.command.env("SOURCE", <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(value));
    assert_eq!(loom.run().exit_code, 0);
}

#[test]
fn a_job_cannot_take_away_the_mark_by_which_its_processes_are_known() {
    for name in ["LOOM_RUN_ID", "LOOM_JOB_ID"] {
        let step = "setsid sleep 1010 > /dev/null 2>&1 & echo $! > \"$HOME/pid\"; sleep 0.2";
        let env = env_of_job(&[&format!("{name}: {{ref: env://SOURCE, file: false}}")], &[step]);
        env.plant_variable("SOURCE", "another name");
        let run = env.run(&[]);
        let pid = std::fs::read_to_string(env.home().join("pid")).unwrap_or_default();
        let alive = !pid.is_empty() && std::path::Path::new(&format!("/proc/{}", pid.trim())).exists();
        if let Some(pid) = pid.trim().parse().ok().filter(|_| alive).and_then(rustix::process::Pid::from_raw)
        {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        assert!(!alive, "{name}: {}", run.stderr);
    }
}

#[test]
fn an_address_of_a_server_that_is_none_is_no_matter_of_the_reference() {
    let env = env_of_job(&["KEY: {ref: op://a/b/c, required: false}"], &["true"]);
    for host in ["127.0.0.1:8080", "ftp://127.0.0.1", "http://", "not an address"] {
        let run =
            env.loom(&["run", "--local"]).env("OP_CONNECT_HOST", host).env("OP_CONNECT_TOKEN", "t0ken").run();
        assert_eq!(run.exit_code, 0, "{host}: {}", run.stderr);
        assert!(run.stderr.contains("OP_CONNECT_HOST"), "{host}: {}", run.stderr);
    }
    let env = env_of_job(&["KEY: {ref: op://a/b/c}"], &["true"]);
    let run = env
        .loom(&["run", "--local"])
        .env("OP_CONNECT_HOST", "http://127.0.0.1:1")
        .env("OP_CONNECT_TOKEN", "a\nb")
        .run();
    assert_eq!(run.run.job("job").error.unwrap().code, code::SECRETS_PROVIDER_UNAVAILABLE);
}

#[test]
fn two_items_that_are_made_at_once_are_both_there() {
    let env = TestEnv::without_workflow(LOOM);
    env.write(
        ".loom/config.yml",
        "providers: {keepass: {aliases: {v: {path: v.kdbx, passwordEnv: MASTER}}}}\n",
    );
    for (name, value) in [("MASTER", "master of the vaults"), ("VALUE", "a value for both")] {
        env.plant_variable(name, value);
    }
    let create = [
        "vault",
        "create",
        "--vault-path",
        "v",
        "--database-path",
        ".loom/v.kdbx",
        "--password-from-env",
        "MASTER",
    ];
    let keepass = |args: &[&str]| env.loom(&[&["secrets", "keepass"], args].concat());
    assert!(keepass(&create).output().status.success());
    let item = |path: &str| {
        keepass(&[
            "item",
            "create",
            "--vault-path",
            "v",
            "--item-path",
            path,
            "--field",
            "password",
            "--value-from-env",
            "VALUE",
        ])
        .spawn()
    };
    let items = [item("one"), item("two"), item("three")];
    let made = items.map(|child| child.output().status.success());
    let listed = String::from_utf8(keepass(&["item", "list", "--vault-path", "v"]).output().stdout).unwrap();
    for (path, made) in ["one", "two", "three"].into_iter().zip(made) {
        assert_eq!(listed.contains(&format!("{path}: ")), made, "{path} in {listed}");
    }
}

#[test]
fn a_retry_opens_a_vault_that_could_not_be_opened() {
    let env = env(&workflow(
        "first: {stage: ci, script: ['cp \"$VAULT\" \"$PLACE\"']}
job:
  stage: later
  secrets:
    KEY: {ref: 'keepass://v#services/test/db:password', file: false}
  script: ['echo \"$KEY\"']
",
    ));
    env.write(
        ".loom/config.yml",
        "providers: {keepass: {aliases: {v: {path: v.kdbx, passwordEnv: MASTER}}}}\n",
    );
    let vault = crate::top().join("plugins/keepass/tests/vaults/kdbx31-aes.kdbx");
    let run = env
        .loom(&["run", "--local"])
        .env("MASTER", "open sesame")
        .env("VAULT", vault.to_str().unwrap())
        .env("PLACE", env.repo().join(".loom/v.kdbx").to_str().unwrap())
        .run();
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
}

#[test]
fn an_unknown_scheme_is_told_with_those_that_are_known() {
    let env = env_of_job(&["KEY: {ref: 'vault://x/y'}"], &["true"]);
    let run = env.run(&[]);
    let error = run.run.job("job").error.unwrap();
    assert!(error.message.contains("`vault://`"), "{error:?}");
    let hint = error.hint.unwrap();
    for known in ["`env://`", "`keepass://`", "`op://`"] {
        assert!(hint.contains(known), "{known} is not in: {hint}");
    }
}

#[test]
fn a_server_that_never_answers_holds_up_no_cancellation_and_no_timeout() {
    let server = Connect::start(Manner::Hangs, items());
    let jobs: String = ["a", "b", "c"].map(|name| job(name, &SECRET, &["true"])).concat();
    let env = env(&workflow(&jobs));
    let child = server.run(&env).spawn();
    wait_for("the request", || !server.asked().is_empty());
    // The jobs are to wait for it, too; how many do depends on the number of processors.
    wait_for("the first job", || {
        let events = env.run_dirs().pop().map(|run| run.join("jobs/a/events.jsonl"));
        events.is_some_and(|events| {
            std::fs::read_to_string(events).is_ok_and(|text| text.contains("job.provider_prepare"))
        })
    });
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let run = end(&env, child);
    assert_eq!(run.exit_code, 130, "{}", run.stderr);
    let statuses = run.run.statuses();
    // With fewer than three processors, not all of them had begun.
    let ended = |status: &String| status == "cancelled" || status == "skipped";
    assert!(statuses["a"] == "cancelled" && statuses.values().all(ended), "{statuses:?}");

    env.write(".loom/workflow.yml", &workflow(&jobs.replace("stage: ci\n", "stage: ci\n  timeout: 500ms\n")));
    let run = end(&env, server.run(&env).spawn());
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    let errors = ["a", "b", "c"].map(|job| run.run.job(job).error.unwrap());
    assert!(errors.iter().all(|error| error.code == "JOB_TIMEOUT"), "{errors:?}");
    // One of them asked; the others waited for its answer.
    assert!(errors.iter().any(|error| error.message.contains("plugin `op`")), "{errors:?}");
}

fn end(env: &TestEnv, child: Running) -> RunOutput {
    RunOutput::of(env, &child.output())
}

#[test]
fn a_password_in_the_address_of_a_server_is_not_shown() {
    let server = Connect::start(Manner::Answers, items());
    let env = planted(&SECRET, &["true"]);
    env.plant("OP_CONNECT_HOST", "host-password");
    let host = server.address.replace("http://", "http://user:host-password@");
    let run = server.run(&env).env("OP_CONNECT_HOST", &host).env("OP_CONNECT_TOKEN", "wrong-token").run();
    assert_eq!(run.exit_code, 1);
}

//! Which daemon is spoken to and how, and what is asked before it: contexts, certificates, logins, platforms.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use loom_docker_testimage::{Authority, DaemonOptions};
use loom_tests::{RunOutput, TestEnv, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use crate::docker::{busybox, clean, of_steps, passed};
use crate::docker_apart::Second;

#[test]
fn a_daemon_that_is_not_there_fails_the_job_and_closes_the_run() {
    let env = of_steps("any:1", "", &["true"]);
    let run = env.loom(&["run", "--local"]).env("DOCKER_HOST", "unix:///nonexistent/docker.sock").run();
    assert_eq!(run.exit_code, 1);
    let error = run.run.job("job").error.unwrap();
    assert!(
        error.message.starts_with("Cannot connect to the Docker daemon at unix:///nonexistent/docker.sock"),
        "{error:?}"
    );
}

/// Contexts by name; they are kept in folders that are called by the hash of that.
const ELSEWHERE: (&str, &str) =
    ("elsewhere", "7b1b763ee8f62eb88e4742a760f912d0b19bcd58b2b948999784bacc15a7f4d7");
const BY_SSH: (&str, &str) = ("by-ssh", "fd01d412c7fcbfae943112c7d81055d88456a3604d8882d32c4b41bd2d32e367");

/// Makes the context `name` of the user, which leads to `host`. Returns the folder for its certificates, which is not made.
fn context(env: &TestEnv, (name, id): (&str, &str), host: &str) -> PathBuf {
    let contexts = env.home().join(".docker/contexts");
    let meta = contexts.join("meta").join(id);
    std::fs::create_dir_all(&meta).unwrap();
    let text = format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}"}}}}}}"#);
    std::fs::write(meta.join("meta.json"), text).unwrap();
    contexts.join("tls").join(id).join("docker")
}

/// As `docker` itself: `DOCKER_HOST`, then `DOCKER_CONTEXT`, then the current context.
#[test]
fn the_daemon_is_the_one_that_docker_itself_would_use() {
    let env = of_steps("any:1", "", &["true"]);
    context(&env, ELSEWHERE, "unix:///nonexistent/elsewhere.sock");
    context(&env, BY_SSH, "ssh://user@host");
    std::fs::write(env.home().join(".docker/config.json"), r#"{"currentContext":"elsewhere"}"#).unwrap();
    let table = [
        ("", "", "at unix:///nonexistent/elsewhere.sock", "is it running?"),
        ("by-ssh", "", "at ssh://user@host: the address must begin with", "forward its socket"),
        ("absent", "", "at the context `absent`: there is none of this name", "docker context use"),
        ("by-ssh", "unix:///nonexistent/host.sock", "at unix:///nonexistent/host.sock", "is it running?"),
        (
            "elsewhere",
            "ssh://user@host",
            "at ssh://user@host: the address must begin with",
            "forward its socket",
        ),
        (
            "",
            "npipe:////./pipe/docker",
            "at npipe:////./pipe/docker: the address must begin with",
            "set DOCKER_HOST",
        ),
    ];
    for (context, host, words, hint) in table {
        let loom = env.loom(&["run", "--local"]).env("DOCKER_CONTEXT", context).env("DOCKER_HOST", host);
        let run = loom.run();
        assert_eq!(run.exit_code, 1);
        let error = run.run.job("job").error.unwrap();
        assert!(error.message.starts_with("Cannot connect to the Docker daemon at "), "{error:?}");
        assert!(error.message.contains(words), "{error:?}");
        assert!(error.hint.as_ref().unwrap().contains(hint), "{error:?}");
    }
}

#[test]
fn a_platform_of_the_environment_counts_where_the_workflow_names_none() {
    let Some(image) = busybox() else { return };
    let env = of_steps(&image, "", &["true"]);
    let run = env.loom(&["run", "--local"]).env("DOCKER_DEFAULT_PLATFORM", "linux/s390x").run();
    assert_eq!(clean(run).run.job("job").error.unwrap().message.matches("not for linux/s390x").count(), 1);
    let env = of_steps(&image, "", &["true"]);
    passed(env.loom(&["run", "--local"]).env("DOCKER_DEFAULT_PLATFORM", "").run());
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let env = of_steps(&image, &format!("  image: {{name: '{image}', platform: linux/{arch}}}\n"), &["true"]);
    passed(env.loom(&["run", "--local"]).env("DOCKER_DEFAULT_PLATFORM", "linux/s390x").run());
}

/// A daemon that takes nobody without a certificate, and shows one of its own.
#[test]
fn certificates_are_those_of_the_environment_or_of_the_context() {
    let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let folder = tempfile::tempdir().unwrap();
    authority.write_daemon(folder.path()).unwrap();
    let certificates = Some(folder.path().to_owned());
    let Some(second) = Second::start(DaemonOptions { port: Some(2376), certificates, disk_mib: None }) else {
        return;
    };
    let host = "tcp://127.0.0.1:2376";
    let run = |env: &TestEnv, variables: &[(&str, &str)]| {
        let loom = second.beside(env);
        variables.iter().fold(loom, |loom, (name, value)| loom.env(name, value)).run()
    };
    let passes = |env: &TestEnv, variables: &[(&str, &str)]| {
        let run = run(env, variables);
        assert_eq!(run.exit_code, 0, "{variables:?}: {}", run.stderr);
        assert_eq!(run.run.output("job", "01"), ["over TLS"]);
        assert_eq!(second.left(&run.run.run_id()), [""; 0]);
    };
    let fails = |env: &TestEnv, variables: &[(&str, &str)], words: &str| {
        let run = run(env, variables);
        assert_eq!(run.exit_code, 1, "{variables:?}: {}", run.stderr);
        let error = run.run.job("job").error.unwrap();
        let start = format!("Cannot connect to the Docker daemon at {host}: ");
        assert!(error.message.starts_with(&start) && error.message.contains(words), "{error:?}");
    };
    let new = || of_steps(&second.image, "", &["echo over TLS"]);

    let (user, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    authority.write_user(&authority, user.path()).unwrap();
    authority.write_user(&stranger, other.path()).unwrap();
    let (user, other) = (user.path().to_str().unwrap(), other.path().to_str().unwrap());
    let env = new();
    passes(&env, &[("DOCKER_HOST", host), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", user)]);
    fails(
        &env,
        &[("DOCKER_HOST", host), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", other)],
        "certificate",
    );
    fails(&env, &[("DOCKER_HOST", host), ("DOCKER_CERT_PATH", user)], "");
    // Without a folder they are the user's own.
    authority.write_user(&authority, &env.home().join(".docker")).unwrap();
    passes(&env, &[("DOCKER_HOST", host), ("DOCKER_TLS_VERIFY", "1")]);

    let env = new();
    let certificates = context(&env, ELSEWHERE, host);
    fails(&env, &[("DOCKER_CONTEXT", "elsewhere")], "");
    authority.write_user(&authority, &certificates).unwrap();
    passes(&env, &[("DOCKER_CONTEXT", "elsewhere")]);
    std::fs::write(env.home().join(".docker/config.json"), r#"{"currentContext":"elsewhere"}"#).unwrap();
    passes(&env, &[]);
    authority.write_user(&stranger, &certificates).unwrap();
    fails(&env, &[], "certificate");
}

/// Makes `script` the helper that knows the logins for all registries. Returns the `PATH` on which it is.
fn helper(env: &TestEnv, script: &str) -> String {
    let bin = env.home().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let program = bin.join("docker-credential-test");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = env.home().join(".docker");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.json"), r#"{"credsStore":"test"}"#).unwrap();
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
}

#[test]
fn a_credential_helper_that_fails_is_named_and_one_that_hangs_ends_with_its_run() {
    let Some(_) = busybox() else { return };
    let env = of_steps("registry.invalid/loom-test:1", "", &["echo never"]);
    let path = helper(&env, "#!/bin/sh\ncat > /dev/null\necho the vault is locked\nexit 1\n");
    let run = clean(env.loom(&["run", "--local"]).env("PATH", &path).run());
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    let error = run.run.job("job").error.unwrap();
    assert_eq!(error.code, "DOCKER_LOGIN", "{error:?}");
    let words =
        "cannot get the login for `registry.invalid` from `docker-credential-test`: the vault is locked";
    assert!(error.message.contains(words), "{error:?}");

    let begun = env.home().join("begun");
    let script =
        format!("#!/bin/sh\necho $$ > {0}.new && mv {0}.new {0}\nexec sleep 1000\n", begun.display());
    let path = helper(&env, &script);
    let child = env.loom(&["run", "--local"]).env("PATH", &path).spawn();
    wait_for("the helper", || begun.exists());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let run = clean(RunOutput::of(&env, &child.output()));
    assert_eq!(run.exit_code, 130, "{}", run.stderr);
    let pid = std::fs::read_to_string(&begun).unwrap();
    wait_for("the end of the helper", || !Path::new("/proc").join(pid.trim()).exists());
}

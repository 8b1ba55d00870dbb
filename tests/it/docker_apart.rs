//! Loom and the daemon do not see the same files: the daemon is on another machine, in a container or behind a mount, or
//! Loom itself is. What a job needs is sent, and nothing else that has the same name is taken for it.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Output};

use loom_docker_testimage::{self as testimage, Daemon, DaemonOptions, Image, SOCKET};
use loom_tests::{Loom, RunOutput, TestEnv, wait_for};
use tempfile::TempDir;

use crate::LOOM;
use crate::docker::{busybox, clean, in_image, left_at, of_steps, said_by_provider, wait_for_step};
use crate::docker_services::server;

/// A daemon of the test's own, in a folder that goes after it.
pub(crate) struct Second {
    pub(crate) daemon: Daemon,
    pub(crate) image: String,
    _folder: TempDir,
}

impl Second {
    pub(crate) fn start(options: DaemonOptions) -> Option<Self> {
        busybox()?;
        // A short path: a socket's has at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("loom").tempdir().unwrap();
        let daemon = match Daemon::start(folder.path(), options) {
            Ok(daemon) => daemon,
            Err(why) => {
                assert!(std::env::var_os("LOOM_TESTS_NEED_DOCKER").is_none(), "{why}");
                eprintln!("skipped: {why}");
                return None;
            }
        };
        let socket = daemon.socket();
        let wanted = Image { name: "busybox", ..Image::default() };
        let image = testimage::image_at(socket.to_str().unwrap(), wanted).unwrap();
        Some(Self { daemon, image, _folder: folder })
    }

    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.daemon.socket().display())
    }

    pub(crate) fn run(&self, env: &TestEnv) -> RunOutput {
        env.loom(&["run", "--local"]).env("DOCKER_HOST", &self.address()).run()
    }

    pub(crate) fn left(&self, run_id: &str) -> Vec<String> {
        left_at(self.daemon.socket().to_str().unwrap(), run_id)
    }

    /// `loom run` in the daemon's own network.
    pub(crate) fn beside<'a>(&self, env: &'a TestEnv) -> Loom<'a> {
        let loom = env.loom(&["run", "--local"]);
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--net=/proc/{}/ns/net", self.daemon.pid().unwrap()));
        nsenter.arg(loom.command.get_program()).args(loom.command.get_args());
        loom.by(nsenter)
    }
}

/// Runs `mount` where the daemon is, as where it runs in a container or in a virtual machine.
fn mount_at(second: &Second, args: &[&str], at: &Path) {
    let daemon = second.daemon.pid().unwrap().to_string();
    let mut mount = Command::new("nsenter");
    mount.args(["--target", &daemon, "--mount", "mount"]).args(args).arg(at);
    assert!(loom_tests::status(&mut mount).unwrap().success());
}

#[test]
fn a_daemon_that_does_not_see_the_workspace_is_sent_its_files() {
    let Some(second) = Second::start(DaemonOptions::default()) else { return };
    let env = of_steps(&second.image, "", &["cat file; echo more > other; ls -A | sort"]);
    env.write("file", "of the repository\n");
    mount_at(&second, &["-t", "tmpfs", "none"], &env.home());
    for _ in 0..2 {
        let run = second.run(&env);
        assert_eq!(run.exit_code, 0, "{}", run.stderr);
        assert_eq!(run.run.output("job", "01"), ["of the repository", ".loom", "file", "other"]);
        let said = said_by_provider(&run, "job");
        assert!(
            said.iter().any(|text| text.starts_with("workspace mount `ephemeral_volume`: sent as 2 files, "))
        );
        assert_eq!(second.left(&run.run.run_id()), [""; 0]);
    }
}

/// Prints whether git's objects are where the workspace's own git looks for them.
const HAS_COMMIT: &str = "h=$(cat .git/HEAD); d=$(cat .git/objects/info/alternates); b=${h#??}; \
                          test -s \"$d/${h%$b}/$b\" && echo has its commit";

/// A repository with a commit and secrets, and the job `job` of two steps in `image` that needs all that can be sent, and
/// makes an artifact; and what `more` says.
fn needs_everything(image: &str, more: &str) -> TestEnv {
    let env = in_image(
        image,
        &format!(
            "job:
  stage: ci
  secrets: {{FILE: {{ref: env://SOURCE}}, WORD: {{ref: env://OTHER, file: false}}}}
  artifacts: {{name: made, paths: [made]}}
  script:
    - '{HAS_COMMIT}; cat file; mkdir made; echo here > made/file'
    - 'cat $FILE; echo; stat -c \"%a %u\" $FILE; echo \"$WORD\"'\n{more}"
        ),
    );
    env.write("file", "of the repository\n");
    env.write("ctx/Dockerfile", "ARG FROM\nFROM $FROM\nRUN echo built > /stamp\n");
    env.commit_all();
    env.plant_variable("SOURCE", "the value of it");
    env.plant_variable("OTHER", "the other value");
    env
}

/// The job `beside` of a user of its own, in an image that is built, with a service and a cache.
fn beside(env_image: &str, server: &str) -> String {
    format!(
        "beside:
  stage: ci
  image: {{name: loom-test/apart, build: {{context: ctx, dockerfile: ctx/Dockerfile, args: {{FROM: '{env_image}'}}}}, user: '1000'}}
  services: [{{name: '{server}', alias: db, ready: {{port: 80}}, variables: {{ANSWER: here}}}}]
  cache: {{key: k, paths: [kept]}}
  script: ['cat /stamp; mkdir -p kept; echo x >> kept/file; wc -l < kept/file', 'until answer=$(nc db 80 < /dev/null) && [ -n \"$answer\" ]; do sleep 0.1; done; echo \"$answer\"']\n"
    )
}

fn ran_beside(run: &RunOutput, times: &str) {
    assert_eq!(run.run.output("beside", "01"), ["built", times]);
    assert_eq!(run.run.output("beside", "02"), ["here"]);
}

/// The job of such a repository had everything, and what it made came back.
fn had_everything(run: &RunOutput) {
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("job", "01"), ["has its commit", "of the repository"]);
    let second = run.run.output("job", "02");
    assert_eq!(second, ["[REDACTED:SECRET_FILE]", "600 0", "[REDACTED:SECRET_WORD]"]);
    assert_eq!(run.run.job("job").artifacts.unwrap().count, 1);
}

fn was_sent(run: &RunOutput) {
    let said = said_by_provider(run, "job");
    for words in ["workspace mount `ephemeral_volume`: sent as ", "git's objects were sent"] {
        assert!(said.iter().any(|text| text.contains(words)), "{said:?}");
    }
}

#[test]
fn a_daemon_that_sees_nothing_of_this_machine_is_sent_all_that_a_job_needs() {
    let Some(second) = Second::start(DaemonOptions::default()) else { return };
    let env = in_image(
        &second.image,
        &format!(
            "job:
  stage: ci
  secrets: {{FILE: {{ref: env://SOURCE}}}}
  script:
    - '{HAS_COMMIT}; cat file'
    - 'cat $FILE; echo; stat -c \"%a %u\" $FILE; echo \"mask=$LOOM_MASK\"'\n"
        ),
    );
    env.write("file", "of the repository\n");
    env.commit_all();
    env.plant_variable("SOURCE", "the value of it");
    mount_at(&second, &["-t", "tmpfs", "none"], env.repo().parent().unwrap());
    let run = second.run(&env);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("job", "01"), ["has its commit", "of the repository"]);
    assert_eq!(run.run.output("job", "02"), ["[REDACTED:SECRET_FILE]", "600 0", "mask="]);
    let said = said_by_provider(&run, "job");
    for words in ["git's objects were sent", "there is no LOOM_MASK in the container"] {
        assert!(said.iter().any(|text| text.contains(words)), "{said:?}");
    }
    assert_eq!(second.left(&run.run.run_id()), [""; 0]);

    // What cannot be had by sending is refused by name.
    let bind = ["run", "--local", "--docker-workspace-mount", "bind_mount"];
    let run = env.loom(&bind).env("DOCKER_HOST", &second.address()).run();
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    let error = run.run.job("job").error.unwrap();
    assert_eq!(error.code, "DOCKER_DOES_NOT_SEE", "{error:?}");
    assert!(error.message.contains("does not see the workspace `"), "{error:?}");
    assert!(error.hint.unwrap().contains("ephemeral_volume"));
    assert_eq!(second.left(&run.run.run_id()), [""; 0]);
}

#[test]
fn what_stands_under_the_same_name_where_the_daemon_is_is_not_taken_for_the_repository() {
    let Some(second) = Second::start(DaemonOptions::default()) else { return };
    let env = of_steps(&second.image, "", &[&format!("{HAS_COMMIT}; cat file"), "ls -A"]);
    env.write("file", "of the repository\n");
    env.commit_all();
    let other = of_steps(&second.image, "", &["true"]);
    other.write("file", "of another one\n");
    other.commit_all();
    mount_at(&second, &["--bind", other.repo().to_str().unwrap()], &env.repo());
    let run = second.run(&env);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("job", "01"), ["has its commit", "of the repository"]);
    let said = said_by_provider(&run, "job");
    assert!(said.iter().any(|text| text.contains("git's objects were sent")), "{said:?}");
    // The rest is seen, and needs no sending.
    assert!(said.iter().any(|text| text.contains("a layer over")), "{said:?}");
    assert_eq!(second.left(&run.run.run_id()), [""; 0]);
}

/// As the sandboxes of editors and agents do it: most of the machine is as it is, some of it is Loom's alone.
#[test]
fn loom_behind_mounts_of_its_own_sends_what_the_daemon_does_not_see() {
    let (Some(image), Some(server)) = (busybox(), server("server", &[])) else { return };
    let sandbox = ["--bind", "/", "/", "--dev-bind", "/dev", "/dev"];
    let can = loom_tests::output(Command::new("bwrap").args(sandbox).arg("true"));
    if !can.as_ref().is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("LOOM_TESTS_NEED_BWRAP").is_none(), "`bwrap` does not run: {can:?}");
        eprintln!("skipped, since `bwrap` does not run: {can:?}");
        return;
    }
    let env = needs_everything(&image, &beside(&image, &server));
    let inside = Path::new("/mnt/repo");
    let loom = env.loom(&["run", "--local"]);
    let mut bwrap = Command::new("bwrap");
    bwrap
        .args(sandbox)
        .args(["--tmpfs", "/mnt", "--bind"])
        .arg(env.repo())
        .arg(inside)
        .arg("--chdir")
        .arg(inside);
    bwrap.args(["--setenv", "XDG_CACHE_HOME", "/mnt/c"]);
    bwrap.arg(loom.command.get_program()).args(loom.command.get_args());
    let output = loom.by(bwrap).output();
    let run = clean(RunOutput::of_place(&env, inside, &output));
    had_everything(&run);
    was_sent(&run);
    ran_beside(&run, "1");
}

/// A container that is removed with this value.
struct Removed(String);

impl Drop for Removed {
    fn drop(&mut self) {
        let removed =
            testimage::request(SOCKET, "DELETE", &format!("/containers/{}?force=1&v=1", self.0), b"");
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

/// A `loom` in a container that has the daemon's socket, this machine's programs, and the repository under another name
/// than the machine.
struct InContainer<'a> {
    env: &'a TestEnv,
    container: Removed,
}

/// Where the repository is in there.
const ELSEWHERE: &str = "/elsewhere/repo";

fn ask(method: &str, path: &str, body: &[u8]) -> serde_json::Value {
    let (status, answer) = testimage::request(SOCKET, method, path, body).unwrap();
    assert!((200..300).contains(&status), "{path}: {status} {answer}");
    serde_json::from_str(&answer).unwrap_or(serde_json::Value::Null)
}

impl<'a> InContainer<'a> {
    fn start(image: &str, env: &'a TestEnv, args: &str) -> Self {
        let dir = env.repo().parent().unwrap().to_owned();
        let mut variables: Vec<String> = vec![
            "PATH=/usr/local/bin:/usr/bin:/bin".to_owned(),
            "HOME=/elsewhere/home".to_owned(),
            "XDG_RUNTIME_DIR=/elsewhere/memory".to_owned(),
            // It is root in there, whoever runs the tests.
            "GIT_CONFIG_COUNT=1".to_owned(),
            "GIT_CONFIG_KEY_0=safe.directory".to_owned(),
            "GIT_CONFIG_VALUE_0=*".to_owned(),
        ];
        let given = env.loom(&[]);
        let given =
            given.command.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)));
        let own = ["SOURCE", "OTHER"];
        variables.extend(
            given.filter(|(name, _)| own.contains(name)).map(|(name, value)| format!("{name}={value}")),
        );
        let mut binds = vec![
            format!("{}:/elsewhere", dir.display()),
            format!("{}:/opt/loom:ro", std::fs::canonicalize(LOOM).unwrap().display()),
            format!("{SOCKET}:{SOCKET}"),
        ];
        let libraries = ["/usr", "/lib", "/lib64"].into_iter().filter(|path| Path::new(path).exists());
        binds.extend(libraries.map(|path| format!("{path}:{path}:ro")));
        let script = format!("/opt/loom {args} > ../stdout 2> ../stderr");
        let body = serde_json::json!({
            "Image": image, "Cmd": ["sh", "-c", script], "Env": variables, "WorkingDir": ELSEWHERE,
            "HostConfig": { "Binds": binds, "NetworkMode": "none", "Init": true },
        });
        let made = ask("POST", "/containers/create", body.to_string().as_bytes());
        let container = Removed(made["Id"].as_str().unwrap().to_owned());
        ask("POST", &format!("/containers/{}/start", container.0), b"");
        Self { env, container }
    }

    /// Waits for its end.
    fn run(self) -> RunOutput {
        let mut state = serde_json::Value::Null;
        wait_for("the end of the container", || {
            state = ask("GET", &format!("/containers/{}/json", self.container.0), b"")["State"].clone();
            state["Running"] == false
        });
        let code = i32::try_from(state["ExitCode"].as_i64().unwrap()).unwrap();
        let dir = self.env.repo().parent().unwrap().to_owned();
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| std::fs::read(dir.join(name)).unwrap());
        let output = Output { status: ExitStatus::from_raw(code << 8), stdout, stderr };
        RunOutput::of_place(self.env, Path::new(ELSEWHERE), &output)
    }
}

#[test]
fn loom_in_a_container_with_the_daemons_socket_runs_jobs_beside_it() {
    let (Some(image), Some(server)) = (busybox(), server("server", &[])) else { return };
    let env = needs_everything(&image, &beside(&image, &server));
    for times in ["1", "2"] {
        let run = clean(InContainer::start(&image, &env, "run --local").run());
        had_everything(&run);
        was_sent(&run);
        ran_beside(&run, times);
    }
    // What cannot be had by sending is refused by name.
    let bind = "run --local --job job --docker-workspace-mount bind_mount";
    let run = clean(InContainer::start(&image, &env, bind).run());
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    assert_eq!(run.run.job("job").error.unwrap().code, "DOCKER_DOES_NOT_SEE");
}

#[test]
fn what_loom_in_a_container_leaves_that_is_removed_goes_with_the_next_run() {
    let Some(image) = busybox() else { return };
    let env = of_steps(&image, "", &["echo begun; [ -e go ] || sleep 1000"]);
    let loom = InContainer::start(&image, &env, "run --local");
    let run = wait_for_step(&env, "begun");
    drop(loom);
    let run_id = run.file_name().unwrap().to_string_lossy().into_owned();
    assert!(!left_at(SOCKET, &run_id).is_empty());
    env.write("go", "");
    let next = clean(InContainer::start(&image, &env, "run --local").run());
    assert_eq!(next.exit_code, 0, "{}", next.stderr);
    assert_eq!(left_at(SOCKET, &run_id), [""; 0]);
}

#[test]
fn a_daemon_on_another_network_with_other_files_is_sent_all_that_a_job_needs() {
    let Some(second) = Second::start(DaemonOptions { port: Some(2375), ..DaemonOptions::default() }) else {
        return;
    };
    let env = needs_everything(&second.image, "");
    mount_at(&second, &["-t", "tmpfs", "none"], env.repo().parent().unwrap());
    let run = second.beside(&env).env("DOCKER_HOST", "tcp://127.0.0.1:2375").run();
    had_everything(&run);
    was_sent(&run);
    assert_eq!(second.left(&run.run.run_id()), [""; 0]);
}

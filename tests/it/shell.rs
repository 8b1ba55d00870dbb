//! `loom shell`: the user's own shell where a job runs.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use fs_err as fs;
use loom_tests::{Pty, Running, TestEnv, wait_for};

use crate::docker::{busybox, in_image, left};
use crate::{LOOM, env};

const WORKFLOW: &str = "
version: v1
stages: [build, test]
variables: {SHARED: shared, BOTH: of the workflow}
unit:
  stage: test
  target: linux
  variables: {BOTH: of the job, PLACE: $CI_PROJECT_DIR/x}
  script: ['echo made > made', 'exit 3']
lint: {stage: build, target: linux, script: ['true']}
";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `loom shell` with `args`, which reads `commands` from a pipe.
fn piped(env: &TestEnv, args: &[&str], commands: &str) -> Output {
    piped_with(env, args, commands, &[])
}

fn piped_with(env: &TestEnv, args: &[&str], commands: &str, variables: &[(&str, &str)]) -> Output {
    let mut loom = env.loom(&[&["shell"], args].concat());
    loom.command.stdin(Stdio::piped()).envs(variables.iter().copied());
    let mut child = Running::start(&mut loom.command).unwrap();
    // It may end without having read it.
    let _ = child.stdin.take().unwrap().write_all(commands.as_bytes());
    child.output()
}

/// `loom shell` with `args` on the terminal `pty`, which is its own.
fn on_terminal(env: &TestEnv, pty: &Pty, args: &[&str], shell: &str) -> Running {
    let loom = env.loom(&[]);
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait", LOOM, "shell", "--color", "never"]).args(args);
    command.env_clear().envs(loom.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("SHELL", shell).current_dir(env.repo());
    pty.attach(&mut command);
    Running::start(&mut command).unwrap()
}

/// Gives the shell a prompt that says when it waits. Systems have prompts of their own.
fn is_ready(pty: &mut Pty, prompt: &str) {
    pty.type_in(&format!("PS1='{prompt}''> '\n"));
    pty.read_until(&format!("{prompt}> "));
}

/// The shells of this machine that are tried.
fn shells() -> Vec<&'static str> {
    let known = ["/bin/sh", "/bin/bash"];
    known.into_iter().filter(|shell| Path::new(shell).exists()).collect()
}

fn is_alive(pid: &str) -> bool {
    Path::new("/proc").join(pid.trim()).exists()
}

#[test]
fn a_shell_has_the_workspace_and_the_variables_of_its_job() {
    let env = env(WORKFLOW);
    let run = env.run(&["--job", "unit"]);
    assert_eq!(run.exit_code, 1);
    let workspace = run.run.receipt.snapshot_path.clone().unwrap();
    // What the run has not seen is not in it; what it has made is.
    env.write("later", "");
    let commands = "pwd; cat made; test ! -e later; echo $? $LOOM_JOB_NAME $CI_JOB_STAGE $SHARED/$BOTH $PLACE $CI; exit 7";
    let output = piped(&env, &["unit"], commands);
    let expected = format!("{workspace}\nmade\n0 unit test shared/of the job {workspace}/x true\n");
    assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(7));
    let said = text(&output.stderr);
    assert!(said.contains(&workspace) && said.contains(&run.run.run_id()), "{said}");
    // Nothing is recorded of it, and what it has made is there the next time.
    assert_eq!(env.receipts().len(), 1);
    assert_eq!(env.run_dirs().len(), 1);
    assert_eq!(piped(&env, &["unit"], "echo x > by-hand").status.code(), Some(0));
    assert_eq!(text(&piped(&env, &["lint"], "cat by-hand").stdout), "x\n");
    // A run finds nothing of it.
    env.write(
        ".loom/workflow.yml",
        "version: v1\nstages: [s]\nj: {stage: s, target: linux, script: [test ! -e by-hand]}\n",
    );
    assert_eq!(env.run(&[]).exit_code, 0);
}

#[test]
fn without_a_job_it_has_the_variables_of_the_workflow() {
    let env = env(WORKFLOW);
    let commands = "echo $SHARED/$BOTH ${LOOM_JOB_NAME-none} ${LOOM_PROVIDER-none} $LOOM_CI; test \"$PWD\" = \"$CI_PROJECT_DIR\"";
    let output = piped(&env, &[], commands);
    assert_eq!(text(&output.stdout), "shared/of the workflow none none true\n", "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
}

const STEPS: &str = "
version: v1
stages: [s]
j:
  stage: s
  target: linux
  variables: {STEP_OF: j}
  script: [echo one-$STEP_OF > one; cat one, 'test -e no-such-file || exit 5', echo > three]
";

#[test]
fn the_steps_before_it_run_first() {
    let env = env(STEPS);
    let output = piped(&env, &["j", "--at", "2"], "ls one three; exit 7");
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(7), "one\n"), "{said}");
    assert!(said.contains("step 1: echo one-$STEP_OF > one; cat one\none-j\n"), "{said}");
    assert!(!said.contains("step 2"), "{said}");
    // Where one fails, there the shell is.
    let output = piped(&env, &["j", "--at", "3"], "ls three; echo still-here");
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "still-here\n"), "{said}");
    let told = "warning: step 2 failed, and the shell is where it did: the step's exit code was 5\n";
    assert!(said.contains(told), "{said}");
    // None before the first, and none that there is not.
    let output = piped(&env, &["j", "--at", "1"], "true");
    assert!(output.status.success() && !text(&output.stderr).contains("step 1"), "{output:?}");
    let output = piped(&env, &["j", "--at", "4"], "echo never");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    assert!(text(&output.stderr).contains("job `j` has no step 4: it has 3 steps"), "{output:?}");
    assert!(env.receipts().is_empty());
}

#[test]
fn who_ends_loom_ends_the_steps_before_the_shell() {
    let steps = "['echo $PPID > $HOME/loom.new; mv $HOME/loom.new $HOME/loom; exec sleep 1000', 'true']";
    let env = env(&format!("version: v1\nstages: [s]\nj: {{stage: s, target: linux, script: {steps}}}\n"));
    let mut loom = env.loom(&["shell", "j", "--at", "2"]);
    loom.command.stdin(Stdio::null());
    let mut running = Running::start(&mut loom.command).unwrap();
    wait_for("the first step", || env.home().join("loom").exists());
    let pid = fs::read_to_string(env.home().join("loom")).unwrap();
    assert!(loom_tests::status(Command::new("kill").args(["-TERM", pid.trim()])).unwrap().success());
    assert_eq!(running.exit().code(), Some(143));
}

#[test]
fn a_place_that_a_run_has_is_not_taken() {
    let env = env(WORKFLOW);
    assert_eq!(env.run(&["--job", "unit"]).exit_code, 1);
    let mut loom = env.loom(&["shell", "unit"]);
    loom.command.stdin(Stdio::piped());
    let mut first = Running::start(&mut loom.command).unwrap();
    let mut to_first = first.stdin.take().unwrap();
    to_first.write_all(b"pwd > $HOME/first.new; mv $HOME/first.new $HOME/first\n").unwrap();
    wait_for("the first shell", || env.home().join("first").exists());
    let place = fs::read_to_string(env.home().join("first")).unwrap();
    let second = piped(&env, &["unit"], "pwd; test -e made || echo new");
    let said = text(&second.stdout);
    assert!(said.contains("new\n") && !said.contains(&place), "{said} beside {place}");
    drop(to_first);
    assert_eq!(first.output().status.code(), Some(0));
    // It was given back.
    assert_eq!(text(&piped(&env, &["unit"], "pwd").stdout), place);
}

#[test]
fn an_unknown_job_is_told_with_those_that_there_are() {
    let env = env(WORKFLOW);
    let output = piped(&env, &["unti"], "echo never");
    let said = text(&output.stderr);
    assert!(said.contains("no job is named `unti`") && said.contains("did you mean `unit`?"), "{said}");
    assert!(said.contains("lint"), "{said}");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    let output = piped_with(&env, &["unit"], "", &[("SHELL", "/nowhere/shell")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nowhere/shell"), "{}", text(&output.stderr));
}

#[test]
fn secrets_are_for_who_asks_for_them() {
    let workflow = "
version: v1
stages: [s]
j:
  stage: s
  target: linux
  secrets:
    TOKEN: {ref: 'env://OUTER', file: false}
    FILE: {ref: 'env://OUTER'}
  script: ['true']
";
    let env = env(workflow);
    let given = [("OUTER", "a value of some length")];
    let commands = "echo \"${TOKEN-none} ${OUTER-none}\"; echo ${FILE-none}; test -z \"$FILE\" || cat $FILE";
    let output = piped_with(&env, &["j"], commands, &given);
    assert_eq!(text(&output.stdout), "none none\nnone\n", "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("TOKEN, FILE") || text(&output.stderr).contains("FILE, TOKEN"));
    let output = piped_with(&env, &["j", "--secrets"], commands, &given);
    let stdout = text(&output.stdout);
    let lines: Vec<&str> = stdout.lines().collect();
    let [first, file, value] = lines[..] else { panic!("{stdout}\n{}", text(&output.stderr)) };
    assert_eq!((first, value), ("a value of some length none", "a value of some length"));
    assert!(!Path::new(file).exists(), "{file} outlives the shell");
    assert!(!Path::new(file).parent().unwrap().exists(), "{file}");
    // What is said beside it is masked, and one that cannot be had ends it.
    let output = piped(&env, &["j", "--secrets"], "echo never");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    assert!(text(&output.stderr).contains("TOKEN"), "{}", text(&output.stderr));
}

#[test]
fn what_a_shell_leaves_is_ended_and_named() {
    let env = env(WORKFLOW);
    let commands = "
        is_there() { until grep -q $1 /proc/$(cat $HOME/$1)/cmdline; do sleep 0.02; done; }
        sleep 1111 & echo $! > $HOME/1111
        (setsid sleep 2222 & echo $! > $HOME/2222)
        env -i sleep 3333 & echo $! > $HOME/3333
        is_there 1111; is_there 2222; is_there 3333
    ";
    let output = piped(&env, &["unit"], commands);
    let said = text(&output.stderr);
    for word in ["sleep 1111", "sleep 2222", "sleep 3333"] {
        assert!(said.contains(word), "{said}");
    }
    for name in ["1111", "2222", "3333"] {
        assert!(!is_alive(&fs::read_to_string(env.home().join(name)).unwrap()));
    }
}

#[test]
fn on_a_terminal_it_is_the_users_own_shell() {
    for shell in shells() {
        let env = env(WORKFLOW);
        let mut pty = Pty::new();
        let mut loom = on_terminal(&env, &pty, &["unit"], shell);
        is_ready(&mut pty, "ready");
        pty.type_in("tty -s && echo on-a-'terminal' $BOTH\n");
        pty.read_until("on-a-terminal of the job");
        pty.read_until("ready> ");
        // Ctrl-C is the shell's, and not Loom's.
        pty.type_in("sh -c 'echo > $HOME/one; exec sleep 1111'\n");
        wait_for("the command", || env.home().join("one").exists());
        pty.type_in("\u{3}");
        pty.read_until("ready> ");
        // A second one, at the prompt: some shells write none again, and throw away what they read just then.
        pty.type_in("\u{3}");
        wait_for("the shell", || {
            pty.type_in("echo still-'there'\n");
            pty.read_within(Duration::from_secs(1), "still-there").is_some()
        });
        pty.type_in("echo all-'read'\n");
        pty.read_until("all-read");
        pty.read_until("ready> ");
        // So is Ctrl-Z.
        pty.type_in("sh -c 'echo > $HOME/two; exec sleep 2222'\n");
        wait_for("the command", || env.home().join("two").exists());
        pty.type_in("\u{1a}");
        pty.read_until("ready> ");
        pty.type_in("jobs; echo seen-'all'\n");
        let shown = pty.read_until("seen-all");
        assert!(shown.contains("Stopped"), "{shell}: {shown}");
        pty.read_until("ready> ");
        pty.type_in("sleep 3333 & echo $! > $HOME/left; stty -echo\n");
        pty.read_until("ready> ");
        pty.type_in("exit 9\n");
        // Some shells ask twice where something is stopped.
        pty.type_in("exit 9\n");
        let shown = pty.read_until("ended process");
        assert_eq!(loom.exit().code(), Some(9), "{shell}: {shown}");
        assert!(!is_alive(&fs::read_to_string(env.home().join("left")).unwrap()), "{shell}");
    }
}

#[test]
fn the_terminal_is_given_back_as_it_was() {
    let env = env(WORKFLOW);
    let mut pty = Pty::new();
    // A shell around it, which has the terminal before and after.
    let loom = env.loom(&[]);
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait", "/bin/sh", "-i"]);
    command.env_clear().envs(loom.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("SHELL", "/bin/sh").current_dir(env.repo());
    pty.attach(&mut command);
    let mut outer = Running::start(&mut command).unwrap();
    is_ready(&mut pty, "outer");
    assert!(pty.is_cooked());
    pty.type_in(&format!("'{LOOM}' shell unit\n"));
    is_ready(&mut pty, "inner");
    pty.type_in("stty raw -echo; exec kill -KILL $$\n");
    pty.read_until("outer> ");
    assert!(pty.is_cooked());
    pty.type_in("echo code-$?\n");
    pty.read_until("code-137");
    // It can be suspended with the shell in it, and goes on with it.
    pty.type_in(&format!("'{LOOM}' shell unit\n"));
    is_ready(&mut pty, "inner");
    pty.type_in("kill -STOP $$\n");
    pty.read_until("outer> ");
    pty.type_in("fg\n");
    pty.type_in("echo goes-'on'\n");
    pty.read_until("goes-on");
    pty.type_in("exit 4\n");
    pty.read_until("outer> ");
    pty.type_in("exit $?\n");
    assert_eq!(outer.exit().code(), Some(4));
}

#[test]
fn who_ends_loom_ends_the_shell() {
    for shell in shells() {
        let env = env(WORKFLOW);
        let mut pty = Pty::new();
        let mut loom = on_terminal(&env, &pty, &["unit"], shell);
        is_ready(&mut pty, "ready");
        pty.type_in("echo $PPID $$ > $HOME/pids; echo is-'written'\n");
        pty.read_until("is-written");
        let pids = fs::read_to_string(env.home().join("pids")).unwrap();
        let (parent, own) = pids.split_once(' ').unwrap();
        assert!(loom_tests::status(Command::new("kill").args(["-TERM", parent])).unwrap().success());
        assert_eq!(loom.exit().code(), Some(143), "{shell}");
        assert!(!is_alive(own), "{shell}");
    }
}

const IN_IMAGE: &str = "
unit:
  stage: later
  variables: {PLACE: $CI_PROJECT_DIR/x}
  secrets: {FILE: {ref: 'env://OUTER'}}
  script: ['exit 3']
";

/// The run that `stdout` names in a line that begins with `run=`, of which the daemon has nothing any more.
fn nothing_is_left(stdout: &str) {
    let named = stdout.split_once("run=").and_then(|(_, rest)| rest.split_whitespace().next());
    assert_eq!(left(named.unwrap()), [""; 0]);
}

#[test]
fn a_job_with_an_image_has_its_shell_in_the_container() {
    let Some(image) = busybox() else { return };
    let env = in_image(&image, IN_IMAGE);
    env.write("file", "of the repository");
    let commands = "cat file; echo; echo $PWD $PLACE $LOOM_JOB_NAME ${FILE-none}; cat $FILE; echo oh >&2; sleep 1111 & echo run=$LOOM_RUN_ID; exit 7";
    let given = [("OUTER", "a value of some length")];
    let output = piped_with(&env, &["unit"], commands, &given);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(
        stdout.starts_with("of the repository\n/workspace /workspace/x unit none\nrun="),
        "{stdout}\n{stderr}"
    );
    assert!(stderr.contains("\noh\n"), "{stderr}");
    assert_eq!(output.status.code(), Some(7));
    nothing_is_left(&stdout);
    let output = piped_with(&env, &["unit", "--secrets"], commands, &given);
    let stdout = text(&output.stdout);
    assert!(stdout.contains("unit /run/loom/secrets/FILE\na value of some length"), "{stdout}");
    nothing_is_left(&stdout);
    assert!(env.receipts().is_empty());
    env.write(
        ".loom/workflow.yml",
        &fs::read_to_string(env.repo().join(".loom/workflow.yml"))
            .unwrap()
            .replace("'exit 3'", "'pwd; echo > made', 'true'"),
    );
    let output = piped_with(&env, &["unit", "--at", "2"], "ls made; echo run=$LOOM_RUN_ID", &given);
    let (stdout, said) = (text(&output.stdout), text(&output.stderr));
    assert!(
        stdout.starts_with("made\n") && said.contains("step 1: pwd; echo > made\n/workspace\n"),
        "{said}"
    );
    nothing_is_left(&stdout);
}

#[test]
fn a_shell_in_a_container_has_the_terminal() {
    let Some(image) = busybox() else { return };
    let env = in_image(&image, IN_IMAGE);
    let mut pty = Pty::new();
    let mut loom = on_terminal(&env, &pty, &["unit"], "/bin/sh");
    pty.read_until("workspace:");
    pty.read_until("# ");
    assert!(!pty.is_cooked());
    is_ready(&mut pty, "ready");
    pty.type_in("tty -s && echo on-a-'terminal' $(stty size) $TERM run=$LOOM_RUN_ID\n");
    pty.read_until("on-a-terminal 30 200 xterm-256color ");
    let shown = pty.read_until("ready> ");
    // Ctrl-C is the shell's.
    pty.type_in("echo before; sh -c 'echo is-\"running\"; exec sleep 1111'\n");
    pty.read_until("is-running");
    pty.type_in("\u{3}");
    pty.read_until("ready> ");
    // Its terminal is as large as the window.
    pty.resize(40, 100);
    pty.type_in("while test \"$(stty size)\" != '40 100'; do sleep 0.1; done; echo is-'resized'\n");
    pty.read_until("is-resized");
    pty.type_in("exit 9\n");
    assert_eq!(loom.exit().code(), Some(9));
    nothing_is_left(&shown);
}

#[test]
fn the_terminal_is_given_back_by_a_container_that_ends() {
    let Some(image) = busybox() else { return };
    let env = in_image(&image, IN_IMAGE);
    let mut pty = Pty::new();
    let loom = env.loom(&[]);
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait", "/bin/sh", "-i"]);
    command.env_clear().envs(loom.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(env.repo());
    pty.attach(&mut command);
    let mut outer = Running::start(&mut command).unwrap();
    is_ready(&mut pty, "outer");
    for (end, code) in [("exit 5", "5"), ("kill -KILL 1 $$", "1"), ("", "143")] {
        pty.type_in(&format!("sh -c 'echo $$ > $HOME/pid; exec \"{LOOM}\" shell unit'\n"));
        pty.read_until("workspace:");
        pty.read_until("# ");
        is_ready(&mut pty, "inner");
        assert!(!pty.is_cooked());
        if end.is_empty() {
            let pid = fs::read_to_string(env.home().join("pid")).unwrap();
            assert!(loom_tests::status(Command::new("kill").args(["-TERM", pid.trim()])).unwrap().success());
        } else {
            pty.type_in(&format!("{end}\n"));
        }
        pty.read_until("outer> ");
        assert!(pty.is_cooked(), "{end}");
        pty.type_in("echo code-$?\n");
        let shown = pty.read_until("outer> ");
        assert!(shown.contains(&format!("code-{code}")) || end.starts_with("kill"), "{end}: {shown}");
    }
    pty.type_in("exit 0\n");
    assert_eq!(outer.exit().code(), Some(0));
}

//! Loom runs in a terminal, and steps ask for passwords there: they fail at once, as on any machine without one.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;

use loom_tests::TestEnv;

use crate::{LOOM, env_of_steps};

/// Runs `loom run --local` on a terminal of its own. What the steps say is in the workspace's record.
fn run_on_a_terminal(env: &TestEnv, variables: &[(&str, &str)]) {
    let mut script = Command::new("script");
    let hermetic = env.loom(&[]);
    script.env_clear().envs(hermetic.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.envs(variables.iter().copied()).current_dir(env.repo());
    script.args(["-q", "-e", "-c", &format!("'{LOOM}' run --local --color never"), "/dev/null"]);
    loom_tests::output(&mut script).unwrap();
}

fn output(env: &TestEnv, step: &str) -> Vec<String> {
    let step = format!("jobs/job/user/execution/script/{step}/events.jsonl");
    let events = loom_record::read::events(&env.run_dirs().last().unwrap().join(step)).unwrap();
    events.into_iter().filter_map(|event| event.line).collect()
}

#[test]
fn a_step_that_asks_on_the_terminal_fails_at_once() {
    let env = env_of_steps(&[
        "(read answer < /dev/tty) 2> /dev/null || echo no terminal",
        // What ssh, sudo and gpg do: both ways, and never the standard streams.
        "(exec 3<> /dev/tty && printf 'Password: ' >&3 && read answer <&3) 2> /dev/null || echo no terminal",
        "(stty sane < /dev/tty) 2> /dev/null || echo no terminal",
        "cat; test -t 0 || test -t 1 || test -t 2 || echo no terminal",
    ]);
    run_on_a_terminal(&env, &[]);
    for step in ["01", "02", "03", "04"] {
        assert_eq!(output(&env, step), ["no terminal"], "{step}");
    }
}

#[test]
fn git_that_needs_a_password_fails_at_once() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/repo.git", server.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in server.incoming() {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 4096]);
            let _ = connection.write_all(
                b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            );
        }
    });
    let env = env_of_steps(&[&format!("git ls-remote {url} 2>&1 || echo failed")]);
    // That git may ask is the user's to say; there is still nobody to be asked.
    for (variables, said) in [
        (&[][..], "terminal prompts disabled"),
        (&[("GIT_TERMINAL_PROMPT", "1")], "No such device or address"),
    ] {
        run_on_a_terminal(&env, variables);
        let output = output(&env, "01");
        assert_eq!(output.last().map(String::as_str), Some("failed"), "{output:?}");
        assert!(output[0].contains(said), "{output:?}");
    }
}

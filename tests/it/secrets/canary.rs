//! Ten planted values, printed in every way in which jobs print values by accident: they are nowhere, and a mask is where
//! each of them was.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use loom_contract::event::Level;
use loom_tests::{RunOutput, SetOnDrop, TestEnv};

use super::{job, workflow};
use crate::{LOOM, env};

/// Ways that need nothing but what every system has.
const WAYS: [&str; 32] = [
    "plain",
    "within",
    "base64",
    "base64-1",
    "base64-2",
    "base64-line",
    "base64-line-1",
    "base64-line-2",
    "base64-narrow",
    "base64-url",
    "base64-echo",
    "base64-twice",
    "hex",
    "hex-upper",
    "hex-wrapped",
    "od",
    "od-bytes",
    "od-octal",
    "od-characters",
    "od-both",
    "percent",
    "percent-form",
    "percent-all",
    "json",
    "quoted",
    "slashes",
    "halves",
    "trickle",
    "missing",
    "refused",
    "traced",
    "file-name",
];

/// Ways that need the program of that name.
const PROGRAMS: [(&str, &str); 13] = [
    ("python", "python3"),
    ("python-csv", "python3"),
    ("python-ascii", "python3"),
    ("python-json-twice", "python3"),
    ("python-json-base64", "python3"),
    ("jq", "jq"),
    ("bash", "bash"),
    ("grep", "grep"),
    ("xxd", "xxd"),
    ("xxd-lines", "xxd"),
    ("xxd-words", "xxd"),
    ("hexdump", "hexdump"),
    ("hexdump-words", "hexdump"),
];

fn values() -> Vec<(&'static str, String)> {
    let pem: String =
        (0..6).map(|line| format!("{}\n", noise(line, 64, b"ABCDEFGHabcdefgh0123456789+/"))).collect();
    let all: Vec<u8> = (b'!'..=b'~').collect();
    vec![
        ("PEM", format!("-----BEGIN CANARY KEY-----\n{pem}-----END CANARY KEY-----\n")),
        ("JSON", r#"{"user": "ann \"the\" admin", "pass": "p\\w/1", "n": [1, 2]}"#.to_owned()),
        ("UNICODE", "pässwörd-Жук😀-秘密の言葉".to_owned()),
        ("FIVE", "k9#Qz".to_owned()),
        ("LONG", noise(99, 8 * 1024, &all)),
        ("PART", "the-inner-part".to_owned()),
        ("WHOLE", "around-the-inner-part-of-it".to_owned()),
        ("SPACES", "two words  and 'a quote', then it''s  over".to_owned()),
        ("SHELL", r"$HOME\n`id`\\$(x)\t!*?[a]~{b,c}".to_owned()),
        ("MARKUP", "a&b<c>d%20e+f&amp;\"g'".to_owned()),
        ("HEX", noise(7, 64, b"0123456789abcdef")),
    ]
}

/// Characters of `alphabet` in no order, always the same for one `seed`.
fn noise(seed: u64, length: usize, alphabet: &[u8]) -> String {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(alphabet[(state >> 33) as usize % alphabet.len()])
    };
    (0..length).map(next).collect()
}

fn env_with_canaries(file: bool, stderr: bool) -> (TestEnv, Vec<&'static str>) {
    let there = |program: &str| {
        let found = loom_tests::output(Command::new(program).arg("--version")).is_ok()
            || loom_tests::output(Command::new(program).arg("-v")).is_ok();
        if !found {
            eprintln!("skipped: {program} is not installed");
        }
        found
    };
    let extra = PROGRAMS.into_iter().filter(|(_, program)| there(program)).map(|(way, _)| way);
    let ways: Vec<&str> = WAYS.into_iter().chain(extra).collect();
    let names: Vec<&str> = values().iter().map(|(name, _)| *name).collect();
    let secrets: Vec<String> =
        names.iter().map(|name| format!("{name}: {{ref: 'env://SOURCE_{name}', file: {file}}}")).collect();
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    let stream = if stderr { "stderr" } else { "stdout" };
    let steps: Vec<String> =
        ways.iter().chain(&["process", "last"]).map(|way| format!("sh ways.sh {way} {stream}")).collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let variables =
        format!("variables: {{NAMES: '{}', AS: {}}}\n", names.join(" "), if file { "file" } else { "value" });
    let env = env(&(workflow(&job("job", &secrets, &steps)) + &variables));
    env.write("ways.sh", include_str!("ways.sh"));
    for (name, value) in values() {
        env.plant_variable(&format!("SOURCE_{name}"), &value);
    }
    (env, ways)
}

/// What a step wrote, by the secret that it printed.
fn by_name(run: &RunOutput, step: &str) -> BTreeMap<String, String> {
    let mut sections: BTreeMap<String, String> = BTreeMap::new();
    let mut name = String::new();
    for line in run.run.output("job", step) {
        if let Some(next) = line.strip_prefix("=== ") {
            next.clone_into(&mut name);
            sections.insert(name.clone(), String::new());
        } else {
            sections.entry(name.clone()).or_default().push_str(&(line + "\n"));
        }
    }
    sections
}

fn mask(name: &str) -> String {
    format!("[REDACTED:SECRET_{name}]")
}

/// Runs the job, and looks for masks; that no value is anywhere is the law that the harness checks.
fn run_canaries(file: bool, args: &[&str], stderr: bool) {
    let (env, ways) = env_with_canaries(file, stderr);
    let over = AtomicBool::new(false);
    let run = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                no_loom_is_called_by_a_value(&env);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let output = {
            let _end = SetOnDrop(&over);
            let mut loom = env.loom(&["run", "--local"]).env("LOOM_LOG", "debug");
            loom.command.args(args);
            loom.spawn().output()
        };
        RunOutput::of(&env, &output)
    });
    assert_eq!(run.exit_code, 1, "the last step fails, so that the terminal shows it: {}", run.stderr);
    let mut bare = Vec::new();
    for (number, way) in ways.iter().enumerate() {
        let step = format!("{:02}", number + 1);
        let sections = by_name(&run, &step);
        for (name, _) in values() {
            let section = &sections[name];
            let Some(shown) = section.lines().find(|line| line.contains(&mask(name))) else {
                bare.push(format!("{way} of {name}: {section}"));
                continue;
            };
            if args.contains(&"--stream") {
                // What `grep` colours, which is kept for a terminal alone.
                let colours = ["\x1b[01;31m", "\x1b[K", "\x1b[m"];
                let shown = colours.iter().fold(shown.to_owned(), |shown, colour| shown.replace(colour, ""));
                assert!(
                    run.stderr.contains(&format!("job | {shown}\n")),
                    "{way} of {name} is not shown masked"
                );
            }
        }
    }
    assert!(bare.is_empty(), "these have no mask: {bare:#?}");
    let cleanup = run.run.events("jobs/job/system/cleanup/events.jsonl");
    let named: Vec<String> = cleanup
        .into_iter()
        .filter(|event| event.level == Some(Level::Warn))
        .filter_map(|event| event.message)
        .collect();
    for (name, _) in values() {
        let left = named.iter().any(|message| message.ends_with(&mask(name)));
        assert!(left, "cleanup names the process that has {name} in its command line: {named:#?}");
    }
}

/// No command line of a `loom` holds a value: not of the one that runs, nor of its guard.
fn no_loom_is_called_by_a_value(env: &TestEnv) {
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        if std::fs::read_link(process.path().join("exe")).is_ok_and(|program| program == Path::new(LOOM)) {
            let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            env.holds_no_secret(&words, "the command line of a loom");
        }
    }
}

#[test]
fn values_in_variables_are_nowhere() {
    run_canaries(false, &[], false);
}

#[test]
fn values_in_files_are_nowhere() {
    run_canaries(true, &[], true);
}

#[test]
fn values_in_variables_are_nowhere_in_a_live_stream() {
    run_canaries(false, &["--stream", "-v"], true);
}

#[test]
fn values_in_files_are_nowhere_in_a_live_stream() {
    run_canaries(true, &["--stream"], false);
}

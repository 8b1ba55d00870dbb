//! Storms of faults: kills at random instants, system calls that fail one after another, folders that change under a run.
//!
//! They take minutes, so only the nightly job runs them: `cargo test --workspace --test it -- --ignored storm`. How many
//! rounds is `LOOM_STORM` (default 60), the seed is `LOOM_STORM_SEED`; it is printed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fs_err as fs;
use loom_contract::receipt::RunReceipt;
use loom_tests::{RunOutput, TestEnv, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use crate::env;

/// Caches, artifacts, secrets, processes in the background, several jobs at once.
const WORKFLOW: &str = "version: v1
stages: [a, b]
default:
  target: linux
  cache: {key: {files: [lock]}, paths: [cached], when: always}
  artifacts: {paths: [out], when: always}
one: {stage: a, secrets: {KEY: {ref: 'env://STORM_VALUE'}}, parallel: {matrix: [{N: ['1', '2', '3', '4']}]}, script: [
  'setsid sleep 1000 & mkdir -p cached out; echo $N > out/$N; seq 2000 > cached/$N', 'cat $KEY > /dev/null; seq 3000']}
two: {stage: b, script: ['ls out cached; sleep 0.05']}
";

fn repository() -> TestEnv {
    let env = env(WORKFLOW);
    env.write("lock", "1");
    env.write(".loom/config.yml", "runtime: {keepRuns: 0}\n");
    for number in 0..200 {
        env.write(&format!("src/{number}"), &"text\n".repeat(number));
    }
    env.commit_all();
    env.plant_variable("STORM_VALUE", "a-value-that-no-storm-may-show");
    env
}

/// Numbers that look random: the same ones for the same seed.
struct Numbers(u64);

impl Numbers {
    fn seeded() -> Self {
        let given = std::env::var_os("LOOM_STORM_SEED").and_then(|seed| seed.to_str()?.parse().ok());
        let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let seed = given.unwrap_or_else(now);
        println!("LOOM_STORM_SEED={seed}");
        Self(seed | 1)
    }

    /// One below `end`.
    fn below(&mut self, end: u64) -> u64 {
        // xorshift64*, from Vigna's paper of 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}

fn rounds() -> u64 {
    std::env::var_os("LOOM_STORM").and_then(|rounds| rounds.to_str()?.parse().ok()).unwrap_or(60)
}

/// Whatever happened before: what is recorded can be read, and the next run passes and leaves nothing of the others.
fn all_is_well_again(env: &TestEnv, after: &str) {
    for receipt in env.receipts() {
        let read: Result<RunReceipt, _> = loom_record::read::document(&receipt);
        assert!(read.is_ok(), "{after}: {}: {read:?}", receipt.display());
    }
    for run in env.run_dirs() {
        for stream in streams(&run) {
            let events = loom_record::read::events(&stream);
            assert!(events.is_ok(), "{after}: {}: {events:?}", stream.display());
            let events = events.unwrap();
            let in_order = events.iter().enumerate().all(|(at, event)| event.seq == at as u64 + 1);
            assert!(in_order, "{after}: {}", stream.display());
        }
    }
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 0, "{after}: {}", run.stderr);
    assert!(env.receipts().iter().all(|path| path.extension().is_some_and(|end| end == "json")), "{after}");
    let verified = env.loom(&["cache", "verify"]).output();
    assert!(verified.status.success(), "{after}: {verified:?}");
    for run in env.run_dirs() {
        let run_id = run.file_name().unwrap().to_str().unwrap().to_owned();
        wait_for("the processes of an earlier run to be gone", || crate::cancel::marked(&run_id) == 0);
    }
    assert_eq!(fs::read_dir(env.memory()).unwrap().count(), 0, "{after}: files of secrets are left");
    assert_eq!(fs::read_dir(env.home().join(".cache/loom/runs")).unwrap().count(), 0, "{after}: a ledger");
    env.no_secret_is_left();
    fs::remove_dir_all(env.runtime().path()).unwrap();
}

fn streams(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(streams(&entry.path()));
        } else if entry.file_name() == "events.jsonl" {
            found.push(entry.path());
        }
    }
    found
}

#[test]
#[ignore = "takes minutes"]
fn storm_of_signals() {
    let env = repository();
    let mut numbers = Numbers::seeded();
    // The first run compiles what later ones find.
    assert_eq!(env.run(&[]).exit_code, 0);
    let begun = Instant::now();
    assert_eq!(env.run(&[]).exit_code, 0);
    let usual = u64::try_from(begun.elapsed().as_micros()).unwrap();
    let mut hit = 0;
    for round in 0..rounds() {
        let mut child = env.loom(&["run", "--local"]).spawn();
        std::thread::sleep(Duration::from_micros(numbers.below(usual)));
        let signals =
            [Signal::KILL, Signal::KILL, Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];
        let signal = signals[usize::try_from(numbers.below(signals.len() as u64)).unwrap()];
        let guard_too = numbers.below(4) == 0;
        if guard_too {
            end_guards(&env);
        }
        // It may have ended by itself.
        hit += u64::from(child.try_wait().unwrap().is_none());
        let _ = kill_process(Pid::from_child(&child), signal);
        child.exit();
        let guard = if guard_too { ", the guard first" } else { "" };
        all_is_well_again(&env, &format!("round {round}: {signal:?}{guard}"));
    }
    println!("{hit} of {} signals reached a run", rounds());
}

fn end_guards(env: &TestEnv) {
    let mut pkill = Command::new("pkill");
    pkill.args(["-KILL", "-f", &format!("__guard {}", env.home().display())]);
    // There may be none yet.
    loom_tests::status(&mut pkill).unwrap();
}

/// System calls, each with an error that a full, broken or remote disk, or a system without resources, answers.
const CALLS: [(&str, &str); 16] = [
    ("openat", "EIO"),
    ("openat", "EMFILE"),
    ("mkdirat", "ENOSPC"),
    ("mkdir", "ENOSPC"),
    ("renameat", "EIO"),
    ("rename", "ENOSPC"),
    ("fsync", "EIO"),
    ("fdatasync", "EIO"),
    ("ftruncate", "ENOSPC"),
    ("unlinkat", "EIO"),
    ("getdents64", "EIO"),
    ("statx", "EIO"),
    ("copy_file_range", "ENOSPC"),
    ("flock", "ENOLCK"),
    ("clone3", "EAGAIN"),
    ("pipe2", "EMFILE"),
];

#[test]
#[ignore = "takes minutes"]
fn storm_of_failing_system_calls() {
    let has_strace =
        Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    if !has_strace {
        println!("skipped: there is no strace");
        return;
    }
    let env = repository();
    let mut numbers = Numbers::seeded();
    for round in 0..rounds() {
        let (call, error) = CALLS[usize::try_from(numbers.below(CALLS.len() as u64)).unwrap()];
        // The first ones are each something else, later ones alike.
        let most = 1 << (1 + numbers.below(8));
        let when = 1 + numbers.below(most);
        let after = format!("round {round}: {call} number {when} fails with {error}");
        let strace = format!(
            "exec strace -f -qqq -o /dev/null -e trace={call} -e signal=none -e inject={call}:error={error}:when={when} \"$0\" \"$@\""
        );
        let mut loom = env.loom(&["run", "--local"]).after(&strace);
        loom.command.stdout(Stdio::piped());
        let output = loom.output();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{after}: {}: {stderr}", output.status);
        assert!(!stderr.contains("internal error"), "{after}: {stderr}");
        if let Some(receipt) = stderr.lines().find_map(|line| line.strip_prefix("receipt: "))
            && let Ok(receipt) = loom_record::read::document::<RunReceipt>(Path::new(receipt))
        {
            assert_eq!(Some(receipt.exit_code), output.status.code(), "{after}: {stderr}");
        }
        all_is_well_again(&env, &after);
    }
}

#[test]
#[ignore = "takes minutes"]
fn storm_of_swapped_folders() {
    // All that jobs write is written before folders are swapped, and they end while that goes on: what is read or written
    // meanwhile is Loom's doing.
    let written = "touch $MARKS/wrote.$N; until test -e $MARKS/swapping; do sleep 0.01; done', 'cat";
    let swap = "swap: {stage: a, script: ['until test $(ls $MARKS | grep -c wrote) = 4; do sleep 0.01; done; \
        touch $MARKS/swapping; for i in $(seq 400); do for f in cached out; do \
        mv $f .$f; ln -s $VICTIM $f; rm $f; mv .$f $f; done; done 2> /dev/null; true'], cache: [], artifacts: null}\ntwo: ";
    let env = env(&WORKFLOW.replace("', 'cat", &format!("; {written}")).replace("two: ", swap));
    env.write("lock", "1");
    env.commit_all();
    env.plant_variable("STORM_VALUE", "a-value-that-no-storm-may-show");
    let victim = env.home().join("victim");
    fs::create_dir_all(&victim).unwrap();
    fs::write(victim.join("precious"), "kept").unwrap();
    for round in 0..rounds() {
        let output =
            env.loom(&["run", "--local", "--jobs", "5"]).env("VICTIM", victim.to_str().unwrap()).output();
        let run = RunOutput::of(&env, &output);
        assert!(matches!(run.exit_code, 0 | 1), "round {round}: {}", run.stderr);
        let names: Vec<_> = fs::read_dir(&victim).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["precious"], "round {round}: something was written through a link");
        assert_eq!(fs::read_to_string(victim.join("precious")).unwrap(), "kept");
        let holds = |path: &std::path::PathBuf| path.file_name().is_some_and(|name| name == "precious");
        assert!(!run.run.files().iter().any(holds), "round {round}: something was read through a link");
    }
}

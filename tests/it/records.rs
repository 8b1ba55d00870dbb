//! How many records stay, and which.

use std::path::{Path, PathBuf};

use fs_err as fs;
use loom_contract::receipt::RunReceipt;
use loom_tests::{TestEnv, wait_for};

use crate::{env_of_steps, planting::listing};

fn limited(env: TestEnv, limits: &str) -> TestEnv {
    env.write(".loom/config.yml", &format!("runtime: {{{limits}}}\n"));
    env
}

/// A repository with one job that fails where `fail` is a file of it.
fn repository(limits: &str) -> TestEnv {
    limited(env_of_steps(&["test ! -e fail"]), limits)
}

/// Runs; returns the run's id.
fn run(env: &TestEnv, passes: bool) -> String {
    let fail = env.repo().join("fail");
    if passes {
        let _ = fs::remove_file(&fail);
    } else {
        fs::write(&fail, "").unwrap();
    }
    let run = env.run(&["-q"]);
    assert_eq!(run.exit_code == 0, passes, "{}", run.stderr);
    run.run.run_id()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The runs whose records are there, whole.
fn there(env: &TestEnv) -> Vec<String> {
    let logs: Vec<String> = env.run_dirs().iter().map(|dir| name(dir)).collect();
    let receipts = env.receipts();
    let receipts = receipts.iter().filter(|path| path.extension() != Some("pinned".as_ref()));
    let receipts = receipts.map(|path| name(path).strip_suffix(".json").unwrap().to_owned());
    assert_eq!(logs, receipts.collect::<Vec<_>>());
    logs
}

fn clean_dry(env: &TestEnv) -> i32 {
    env.loom(&["clean", "--dry-run"]).output().status.code().unwrap()
}

#[test]
fn only_the_newest_records_stay() {
    let env = repository("keepRecords: 3");
    let ids: Vec<String> = (0..6).map(|_| run(&env, true)).collect();
    assert_eq!(there(&env), ids[3..]);
    // What is noted of them may be made up, or nothing.
    let notes = env.runtime().path().join("records.jsonl");
    let made_up =
        |id: &String| format!("{{\"run_id\":\"{id}\",\"bytes\":18446744073709551615,\"passed\":true}}\n");
    let head = fs::read_to_string(&notes).unwrap().lines().next().unwrap().to_owned();
    fs::write(&notes, format!("{head}\n{}", ids.iter().map(made_up).collect::<String>())).unwrap();
    assert_eq!(clean_dry(&env), 0);
    fs::remove_file(env.runtime().path().join("records.jsonl")).unwrap();
    let last = run(&env, true);
    assert_eq!(there(&env), [&ids[4..], &[last]].concat());
}

#[test]
fn records_of_failed_runs_go_last_and_the_newest_never() {
    let env = repository("keepRecords: 3");
    let ids: Vec<String> = [false, true, false, true, true].map(|passes| run(&env, passes)).to_vec();
    assert_eq!(there(&env), [&*ids[0], &ids[2], &ids[4]]);
    let again = run(&env, false);
    assert_eq!(there(&env), [&*ids[0], &ids[2], &again]);
    let last = run(&env, false);
    assert_eq!(there(&env), [&*ids[2], &again, &last]);
    env.write(".loom/config.yml", "runtime: {keepRecords: 0}\n");
    let last = run(&env, true);
    assert_eq!(there(&env), [last]);
}

#[test]
fn pinned_records_stay_and_no_limit_counts_them() {
    let env = repository("keepRecords: 2");
    let pin = |words: &[&str]| {
        let output = env.loom(&[&["runs"], words].concat()).output();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.stdout.is_empty());
        (output.status.code().unwrap(), text)
    };
    let none = "loom runs: there is no run `latest`: no run has left a record here\n";
    assert_eq!(pin(&["pin", "latest"]), (1, none.to_owned()));
    let first = run(&env, true);
    assert_eq!(pin(&["pin", "latest"]), (0, format!("{first}: pinned\n")));
    let second = run(&env, false);
    let end = second.strip_prefix("loom-run-local-").unwrap();
    assert_eq!(pin(&["pin", end]), (0, format!("{second}: pinned\n")));
    assert_eq!(pin(&["pin", &second]), (0, format!("{second}: was pinned before\n")));
    let (code, text) = pin(&["pin", "nope"]);
    assert_eq!(code, 1);
    assert!(text.contains("no run has an id that ends in `nope`; the newest are"), "{text}");
    assert!(text.contains(&format!("\n  {second}\n  {first}")), "{text}");
    let later: Vec<String> = (0..4).map(|_| run(&env, true)).collect();
    assert_eq!(there(&env), [&*first, &second, &later[2], &later[3]]);
    // Nor does `--all` count them, and it says so.
    let cleaned = env.loom(&["clean", "--all"]).output();
    let text = String::from_utf8(cleaned.stderr).unwrap();
    assert!(text.contains("2 pinned runs"), "{text}");
    assert_eq!(there(&env)[..2], [&*first, &second]);
    assert_eq!(pin(&["unpin", &first]), (0, format!("{first}: not pinned any more\n")));
    assert_eq!(pin(&["unpin", &first]), (0, format!("{first}: was not pinned\n")));
    let last = run(&env, true);
    assert_eq!(there(&env).len(), 3, "{last}");
    assert!(!there(&env).contains(&first));
}

#[test]
fn records_take_no_more_than_they_may() {
    let env = env_of_steps(&["head -c 2000000 /dev/urandom | od -v -An -tx1"]);
    let env = limited(env, "recordsMaxBytes: 60000000");
    let ids: Vec<String> = (0..4).map(|_| env.run(&["-q"]).run.run_id()).collect();
    let size = |folder: &Path| -> u64 {
        listing(folder).keys().map(|path| fs::symlink_metadata(path).unwrap().len()).sum()
    };
    let left = there(&env);
    assert!(!left.is_empty() && left.len() < ids.len() && ids.ends_with(&left), "{left:?} of {ids:?}");
    assert!(size(env.runtime().path()) < 70_000_000);
    // The newest stays, however large.
    env.write(".loom/config.yml", "runtime: {recordsMaxBytes: 1}\n");
    let last = env.run(&["-q"]).run.run_id();
    assert_eq!(there(&env), [last]);
}

/// Gives the record of the run `id` another time, and so another name.
fn moved_to(env: &TestEnv, id: &str, stamp: u64) -> String {
    let new = format!("loom-run-local-{stamp}");
    let runtime = env.runtime();
    fs::rename(runtime.logs_dir().join(id), runtime.logs_dir().join(&new)).unwrap();
    let receipt = fs::read_to_string(runtime.receipts_dir().join(format!("{id}.json"))).unwrap();
    fs::write(runtime.receipts_dir().join(format!("{new}.json")), receipt.replace(id, &new)).unwrap();
    fs::remove_file(runtime.receipts_dir().join(format!("{id}.json"))).unwrap();
    new
}

#[test]
fn records_that_are_too_old_go() {
    let env = repository("recordsMaxDays: 0");
    let old = run(&env, false);
    let old = moved_to(&env, &old, 1_700_000_000_000_000_000);
    let new = run(&env, true);
    assert_eq!(there(&env), [&*old, &new]);
    env.write(".loom/config.yml", "runtime: {recordsMaxDays: 90}\n");
    let last = run(&env, true);
    assert_eq!(there(&env), [new, last]);
}

#[test]
fn what_is_no_record_and_what_is_locked_stays() {
    let env = repository("keepRecords: 2");
    let first = run(&env, true);
    let victim = env.home().join("victim");
    fs::create_dir_all(&victim).unwrap();
    fs::write(victim.join("precious"), "precious").unwrap();
    let (logs, receipts) = (env.runtime().logs_dir(), env.runtime().receipts_dir());
    let receipt = fs::read_to_string(receipts.join(format!("{first}.json"))).unwrap();
    let planted = |number: u64| format!("loom-run-local-170000000000000000{number}");
    let mut stay: Vec<PathBuf> = Vec::new();
    // A folder without a receipt; one with what is no receipt; with that of another run; a link in the place of the logs; a
    // link in the place of the receipt; one that is locked.
    for number in 1..=6u64 {
        let (folder, page) = (logs.join(planted(number)), receipts.join(format!("{}.json", planted(number))));
        let own = receipt.replace(&first, &planted(number));
        if number == 4 {
            std::os::unix::fs::symlink(&victim, &folder).unwrap();
        } else {
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("precious"), "precious").unwrap();
        }
        match number {
            1 => {}
            2 => fs::write(&page, "{\"kind\": \"loom-run-local\"}").unwrap(),
            3 => fs::write(&page, &receipt).unwrap(),
            5 => {
                fs::write(victim.join("receipt"), &own).unwrap();
                std::os::unix::fs::symlink(victim.join("receipt"), &page).unwrap();
            }
            _ => fs::write(&page, &own).unwrap(),
        }
        stay.push(folder);
    }
    let lock = fs::File::open(logs.join(planted(6))).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let before = (listing(&victim), listing(&logs));
    for _ in 0..4 {
        run(&env, true);
    }
    assert_eq!(listing(&victim), before.0);
    for path in &stay {
        assert!(fs::symlink_metadata(path).is_ok(), "{} went", path.display());
        assert_eq!(listing(&logs).get(&path.join("precious")), before.1.get(&path.join("precious")));
    }
    assert!(!logs.join(&first).exists());
    drop(lock);
    run(&env, true);
    assert!(!logs.join(planted(6)).exists(), "nobody holds it any more");
}

#[test]
fn a_run_under_way_keeps_its_record() {
    let env = env_of_steps(&["touch $HOME/runs; while [ ! -e $HOME/go ]; do sleep 0.01; done"]);
    let env = limited(env, "keepRecords: 1");
    let child = env.loom(&["run", "--local"]).spawn();
    wait_for("the step", || env.home().join("runs").exists());
    let live = name(&env.run_dirs()[0]);
    env.write(
        ".loom/workflow.yml",
        "version: v1\nstages: [s]\njob: {stage: s, target: linux, script: ['true']}\n",
    );
    let ids: Vec<String> = (0..3).map(|_| env.run(&["-q"]).run.run_id()).collect();
    let left: Vec<String> = env.run_dirs().iter().map(|dir| name(dir)).collect();
    assert_eq!(left, [&*live, &ids[2]]);
    fs::write(env.home().join("go"), "").unwrap();
    let run = loom_tests::RunOutput::of(&env, &child.output());
    assert_eq!((run.exit_code, run.run.run_id()), (0, live));
}

#[test]
fn receipts_of_checks_do_not_pile_up() {
    let env = env_of_steps(&["true"]);
    let check = || assert_eq!(env.loom(&["check"]).output().status.code(), Some(0));
    check();
    let receipts = env.runtime().receipts_dir();
    let text = fs::read_to_string(&env.receipts()[0]).unwrap();
    for number in 0..520 {
        fs::write(receipts.join(format!("20240101T000000Z-check-1{number:03}.json")), &text).unwrap();
    }
    fs::write(receipts.join("20230101T000000Z-check-1.json"), "precious").unwrap();
    for _ in 0..20 {
        check();
    }
    let left = fs::read_dir(&receipts).unwrap().count();
    assert!((500..=501).contains(&left), "{left}");
    assert_eq!(fs::read_to_string(receipts.join("20230101T000000Z-check-1.json")).unwrap(), "precious");
}

#[test]
fn a_receipt_is_what_it_was_beside_others_that_went() {
    let env = repository("keepRecords: 1");
    run(&env, false);
    let last = run(&env, false);
    let receipt: RunReceipt =
        loom_record::read::document(&env.runtime().receipts_dir().join(format!("{last}.json"))).unwrap();
    assert_eq!(receipt.exit_code, 1);
    // And what the run before left behind can still be run again.
    let again = env.run(&["--rerun-failed"]);
    assert_eq!(again.exit_code, 1);
}

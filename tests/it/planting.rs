//! Whatever others have put where Loom puts its own: nothing foreign changes, whatever is asked of Loom.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fs_err as fs;
use loom_tests::{Running, TestEnv, wait_for};

use rustix::process::{Pid, Signal, kill_process};

use crate::LOOM;

const WORKFLOW: &str = "version: v1\nstages: [s]\njob: {stage: s, target: linux, \
    cache: {key: k, paths: [c]}, artifacts: {paths: [c]}, secrets: {KEY: {ref: 'env://VALUE'}}, \
    script: ['mkdir -p c; echo x > c/x']}\n";

/// Places under the repository's root, which anybody can commit, in the words of `shape`.
const IN_REPOSITORY: [&str; 9] = [
    ".loom",
    ".loom/workflow.yml",
    ".loom/config.yml",
    ".loom/templates",
    ".loom/.runtime",
    ".loom/.runtime/.gitignore",
    ".loom/.runtime/logs",
    ".loom/.runtime/receipts",
    ".loom/.runtime/records.jsonl",
];

/// Places under the user's cache folder, which another program of the user, or somebody who shares it, can have made.
const IN_CACHE: [&str; 14] = [
    "loom",
    "loom/cache",
    "loom/cache/<repo>",
    "loom/components",
    "loom/repositories",
    "loom/runs",
    "loom/staging",
    "loom/workspaces",
    "loom/workspaces/<repo>",
    "loom/workspaces/<repo>/0",
    "loom/workspaces/<repo>/0.aside",
    "loom/workspaces/<repo>/0.json",
    "loom/workspaces/<repo>/0.lock",
    "loom/workspaces/<repo>/0.record",
];

/// What a run makes below those, under names that have the run in them or are the content's hash: not to be foreseen.
const BELOW: [&str; 9] = [
    ".loom/.runtime/logs/<run>",
    ".loom/.runtime/receipts/<run>.json",
    ".loom/.runtime/receipts/<run>.json.partial",
    "loom/components/<file>",
    "loom/cache/<repo>/<file>",
    "loom/repositories/<repo>",
    "loom/runs/<run>.<word>",
    "loom/staging/<run>",
    "memory/<run>-secrets",
];

/// What is asked of Loom. Only the first two are runs.
const COMMANDS: [&[&str]; 13] = [
    &["run", "--local"],
    &["run", "--local", "--rerun-failed"],
    &["run", "--local", "--dry-run"],
    &["check"],
    &["compile"],
    &["config", "show"],
    &["cache", "list"],
    &["cache", "why", "job"],
    &["cache", "gc"],
    &["clean", "--dry-run"],
    &["clean", "--all", "--dry-run"],
    &["clean"],
    &["clean", "--all"],
];

/// Objects that can stand in a place. Each returns what of it must not change.
type Plant = fn(&Path, &Path);
const PLANTS: [(&str, Plant); 6] = [
    ("a link to a folder", |place, victim| symlink(victim, place).unwrap()),
    ("a link to a file", |place, victim| symlink(victim.join("precious"), place).unwrap()),
    ("a link to nothing", |place, victim| symlink(victim.join("new"), place).unwrap()),
    ("a folder", |place, _| {
        fs::create_dir(place).unwrap();
        fs::write(place.join("precious"), "precious").unwrap();
        fs::create_dir(place.join("loom-run-local-1700000000000000001")).unwrap();
        fs::write(place.join("loom-run-local-1700000000000000001/precious"), "precious").unwrap();
    }),
    ("a file", |place, _| fs::write(place, "precious").unwrap()),
    ("a fifo", |place, _| {
        let made = Command::new("mkfifo").arg(place).status().unwrap();
        assert!(made.success());
    }),
];

/// Every file below `folder`: what it is, and what is in it.
pub(crate) fn listing(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_file() {
                fs::read_to_string(&path).unwrap_or_default()
            } else {
                String::new()
            };
            let target = fs::read_link(&path).unwrap_or_default();
            found.insert(
                path.clone(),
                format!("{:o} {} {} {content}", metadata.mode(), metadata.ino(), target.display()),
            );
            if metadata.is_dir() {
                open.push(path);
            }
        }
    }
    found
}

fn victim(env: &TestEnv) -> PathBuf {
    let victim = env.home().join("victim");
    for folder in ["", ".ssh", "loom-run-local-1700000000000000001", "loom-run-local-1700000000000000002"] {
        fs::create_dir_all(victim.join(folder)).unwrap();
        fs::write(victim.join(folder).join("precious"), "precious").unwrap();
    }
    victim
}

/// What `loom` with `args` ends with, within a time in which nothing that waits for ever ends.
fn ends(env: &TestEnv, args: &[&str], what: &str) -> i32 {
    let mut loom = env.loom(args).env("VALUE", "a-value-of-a-secret");
    loom.command.stdout(Stdio::null()).stderr(Stdio::null());
    let code = loom.spawn().exit().code();
    assert!(matches!(code, Some(0..=2)), "{args:?} with {what}: {code:?}");
    code.unwrap()
}

fn plain_env(is_valid: bool) -> TestEnv {
    TestEnv::new(LOOM, if is_valid { WORKFLOW } else { "version: v1\nthis is: not valid\n" })
}

/// The folder of this repository's things below `base`, which has its path in its name.
fn repo_folder(env: &TestEnv, base: &str) -> PathBuf {
    let path = env.repo().join(".loom/workflow.yml");
    let workflow = fs::read_to_string(&path).unwrap();
    fs::write(&path, WORKFLOW).unwrap();
    ends(env, &["run", "--local"], "nothing");
    fs::write(&path, workflow).unwrap();
    let made = fs::read_dir(env.home().join(".cache").join(base)).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir_all(env.home().join(".cache/loom")).unwrap();
    fs::remove_dir_all(env.runtime().path()).unwrap();
    made
}

fn place(env: &TestEnv, shape: &str) -> PathBuf {
    let in_cache = env.home().join(".cache");
    match shape.split_once("/<repo>") {
        Some((base, below)) => {
            let folder = repo_folder(env, base);
            if below.is_empty() {
                return folder;
            }
            // As Loom makes them, or nothing in them is looked at.
            for part in [folder.ancestors().nth(2).unwrap(), folder.parent().unwrap(), &folder] {
                fs::create_dir_all(part).unwrap();
                fs::set_permissions(part, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
            }
            folder.join(below.trim_start_matches('/'))
        }
        None if IN_REPOSITORY.contains(&shape) => env.repo().join(shape),
        None => in_cache.join(shape),
    }
}

fn plant_everywhere(is_valid: bool, shapes: &[&str]) {
    for shape in shapes {
        for (what, plant) in PLANTS {
            let env = plain_env(is_valid);
            let place = place(&env, shape);
            let what = format!("{what} at {shape}");
            let victim = victim(&env);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            let moved = place.with_file_name("moved-aside");
            let is_workflow_folder = *shape == ".loom";
            if place.exists() {
                fs::rename(&place, &moved).unwrap();
            }
            plant(&place, &victim);
            if is_workflow_folder && place.is_dir() && !place.join("workflow.yml").exists() {
                // So that there is something to run; in the victim, too.
                fs::copy(moved.join("workflow.yml"), place.join("workflow.yml")).unwrap();
            }
            let before = listing(&victim);
            // The user's own link at the top of the user's own folder says where it is; what is there already is foreign.
            let is_users_link = *shape == "loom" && fs::symlink_metadata(&place).unwrap().is_symlink();
            let planted = fs::symlink_metadata(&place).unwrap();
            let inside = if planted.is_dir() { listing(&place) } else { BTreeMap::new() };
            let is_link = planted.is_symlink();
            for args in COMMANDS {
                ends(&env, args, &what);
                let mut after = listing(&victim);
                if is_users_link {
                    after.retain(|path, _| before.contains_key(path));
                }
                assert_eq!(after, before, "loom {args:?} with {what}");
                let now = fs::symlink_metadata(&place).unwrap();
                assert_eq!(now.ino(), planted.ino(), "loom {args:?} replaced {what}");
                for (path, was) in &inside {
                    assert_eq!(listing(&place).get(path), Some(was), "loom {args:?} with {what}");
                }
                if planted.is_file() {
                    assert_eq!(fs::read_to_string(&place).unwrap(), "precious", "loom {args:?} with {what}");
                }
            }
            assert!(!victim.join("new").exists() || !is_link || is_users_link, "{what} was followed");
        }
    }
}

#[test]
fn nothing_foreign_changes_in_a_repository_with_a_valid_workflow() {
    plant_everywhere(true, &IN_REPOSITORY);
}

#[test]
fn nothing_foreign_changes_in_a_repository_with_an_invalid_workflow() {
    plant_everywhere(false, &IN_REPOSITORY);
}

#[test]
fn nothing_foreign_changes_in_the_users_cache_folder() {
    plant_everywhere(true, &IN_CACHE);
}

#[test]
fn nothing_foreign_changes_in_the_users_cache_folder_where_nothing_runs() {
    plant_everywhere(false, &IN_CACHE);
}

/// A path as the tables name it.
fn shape(path: &Path) -> String {
    let part = |part: &OsStr| {
        let text = part.to_str().unwrap();
        let name = text.strip_prefix("cache.").or(text.strip_prefix("workspaces.")).unwrap_or(text);
        if name.strip_prefix("repo-").is_some_and(|hash| hash.len() == 8) {
            return "<repo>".to_owned();
        }
        let Some(rest) = text.strip_prefix("loom-run-local-") else { return text.to_owned() };
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        match rest.strip_prefix('.') {
            Some(word) if word.len() == 8 && word.bytes().all(|b| b.is_ascii_hexdigit()) => {
                "<run>.<word>".to_owned()
            }
            _ => format!("<run>{rest}"),
        }
    };
    let parts: Vec<String> = path.iter().map(part).collect();
    let text = parts.join("/");
    for folder in ["loom/components/", "loom/cache/<repo>/"] {
        if text.starts_with(folder) {
            return format!("{folder}<file>");
        }
    }
    text
}

/// A path that is new has a row in a table above: so it is planted, or it is said why not.
#[test]
fn every_path_of_a_run_has_a_row() {
    let env = plain_env(true);
    // Looked at while the run is under way, and afterwards.
    env.write(
        ".loom/workflow.yml",
        &WORKFLOW.replace(
            "echo x > c/x",
            "echo x > c/x; touch $HOME/runs; while [ ! -e $HOME/go ]; do sleep 0.01; done",
        ),
    );
    let mut loom = env.loom(&["run", "--local"]).env("VALUE", "a-value-of-a-secret");
    loom.command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = loom.spawn();
    wait_for("the step", || env.home().join("runs").exists());
    let mut shapes = shapes_of(&env);
    fs::write(env.home().join("go"), "").unwrap();
    child.exit();
    shapes.extend(shapes_of(&env));
    shapes.sort();
    shapes.dedup();
    let known: Vec<&str> = IN_REPOSITORY.iter().chain(&IN_CACHE).chain(&BELOW).copied().collect();
    let unknown: Vec<&String> = shapes.iter().filter(|shape| !known.contains(&shape.as_str())).collect();
    assert!(unknown.is_empty(), "no row for {unknown:?}");
    for row in BELOW.iter().chain(&IN_CACHE) {
        assert!(shapes.iter().any(|shape| shape == row), "{row} is not made any more");
    }
}

fn shapes_of(env: &TestEnv) -> Vec<String> {
    let mut found = Vec::new();
    for (base, root, depth) in
        [(env.home().join(".cache"), "loom", 3), (env.repo(), ".loom", 3), (env.memory(), "", 1)]
    {
        let mut open = vec![(PathBuf::from(root), 1)];
        while let Some((path, level)) = open.pop() {
            let full = base.join(&path);
            let named = if root.is_empty() { Path::new("memory").join(&path) } else { path.clone() };
            if !path.as_os_str().is_empty() {
                found.push(shape(&named));
            }
            let may_go_on =
                level <= depth && fs::symlink_metadata(&full).is_ok_and(|metadata| metadata.is_dir());
            // What is below those is a run's own, or the store's.
            let is_own = BELOW.contains(&shape(&named).as_str());
            if may_go_on && !is_own {
                for entry in fs::read_dir(&full).unwrap() {
                    open.push((path.join(entry.unwrap().file_name()), level + 1));
                }
            }
        }
    }
    found
}

/// Folders that are called like slots and like runs, beside copies that Loom keeps.
#[test]
fn only_copies_that_runs_made_are_removed() {
    let env = plain_env(true);
    env.write(".loom/config.yml", "runtime: {keepRuns: 0}\n");
    let folder = place(&env, "loom/workspaces/<repo>/0").parent().unwrap().to_owned();
    let victim = victim(&env);
    let names = (0..4).map(|number| number.to_string());
    for (number, name) in
        names.chain((1..9).map(|n| format!("loom-run-local-170000000000000000{n}"))).enumerate()
    {
        let path = folder.join(name);
        if number % 2 == 0 {
            symlink(&victim, &path).unwrap()
        } else {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("precious"), "precious").unwrap();
        }
    }
    let before = (listing(&victim), listing(&folder));
    env.write(".loom/workflow.yml", &WORKFLOW.replace("echo x > c/x", "false"));
    assert_eq!(ends(&env, &["run", "--local"], "copies"), 1);
    assert_eq!(ends(&env, &["run", "--local"], "copies"), 1);
    assert_eq!((listing(&victim), listing(&folder)), before);
}

/// A repository does not say where its user's files are.
#[test]
fn the_config_of_a_repository_names_no_folder_of_its_user() {
    for key in ["cacheDir", "workspaceDir"] {
        let env = plain_env(true);
        let victim = victim(&env);
        env.write(".loom/config.yml", &format!("runtime:\n  {key}: {}\n", victim.display()));
        let before = listing(&victim);
        let output = env.loom(&["run", "--local"]).env("VALUE", "a-value-of-a-secret").output();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let place = format!(".loom/config.yml:2:{}: a repository may not say", key.len() + 5);
        assert!(stderr.contains(&place) && stderr.contains("your own config file"), "{stderr}");
        assert_eq!(listing(&victim), before);
    }
}

/// A run in `env` whose step runs until `$HOME/go` is there.
fn a_long_run(env: &TestEnv) -> Running {
    env.write(
        ".loom/workflow.yml",
        &WORKFLOW.replace(
            "echo x > c/x",
            "echo x > c/x; touch $HOME/runs; while [ ! -e $HOME/go ]; do sleep 0.01; done; test -e c/x; cat $KEY > /dev/null",
        ),
    );
    let mut loom = env.loom(&["run", "--local"]).env("VALUE", "a-value-of-a-secret");
    loom.command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = loom.spawn();
    wait_for("the step", || env.home().join("runs").exists());
    child
}

fn ends_well(env: &TestEnv, mut child: Running) {
    fs::write(env.home().join("go"), "").unwrap();
    assert_eq!(child.exit().code(), Some(0));
}

/// A backup, an editor or an agent copies a repository while a run is under way, and runs there.
#[test]
fn a_copy_of_a_repository_with_a_live_run_harms_it_not() {
    for workflow in [
        "version: v1\nthis is: not valid\n",
        "version: v1\nstages: [s]\nk: {stage: s, target: linux, script: ['true']}\n",
    ] {
        let env = plain_env(true);
        let child = a_long_run(&env);
        let copy = env.home().join("copy");
        assert!(Command::new("cp").arg("-a").args([&env.repo(), &copy]).status().unwrap().success());
        fs::write(copy.join(".loom/workflow.yml"), workflow).unwrap();
        for _ in 0..2 {
            let mut loom = env.loom(&["run", "--local"]);
            loom.command.current_dir(&copy);
            let _ = loom.output();
        }
        ends_well(&env, child);
    }
}

/// All that git does not know is removed while a run is under way, its record too; then there is another run.
#[test]
fn a_run_whose_record_is_removed_lives_on() {
    let env = plain_env(true);
    env.write(".loom/config.yml", "runtime: {keepRuns: 0}\n");
    env.commit_all();
    let mut child = a_long_run(&env);
    let cleaned = Command::new("git").args(["clean", "-qxfd"]).current_dir(env.repo()).status().unwrap();
    assert!(cleaned.success() && !env.runtime().path().exists());
    let other = "version: v1\nstages: [s]\nk: {stage: s, target: linux, script: ['exit 1']}\n";
    env.write(".loom/workflow.yml", other);
    assert_eq!(ends(&env, &["run", "--local"], "a removed record"), 1);
    fs::write(env.home().join("go"), "").unwrap();
    // Its record cannot be whole any more; its job was: nothing was taken from under it.
    let code = child.exit().code();
    assert!(matches!(code, Some(0 | 1)), "{code:?}");
}

/// A copy of the ledgers, as in the file system of a container that was made from this machine's.
#[test]
fn copied_ledgers_kill_and_remove_nothing() {
    let env = plain_env(true);
    let child = a_long_run(&env);
    let cache = env.home().join(".cache");
    let copy = env.home().join("other-cache");
    assert!(Command::new("cp").arg("-a").args([&cache, &copy]).status().unwrap().success());
    let text = "version: v1\nstages: [s]\nk: {stage: s, target: linux, script: ['true']}\n";
    env.write(".loom/workflow.yml", text);
    for _ in 0..2 {
        let output = env.loom(&["run", "--local"]).env("XDG_CACHE_HOME", copy.to_str().unwrap()).output();
        assert!(output.status.success(), "{output:?}");
    }
    ends_well(&env, child);
}

/// Processes that bear the mark of a run that was killed, and are none of its.
#[test]
fn a_process_with_a_dead_runs_mark_lives() {
    let env = plain_env(true);
    // A session of the user's whose leader has gone, which is older than the run; its process is younger.
    let (word_file, pid_file) = (env.home().join("word"), env.home().join("pid"));
    let waits = "(until [ -s \"$0\" ]; do [ -d \"${0%/*}\" ] || exit; sleep 0.05; done
        LOOM_PROCESS_OF=$(cat \"$0\") sleep 1000 & echo $! > \"$1.new\"; mv \"$1.new\" \"$1\"; wait) &";
    let session = Command::new("setsid").args(["sh", "-c", waits]).args([&word_file, &pid_file]).status();
    assert!(session.unwrap().success());
    // The system counts the age of processes in hundredths of a second.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let mut child = a_long_run(&env);
    let run_id = env.run_dirs()[0].file_name().unwrap().to_str().unwrap().to_owned();
    // The mark as it was before, as anybody can know it; and the very one, in a shell of the user's own.
    let ledger = fs::read_dir(env.home().join(".cache/loom/runs")).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(ledger).unwrap();
    let word = text.split("\"word\":\"").nth(1).unwrap().split('"').next().unwrap();
    let mut foreign: Vec<_> =
        [format!("{run_id}/job"), format!("{run_id}/job/"), format!("{run_id}/job/{word}")]
            .iter()
            .map(|mark| {
                Running::start(Command::new("sleep").arg("1000").env("LOOM_PROCESS_OF", mark)).unwrap()
            })
            .collect();
    fs::write(env.home().join("word.new"), format!("{run_id}/job/{word}")).unwrap();
    fs::rename(env.home().join("word.new"), &word_file).unwrap();
    wait_for("the process of the session without a leader", || pid_file.exists());
    let leaderless =
        fs::read_to_string(pid_file).unwrap().trim().parse().ok().and_then(Pid::from_raw).unwrap();
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::KILL).unwrap();
    child.exit();
    let other = "version: v1\nstages: [s]\nk: {stage: s, target: linux, script: ['true']}\n";
    env.write(".loom/workflow.yml", other);
    assert_eq!(ends(&env, &["run", "--local"], "a dead run"), 0);
    kill_process(leaderless, Signal::KILL).expect("a process of a session without a leader was killed");
    for process in &mut foreign {
        assert!(process.try_wait().unwrap().is_none(), "a process of the user was killed");
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

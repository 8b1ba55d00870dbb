//! Jobs in control groups of their own, on this machine's real ones. Where the tests may make none, these say so and pass,
//! unless `LOOM_TESTS_NEED_CONTROL_GROUPS` is set.

use std::path::{Path, PathBuf};
use std::time::Duration;

use loom_contract::error::code;
use loom_contract::event::Level;
use loom_tests::{RunOutput, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use crate::docker::{busybox, clean, of_steps};
use crate::{env, env_of_steps};

/// The hierarchies that are mounted: the version, where, and what is controlled there.
fn hierarchies() -> Vec<(u8, PathBuf, String)> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let hierarchy = |line: &str| {
        let (mount, rest) = line.split_once(" - ")?;
        let top = PathBuf::from(mount.split(' ').nth(4)?);
        match rest.split(' ').collect::<Vec<_>>()[..] {
            ["cgroup", _, options] => Some((1, top, options.replace(',', " "))),
            ["cgroup2", ..] => {
                let controllers = std::fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
                Some((2, top, controllers))
            }
            _ => None,
        }
    };
    mounts.lines().filter_map(hierarchy).collect()
}

/// Whether root may make groups that can do what is `wanted`; says so where not.
fn can(what: &str, wanted: impl Fn(u8, &str) -> bool) -> bool {
    let may_write = |top: &Path| rustix::fs::access(top, rustix::fs::Access::WRITE_OK).is_ok();
    let can = rustix::process::geteuid().is_root()
        && hierarchies()
            .iter()
            .any(|(version, top, controllers)| wanted(*version, controllers) && may_write(top));
    if !can {
        assert!(std::env::var_os("LOOM_TESTS_NEED_CONTROL_GROUPS").is_none(), "no control group can {what}");
        eprintln!("skipped, since the tests can make no control group that can {what}");
    }
    can
}

fn can_end() -> bool {
    can("end all that is in it", |version, _| version == 2)
}

fn can_limit() -> bool {
    ["memory", "pids"]
        .iter()
        .all(|name| can(&format!("limit {name}"), |_, all| all.split_whitespace().any(|it| it == *name)))
}

/// The groups whose names begin with `run_id`.
fn groups_of(run_id: &str) -> Vec<PathBuf> {
    let mut open: Vec<PathBuf> = hierarchies().into_iter().map(|(_, top, _)| top).collect();
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        if folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(run_id)) {
            found.push(folder.clone());
        }
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        open.extend(
            entries.filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir())).map(|it| it.path()),
        );
    }
    found
}

/// What the run said in warnings at its end, of the job `job`.
fn warned(run: &RunOutput, job: &str) -> String {
    let events = run.run.events(&format!("jobs/{job}/system/cleanup/events.jsonl")).into_iter();
    let warnings = events.filter(|event| event.level == Some(Level::Warn)).filter_map(|event| event.message);
    warnings.collect::<Vec<_>>().join("\n")
}

/// The run, of which no group is left.
fn without_groups(run: RunOutput) -> RunOutput {
    assert_eq!(groups_of(&run.run.run_id()), Vec::<PathBuf>::new());
    run
}

const CONFIG: &str = ".loom/config.yml";

#[test]
fn who_uses_up_memory_is_named_and_who_stands_beside_lives() {
    if !can_limit() {
        return;
    }
    let env = env("version: v1
stages: [ci]
default: {target: linux}
hog: {stage: ci, retry: {max: 1}, script: [sleep 0.2, 'head -c 1000000000 /dev/zero | tail']}
survives: {stage: ci, script: ['head -c 1000000000 /dev/zero | tail || echo went on']}
small: {stage: ci, script: ['sleep 1; head -c 1000000 /dev/zero | tail | wc -c']}
");
    env.write(CONFIG, "runtime: {limits: {memory: 64MiB}}\n");
    let run = without_groups(env.run(&["--jobs", "3"]));
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    let statuses = run.run.statuses();
    assert_eq!(
        [&statuses["hog"], &statuses["survives"], &statuses["small"]],
        ["failed", "success", "success"]
    );
    // Each attempt has a group of its own.
    assert_eq!(
        run.stderr.matches("STEP_OUT_OF_MEMORY: the step's exit code was 137").count(),
        3,
        "{}",
        run.stderr
    );
    let error = run.run.job("hog").error.unwrap();
    assert_eq!(error.code, code::STEP_OUT_OF_MEMORY);
    assert!(error.message.contains("exit code was 137") && error.message.contains("64 MiB"), "{error}");
    assert!(error.hint.unwrap().contains("`runtime.limits.memory`"));
    assert!(run.stderr.contains("STEP_OUT_OF_MEMORY") && run.stderr.contains("hint: "), "{}", run.stderr);
    assert_eq!(run.run.output("small", "01"), ["1000000"]);
    // Also where the step gets over it.
    let events = run.run.events("jobs/survives/user/execution/script/01/events.jsonl");
    let told = events.iter().find(|event| event.level == Some(Level::Warn)).unwrap();
    assert!(told.message.as_ref().unwrap().contains("64 MiB"), "{told:?}");
    assert_eq!(told.data.as_ref().unwrap()["code"], code::STEP_OUT_OF_MEMORY);
}

#[test]
fn a_fork_bomb_stays_below_its_limit_and_is_ended() {
    if !can_limit() {
        return;
    }
    let env = env("version: v1
stages: [ci]
default: {target: linux}
bomb: {stage: ci, script: ['bomb() { bomb & bomb & exec sleep 1000; }; bomb & sleep 1']}
refused: {stage: ci, script: ['for i in $(seq 200); do sleep 1000 & done']}
beside: {stage: ci, script: ['for i in $(seq 30); do sleep 1 & done; wait; echo fine']}
");
    env.write(CONFIG, "runtime: {limits: {pids: 80}}\n");
    let run = without_groups(env.run(&["--jobs", "3"]));
    assert_eq!(run.run.statuses()["beside"], "success", "{}", run.stderr);
    assert_eq!(run.run.output("beside", "01"), ["fine"]);
    assert!(run.stderr.contains("bomb | the job had the 80 processes and threads"), "{}", run.stderr);
    assert!(warned(&run, "bomb").contains("that the job left behind"), "{}", run.stderr);
    let error = run.run.job("refused").error.unwrap();
    assert_eq!(error.code, code::STEP_OUT_OF_PROCESSES);
    assert!(error.message.contains("the 80 processes"), "{error}");
    assert!(error.hint.unwrap().contains("`runtime.limits.pids`"));
    // What is left is named, but not endlessly.
    let left = warned(&run, "refused");
    assert!(left.contains("sleep 1000") && left.contains("more processes"), "{left}");
}

/// Starts what has no parent, session, group or variable of its job any more, and writes to the file `beats` as long as it
/// lives.
const HIDES: &str = "(env -i /usr/bin/setsid /bin/sh -c \"trap '' TERM; echo \\$\\$ >$HOME/pid; while :; do echo >>$HOME/beats; \
                     /bin/sleep 0.05; done\" >/dev/null 2>&1 &)";

#[test]
fn a_bomb_a_daemon_and_a_hog_in_one_job_are_named_and_ended_and_the_neighbours_live() {
    if !can_limit() || !can_end() {
        return;
    }
    let all = format!(
        "{HIDES}; until [ -s $HOME/beats ]; do sleep 0.1; done; head -c 2000000000 /dev/zero | tail || true; \
                       bomb() {{ bomb & bomb & exec sleep 1000; }}; bomb & sleep 1; exit 3"
    );
    let beside = "for i in $(seq 20); do sleep 0.1 & done; head -c 1000000 /dev/zero | tail | wc -c; wait";
    let workflow = serde_json::json!({
        "version": "v1", "stages": ["ci"], "default": {"target": "linux"},
        "all": {"stage": "ci", "script": [all]},
        "beside": {"stage": "ci", "script": [beside, beside, "sleep 1", beside]},
    });
    let env = env(&workflow.to_string());
    env.write(CONFIG, "runtime: {limits: {memory: 64MiB, pids: 80}}\n");
    let run = without_groups(env.run(&["--jobs", "2"]));
    let statuses = run.run.statuses();
    assert_eq!([&statuses["all"], &statuses["beside"]], ["failed", "success"], "{}", run.stderr);
    let error = run.run.job("all").error.unwrap();
    assert!(error.code == code::STEP_OUT_OF_MEMORY && error.message.contains("exit code was 3"), "{error}");
    assert!(run.stderr.contains("warning: all | the job had the 80 processes and threads"), "{}", run.stderr);
    let left = warned(&run, "all");
    assert!(left.contains("sleep 1000") && left.contains("more processes"), "{left}");
    let daemon = std::fs::read_to_string(env.home().join("pid")).unwrap();
    assert!(!Path::new("/proc").join(daemon.trim()).exists(), "{left}");
}

#[test]
fn a_daemon_that_hides_ends_with_its_job_while_another_job_goes_on() {
    if !can_end() {
        return;
    }
    // It is alone for no moment, so nothing but the group tells whose it is.
    let watches = "until [ -s $HOME/pid ]; do sleep 0.1; done; while kill -0 $(cat $HOME/pid) 2>/dev/null; do sleep 0.1; done";
    let workflow = serde_json::json!({
        "version": "v1", "stages": ["ci"], "default": {"target": "linux", "timeout": "60s"},
        "hides": {"stage": "ci", "script": [HIDES, "until [ -s $HOME/beats ]; do sleep 0.1; done"]},
        "watches": {"stage": "ci", "script": [watches]},
    });
    let env = env(&workflow.to_string());
    env.write(CONFIG, "runtime: {controlGroups: true}\n");
    let run = without_groups(env.run(&["--jobs", "2"]));
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert!(
        warned(&run, "hides").contains("that the job left behind: /bin/sh -c trap"),
        "{}",
        warned(&run, "hides")
    );
}

#[test]
fn a_daemon_that_hides_outlives_no_loom_that_is_killed() {
    if !can_end() {
        return;
    }
    for with_guard in [true, false] {
        let env = env_of_steps(&[HIDES, "sleep 1000"]);
        env.write(CONFIG, "runtime: {controlGroups: true}\n");
        let mut child = env.loom(&["run", "--local"]).spawn();
        wait_for("the daemon", || env.home().join("beats").exists());
        let daemon = std::fs::read_to_string(env.home().join("pid")).unwrap();
        let daemon = Path::new("/proc").join(daemon.trim());
        let run_id = env.run_dirs()[0].file_name().unwrap().to_string_lossy().into_owned();
        assert!(!groups_of(&run_id).is_empty());
        if !with_guard {
            let mut pkill = std::process::Command::new("pkill");
            pkill.args(["-KILL", "-f", &format!("__guard .*{run_id}")]);
            assert!(loom_tests::status(&mut pkill).unwrap().success());
        }
        kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
        child.exit();
        if with_guard {
            wait_for("the guard to end the daemon", || !daemon.exists());
            wait_for("the guard to remove the groups", || groups_of(&run_id).is_empty());
        } else {
            std::thread::sleep(Duration::from_millis(200));
            assert!(daemon.exists(), "somebody else has ended it");
        }
        env.write(
            ".loom/workflow.yml",
            "version: v1\nstages: [ci]\njob: {stage: ci, target: linux, script: ['true']}\n",
        );
        assert_eq!(env.run(&[]).exit_code, 0);
        // Whoever it belongs to by now may not have heard of its end yet.
        wait_for("the daemon to be gone", || !daemon.exists());
        assert_eq!(groups_of(&run_id), Vec::<PathBuf>::new());
        // Nothing is left in the ledger, either.
        let ledgers = std::fs::read_dir(env.home().join(".cache/loom/runs")).unwrap();
        assert_eq!(ledgers.count(), 0);
    }
}

#[test]
fn a_job_in_a_group_is_asked_to_end_before_it_is_ended() {
    if !can_end() {
        return;
    }
    let env =
        env_of_steps(&["trap 'echo tidied; exit 0' TERM; echo >$HOME/started; while :; do sleep 0.1; done"]);
    env.write(CONFIG, "runtime: {controlGroups: true}\n");
    let child = env.loom(&["run", "--local"]).spawn();
    wait_for("the step", || env.home().join("started").exists());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let run = without_groups(RunOutput::of(&env, &child.output()));
    assert_eq!(run.exit_code, 130, "{}", run.stderr);
    assert!(run.run.output("job", "01").contains(&"tidied".to_owned()));
}

#[test]
fn what_never_stands_still_ends_with_a_job_that_takes_too_long() {
    if !can_end() {
        return;
    }
    let env = env("version: v1
stages: [ci]
job: {stage: ci, target: linux, timeout: 1s, script: ['./runs; sleep 1000']}
");
    // Each is another process in another session, which starts the next one and is gone.
    env.write("runs", "#!/bin/sh\n[ -e stop ] || env -i /usr/bin/setsid \"$0\" >/dev/null 2>&1 &\n");
    let runs = env.repo().join("runs");
    std::fs::set_permissions(&runs, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    env.write(CONFIG, "runtime: {controlGroups: true}\n");
    let run = without_groups(env.run(&[]));
    assert_eq!(run.run.job("job").error.unwrap().code, code::JOB_TIMEOUT, "{}", run.stderr);
}

#[test]
fn what_a_job_puts_into_groups_of_its_own_ends_with_it() {
    if !can_end() {
        return;
    }
    let env = env_of_steps(&[
        "own=$(mount -t cgroup2 | head -n 1 | cut -d' ' -f3)$(grep ^0:: /proc/self/cgroup | cut -d: -f3)\n\
         mkdir -p $own/a/b\n(echo 0 >$own/a/b/cgroup.procs; exec env -i /usr/bin/setsid /bin/sleep 1012 >/dev/null 2>&1) &",
        "sleep 0.2",
    ]);
    env.write(CONFIG, "runtime: {controlGroups: true}\n");
    let run = without_groups(env.run(&[]));
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert!(warned(&run, "job").contains("/bin/sleep 1012"), "{}", warned(&run, "job"));
}

#[test]
fn a_step_in_a_group_is_as_one_without() {
    let steps = [
        "echo out; echo err >&2; echo \"$0 $#\"; cut -d' ' -f5,6 /proc/$$/stat | tr ' ' '\\n' | sort -u | wc -l",
        "env | grep -v -e ^LOOM_ -e ^CI_PIPELINE_ID -e ^CI_PROJECT_DIR -e ^PWD | sort; ls /proc/self/fd; [ $PWD = $CI_PROJECT_DIR ] && echo there",
        "exit 7",
    ];
    let run = |config: &str| {
        let env = env_of_steps(&steps);
        env.write(CONFIG, config);
        let run = without_groups(env.run(&[]));
        let seen = ["01", "02"].map(|step| {
            let mut lines = run.run.output("job", step);
            // There are two streams.
            lines.sort();
            lines
        });
        // The repository has another name.
        let name = env.repo().parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        let seen = format!("{seen:#?}").replace(&name, "NAME");
        (seen, run.run.job("job").error.map(|error| error.to_string()), run.exit_code)
    };
    assert_eq!(run("runtime: {controlGroups: true}\n"), run(""));
}

/// Groups in every hierarchy that are an ordinary user's, as a system gives them to one who logs in.
struct Delegated(Vec<PathBuf>);

impl Delegated {
    fn to(user: u32) -> Self {
        let name = format!("loom-tests-{}-{user}", std::process::id());
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let group_in = |(version, top, controllers): (u8, PathBuf, String)| {
            let is_here = |line: &&str| match version {
                2 => line.starts_with("0::"),
                _ => ["memory", "pids"]
                    .iter()
                    .any(|it| controllers.contains(it) && line.contains(&format!(":{it}:"))),
            };
            let own = own.lines().find(is_here)?.splitn(3, ':').nth(2)?;
            let folder = top.join(own.trim_start_matches('/')).join(&name);
            std::fs::create_dir(&folder).unwrap();
            for path in [folder.clone(), folder.join("cgroup.procs")] {
                std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
            }
            Some(folder)
        };
        Self(hierarchies().into_iter().filter_map(group_in).collect())
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        // Where a group of a run is left in one, the test has failed.
        self.0.iter().for_each(|folder| drop(std::fs::remove_dir(folder)));
    }
}

#[test]
fn an_ordinary_user_makes_groups_in_those_that_are_theirs() {
    const USER: u32 = 65_432;
    if !can_limit() || !can_end() {
        return;
    }
    let groups = Delegated::to(USER);
    let env = env("version: v1
stages: [ci]
default: {target: linux}
hog: {stage: ci, script: ['head -c 1000000000 /dev/zero | tail']}
hides: {stage: ci, script: ['env -i /usr/bin/setsid /bin/sleep 1014 >/dev/null 2>&1 &', 'sleep 0.1; cat /proc/self/cgroup; id -u']}
");
    env.write(CONFIG, "runtime: {limits: {memory: 64MiB, pids: 40}}\n");
    let enter: String =
        groups.0.iter().map(|it| format!("echo 0 >'{}/cgroup.procs'; ", it.display())).collect();
    let as_user = format!("setpriv --reuid {USER} --regid {USER} --clear-groups");
    let loom =
        env.loom(&["run", "--local"]).for_user(USER).after(&format!("{enter}exec {as_user} \"$0\" \"$@\""));
    let run = without_groups(RunOutput::of(&env, &loom.output()));
    assert_eq!(run.run.job("hog").error.unwrap().code, code::STEP_OUT_OF_MEMORY, "{}", run.stderr);
    assert_eq!(run.run.statuses()["hides"], "success", "{}", run.stderr);
    assert!(warned(&run, "hides").contains("/bin/sleep 1014"), "{}", run.stderr);
    let seen = run.run.output("hides", "02");
    assert_eq!(seen.last().unwrap(), &USER.to_string());
    let inside = seen.iter().filter(|line| line.contains(&run.run.run_id()));
    assert_eq!(inside.count(), groups.0.len(), "{seen:?}");
    assert!(!run.stderr.contains("cannot be"), "{}", run.stderr);
}

#[test]
fn where_no_group_can_be_had_that_is_said_once_and_all_else_holds() {
    let env = env("version: v1
stages: [ci]
default: {target: linux}
one: {stage: ci, script: ['env -i setsid /bin/sleep 1013 >/dev/null 2>&1 &', sleep 0.1]}
two: {stage: ci, needs: [one], script: [echo fine]}
");
    env.write(CONFIG, "runtime: {controlGroups: true, limits: {memory: 64MiB, pids: 40}}\n");
    let loom = env.loom(&["run", "--local"]).by_ordinary_user();
    // An ordinary user has a group where the tests are run by one in a session of theirs.
    let output = loom.output();
    let run = RunOutput::of(&env, &output);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("two", "01"), ["fine"]);
    assert!(warned(&run, "one").contains("/bin/sleep 1013"), "{}", run.stderr);
    if rustix::process::geteuid().is_root() {
        let said = "warning: runtime.limits: memory and pids of jobs on this machine cannot be limited";
        assert_eq!(run.stderr.matches(said).count(), 1, "{}", run.stderr);
        assert_eq!(run.stderr.matches("warning: runtime.controlGroups: ").count(), 1, "{}", run.stderr);
        let events = run.run.events("pipeline/events.jsonl");
        let messages: Vec<_> = events.into_iter().filter_map(|event| event.message).collect();
        assert!(messages.iter().any(|message| said.ends_with(&message[..said.len() - "warning: ".len()])));
    }
}

#[test]
fn a_container_has_the_limits_of_a_job() {
    let Some(image) = busybox() else { return };
    let files = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max pids/pids.max pids.max 2>/dev/null || true";
    let env = of_steps(&image, "", &[files, "awk 'BEGIN { s = \"x\"; for (i = 0; i < 29; i++) s = s s }'"]);
    env.write(CONFIG, "runtime: {limits: {memory: 64MiB, pids: 40}}\n");
    let run = clean(env.run(&[]));
    assert_eq!(run.run.output("job", "01"), [(64 << 20).to_string(), "40".to_owned()], "{}", run.stderr);
    let error = run.run.job("job").error.unwrap();
    assert_eq!(error.code, code::STEP_OUT_OF_MEMORY, "{}", run.stderr);
    assert!(error.message.contains("64 MiB") && error.hint.is_some(), "{error}");
    // There is no job on this machine whose limits could be missing.
    assert!(!run.stderr.contains("runtime.limits: "), "{}", run.stderr);
}

#[test]
fn a_run_without_limits_makes_no_group() {
    let env = env_of_steps(&["cat /proc/self/cgroup | sort; echo $LOOM_RUN_ID"]);
    let run = env.run(&[]);
    let mut seen = run.run.output("job", "01");
    let id = seen.pop().unwrap();
    assert!(!seen.concat().contains(&id), "{seen:?}");
}

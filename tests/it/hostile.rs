//! Workflows that mean harm: a clear error, no crash, nothing left behind.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use loom_tests::TestEnv;

use crate::env;

fn refused(name: &str, workflow: &str) {
    let env = env(workflow);
    let started = Instant::now();
    let run = env.run(&[]);
    // What grows without bound takes far longer on any machine.
    assert!(started.elapsed() < Duration::from_secs(60), "{name} took {:?}", started.elapsed());
    assert_eq!(run.exit_code, 1, "{name}: {}", run.stderr);
    assert!(run.stderr.contains(".loom/workflow.yml"), "{name}: {}", run.stderr);
    assert!(!run.stderr.contains("panicked"), "{name}: {}", run.stderr);
    assert!(!env.home().join(".cache/loom/workspaces").exists(), "{name}: no workspace was made");
}

#[test]
fn deep_nesting() {
    refused("flow", &format!("version: v1\nstages: {}{}\n", "[".repeat(100_000), "]".repeat(100_000)));
    let block: String = (0..2_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    refused("block", &block);
}

#[test]
fn anchors_without_end() {
    let mut bomb = String::from("a0: &a0 [x, x]\n");
    for n in 1..40 {
        bomb.push_str(&format!("a{n}: &a{n} [*a{}, *a{}]\n", n - 1, n - 1));
    }
    refused("bomb", &bomb);
    let many: String = (0..400_000).map(|n| format!("a{n}: &x{n} 1\n")).collect();
    refused("4 MiB of anchors", &many[..4 * 1024 * 1024 - 1024]);
}

#[test]
fn too_large() {
    refused("5 MiB", &"# comment\n".repeat(520_000));
}

#[test]
fn duplicates_and_wrong_types() {
    refused(
        "duplicate job",
        "version: v1\nstages: [ci]\na: {stage: ci, target: linux, script: [x]}\na: {stage: ci, target: linux, script: [y]}\n",
    );
    for value in ["1", "null", "true", "text", "[]", "{}", "[1, [2]]", "{a: {b: c}}", "!!str x", "&x y", "*x"]
    {
        for key in ["version", "stages", "default", "variables", "include", "workflow", "job"] {
            let wanted = match key {
                "version" => "v1",
                "stages" => "[ci]",
                _ => "",
            };
            if value == wanted || (["default", "variables"].contains(&key) && value == "{}") {
                continue;
            }
            let mut workflow = String::new();
            for (k, v) in [("version", "v1"), ("stages", "[ci]")] {
                workflow.push_str(&format!("{k}: {}\n", if k == key { value } else { v }));
            }
            if !["version", "stages"].contains(&key) {
                workflow.push_str(&format!("{key}: {value}\n"));
            }
            refused(&workflow, &workflow);
        }
    }
}

#[test]
fn odd_bytes() {
    refused("NUL", "version: v1\nstages: [ci]\n\0");
    refused("tab", "version: v1\nstages:\n\t- ci\n");
    refused("empty", "");
    refused("two documents", "version: v1\n---\nversion: v1\n");
}

/// Puts something at `path` that no reader comes to the end of, or that is no file at all.
type Odd = fn(&Path);

const ODD: [(&str, Odd); 6] = [
    ("a pipe", |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
    ("a socket", |path| {
        // The names of sockets are short.
        let folder = tempfile::tempdir().unwrap();
        drop(UnixListener::bind(folder.path().join("s")).unwrap());
        std::fs::rename(folder.path().join("s"), path).unwrap();
    }),
    ("a device", |path| symlink("/dev/zero", path).unwrap()),
    ("the terminal", |path| symlink("/dev/tty", path).unwrap()),
    ("a file without end", |path| std::fs::File::create(path).unwrap().set_len(1 << 40).unwrap()),
    ("a link to itself", |path| symlink(path, path).unwrap()),
];

/// The only file below `folder` that `is` so.
fn find(folder: &Path, is: &dyn Fn(&Path) -> bool) -> Option<std::path::PathBuf> {
    std::fs::read_dir(folder).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() { find(&path, is) } else { Some(path).filter(|path| is(path)) }
    })
}

#[test]
fn no_file_of_a_repository_or_a_cache_keeps_a_command_waiting() {
    let env = env("version: v1
stages: [ci]
include: [{local: .loom/templates/t.yml}]
j: {stage: ci, target: linux, extends: .t, cache: {key: k, paths: [deps]}, script: ['mkdir deps && touch deps/x']}
");
    env.write(".loom/templates/t.yml", ".t: {variables: {A: b}}\n");
    env.write(".loom/config.yml", "runtime: {jobs: 1}\n");
    std::fs::create_dir_all(env.home().join(".config/loom")).unwrap();
    std::fs::write(env.home().join(".config/loom/config.yml"), "runtime: {keepRuns: 1}\n").unwrap();
    env.commit_all();
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);

    let store = env.home().join(".cache/loom/cache");
    let in_store = |folder: &str| {
        let folder = format!("/{folder}/");
        find(&store, &|path| path.to_str().unwrap().contains(&folder)).unwrap()
    };
    let in_run = |name: &str| {
        let of_cache = |path: &Path| path.to_str().unwrap().contains("cache_restore") && path.ends_with(name);
        find(&env.run_dirs()[0], &of_cache).unwrap()
    };
    let root = in_store("manifests").ancestors().nth(2).unwrap().to_owned();
    let entry = in_store("entries");
    // A file, and the commands that read it and must say so; all others must end all the same.
    let files = [
        (env.repo().join(".loom/workflow.yml"), &["check", "compile", "run --local --dry-run"][..]),
        (env.repo().join(".loom/templates/t.yml"), &["check", "compile", "run --local --dry-run"]),
        (env.repo().join(".loom/config.yml"), &["config show", "cache list", "cache why j", "cache show k"]),
        (env.home().join(".config/loom/config.yml"), &["config show", "cache list"]),
        (env.receipts()[0].clone(), &["cache why j"]),
        (in_run("summary.json"), &["cache why j"]),
        (in_run("events.jsonl"), &["cache why j"]),
        (root.join("format"), &["cache list", "cache show k", "cache why j"]),
        (entry.with_extension("quarantine"), &[]),
        (entry, &["cache list", "cache show k"]),
        (in_store("manifests"), &["cache show k"]),
        (root.join("lock"), &[]),
        (root.join("evictions"), &[]),
        (env.repo().join(".git/config"), &[]),
        (env.repo().join(".git/HEAD"), &[]),
    ];
    let commands = [
        "check",
        "compile",
        "run --local --dry-run",
        "config show",
        "cache list",
        "cache why j",
        "cache show k",
    ];
    let mut wrong = Vec::new();
    for (path, readers) in &files {
        let aside = path.with_added_extension("aside");
        let is_there = std::fs::rename(path, &aside).is_ok();
        for (kind, put) in ODD {
            for command in commands {
                put(path);
                let args: Vec<&str> = command.split(' ').collect();
                let started = Instant::now();
                let output = limited(&env, &args);
                let told = String::from_utf8(output.stderr).unwrap();
                let what = format!("{} is {kind}: loom {command}: {told}", path.display());
                if started.elapsed() > Duration::from_secs(15) {
                    wrong.push(format!("{what}: took {:?}", started.elapsed()));
                }
                // One of Git's or of another user is none; a damaged entry is told as a warning.
                let is_told = output.status.code() == Some(1) || told.contains("warning: ");
                if output.status.code().is_none() || readers.contains(&command) && !is_told {
                    wrong.push(format!("{what}: {}", output.status));
                }
                if told.contains("panicked") {
                    wrong.push(what);
                }
                // A damaged one is set aside.
                let _ = std::fs::remove_file(path);
            }
        }
        if is_there {
            std::fs::rename(&aside, path).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs `loom` with `args`, with no more memory than it needs, and not for ever.
fn limited(env: &TestEnv, args: &[&str]) -> std::process::Output {
    let mut loom = env.loom(args);
    let mut limit = Command::new("timeout");
    limit.args(["--signal", "KILL", "20", loom.command.get_program().to_str().unwrap()]);
    limit.args(loom.command.get_args()).env_clear();
    limit.envs(loom.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limit.current_dir(loom.command.get_current_dir().unwrap());
    limit.stdin(std::process::Stdio::null());
    loom.command = limit;
    loom.output()
}

#[test]
fn no_link_of_a_repository_leads_to_a_file_outside_of_it() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("shadow");
    std::fs::write(&secret, "root:marker-of-the-secret:1\n").unwrap();
    let text = "version: v1\nstages: [ci]\njob: {stage: ci, target: linux, script: ['true']}\n";
    let env = env(text);
    let place = |path: &str, target: &Path| {
        let path = env.repo().join(path);
        let _ = std::fs::remove_file(&path);
        symlink(target, path).unwrap();
    };
    let refused = |args: &[&str]| {
        let output = env.loom(args).output();
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {told}");
        assert!(told.contains("it is a link that leads out of the repository"), "{args:?}: {told}");
        assert!(told.contains("\nhint: put the file itself there"), "{args:?}: {told}");
        assert!(!told.contains("marker-of-the-secret"), "{args:?}: {told}");
    };
    place(".loom/workflow.yml", &secret);
    for args in [&["check"][..], &["compile"], &["run", "--local"], &["run", "--local", "--dry-run"]] {
        refused(args);
    }
    // Named by its user, it may be anywhere.
    std::fs::write(outside.path().join("w.yml"), text).unwrap();
    let named = outside.path().join("w.yml");
    assert!(env.loom(&["check", "--workflow", named.to_str().unwrap()]).output().status.success());
    // Within the repository, a link is as good as a file.
    env.write("ci/w.yml", text);
    place(".loom/workflow.yml", Path::new("../ci/w.yml"));
    assert!(env.loom(&["check"]).output().status.success());

    place(".loom/config.yml", &secret);
    for args in [
        &["config", "show"][..],
        &["run", "--local"],
        &["cache", "list"],
        &["cache", "why", "job"],
        &["secrets", "keepass", "vault", "list"],
    ] {
        refused(args);
    }
    for receipt in env.receipts() {
        assert!(!std::fs::read_to_string(receipt).unwrap().contains("marker-of-the-secret"));
    }
    std::fs::remove_file(env.repo().join(".loom/config.yml")).unwrap();
    // The folder itself can be one.
    std::fs::create_dir(outside.path().join("loom")).unwrap();
    std::fs::rename(env.repo().join(".loom"), outside.path().join("away")).unwrap();
    symlink(outside.path().join("loom"), env.repo().join(".loom")).unwrap();
    std::fs::copy(&secret, outside.path().join("loom/workflow.yml")).unwrap();
    refused(&["compile"]);
}

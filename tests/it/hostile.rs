//! Workflows that mean harm: a clear error, no crash, nothing left behind.

use std::time::{Duration, Instant};

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

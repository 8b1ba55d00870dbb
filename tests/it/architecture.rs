//! The arrows between crates, and the few places that may do what others may not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::top;

/// Who may depend on whom, among the workspace's own crates. Adding an arrow is a decision: change this table with it.
const ARROWS: [(&str, &[&str]); 24] = [
    ("loom-contract", &[]),
    ("loom-workflow", &["loom-contract"]),
    ("loom-workspace", &["loom-contract", "loom-tree"]),
    ("loom-record", &["loom-contract"]),
    ("loom-engine", &["loom-contract", "loom-ownership", "loom-tree", "loom-workflow"]),
    ("loom-tree", &[]),
    ("loom-ownership", &["loom-contract", "loom-tree"]),
    ("loom-cache", &["loom-tree"]),
    ("loom-docker", &["loom-ownership", "loom-tree"]),
    ("loom-docker-testimage", &[]),
    (
        "loom-plugin-host",
        &[
            "loom-cache",
            "loom-contract",
            "loom-docker",
            "loom-engine",
            "loom-ownership",
            "loom-tree",
            "loom-workspace",
        ],
    ),
    (
        "loom-cli",
        &[
            "loom-cache",
            "loom-contract",
            "loom-engine",
            "loom-ownership",
            "loom-plugin-bundle",
            "loom-plugin-host",
            "loom-record",
            "loom-workflow",
            "loom-workspace",
        ],
    ),
    ("loom-sdk", &[]),
    ("loom-plugin-host-shell", &["loom-sdk"]),
    ("loom-plugin-docker", &["loom-sdk"]),
    ("loom-plugin-cache", &["loom-sdk"]),
    ("loom-plugin-env", &["loom-sdk"]),
    ("loom-plugin-keepass", &["loom-sdk"]),
    ("loom-plugin-op", &["loom-sdk"]),
    ("loom-guest-misbehaving", &["loom-sdk"]),
    ("loom-guest-resolver", &["loom-sdk"]),
    ("loom-plugin-bundle", &[]),
    ("loom-deadlines", &[]),
    ("loom-tests", &["loom-contract", "loom-deadlines", "loom-record"]),
];

#[test]
fn the_arrows_are_those_of_the_table() {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(top())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let dependencies: BTreeSet<&str> = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|d| d["kind"].is_null() && d["path"].is_string())
            .map(|d| d["name"].as_str().unwrap())
            .collect();
        found.insert(package["name"].as_str().unwrap(), dependencies);
    }
    let table = ARROWS.map(|(name, to)| (name, to.iter().copied().collect())).into_iter().collect();
    assert_eq!(found, table);
}

/// The licences under which we take others' work. Each alternative (`OR`) of a crate's expression counts.
const LICENCES: [&str; 13] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    // The list of certificates that browsers trust.
    "CDLA-Permissive-2.0",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that must not come back: archived, unsound, or silent about mistakes.
const BANNED: [&str; 4] = ["serde_yaml", "serde_yml", "tokio-tar", "openssl"];

#[test]
fn dependencies_are_licensed_come_from_the_registry_and_are_not_banned() {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        // What other systems need has not been downloaded.
        .args(["--filter-platform", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)])
        .current_dir(top())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut broken = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let licence =
            package["license"].as_str().unwrap_or("none").replace(['(', ')'], "").replace('/', " OR ");
        // Each part that is joined by AND must offer one that we take.
        let taken =
            licence.split(" AND ").all(|part| part.split(" OR ").any(|l| LICENCES.contains(&l.trim())));
        if !taken {
            broken.push(format!("{name}: licence {licence}"));
        }
        if package["source"].as_str().is_some_and(|source| !source.starts_with("registry+")) {
            broken.push(format!("{name}: not from the registry"));
        }
        if BANNED.contains(&name) {
            broken.push(format!("{name}: banned"));
        }
    }
    assert_eq!(broken, [""; 0]);
}

/// Words that only some files may hold: in code, with tests left out.
const DOORS: [(&str, &[&str]); 9] = [
    ("wasmtime::", &["host/plugin-host/"]),
    ("events.jsonl\"", &["host/contract/src/layout.rs"]),
    ("std::env::var", &["host/cli/src/settings.rs", "plugins/bundle/"]),
    ("Command::new", &["host/engine/src/process.rs", "host/workspace/", "host/docker/", "plugins/", "sdk/"]),
    ("unsafe ", &["host/plugin-host/"]),
    ("println!", &["plugins/bundle/src/main.rs"]),
    ("io::stdout", &["host/cli/src/terminal.rs"]),
    ("io::stderr", &["host/cli/src/terminal.rs"]),
    ("deserialize(", &["host/plugin-host/", "host/contract/src/", "host/cli/src/config/file.rs"]),
];

#[test]
fn what_is_behind_a_door_stays_there() {
    let mut broken = Vec::new();
    for folder in ["host", "sdk/src", "plugins"] {
        visit(&top().join(folder), &mut |path, text| {
            let path = path.strip_prefix(top()).unwrap().to_str().unwrap().to_owned();
            if path.contains("/tests/") || path.contains("/benches/") || path.contains("/examples/") {
                return;
            }
            let code: Vec<&str> = text
                .lines()
                .take_while(|line| *line != "#[cfg(test)]")
                .filter(|line| !line.trim().starts_with("//"))
                .collect();
            for (word, doors) in DOORS {
                let inside = doors.iter().any(|door| path.starts_with(door));
                if !inside && code.iter().any(|line| line.contains(word)) {
                    broken.push(format!("{path} holds `{word}`"));
                }
            }
        });
    }
    assert_eq!(broken, [""; 0]);
}

fn visit(folder: &Path, found: &mut dyn FnMut(&Path, &str)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                visit(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found(&path, &std::fs::read_to_string(&path).unwrap());
        }
    }
}

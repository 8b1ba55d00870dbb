//! The schemas that `loom schema` prints: valid ones, which accept what Loom writes and refuse what it does not.

use loom_contract::layout::CACHE_DIFF_SUFFIX;
use serde_json::{Value, json};

use crate::{env, env_of_steps};

/// Every format that `loom schema` lists.
const FORMATS: [&str; 15] = [
    "workflow",
    "config",
    "graph-ir",
    "events",
    "receipt",
    "check-receipt",
    "cache-diff",
    "run-summary",
    "pipeline-summary",
    "pipeline-manifest",
    "job-summary",
    "job-manifest",
    "step-summary",
    "section-summary",
    "phase-report",
];

fn schema(format: &str) -> Value {
    let output = env_of_steps(&["true"]).loom(&["schema", format]).output();
    assert!(output.status.success() && output.stderr.is_empty(), "{format}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn accepts(schema: &Value, value: &Value) -> bool {
    jsonschema::draft202012::is_valid(schema, value)
}

#[test]
fn every_listed_format_has_a_valid_schema() {
    let help = env_of_steps(&["true"]).loom(&["schema", "--help"]).output();
    let help = String::from_utf8(help.stdout).unwrap();
    let listed: Vec<&str> = help
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("- ")?.split(':').next())
        .filter(|word| !["auto", "always", "never"].contains(word))
        .collect();
    assert_eq!(listed, FORMATS, "{help}");
    for format in FORMATS {
        let schema = schema(format);
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{format}");
        assert!(jsonschema::draft202012::meta::is_valid(&schema), "{format}");
        assert!(!accepts(&schema, &json!([])), "{format}");
    }
    let output = env_of_steps(&["true"]).loom(&["schema", "recipt"]).output();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("'receipt'"));
}

#[test]
fn configs_are_accepted_and_refused_as_they_are_read() {
    let schema = schema("config");
    for good in [
        json!({}),
        json!({ "runtime": null }),
        json!({ "runtime": { "jobs": 2, "cacheDir": "c", "keepRuns": 0, "docker": { "workspaceMount": "bind_mount" } } }),
        json!({ "providers": { "keepass": { "aliases": { "team/app": { "path": "v", "passwordEnv": "PW" }, "b": null } } } }),
        json!({ "providers": { "op": { "serviceAccountTokenEnv": "TOKEN" } } }),
    ] {
        assert!(accepts(&schema, &good), "{good}");
        assert!(shows(&good), "{good}");
    }
    for bad in [
        json!({ "runtimes": {} }),
        json!({ "runtime": { "jobs": 0 } }),
        json!({ "runtime": { "jobs": "2" } }),
        json!({ "runtime": { "keepRuns": -1 } }),
        json!({ "runtime": { "cacheDir": "" } }),
        json!({ "runtime": { "docker": { "workspaceMount": "bind" } } }),
        json!({ "runtime": { "docker": [] } }),
        json!({ "providers": { "keepass": { "aliases": { "a#b": {} } } } }),
        json!({ "providers": { "keepass": { "aliases": { "a": { "passwordEnv": "not a name" } } } } }),
        json!({ "providers": { "op": { "token": "x" } } }),
    ] {
        assert!(!accepts(&schema, &bad), "{bad}");
        assert!(!shows(&bad), "{bad}");
    }
}

/// Whether Loom itself reads `config`. JSON is YAML.
fn shows(config: &Value) -> bool {
    let env = env_of_steps(&["true"]);
    let folder = env.home().join(".config/loom");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.yml"), config.to_string()).unwrap();
    env.loom(&["config", "show"]).output().status.success()
}

#[test]
fn workflows_are_accepted_and_refused_as_they_are_checked() {
    let schema = schema("workflow");
    let job = |more: Value| {
        let mut job = json!({ "stage": "ci", "target": "linux", "script": ["true"] });
        job.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        json!({ "version": "v1", "stages": ["ci"], "job": job })
    };
    for good in [
        job(json!({})),
        job(json!({ "variables": { "A": "1" }, "needs": [], "timeout": "10m" })),
        job(json!({ "cache": null, "retry": { "max": 1 }, "allow_failure": true })),
    ] {
        assert!(accepts(&schema, &good), "{good}");
        assert!(checks(&good), "{good}");
    }
    for bad in [
        json!({ "version": "v2", "stages": ["ci"], "job": { "stage": "ci", "target": "linux", "script": ["true"] } }),
        job(json!({ "script": [] })),
        job(json!({ "script": [1] })),
        job(json!({ "sript": ["true"] })),
        job(json!({ "variables": { "A": 1 } })),
        job(json!({ "target": "windows" })),
    ] {
        assert!(!accepts(&schema, &bad), "{bad}");
        assert!(!checks(&bad), "{bad}");
    }
    // So are this repository's own and every example's.
    let examples = std::fs::read_dir(crate::top().join("examples")).unwrap();
    let folders = examples.map(|example| example.unwrap().path()).filter(|path| path.is_dir());
    for folder in folders.chain([crate::top()]) {
        let text = std::fs::read_to_string(folder.join(".loom/workflow.yml")).unwrap();
        let workflow: Value = serde_saphyr::from_str(&text).unwrap();
        assert!(accepts(&schema, &workflow), "{}: {workflow}", folder.display());
    }
}

/// Whether `loom check` passes `workflow`. JSON is YAML.
fn checks(workflow: &Value) -> bool {
    env(&workflow.to_string()).loom(&["check"]).output().status.success()
}

#[test]
fn what_a_run_leaves_is_as_its_schemas_say() {
    let env = env("version: v1
stages: [ci]
default: {target: linux}
good: {stage: ci, script: [echo out]}
bad: {stage: ci, script: ['exit 3']}
");
    assert!(env.loom(&["check"]).output().status.success());
    let check = env.receipts().pop().unwrap();
    let run = env.run(&[]);
    let dir = env.run_dirs().pop().unwrap();
    let receipt = env.receipts().into_iter().find(|path| *path != check).unwrap();
    assert_eq!(run.exit_code, 1);
    env.loom(&["run", "--local", "--cache-diff"]).output();
    let compared =
        env.receipts().into_iter().find(|path| path.to_string_lossy().ends_with(CACHE_DIFF_SUFFIX));
    let graph = env.loom(&["compile"]).output().stdout;
    let read = |path: std::path::PathBuf| -> Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    for (format, value) in [
        ("receipt", read(receipt)),
        ("check-receipt", read(check)),
        ("cache-diff", read(compared.unwrap())),
        ("graph-ir", serde_json::from_slice(&graph).unwrap()),
        ("run-summary", read(dir.join("summary.json"))),
        ("phase-report", read(dir.join("phase-report.json"))),
        ("pipeline-summary", read(dir.join("pipeline/summary.json"))),
        ("pipeline-manifest", read(dir.join("pipeline/manifest.json"))),
        ("job-summary", read(dir.join("jobs/bad/summary.json"))),
        ("job-manifest", read(dir.join("jobs/bad/manifest.json"))),
        ("step-summary", read(dir.join("jobs/bad/user/execution/script/01/summary.json"))),
        ("section-summary", read(dir.join("jobs/bad/system/cleanup/summary.json"))),
    ] {
        let schema = schema(format);
        assert!(accepts(&schema, &value), "{format}: {value:#}");
        let mut more = value.clone();
        more["surprise"] = json!(1);
        assert!(!accepts(&schema, &more), "{format} with one key more");
        let mut less = value;
        let first = less.as_object().unwrap().keys().next().unwrap().clone();
        less.as_object_mut().unwrap().remove(&first);
        assert!(!accepts(&schema, &less), "{format} without {first}");
    }
    let schema = schema("events");
    for events in ["events.jsonl", "pipeline/events.jsonl", "jobs/good/user/execution/events.jsonl"] {
        for line in std::fs::read_to_string(dir.join(events)).unwrap().lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            assert!(accepts(&schema, &event), "{line}");
        }
    }
    assert!(!accepts(&schema, &json!({ "type": "phase_start" })));
}

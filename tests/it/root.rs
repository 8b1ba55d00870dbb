//! Which folder is the repository: the one that the workflow is in.

use std::path::{Path, PathBuf};
use std::process::Output;

use loom_contract::layout::RuntimeDir;
use loom_tests::{RunOutput, TestEnv};

use crate::{LOOM, top};

const WORKFLOW: &str = "version: v1
stages: [ci]
include: [{local: .loom/templates/own.yml}]
job: {stage: ci, extends: .own, script: [ls -A; pwd -P]}
";

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Makes the folder at `root` a repository with a file that has its name.
fn repository(root: &Path, workflow: &str) {
    write(&root.join(workflow), WORKFLOW);
    write(&root.join(".loom/templates/own.yml"), ".own: {target: linux}\n");
    write(&root.join(format!("in-{}", root.file_name().unwrap().to_string_lossy())), "");
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Whether anything was recorded at `root`.
fn has_records(root: &Path) -> bool {
    RuntimeDir::of_repo(root).path().exists()
}

#[test]
fn the_repository_is_the_one_that_the_workflow_is_in() {
    let env = TestEnv::without_workflow(LOOM);
    let base = env.repo();
    let folder = |name: &str| base.join(name);
    repository(&folder("here"), ".loom/workflow.yml");
    repository(&folder("there"), ".loom/workflow.yml");
    repository(&folder("there/inner"), ".loom/workflow.yml");
    write(&folder("there/ci/own.yml"), WORKFLOW);
    write(&folder("there/inner/ci.yml"), WORKFLOW);
    write(&folder("shared.yml"), WORKFLOW);
    std::os::unix::fs::symlink("there/inner", folder("link")).unwrap();
    std::fs::create_dir_all(folder("nowhere")).unwrap();

    let loom = |from: &str, command: &[&str], workflow: &str| {
        let mut args = command.to_vec();
        if !workflow.is_empty() {
            args.extend(["--workflow", workflow]);
        }
        let mut loom = env.loom(&args);
        loom.command.current_dir(folder(from));
        loom.output()
    };
    for (from, workflow, root) in [
        ("here", "", "here"),
        ("here", ".loom/workflow.yml", "here"),
        ("here", "../there/.loom/workflow.yml", "there"),
        ("there", "inner/.loom/workflow.yml", "there/inner"),
        ("there", "inner/ci.yml", "there/inner"),
        ("there/inner", "../ci/own.yml", "there"),
        ("nowhere", "../there/ci/own.yml", "there"),
        ("nowhere", "../link/.loom/workflow.yml", "there/inner"),
        ("here", "../link/../ci/own.yml", "there"),
        // In no repository: it is for the one in which it is run.
        ("here", "../shared.yml", "here"),
        ("there/inner", "../../shared.yml", "there/inner"),
    ] {
        let told = format!("{workflow:?} from {from}");
        let output = loom(from, &["run", "--local"], workflow);
        let root = folder(root);
        let run = RunOutput::of_place(&env, &base, &output);
        assert_eq!(run.exit_code, 0, "{told}: {}", run.stderr);
        assert_eq!(run.run.receipt.repo_root, root.to_string_lossy(), "{told}");
        assert!(run.run.dir.starts_with(RuntimeDir::of_repo(&root).path()), "{told}");
        let own = format!("in-{}", root.file_name().unwrap().to_string_lossy());
        let files = run.run.output("job", "01");
        let marks: Vec<&String> = files.iter().filter(|name| name.starts_with("in-")).collect();
        assert_eq!(marks, [&own], "{told}");
        // Other commands find the same: their receipts and includes are of that repository.
        let check = loom(from, &["check"], workflow);
        let receipt = text(&check).lines().find_map(|line| line.strip_prefix("receipt: ").map(PathBuf::from));
        assert!(receipt.unwrap().starts_with(RuntimeDir::of_repo(&root).receipts_dir()), "{told}: {check:?}");
        assert!(loom(from, &["compile"], workflow).status.success(), "{told}");
        for other in ["here", "there", "there/inner"].map(folder).iter().filter(|other| **other != root) {
            assert!(!has_records(other), "{told}: {}", other.display());
        }
        std::fs::remove_dir_all(RuntimeDir::of_repo(&root).path()).unwrap();
    }
    for command in [&["run", "--local"][..], &["check"], &["compile"]] {
        let output = loom("nowhere", command, "../shared.yml");
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output);
        let expected =
            format!("no repository at {} or {}, nor above", base.display(), folder("nowhere").display());
        assert!(said.contains(&expected), "{said}");
    }
    assert!(!has_records(&base) && !has_records(&folder("nowhere")));
}

#[test]
fn every_example_runs_by_one_command_from_the_top() {
    let env = TestEnv::without_workflow(LOOM);
    env.write(".loom/workflow.yml", WORKFLOW);
    let examples = TestEnv::of_example(LOOM, &top().join("examples"));
    std::fs::rename(examples.repo(), env.repo().join("examples")).unwrap();
    env.commit_all();
    let mut names: Vec<String> = std::fs::read_dir(env.repo().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let busybox = crate::docker::busybox();
    for name in &names {
        let workflow = format!("examples/{name}/.loom/workflow.yml");
        let root = env.repo().join("examples").join(name);
        let check = env.loom(&["check", "--workflow", &workflow]).output();
        assert!(check.status.success(), "{name}: {}", text(&check));
        // The others need a vault's password, a registry or minutes: they are run from their own folder elsewhere.
        let exit_code = match name.as_str() {
            "hello" | "dag" => 0,
            "failing" => 1,
            _ => continue,
        };
        let run = env.run(&["--workflow", &workflow]);
        assert_eq!(run.exit_code, exit_code, "{name}: {}", run.stderr);
        assert_eq!(run.run.receipt.repo_root, root.to_string_lossy(), "{name}");
    }
    if let Some(image) = busybox {
        // A build's paths begin at the example's own root.
        let workflow = env.repo().join("examples/docker/.loom/workflow.yml");
        for file in [workflow.clone(), env.repo().join("examples/docker/image/Dockerfile")] {
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            std::fs::write(&file, text.replace("busybox:1.36", &image)).unwrap();
        }
        let run = env.run(&["--workflow", "examples/docker/.loom/workflow.yml"]);
        assert_eq!(run.exit_code, 0, "{}", run.stderr);
        assert_eq!(run.run.output("greet", "01"), ["hello, greet"]);
    }
    assert!(!has_records(&env.repo()));
}

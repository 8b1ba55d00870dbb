//! Words, streams and exit codes.

use std::io::Read as _;

use loom_contract::receipt::CheckReceipt;
use loom_contract::schema::{self, Format};
use loom_tests::TestEnv;

use crate::{LOOM, env, env_of_steps};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_run_without_local_says_what_to_type() {
    let env = env_of_steps(&["true"]);
    let output = env.loom(&["run"]).output();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "loom run: only local execution exists: run `loom run --local`\n");
    assert!(env.receipts().is_empty());
}

#[test]
fn a_wrong_command_line_is_two() {
    let env = env_of_steps(&["true"]);
    for args in [
        &["run", "--lokal"][..],
        &["brew"],
        &["run", "--local", "--jobs", "0"],
        &["run", "--local", "-q", "-v"],
        &[],
    ] {
        let output = env.loom(args).output();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn the_version_goes_to_stdout() {
    let env = env_of_steps(&["true"]);
    for args in [["version"], ["--version"]] {
        let output = env.loom(&args).output();
        assert_eq!(text(&output.stdout), format!("loom {}\n", env!("CARGO_PKG_VERSION")));
        assert!(output.status.success() && output.stderr.is_empty());
    }
}

#[test]
fn quiet_default_verbose_and_stream() {
    let env = env_of_steps(&["echo out; echo err >&2", "printf tail"]);
    let quiet = env.run(&["--quiet"]);
    assert_eq!(
        quiet.plain_stderr(),
        "loom run passed\nreceipt: [REPO]/.loom/.runtime/receipts/loom-run-local-[STAMP].json\n"
    );
    let default = env.run(&[]);
    assert_eq!(
        default.plain_stderr().lines().take(2).collect::<Vec<_>>(),
        ["started job", "passed  job ([TIME])"]
    );
    let stream = env.run(&["--stream"]);
    for line in ["job | out", "job | err", "job | tail"] {
        assert!(stream.stderr.lines().any(|l| l == line), "{}", stream.stderr);
    }
    let verbose = env.run(&["-v"]);
    for word in ["job | provider `host`, since the job has no image; plugin host ", "; workspace /", "logs: "]
    {
        assert!(verbose.stderr.contains(word), "{word} in {}", verbose.stderr);
    }
    for run in [quiet, default, stream, verbose] {
        assert_eq!(run.stdout, "");
        assert!(!run.stderr.contains('\x1b'), "no colour where stderr is no terminal");
    }
}

#[test]
fn colour_is_shown_when_forced_and_only_then() {
    let env = env_of_steps(&["true"]);
    let output = env.loom(&["run", "--local", "--color", "always"]).output();
    assert!(text(&output.stderr).contains('\x1b'));
    let output = env.loom(&["run", "--local"]).env("CLICOLOR_FORCE", "1").output();
    assert!(text(&output.stderr).contains('\x1b'));
    let output = env.loom(&["run", "--local", "--color", "never"]).env("CLICOLOR_FORCE", "1").output();
    assert!(!text(&output.stderr).contains('\x1b'));
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_run() {
    let env = env_of_steps(&["seq 100000", "echo done > \"$HOME/done\""]);
    let mut child = env.loom(&["run", "--local", "--stream"]).spawn();
    let mut some = [0; 100];
    child.stderr.as_mut().unwrap().read_exact(&mut some).unwrap();
    drop(child.stderr.take());
    assert_eq!(child.exit().code(), Some(0));
    assert!(env.home().join("done").exists());
}

#[test]
fn a_check_leaves_a_receipt() {
    let env = env_of_steps(&["true"]);
    let output = env.loom(&["check"]).output();
    let stderr = text(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    let path = stderr.strip_prefix("loom check passed\nreceipt: ").unwrap().trim_end();
    let receipt: CheckReceipt = loom_record::read::document(path.as_ref()).unwrap();
    assert!(receipt.workflow_schema_v1.valid && receipt.workflow_schema_v1.errors.is_empty());

    env.write(
        ".loom/workflow.yml",
        "version: v1\nstages: [ci]\njob: {stage: cj, target: linux, script: ['true'], needz: []}\n",
    );
    let output = env.loom(&["check"]).output();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<&str> = stderr.lines().collect();
    let [first, second, "", receipt, last] = lines.as_slice() else { panic!("{stderr}") };
    assert!(first.starts_with(".loom/workflow.yml:3:14: WF_SCHEMA_V1 /job/stage: "), "{first}");
    assert!(second.starts_with(".loom/workflow.yml:3:") && second.contains("/job/needz: "), "{second}");
    assert_eq!(*last, "loom check failed (exit code 1)");
    let path = receipt.strip_prefix("receipt: ").unwrap();
    let value: serde_json::Value = loom_record::read::document(path.as_ref()).unwrap();
    let schema = schema::of(Format::CheckReceipt);
    assert!(jsonschema::draft202012::is_valid(schema.as_value(), &value), "{value:#}");
    assert_eq!(value["workflow_schema_v1"]["errors"][0]["line"], 3);
}

#[test]
fn a_compile_prints_the_same_bytes_every_time() {
    let env = env("version: v1
stages: [b, a]
default: {target: linux, variables: {Z: last, A: $Z}}
two: {stage: a, needs: [one], script: [echo two]}
one: {stage: b, script: [echo one]}
");
    let first = env.loom(&["compile"]).output();
    assert_eq!((first.status.code(), first.stderr.len()), (Some(0), 0));
    assert_eq!(env.loom(&["compile"]).output().stdout, first.stdout);
    let value: serde_json::Value = serde_json::from_slice(&first.stdout).unwrap();
    let schema = schema::of(Format::GraphIr);
    assert!(jsonschema::draft202012::is_valid(schema.as_value(), &value), "{value:#}");
    assert_eq!(value["nodes"][0]["id"], "one");
    assert_eq!(value["edges"], serde_json::json!([{ "from": "one", "to": "two", "kind": "needs" }]));
    assert!(env.receipts().is_empty(), "compiling leaves nothing");
}

#[test]
fn a_run_of_a_broken_workflow_leaves_its_record() {
    let env = env("stages: [ci]\njob: {stage: ci, target: linux, script: [1]}\n");
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 1);
    assert!(run.stderr.contains("/job/script/0: "), "{}", run.stderr);
    let last: Vec<&str> = run.stderr.lines().rev().take(2).collect();
    assert!(
        last[0].starts_with("loom run: the workflow is not valid: .loom/workflow.yml:2:"),
        "{}",
        run.stderr
    );
    assert!(last[1].starts_with("receipt: "), "{}", run.stderr);
    assert!(run.run.receipt.error.as_ref().unwrap().contains("/job/script/0"));
    assert!(run.run.pipeline().jobs.is_empty());
}

#[test]
fn what_cannot_be_run_yet_is_refused_by_name() {
    let env = env(
        "version: v1\nstages: [ci]\njob: {stage: ci, target: linux, provider: custom, script: ['true']}\n",
    );
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 1);
    assert!(run.stderr.contains("/job/provider"), "{}", run.stderr);
    // What is not asked for does not stand in the way.
    env.write(
        ".loom/workflow.yml",
        "version: v1\nstages: [ci]\ndefault: {target: linux}\na: {stage: ci, provider: custom, script: ['true']}\nb: {stage: ci, script: ['true']}\n",
    );
    assert_eq!(env.run(&["--job", "b"]).exit_code, 0);
    assert!(env.loom(&["run", "--local", "--dry-run"]).output().status.success());
}

#[test]
fn a_repository_with_a_set_of_plugins_is_not_run_without_them() {
    for file in [".loom/plugins.yml", ".loom/plugins.lock"] {
        let env = env_of_steps(&["true"]);
        env.write(file, "");
        let said = format!("{file} asks for plugins, which is not yet supported: only the bundled ones are");
        let run = env.run(&[]);
        assert_eq!(run.exit_code, 1);
        let told = format!("loom run: {said}\nhint: remove {file} to run with the bundled plugins alone\n");
        assert!(run.stderr.ends_with(&told), "{}", run.stderr);
        let dry = env.loom(&["run", "--local", "--dry-run"]).output();
        assert_eq!((dry.status.code(), text(&dry.stdout).as_str()), (Some(1), ""));
        for command in ["check", "compile"] {
            let output = env.loom(&[command]).output();
            assert!(output.status.success());
            let warning = format!("warning: `loom run` refuses this repository: {said}\n");
            assert!(text(&output.stderr).starts_with(&warning), "{output:?}");
        }
    }
}

#[test]
fn a_missing_workflow_or_repository_is_told() {
    let env = TestEnv::without_workflow(LOOM);
    let output = env.loom(&["run", "--local"]).output();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("loom run: no repository at "), "{}", text(&output.stderr));
    std::fs::create_dir(env.repo().join(".loom")).unwrap();
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 1);
    assert!(run.stderr.contains("loom run: cannot read .loom/workflow.yml: "), "{}", run.stderr);
}

#[test]
fn a_pipe_is_no_workflow() {
    let env = env_of_steps(&["true"]);
    let path = env.repo().join(".loom/workflow.yml");
    std::fs::remove_file(&path).unwrap();
    assert!(loom_tests::status(std::process::Command::new("mkfifo").arg(&path)).unwrap().success());
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 1);
    assert!(
        run.stderr.ends_with("loom run: cannot read .loom/workflow.yml: not a regular file\n"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_run_without_a_home_leaves_its_record() {
    let env = env_of_steps(&["true"]);
    let mut loom = env.loom(&["run", "--local"]);
    loom.command.env_remove("HOME");
    let run = loom.run();
    assert_eq!(run.exit_code, 1);
    let last: Vec<&str> = run.stderr.lines().rev().take(3).collect();
    assert!(last[2].starts_with("receipt: "), "{}", run.stderr);
    assert_eq!(last[1], "loom run: no place for the workspace: neither XDG_CACHE_HOME nor HOME is set");
    assert!(
        last[0].starts_with("hint: set one of them "),
        "what to do stands below what happened: {}",
        run.stderr
    );
}

#[test]
fn another_workflow_and_another_folder() {
    let env = env_of_steps(&["false"]);
    env.write(
        "ci/other.yml",
        "version: v1\nstages: [ci]\nother: {stage: ci, target: linux, script: [echo $LOOM_WORKFLOW_PATH]}\n",
    );
    let mut loom = env.loom(&["run", "--local", "--workflow", "other.yml"]);
    loom.command.current_dir(env.repo().join("ci"));
    let run = loom.run();
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("other", "01"), ["ci/other.yml"]);
    assert_eq!(run.run.receipt.workflow_path, env.repo().join("ci/other.yml").to_str().unwrap());
}

#[test]
fn the_live_view_leaves_the_scrollback_clean() {
    let env = env_of_steps(&["sleep 0.4", "echo hidden"]);
    let (_, shown) = env.loom(&["run", "--local"]).on_terminal();
    let raw = text(&shown);
    assert!(raw.contains("sleep 0.4"), "the running step is shown: {raw:?}");
    let screen = screen(&raw);
    let lines: Vec<&str> = screen.iter().map(String::as_str).filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines[2].starts_with("1 job in ") && lines[2].ends_with(": 1 passed"), "{lines:?}");
    assert_eq!([lines[0], lines[3]], ["started job", "loom run passed"]);
}

/// What a terminal shows after `raw`: enough of one for a view that moves up and clears lines.
pub(crate) fn screen(raw: &str) -> Vec<String> {
    let (mut lines, mut row) = (vec![String::new()], 0_usize);
    let mut column = 0;
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\n' => {
                row += 1;
                if row == lines.len() {
                    lines.push(String::new());
                }
            }
            '\r' => column = 0,
            '\x1b' => {
                let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(0);
                let number = rest[1..end].parse().unwrap_or(1_usize);
                match &rest[end..=end] {
                    "A" => row = row.saturating_sub(number),
                    "B" => row = (row + number).min(lines.len() - 1),
                    "K" => {
                        lines[row] = if &rest[1..end] == "2" {
                            String::new()
                        } else {
                            lines[row].chars().take(column).collect()
                        }
                    }
                    "J" => {
                        lines[row] = lines[row].chars().take(column).collect();
                        lines.truncate(row + 1);
                    }
                    _ => {}
                }
                rest = &rest[end + 1..];
            }
            c => {
                let mut line: Vec<char> = lines[row].chars().collect();
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                lines[row] = line.into_iter().collect();
                column += 1;
            }
        }
    }
    lines
}

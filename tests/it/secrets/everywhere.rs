//! Values where nobody expects them: in names, keys, numbers and literals of the workflow, not only in what jobs print.
//! That they are in no file and on no terminal is the law that the harness checks after each run; here it is seen that
//! something was there to be masked.

use loom_contract::section::Section;
use loom_tests::{RunOutput, TestEnv};
use loom_workflow::Keyword;
use serde_json::Value;

use super::{job, messages, text, workflow};
use crate::env;

/// No id and no word of the contract holds it.
const VALUE: &str = "Sup3r/Secret.Value";
const MASK: &str = "[REDACTED:SECRET_API]";

/// One host job with a secret from `$TOKEN`, whose value is in `$SCOPE` too, which jobs may see; with `more` of the
/// workflow's lines.
fn env_with(more: &str, script: &str) -> TestEnv {
    let env = env(&workflow(&format!(
        "job:
  stage: ci
  secrets: {{API: {{ref: 'env://TOKEN'}}}}
{more}  script: [{script}]
"
    )));
    env.plant_variable("TOKEN", VALUE);
    env.plant_variable("SCOPE", VALUE);
    env
}

fn passed(run: RunOutput) -> RunOutput {
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    run
}

fn restore_summary(run: &RunOutput) -> Value {
    run.run.document(&format!("jobs/job/system/{}/summary.json", Section::CacheRestore.as_str()))
}

const KEYED_BY_A_VALUE: &str = "  variables: {CACHE_SCOPE: $SCOPE}
  cache: {key: 'deps-$CACHE_SCOPE', paths: [c]}
";

#[test]
fn a_cache_key_with_a_value_is_masked_and_still_a_key() {
    let env =
        env_with(KEYED_BY_A_VALUE, "'if test -e c/x; then echo hit; else mkdir -p c; echo 1 > c/x; fi'");
    let first = passed(env.run(&["-v"]));
    let key = format!("deps-{MASK}");
    let summary = restore_summary(&first);
    assert_eq!(
        (&summary["metrics"]["caches"][0]["key"], &summary["metrics"]["hit"]),
        (&key.as_str().into(), &false.into())
    );
    assert_eq!(first.run.receipt.executor_receipt.jobs.values().next().unwrap().caches[0].key, key);
    assert!(first.stderr.contains("the cache's key holds the value of a secret"), "{}", first.stderr);
    // It is found again,
    let second = passed(env.run(&[]));
    assert_eq!(text(&second), "hit");
    let summary = restore_summary(&second);
    assert_eq!(summary["metrics"]["caches"][0]["matched_key"], key.as_str());
    let saved: Value = second.run.document("jobs/job/system/cache_save/summary.json");
    assert_eq!(saved["skip_reason"], "cache_unchanged", "an exact hit is one: {saved}");
    // and another value is another key, although it looks the same.
    let other = passed(
        env.loom(&["run", "--local"]).env("TOKEN", "An/Other.Value").env("SCOPE", "An/Other.Value").run(),
    );
    assert_eq!(text(&other), "");
    let listed = String::from_utf8(env.loom(&["cache", "list"]).output().stdout).unwrap();
    assert_eq!(listed.matches(&format!("  {key}-")).count(), 2, "{listed}");
    env.no_secret_is_left();
}

#[test]
fn a_masked_key_can_be_put_into_quarantine() {
    let env = env_with(KEYED_BY_A_VALUE, "'mkdir -p c && test ! -e c/poison && touch c/$KIND'");
    passed(env.loom(&["run", "--local"]).env("KIND", "poison").run());
    let output = env.loom(&["run", "--local", "--cache-diff"]).env("KIND", "good").output();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains(&format!("quarantined: paths:c deps-{MASK}-")), "{stderr}");
    let run = passed(env.loom(&["run", "--local"]).env("KIND", "good").run());
    assert!(run.stderr.contains("the key is in quarantine"), "{}", run.stderr);
}

#[test]
fn a_file_that_is_called_by_a_value_is_in_no_key_of_a_document() {
    let env = env_with("  cache: {key: {files: ['*.lock']}, paths: [c]}\n", "'mkdir -p c; echo 1 > c/x'");
    let value = "deploy_key_of_the_ops_team";
    env.plant("TOKEN", value);
    env.write(&format!("dep-{value}.lock"), "1");
    env.write("other.lock", "1");
    let run = passed(env.loom(&["run", "--local", "-v"]).env("TOKEN", value).run());
    let events = run.run.events("jobs/job/system/cache_restore/events.jsonl");
    let inputs: Vec<Value> = events.into_iter().filter_map(|event| event.data?.remove("inputs")).collect();
    let names: Vec<&String> = inputs.iter().flat_map(|inputs| inputs.as_object().unwrap().keys()).collect();
    assert_eq!(names, [&format!("dep-{MASK}.lock"), "other.lock"]);
}

/// The keywords that hold nothing but names of the workflow, numbers and words of the language. The test below tries
/// every other one.
const WITHOUT_FREE_TEXT: [Keyword; 8] = [
    Keyword::Stage,
    Keyword::Target,
    Keyword::Extends,
    Keyword::Needs,
    Keyword::Timeout,
    Keyword::Retry,
    Keyword::AllowFailure,
    Keyword::Provider,
];

#[test]
fn literals_of_the_workflow_are_masked_wherever_the_graph_has_them() {
    let text = format!(
        "version: v1
stages: [ci, later]
default: {{target: linux}}
job:
  stage: ci
  secrets: {{API: {{ref: 'env://TOKEN'}}, PIN: {{ref: 'env://PIN'}}}}
  variables: {{NOTE: 'n-{VALUE}'}}
  invariant: {{'key {VALUE}': [{VALUE}, {{deep: {VALUE}}}], number: 471108154711, list: [471108154711]}}
  artifacts: {{name: 'art-{VALUE}', paths: [c, '{VALUE}/*'], exclude: ['not-{VALUE}'], when: always}}
  cache:
    - {{name: 'c-{VALUE}', key: 'k-{VALUE}', fallback_keys: ['f-{VALUE}'], paths: [c, '{VALUE}']}}
    - {{name: parts, key: {{prefix: 'p-{VALUE}', files: ['{VALUE}.lock']}}, paths: [d]}}
  script: ['mkdir -p c; echo 1 > c/x; echo {VALUE}']
matrixed:
  stage: ci
  parallel: {{matrix: [{{KIND: ['{VALUE}']}}]}}
  script: ['true']
never:
  stage: later
  image:
    name: 'example.org/{VALUE}:1'
    entrypoint: ['{VALUE}']
    user: '{VALUE}'
    pull_policy: never
  runner_pool: 'pool-{VALUE}'
  services:
    - name: 'db:{VALUE}'
      alias: db
      entrypoint: ['{VALUE}']
      command: ['--password', '{VALUE}']
      variables: {{PASSWORD: '{VALUE}'}}
      ready: {{command: 'login {VALUE}'}}
  script: ['true']
"
    );
    for keyword in Keyword::ALL.iter().filter(|keyword| !WITHOUT_FREE_TEXT.contains(keyword)) {
        assert!(
            text.contains(&format!("  {}: ", keyword.name()))
                || text.contains(&format!("  {}:\n", keyword.name())),
            "{keyword:?} is not tried"
        );
    }
    let env = env(&text);
    env.plant_variable("TOKEN", VALUE);
    env.plant_variable("PIN", "471108154711");
    let checked = env.loom(&["check"]).command.output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let _ = std::fs::remove_dir_all(env.runtime().receipts_dir());
    let run = passed(env.run(&["-v", "--job", "job", "--job", "matrixed"]));
    let graph = serde_json::to_value(&run.run.receipt.graph_ir).unwrap();
    let nodes = &graph["nodes"];
    assert_eq!(nodes[0]["invariant"][format!("key {MASK}")][1]["deep"], MASK);
    assert_eq!(nodes[0]["invariant"]["number"], "[REDACTED:SECRET_PIN]");
    assert_eq!(nodes[0]["variables"][0]["value"], format!("n-{MASK}"));
    assert_eq!(nodes[0]["artifacts"]["name"], format!("art-{MASK}"));
    assert_eq!(nodes[0]["cache"][0]["fallback_keys"][0], format!("f-{MASK}"));
    assert_eq!(nodes[0]["secrets"][0]["ref"], "env://TOKEN", "where it is found is no secret");
    let pipeline = run.run.pipeline();
    assert_eq!(pipeline.jobs.iter().find_map(|job| job.matrix.get("KIND")).unwrap(), MASK);
    let never = nodes.as_array().unwrap().last().unwrap();
    assert_eq!(never["services"][0]["command"][1], MASK);
    assert_eq!(never["image_options"]["entrypoint"][0], MASK);
}

#[test]
fn the_command_line_and_the_workflows_name_are_masked() {
    let value = "name-of-a-file-and-a-secret";
    let env = TestEnv::without_workflow(crate::LOOM);
    let path = format!(".loom/{value}.yml");
    env.write(&path, &workflow(&job("job", &["API: {ref: env://TOKEN}"], &["test -e done"])));
    env.plant_variable("TOKEN", value);
    let run = env.run(&["--workflow", &path]);
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    let receipt = &run.run.receipt;
    assert!(receipt.command.contains(&format!(".loom/{MASK}.yml")), "{:?}", receipt.command);
    assert!(receipt.workflow_path.ends_with(&format!("/.loom/{MASK}.yml")), "{}", receipt.workflow_path);
    // It is still known to be the same workflow.
    env.write("done", "");
    passed(env.run(&["--workflow", &path, "--rerun-failed"]));
}

#[test]
fn the_values_that_two_jobs_have_under_one_name_are_both_masked() {
    let one = job("one", &["KEY: {ref: env://FIRST, file: false}"], &["echo \"$KEY\" > one; cat one"]);
    let two = job("two", &["KEY: {ref: env://SECOND, file: false}"], &["cat one; echo \"$KEY\""]);
    let env = env(&workflow(&(one + &two.replace("stage: ci", "stage: later"))));
    env.plant_variable("FIRST", "the value of the first job");
    env.plant_variable("SECOND", "what the second job has");
    let run = passed(env.run(&[]));
    assert_eq!(run.run.output("one", "01"), ["[REDACTED:SECRET_KEY]"]);
    assert_eq!(run.run.output("two", "01"), ["[REDACTED:SECRET_KEY]", "[REDACTED:SECRET_KEY]"]);
    assert!(messages(&run, "two", loom_contract::event::Level::Warn).is_empty());
}

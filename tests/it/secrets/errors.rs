//! Secrets that do not resolve: each code of the contract's table, told at each place.

use loom_contract::event::Level;
use loom_contract::section::Section;
use loom_contract::status::Status;
use loom_tests::{RunOutput, TestEnv};
use serde_json::json;

use super::{env_of_job, job, said, workflow};
use crate::{LOOM, env};

/// The run failed over the secret `name` of the job `job`, and says so everywhere: on the terminal, in the events of its
/// provider, in the job's manifest.
pub(super) fn is_told(run: &RunOutput, code: &str, name: &str, scheme: &str, required: bool) {
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    let last = run.stderr.lines().last().unwrap();
    assert!(last.starts_with(&format!("loom run: job \"job\" failed ({code}: ")), "{}", run.stderr);
    let job = run.run.job("job");
    assert_eq!((job.status, job.failing_section), (Status::Failed, Some(Section::Provider)));
    assert!(job.steps.iter().all(|step| step.status == Status::Skipped), "no step has run");
    let error = job.error.unwrap();
    assert_eq!(error.code, code);
    assert!(last.contains(&error.message), "{last}\n{error:?}");
    assert!(run.run.diagnose().ends_with("jobs/job/system/provider/events.jsonl"));
    let events = said(run, "job", Level::Error);
    let data = json!({ "secret": name, "scheme": scheme, "code": code, "required": required });
    let told = events.iter().find(|event| event.data.as_ref() == data.as_object());
    assert!(told.is_some(), "nothing says {data}: {events:#?}");
    let message = told.and_then(|event| event.message.as_ref()).unwrap();
    assert!(message.contains(&error.message) && message.contains(&format!("`{name}`")), "{message}");
}

/// The run went on without the secret `name` of the job `job`, and says why.
fn is_left_out(run: &RunOutput, code: &str, name: &str, scheme: &str) {
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("job", "01"), ["left out"]);
    let events = said(run, "job", Level::Warn);
    let data = json!({ "secret": name, "scheme": scheme, "code": code, "required": false });
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(events[0].data.as_ref(), data.as_object());
    let message = events[0].message.as_ref().unwrap();
    assert!(message.ends_with("; it is not required and is left out"), "{message}");
    assert!(run.stderr.contains(message), "the terminal says it too: {}", run.stderr);
}

#[test]
fn each_reference_that_leads_nowhere_fails_or_is_left_out() {
    let table = [
        ("env://NOT_SET", "env", "SECRETS_REQUIRED_MISSING", true),
        ("keepass://nobody#a/b:password", "keepass", "SECRETS_PROVIDER_UNAVAILABLE", true),
        ("op://vault/item/field", "op", "SECRETS_PROVIDER_UNAVAILABLE", true),
        ("op://a/b/c/d/e", "op", "SECRETS_REF_INVALID", false),
        ("vault+v2://x/y", "vault+v2", "SECRETS_REF_INVALID", false),
    ];
    let env = TestEnv::without_workflow(LOOM);
    for (reference, scheme, code, may_be_left_out) in table {
        for file in [true, false] {
            for required in [true, false] {
                let secret = format!("KEY: {{ref: '{reference}', file: {file}, required: {required}}}");
                let job = job("job", &[&secret], &["echo ${KEY-left out}"]);
                env.write(".loom/workflow.yml", &workflow(&job));
                let run = env.run(&[]);
                if required || !may_be_left_out {
                    is_told(&run, code, "KEY", scheme, required);
                } else {
                    is_left_out(&run, code, "KEY", scheme);
                }
            }
        }
    }
}

#[test]
fn a_malformed_reference_is_refused_before_anything_starts_and_not_repeated() {
    for reference in
        ["hunter2-hunter2", "env://hunter2-hunter2", "keepass://hunter2-hunter2", "op://hunter2-hunter2/b"]
    {
        let env = env_of_job(&[&format!("KEY: {{ref: '{reference}', required: false}}")], &["true"]);
        // Somebody may have typed the secret itself.
        env.plant("KEY", "hunter2-hunter2");
        let run = env.run(&[]);
        assert_eq!(run.exit_code, 1);
        assert!(
            run.stderr.contains("secrets/KEY/ref") || run.stderr.contains("set ref to "),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn all_that_is_missing_is_told_at_once() {
    let env = env_of_job(
        &["ONE: {ref: env://NOT_SET_1}", "TWO: {ref: env://NOT_SET_2}", "SET: {ref: env://SOURCE}"],
        &["true"],
    );
    env.plant_variable("SOURCE", "a value that is there");
    let run = env.run(&[]);
    is_told_in_part(&run, &["NOT_SET_1", "NOT_SET_2"]);
    assert!(run.stderr.contains("NOT_SET_1` is not set (and 1 more secret"), "{}", run.stderr);
}

fn is_told_in_part(run: &RunOutput, words: &[&str]) {
    assert_eq!(run.exit_code, 1);
    let told: Vec<String> = said(run, "job", Level::Error).into_iter().filter_map(|e| e.message).collect();
    assert_eq!(told.len(), words.len(), "{told:?}");
    for word in words {
        assert!(told.iter().any(|message| message.contains(word)), "{word} is not in {told:?}");
    }
}

#[test]
fn a_failed_job_is_tried_again_where_its_provider_failed() {
    let env = env(&workflow(
        "job:
  stage: ci
  retry: {max: 1, when: [provider_failure]}
  secrets:
    KEY: {ref: env://NOT_SET}
  script: [echo never]
",
    ));
    let run = env.run(&[]);
    is_told(&run, "SECRETS_REQUIRED_MISSING", "KEY", "env", true);
    assert_eq!(run.run.job("job").attempts.len(), 1);
}

//! End-to-end tests: the real program, real processes, real signals. After every run the harness holds what is on disk
//! to the laws of the contract.

#![expect(
    clippy::disallowed_methods,
    reason = "tests start the program under test, and look at the real environment"
)]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test reports by panicking, and says what it skips"
)]

mod architecture;
mod artifacts;
mod attempts;
mod cache;
mod cache_diff;
mod cancel;
mod clean;
mod cli;
mod config;
mod control_groups;
mod docker;
mod docker_apart;
mod docker_connection;
mod docker_faults;
mod docker_services;
mod examples;
mod git_callers;
mod hostile;
mod init;
mod limits;
mod no_terminal;
mod output;
mod planting;
mod processes;
mod record;
mod records;
mod references;
mod report;
mod rerun;
mod root;
mod schedule;
mod schema;
mod secrets;
mod selection;
mod shell;
mod slots;
mod steps;
mod storm;
mod terminal;

use std::path::PathBuf;

use loom_tests::{RunOutput, TestEnv};

/// The program under test.
const LOOM: &str = env!("CARGO_BIN_EXE_loom");

/// A repository with `workflow`.
fn env(workflow: &str) -> TestEnv {
    TestEnv::new(LOOM, workflow)
}

/// A repository with one job `job` whose steps are `steps`, YAML texts.
fn env_of_steps(steps: &[&str]) -> TestEnv {
    let steps: String =
        steps.iter().map(|step| format!("    - {}\n", serde_json::to_string(step).unwrap())).collect();
    env(&format!("version: v1\nstages: [ci]\njob:\n  stage: ci\n  target: linux\n  script:\n{steps}"))
}

/// Runs one job `job` with these steps.
fn run_steps(steps: &[&str]) -> RunOutput {
    env_of_steps(steps).run(&[])
}

/// The top of this repository. Tests run in their package's folder; the one that they were compiled in may be gone, where
/// a target folder outlives it.
fn top() -> PathBuf {
    std::fs::canonicalize("../..").unwrap()
}

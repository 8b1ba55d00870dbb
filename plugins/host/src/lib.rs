//! Runs a job's steps in the shell of the machine that Loom runs on, each in a process of its own.

use loom_sdk::{Command, Exit, Job, Provider, Result, Step};

#[derive(Debug, Default)]
struct HostShell;

loom_sdk::export_provider!(HostShell);

impl Provider for HostShell {
    fn run_step(&mut self, job: Job<'_>, step: Step<'_>) -> Result<Exit> {
        Command::new("sh")
            .args(step.shell_options(job))
            // Also a command that begins with `-` is one.
            .args(["--", &step.command()])
            .inherit_job_env()
            .stdout(&step.stdout())
            .stderr(&step.stderr())
            .status()
    }
}

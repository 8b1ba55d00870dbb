//! Runs a job's steps in the shell of the machine that Loom runs on, each in a process of its own.

use loom_sdk::{Command, Exit, Job, Provider, Result, Step};

#[derive(Debug, Default)]
struct HostShell;

loom_sdk::export_provider!(HostShell);

impl Provider for HostShell {
    fn run_step(&mut self, job: Job<'_>, step: Step<'_>) -> Result<Exit> {
        Command::new("sh")
            .args(shell_options(step.multi_line(), job.debug_trace()))
            .args([step.command()])
            .inherit_job_env()
            .stdout(&step.stdout())
            .stderr(&step.stderr())
            .status()
    }
}

/// The shell's options before the command: without `-e`, only the last of several lines would decide.
fn shell_options(multi_line: bool, debug_trace: bool) -> &'static [&'static str] {
    match (multi_line, debug_trace) {
        (false, false) => &["-c"],
        (true, false) => &["-e", "-c"],
        (false, true) => &["-x", "-c"],
        (true, true) => &["-e", "-x", "-c"],
    }
}

#[cfg(test)]
mod tests {
    use super::shell_options;

    #[test]
    fn a_shell_stops_at_the_first_failing_line_and_shows_commands_when_asked() {
        assert_eq!(shell_options(false, false), ["-c"]);
        assert_eq!(shell_options(true, false), ["-e", "-c"]);
        assert_eq!(shell_options(false, true), ["-x", "-c"]);
        assert_eq!(shell_options(true, true), ["-e", "-x", "-c"]);
    }
}

use crate::bindings::loom::host::{job, types};
use crate::error::{Error, Result};

/// The job that a provider runs.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a>(pub(crate) &'a job::Job);

impl Job<'_> {
    /// Its id, unique in the run.
    pub fn id(&self) -> String {
        self.0.id()
    }

    /// Its name in the workflow: that of all jobs of a matrix.
    pub fn name(&self) -> String {
        self.0.name()
    }

    /// The run that it belongs to.
    pub fn run_id(&self) -> String {
        self.0.run_id()
    }

    /// The pipeline that it belongs to.
    pub fn pipeline_id(&self) -> String {
        self.0.pipeline_id()
    }

    /// The commit that its workspace was made from, where there is one.
    pub fn head_sha(&self) -> Option<String> {
        self.0.head_sha()
    }

    /// What the workflow says under the wrapper's keyword, with defaults and templates applied: JSON. For a provider an object
    /// with `image`, `image_build`, `image_options` and `services`.
    pub fn keyword(&self) -> String {
        self.0.keyword()
    }

    /// The stage that it belongs to.
    pub fn stage(&self) -> String {
        self.0.stage()
    }

    /// The image that it asks for.
    pub fn image(&self) -> Option<String> {
        self.0.image()
    }

    /// The workflow's variables for it, in order of name. Secrets are not among them.
    pub fn variables(&self) -> Vec<(String, String)> {
        self.0.variables()
    }

    /// What Loom predefines for it (`CI_JOB_NAME` and others); a name that has no value in this run is empty.
    pub fn predefined(&self) -> Vec<(String, String)> {
        self.0.predefined()
    }

    /// Whether the user wants to see each command of a step before it runs.
    pub fn debug_trace(&self) -> bool {
        self.0.debug_trace()
    }

    /// The absolute path of the copy of the repository that it works in. Needs the capability `workspace`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) where the path is not UTF-8.
    pub fn workspace_path(&self) -> Result<String> {
        crate::bindings::loom::workspace::workspace::of_job(self.0).path().map_err(Error::from_host)
    }

    /// Whether its workspace has a file or folder at `path`, relative to the workspace. Needs the capability
    /// `workspace`.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`](crate::ErrorKind::Denied) where `path` leads out of the workspace.
    pub fn workspace_has(&self, path: &str) -> Result<bool> {
        crate::bindings::loom::workspace::workspace::of_job(self.0).exists(path).map_err(Error::from_host)
    }
}

/// A step of a job.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a>(pub(crate) &'a job::Step);

impl Step<'_> {
    /// Its position, from 1.
    pub fn index(&self) -> u32 {
        self.0.index()
    }

    /// What the workflow says is to be run.
    pub fn command(&self) -> String {
        self.0.command()
    }

    /// The options with which `sh` runs [`Step::command`] for `job`: the last one is `-c`, behind which it stands.
    pub fn shell_options(&self, job: Job<'_>) -> &'static [&'static str] {
        shell_options(job.debug_trace())
    }

    /// Where its standard output is recorded, until [`Provider::run_step`](crate::Provider::run_step) returns.
    pub fn stdout(&self) -> OutputSink {
        OutputSink(self.0.stdout())
    }

    /// Where its standard error is recorded, until [`Provider::run_step`](crate::Provider::run_step) returns.
    pub fn stderr(&self) -> OutputSink {
        OutputSink(self.0.stderr())
    }
}

/// Where output is recorded. Processes are pointed at it; the bytes never pass through the plugin.
#[derive(Debug)]
pub struct OutputSink(pub(crate) types::OutputSink);

impl OutputSink {
    /// Records `text` as a line of the plugin's own. Waits while too much output is on its way.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) where the step that it belongs to has ended.
    pub fn line(&self, text: &str) -> Result<()> {
        self.0.line(text).map_err(Error::from_host)
    }
}

/// Without `-e`, only the last of several commands would decide.
fn shell_options(debug_trace: bool) -> &'static [&'static str] {
    if debug_trace { &["-e", "-x", "-c"] } else { &["-e", "-c"] }
}

#[cfg(test)]
mod tests {
    use super::shell_options;

    #[test]
    fn a_shell_stops_at_the_first_failing_command_and_shows_commands_when_asked() {
        assert_eq!(shell_options(false), ["-e", "-c"]);
        assert_eq!(shell_options(true), ["-e", "-x", "-c"]);
    }
}

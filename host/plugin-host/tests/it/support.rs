//! A job for a plugin, on a tokio runtime.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use loom_contract::error::ErrorInfo;
use loom_contract::event::{EventBody, Message, Phase};
use loom_contract::id::JobId;
use loom_engine::fake::FakeJob;
use loom_engine::port::{CleanupReason, JobProvider, Provider as _, StepEnd};
use loom_engine::process::MARK;
use loom_plugin_bundle::guests;
use loom_plugin_host::{Plugin, PluginConfig, Runtime};
use tempfile::TempDir;

/// The guest that does what it is told, compiled once for all tests.
pub(crate) static MISBEHAVING: LazyLock<Arc<Plugin>> = LazyLock::new(|| {
    loom_engine::process::become_subreaper().unwrap();
    Runtime::new(None).unwrap().load_provider(guests::MISBEHAVING, config()).unwrap()
});

/// What a provider is given that needs nothing but its programs.
pub(crate) fn config() -> PluginConfig {
    with_path("/usr/local/bin:/usr/bin:/bin")
}

/// As [`config`], with another `PATH` of Loom.
pub(crate) fn with_path(path: &str) -> PluginConfig {
    PluginConfig { environment: [("PATH".into(), path.into())].into(), ..PluginConfig::default() }
}

/// Waits for a file.
pub(crate) async fn appeared(path: &Path) {
    let there = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(loom_deadlines::PATIENCE, there).await.unwrap();
}

/// How many live processes have this variable.
pub(crate) fn marked(mark: &str) -> usize {
    let environment =
        |process: std::io::Result<fs_err::DirEntry>| fs_err::read(process.ok()?.path().join("environ")).ok();
    let environments = fs_err::read_dir("/proc").unwrap().filter_map(environment);
    environments.filter(|env| env.split(|b| *b == 0).any(|variable| variable == mark.as_bytes())).count()
}

/// A job with a provider.
pub(crate) struct Job {
    pub(crate) fake: FakeJob,
    pub(crate) provider: Box<dyn JobProvider>,
    pub(crate) workspace: TempDir,
    steps: usize,
}

impl Job {
    /// A job for the misbehaving guest.
    pub(crate) async fn new() -> Self {
        Self::with(&MISBEHAVING, &[]).await
    }

    pub(crate) async fn with(plugin: &Plugin, variables: &[(&str, &str)]) -> Self {
        let workspace = tempfile::tempdir().unwrap();
        // The job's own, which finds what is in the workspace first.
        let path = format!(".:{}:/usr/local/bin:/usr/bin:/bin", workspace.path().display());
        let env: Vec<(OsString, OsString)> =
            vec![("PATH".into(), path.into()), ("TOKEN".into(), "hunter2".into())];
        let variables = variables.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        // Its own name, so that the ledgers of tests that run at once tell their processes apart.
        let name =
            workspace.path().file_name().unwrap().to_string_lossy().trim_start_matches('.').to_lowercase();
        let id = JobId::new(&name).unwrap();
        let fake = FakeJob::new(id, workspace.path().to_owned(), variables, env);
        let provider = plugin.open(Arc::clone(&fake.context)).await.unwrap();
        Self { fake, provider, workspace, steps: 0 }
    }

    /// Runs a step.
    pub(crate) async fn step(&mut self, command: &str) -> Result<StepEnd, ErrorInfo> {
        let step = self.fake.step(self.steps, command);
        self.steps += 1;
        let step = self.provider.run_step(step);
        let end = tokio::time::timeout(loom_deadlines::HANGS, step).await.unwrap();
        self.fake.end_step();
        end
    }

    /// Runs a step whose exit code is all that matters.
    pub(crate) async fn exit_code(&mut self, command: &str) -> i32 {
        self.step(command).await.unwrap().exit_code
    }

    /// Runs a step that must fail.
    pub(crate) async fn failure(&mut self, command: &str) -> ErrorInfo {
        self.step(command).await.unwrap_err()
    }

    /// Ends the job, as the engine does. Returns the command lines of what had to be ended.
    pub(crate) async fn end(&mut self) -> Vec<String> {
        // A guest that fails here too changes nothing.
        let _ = self.cleanup().await;
        let left = self.fake.sweep().into_iter().map(|process| process.command).collect();
        assert_eq!(marked(&self.mark()), 0, "processes of the job are left");
        left
    }

    /// The variable that its processes have.
    pub(crate) fn mark(&self) -> String {
        format!("{MARK}=fake-run-{}/{}/", std::process::id(), self.fake.context.id)
    }

    pub(crate) async fn cleanup(&mut self) -> Result<(), ErrorInfo> {
        self.provider.cleanup(CleanupReason::Failed).await
    }

    /// The messages since this was asked last.
    pub(crate) fn messages(&mut self) -> Vec<(Phase, Message)> {
        let messages = self.fake.events().into_iter().filter_map(|event| match event {
            EventBody::Message(phase, message) => Some((phase, message)),
            _ => None,
        });
        messages.collect()
    }

    /// The text of the messages since this was asked last.
    pub(crate) fn said(&mut self) -> Vec<String> {
        self.messages().into_iter().map(|(_, message)| message.message).collect()
    }

    /// What was written since this was asked last.
    pub(crate) fn output(&mut self) -> String {
        let output = self.fake.events().into_iter().filter_map(|event| match event {
            EventBody::Output(output) => Some(String::from_utf8(output.bytes.to_vec()).unwrap()),
            _ => None,
        });
        output.collect()
    }
}

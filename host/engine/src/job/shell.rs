//! The user's own shell in the place of a job's steps.

use std::sync::Arc;

use loom_contract::error::{ErrorInfo, code};
use loom_contract::status::Status;

use super::{Attempt, Job};
use crate::environment::OF_JOBS;
use crate::output::Route;
use crate::port::JobProvider;
use crate::process::Foreground;
use crate::shell::Shell;

impl Job {
    /// Prepares the job as for its steps, runs `shell` instead, and cleans up. Returns the shell's exit code.
    ///
    /// # Errors
    /// The job cannot be prepared, the shell cannot be started, or something could not be given back.
    pub(crate) async fn shell(self, shell: Shell) -> Result<i32, ErrorInfo> {
        let attempt = self.attempt();
        let ended = attempt.shell(&shell).await;
        attempt.remove_staging();
        ended
    }
}

impl Attempt<'_> {
    async fn shell(&self, shell: &Shell) -> Result<i32, ErrorInfo> {
        let (mut provider, prepared) = self.prepare().await;
        let route = Route::new(self.emitter.clone(), self.context.mask.get().cloned());
        let prepared = match (&mut provider, prepared) {
            (Some(provider), Ok(())) => self.run_steps_before(provider.as_mut(), &route).await,
            (_, prepared) => prepared,
        };
        let ended = match (&mut provider, prepared) {
            (_, Err(error)) => Err(error),
            (Some(provider), Ok(())) if self.job.provider.workspace().is_some() => {
                provider.shell().await.map(|end| end.exit_code)
            }
            (_, Ok(())) => self.shell_on_host(shell).await,
        };
        let status = match &ended {
            _ if self.job.cancel.is_cancelled() => Status::Cancelled,
            Ok(_) => Status::Success,
            Err(_) => Status::Failed,
        };
        let cleaned = self.clean_up(provider.as_deref_mut(), &route, status).await;
        ended.and_then(|exit_code| cleaned.map(|()| exit_code))
    }

    /// Runs the steps that come before the shell. One that fails is told by its events.
    async fn run_steps_before(
        &self,
        provider: &mut dyn JobProvider,
        route: &Arc<Route>,
    ) -> Result<(), ErrorInfo> {
        if self.job.plan.script.is_empty() {
            return Ok(());
        }
        match self.execute(provider, route).await.status {
            Status::Cancelled => Err(ErrorInfo::new(code::CANCELLED, "the shell was cancelled")),
            _ => Ok(()),
        }
    }

    async fn shell_on_host(&self, shell: &Shell) -> Result<i32, ErrorInfo> {
        let mut env = self.context.environment();
        if !shell.of_job {
            env.retain(|(name, _)| !OF_JOBS.iter().any(|of_job| name == of_job));
        }
        let spawn = Foreground { program: shell.program.clone(), cwd: self.context.workspace.clone(), env };
        let exit = self.context.processes.run_in_foreground(spawn, &self.context.cancel).await;
        exit.map(|exit| exit.code()).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            ErrorInfo::new(code::INTERNAL, format!("{error}{}", cause.unwrap_or_default()))
        })
    }
}

//! Waits until a service is well.

use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use tokio::time::Instant;

use crate::container::state_of;
use crate::{Container, Error, Follow, Health, Status};

/// So much of what a service said is told when it does not come up.
const LOG_LINES: u32 = 20;
const LOG_BYTES: usize = 16 << 10;
const ASK_FIRST: Duration = Duration::from_millis(20);
const ASK_LAST: Duration = Duration::from_millis(500);

/// What a service is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Whatever its health check wants; anything where it has none.
    Health,
    /// Whatever its health check wants; running where it has none.
    Running,
}

impl Container {
    /// Waits until its health check is content. One that has none is not waited for: whether it runs, and whether it is
    /// an error that it does not, is known at once.
    ///
    /// # Errors
    /// [`Error::NotHealthy`], with the last lines that it said, if it ends though it is expected to run, is found
    /// unhealthy, or takes longer than `within`; [`Error::Gone`] if it was removed.
    pub async fn wait_healthy(&self, within: Duration, expect: Expect) -> Result<(), Error> {
        let until = Instant::now() + within;
        let mut pause = ASK_FIRST;
        loop {
            let inspected = self.inspect().await?;
            let state = state_of(&inspected);
            let why = match (state.status, state.health) {
                // Whether it has ended by now is chance.
                (Status::Ended, _) if expect == Expect::Health && !has_check(&inspected) => return Ok(()),
                (Status::Ended, _) if state.oom_killed => {
                    "was killed before it was ready: it used up the memory that it may have".to_owned()
                }
                (Status::Ended, _) => {
                    format!("ended with exit code {} before it was ready", state.exit_code)
                }
                (Status::Running, None | Some(Health::Healthy)) => return Ok(()),
                (_, Some(Health::Unhealthy)) => "is unhealthy".to_owned(),
                _ if Instant::now() >= until => format!("was not healthy within {} s", within.as_secs_f32()),
                _ => {
                    tokio::time::sleep(pause.min(until - Instant::now())).await;
                    pause = (pause * 3 / 2).min(ASK_LAST);
                    continue;
                }
            };
            let mut log = self.last_output().await;
            let checks = inspected.state.and_then(|state| state.health).and_then(|health| health.log);
            if let Some(check) = checks.unwrap_or_default().last() {
                let said = check.output.as_deref().unwrap_or_default().trim();
                log.push(format!("(health check: exit code {}) {said}", check.exit_code.unwrap_or(-1)));
            }
            return Err(Error::NotHealthy { container: self.name().to_owned(), why, log });
        }
    }

    /// The last lines of its output, if they are kept.
    pub async fn last_output(&self) -> Vec<String> {
        let mut output = self.output(Some(LOG_LINES), Follow::No);
        let mut bytes = Vec::new();
        // Less to show is no reason to hide why it is shown.
        while let Ok(Some(chunk)) = output.next().await {
            bytes.extend_from_slice(&chunk.bytes);
            let over = bytes.len().saturating_sub(LOG_BYTES);
            bytes.drain(..over);
        }
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }
}

/// Whether it has a health check, also where it does not run any more.
fn has_check(inspected: &ContainerInspectResponse) -> bool {
    let check = inspected.config.as_ref().and_then(|config| config.healthcheck.as_ref());
    let words = check.and_then(|check| check.test.as_deref()).unwrap_or_default();
    words.first().is_some_and(|first| first != "NONE")
}

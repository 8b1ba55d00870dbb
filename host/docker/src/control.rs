//! The end of a process in a container, with all that it has started: what the API has no call for.
//!
//! The processes are found from within the container, by another exec of `sh`, since the numbers that the daemon knows are
//! those of its own machine. Nothing but `sh` and `/proc` is needed. An image without `sh` cannot be helped this way: its
//! container can be killed.
//!
//! A process belongs to an exec if it carries the mark that the exec was given in its environment, or is in the session or
//! a child of one that belongs to it. So one has to clear its environment, begin a session and outlive its parent to be
//! missed; it ends with the container. One that another user may not signal (`sudo` in an exec of a plain user) is missed
//! too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::models::ExecInspectResponse;
use tokio::time::Instant;

use crate::{Container, Error, ExecSpec, Reason, Signal};

/// Ends a process that was started with [`Container::exec`]. Clones are for the same process.
#[derive(Debug, Clone)]
pub struct ExecControl {
    container: Container,
    id: Arc<str>,
    mark: Arc<str>,
    user: Option<String>,
    killed: Arc<AtomicBool>,
}

/// After KILL: the kernel needs no longer, unless a disk hangs.
const KILLED: Duration = Duration::from_secs(10);

/// Sends the signal `$2` to all processes of the exec with the mark `$1`, and says how many they are. With `0` it only
/// counts. A group is sent it at once, so that no shell goes on with its next command since the last was ended. What is
/// forked meanwhile is found in the next round, so KILL is sent until there is nothing left to kill.
const SCRIPT: &str = r#"
mark=$1 signal=$2 rounds=1
[ "$signal" = KILL ] && rounds=4
marked() {
  while IFS= read -r text || [ -n "$text" ]; do
    case $text in *"$mark"*) return 0 ;; esac
  done 2>/dev/null <"/proc/$1/environ"
  return 1
}
belongs() {
  text=
  read -r text 2>/dev/null <"/proc/$1/stat"
  set -- ${text##*) }
  [ "${1:-Z}" = Z ] && return 1
  case $found in *" $2 "* | *" $4 "*) return 0 ;; esac
  return 1
}
group() {
  text=
  read -r text 2>/dev/null <"/proc/$1/stat"
  set -- "$1" ${text##*) }
  case $found in *" ${4:-0} "*) echo "-$4" ;; *) echo "$1" ;; esac
}
first=
while [ "$rounds" -gt 0 ]; do
  rounds=$((rounds - 1)) found=' ' more=y
  for dir in /proc/[0-9]*; do
    pid=${dir#/proc/}
    [ "$pid" != $$ ] && marked "$pid" && found="$found$pid "
  done 2>/dev/null
  while [ -n "$more" ]; do
    more=
    for dir in /proc/[0-9]*; do
      pid=${dir#/proc/}
      case $found in *" $pid "*) continue ;; esac
      [ "$pid" != $$ ] && belongs "$pid" && found="$found$pid " more=y
    done 2>/dev/null
  done
  targets=' '
  for pid in $found; do
    target=$(group "$pid")
    case $targets in *" $target "*) ;; *) targets="$targets$target " ;; esac
  done
  set -- $found
  first=${first:-$#}
  [ $# = 0 ] && break
  [ "$signal" = 0 ] || kill -s "$signal" -- $targets 2>/dev/null
done
echo "$first"
"#;

impl ExecControl {
    pub(crate) fn new(container: Container, id: Arc<str>, mark: Arc<str>, user: Option<String>) -> Self {
        Self { container, id, mark, user, killed: Arc::default() }
    }

    /// KILL was sent.
    pub(crate) fn has_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    pub(crate) fn container(&self) -> &Container {
        &self.container
    }

    /// Sends a signal to the process and to all that it has started, and says to how many; 0 where none is left.
    ///
    /// # Errors
    /// [`Error::NotStarted`] if the image has no `sh`; [`Error::Gone`] if the container has ended.
    pub async fn signal(&self, signal: Signal) -> Result<usize, Error> {
        self.tree(signal.name()).await
    }

    /// Ends the process and all that it has started: TERM, and KILL for what is left after `grace`. It waits until
    /// nothing is left.
    ///
    /// # Errors
    /// As [`Self::signal`]; and where something cannot be killed.
    pub async fn end(&self, grace: Duration) -> Result<(), Error> {
        let until = Instant::now() + grace;
        let mut left = self.tree(Signal::Terminate.name()).await?;
        let mut pause = Duration::from_millis(20);
        while left > 0 && Instant::now() < until {
            tokio::time::sleep(pause.min(until - Instant::now())).await;
            pause = (pause * 2).min(Duration::from_millis(500));
            left = self.tree("0").await?;
        }
        let until = Instant::now() + KILLED;
        while left > 0 {
            if Instant::now() >= until {
                return Err(Error::Refused {
                    doing: self.container.doing("end a process in"),
                    reason: Reason::Other,
                    words: format!("processes that were killed do not end: {left}"),
                });
            }
            self.tree(Signal::Kill.name()).await?;
            left = self.tree("0").await?;
        }
        Ok(())
    }

    async fn tree(&self, signal: &str) -> Result<usize, Error> {
        if signal == Signal::Kill.name() {
            self.killed.store(true, Ordering::Relaxed);
        }
        let words = ["sh", "-c", SCRIPT, "sh", &self.mark, signal];
        let command = words.map(str::to_owned).to_vec();
        let spec = ExecSpec { command, user: self.user.clone(), ..ExecSpec::default() };
        let mut exec = self.container.exec(&spec).await?;
        let mut said = Vec::new();
        while let Some(chunk) = exec.next().await? {
            said.extend_from_slice(&chunk.bytes);
        }
        let exit = exec.exit().await?;
        let said = String::from_utf8_lossy(&said);
        said.trim().parse().map_err(|_| Error::Refused {
            doing: self.container.doing("end a process in"),
            reason: Reason::Other,
            words: format!("its `sh` ended with exit code {} and said `{}`", exit.code, said.trim()),
        })
    }

    /// What the daemon knows of the process.
    pub(crate) async fn inspect(&self) -> Result<ExecInspectResponse, Error> {
        let doing = self.container.doing("wait for a process in");
        let docker = self.container.docker();
        let looked = docker.watch(&doing, docker.slow().inspect_exec(&self.id)).await?;
        match looked.map_err(|error| Error::of(doing.clone(), error)) {
            Err(error) if error.is_not_found() => Err(match self.container.explain(error).await {
                gone @ (Error::Gone { .. } | Error::WentAway { .. }) => gone,
                // The container is there, and its daemon has forgotten what it has started in it.
                _ => Error::WentAway { doing, why: "it was restarted meanwhile".to_owned() },
            }),
            looked => looked,
        }
    }
}

//! What is left of a job when it is over: found, asked to end, killed.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::{DRAIN, JobProcesses, LEDGERS, attended, table};

/// What is left of a job is asked to end, and killed after this long.
const SWEEP_GRACE: Duration = Duration::from_millis(500);
/// So many of what was left are named; of more it is said how many.
const MOST_NAMED: usize = 30;

/// A process that was left behind and ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    /// Its process id.
    pub pid: u32,
    /// Its command line.
    pub command: String,
}

/// What a job left behind, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    /// The first ones that were ended.
    pub(crate) named: Vec<LeftBehind>,
    /// How many more there were.
    pub(crate) more: usize,
}

impl JobProcesses {
    /// Ends whatever is left of the job's processes, and says what that was: those that nobody has waited for, what they
    /// left behind, also what has left their sessions. To be called when nobody waits for one any more. With
    /// `grace` they are asked first, and killed half a second later. Blocks the thread: not at all where nothing was left.
    pub(crate) fn sweep(&self, grace: bool) -> Swept {
        let mut left = Swept::default();
        let mut asked: HashSet<Pid> = HashSet::new();
        let deadline = Instant::now() + if grace { SWEEP_GRACE } else { Duration::ZERO };
        loop {
            let remains = self.remains();
            if remains.is_empty() {
                break;
            }
            let patience_is_over = Instant::now() >= deadline;
            if patience_is_over && let Some(group) = &self.group {
                group.kill();
            }
            for process in &remains {
                if asked.insert(process.pid) {
                    // One that is ending by itself has no command line any more, and needs no word.
                    match process.settled_command_line() {
                        None => {}
                        Some(_) if left.named.len() == MOST_NAMED => left.more += 1,
                        Some(command) => left.named.push(LeftBehind {
                            pid: process.pid.as_raw_nonzero().get().unsigned_abs(),
                            command,
                        }),
                    }
                    if !patience_is_over {
                        self.signal(process.pid, Signal::TERM);
                        self.signal(process.pid, Signal::CONT);
                    }
                }
                if patience_is_over {
                    self.signal(process.pid, Signal::KILL);
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // What was written before the end is still to be read.
        let readers = std::mem::take(&mut *self.readers.lock());
        let deadline = Instant::now() + DRAIN;
        while readers.iter().any(|r| !r.is_finished()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(100));
        }
        left
    }

    /// Signals one of the remains.
    fn signal(&self, pid: Pid, signal: Signal) {
        // One that it started itself may be reaped in between, but not under its lock.
        let started = self.started.lock();
        let held = started.iter().map(|alive| alive.lock()).find(|alive| **alive == Some(pid));
        if held.is_some() || !attended().contains(&pid) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// What is left of this job's processes, children before their parents' end included.
    fn remains(&self) -> Vec<table::Entry> {
        let own: HashSet<Pid> = self.started.lock().iter().filter_map(|alive| *alive.lock()).collect();
        let attended = attended();
        let orphans: Vec<_> =
            table::children().into_iter().filter(|p| own.contains(p) || !attended.contains(p)).collect();
        drop(attended);
        let own_session = table::Entry::read(rustix::process::getpid()).and_then(|own| own.session);
        let mut remains = Vec::new();
        for orphan in orphans {
            let Some(entry) = table::Entry::read(orphan) else {
                continue;
            };
            // What a job starts is in a session of its own, and nothing ever comes back from there: this is a git that Loom
            // itself asks something, and whoever started it waits for it. None is asked any more when a shell has ended.
            if entry.session == own_session && !self.in_own_session.load(Ordering::Relaxed) {
                continue;
            }
            if own.contains(&orphan) {
                // Its attendant reaps it.
                if !entry.is_zombie() {
                    table::descendants(&entry, &mut remains);
                    remains.push(entry);
                }
            } else if entry.is_zombie() {
                let _ = rustix::process::waitid(
                    WaitId::Pid(orphan),
                    WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
                );
            } else if self.owns(&entry) {
                table::descendants(&entry, &mut remains);
                remains.push(entry);
            }
        }
        remains
    }

    fn owns(&self, entry: &table::Entry) -> bool {
        if self.group.as_ref().is_some_and(|group| group.holds(entry.pid)) {
            return true;
        }
        let sessions = self.sessions.lock();
        if entry.session.is_some_and(|session| sessions.contains(&session)) {
            return true;
        }
        match entry.mark() {
            Some(mark) => mark == self.mark.as_bytes(),
            // It has left its session and cleared its environment.
            None => *LEDGERS.lock() == 1,
        }
    }
}

/// Ends every child of this process that nobody attends to: to be called once no job runs any more.
pub(crate) fn sweep_rest() -> Swept {
    JobProcesses::new("", "", "", None).sweep(false)
}

#[cfg(test)]
pub(super) mod tests {
    use std::process::Command;

    use super::*;

    /// A sweep takes what other tests start for something left behind: it is alone.
    pub(in crate::process) static SWEEP: parking_lot::RwLock<()> = parking_lot::RwLock::new(());

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test starts what the engine does not know")]
    fn a_process_of_the_program_itself_is_no_jobs() {
        let _alone = SWEEP.write();
        let job = JobProcesses::new("run", "job", "word", None);
        let mut lives = Command::new("sleep").arg("1000").env_clear().spawn().unwrap();
        let mut ended = Command::new("false").env_clear().spawn().unwrap();
        // Until it is a zombie.
        let pid = Pid::from_child(&ended);
        rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        let swept = job.sweep(false);
        let lived = lives.try_wait().unwrap().is_none();
        lives.kill().unwrap();
        lives.wait().unwrap();
        assert_eq!(swept.named, []);
        assert!(lived, "it was killed");
        assert_eq!(ended.wait().unwrap().code(), Some(1));
    }
}

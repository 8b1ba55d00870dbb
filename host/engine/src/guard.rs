//! The guard: a second process that ends what a killed Loom leaves behind.
//!
//! It is started once per run, in a session of its own and with an empty environment, since jobs may look into it, and
//! reads from a pipe that only Loom holds open. When Loom ends a run it says so; when the
//! pipe closes without that word, Loom was killed, and the guard kills every process of the run, with its control groups,
//! and removes the files of its secrets, as the run's ledger proves them.

use std::ffi::OsStr;
use std::io::{PipeWriter, Read, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use loom_ownership::Runs;

use crate::process::{self, Helper};

/// The hidden command of `loom` that runs the guard; its arguments are the run's ledger and its folder for secrets.
pub const COMMAND: &str = "__guard";

/// This program, also where its file has been replaced since it was started.
const THIS_PROGRAM: &str = "/proc/self/exe";
const DONE: &[u8] = b"done\n";
/// How long the guard goes on killing processes that start others faster than it ends them.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long Loom waits for a guard that has nothing to do.
const FAREWELL: Duration = Duration::from_secs(1);

/// Loom's end of the pipe. Dropped without [`Guard::done`], the guard acts.
#[derive(Debug)]
pub struct Guard {
    pipe: PipeWriter,
    process: Helper,
}

impl Guard {
    /// Starts the guard of the run whose ledger is at `ledger`, as another process of this program.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(ledger: &Path, secrets_dir: &Path) -> std::io::Result<Self> {
        let args = [OsStr::new(COMMAND), ledger.as_os_str(), secrets_dir.as_os_str()];
        let (process, pipe) = Helper::start(Path::new(THIS_PROGRAM), &args)?;
        Ok(Self { pipe, process })
    }

    /// The run has ended everything itself. Waits for the guard's end: not every system has a process that reaps what others
    /// leave.
    pub fn done(mut self) {
        // A guard that is gone needs no word.
        let _ = self.pipe.write_all(DONE);
        drop(self.pipe);
        self.process.wait(FAREWELL);
    }
}

/// The guard's whole life: reads `pipe` to its end, then acts if the run did not say that it is done.
pub fn watch(ledger: &Path, secrets_dir: &Path, mut pipe: impl Read) {
    // It may outlive the file system that Loom was started in.
    let _ = rustix::process::chdir("/");
    let mut said = Vec::new();
    let _ = pipe.read_to_end(&mut said);
    if said == DONE {
        return;
    }
    // The pipe may close a moment before the ledger's lock is free.
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(Some(mut run)) = Runs::entry_at(ledger) {
            process::end_groups_of(&run);
            process::kill_marked(run.mark().as_slice(), PATIENCE);
            // Where it stays, the next run tries again.
            let _ = run.remove_folder(secrets_dir);
            return;
        }
        if Instant::now() >= deadline || !ledger.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

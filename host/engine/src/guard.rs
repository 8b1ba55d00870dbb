//! The guard: a second process that ends what a killed Loom leaves behind.
//!
//! It is started once per run and reads from a pipe that only Loom holds open. When Loom ends a run it says so; when the
//! pipe closes without that word, Loom was killed, and the guard kills every process of the run and removes the files of
//! its secrets, as the run's ledger proves them.

use std::ffi::OsStr;
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use loom_ownership::Runs;

use crate::process;

/// The hidden command of `loom` that runs the guard; its arguments are the run's id and its folder for secrets.
pub const COMMAND: &str = "__guard";

/// This program, also where its file has been replaced since it was started.
const THIS_PROGRAM: &str = "/proc/self/exe";
const DONE: &[u8] = b"done\n";
/// How long the guard goes on killing processes that start others faster than it ends them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Loom's end of the pipe. Dropped without [`Guard::done`], the guard acts.
#[derive(Debug)]
pub struct Guard {
    pipe: ChildStdin,
}

impl Guard {
    /// Starts the guard of the run whose ledger is at `ledger`, as another process of this program.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(ledger: &Path, secrets_dir: &Path) -> std::io::Result<Self> {
        let args = [OsStr::new(COMMAND), ledger.as_os_str(), secrets_dir.as_os_str()];
        let pipe = process::spawn_attendant(Path::new(THIS_PROGRAM), &args)?;
        Ok(Self { pipe })
    }

    /// The run has ended everything itself.
    pub fn done(mut self) {
        // A guard that is gone needs no word.
        let _ = self.pipe.write_all(DONE);
    }
}

/// The guard's whole life: reads `pipe` to its end, then acts if the run did not say that it is done.
pub fn watch(ledger: &Path, secrets_dir: &Path, mut pipe: impl Read) {
    // Away from the terminal's signals; fails only where it leads a session already.
    let _ = rustix::process::setsid();
    let mut said = Vec::new();
    let _ = pipe.read_to_end(&mut said);
    if said == DONE {
        return;
    }
    // The pipe may close a moment before the ledger's lock is free.
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(Some(mut run)) = Runs::entry_at(ledger) {
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

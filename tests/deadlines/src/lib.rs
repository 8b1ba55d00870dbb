//! Deadlines for tests: one that waits for what never comes fails, and does not hang.
//!
//! Threads that go on until they are told to stop are told by [`SetOnDrop`], also where an assertion fails. A test whose
//! threads could wait for one another runs [`within`] a time. Processes are [`Running`], which kills them when the test
//! is over. Nothing here is an expectation of how long something takes: the times are far above what a busy machine
//! needs.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a harness of tests reports by panicking")]

use std::io::Read;
use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpgid, kill_process_group};

/// The time after which something that was waited for counts as never coming.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// The time after which a process, or a whole test, counts as hanging.
pub const HANGS: Duration = Duration::from_secs(600);
/// So long the guard of a program that was killed has to end what the program left.
const LAST_WORDS: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(5);

/// Sets a flag when it is dropped: what tells other threads to stop, however the test ends.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `test` on a thread of its own; panics when it does not end within `time`. Its panic is passed on.
pub fn within<T: Send + 'static>(time: Duration, test: impl FnOnce() -> T + Send + 'static) -> T {
    let (over, ended) = channel();
    // The name is what a panic says it happened in.
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let value = test();
        // Nobody may be waiting any more.
        let _ = over.send(value);
    });
    let thread = thread.unwrap();
    match ended.recv_timeout(time) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => panic!("the test did not end within {time:?}"),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("a thread that ends well sends its value"),
        },
    }
}

/// Waits until `done` says so; panics with `what` when it does not within [`PATIENCE`].
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(PAUSE);
    }
}

/// What `command` says until its end, which must come within [`HANGS`].
///
/// # Errors
/// It cannot be started.
pub fn output(command: &mut Command) -> std::io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(Running::start(command)?.output())
}

/// How `command` ends, which must come within [`HANGS`].
///
/// # Errors
/// It cannot be started.
pub fn status(command: &mut Command) -> std::io::Result<ExitStatus> {
    Ok(Running::start(command.stdin(Stdio::null()))?.exit())
}

/// A process in a group of its own, which is killed when this is dropped.
pub struct Running {
    child: Child,
    /// For who reads why a test failed.
    command: String,
}

impl Running {
    /// Starts `command`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command) -> std::io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        Ok(Self { child, command: words.join(" ") })
    }

    /// Waits for the end, which must come within [`HANGS`]: until the process has ended and nobody holds its output open.
    pub fn output(self) -> Output {
        self.output_within(HANGS)
    }

    /// Waits for the end, which must come within `time`; else the process's group is killed, and the panic says what it
    /// had written.
    pub fn output_within(mut self, time: Duration) -> Output {
        let deadline = Instant::now() + time;
        let (stdout, stderr) = (Reading::of(self.child.stdout.take()), Reading::of(self.child.stderr.take()));
        drop(self.child.stdin.take());
        loop {
            if stdout.is_over()
                && stderr.is_over()
                && let Some(status) = self.child.try_wait().unwrap()
            {
                return Output { status, stdout: stdout.take(), stderr: stderr.take() };
            }
            if Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        let held = if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            "it has ended, but something holds its output open"
        } else {
            "it was killed"
        };
        self.kill();
        let over = Instant::now() + LAST_WORDS;
        while !(stdout.is_over() && stderr.is_over()) && Instant::now() < over {
            std::thread::sleep(PAUSE);
        }
        let text = |of: &Reading| String::from_utf8_lossy(&of.take()).into_owned();
        panic!(
            "`{}` did not end within {time:?}: {held}\nstdout so far:\n{}\nstderr so far:\n{}",
            self.command,
            text(&stdout),
            text(&stderr)
        );
    }

    /// Waits for the end of the process, whoever holds its output open; it must come within [`HANGS`].
    pub fn exit(&mut self) -> ExitStatus {
        self.exit_within(HANGS)
    }

    /// Waits for the end of the process, whoever holds its output open; kills its group and panics when it does not come
    /// within `time`.
    pub fn exit_within(&mut self, time: Duration) -> ExitStatus {
        let deadline = Instant::now() + time;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() >= deadline {
                self.kill();
                panic!("`{}` did not end within {time:?}", self.command);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Kills the process, and a while later what its group still has. What it left elsewhere is for its own guard.
    fn kill(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        let group = Pid::from_child(&self.child);
        let leads = getpgid(Some(group)) == Ok(group);
        let _ = self.child.kill();
        if leads {
            // Before it is reaped, while the number is still its own.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a pipe has said so far.
struct Reading {
    bytes: Arc<Mutex<Vec<u8>>>,
    over: Arc<AtomicBool>,
}

impl Reading {
    /// Reads the pipe on a thread of its own, which ends when nobody holds the other end any more.
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let reading = Self { bytes: Arc::default(), over: Arc::new(AtomicBool::new(pipe.is_none())) };
        if let Some(mut pipe) = pipe {
            let (bytes, over) = (Arc::clone(&reading.bytes), Arc::clone(&reading.over));
            std::thread::spawn(move || {
                let _over = SetOnDrop(&over);
                let mut buffer = vec![0; 64 << 10];
                while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                    bytes.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
                }
            });
        }
        reading
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "starting programs is what is tested")]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn words_of(panic: Box<dyn std::any::Any + Send>) -> String {
        match panic.downcast::<String>() {
            Ok(words) => *words,
            Err(panic) => (*panic.downcast::<&str>().unwrap()).to_owned(),
        }
    }

    #[test]
    fn output_is_whole_however_much_there_is() {
        let output = output(&mut sh("seq 100000; echo err >&2; exit 3")).unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert_eq!((output.stdout.len(), &*output.stderr), (588_895, &b"err\n"[..]));
    }

    #[test]
    fn a_process_that_hangs_is_killed_with_its_group_and_its_words_are_told() {
        let folder = std::env::temp_dir().join(format!("loom-deadlines-{}", std::process::id()));
        let running = Running::start(&mut sh(&format!(
            "echo begun; sleep 1000 & echo $! > {0}; wait",
            folder.display()
        )));
        let running = running.unwrap();
        wait_for("the process", || std::fs::read_to_string(&folder).is_ok_and(|text| text.ends_with('\n')));
        let other = std::fs::read_to_string(&folder).unwrap();
        std::fs::remove_file(&folder).unwrap();
        let hung = std::panic::AssertUnwindSafe(|| running.output_within(Duration::from_millis(100)));
        let said = words_of(std::panic::catch_unwind(hung).unwrap_err());
        assert!(said.contains("sleep 1000") && said.contains("begun\n"), "{said}");
        let stat = format!("/proc/{}/stat", other.trim());
        let is_gone = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        wait_for("the end of the other process", is_gone);
    }

    #[test]
    fn a_test_that_hangs_fails_and_a_panic_is_passed_on() {
        let hung = std::panic::catch_unwind(|| {
            within(Duration::from_millis(50), || std::thread::sleep(Duration::from_secs(1000)));
        });
        assert_eq!(words_of(hung.unwrap_err()), "the test did not end within 50ms");
        let failed = std::panic::catch_unwind(|| within(HANGS, || panic!("no {}", 1)));
        assert_eq!(words_of(failed.unwrap_err()), "no 1");
        assert_eq!(within(HANGS, || 7), 7);
    }
}

//! Exit codes of the `loom` command.

/// Everything succeeded.
pub const SUCCESS: i32 = 0;
/// A job failed, or the run could not start.
pub const FAILURE: i32 = 1;
/// The command line was wrong.
pub const USAGE: i32 = 2;
/// Cancelled by SIGINT, after cleanup.
pub const INTERRUPTED: i32 = 130;
/// Cancelled by SIGTERM, after cleanup.
pub const TERMINATED: i32 = 143;

/// The exit code of a process that signal `signal` ended, as a shell reports it.
pub fn of_signal(signal: i32) -> i32 {
    128 + signal
}

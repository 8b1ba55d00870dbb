//! The harness of the end-to-end tests: a hermetic place to run `loom` in, and the laws that every run keeps.
//!
//! The tests themselves stand in `tests/it/`; they are built with the `loom` command, in whose package they are listed.

#![expect(
    clippy::disallowed_methods,
    reason = "tests start the program under test, and look at the real environment"
)]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a harness reports by panicking")]

mod canary;
mod env;
mod laws;
mod pty;

pub use env::{Loom, RunOutput, TestEnv};
pub use laws::Run;
pub use loom_deadlines::{HANGS, PATIENCE, Running, SetOnDrop, output, status, wait_for};
pub use pty::Pty;

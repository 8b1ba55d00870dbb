//! Runs a plan and says what happens.
//!
//! ```text
//!  Plan ──> schedule (pure: who may start, who never will)
//!              │
//!           dispatch (one loop: starts jobs, hands every event to one callback, in one order)
//!              │ channel
//!           job ──> phase guards, steps ──> port::Provider (a plugin)
//!                                              │
//!                                           process (start, hear, end) ──> output (bytes to lines)
//! ```
//!
//! The engine writes no file and prints nothing: it calls back with events.

pub mod cancel;
pub mod clock;
mod emit;
mod environment;
#[cfg(feature = "fake")]
pub mod fake;
pub mod guard;
mod job;
pub mod output;
mod phase;
pub mod port;
pub mod process;
mod run;
pub mod schedule;

pub use run::{Prepared, RunEnd, Settings, run};

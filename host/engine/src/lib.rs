//! Runs a plan and says what happens.
//!
//! ```text
//!  Plan ──> schedule (pure: who may start, who never will)
//!              │
//!           dispatch (one loop: starts jobs, hands every event to one callback, in one order)
//!              │ channel
//!           job ──> secrets (port::SecretResolver, a plugin), phase guards, steps ──> port::Provider (a plugin)
//!                                              │
//!                                           process (start, hear, end) ──> redact ──> output (bytes to lines)
//! ```
//!
//! The engine prints nothing and writes no file but those of secrets and of what is to be masked: it calls back with events.

pub mod cancel;
pub mod clock;
mod emit;
pub mod environment;
pub mod fake;
pub mod guard;
mod job;
pub mod limits;
pub mod mask;
pub mod output;
mod phase;
pub mod port;
pub mod process;
pub mod redact;
mod run;
pub mod schedule;
pub mod secrets;
mod shell;

pub use run::{Prepared, Reused, RunEnd, Settings, run};
pub use shell::{Shell, shell};

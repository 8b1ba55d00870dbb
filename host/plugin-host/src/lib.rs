//! Loads plugin components and implements the engine's ports with them.
//!
//! ```text
//!  bytes ──> interface (names of imports and exports, before anything is compiled)
//!              │   manifest (what it says it is and needs), grant (which programs)
//!              v
//!           runtime ──> compiled (the cache of machine code, authenticated)
//!              │
//!              v
//!           provider (the engine's port) ──> instance (one store per job, its calls, their limits)
//!                                               │ the guest calls
//!                                               v
//!                                            imports (one file per interface), guest (what they work on)
//! ```
//!
//! A plugin that traps, hangs, floods or eats memory becomes an error of the call that it was in, which names the plugin
//! and the cause. Its instance is never used again; cleanup gets a new one.
//!
//! Deliberately absent: files and sockets for guests, reading of this process's environment, anything about terminals.

mod bindings;
mod compiled;
mod grant;
mod guest;
mod imports;
mod instance;
mod interface;
mod limits;
mod manifest;
mod meter;
mod provider;
mod runtime;

pub use compiled::Origin;
pub use manifest::{Capabilities, ExecGrant, Kind, Limits, Manifest};
pub use provider::Plugin;
pub use runtime::{LoadError, Runtime};

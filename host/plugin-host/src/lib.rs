//! Loads plugin components and implements the engine's ports with them.
//!
//! ```text
//!  bytes ──> interface (names of imports and exports, before anything is compiled)
//!              │   manifest (what it says it is and needs), config (what the user gives it), grant (the gate between)
//!              v
//!           runtime ──> compiled (the cache of machine code, authenticated) ──> loaded (what instances share)
//!              │
//!              v
//!           provider, wrapper, resolver (the engine's ports) ──> instance (one store per job or run, its calls, their limits)
//!                                                          │ the guest calls
//!                                                          v
//!                        imports (one file per interface, and the table of them) ──> guest (what they borrow views of)
//! ```
//!
//! `types` is `loom:host/types`, which all interfaces share; `exports` is what plugins offer the host.
//!
//! A plugin that traps, hangs, floods or eats memory becomes an error of the call that it was in, which names the plugin
//! and the cause. Its instance is never used again; cleanup gets a new one.
//!
//! Deliberately absent: files and sockets of WASI, reading of this process's environment, anything about terminals.

mod caches;
mod compiled;
mod config;
mod docker;
mod exports;
mod grant;
mod guest;
mod imports;
mod info;
mod instance;
mod interface;
mod limits;
mod loaded;
mod manifest;
mod messages;
mod meter;
mod printed;
mod programs;
mod provider;
mod resolver;
mod runtime;
mod types;
mod wall;
mod wrapper;

pub use caches::{Caches, Use};
pub use compiled::Origin;
pub use config::{Credential, PluginConfig};
pub use docker::{DockerConfig, RunDocker};
pub use manifest::{
    Access, Capabilities, DockerRight, ExecGrant, FileGrant, HttpGrant, Kind, Limits, Manifest,
};
pub use provider::Plugin;
pub use resolver::{Resolver, VaultItem};
pub use runtime::{LoadError, Runtime};
pub use wrapper::RunWrapper;

//! Everything that a plugin for Loom is written with.
//!
//! A plugin is a WebAssembly component. It has no files, no network and no environment: what it does, it asks Loom to
//! do. Loom starts the processes, records their output and masks secrets in it, so none of these bytes pass through the
//! plugin.
//!
//! This is a whole provider. It runs each step with `busybox sh`:
//!
//! ```
//! use loom_sdk::{Command, Exit, Job, Provider, Result, Step};
//!
//! #[derive(Default)]
//! struct Busybox;
//!
//! impl Provider for Busybox {
//!     fn run_step(&mut self, _job: Job<'_>, step: Step<'_>) -> Result<Exit> {
//!         Command::new("busybox")
//!             .args(["sh", "-c", &step.command()])
//!             .inherit_job_env()
//!             .stdout(&step.stdout())
//!             .stderr(&step.stderr())
//!             .status()
//!     }
//! }
//!
//! loom_sdk::export_provider!(Busybox);
//! # fn main() {}
//! ```
//!
//! with this `loom-plugin.toml` beside its `Cargo.toml`, which says what it may do:
//!
//! ```toml
//! name = "busybox"
//! version = "0.1.0"
//! kind = "provider"
//! description = "Runs each step with busybox"
//! loom = "0.1.0"
//!
//! [capabilities]
//! exec = [{ program = "busybox", args = ["sh", "-c", "*"] }]
//! ```
//!
//! It is built with `cargo build --target wasm32-wasip2`; its library is a `cdylib`.
//!
//! - [`Provider`] is what a provider implements; only `run_step` has no default.
//! - [`Job`] and [`Step`] say what is to be done, [`Command`] does it.
//! - [`docker`] is for providers that run jobs in containers.
//! - [`Wrapper`] is what works around providers, with a [`store`] and a [`section`] of its own.
//! - [`SecretResolver`] is what a resolver of secrets implements; only `resolve` has no default. It has [`config`],
//!   [`credentials`], [`mod@env`], [`files`] and [`http`] to work with, as far as its manifest asks for them.
//! - [`Error`] takes any error of the standard library through `?`; [`Error::new`] adds a kind and a stable code.
//! - [`Message`] tells the reader of a run something; [`info!`] and its siblings write to Loom's own log, for who develops
//!   the plugin. What is printed to standard output or error goes there too.
//! - A panic fails the job, and its text is shown to the user. [`state`] survives it.

pub mod config;
pub mod credentials;
pub mod docker;
pub mod env;
mod error;
pub mod files;
pub mod http;
mod job;
mod log;
mod message;
mod process;
mod provider;
mod resolver;
pub mod section;
pub mod state;
pub mod store;
mod wrapper;

pub use error::{Error, ErrorKind, Result};
pub use job::{Job, OutputSink, Step};
pub use message::{Level, Message, Value};
pub use process::{Child, Command, Exit};
pub use provider::{CleanupReason, Provider};
pub use resolver::{Item, SecretResolver, VaultAdmin};
pub use wrapper::{Outcome, Wrapper};

/// Whether the run is to end. A plugin that goes on regardless is stopped 12 seconds later.
pub fn cancelled() -> bool {
    bindings::loom::host::context::cancelled()
}

/// Generated from the interface files: what the host offers, then what each kind of plugin exports.
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "host-offers",
        generate_all,
    });

    pub mod provider {
        wit_bindgen::generate!({
            path: "../wit",
            world: "provider-plugin",
            default_bindings_module: "loom_sdk::bindings::provider",
            pub_export_macro: true,
            with: {
                "loom:host/types@0.1.0": crate::bindings::loom::host::types,
                "loom:host/log@0.1.0": crate::bindings::loom::host::log,
                "loom:host/config@0.1.0": crate::bindings::loom::host::config,
                "loom:host/events@0.1.0": crate::bindings::loom::host::events,
                "loom:host/context@0.1.0": crate::bindings::loom::host::context,
                "loom:host/job@0.1.0": crate::bindings::loom::host::job,
                "loom:exec/process@0.1.0": crate::bindings::loom::exec::process,
                "loom:docker/engine@0.1.0": crate::bindings::loom::docker::engine,
                "loom:workspace/workspace@0.1.0": crate::bindings::loom::workspace::workspace,
            },
        });
    }

    pub mod wrapper {
        wit_bindgen::generate!({
            path: "../wit",
            world: "wrapper-plugin",
            default_bindings_module: "loom_sdk::bindings::wrapper",
            pub_export_macro: true,
            with: {
                "loom:host/types@0.1.0": crate::bindings::loom::host::types,
                "loom:host/log@0.1.0": crate::bindings::loom::host::log,
                "loom:host/events@0.1.0": crate::bindings::loom::host::events,
                "loom:host/section@0.1.0": crate::bindings::loom::host::section,
                "loom:host/context@0.1.0": crate::bindings::loom::host::context,
                "loom:host/job@0.1.0": crate::bindings::loom::host::job,
                "loom:workspace/store@0.1.0": crate::bindings::loom::workspace::store,
            },
        });
    }

    pub mod resolver {
        wit_bindgen::generate!({
            path: "../wit",
            world: "secret-resolver-plugin",
            default_bindings_module: "loom_sdk::bindings::resolver",
            pub_export_macro: true,
            with: {
                "loom:host/types@0.1.0": crate::bindings::loom::host::types,
                "loom:host/log@0.1.0": crate::bindings::loom::host::log,
                "loom:host/config@0.1.0": crate::bindings::loom::host::config,
                "loom:credentials/credentials@0.1.0": crate::bindings::loom::credentials::credentials,
                "loom:workspace/files@0.1.0": crate::bindings::loom::workspace::files,
                "loom:net/env@0.1.0": crate::bindings::loom::net::env,
                "loom:net/http@0.1.0": crate::bindings::loom::net::http,
            },
        });
    }

    pub mod vault {
        wit_bindgen::generate!({
            path: "../wit",
            world: "vault-plugin",
            default_bindings_module: "loom_sdk::bindings::vault",
            pub_export_macro: true,
            with: {
                "loom:host/types@0.1.0": crate::bindings::loom::host::types,
                "loom:credentials/credentials@0.1.0": crate::bindings::loom::credentials::credentials,
                "loom:workspace/files@0.1.0": crate::bindings::loom::workspace::files,
            },
        });
    }
}

/// For what the macros of this crate expand to.
#[doc(hidden)]
pub mod __private {
    pub use crate::log::log;
    pub use crate::provider::{Exported, Instance, registered};
    pub use crate::resolver::{
        ExportedResolver, ResolverInstance, VaultInstance, registered_resolver, registered_vault,
    };
    pub use crate::wrapper::{ExportedWrapper, WrapperInstance, registered_wrapper};
}

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
//!             .args(["sh", "-c", "--", &step.command()])
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
//! exec = [{ program = "busybox", args = ["sh", "-c", "--", "**"] }]
//! job_env = true
//! ```
//!
//! It is built with `cargo build --target wasm32-wasip2`; its library is a `cdylib`.
//!
//! - [`Provider`] is what a provider implements; only `run_step` has no default.
//! - [`Job`] and [`Step`] say what is to be done, [`Command`] does it.
//! - [`docker`] is for providers that run jobs in containers.
//! - [`Wrapper`] is what works around providers, with a [`store`] and a [`section`] of its own.
//! - [`SecretResolver`] is what a resolver of secrets implements; only `resolve` has no default.
//! - [`config`] is what the user's configuration says to a provider or a resolver.
//! - [`Error`] takes any error of the standard library through `?`; [`Error::new`] adds a kind and a stable code.
//! - [`Message`] tells the reader of a run something; [`info!`] and its siblings write to Loom's own log, for who develops
//!   the plugin. What is printed to standard output or error goes there too.
//! - A panic fails the job, and its text is shown to the user. [`state`] survives it.
//!
//! What a plugin has to ask for, under `[capabilities]` of its manifest:
//!
//! | Capability | What it is used with | Whose it is |
//! |---|---|---|
//! | `exec` | [`Command`] | provider |
//! | `docker` | [`docker`] | provider |
//! | `workspace` | [`Job::workspace_path`], [`Job::workspace_has`] | provider |
//! | `store` | [`store`] | wrapper |
//! | `files` | [`files`] | secret resolver |
//! | `credentials` | [`credentials`] | secret resolver |
//! | `env` | [`mod@env`] | secret resolver |
//! | `http` | [`http`] | secret resolver |
//! | `job_env` | [`Command::inherit_job_env`] and its likes in [`docker`]; with it, a plugin can read the job's secrets | provider |
//!
//! In `exec`, `args` has a pattern for each argument: `*` is any text, but what begins with a single `*` takes nothing that
//! begins with `-`, since a program takes that for an option; `**` does. `...` at the end is any further arguments of the
//! one kind, `**...` of the other. `env` names the variables that the plugin may set.

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
            inline: "
                package loom:exports;
                world provider-plugin { export loom:plugin/provider@0.1.0; }
            ",
            default_bindings_module: "loom_sdk::bindings::provider",
            pub_export_macro: true,
            with: {
                "loom:host/types@0.1.0": crate::bindings::loom::host::types,
                "loom:host/job@0.1.0": crate::bindings::loom::host::job,
            },
        });
    }

    pub mod wrapper {
        wit_bindgen::generate!({
            path: "../wit",
            inline: "
                package loom:exports;
                world wrapper-plugin { export loom:plugin/wrapper@0.1.0; }
            ",
            default_bindings_module: "loom_sdk::bindings::wrapper",
            pub_export_macro: true,
            with: {
                "loom:host/types@0.1.0": crate::bindings::loom::host::types,
                "loom:host/job@0.1.0": crate::bindings::loom::host::job,
            },
        });
    }

    pub mod resolver {
        wit_bindgen::generate!({
            path: "../wit",
            inline: "
                package loom:exports;
                world secret-resolver-plugin { export loom:plugin/secret-resolver@0.1.0; }
            ",
            default_bindings_module: "loom_sdk::bindings::resolver",
            pub_export_macro: true,
            with: {
                "loom:host/types@0.1.0": crate::bindings::loom::host::types,
            },
        });
    }

    pub mod vault {
        wit_bindgen::generate!({
            path: "../wit",
            inline: "
                package loom:exports;
                world vault-plugin { export loom:plugin/vault-admin@0.1.0; }
            ",
            default_bindings_module: "loom_sdk::bindings::vault",
            pub_export_macro: true,
            with: {
                "loom:host/types@0.1.0": crate::bindings::loom::host::types,
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

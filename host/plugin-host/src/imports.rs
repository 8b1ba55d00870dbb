//! What guests may call: one file per interface.

mod config;
mod context;
mod credentials;
pub(crate) mod docker;
mod env;
mod events;
mod files;
pub(crate) mod http;
pub(crate) mod job;
mod log;
pub(crate) mod process;
mod section;
pub(crate) mod store;
pub(crate) mod types;
pub(crate) mod wasi;
pub(crate) mod workspace;

use wasmtime::component::{HasSelf, Linker};

use crate::bindings::loom;
use crate::guest::Guest;
use crate::interface;
use crate::manifest::Manifest;

/// Offers a guest what its capabilities entitle it to, and nothing else.
pub(crate) fn link(linker: &mut Linker<Guest>, manifest: &Manifest) -> wasmtime::Result<()> {
    wasi::link(linker)?;
    for offer in interface::OFFERS.iter().filter(|offer| offer.reaches(manifest)) {
        let link = match offer.name {
            "loom:host/types" => loom::host::types::add_to_linker::<_, HasSelf<Guest>>,
            "loom:host/log" => loom::host::log::add_to_linker::<_, HasSelf<Guest>>,
            "loom:host/config" => loom::host::config::add_to_linker::<_, HasSelf<Guest>>,
            "loom:host/events" => loom::host::events::add_to_linker::<_, HasSelf<Guest>>,
            "loom:host/section" => loom::host::section::add_to_linker::<_, HasSelf<Guest>>,
            "loom:host/context" => loom::host::context::add_to_linker::<_, HasSelf<Guest>>,
            "loom:host/job" => loom::host::job::add_to_linker::<_, HasSelf<Guest>>,
            "loom:exec/process" => loom::exec::process::add_to_linker::<_, HasSelf<Guest>>,
            "loom:docker/engine" => loom::docker::engine::add_to_linker::<_, HasSelf<Guest>>,
            "loom:workspace/workspace" => loom::workspace::workspace::add_to_linker::<_, HasSelf<Guest>>,
            "loom:workspace/store" => loom::workspace::store::add_to_linker::<_, HasSelf<Guest>>,
            "loom:workspace/files" => loom::workspace::files::add_to_linker::<_, HasSelf<Guest>>,
            "loom:credentials/credentials" => {
                loom::credentials::credentials::add_to_linker::<_, HasSelf<Guest>>
            }
            "loom:net/env" => loom::net::env::add_to_linker::<_, HasSelf<Guest>>,
            "loom:net/http" => loom::net::http::add_to_linker::<_, HasSelf<Guest>>,
            other => wasmtime::bail!("nothing implements `{other}`"),
        };
        link(linker, |guest| guest)?;
    }
    Ok(())
}

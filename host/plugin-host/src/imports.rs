//! What guests may call: one file per interface, and the table of them all.
//!
//! An interface's file holds its generated bindings (`wit`), what its handles stand for, the part of a guest that its
//! functions work on (`View`), and `link`. A row of [`OFFERS`] is all of its registration.

mod config;
mod context;
mod credentials;
mod docker;
mod env;
mod events;
mod files;
mod http;
pub(crate) mod job;
mod log;
mod process;
mod section;
pub(crate) mod store;
mod types;
mod wasi;
mod workspace;

use wasmtime::component::Linker;

use crate::guest::Guest;
use crate::manifest::{Capabilities, Kind, Manifest};

/// An interface that the host offers.
pub(crate) struct Offer {
    /// Package and interface.
    pub(crate) name: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
    /// What a manifest has to declare; nothing where all plugins of its kinds have it.
    pub(crate) capability: Option<Capability>,
    /// The kinds of plugins that have any use for it: those whose world it is in.
    pub(crate) kinds: &'static [Kind],
    link: fn(&mut Linker<Guest>) -> wasmtime::Result<()>,
}

/// A capability that a manifest may declare.
#[derive(Clone, Copy)]
pub(crate) struct Capability {
    /// Its key below `[capabilities]`.
    pub(crate) key: &'static str,
    declared: fn(&Capabilities) -> bool,
}

impl Capability {
    /// Whether `capabilities` have it.
    pub(crate) fn is_in(self, capabilities: &Capabilities) -> bool {
        (self.declared)(capabilities)
    }
}

const ANY: &[Kind] = &Kind::ALL;
const WITH_JOBS: &[Kind] = &[Kind::Provider, Kind::Wrapper];
const PROVIDERS: &[Kind] = &[Kind::Provider];
const WRAPPERS: &[Kind] = &[Kind::Wrapper];
const RESOLVERS: &[Kind] = &[Kind::SecretResolver];
const CONFIGURED: &[Kind] = &[Kind::Provider, Kind::SecretResolver];

const fn needs(key: &'static str, declared: fn(&Capabilities) -> bool) -> Option<Capability> {
    Some(Capability { key, declared })
}

/// All interfaces, in the order of the world `host-offers`. The tests hold the interface files, `wit/README.md`, the
/// manifest and the SDK against it.
#[rustfmt::skip]
pub(crate) const OFFERS: &[Offer] = &[
    offer("loom:host/types", None, ANY, types::link),
    offer("loom:host/log", None, ANY, log::link),
    offer("loom:host/config", None, CONFIGURED, config::link),
    offer("loom:host/events", None, WITH_JOBS, events::link),
    offer("loom:host/section", None, WRAPPERS, section::link),
    offer("loom:host/context", None, WITH_JOBS, context::link),
    offer("loom:host/job", None, WITH_JOBS, job::link),
    offer("loom:exec/process", needs("exec", |c| !c.exec.is_empty()), PROVIDERS, process::link),
    offer("loom:docker/engine", needs("docker", |c| !c.docker.is_empty()), PROVIDERS, docker::link),
    offer("loom:workspace/workspace", needs("workspace", |c| c.workspace), PROVIDERS, workspace::link),
    offer("loom:workspace/store", needs("store", |c| c.store), WRAPPERS, store::link),
    offer("loom:workspace/files", needs("files", |c| !c.files.is_empty()), RESOLVERS, files::link),
    offer("loom:credentials/credentials", needs("credentials", |c| !c.credentials.is_empty()), RESOLVERS, credentials::link),
    offer("loom:net/env", needs("env", |c| !c.env.is_empty()), RESOLVERS, env::link),
    offer("loom:net/http", needs("http", |c| !c.http.is_empty()), RESOLVERS, http::link),
];

const fn offer(
    name: &'static str,
    capability: Option<Capability>,
    kinds: &'static [Kind],
    link: fn(&mut Linker<Guest>) -> wasmtime::Result<()>,
) -> Offer {
    Offer { name, version: "0.1.0", capability, kinds, link }
}

/// Offers a guest what its manifest entitles it to, and nothing else.
pub(crate) fn link(linker: &mut Linker<Guest>, manifest: &Manifest) -> wasmtime::Result<()> {
    wasi::link(linker)?;
    let capabilities = &manifest.capabilities;
    for offer in OFFERS {
        if offer.kinds.contains(&manifest.kind) && offer.capability.is_none_or(|c| c.is_in(capabilities)) {
            (offer.link)(linker)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! What guests may call: one file per interface.

pub(crate) mod context;
pub(crate) mod events;
pub(crate) mod job;
pub(crate) mod log;
pub(crate) mod process;
pub(crate) mod types;
pub(crate) mod wasi;
pub(crate) mod workspace;

use wasmtime::component::{HasSelf, Linker};

use crate::bindings::loom;
use crate::guest::Guest;
use crate::interface::Needs;
use crate::manifest::Capabilities;

/// Offers a guest what its capabilities entitle it to, and nothing else.
pub(crate) fn link(linker: &mut Linker<Guest>, capabilities: &Capabilities) -> wasmtime::Result<()> {
    wasi::link(linker)?;
    loom::host::types::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    loom::host::log::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    loom::host::events::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    loom::host::context::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    loom::host::job::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    if Needs::Exec.granted(capabilities) {
        loom::exec::process::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    }
    if Needs::Workspace.granted(capabilities) {
        loom::workspace::workspace::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    }
    Ok(())
}

//! `loom:host/types`: its one resource. The types themselves stand in [`crate::types`], where all may name them.

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use crate::guest::Guest;
use crate::types::bindings::loom::host::types::{self as wit, Error, Host, HostOutputSink};
use crate::types::{Failure, Sink};

/// The part of a guest that the functions work on.
pub(crate) struct View<'a> {
    call: u64,
    table: &'a mut ResourceTable,
}

struct Types;

impl HasData for Types {
    type Data<'a> = View<'a>;
}

/// Offers the interface to guests.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wit::add_to_linker::<_, Types>(linker, |guest| View { call: guest.call, table: &mut guest.table })
}

impl Host for View<'_> {
    fn convert_error(&mut self, failure: Failure) -> wasmtime::Result<Error> {
        failure.for_guest()
    }
}

impl HostOutputSink for View<'_> {
    async fn line(&mut self, sink: Resource<Sink>, text: String) -> Result<(), Failure> {
        let output = self.table.get(&sink)?.open(self.call)?;
        // It waits where too much output is on its way.
        tokio::task::spawn_blocking(move || output.line(&text)).await?;
        Ok(())
    }

    fn drop(&mut self, sink: Resource<Sink>) -> wasmtime::Result<()> {
        self.table.delete(sink)?;
        Ok(())
    }
}

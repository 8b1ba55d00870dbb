//! `loom:host/context`.

use wasmtime::component::{HasData, Linker};

use self::wit::loom::host::context::{self, Host};
use crate::guest::{Guest, Kept, OwnJob};
use crate::types::{ErrorKind, Failure, error};

mod wit {
    wasmtime::component::bindgen!({
        path: "../../wit",
        interfaces: "import loom:host/context@0.1.0;",
        imports: { default: trappable },
        with: { "loom:host/types": crate::types::wit },
        trappable_error_type: { "loom:host/types.error" => crate::types::Failure },
    });
}

/// The part of a guest that the functions work on.
pub(crate) struct View<'a> {
    job: &'a OwnJob,
    kept: &'a Kept,
}

struct Context;

impl HasData for Context {
    type Data<'a> = View<'a>;
}

/// Offers the interface to guests.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    context::add_to_linker::<_, Context>(linker, |guest| View { job: &guest.job, kept: &guest.kept })
}

impl Host for View<'_> {
    fn cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.job.get()?.cancel.is_cancelled())
    }

    fn get_state(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.kept.get(&key))
    }

    fn set_state(&mut self, key: String, value: Vec<u8>) -> Result<(), Failure> {
        if self.kept.set(key, value) {
            return Ok(());
        }
        Err(error(ErrorKind::Invalid, "STATE_TOO_LARGE", "a plugin may keep 1 MiB for a job").into())
    }
}

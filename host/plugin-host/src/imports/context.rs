//! `loom:host/context`.

use crate::bindings::loom::host::context::Host;
use crate::bindings::loom::host::types::{Error, ErrorKind};
use crate::guest::Guest;
use crate::imports::types::error;

impl Host for Guest {
    fn cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.job()?.cancel.is_cancelled())
    }

    fn get_state(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.kept.get(&key))
    }

    fn set_state(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        if self.kept.set(key, value) {
            return Ok(Ok(()));
        }
        Ok(Err(error(ErrorKind::Invalid, "STATE_TOO_LARGE", "a plugin may keep 1 MiB for a job")))
    }
}

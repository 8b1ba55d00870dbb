//! `loom:net/env`.

use std::os::unix::ffi::OsStrExt as _;

use crate::bindings::loom::host::types::Error;
use crate::bindings::loom::net::env::Host;
use crate::grant;
use crate::guest::Guest;

impl Host for Guest {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        Ok(grant::variable(&self.plugin, &self.config, &name)
            .map(|()| self.config.variable(&name).map(|value| value.as_bytes().to_vec())))
    }
}

//! `loom:host/config`.

use crate::bindings::loom::host::config::Host;
use crate::guest::Guest;

impl Host for Guest {
    fn get(&mut self) -> wasmtime::Result<String> {
        Ok(serde_json::to_string(&self.config.settings)?)
    }
}

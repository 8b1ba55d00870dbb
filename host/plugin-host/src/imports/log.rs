//! `loom:host/log`.

use crate::bindings::loom::host::log::Host;
use crate::bindings::loom::host::types::Level;
use crate::guest::Guest;

impl Host for Guest {
    fn log(&mut self, level: Level, target: String, message: String) -> wasmtime::Result<()> {
        self.flood.log(target.len() + message.len())?;
        let Some(message) = self.loggable(&message) else { return Ok(()) };
        let plugin = self.plugin.reference.name.as_str();
        match level {
            Level::Trace => tracing::trace!(plugin, target, "{message}"),
            Level::Debug => tracing::debug!(plugin, target, "{message}"),
            Level::Info => tracing::info!(plugin, target, "{message}"),
            Level::Warn => tracing::warn!(plugin, target, "{message}"),
            Level::Error => tracing::error!(plugin, target, "{message}"),
        }
        Ok(())
    }
}

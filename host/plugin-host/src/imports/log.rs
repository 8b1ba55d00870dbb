//! `loom:host/log`.

use wasmtime::component::{HasData, Linker};

use self::wit::loom::host::log::{self, Host};
use crate::guest::{Guest, OwnJob};
use crate::info::PluginInfo;
use crate::limits::Flood;
use crate::types::Level;

mod wit {
    wasmtime::component::bindgen!({
        path: "../../wit",
        interfaces: "import loom:host/log@0.1.0;",
        imports: { default: trappable },
        with: { "loom:host/types": crate::types::wit },
    });
}

/// The part of a guest that the functions work on.
pub(crate) struct View<'a> {
    plugin: &'a PluginInfo,
    job: &'a OwnJob,
    flood: &'a mut Flood,
}

struct Log;

impl HasData for Log {
    type Data<'a> = View<'a>;
}

/// Offers the interface to guests.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    log::add_to_linker::<_, Log>(linker, |guest| View {
        plugin: &guest.plugin,
        job: &guest.job,
        flood: &mut guest.flood,
    })
}

impl Host for View<'_> {
    fn log(&mut self, level: Level, target: String, message: String) -> wasmtime::Result<()> {
        self.flood.log(target.len() + message.len())?;
        // What a guest without a job logs, nobody may see.
        let Some(job) = self.job.if_any() else { return Ok(()) };
        let message = job.redactor.text(&message);
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

//! `loom:host/config`.

use wasmtime::component::{HasData, Linker};

use self::wit::loom::host::config::{self, Host};
use crate::config::PluginConfig;
use crate::guest::Guest;

mod wit {
    wasmtime::component::bindgen!({
        path: "../../wit",
        interfaces: "import loom:host/config@0.1.0;",
        imports: { default: trappable },
    });
}

/// The part of a guest that the functions work on.
pub(crate) struct View<'a> {
    config: &'a PluginConfig,
}

struct Config;

impl HasData for Config {
    type Data<'a> = View<'a>;
}

/// Offers the interface to guests.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    config::add_to_linker::<_, Config>(linker, |guest| View { config: &guest.config })
}

impl Host for View<'_> {
    fn get(&mut self) -> wasmtime::Result<String> {
        Ok(serde_json::to_string(&self.config.settings)?)
    }
}

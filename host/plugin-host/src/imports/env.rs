//! `loom:net/env`.

use std::os::unix::ffi::OsStrExt as _;

use wasmtime::component::{HasData, Linker};

use self::wit::loom::net::env::{self, Host};
use crate::config::PluginConfig;
use crate::grant;
use crate::guest::Guest;
use crate::info::PluginInfo;
use crate::types::Failure;

mod wit {
    wasmtime::component::bindgen!({
        path: "../../wit",
        interfaces: "import loom:net/env@0.1.0;",
        imports: { default: trappable },
        with: { "loom:host/types": crate::types::wit },
        trappable_error_type: { "loom:host/types.error" => crate::types::Failure },
    });
}

/// The part of a guest that the functions work on.
pub(crate) struct View<'a> {
    plugin: &'a PluginInfo,
    config: &'a PluginConfig,
}

struct Env;

impl HasData for Env {
    type Data<'a> = View<'a>;
}

/// Offers the interface to guests.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    env::add_to_linker::<_, Env>(linker, |guest| View { plugin: &guest.plugin, config: &guest.config })
}

impl Host for View<'_> {
    fn get(&mut self, name: String) -> Result<Option<Vec<u8>>, Failure> {
        grant::variable(self.plugin, self.config, &name)?;
        Ok(self.config.variable(&name).map(|value| value.as_bytes().to_vec()))
    }
}

//! `loom:credentials`.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use wasmtime::component::{HasData, Linker};

use self::wit::loom::credentials::credentials::{self, Host};
use crate::config::{Credential, PluginConfig};
use crate::grant;
use crate::guest::Guest;
use crate::info::PluginInfo;
use crate::types::{ErrorKind, Failure, error};

mod wit {
    wasmtime::component::bindgen!({
        path: "../../wit",
        interfaces: "import loom:credentials/credentials@0.1.0;",
        imports: { default: async | trappable },
        with: { "loom:host/types": crate::types::wit },
        trappable_error_type: { "loom:host/types.error" => crate::types::Failure },
    });
}

/// Bytes of a key file at most.
const KEY_FILE: u64 = 16 << 20;

/// The part of a guest that the functions work on.
pub(crate) struct View<'a> {
    plugin: &'a PluginInfo,
    config: &'a PluginConfig,
}

struct Credentials;

impl HasData for Credentials {
    type Data<'a> = View<'a>;
}

/// Offers the interface to guests.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    credentials::add_to_linker::<_, Credentials>(linker, |guest| View {
        plugin: &guest.plugin,
        config: &guest.config,
    })
}

impl Host for View<'_> {
    async fn get(&mut self, slot: String, owner: Option<String>) -> Result<Option<Vec<u8>>, Failure> {
        grant::credential(self.plugin, &slot)?;
        let Some(credential) = self.config.credentials.get(&(slot, owner)).cloned() else {
            return Ok(None);
        };
        let (Credential::Variable(variable) | Credential::FileIn(variable)) = &credential;
        let value = self.config.variable(variable).filter(|value| !value.is_empty()).cloned();
        let Some(value) = value else {
            let message = format!("the environment variable `{variable}` is not set");
            return Err(error(ErrorKind::Unavailable, "VARIABLE_NOT_SET", message).into());
        };
        match credential {
            Credential::Variable(_) => Ok(Some(value.as_bytes().to_vec())),
            Credential::FileIn(variable) => {
                let read = tokio::task::spawn_blocking(move || read_key_file(Path::new(&value))).await?;
                Ok(Some(read.map_err(|why| {
                    // Not its path: that is masked, as all that unlocks vaults is.
                    let message =
                        format!("the key file that the environment variable `{variable}` names {why}");
                    error(ErrorKind::Unavailable, "KEY_FILE", message)
                })?))
            }
        }
    }
}

fn read_key_file(path: &Path) -> Result<Vec<u8>, String> {
    let not_read = |error: std::io::Error| format!("cannot be read: {}", error.kind());
    let metadata = fs_err::metadata(path).map_err(not_read)?;
    if !metadata.is_file() {
        return Err("is no file".to_owned());
    }
    if metadata.len() > KEY_FILE {
        return Err(format!("is larger than {} MiB", KEY_FILE >> 20));
    }
    fs_err::read(path).map_err(not_read)
}

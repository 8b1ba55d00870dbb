//! `loom:credentials`.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::bindings::loom::credentials::credentials::Host;
use crate::bindings::loom::host::types::{Error, ErrorKind};
use crate::config::Credential;
use crate::grant;
use crate::guest::Guest;
use crate::imports::types::error;

/// Bytes of a key file at most.
const KEY_FILE: u64 = 16 << 20;

impl Host for Guest {
    async fn get(
        &mut self,
        slot: String,
        owner: Option<String>,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        if let Err(error) = grant::credential(&self.plugin, &slot) {
            return Ok(Err(error));
        }
        let Some(credential) = self.config.credentials.get(&(slot, owner)).cloned() else {
            return Ok(Ok(None));
        };
        let (Credential::Variable(variable) | Credential::FileIn(variable)) = &credential;
        let value = self.config.variable(variable).filter(|value| !value.is_empty()).cloned();
        let Some(value) = value else {
            let message = format!("the environment variable `{variable}` is not set");
            return Ok(Err(error(ErrorKind::Unavailable, "VARIABLE_NOT_SET", message)));
        };
        Ok(match credential {
            Credential::Variable(_) => Ok(Some(value.as_bytes().to_vec())),
            Credential::FileIn(variable) => {
                let read = tokio::task::spawn_blocking(move || read_key_file(Path::new(&value))).await?;
                read.map(Some).map_err(|why| {
                    // Not its path: that is masked, as all that unlocks vaults is.
                    let message =
                        format!("the key file that the environment variable `{variable}` names {why}");
                    error(ErrorKind::Unavailable, "KEY_FILE", message)
                })
            }
        })
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

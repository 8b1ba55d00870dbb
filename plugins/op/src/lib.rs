//! Finds secrets in 1Password, through the REST interface of a Connect server:
//! `op://<vault>/<item>[/<section>]/<field>`. Vaults and items are named by title or id, sections and fields by label or
//! id; as in 1Password's own references, case does not count.

mod connect;
mod reference;

use std::collections::BTreeMap;

use loom_sdk::{Error, ErrorKind, Result, SecretResolver, config, credentials};
use serde::Deserialize;

use crate::connect::{Connect, Item, Named};
use crate::reference::Reference;

#[derive(Default)]
struct OnePassword {
    connect: Option<Connect>,
    vaults: Option<Vec<Named>>,
    /// Items that were fetched, by vault and item as the references name them.
    items: BTreeMap<(String, String), Item>,
}

loom_sdk::export_secret_resolver!(OnePassword);

impl SecretResolver for OnePassword {
    fn resolve(&mut self, reference: &str) -> Result<Vec<u8>> {
        let reference = Reference::parse(reference)?;
        let item = self.item(&reference)?;
        Ok(item.field(&reference)?.as_bytes().to_vec())
    }
}

impl OnePassword {
    fn item(&mut self, reference: &Reference<'_>) -> Result<&Item> {
        let key = (reference.vault.to_owned(), reference.item.to_owned());
        if !self.items.contains_key(&key) {
            let connect = match self.connect.take() {
                Some(connect) => connect,
                None => configured()?,
            };
            let connect = self.connect.insert(connect);
            let vaults = match self.vaults.take() {
                Some(vaults) => vaults,
                None => connect.vaults()?,
            };
            let vaults = self.vaults.insert(vaults);
            let vault = connect::only("vault", reference.vault, vaults)?;
            let item = connect.item(&vault.id, reference)?;
            self.items.insert(key.clone(), item);
        }
        self.items.get(&key).ok_or_else(|| connect::not_found("item", reference.item))
    }
}

/// What the host says of the user's configuration.
#[derive(Deserialize)]
struct Settings {
    connect_host: Option<String>,
    service_account_token_variable: String,
}

fn configured() -> Result<Connect> {
    let settings: Settings = serde_json::from_str(&config::json())?;
    let unavailable =
        |message: String| Error::new(ErrorKind::Unavailable, "SECRETS_PROVIDER_UNAVAILABLE", message);
    let hint =
        "set OP_CONNECT_HOST to the address of a 1Password Connect server and OP_CONNECT_TOKEN to its token";
    let Some(host) = settings.connect_host else {
        let message = match credentials::get("service-account-token")? {
            Some(_) => format!(
                "the service account token in `{}` cannot be used: 1Password is read through a Connect server only",
                settings.service_account_token_variable
            ),
            None => "no 1Password Connect server is configured".to_owned(),
        };
        return Err(unavailable(message).with_hint(hint));
    };
    let Some(token) = credentials::get("connect-token")? else {
        return Err(
            unavailable("OP_CONNECT_HOST is set, but OP_CONNECT_TOKEN is not".to_owned()).with_hint(hint)
        );
    };
    let token = String::from_utf8(token)
        .map_err(|_| unavailable("the token in OP_CONNECT_TOKEN is not text".to_owned()))?;
    Ok(Connect::new(&host, token))
}

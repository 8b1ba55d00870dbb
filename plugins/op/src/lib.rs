//! Finds secrets in 1Password, through the REST interface of a Connect server:
//! `op://<vault>/<item>[/<section>]/<field>`. Vaults and items are named by title or id, sections and fields by label or
//! id; as in 1Password's own references, case does not count, but in an item's title, which the server compares.

mod connect;
mod reference;

use std::collections::BTreeMap;

use loom_sdk::{Error, ErrorKind, Result, SecretResolver, config, credentials};
use serde::Deserialize;
use zeroize::Zeroizing;

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
    if !is_address(&host) {
        let message = "OP_CONNECT_HOST is not the address of a server".to_owned();
        return Err(unavailable(message)
            .with_hint("write http:// or https:// and a host, without a user name, a query or a fragment"));
    }
    let token = Zeroizing::new(token);
    match str::from_utf8(&token) {
        Ok(token) if !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(Connect::new(&host, token))
        }
        _ => {
            let message =
                "OP_CONNECT_TOKEN holds what is in no token: white space, or other than ASCII".to_owned();
            Err(unavailable(message))
        }
    }
}

/// Whether requests can be sent to `host`, and it holds nothing that is not to be shown.
fn is_address(host: &str) -> bool {
    let place = host.strip_prefix("https://").or_else(|| host.strip_prefix("http://")).unwrap_or_default();
    let name = place.split('/').next().unwrap_or_default();
    let plain = |b: u8| b.is_ascii_graphic() && !b"\"#<>?@\\^`{|}".contains(&b);
    !name.is_empty() && !name.starts_with(':') && place.bytes().all(plain)
}

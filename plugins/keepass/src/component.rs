//! The component: what the host asks, answered with the other modules.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use loom_sdk::{Error, ErrorKind, Item, Result, SecretResolver, VaultAdmin, config, credentials, files};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::admin::{self, AdminError};
use crate::credentials::Credentials;
use crate::reference::{Field, Reference};
use crate::vault::{self, FieldError, FindError, OpenError, Vault};

/// Bytes of memory that opening a vault may take: what the manifest asks for, less what the component takes anyway.
const MEMORY: u64 = 1152 << 20;

#[derive(Default)]
struct KeePass {
    /// Every vault that was opened: a key is derived once.
    vaults: BTreeMap<String, Vault>,
    /// What could not be opened is tried again when its file has changed.
    failed: BTreeMap<String, Failed>,
}

loom_sdk::export_vault!(KeePass);

/// What the host says of the user's configuration.
#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    vaults: BTreeMap<String, VaultSettings>,
}

#[derive(Deserialize)]
struct VaultSettings {
    /// The alias as it stands in names of variables.
    key: String,
    path: Option<String>,
}

/// A vault that could not be opened.
struct Failed {
    database: Vec<u8>,
    error: Error,
}

/// What locks a vault, as the host hands it over.
struct Keys {
    password: Option<Zeroizing<Vec<u8>>>,
    keyfile: Option<Zeroizing<Vec<u8>>>,
}

impl SecretResolver for KeePass {
    fn open(&mut self, references: &[String]) {
        for reference in references.iter().filter_map(|reference| reference.parse::<Reference>().ok()) {
            // What is wrong is told to who asks for a value.
            let _ = self.vault(&reference.alias);
        }
    }

    fn resolve(&mut self, reference: &str) -> Result<Vec<u8>> {
        let reference: Reference = reference.parse().map_err(|error| {
            Error::new(
                ErrorKind::Invalid,
                "SECRETS_REF_INVALID",
                format!("the reference is not right: {error}"),
            )
            .with_hint("write keepass://<alias>#<entry path>:<field>")
        })?;
        let entry = self.vault(&reference.alias)?.find(&reference.entry_path).map_err(|error| {
            let error = not_found(&reference.alias, error);
            error.with_hint(
                "groups and title are joined by `/`; the end of the path is enough where it is unique",
            )
        })?;
        let value = entry.field(&reference.field, now()).map_err(|error| match error {
            FieldError::Missing { .. } => not_found(&reference.alias, error),
            FieldError::Elsewhere { .. } | FieldError::Otp { .. } => {
                unavailable(format!("the vault `{}`: {error}", reference.alias))
            }
        })?;
        Ok(value.to_vec())
    }
}

impl KeePass {
    fn vault(&mut self, alias: &str) -> Result<&Vault> {
        if !self.vaults.contains_key(alias) {
            let (path, database) = read(alias)?;
            if let Some(failed) = self.failed.get(alias).filter(|failed| failed.database == database) {
                return Err(failed.error.clone());
            }
            match open(alias, &path, &database) {
                Ok(vault) => self.vaults.insert(alias.to_owned(), vault),
                Err(error) => {
                    self.failed.insert(alias.to_owned(), Failed { database, error: error.clone() });
                    return Err(error);
                }
            };
        }
        self.vaults.get(alias).ok_or_else(|| unavailable(format!("the vault `{alias}` is not there")))
    }
}

impl VaultAdmin for KeePass {
    fn create_vault(&mut self, vault: &str, replace: bool) -> Result<()> {
        let path = path(vault)?;
        if !replace && files::exists(&path)? {
            let message = format!("there is a file at {path} already");
            return Err(Error::new(ErrorKind::Conflict, "VAULT_EXISTS", message).with_hint(
                "--force replaces it, and all that is in it; `vault update` changes what unlocks it",
            ));
        }
        let keys = Keys::of(vault, "")?;
        let database = admin::create(&keys.credentials(), now()).map_err(|error| refused(vault, error))?;
        files::write(&path, &database)
    }

    fn update_vault(&mut self, vault: &str) -> Result<()> {
        change(vault, |database, old| {
            let new = Keys::of(vault, "new-")?;
            let new = Credentials {
                password: new.password.as_deref().map(Vec::as_slice).or(old.password),
                keyfile: new.keyfile.as_deref().map(Vec::as_slice).or(old.keyfile),
            };
            admin::rotate(database, old, &new, now()).map_err(|error| refused(vault, error))
        })
    }

    fn create_item(&mut self, vault: &str, path: &str, field: &str, value: &[u8]) -> Result<()> {
        let field = named(field)?;
        change(vault, |database, keys| {
            admin::create_item(database, keys, path, &field, value, now())
                .map_err(|error| refused(vault, error))
        })
    }

    fn update_item(&mut self, vault: &str, path: &str, field: &str, value: &[u8]) -> Result<()> {
        let field = named(field)?;
        change(vault, |database, keys| {
            admin::update_item(database, keys, path, &field, value, now())
                .map_err(|error| refused(vault, error))
        })
    }

    fn list_items(&mut self, vault: &str) -> Result<Vec<Item>> {
        let (_, database) = read(vault)?;
        let keys = Keys::of(vault, "")?;
        let items = admin::list(&database, &keys.credentials()).map_err(|error| not_opened(vault, &error))?;
        Ok(items.into_iter().map(|item| Item { path: item.path, fields: item.fields }).collect())
    }
}

impl Keys {
    /// Those of the vault `alias`, in the slots that begin with `prefix`.
    fn of(alias: &str, prefix: &str) -> Result<Self> {
        let get = |slot: &str| match credentials::get_of(&format!("{prefix}{slot}"), alias) {
            Ok(bytes) => Ok(bytes.map(Zeroizing::new)),
            Err(error) => Err(unavailable(format!("the vault `{alias}` cannot be unlocked: {error}"))),
        };
        Ok(Self { password: get("password")?, keyfile: get("keyfile")? })
    }

    fn credentials(&self) -> Credentials<'_> {
        Credentials {
            password: self.password.as_deref().map(Vec::as_slice),
            keyfile: self.keyfile.as_deref().map(Vec::as_slice),
        }
    }
}

/// The place of the vault `alias`.
fn path(alias: &str) -> Result<String> {
    let mut settings: Settings = serde_json::from_str(&config::json())?;
    let vault = settings.vaults.remove(alias);
    let key = vault.as_ref().map_or("<KEY>", |vault| vault.key.as_str()).to_owned();
    vault.and_then(|vault| vault.path).ok_or_else(|| {
        unavailable(format!("no KeePass vault is configured for the alias `{alias}`")).with_hint(format!(
            "set providers.keepass.aliases.\"{alias}\".path in .loom/config.yml, or LOOM_KEEPASS_DB_{key}_PATH"
        ))
    })
}

/// Place and content of the vault `alias`.
fn read(alias: &str) -> Result<(String, Vec<u8>)> {
    let path = path(alias)?;
    match files::read(&path) {
        Ok(database) => Ok((path, database)),
        Err(error) if error.kind() == ErrorKind::Denied => Err(error),
        Err(error) => Err(unavailable(format!("the vault `{alias}` cannot be read: {error}"))),
    }
}

fn open(alias: &str, path: &str, database: &[u8]) -> Result<Vault> {
    let unopened = |error: OpenError| not_opened(alias, &error).with_hint(format!("its file is {path}"));
    let needed = vault::required_memory(database).map_err(unopened)?;
    if needed > MEMORY {
        return Err(unopened(OpenError::Memory { needed, available: MEMORY }));
    }
    let keys = Keys::of(alias, "")?;
    if keys.password.is_none() && keys.keyfile.is_none() {
        let message = format!("nothing is configured that unlocks the vault `{alias}`");
        return Err(unavailable(message).with_hint(format!(
            "set passwordEnv or keyfileEnv of providers.keepass.aliases.\"{alias}\" in .loom/config.yml to the name of an \
             environment variable"
        )));
    }
    let Credentials { password, keyfile } = keys.credentials();
    Vault::open(database, password, keyfile).map_err(unopened)
}

/// Changes the file of the vault `alias`.
fn change(alias: &str, change: impl FnOnce(&[u8], &Credentials<'_>) -> Result<Vec<u8>>) -> Result<()> {
    let (path, database) = read(alias)?;
    let keys = Keys::of(alias, "")?;
    let changed = change(&database, &keys.credentials())?;
    files::write(&path, &changed)
}

fn named(field: &str) -> Result<Field> {
    field
        .parse()
        .map_err(|error| Error::new(ErrorKind::Invalid, "VAULT_FIELD", format!("`{field}`: {error}")))
}

fn unavailable(message: String) -> Error {
    Error::new(ErrorKind::Unavailable, "SECRETS_PROVIDER_UNAVAILABLE", message)
}

fn not_opened(alias: &str, error: &OpenError) -> Error {
    unavailable(format!("the vault `{alias}` cannot be opened: {error}"))
}

fn not_found(alias: &str, error: impl std::error::Error) -> Error {
    Error::new(ErrorKind::NotFound, "SECRETS_REF_NOT_FOUND", format!("the vault `{alias}`: {error}"))
}

/// What keeps a vault from being changed.
fn refused(alias: &str, error: AdminError) -> Error {
    let message = format!("the vault `{alias}`: {error}");
    match error {
        AdminError::Open(error) => not_opened(alias, &error),
        AdminError::Exists { .. } => Error::new(ErrorKind::Conflict, "VAULT_ITEM_EXISTS", message)
            .with_hint("`item update` changes it"),
        AdminError::NoField { .. } => Error::new(ErrorKind::NotFound, "VAULT_FIELD_MISSING", message)
            .with_hint("`item create` adds a field to an entry, too"),
        AdminError::Find(FindError::NotFound { .. } | FindError::Ambiguous { .. }) => {
            Error::new(ErrorKind::NotFound, "SECRETS_REF_NOT_FOUND", message)
        }
        AdminError::Credentials(_)
        | AdminError::Path { .. }
        | AdminError::Field { .. }
        | AdminError::Otp(_) => Error::new(ErrorKind::Invalid, "VAULT_INVALID", message),
        AdminError::Save => Error::new(ErrorKind::Failed, "VAULT_NOT_SAVED", message),
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|past| past.as_secs()).unwrap_or_default()
}

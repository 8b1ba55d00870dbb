//! Making and changing vaults: a file's bytes in, a file's bytes out.
//!
//! What is written is KDBX 4.1, whatever was read. A new vault is encrypted with ChaCha20, and its key derived with Argon2id:
//! 64 MiB, 3 passes, 4 lanes, the choice of RFC 9106 (section 4) for where memory is scarce. An older one keeps its own
//! cipher and, from KDBX 4 on, its own key derivation.

use std::time::Duration;

use keepass::config::{DatabaseConfig, DatabaseVersion, InnerCipherConfig, KdfConfig, OuterCipherConfig};
use keepass::db::{Entry as Version, EntryId, GroupId, History, MemoryProtection, Times, Value, fields};
use keepass::{Database, DatabaseKey};

use crate::credentials::{Credentials, CredentialsError};
use crate::otp::{Otp, OtpError};
use crate::reference::Field;
use crate::vault::{FindError, OpenError, Vault};

const GENERATOR: &str = "Loom";
const ROOT: &str = "Root";
/// Bytes.
const ARGON2_MEMORY: u64 = 64 << 20;
const ARGON2_ITERATIONS: u64 = 3;
const ARGON2_LANES: u32 = 4;
/// Older versions of an entry that are kept where the vault does not say; KeePassXC's own default.
const HISTORY_LEN: usize = 10;
/// The last second of the year 9999. Dates after it have no form that KeePass reads.
const LAST_SECOND: u64 = 253_402_300_799;

/// An entry, without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its full path.
    pub path: String,
    /// The names of its fields as a reference gives them. Standard fields that are empty are left out.
    pub fields: Vec<String>,
}

/// A vault was not made or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// The vault cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new credentials are those of no vault.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// There is no entry to change, or more than one.
    #[error(transparent)]
    Find(#[from] FindError),
    /// There is such a field already.
    #[error("the entry `{path}` has a field `{field}` already")]
    Exists {
        /// The entry's full path.
        path: String,
        /// The field.
        field: String,
    },
    /// There is no such field yet.
    #[error("the entry `{path}` has no field `{field}`")]
    NoField {
        /// The entry's full path.
        path: String,
        /// The field.
        field: String,
    },
    /// A path that no entry can have.
    #[error("`{path}` is no path for an entry: {cause}")]
    Path {
        /// The path.
        path: String,
        /// Why not.
        cause: &'static str,
    },
    /// A field that cannot be set.
    #[error("`{field}` cannot be set: {cause}")]
    Field {
        /// The field.
        field: String,
        /// Why not.
        cause: &'static str,
    },
    /// A value that gives no one-time passwords.
    #[error("`otp` cannot be set: {0}")]
    Otp(#[from] OtpError),
    /// The vault could not be written, for lack of random numbers or of memory.
    #[error("the vault cannot be encrypted")]
    Save,
}

/// Makes an empty vault.
///
/// # Errors
/// There are no credentials.
pub fn create(credentials: &Credentials<'_>, now_unix_seconds: u64) -> Result<Vec<u8>, AdminError> {
    let key = credentials.key()?;
    let mut config = DatabaseConfig::default();
    config.outer_cipher_config = OuterCipherConfig::ChaCha20;
    config.kdf_config = key_derivation(&config);
    let mut database = Database::with_config(config);
    let times = times(now_unix_seconds);
    database.meta.database_name_changed = times.creation;
    database.meta.master_key_changed = times.creation;
    database.meta.settings_changed = times.creation;
    database.meta.memory_protection = Some(MemoryProtection::default());
    database.meta.recyclebin_enabled = Some(true);
    database.meta.history_max_items = isize::try_from(HISTORY_LEN).ok();
    let mut root = database.root_mut();
    root.name = ROOT.to_owned();
    root.times = times;
    save(database, key)
}

/// Encrypts the vault `database`, which opens with `old`, so that it opens with `new` alone.
///
/// # Errors
/// It does not open with `old`, or `new` is empty.
pub fn rotate(
    database: &[u8],
    old: &Credentials<'_>,
    new: &Credentials<'_>,
    now_unix_seconds: u64,
) -> Result<Vec<u8>, AdminError> {
    let key = new.key()?;
    let mut database = open(database, old)?.database;
    database.meta.master_key_changed = times(now_unix_seconds).creation;
    save(database, key)
}

/// Adds `value` as the `field` of the entry at `entry_path`, below the root group. Entry and groups are made as needed. What
/// an entry was becomes an older version of it.
///
/// # Errors
/// The entry has a value in that field, there are several with that full path, no entry can have it, or the field cannot be
/// set.
pub fn create_item(
    database: &[u8],
    credentials: &Credentials<'_>,
    entry_path: &str,
    field: &Field,
    value: &[u8],
    now_unix_seconds: u64,
) -> Result<Vec<u8>, AdminError> {
    let (key, value) = stored(field, value)?;
    let (groups, title) = components(entry_path)?;
    let vault = open(database, credentials)?;
    let existing = vault.at(entry_path)?;
    let mut database = vault.database;
    let times = times(now_unix_seconds);
    if let Some(id) = existing {
        if database.entry(id).is_some_and(|entry| entry.get(&key).is_some_and(|value| !value.is_empty())) {
            return Err(AdminError::Exists { path: entry_path.to_owned(), field: field.to_string() });
        }
        return set(database, credentials, id, &key, value, times);
    }
    let mut group = database.root().id();
    for name in groups {
        group = subgroup(&mut database, group, name, &times).ok_or(AdminError::Save)?;
    }
    let mut group = database.group_mut(group).ok_or(AdminError::Save)?;
    let mut entry = group.add_entry();
    entry.times = times;
    for name in fields::KNOWN_FIELDS {
        entry.set(name, text(name == fields::PASSWORD, ""));
    }
    entry.set(fields::TITLE, text(false, title));
    entry.set(key, value);
    save(database, credentials.key()?)
}

/// Changes `field` of the entry whose full path is `entry_path`. What it was becomes an older version of the entry.
///
/// # Errors
/// There is no entry with that full path, there are several, it has no such field, or the field cannot be set.
pub fn update_item(
    database: &[u8],
    credentials: &Credentials<'_>,
    entry_path: &str,
    field: &Field,
    value: &[u8],
    now_unix_seconds: u64,
) -> Result<Vec<u8>, AdminError> {
    let (key, value) = stored(field, value)?;
    let vault = open(database, credentials)?;
    let id = vault.at(entry_path)?.ok_or_else(|| vault.not_found(entry_path))?;
    // The fields that every entry has need not be written down.
    let is_known = fields::KNOWN_FIELDS.contains(&key.as_str());
    if !is_known && vault.database.entry(id).is_none_or(|entry| entry.get(&key).is_none()) {
        return Err(AdminError::NoField { path: entry_path.to_owned(), field: field.to_string() });
    }
    set(vault.database, credentials, id, &key, value, times(now_unix_seconds))
}

/// Sets what the entry `id` of `database` holds under `key`.
fn set(
    mut database: Database,
    credentials: &Credentials<'_>,
    id: EntryId,
    key: &str,
    value: Value<String>,
    times: Times,
) -> Result<Vec<u8>, AdminError> {
    remember(&mut database, id);
    let mut entry = database.entry_mut(id).ok_or(AdminError::Save)?;
    entry.set(key, value);
    entry.times.last_modification = times.last_modification;
    save(database, credentials.key()?)
}

/// The entries of a vault, sorted by path, with the names of their fields.
///
/// # Errors
/// It does not open with `credentials`.
pub fn list(database: &[u8], credentials: &Credentials<'_>) -> Result<Vec<Item>, OpenError> {
    let vault = open(database, credentials)?;
    let items = vault.entries().into_iter();
    Ok(items.map(|entry| Item { path: entry.path().to_owned(), fields: entry.field_names() }).collect())
}

fn open(database: &[u8], credentials: &Credentials<'_>) -> Result<Vault, OpenError> {
    Vault::open(database, credentials.password, credentials.keyfile)
}

fn save(mut database: Database, key: DatabaseKey) -> Result<Vec<u8>, AdminError> {
    let config = &mut database.config;
    if !matches!(config.version, DatabaseVersion::KDB4(_)) {
        config.kdf_config = key_derivation(&DatabaseConfig::default());
    }
    config.version = DatabaseVersion::KDB4(1);
    config.inner_cipher_config = InnerCipherConfig::ChaCha20;
    database.meta.generator = Some(GENERATOR.to_owned());
    let mut bytes = Vec::new();
    database.save(&mut bytes, key).map_err(|_| AdminError::Save)?;
    Ok(bytes)
}

/// The key derivation of a new vault, with the version of Argon2 that `config` has.
fn key_derivation(config: &DatabaseConfig) -> KdfConfig {
    match config.kdf_config {
        KdfConfig::Argon2 { version, .. } | KdfConfig::Argon2id { version, .. } => KdfConfig::Argon2id {
            iterations: ARGON2_ITERATIONS,
            memory: ARGON2_MEMORY,
            parallelism: ARGON2_LANES,
            version,
        },
        ref other => other.clone(),
    }
}

/// The group `name` in the group `parent`, which is made where there is none. The recycle bin is none.
fn subgroup(database: &mut Database, parent: GroupId, name: &str, times: &Times) -> Option<GroupId> {
    let recycle_bin = database.meta.recyclebin_uuid.map(GroupId::from_uuid);
    let found = database
        .group(parent)?
        .groups()
        .find_map(|group| (group.name == name && Some(group.id()) != recycle_bin).then(|| group.id()));
    if found.is_some() {
        return found;
    }
    let mut parent = database.group_mut(parent)?;
    let mut group = parent.add_group();
    group.name = name.to_owned();
    group.times = times.clone();
    Some(group.id())
}

/// Adds the entry `id` as it is to its older versions. They are kept from the oldest on, as all programs expect; the reader's
/// own way would put the newest in front.
fn remember(database: &mut Database, id: EntryId) {
    let limit = match database.meta.history_max_items {
        None => HISTORY_LEN,
        // Negative: without limit.
        Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let Some(mut entry) = database.entry_mut(id) else {
        return;
    };
    let mut version: Version = entry.clone();
    let mut versions: Vec<Version> =
        version.history.take().map(|history| history.get_entries().clone()).unwrap_or_default();
    versions.push(version);
    let mut history = History::default();
    for version in versions.into_iter().rev().take(limit) {
        history.add_entry(version);
    }
    entry.history = Some(history);
}

/// The key and the value under which the vault holds `value` as `field`.
fn stored(field: &Field, value: &[u8]) -> Result<(String, Value<String>), AdminError> {
    let refused = |cause| AdminError::Field { field: field.to_string(), cause };
    let value = std::str::from_utf8(value).map_err(|_| refused("its value is not valid UTF-8"))?;
    if value.contains(char::REPLACEMENT_CHARACTER) {
        return Err(refused("its value holds U+FFFD, the mark of text that was read wrongly"));
    }
    match field {
        Field::Title => return Err(refused("the title is the last name of the entry's path")),
        Field::Attachment(_) => return Err(refused("attachments are only read")),
        Field::Otp => drop(Otp::from_attribute(value)?),
        Field::Custom(name) if !name.chars().all(is_plain) => {
            return Err(refused("its name holds a control character"));
        }
        _ => {}
    }
    let key = field.key().unwrap_or_default().to_owned();
    let is_protected = matches!(field, Field::Password | Field::Otp | Field::Custom(_));
    Ok((key, text(is_protected, value)))
}

/// `value` as a vault holds it. What XML would change is protected: that is held in base64.
fn text(is_protected: bool, value: &str) -> Value<String> {
    let is_blank = !value.is_empty() && value.trim().is_empty();
    if is_protected || is_blank || !value.chars().all(|char| is_plain(char) || matches!(char, '\t' | '\n')) {
        Value::protected(value)
    } else {
        Value::unprotected(value)
    }
}

/// XML can hold it, and gives it back as it was.
fn is_plain(char: char) -> bool {
    !char.is_control() && !matches!(char, '\u{fffe}' | '\u{ffff}')
}

/// The groups and the title of a new entry.
fn components(path: &str) -> Result<(Vec<&str>, &str), AdminError> {
    let refused = |cause| AdminError::Path { path: path.to_owned(), cause };
    let mut names: Vec<&str> = path.split('/').collect();
    if names.iter().any(|name| name.trim().is_empty()) {
        return Err(refused("it has an empty name in it"));
    }
    if !path.chars().all(is_plain) {
        return Err(refused("it holds a control character"));
    }
    let title = names.pop().unwrap_or_default();
    Ok((names, title))
}

/// All times of what is made at the second `now` since 1970.
fn times(now: u64) -> Times {
    let now = Times::epoch() + Duration::from_secs(now.min(LAST_SECOND));
    let mut times = Times::new();
    times.creation = Some(now);
    times.last_modification = Some(now);
    times.last_access = Some(now);
    times.location_changed = Some(now);
    times.expiry = now;
    times
}

//! An open vault: its entries by path, and their fields.

use std::fmt;

use keepass::Database;
use keepass::db::{EntryId, EntryRef, GroupId, fields};
use keepass::error::{
    CryptographyError, DatabaseFormatError, DatabaseKeyError, DatabaseOpenError, Kdbx3OpenError,
    Kdbx4InnerHeaderError, Kdbx4OpenError,
};
use zeroize::Zeroizing;

use crate::credentials::{Credentials, CredentialsError, Given};
use crate::header::{Header, Kdf};
use crate::otp::{Otp, OtpError};
use crate::reference::Field;

/// The older attributes of KeePassXC (and KeeTrayTOTP) for one-time passwords.
const TOTP_SEED: &str = "TOTP Seed";
const TOTP_SETTINGS: &str = "TOTP Settings";
/// What the reader puts where bytes were no text.
const GARBLED: char = char::REPLACEMENT_CHARACTER;
/// Paths that an error names.
const PATHS_NAMED: usize = 10;
/// How often the bytes of a file are in memory at once while it is opened, as measured. What its content grows to when it
/// was compressed comes on top.
const COPIES: u64 = 6;

/// An open vault.
pub struct Vault {
    pub(crate) database: Database,
    /// Those that count: neither older versions nor what is in the recycle bin.
    places: Vec<Place>,
}

/// Where an entry is.
pub(crate) struct Place {
    pub(crate) id: EntryId,
    /// The names of its groups, from the root group on, and its title, joined by `/`.
    path: String,
    /// Where in `path` each component starts. A name may hold `/`.
    starts: Vec<usize>,
}

/// An entry of an open vault.
pub struct Entry<'a> {
    entry: EntryRef<'a>,
    path: &'a str,
}

/// A vault cannot be opened. No text of these holds anything from within the vault, or of a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is some other file.
    #[error("it is not a KeePass database")]
    NotKeePass,
    /// Bytes are missing at the end.
    #[error("it ends too early: the file was cut short, or is damaged")]
    Truncated,
    /// Bytes are not what was written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// A field of its header has a length that it never has.
    #[error("it is damaged: its header has a wrong {0}")]
    FieldLength(&'static str),
    /// What was decrypted is not as KeePass writes it.
    #[error("its content is not as KeePass writes it, or is damaged; saving it anew with KeePassXC may help")]
    Content,
    /// This reader cannot read it, though others may.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The credentials are not those of the vault.
    #[error("{given}, or the file is damaged")]
    WrongKey {
        /// Which they were.
        given: Given,
    },
    /// The credentials are those of no vault.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// There is too little memory to derive its key.
    #[error("it takes {} MiB of memory to open; {} MiB are available", needed.div_ceil(1 << 20), available >> 20)]
    Memory {
        /// Bytes.
        needed: u64,
        /// Bytes.
        available: u64,
    },
    /// Deriving its key would take many minutes.
    #[error(
        "its key derivation takes too long ({0}); KeePassXC can lower that in the database's security settings"
    )]
    Costly(Kdf),
}

/// A path leads to no entry, or to several.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// To none.
    #[error("no entry has the path `{path}`{}", alike(similar))]
    NotFound {
        /// The path that was looked for.
        path: String,
        /// Full paths of entries that have the same title, but for its case.
        similar: Vec<String>,
    },
    /// To several.
    #[error("`{path}` fits {} entries: {}", candidates.len(), listed(candidates))]
    Ambiguous {
        /// The path that was looked for.
        path: String,
        /// Their full paths.
        candidates: Vec<String>,
    },
}

/// An entry has no such value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// It does not have the field, or the field is empty.
    #[error("the entry `{entry}` has no `{field}`; it has {}", listed(available))]
    Missing {
        /// The entry's full path.
        entry: String,
        /// The field that was looked for.
        field: String,
        /// The fields that it has.
        available: Vec<String>,
    },
    /// The field stands for one of another entry.
    #[error(
        "`{field}` of the entry `{entry}` refers to another entry (`{{REF:`), which is not followed; name that entry"
    )]
    Elsewhere {
        /// The entry's full path.
        entry: String,
        /// The field.
        field: String,
    },
    /// No code can be made.
    #[error("the entry `{entry}` gives no one-time password: {cause}")]
    Otp {
        /// The entry's full path.
        entry: String,
        /// Why.
        cause: OtpError,
    },
}

/// Bytes of memory that opening the file `database` takes, from its length and what its header says; nothing is decrypted.
/// How far its content was compressed is not known before, and only counts for attachments of many MiB.
///
/// # Errors
/// It is no vault that can be opened, whatever the credentials.
pub fn required_memory(database: &[u8]) -> Result<u64, OpenError> {
    let copies = (database.len() as u64).saturating_mul(COPIES);
    Ok(Header::read(database)?.kdf.memory().max(copies))
}

/// How the file `database` derives its key, for who wants to say why opening it takes so long.
///
/// # Errors
/// It is no vault that can be opened, whatever the credentials.
pub fn key_derivation(database: &[u8]) -> Result<Kdf, OpenError> {
    Ok(Header::read(database)?.kdf)
}

impl Vault {
    /// Opens the file `database`: KDBX 3.1, 4.0 and 4.1. Takes as long as its key derivation does.
    ///
    /// # Errors
    /// It is no vault, is damaged, or does not open with these credentials.
    ///
    /// # Panics
    /// The reader of `keepass` 0.17 panics at nonsense that only a holder of the key can write: a time of fewer than 8 bytes
    /// or outside of the calendar, or an older version of an entry under another UUID than the entry's.
    pub fn open(database: &[u8], password: Option<&[u8]>, keyfile: Option<&[u8]>) -> Result<Self, OpenError> {
        let credentials = Credentials { password, keyfile };
        let key = credentials.key()?;
        let header = Header::read(database)?;
        let database = Database::parse(database, key)
            .map_err(|error| refusal(error, header.is_version_3, credentials.given()))?;
        let vault = Self::new(database);
        // Nothing but the encryption protects a header of version 3, and some programs write protected values in an order
        // that the reader does not follow. Either way values would come out wrong.
        if vault.is_garbled() {
            return Err(OpenError::Damaged(
                "its protected values come out garbled; saving it anew with KeePassXC may help",
            ));
        }
        Ok(vault)
    }

    pub(crate) fn new(database: Database) -> Self {
        let places = places(&database);
        Self { database, places }
    }

    /// Finds an entry by the end of its path: `db` and `test/db` both find `services/test/db`. Only whole names fit.
    ///
    /// The full path, from below the root group, wins over the end of a longer one. Next comes the full path with the root
    /// group's name in front.
    ///
    /// # Errors
    /// None or several entries fit.
    pub fn find(&self, entry_path: &str) -> Result<Entry<'_>, FindError> {
        let fits = |place: &&Place| place.starts.iter().any(|&start| place.path_from(start) == entry_path);
        let full: Vec<&Place> = self.places.iter().filter(|place| place.full_path() == entry_path).collect();
        let rooted = || self.places.iter().filter(|place| place.path == entry_path).collect();
        let ending = || self.places.iter().filter(fits).collect();

        let mut found = full;
        if found.is_empty() {
            found = rooted();
        }
        if found.is_empty() {
            found = ending();
        }
        match found.as_slice() {
            [] => Err(self.not_found(entry_path)),
            [place] => self.entry(place).ok_or_else(|| self.not_found(entry_path)),
            several => Err(ambiguous(entry_path, several)),
        }
    }

    /// All entries, sorted by path.
    pub fn entries(&self) -> Vec<Entry<'_>> {
        let mut entries: Vec<Entry<'_>> = self.places.iter().filter_map(|place| self.entry(place)).collect();
        entries.sort_by(|a, b| a.path.cmp(b.path));
        entries
    }

    /// The entry whose full path is `entry_path`, where there is one.
    pub(crate) fn at(&self, entry_path: &str) -> Result<Option<EntryId>, FindError> {
        let found: Vec<&Place> = self.places.iter().filter(|place| place.full_path() == entry_path).collect();
        match found.as_slice() {
            [] => Ok(None),
            [place] => Ok(Some(place.id)),
            several => Err(ambiguous(entry_path, several)),
        }
    }

    pub(crate) fn not_found(&self, path: &str) -> FindError {
        let title = path.rsplit('/').next().unwrap_or(path).to_lowercase();
        let is_similar = |place: &&Place| place.path_from(place.title_start()).to_lowercase() == title;
        let similar = self.places.iter().filter(is_similar).map(|place| place.full_path().to_owned());
        FindError::NotFound { path: path.to_owned(), similar: similar.collect() }
    }

    fn entry<'a>(&'a self, place: &'a Place) -> Option<Entry<'a>> {
        Some(Entry { entry: self.database.entry(place.id)?, path: place.full_path() })
    }

    fn is_garbled(&self) -> bool {
        self.database.iter_all_entries().any(|entry| {
            let history = entry.history.iter().flat_map(|history| history.get_entries());
            let older = history.flat_map(|entry| entry.fields.values());
            let mut values = entry.fields.values().chain(older);
            values.any(|value| value.is_protected() && value.contains(GARBLED))
        })
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault of {} entries", self.places.len())
    }
}

impl Entry<'_> {
    /// Its full path: the names of its groups below the root group, and its title.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path
    }

    /// The value of `field` at the second `now_unix_seconds` since 1970, which only matters for a one-time password.
    ///
    /// # Errors
    /// The entry has no such field, or it is a standard one and empty.
    pub fn field(&self, field: &Field, now_unix_seconds: u64) -> Result<Zeroizing<Vec<u8>>, FieldError> {
        let value = match field {
            Field::Otp => return self.otp(now_unix_seconds),
            Field::Attachment(name) => {
                self.entry.attachment_by_name(name).map(|attachment| attachment.data.to_vec())
            }
            Field::Custom(name) => self.text(name)?.map(Into::into),
            standard => {
                let key = standard.key().unwrap_or_default();
                self.text(key)?.filter(|value| !value.is_empty()).map(Into::into)
            }
        };
        value.map(Zeroizing::new).ok_or_else(|| self.missing(field))
    }

    /// The names of its fields, as a reference gives them. Standard fields that are empty are left out.
    #[must_use]
    pub fn field_names(&self) -> Vec<String> {
        let has_value = |key| self.entry.get(key).is_some_and(|value| !value.is_empty());
        let standard = Field::STANDARD.into_iter().filter(|(_, key)| has_value(key));
        let mut names: Vec<String> = standard.map(|(field, _)| field.to_string()).collect();
        if self.entry.get(fields::OTP).or(self.entry.get(TOTP_SEED)).is_some() {
            names.push(Field::Otp.to_string());
        }
        let is_custom = |key: &&String| *key != fields::OTP && !fields::KNOWN_FIELDS.contains(&key.as_str());
        let mut custom: Vec<String> = self.entry.fields.keys().filter(is_custom).cloned().collect();
        custom.sort();
        names.append(&mut custom);
        let attachments = self.entry.attachments_named();
        let mut attachments: Vec<String> =
            attachments.map(|(name, _)| Field::Attachment(name.to_owned()).to_string()).collect();
        attachments.sort();
        names.append(&mut attachments);
        names
    }

    fn text(&self, key: &str) -> Result<Option<&str>, FieldError> {
        let value = self.entry.get(key);
        if value.is_some_and(|value| value.starts_with("{REF:") && value.ends_with('}')) {
            return Err(FieldError::Elsewhere { entry: self.path.to_owned(), field: key.to_owned() });
        }
        Ok(value)
    }

    fn otp(&self, now: u64) -> Result<Zeroizing<Vec<u8>>, FieldError> {
        let otp = match (self.text(fields::OTP)?, self.text(TOTP_SEED)?) {
            (Some(attribute), _) => Otp::from_attribute(attribute),
            (None, Some(seed)) => Otp::from_seed(seed, self.text(TOTP_SETTINGS)?),
            (None, None) => return Err(self.missing(&Field::Otp)),
        };
        otp.and_then(|otp| otp.code(now))
            .map_err(|cause| FieldError::Otp { entry: self.path.to_owned(), cause })
    }

    fn missing(&self, field: &Field) -> FieldError {
        FieldError::Missing {
            entry: self.path.to_owned(),
            field: field.to_string(),
            available: self.field_names(),
        }
    }
}

impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry `{}`", self.path)
    }
}

impl Place {
    fn path_from(&self, start: usize) -> &str {
        self.path.get(start..).unwrap_or_default()
    }

    /// Without the root group's name.
    fn full_path(&self) -> &str {
        self.path_from(self.starts.get(1).copied().unwrap_or_default())
    }

    fn title_start(&self) -> usize {
        self.starts.last().copied().unwrap_or_default()
    }
}

/// Where the entries are that are not in the recycle bin.
fn places(database: &Database) -> Vec<Place> {
    let recycle_bin = database.meta.recyclebin_uuid.map(GroupId::from_uuid);
    let mut places = Vec::new();
    // A list of what is still to be looked at, not recursion: groups may be nested deeply.
    let mut groups = vec![(database.root().id(), String::new(), Vec::new())];
    while let Some((id, mut path, mut starts)) = groups.pop() {
        let Some(group) = database.group(id).filter(|group| Some(group.id()) != recycle_bin) else {
            continue;
        };
        starts.push(path.len());
        path.push_str(&group.name);
        path.push('/');
        for entry in group.entries() {
            let mut starts = starts.clone();
            starts.push(path.len());
            let path = format!("{path}{}", entry.get_title().unwrap_or_default());
            places.push(Place { id: entry.id(), path, starts });
        }
        groups.extend(group.group_ids().map(|id| (id, path.clone(), starts.clone())));
    }
    places
}

fn ambiguous(path: &str, found: &[&Place]) -> FindError {
    let mut candidates: Vec<String> = found.iter().map(|place| place.full_path().to_owned()).collect();
    candidates.sort();
    FindError::Ambiguous { path: path.to_owned(), candidates }
}

/// What the reader says, in our words: its own texts may hold what it read.
fn refusal(error: DatabaseOpenError, is_version_3: bool, given: Given) -> OpenError {
    use DatabaseFormatError::{Kdbx3, Kdbx4};

    match error {
        DatabaseOpenError::Key(DatabaseKeyError::IncorrectKey) => OpenError::WrongKey { given },
        // With a wrong key, decryption gives noise, and noise ends as it should not.
        DatabaseOpenError::Cryptography(CryptographyError::InvalidPadding(_)) if is_version_3 => {
            OpenError::WrongKey { given }
        }
        DatabaseOpenError::Cryptography(_) => OpenError::Damaged("it does not decrypt"),
        DatabaseOpenError::Io(_) => OpenError::Damaged("it does not decompress"),
        DatabaseOpenError::UnexpectedEof => OpenError::Truncated,
        DatabaseOpenError::Format(Kdbx3(Kdbx3OpenError::BlockHashMismatch(_)))
        | DatabaseOpenError::Format(Kdbx4(Kdbx4OpenError::BlockStream(_))) => {
            OpenError::Damaged("a block does not match its checksum")
        }
        DatabaseOpenError::Format(Kdbx4(Kdbx4OpenError::InnerHeader(
            Kdbx4InnerHeaderError::InnerCipherConfig(_),
        ))) => OpenError::Unsupported("its inner cipher".to_owned()),
        _ => OpenError::Content,
    }
}

/// The names in code quotes, the first few of them.
fn listed(names: &[String]) -> String {
    let mut text =
        names.iter().take(PATHS_NAMED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if let Some(more) = names.len().checked_sub(PATHS_NAMED).filter(|&more| 0 < more) {
        text.push_str(&format!(" and {more} more"));
    }
    if text.is_empty() { "nothing".to_owned() } else { text }
}

fn alike(similar: &[String]) -> String {
    if similar.is_empty() { String::new() } else { format!("; alike: {}", listed(similar)) }
}

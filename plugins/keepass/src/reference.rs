//! `keepass://<alias>#<entry path>:<field>`: which vault, which entry, which of its fields.

use std::fmt;
use std::str::FromStr;

use keepass::db::fields;

const SCHEME: &str = "keepass://";
const ATTACHMENT: &str = "attachment/";

/// A reference to one field of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The vault's name, all before the first `#`. May hold `/`.
    pub alias: String,
    /// Groups and title, joined by `/`. Taken as it is typed: a title may hold `/`, `:` and `#`.
    pub entry_path: String,
    /// The field, all after the last `:`.
    pub field: Field,
}

/// A field of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// `title`, in any case.
    Title,
    /// `username`, in any case.
    Username,
    /// `password`, in any case.
    Password,
    /// `url`, in any case.
    Url,
    /// `notes`, in any case.
    Notes,
    /// `otp`: the one-time password of the moment.
    Otp,
    /// `attachment/<name>`: a file's bytes.
    Attachment(String),
    /// Any other, by its exact name.
    Custom(String),
}

/// A reference does not have its shape. The text is not repeated: somebody may have typed the secret itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It starts with something else.
    #[error("a reference to a KeePass vault starts with `{SCHEME}`")]
    Scheme,
    /// There is no `#`.
    #[error("no `#` in it: the vault's alias ends at the first `#`, the entry's path follows")]
    NoEntry,
    /// Nothing stands before the `#`.
    #[error("no alias before the `#`")]
    EmptyAlias,
    /// No `:` comes after the `#`.
    #[error("no `:` after the `#`: the field follows the last `:`, as in `:password`")]
    NoField,
    /// Nothing stands between `#` and `:`.
    #[error("no entry path between the `#` and the last `:`")]
    EmptyPath,
    /// The field is wrong.
    #[error(transparent)]
    Field(#[from] FieldNameError),
}

/// A field's name is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldNameError {
    /// It is empty.
    #[error("the field has no name")]
    Empty,
    /// No name follows `attachment/`.
    #[error("no file name after `{ATTACHMENT}`")]
    EmptyAttachment,
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let place = text.strip_prefix(SCHEME).ok_or(ReferenceError::Scheme)?;
        let (alias, rest) = place.split_once('#').ok_or(ReferenceError::NoEntry)?;
        let (entry_path, field) = rest.rsplit_once(':').ok_or(ReferenceError::NoField)?;
        if alias.is_empty() {
            return Err(ReferenceError::EmptyAlias);
        }
        if entry_path.is_empty() {
            return Err(ReferenceError::EmptyPath);
        }
        Ok(Self { alias: alias.to_owned(), entry_path: entry_path.to_owned(), field: field.parse()? })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}#{}:{}", self.alias, self.entry_path, self.field)
    }
}

impl Field {
    /// The standard fields with the keys under which KeePass files hold them.
    pub(crate) const STANDARD: [(Self, &'static str); 5] = [
        (Self::Title, fields::TITLE),
        (Self::Username, fields::USERNAME),
        (Self::Password, fields::PASSWORD),
        (Self::Url, fields::URL),
        (Self::Notes, fields::NOTES),
    ];

    /// The key under which KeePass files hold it, unless it is an attachment.
    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            Self::Title => Some(fields::TITLE),
            Self::Username => Some(fields::USERNAME),
            Self::Password => Some(fields::PASSWORD),
            Self::Url => Some(fields::URL),
            Self::Notes => Some(fields::NOTES),
            Self::Otp => Some(fields::OTP),
            Self::Attachment(_) => None,
            Self::Custom(name) => Some(name),
        }
    }
}

impl FromStr for Field {
    type Err = FieldNameError;

    fn from_str(name: &str) -> Result<Self, FieldNameError> {
        if name.is_empty() {
            return Err(FieldNameError::Empty);
        }
        if name == "otp" {
            return Ok(Self::Otp);
        }
        if let Some(file) = name.strip_prefix(ATTACHMENT) {
            return match file {
                "" => Err(FieldNameError::EmptyAttachment),
                file => Ok(Self::Attachment(file.to_owned())),
            };
        }
        let standard = Self::STANDARD.into_iter().find(|(_, key)| key.eq_ignore_ascii_case(name));
        Ok(standard.map_or_else(|| Self::Custom(name.to_owned()), |(field, _)| field))
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Title => f.write_str("title"),
            Self::Username => f.write_str("username"),
            Self::Password => f.write_str("password"),
            Self::Url => f.write_str("url"),
            Self::Notes => f.write_str("notes"),
            Self::Otp => f.write_str("otp"),
            Self::Attachment(name) => write!(f, "{ATTACHMENT}{name}"),
            Self::Custom(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn custom(name: &str) -> Field {
        Field::Custom(name.to_owned())
    }

    #[test]
    fn parts_end_at_the_first_hash_and_the_last_colon() {
        let table = [
            ("keepass://ci#db:password", "ci", "db", Field::Password),
            (
                "keepass://team/platform/loom#services/test/db:Password",
                "team/platform/loom",
                "services/test/db",
                Field::Password,
            ),
            (
                "keepass://ci#web/https://example.com:8443/:url",
                "ci",
                "web/https://example.com:8443/",
                Field::Url,
            ),
            ("keepass://ci#a#b:NOTES", "ci", "a#b", Field::Notes),
            ("keepass://ci# a b :user name", "ci", " a b ", custom("user name")),
            ("keepass://ci#db:UserName", "ci", "db", Field::Username),
            ("keepass://ci#db:title", "ci", "db", Field::Title),
            ("keepass://ci#db:otp", "ci", "db", Field::Otp),
            ("keepass://ci#db:OTP", "ci", "db", custom("OTP")),
            (
                "keepass://ci#db:attachment/id_ed25519.pub",
                "ci",
                "db",
                Field::Attachment("id_ed25519.pub".into()),
            ),
            ("keepass://ci#ключи/база:Токен", "ci", "ключи/база", custom("Токен")),
        ];
        for (text, alias, entry_path, field) in table {
            let reference: Reference = text.parse().unwrap();
            let expected = Reference { alias: alias.into(), entry_path: entry_path.into(), field };
            assert_eq!(reference, expected, "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_said_and_the_text_is_not_repeated() {
        let table = [
            ("hunter2", ReferenceError::Scheme),
            ("KEEPASS://ci#db:password", ReferenceError::Scheme),
            ("keepass://hunter2", ReferenceError::NoEntry),
            ("keepass://#hunter2:password", ReferenceError::EmptyAlias),
            ("keepass://ci#hunter2", ReferenceError::NoField),
            ("keepass://hunter2:password#db", ReferenceError::NoField),
            ("keepass://hunter2#:password", ReferenceError::EmptyPath),
            ("keepass://ci#hunter2:", ReferenceError::Field(FieldNameError::Empty)),
            ("keepass://ci#hunter2:attachment/", ReferenceError::Field(FieldNameError::EmptyAttachment)),
        ];
        for (text, expected) in table {
            let error = text.parse::<Reference>().unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(text in "keepass://\\PC{0,20}#\\PC{0,20}:\\PC{0,12}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }
    }
}

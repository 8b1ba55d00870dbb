//! What opens a vault: a password, a key file, or both.

use std::fmt;

use keepass::DatabaseKey;

/// A password, a key file's content, or both. Neither is kept.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The password, UTF-8.
    pub password: Option<&'a [u8]>,
    /// The key file's bytes: XML (version 1 or 2), 32 bytes, 64 hex digits, or any other file, which is hashed.
    pub keyfile: Option<&'a [u8]>,
}

/// No vault can have such credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// There are none.
    #[error("neither a password nor a key file was given")]
    Missing,
    /// KeePass hashes a password's UTF-8.
    #[error("the password is not valid UTF-8")]
    PasswordNotText,
    /// No program makes such a one; it is mostly an unset variable.
    #[error("the key file is empty")]
    EmptyKeyfile,
}

/// Which credentials were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// A password alone.
    Password,
    /// A key file alone.
    Keyfile,
    /// A password and a key file.
    Both,
}

impl Credentials<'_> {
    /// The key as the reader takes it, which wipes it when it is dropped.
    pub(crate) fn key(&self) -> Result<DatabaseKey, CredentialsError> {
        let mut key = DatabaseKey::new();
        if let Some(password) = self.password {
            let password = std::str::from_utf8(password).map_err(|_| CredentialsError::PasswordNotText)?;
            key = key.with_password(password);
        }
        if let Some(mut keyfile) = self.keyfile {
            if keyfile.is_empty() {
                return Err(CredentialsError::EmptyKeyfile);
            }
            // Reading from memory does not fail.
            key = key.with_keyfile(&mut keyfile).map_err(|_| CredentialsError::EmptyKeyfile)?;
        }
        if key.is_empty() { Err(CredentialsError::Missing) } else { Ok(key) }
    }

    pub(crate) fn given(&self) -> Given {
        match (self.password, self.keyfile) {
            (Some(_), Some(_)) => Given::Both,
            (None, Some(_)) => Given::Keyfile,
            (_, None) => Given::Password,
        }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password => "the password does not open it: it is wrong, or a key file is needed too",
            Self::Keyfile => {
                "the key file does not open it: it is the wrong one, or a password is needed too"
            }
            Self::Both => "the password and the key file do not open it: one of them is wrong or not needed",
        })
    }
}

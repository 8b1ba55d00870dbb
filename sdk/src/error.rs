use std::fmt;

use crate::bindings::loom::host::types;

/// What functions of a plugin return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong: for programs a kind and a code, for people a sentence and what to do about it.
///
/// Every error of the standard library, or of any crate, becomes one through `?`: its kind is [`ErrorKind::Failed`], its
/// message holds its causes too. Like other such types it does not itself implement [`std::error::Error`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    code: String,
    message: String,
    hint: Option<String>,
}

/// What sort of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The plugin may not do this.
    Denied,
    /// What was asked for does not exist.
    NotFound,
    /// Something outside cannot be reached or used now; trying again later may help.
    Unavailable,
    /// What was asked for makes no sense.
    Invalid,
    /// It took too long; trying again may help.
    TimedOut,
    /// The run was cancelled.
    Cancelled,
    /// It is at odds with something that exists already.
    Conflict,
    /// Anything else.
    Failed,
}

impl Error {
    /// An error. `code` is stable, for programs: letters, digits, `_`, `.` and `-`, for example `REGISTRY_DOWN`. `message`
    /// is a sentence fragment in lower case that says what happened, and to what.
    pub fn new(kind: ErrorKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, code: code.into(), message: message.into(), hint: None }
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says in front of the message what it happened to.
    #[must_use]
    pub fn with_context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// What sort of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Its stable code.
    pub fn code(&self) -> &str {
        &self.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Self::new(ErrorKind::Failed, "FAILED", message)
    }
}

impl Error {
    pub(crate) fn from_host(error: types::Error) -> Self {
        let kind = match error.kind {
            types::ErrorKind::Denied => ErrorKind::Denied,
            types::ErrorKind::NotFound => ErrorKind::NotFound,
            types::ErrorKind::Unavailable => ErrorKind::Unavailable,
            types::ErrorKind::Invalid => ErrorKind::Invalid,
            types::ErrorKind::TimedOut => ErrorKind::TimedOut,
            types::ErrorKind::Cancelled => ErrorKind::Cancelled,
            types::ErrorKind::Conflict => ErrorKind::Conflict,
            types::ErrorKind::Failed => ErrorKind::Failed,
        };
        Self { kind, code: error.code, message: error.message, hint: error.hint }
    }

    pub(crate) fn into_host(self) -> types::Error {
        let kind = match self.kind {
            ErrorKind::Denied => types::ErrorKind::Denied,
            ErrorKind::NotFound => types::ErrorKind::NotFound,
            ErrorKind::Unavailable => types::ErrorKind::Unavailable,
            ErrorKind::Invalid => types::ErrorKind::Invalid,
            ErrorKind::TimedOut => types::ErrorKind::TimedOut,
            ErrorKind::Cancelled => types::ErrorKind::Cancelled,
            ErrorKind::Conflict => types::ErrorKind::Conflict,
            ErrorKind::Failed => types::ErrorKind::Failed,
        };
        types::Error { kind, code: self.code, message: self.message, hint: self.hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot read the port")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn an_error_of_the_standard_library_brings_its_causes() {
        let port = || -> Result<u16> { "x".parse::<u16>().map_err(|error| Outer(error).into()) };
        let error = port().unwrap_err();
        assert_eq!(error.to_string(), "cannot read the port: invalid digit found in string");
        assert_eq!((error.kind(), error.code()), (ErrorKind::Failed, "FAILED"));
    }
}

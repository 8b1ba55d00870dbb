//! Secrets from KeePass vaults.
//!
//! ```text
//! reference   keepass://<alias>#<entry path>:<field>
//! credentials a password, a key file, or both
//! header      what can be read without them, checked before the reader of `keepass` sees it
//! vault       an open vault: entries by path, fields        <- otp
//! admin       vaults made and changed
//! ```
//!
//! Bytes in, bytes out: none of these modules opens a file or looks at the environment.

pub mod admin;
mod component;
pub mod credentials;
mod header;
mod otp;
pub mod reference;
pub mod vault;

pub use header::Kdf;
pub use otp::OtpError;

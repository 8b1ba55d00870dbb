//! `bundle.lock`: what was built, from what, with what.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::build::{self, Error};

/// The whole file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lock {
    pub(crate) toolchain: Toolchain,
    #[serde(rename = "component")]
    pub(crate) components: Vec<Locked>,
}

/// A component as it was built.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Locked {
    pub(crate) name: String,
    /// Relative to this package.
    pub(crate) file: String,
    /// Digest of the file.
    pub(crate) blake3: String,
    /// Digest of everything that it was built from but the toolchain.
    pub(crate) sources: String,
}

/// What makes two toolchains give the same bytes.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Toolchain {
    /// What `rustc -vV` says.
    pub(crate) rustc: String,
    /// Digest of the target's standard library: one of another origin has the same version and other bytes.
    pub(crate) std: String,
}

impl Toolchain {
    pub(crate) fn of_this_machine() -> Result<Self, Error> {
        let rustc = build::rustc(&["-vV"])?;
        let std = build::sysroot()?.join("lib/rustlib").join(build::TARGET).join("lib");
        let mut hasher = blake3::Hasher::new();
        let found = crate::sources::hash_folder(&mut hasher, &std, &std, &|_| true)?;
        if found == 0 {
            return Err(Error::NoTarget { folder: std });
        }
        Ok(Self { rustc: rustc.trim_end().to_owned(), std: hasher.finalize().to_string() })
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.rustc.lines() {
            writeln!(f, "  {line}")?;
        }
        write!(f, "  standard library: {}", self.std)
    }
}

impl Lock {
    pub(crate) fn read(file: &Path) -> Result<Self, Error> {
        let text = fs_err::read_to_string(file)?;
        toml::from_str(&text).map_err(|source| Error::Toml { file: file.into(), source })
    }

    pub(crate) fn write(&self, file: &Path) -> Result<(), Error> {
        let body = toml::to_string_pretty(self)?;
        let text = format!("# Written by `cargo run -p loom-plugin-bundle -- build`.\n\n{body}");
        crate::write(file, text.as_bytes())
    }

    pub(crate) fn component(&self, name: &str) -> Option<&Locked> {
        self.components.iter().find(|locked| locked.name == name)
    }
}

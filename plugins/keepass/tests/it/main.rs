//! Vaults of other programs, damaged vaults, and vaults that other programs must be able to open.

#![expect(clippy::unwrap_used, reason = "a test whose ground is missing has to end")]

mod admin;
mod corpus;
mod damage;
mod hostile;
mod referee;

use loom_plugin_keepass::vault::{OpenError, Vault};

/// A vault of the folder `vaults`. Its README says how each was made.
#[derive(Clone, Copy)]
struct Sample {
    name: &'static str,
    bytes: &'static [u8],
    password: Option<&'static str>,
    keyfile: Option<&'static [u8]>,
}

impl Sample {
    fn open(&self) -> Result<Vault, OpenError> {
        self.open_bytes(self.bytes)
    }

    fn open_bytes(&self, bytes: &[u8]) -> Result<Vault, OpenError> {
        Vault::open(bytes, self.password.map(str::as_bytes), self.keyfile)
    }
}

const SESAME: Option<&str> = Some("open sesame");
const XML1: Option<&[u8]> = Some(include_bytes!("../vaults/xml1.key"));
const XML2: Option<&[u8]> = Some(include_bytes!("../vaults/xml2.keyx"));
const RAW: Option<&[u8]> = Some(include_bytes!("../vaults/raw.key"));
const HEX: Option<&[u8]> = Some(include_bytes!("../vaults/hex.key"));
const HASHED: Option<&[u8]> = Some(include_bytes!("../vaults/hashed.key"));

macro_rules! samples {
    ($($name:literal $password:expr, $keyfile:expr;)*) => {
        [$(Sample {
            name: $name,
            bytes: include_bytes!(concat!("../vaults/", $name, ".kdbx")),
            password: $password,
            keyfile: $keyfile,
        }),*]
    };
}

/// All that open.
const SAMPLES: [Sample; 17] = samples! {
    "kdbx31-aes" SESAME, None;
    "kdbx31-twofish-both" SESAME, XML2;
    "kdbx31-chacha20-keyfile" None, HASHED;
    "kdbx40-aes-aeskdf" Some("пароль ✓"), None;
    "kdbx40-chacha20-argon2d-xml1" None, XML1;
    "kdbx40-twofish-argon2id-raw" SESAME, RAW;
    "kdbx40-uncompressed" SESAME, None;
    "kdbx41-chacha20-argon2id-hex" None, HEX;
    "kdbx41-aes-argon2d-hashed" SESAME, HASHED;
    "unicode" SESAME, None;
    "paths" SESAME, None;
    "recycled" SESAME, None;
    "fields" SESAME, None;
    "attachments" SESAME, None;
    "otp" SESAME, None;
    "everything" SESAME, None;
    "pykeepass" SESAME, None;
};

fn sample(name: &str) -> Sample {
    SAMPLES.into_iter().find(|sample| sample.name == name).unwrap()
}

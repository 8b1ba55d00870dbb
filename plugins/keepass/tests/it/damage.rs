//! Wrong keys and damaged files: the right error, never a panic, never a wrong value.

use loom_plugin_keepass::Kdf;
use loom_plugin_keepass::credentials::{CredentialsError, Given};
use loom_plugin_keepass::vault::{OpenError, Vault, key_derivation, required_memory};

use crate::{HASHED, HEX, RAW, SAMPLES, SESAME, Sample, XML1, XML2, sample};

fn error(bytes: &[u8], password: Option<&str>, keyfile: Option<&[u8]>) -> OpenError {
    Vault::open(bytes, password.map(str::as_bytes), keyfile).unwrap_err()
}

#[test]
fn wrong_credentials_are_told_apart_by_what_was_given() {
    for sample in SAMPLES {
        let Sample { name, bytes, password, keyfile } = sample;
        let mut table = vec![
            (Some("open sesam"), None, Given::Password),
            (Some(""), None, Given::Password),
            (Some("open sesam"), keyfile.or(RAW), Given::Both),
            (None, if keyfile == RAW { HEX } else { RAW }, Given::Keyfile),
        ];
        if let (Some(_), Some(_)) = (password, keyfile) {
            table.push((password, None, Given::Password));
            table.push((None, keyfile, Given::Keyfile));
        }
        for (password, keyfile, given) in table {
            assert_eq!(error(bytes, password, keyfile), OpenError::WrongKey { given }, "{name}");
        }
    }
    let error = error(sample("fields").bytes, Some("hunter2"), None).to_string();
    assert_eq!(
        error,
        "the password does not open it: it is wrong, or a key file is needed too, or the file is damaged"
    );
}

#[test]
fn what_is_no_credential_is_refused_before_anything_is_computed() {
    let bytes = sample("fields").bytes;
    assert_eq!(error(bytes, None, None), OpenError::Credentials(CredentialsError::Missing));
    assert_eq!(error(bytes, SESAME, Some(b"")), OpenError::Credentials(CredentialsError::EmptyKeyfile));
    let latin1 = Vault::open(bytes, Some(b"caf\xe9"), None).unwrap_err();
    assert_eq!(latin1, OpenError::Credentials(CredentialsError::PasswordNotText));
}

#[test]
fn damaged_key_files_do_not_open_anything() {
    for (keyfile, name) in [
        (XML1, "kdbx40-chacha20-argon2d-xml1"),
        (XML2, "kdbx31-twofish-both"),
        (RAW, "kdbx40-twofish-argon2id-raw"),
        (HEX, "kdbx41-chacha20-argon2id-hex"),
        (HASHED, "kdbx41-aes-argon2d-hashed"),
    ] {
        let sample = sample(name);
        let keyfile = keyfile.unwrap();
        for len in (1..keyfile.len()).step_by(11) {
            // What follows the data of an XML key file is of no consequence.
            if let Ok(vault) =
                Vault::open(sample.bytes, sample.password.map(str::as_bytes), Some(&keyfile[..len]))
            {
                assert!(keyfile.starts_with(b"<?xml"), "{name}: {len}");
                assert_eq!(values(&vault), values(&sample.open().unwrap()), "{name}: {len}");
            }
        }
    }
}

#[test]
fn other_files_are_none() {
    for bytes in [&b""[..], b"\0", b"PK\x03\x04", b"hunter2 hunter2 hunter2", &[0xff; 64]] {
        assert_eq!(error(bytes, SESAME, None), OpenError::NotKeePass);
    }
    let mut bytes = sample("fields").bytes.to_vec();
    for (id, what) in
        [(0x65, "the format of KeePass 1 (.kdb)"), (0x66, "the format of a pre-release of KeePass 2")]
    {
        bytes[4] = id;
        assert_eq!(error(&bytes, SESAME, None).to_string(), format!("{what} is not supported"));
    }
    bytes[4] = 0x67;
    bytes[10] = 5;
    assert_eq!(error(&bytes, SESAME, None).to_string(), "version 5.0 of the format is not supported");
}

/// Each length is tried where that is cheap: all of the header, and some of what follows.
#[test]
fn a_file_that_was_cut_short_says_so() {
    for sample in SAMPLES {
        let bytes = sample.bytes;
        for len in (1..600.min(bytes.len())).chain((600..bytes.len()).step_by(7)).chain([bytes.len() - 1]) {
            let found = sample.open_bytes(&bytes[..len]).unwrap_err();
            let fits = match found {
                OpenError::Truncated => true,
                // With nothing but the encryption around it, the end of KDBX 3.1 is noise like that of a wrong key.
                OpenError::WrongKey { .. } => sample.name.starts_with("kdbx31") && 300 < len,
                _ => false,
            };
            assert!(fits, "{}, {len} of {}: {found}", sample.name, bytes.len());
        }
    }
}

/// A flipped bit is found, or it changes nothing.
#[test]
fn no_flipped_bit_gives_a_wrong_value() {
    for name in [
        "kdbx31-aes",
        "kdbx31-twofish-both",
        "kdbx31-chacha20-keyfile",
        "kdbx40-twofish-argon2id-raw",
        "kdbx41-aes-argon2d-hashed",
        "attachments",
    ] {
        let sample = sample(name);
        let expected = values(&sample.open().unwrap());
        for at in (0..sample.bytes.len()).step_by(7) {
            let mut bytes = sample.bytes.to_vec();
            bytes[at] ^= 1 << (at % 8);
            // The header of KDBX 3.1 may then ask for a million times the work.
            if matches!(key_derivation(&bytes), Ok(Kdf::Aes { rounds }) if 10_000 < rounds) {
                continue;
            }
            match sample.open_bytes(&bytes) {
                Ok(vault) => assert_eq!(values(&vault), expected, "{} at {at}", sample.name),
                Err(error) => check_text(&error),
            }
        }
    }
}

#[test]
fn a_block_that_was_changed_is_damaged_and_not_a_wrong_key() {
    for sample in SAMPLES.into_iter().filter(|sample| !sample.name.starts_with("kdbx31")) {
        let mut bytes = sample.bytes.to_vec();
        let at = bytes.len() - 100;
        bytes[at] ^= 1;
        let found = sample.open_bytes(&bytes).unwrap_err();
        assert_eq!(
            found.to_string(),
            "it is damaged: a block does not match its checksum",
            "{}",
            sample.name
        );
        let mut bytes = sample.bytes.to_vec();
        bytes[60] ^= 1;
        let found = sample.open_bytes(&bytes).unwrap_err();
        assert_eq!(
            found.to_string(),
            "it is damaged: its header does not match its checksum",
            "{}",
            sample.name
        );
    }
}

#[test]
fn what_opening_takes_is_known_before() {
    assert!((64 << 10..256 << 10).contains(&required_memory(sample("fields").bytes).unwrap()));
    assert_eq!(required_memory(b"no vault"), Err(OpenError::NotKeePass));
}

/// All values of a vault: entry, field, value.
pub(crate) fn values(vault: &Vault) -> Vec<(String, String, Option<Vec<u8>>)> {
    let mut values = Vec::new();
    for entry in vault.entries() {
        for name in entry.field_names() {
            let value = entry.field(&name.parse().unwrap(), 59).ok().map(|value| value.to_vec());
            values.push((entry.path().to_owned(), name, value));
        }
    }
    values
}

fn check_text(error: &OpenError) {
    let text = error.to_string();
    for part in ["s3cret", "sesame", "loom", "hunter2"] {
        assert!(!text.to_lowercase().contains(part), "{text}");
    }
}

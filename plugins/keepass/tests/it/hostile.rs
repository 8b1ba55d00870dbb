//! Headers that nobody writes: whoever can change a vault can put one there, with a checksum that fits.

use loom_plugin_keepass::vault::{OpenError, required_memory};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use crate::{Sample, sample};

/// Bytes in front of the header's fields.
const VERSION: usize = 12;

/// The fields of a header: id and value.
type Fields = Vec<(u8, Vec<u8>)>;

/// The fields of the header of `sample`, and where they end.
fn fields(sample: Sample) -> (Fields, usize) {
    let (bytes, size_len) = (sample.bytes, size_len(sample));
    let (mut fields, mut at) = (Fields::new(), VERSION);
    loop {
        let mut size = [0; 8];
        size[..size_len].copy_from_slice(&bytes[at + 1..at + 1 + size_len]);
        let start = at + 1 + size_len;
        let end = start + u64::from_le_bytes(size) as usize;
        fields.push((bytes[at], bytes[start..end].to_vec()));
        at = end;
        if fields.last().unwrap().0 == 0 {
            return (fields, at);
        }
    }
}

/// `sample` with other fields in its header, and with the checksum that fits.
fn with_fields(sample: Sample, fields: &Fields) -> Vec<u8> {
    let size_len = size_len(sample);
    let mut bytes = sample.bytes[..VERSION].to_vec();
    for (id, value) in fields {
        bytes.push(*id);
        bytes.extend(&value.len().to_le_bytes()[..size_len]);
        bytes.extend(value);
    }
    let mut rest = &sample.bytes[self::fields(sample).1..];
    if size_len == 4 {
        let checksum = Sha256::digest(&bytes);
        bytes.extend(checksum);
        rest = &rest[32..];
    }
    bytes.extend(rest);
    bytes
}

/// Bytes in which version 3 or 4 writes a field's size.
fn size_len(sample: Sample) -> usize {
    if sample.bytes[10] == 3 { 2 } else { 4 }
}

/// A list of parameters, with what is in `changed` in place of what is there.
fn parameters(changed: &[(&str, u8, &[u8])]) -> Vec<u8> {
    let id = 0x9e298b1956db4773b23dfc3ec6f0a1e6_u128.to_be_bytes();
    let there: [(&str, u8, &[u8]); 6] = [
        ("$UUID", 0x42, &id),
        ("V", 4, &[0x13, 0, 0, 0]),
        ("S", 0x42, &[7; 32]),
        ("M", 5, &65_536_u64.to_le_bytes()),
        ("I", 5, &2_u64.to_le_bytes()),
        ("P", 4, &2_u32.to_le_bytes()),
    ];
    let mut bytes = vec![0, 1];
    let kept = there.iter().filter(|(name, ..)| changed.iter().all(|(other, ..)| name != other));
    for (name, value_type, value) in kept.chain(changed) {
        bytes.push(*value_type);
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
        bytes.extend(*value);
    }
    bytes.push(0);
    bytes
}

fn error(sample: Sample, id: u8, value: &[u8]) -> String {
    let (mut fields, _) = fields(sample);
    match fields.iter_mut().find(|(other, _)| *other == id) {
        Some(field) => field.1 = value.to_vec(),
        None => fields.insert(0, (id, value.to_vec())),
    }
    sample.open_bytes(&with_fields(sample, &fields)).unwrap_err().to_string()
}

#[test]
fn the_costs_of_a_key_derivation_are_looked_at_before() {
    let vault = sample("fields");
    let table: [(&str, u8, &[u8], &str); 15] = [
        ("M", 5, &(1_u64 << 31).to_le_bytes(), "it takes 2048 MiB of memory to open; 1024 MiB are available"),
        (
            "M",
            5,
            &u64::MAX.to_le_bytes(),
            "it takes 17592186044416 MiB of memory to open; 1024 MiB are available",
        ),
        ("M", 5, &1024_u64.to_le_bytes(), "it is damaged: the parameters of Argon2 are none that it has"),
        (
            "I",
            5,
            &10_000_000_u64.to_le_bytes(),
            "its key derivation takes too long (Argon2id, 1 MiB, 10000000 iterations, 2 lanes); KeePassXC can lower that in \
             the database's security settings",
        ),
        ("I", 5, &0_u64.to_le_bytes(), "it is damaged: the parameters of Argon2 are none that it has"),
        // The reader would take the lower half.
        ("I", 5, &((1_u64 << 32) + 2).to_le_bytes(), "4294967298 iterations"),
        ("I", 4, &2_u32.to_le_bytes(), "it is damaged: a parameter of its key derivation is missing"),
        ("I", 5, &[2], "it is damaged: a value in a list of its header is malformed"),
        ("P", 4, &0_u32.to_le_bytes(), "it is damaged: the parameters of Argon2 are none that it has"),
        ("P", 4, &u32::MAX.to_le_bytes(), "it is damaged: the parameters of Argon2 are none that it has"),
        ("V", 4, &0x11_u32.to_le_bytes(), "version 0x11 of Argon2 is not supported"),
        ("S", 0x42, &[7; 7], "it is damaged: the salt of Argon2 is too short"),
        ("K", 0x42, b"key", "Argon2 with a secret key is not supported"),
        ("A", 0x42, b"data", "Argon2 with associated data is not supported"),
        ("$UUID", 0x42, &[0x11; 16], "key derivation 11111111111111111111111111111111 is not supported"),
    ];
    for (name, value_type, value, expected) in table {
        let text = error(vault, 11, &parameters(&[(name, value_type, value)]));
        assert!(text.contains(expected), "{name} {value:?}: {text}");
    }
    let many: [(&str, u8, &[u8]); 2] =
        [("P", 4, &257_u32.to_le_bytes()), ("M", 5, &(1_u64 << 22).to_le_bytes())];
    assert_eq!(error(vault, 11, &parameters(&many)), "Argon2 with 257 lanes is not supported");
    // The list itself is one that the reader takes.
    assert!(error(vault, 11, &parameters(&[])).starts_with("the password does not open it"));

    let rounds = error(sample("kdbx31-aes"), 6, &u64::MAX.to_le_bytes());
    assert!(
        rounds.starts_with("its key derivation takes too long (AES, 18446744073709551615 rounds)"),
        "{rounds}"
    );
}

#[test]
fn fields_of_a_wrong_length_or_kind_are_named() {
    for name in ["fields", "kdbx31-aes"] {
        let vault = sample(name);
        let table: [(u8, &[u8], &str); 10] = [
            (2, &[1; 16], "cipher 01010101010101010101010101010101 is not supported"),
            (
                2,
                &0x61ab05a1946441c38d743a563df8dd35_u128.to_be_bytes(),
                "the cipher AES-128 is not supported",
            ),
            (2, &[1; 15], "it is damaged: its header has a wrong cipher"),
            (3, &[], "it is damaged: its header has a wrong compression"),
            (3, &[1], "it is damaged: its header has a wrong compression"),
            (3, &[2, 0, 0, 0], "compression 2 is not supported"),
            (4, &[], "it is damaged: its header has a wrong master seed"),
            (7, &[], "it is damaged: its header lacks a field, or a field has the wrong length"),
            (7, &[1; 99], "it is damaged: its header lacks a field, or a field has the wrong length"),
            (99, &[], "header field 99 is not supported"),
        ];
        for (id, value, expected) in table {
            assert_eq!(error(vault, id, value), expected, "{name} {id}");
        }
        let (all, _) = fields(vault);
        for left_out in 0..all.len() - 1 {
            let mut some = all.clone();
            some.remove(left_out);
            let error = vault.open_bytes(&with_fields(vault, &some)).unwrap_err();
            assert!(matches!(error, OpenError::Damaged(_)), "{name} without {}: {error}", all[left_out].0);
        }
    }
    // The reader looks at each field, also at one that another of the same kind follows.
    for (name, id, value) in
        [("fields", 11, &[0, 1, 5, 0, 0, 0, 0, 1, 0, 0, 0, 9, 0][..]), ("kdbx31-aes", 6, &[1])]
    {
        let (mut twice, _) = fields(sample(name));
        twice.insert(0, (id, value.to_vec()));
        let error = sample(name).open_bytes(&with_fields(sample(name), &twice)).unwrap_err();
        assert!(matches!(error, OpenError::Damaged(_) | OpenError::FieldLength(_)), "{name}: {error}");
    }
    let table: [(u8, &[u8], &str); 6] = [
        (5, &[1; 31], "it is damaged: its header has a wrong transform seed"),
        (6, &[1; 7], "it is damaged: its header has a wrong number of rounds"),
        (9, &[1; 31], "it is damaged: its header has a wrong start of the stream"),
        (10, &[2], "it is damaged: its header has a wrong inner cipher"),
        (10, &[1, 0, 0, 0], "the inner cipher ArcFour is not supported"),
        (10, &[9, 0, 0, 0], "inner cipher 9 is not supported"),
    ];
    for (id, value, expected) in table {
        assert_eq!(error(sample("kdbx31-aes"), id, value), expected, "{id}");
    }
}

/// Other values protect with another key: they would come out as noise, and the key would still be right.
#[test]
fn values_are_not_decrypted_with_what_a_header_without_a_checksum_says() {
    let garbled =
        "it is damaged: its protected values come out garbled; saving it anew with KeePassXC may help";
    for stream in [0_u32, 3] {
        assert_eq!(error(sample("kdbx31-aes"), 10, &stream.to_le_bytes()), garbled);
    }
    assert_eq!(error(sample("kdbx31-aes"), 8, &[1; 32]), garbled);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_header_panics(
        is_version_3: bool,
        at in 0_usize..12,
        id in 0_u8..14,
        value in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(|rest| [&[0, 1][..], &rest].concat()),
            (0_usize..6, any::<[u8; 8]>(), prop_oneof![Just(4_usize), Just(8), 0_usize..9]).prop_map(|(at, value, len)| {
                let name = ["$UUID", "V", "S", "M", "I", "P"][at];
                parameters(&[(name, [0x42, 4, 0x42, 5, 5, 4][at], &value[..len])])
            }),
        ],
        replace: bool,
    ) {
        let sample = sample(if is_version_3 { "kdbx31-aes" } else { "fields" });
        let (mut fields, _) = fields(sample);
        let at = at % fields.len();
        if replace {
            fields[at].1 = value;
        } else {
            fields.insert(at, (id, value));
        }
        let bytes = with_fields(sample, &fields);
        // Nothing is computed here, so what would take minutes does not either.
        let _ = required_memory(&bytes);
        if let Ok(loom_plugin_keepass::Kdf::Argon2 { memory: 0..2_000_000, iterations: 0..20, .. }) =
            loom_plugin_keepass::vault::key_derivation(&bytes)
        {
            let _ = sample.open_bytes(&bytes);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), major in 3_u8..5) {
        let _ = required_memory(&bytes);
        let _ = sample("fields").open_bytes(&bytes);
        let bytes = [&sample("fields").bytes[..10], &[major, 0], &bytes].concat();
        let _ = sample("fields").open_bytes(&bytes);
    }
}

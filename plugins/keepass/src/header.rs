//! What can be read of a KeePass file without its key: that it is one, that it is whole, and what opening it costs.
//!
//! All that the reader of `keepass` takes for granted about the bytes in front of the encryption is checked here: it would
//! panic, or allocate and compute without end.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::vault::OpenError;

/// Bytes of memory that a vault may ask for, so that the size fits the address space wherever this runs.
const MEMORY_CAP: u64 = 1 << 30;
/// Rounds of AES that a vault may ask for: some eight minutes in WebAssembly, which has no instruction for AES.
const AES_ROUNDS_CAP: u64 = 500_000_000;
/// KiB times iterations of Argon2 that a vault may ask for: some seven minutes in WebAssembly.
const ARGON2_WORK_CAP: u64 = 1 << 28;
/// Lanes of Argon2 that a vault may ask for. Each is a thread where there are threads.
const ARGON2_LANES_CAP: u32 = 256;

const SIGNATURE: [u8; 4] = [0x03, 0xd9, 0xa2, 0x9a];
const KEEPASS_1: u32 = 0xb54b_fb65;
const KEEPASS_2_BETA: u32 = 0xb54b_fb66;
const KEEPASS_2: u32 = 0xb54b_fb67;

const AES_128: [u8; 16] = 0x61ab05a1_946441c3_8d743a56_3df8dd35_u128.to_be_bytes();
const AES_256: [u8; 16] = 0x31c1f2e6_bf714350_be580521_6afc5aff_u128.to_be_bytes();
const TWOFISH: [u8; 16] = 0xad68f29f_576f4bb9_a36ad47a_f965346c_u128.to_be_bytes();
const CHACHA20: [u8; 16] = 0xd6038a2b_8b6f4cb5_a524339a_31dbb59a_u128.to_be_bytes();

const KDF_AES_3: [u8; 16] = 0xc9d9f39a_628a4460_bf740d08_c18a4fea_u128.to_be_bytes();
const KDF_AES_4: [u8; 16] = 0x7c02bb82_79a74ac0_927d114a_00648238_u128.to_be_bytes();
const KDF_ARGON2D: [u8; 16] = 0xef636ddf_8c29444b_91f7a9a4_03e30a0c_u128.to_be_bytes();
const KDF_ARGON2ID: [u8; 16] = 0x9e298b19_56db4773_b23dfc3e_c6f0a1e6_u128.to_be_bytes();

/// Bytes of each checksum: two follow a header of version 4, one is in front of each block.
const HASH_LEN: usize = 32;
/// Bytes of the random start by which version 3 knows that the key is right.
const STREAM_START_LEN: usize = 32;
/// Bytes in front of a block of version 3: its number, its checksum and its length. The last block has nothing else.
const BLOCK_HEAD_3: usize = 4 + HASH_LEN + 4;

/// How a vault derives its key, and so what opening it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kdf {
    /// AES, over and over. No memory, and slow in WebAssembly: about a microsecond for each round.
    Aes {
        /// How often.
        rounds: u64,
    },
    /// Argon2d or Argon2id.
    Argon2 {
        /// `Argon2d` or `Argon2id`.
        variant: &'static str,
        /// Bytes.
        memory: u64,
        /// Passes over the memory.
        iterations: u64,
        /// Lanes, which WebAssembly computes one after the other.
        lanes: u32,
    },
}

/// A header that the reader can be given.
pub(crate) struct Header {
    pub(crate) kdf: Kdf,
    /// The payload is protected by nothing but its encryption: there is no way to tell a wrong key from a damaged file.
    pub(crate) is_version_3: bool,
}

impl Header {
    /// Reads the header of the file `database`, and checks that what follows has the length it should have.
    pub(crate) fn read(database: &[u8]) -> Result<Self, OpenError> {
        let mut bytes = Bytes(database);
        if !SIGNATURE.starts_with(&database[..database.len().min(SIGNATURE.len())]) || database.is_empty() {
            return Err(OpenError::NotKeePass);
        }
        bytes.take(SIGNATURE.len())?;
        match bytes.u32()? {
            KEEPASS_2 => {}
            KEEPASS_1 => return Err(unsupported("the format of KeePass 1 (.kdb)")),
            KEEPASS_2_BETA => return Err(unsupported("the format of a pre-release of KeePass 2")),
            _ => return Err(OpenError::NotKeePass),
        }
        let minor = bytes.u16()?;
        let header = match bytes.u16()? {
            3 => version_3(&mut bytes)?,
            4 => version_4(database, &mut bytes)?,
            major => return Err(unsupported(format!("version {major}.{minor} of the format"))),
        };
        header.kdf.check()?;
        Ok(header)
    }
}

impl Kdf {
    /// Bytes of memory that it works in.
    #[must_use]
    pub fn memory(&self) -> u64 {
        match self {
            Self::Aes { .. } => 0,
            Self::Argon2 { memory, .. } => *memory,
        }
    }

    /// Refuses what no machine, or no version of Argon2, can do.
    fn check(&self) -> Result<(), OpenError> {
        let costly = match *self {
            Self::Aes { rounds } => AES_ROUNDS_CAP < rounds,
            Self::Argon2 { memory, iterations, lanes, .. } => {
                if MEMORY_CAP < memory {
                    return Err(OpenError::Memory { needed: memory, available: MEMORY_CAP });
                }
                if iterations == 0 || lanes == 0 || memory / 1024 < 8 * u64::from(lanes) {
                    return Err(OpenError::Damaged("the parameters of Argon2 are none that it has"));
                }
                if ARGON2_LANES_CAP < lanes {
                    return Err(unsupported(format!("Argon2 with {lanes} lanes")));
                }
                ARGON2_WORK_CAP < (memory / 1024).saturating_mul(iterations)
            }
        };
        if costly { Err(OpenError::Costly(*self)) } else { Ok(()) }
    }
}

impl fmt::Display for Kdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aes { rounds } => write!(f, "AES, {rounds} rounds"),
            Self::Argon2 { variant, memory, iterations, lanes } => {
                write!(
                    f,
                    "{variant}, {} MiB, {iterations} iterations, {lanes} lanes",
                    memory.div_ceil(1 << 20)
                )
            }
        }
    }
}

/// The fields that both versions have.
#[derive(Default)]
struct Outer {
    cipher: Option<[u8; 16]>,
    iv_len: Option<usize>,
    has_compression: bool,
    has_seed: bool,
}

impl Outer {
    /// Takes the field `id`. Gives whether it is one of these.
    fn take(&mut self, id: u8, value: &[u8]) -> Result<bool, OpenError> {
        match id {
            1 => {}
            2 => self.cipher = Some(known_cipher(value)?),
            3 => {
                self.has_compression = true;
                match u32::from_le_bytes(sized(value, "compression")?) {
                    0 | 1 => {}
                    other => return Err(unsupported(format!("compression {other}"))),
                }
            }
            4 => {
                sized::<32>(value, "master seed")?;
                self.has_seed = true;
            }
            7 => self.iv_len = Some(value.len()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Gives the cipher, when all is there that it needs.
    fn finish(&self) -> Result<[u8; 16], OpenError> {
        let cipher = self.cipher.ok_or(OpenError::Damaged("its header names no cipher"))?;
        let iv_len = if cipher == CHACHA20 { 12 } else { 16 };
        if self.iv_len != Some(iv_len) || !self.has_compression || !self.has_seed {
            return Err(OpenError::Damaged("its header lacks a field, or a field has the wrong length"));
        }
        Ok(cipher)
    }
}

fn version_3(bytes: &mut Bytes<'_>) -> Result<Header, OpenError> {
    let mut outer = Outer::default();
    let (mut rounds, mut has_transform_seed, mut has_stream_key, mut has_start, mut has_stream) =
        (None, false, false, false, false);
    loop {
        let id = bytes.u8()?;
        let len = bytes.u16()?;
        let value = bytes.take(len.into())?;
        if outer.take(id, value)? {
            continue;
        }
        match id {
            0 => break,
            5 => {
                sized::<32>(value, "transform seed")?;
                has_transform_seed = true;
            }
            6 => rounds = Some(u64::from_le_bytes(sized(value, "number of rounds")?)),
            8 => has_stream_key = true,
            9 => {
                sized::<STREAM_START_LEN>(value, "start of the stream")?;
                has_start = true;
            }
            10 => {
                has_stream = true;
                match u32::from_le_bytes(sized(value, "inner cipher")?) {
                    0 | 2 | 3 => {}
                    1 => return Err(unsupported("the inner cipher ArcFour")),
                    other => return Err(unsupported(format!("inner cipher {other}"))),
                }
            }
            other => return Err(unsupported(format!("header field {other}"))),
        }
    }
    let cipher = outer.finish()?;
    let rounds = rounds.ok_or(OpenError::Damaged("its header has no number of rounds"))?;
    if !(has_transform_seed && has_stream_key && has_start && has_stream) {
        return Err(OpenError::Damaged("its header lacks a field"));
    }
    let payload = bytes.0.len();
    if payload < STREAM_START_LEN + BLOCK_HEAD_3 || cipher != CHACHA20 && !payload.is_multiple_of(16) {
        return Err(OpenError::Truncated);
    }
    Ok(Header { kdf: Kdf::Aes { rounds }, is_version_3: true })
}

fn version_4(database: &[u8], bytes: &mut Bytes<'_>) -> Result<Header, OpenError> {
    let mut fields = Vec::new();
    loop {
        let id = bytes.u8()?;
        let value = bytes.tagged()?;
        if id == 0 {
            break;
        }
        fields.push((id, value));
    }
    // First, since what a damaged header says is of no interest.
    let header = &database[..database.len() - bytes.0.len()];
    if *Sha256::digest(header) != *bytes.take(HASH_LEN)? {
        return Err(OpenError::Damaged("its header does not match its checksum"));
    }
    let mut outer = Outer::default();
    let mut kdf = None;
    for (id, value) in fields {
        match id {
            11 => kdf = Some(known_kdf(&Dictionary::read(value)?)?),
            12 => drop(Dictionary::read(value)?),
            _ if outer.take(id, value)? => {}
            other => return Err(unsupported(format!("header field {other}"))),
        }
    }
    outer.finish()?;
    let kdf = kdf.ok_or(OpenError::Damaged("its header has no key derivation"))?;

    bytes.take(HASH_LEN)?;
    loop {
        bytes.take(HASH_LEN)?;
        if bytes.tagged()?.is_empty() {
            return Ok(Header { kdf, is_version_3: false });
        }
    }
}

fn known_cipher(id: &[u8]) -> Result<[u8; 16], OpenError> {
    match sized(id, "cipher")? {
        known @ (AES_256 | TWOFISH | CHACHA20) => Ok(known),
        AES_128 => Err(unsupported("the cipher AES-128")),
        other => Err(unsupported(format!("cipher {:032x}", u128::from_be_bytes(other)))),
    }
}

fn known_kdf(parameters: &Dictionary<'_>) -> Result<Kdf, OpenError> {
    let id: [u8; 16] = sized(parameters.get("$UUID", BYTES)?, "key derivation")?;
    let variant = match id {
        KDF_AES_3 | KDF_AES_4 => {
            sized::<32>(parameters.get("S", BYTES)?, "seed of the key derivation")?;
            return Ok(Kdf::Aes { rounds: parameters.u64("R")? });
        }
        KDF_ARGON2D => "Argon2d",
        KDF_ARGON2ID => "Argon2id",
        other => return Err(unsupported(format!("key derivation {:032x}", u128::from_be_bytes(other)))),
    };
    // The reader would leave these out, and the key would be wrong.
    for (name, what) in [("K", "a secret key"), ("A", "associated data")] {
        if parameters.find(name).is_some_and(|(_, value)| !value.is_empty()) {
            return Err(unsupported(format!("Argon2 with {what}")));
        }
    }
    match parameters.u32("V")? {
        0x10 | 0x13 => {}
        other => return Err(unsupported(format!("version {other:#x} of Argon2"))),
    }
    if parameters.get("S", BYTES)?.len() < 8 {
        return Err(OpenError::Damaged("the salt of Argon2 is too short"));
    }
    Ok(Kdf::Argon2 {
        variant,
        memory: parameters.u64("M")?,
        iterations: parameters.u64("I")?,
        lanes: parameters.u32("P")?,
    })
}

const U32: u8 = 0x04;
const U64: u8 = 0x05;
const BYTES: u8 = 0x42;
/// The types of values, with their length where it is fixed.
const VALUE_TYPES: [(u8, Option<usize>); 7] = [
    (U32, Some(4)),
    (U64, Some(8)),
    (0x08, Some(1)),
    (0x0c, Some(4)),
    (0x0d, Some(8)),
    (0x18, None),
    (BYTES, None),
];

/// Names with typed values, as version 4 holds the parameters of its key derivation.
struct Dictionary<'a>(Vec<(&'a [u8], u8, &'a [u8])>);

impl<'a> Dictionary<'a> {
    fn read(field: &'a [u8]) -> Result<Self, OpenError> {
        let damaged = |_| OpenError::Damaged("a list in its header is malformed");
        let mut bytes = Bytes(field);
        let mut items = Vec::new();
        if bytes.u16().map_err(damaged)? != 0x100 {
            return Err(unsupported("the version of a list in its header"));
        }
        loop {
            let value_type = bytes.u8().map_err(damaged)?;
            if value_type == 0 && bytes.0.is_empty() {
                return Ok(Self(items));
            }
            let name = bytes.tagged().map_err(damaged)?;
            let value = bytes.tagged().map_err(damaged)?;
            let fits = |&(known, len): &(u8, Option<usize>)| {
                known == value_type && len.is_none_or(|len| len == value.len())
            };
            if !VALUE_TYPES.iter().any(fits) {
                return Err(OpenError::Damaged("a value in a list of its header is malformed"));
            }
            items.push((name, value_type, value));
        }
    }

    /// The type and the bytes of the value `name`: the last, as the reader takes it.
    fn find(&self, name: &str) -> Option<(u8, &'a [u8])> {
        let item = self.0.iter().rev().find(|(key, ..)| *key == name.as_bytes());
        item.map(|&(_, value_type, value)| (value_type, value))
    }

    fn get(&self, name: &str, value_type: u8) -> Result<&'a [u8], OpenError> {
        match self.find(name) {
            Some((found, value)) if found == value_type => Ok(value),
            _ => Err(OpenError::Damaged("a parameter of its key derivation is missing")),
        }
    }

    fn u32(&self, name: &str) -> Result<u32, OpenError> {
        Ok(u32::from_le_bytes(sized(self.get(name, U32)?, "parameter")?))
    }

    fn u64(&self, name: &str) -> Result<u64, OpenError> {
        Ok(u64::from_le_bytes(sized(self.get(name, U64)?, "parameter")?))
    }
}

/// The bytes that are still to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], OpenError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(OpenError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], OpenError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(OpenError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, OpenError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, OpenError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, OpenError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Bytes with their length in front.
    fn tagged(&mut self) -> Result<&'a [u8], OpenError> {
        let len = self.u32()?;
        self.take(usize::try_from(len).map_err(|_| OpenError::Truncated)?)
    }
}

fn sized<const N: usize>(value: &[u8], what: &'static str) -> Result<[u8; N], OpenError> {
    value.try_into().map_err(|_| OpenError::FieldLength(what))
}

fn unsupported(what: impl Into<String>) -> OpenError {
    OpenError::Unsupported(what.into())
}

//! Small files of the store: a value, then its hash, so that a torn or changed one is noticed.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::Digest;

/// Says why a file is not what was written: the end of a sentence.
pub(crate) type Broken = &'static str;

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Into memory, of plain types: encoding cannot fail.
    let mut bytes = postcard::to_stdvec(value).unwrap_or_default();
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(&digest.0);
    bytes
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Broken> {
    match bytes.split_last_chunk() {
        Some((value, digest)) if Digest::of(value) == Digest(*digest) => {
            postcard::from_bytes(value).map_err(|_| "holds what this Loom cannot read")
        }
        Some(_) => Err("does not match its checksum"),
        None => Err("is too short"),
    }
}

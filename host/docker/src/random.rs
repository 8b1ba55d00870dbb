//! Random numbers for names.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// A number that nobody else has: the seed of a hash map, which the system's random numbers make.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

//! The log of entries that were removed: what to look at when a key is not found.

use std::io::ErrorKind;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::io::{self, Sync};
use crate::layout::Layout;
use crate::{Error, sealed};

/// The number of evictions that are remembered.
const LOG: usize = 1000;

/// An entry that is no longer there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eviction {
    /// The cache's name.
    pub name: String,
    /// The entry's key.
    pub key: String,
    /// The time at which it was removed.
    pub when: SystemTime,
    /// The reason.
    pub cause: Cause,
}

/// The reason why an entry was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The store was too large, and this was the entry whose last use was longest ago.
    Limit {
        /// The size in bytes that the store may have.
        max_bytes: u64,
        /// The time at which the entry was last used.
        used: SystemTime,
    },
    /// The entry was damaged.
    Damaged {
        /// The file that was damaged, and how.
        why: String,
    },
}

/// Reads the log, the last eviction last.
pub(crate) fn read(layout: &Layout) -> Result<Vec<Eviction>, Error> {
    let path = layout.evictions();
    match io::read(&path) {
        // One that is damaged is as good as none: it only explains.
        Ok(bytes) => Ok(sealed::decode(&bytes).unwrap_or_default()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::read(path, error)),
    }
}

/// Notes that entries were removed; that they were does not depend on it. The caller holds the store's lock.
pub(crate) fn log(layout: &Layout, evicted: &[Eviction]) {
    let logged = read(layout).and_then(|mut all| {
        all.extend_from_slice(evicted);
        let old = all.len().saturating_sub(LOG);
        io::replace(&layout.evictions(), &sealed::encode(&all[old..].to_vec()), Sync::No)
    });
    if let Err(error) = logged {
        tracing::debug!("cache: an eviction was not noted: {error}");
    }
}

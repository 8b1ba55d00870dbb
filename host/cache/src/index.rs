//! What was last seen of a tree: which of its files need not be read again.
//!
//! After a restore or a save, the index of (tree, cache) holds the manifest that the tree then was, and for
//! each of its items the identity and the time of change of the file. A file that has both, and the size and
//! time of modification that the manifest says, has the content that the manifest says: any change to it
//! would have moved its time of change, which nothing but the clock can set. Items for which that is not sure
//! (see [`FsClock`](crate::clock::FsClock)) have no such record.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Stat;

use crate::clock::Time;
use crate::digest::Digest;
use crate::io::{self, Sync};
use crate::layout::Layout;
use crate::manifest::{self, Manifest};
use crate::manifest_file::{ManifestFile, read_manifest};

/// The number of trees that are remembered: every workspace of a run is one, and each is gone soon.
const MOST: usize = 64;
const RECORD: usize = 20;

/// The part of a file's state that changes whenever the file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Inode and device in one number.
    identity: u64,
    pub(crate) changed: Time,
}

impl Seen {
    pub(crate) fn of(stat: &Stat) -> Self {
        let identity = stat.st_ino ^ stat.st_dev.rotate_left(40).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self { identity, changed: Time::changed(stat) }
    }
}

/// A tree as it was last seen.
pub(crate) struct Index {
    pub(crate) digest: Digest,
    pub(crate) manifest: Arc<Manifest>,
    /// One for each item.
    seen: Vec<Option<Seen>>,
}

impl Index {
    /// Loads what is known of the tree at `tree`, a path without symlinks, whose stat is `root`; an index
    /// that is damaged, or of another tree that was at this place, is as good as none. The manifest is read
    /// unless it is the one that is `at_hand`.
    pub(crate) fn load(
        layout: &Layout,
        tree: &Path,
        root: &Stat,
        name: &str,
        at_hand: Option<(Digest, &Arc<Manifest>)>,
    ) -> Option<Self> {
        let bytes = io::read(&path(layout, tree, name)).ok()?;
        let (records, tail) = bytes.split_last_chunk::<TAIL>()?;
        let (root_now, digest) = (Seen::of(root).identity, Digest(*tail.first_chunk()?));
        if root_now.to_le_bytes() != tail[32..40] || Digest::of(records).0[..24] != tail[40..] {
            return None;
        }
        let manifest = match at_hand {
            Some((known, manifest)) if known == digest => manifest.clone(),
            _ => Arc::new(match read_manifest(layout, digest) {
                Ok(ManifestFile::Whole(manifest)) => manifest,
                _ => return None,
            }),
        };
        let (records, []) = records.as_chunks::<RECORD>() else { return None };
        let seen: Vec<_> = records.iter().map(read).collect();
        (seen.len() == manifest.items.len()).then_some(Self { digest, manifest, seen })
    }

    /// The index of a tree that was never seen.
    pub(crate) fn nothing() -> Self {
        Self { digest: manifest::empty(), manifest: Arc::new(Manifest::nothing()), seen: Vec::new() }
    }

    /// The file with this stat has the content of the item; false also where that cannot be told.
    pub(crate) fn vouches(&self, item: usize, stat: &Stat) -> bool {
        let meta = self.manifest.items[item].meta;
        self.seen[item] == Some(Seen::of(stat))
            && self.manifest.data(item).is_some_and(|(size, _)| i64::try_from(size) == Ok(stat.st_size))
            && meta.time == Time::modified(stat)
    }

    pub(crate) fn seen(&self, item: usize) -> Option<Seen> {
        self.seen[item]
    }
}

/// After the records come the manifest's hash, the tree's identity, the records' own hash.
const TAIL: usize = 64;

/// The manifest that an index speaks of.
pub(crate) fn manifest_of(path: &Path) -> Option<Digest> {
    let bytes = io::read(path).ok()?;
    Some(Digest(*bytes.last_chunk::<TAIL>()?.first_chunk()?))
}

/// Remembers the tree. The caller is told nothing if that fails: the next save reads what it could have
/// skipped.
pub(crate) fn store(
    layout: &Layout,
    tree: &Path,
    root: &Stat,
    name: &str,
    digest: Digest,
    seen: &[Option<Seen>],
) {
    let mut bytes = Vec::with_capacity(seen.len() * RECORD + TAIL);
    for seen in seen {
        bytes.extend_from_slice(&record(*seen));
    }
    let check = Digest::of(&bytes);
    bytes.extend_from_slice(&digest.0);
    bytes.extend_from_slice(&Seen::of(root).identity.to_le_bytes());
    bytes.extend_from_slice(&check.0[..24]);
    let path = path(layout, tree, name);
    if let Err(error) = io::replace(&path, &bytes, Sync::No) {
        tracing::debug!("the stat index was not kept: {error}");
    }
    forget(layout);
}

/// Removes the oldest indexes beyond the number that is kept.
fn forget(layout: &Layout) {
    let Ok(files) = io::files(&layout.indexes()) else { return };
    if files.len() <= MOST {
        return;
    }
    let mut files: Vec<(_, PathBuf)> = files
        .into_iter()
        .filter_map(|file| Some((fs_err::metadata(&file).and_then(|meta| meta.modified()).ok()?, file)))
        .collect();
    files.sort_unstable();
    for (_, file) in files.iter().rev().skip(MOST) {
        let _ = fs_err::remove_file(file);
    }
}

fn path(layout: &Layout, tree: &Path, name: &str) -> PathBuf {
    let mut hasher = blake3::Hasher::new();
    hasher.update(tree.as_os_str().as_encoded_bytes()).update(&[0]).update(name.as_bytes());
    layout.indexes().join(Digest::from(hasher.finalize()).to_string())
}

fn record(seen: Option<Seen>) -> [u8; RECORD] {
    let mut record = [0xff; RECORD];
    if let Some(Seen { identity, changed }) = seen {
        record[..8].copy_from_slice(&identity.to_le_bytes());
        record[8..16].copy_from_slice(&changed.seconds.to_le_bytes());
        record[16..].copy_from_slice(&changed.nanos.to_le_bytes());
    }
    record
}

fn read(record: &[u8; RECORD]) -> Option<Seen> {
    let (identity, rest) = record.split_first_chunk()?;
    let (seconds, rest) = rest.split_first_chunk()?;
    let nanos = u32::from_le_bytes(*rest.first_chunk()?);
    // No time has so many: a file without a record.
    (nanos < 1_000_000_000).then(|| Seen {
        identity: u64::from_le_bytes(*identity),
        changed: Time { seconds: i64::from_le_bytes(*seconds), nanos },
    })
}

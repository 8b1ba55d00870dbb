//! Packs of which an entry needs little: they are kept whole for it, so at some point it pays to store that
//! little anew. And packs that are small: each has to be opened.

use std::collections::HashSet;

use crate::digest::Digest;
use crate::manifest::{Content, Manifest};

/// The waste in bytes that is worth a second walk.
const LITTLE: u64 = 8 << 20;

/// An entry that is saved again and again gets a small pack each time: with more than so many of them, they
/// become one.
const MANY: usize = 64;
const SMALL: u64 = 4 << 20;

/// If the packs of an entry are more than twice as large as what it needs of them: those of which it needs
/// less than half. If it has many small ones: these.
pub(super) fn wasteful(manifest: &Manifest) -> HashSet<Digest> {
    let small = || manifest.packs.iter().filter(|pack| pack.len < SMALL);
    if small().count() > MANY {
        return small().map(|pack| pack.id).collect();
    }
    let mut needed = vec![0; manifest.packs.len()];
    for item in &manifest.items {
        if let Content::Packed { block, size, .. } = item.content {
            let block = &manifest.blocks[block as usize];
            // A file's share of its block, as if all of it were compressed equally well.
            needed[block.pack as usize] +=
                u64::from(size) * u64::from(block.stored) / u64::from(block.raw.max(1));
        }
    }
    let all: u64 = manifest.packs.iter().map(|pack| pack.len).sum();
    if all <= 2 * needed.iter().sum::<u64>() + LITTLE {
        return HashSet::new();
    }
    let packs = manifest.packs.iter().zip(needed);
    packs.filter(|(pack, needed)| needed * 2 < pack.len).map(|(pack, _)| pack.id).collect()
}

//! Packs: small files in blocks of about a mebibyte, compressed where that pays.
//!
//! ```text
//!  block … block  index: [count, (at, stored, raw)…, count, (hash, block, offset, size)… by hash]  length  magic
//! ```
//!
//! A pack is named after the hash of its index, which names the content of every file in it. It is written
//! once.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::digest::Digest;
use crate::io::{self, new_file};
use crate::layout::{self, Layout};
use crate::sealed::Broken;
use crate::staging::Staging;

/// A block is closed when it holds this much.
const BLOCK: usize = 1 << 20;
/// A pack is closed when it holds this much: what is deleted as one, so not too much, and synced as one, so
/// not too little.
const PACK: u64 = 32 << 20;
/// Fast, and nearly as small as the next levels for what is saved most: text.
const LEVEL: i32 = 1;
/// The size in bytes of the pack indexes that a save looks at, the newest first: about one and a half million
/// files.
const MOST_KNOWN: usize = 64 << 20;

/// No block is larger: what a damaged manifest may make a restore allocate.
pub(crate) const LARGEST_BLOCK: u32 = 4 << 20;

const MAGIC: [u8; 8] = *b"loompack";
const FOOTER: usize = 12;
const RECORD: usize = 44;

/// A pack that an entry needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackRef {
    pub(crate) id: Digest,
    /// The length in bytes, by which a torn one is noticed before anything is restored.
    pub(crate) len: u64,
}

/// The place of a block in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockAt {
    pub(crate) at: u64,
    pub(crate) stored: u32,
    pub(crate) raw: u32,
}

/// The place of a file in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackRecord {
    pub(crate) digest: Digest,
    pub(crate) block: u32,
    pub(crate) offset: u32,
    pub(crate) size: u32,
}

/// Writes new packs: the same for the same files in the same order, whichever machine and however many
/// threads.
pub(crate) struct Packer<'a> {
    staging: &'a Staging,
    packs: Vec<NewPack>,
    /// The blocks that are in packs, by number: the pack, and where in it.
    blocks: Vec<(u32, BlockAt)>,
    /// The blocks that wait to be compressed and written, several at once.
    full: Vec<Filling>,
    filling: Filling,
    /// The content of the new blocks.
    seen: HashMap<Digest, Spot>,
}

struct NewPack {
    path: PathBuf,
    file: Arc<File>,
    len: u64,
    blocks: Vec<BlockAt>,
    records: Vec<PackRecord>,
}

/// The place of a file in the new blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) block: u32,
    pub(crate) offset: u32,
}

/// A block that is being filled.
#[derive(Default)]
struct Filling {
    /// The contents, one after the other.
    contents: Vec<Vec<u8>>,
    /// Their hashes, where each begins, and how long it is.
    files: Vec<(Digest, u32, u32)>,
    len: usize,
}

/// The packs and blocks that a save wrote.
pub(crate) struct Packed {
    /// Each with where it lies until it is published.
    pub(crate) packs: Vec<(PathBuf, PackRef)>,
    /// The pack and the place in it, by number.
    pub(crate) blocks: Vec<(u32, BlockAt)>,
}

impl<'a> Packer<'a> {
    pub(crate) fn new(staging: &'a Staging) -> Self {
        Self {
            staging,
            packs: Vec::new(),
            blocks: Vec::new(),
            full: Vec::new(),
            filling: Filling::default(),
            seen: HashMap::new(),
        }
    }

    /// Keeps a content of this hash, unless a new block has it already.
    pub(crate) fn keep(&mut self, content: Vec<u8>, digest: Digest) -> Result<Spot, Error> {
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let spot =
            Spot { block: number(self.blocks.len() + self.full.len()), offset: number(self.filling.len) };
        let known = *self.seen.entry(digest).or_insert(spot);
        if known != spot {
            return Ok(known);
        }
        self.filling.files.push((digest, spot.offset, number(content.len())));
        self.filling.len += content.len();
        self.filling.contents.push(content);
        if self.filling.len >= BLOCK {
            self.full.push(std::mem::take(&mut self.filling));
            if self.full.len() >= 2 * rayon::current_num_threads() {
                self.write()?;
            }
        }
        Ok(spot)
    }

    /// Compresses the blocks that are full, and writes them.
    fn write(&mut self) -> Result<(), Error> {
        let cannot = |error| Error::write(self.staging.path(), error);
        let compressed = std::mem::take(&mut self.full).into_par_iter().with_max_len(1).map_init(
            || zstd::bulk::Compressor::new(LEVEL),
            |compressor, block| match compressor {
                Ok(compressor) => block.compress(compressor),
                Err(error) => Err(std::io::Error::other(error.to_string())),
            },
        );
        let compressed: Vec<Compressed> = compressed.collect::<Result<_, _>>().map_err(cannot)?;
        let mut writes = Vec::with_capacity(compressed.len());
        for Compressed { stored, raw, files } in compressed {
            if self.packs.last().is_none_or(|pack| pack.len >= PACK) {
                let path = self.staging.file(&format!("pack-{}", self.packs.len()));
                let file = Arc::new(new_file(&path)?);
                self.packs.push(NewPack { path, file, len: 0, blocks: Vec::new(), records: Vec::new() });
            }
            let number = u32::try_from(self.packs.len() - 1).unwrap_or(u32::MAX);
            let Some(pack) = self.packs.last_mut() else { continue };
            let length = u32::try_from(stored.len()).unwrap_or(u32::MAX);
            let place = BlockAt { at: pack.len, stored: length, raw };
            let block = u32::try_from(pack.blocks.len()).unwrap_or(u32::MAX);
            pack.len += u64::from(length);
            pack.blocks.push(place);
            let record = |(digest, offset, size)| PackRecord { digest, block, offset, size };
            pack.records.extend(files.into_iter().map(record));
            self.blocks.push((number, place));
            writes.push((pack.file.clone(), place.at, stored));
        }
        writes
            .into_par_iter()
            .try_for_each(|(file, at, stored)| {
                io::fault("write", self.staging.path())?;
                file.write_all_at(&stored, at)
            })
            .map_err(cannot)
    }

    /// Closes every block and pack, and makes the packs durable.
    pub(crate) fn finish(mut self) -> Result<Packed, Error> {
        if self.filling.len > 0 {
            self.full.push(std::mem::take(&mut self.filling));
        }
        self.write()?;
        let packs = self.packs.into_par_iter().map(NewPack::finish).collect::<Result<_, _>>()?;
        Ok(Packed { packs, blocks: self.blocks })
    }
}

/// A block as it is written.
struct Compressed {
    stored: Vec<u8>,
    raw: u32,
    files: Vec<(Digest, u32, u32)>,
}

impl Filling {
    fn compress(self, compressor: &mut zstd::bulk::Compressor<'static>) -> std::io::Result<Compressed> {
        let raw = self.contents.concat();
        let mut stored = Vec::with_capacity(zstd::zstd_safe::compress_bound(raw.len()));
        compressor.compress_to_buffer(&raw, &mut stored)?;
        let length = u32::try_from(raw.len()).unwrap_or(u32::MAX);
        // A sixteenth saved is not worth unpacking it each time.
        let pays = stored.len() < raw.len() / 16 * 15;
        Ok(Compressed { stored: if pays { stored } else { raw }, raw: length, files: self.files })
    }
}

impl NewPack {
    fn finish(mut self) -> Result<(PathBuf, PackRef), Error> {
        self.records.sort_unstable_by_key(|record| record.digest);
        let mut index = Vec::with_capacity(self.blocks.len() * 16 + self.records.len() * RECORD + 8 + FOOTER);
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        index.extend_from_slice(&count(self.blocks.len()));
        for block in &self.blocks {
            index.extend_from_slice(&block.at.to_le_bytes());
            index.extend_from_slice(&block.stored.to_le_bytes());
            index.extend_from_slice(&block.raw.to_le_bytes());
        }
        index.extend_from_slice(&count(self.records.len()));
        for record in &self.records {
            index.extend_from_slice(&record.digest.0);
            index.extend_from_slice(&record.block.to_le_bytes());
            index.extend_from_slice(&record.offset.to_le_bytes());
            index.extend_from_slice(&record.size.to_le_bytes());
        }
        let id = Digest::of(&index);
        let length = count(index.len());
        index.extend_from_slice(&length);
        index.extend_from_slice(&MAGIC);
        let write = || {
            io::fault("write", &self.path)?;
            self.file.write_all_at(&index, self.len)?;
            io::fault("sync", &self.path)?;
            self.file.sync_all()
        };
        write().map_err(|error| Error::write(&self.path, error))?;
        Ok((self.path, PackRef { id, len: self.len + index.len() as u64 }))
    }
}

/// The content of one pack.
#[derive(Debug)]
pub(crate) struct PackIndex {
    pub(crate) pack: PackRef,
    pub(crate) blocks: Vec<BlockAt>,
    /// The records as they are in the file.
    pub(crate) records: Vec<u8>,
}

impl PackIndex {
    /// Reads the index of the pack at `path`, whose name says what it must be.
    pub(crate) fn read(path: &Path) -> Result<Self, Unreadable> {
        let file = io::open(path)?.into_parts().0;
        let len = file.metadata()?.len();
        let Some(end) = len.checked_sub(FOOTER as u64) else {
            return Err(Unreadable::Broken("is too short"));
        };
        let mut footer = [0; FOOTER];
        file.read_exact_at(&mut footer, end)?;
        let length = u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]);
        let start = end.checked_sub(length.into());
        let (Some(start), true) = (start, footer[4..] == MAGIC) else {
            return Err(Unreadable::Broken("does not end as a pack does"));
        };
        let mut index = vec![0; length as usize];
        file.read_exact_at(&mut index, start)?;
        let id = Digest::of(&index);
        if layout::digest_of(path) != Some(id) {
            return Err(Unreadable::Broken("is not what its name says"));
        }
        let parsed = Self::parse(&index, PackRef { id, len });
        parsed.ok_or(Unreadable::Broken("has an index that cannot be read"))
    }

    fn parse(index: &[u8], pack: PackRef) -> Option<Self> {
        let (count, rest) = index.split_first_chunk()?;
        let (blocks, rest) = rest.split_at_checked((u32::from_le_bytes(*count) as usize).checked_mul(16)?)?;
        let (count, records) = rest.split_first_chunk()?;
        let whole = (u32::from_le_bytes(*count) as usize).checked_mul(RECORD)? == records.len();
        let (blocks, []) = blocks.as_chunks::<16>() else { return None };
        let blocks = blocks
            .iter()
            .map(|block| {
                let (at, rest) = block.split_first_chunk()?;
                let (stored, raw) = rest.split_first_chunk()?;
                Some(BlockAt {
                    at: u64::from_le_bytes(*at),
                    stored: u32::from_le_bytes(*stored),
                    raw: u32::from_le_bytes(*raw.first_chunk()?),
                })
            })
            .collect::<Option<_>>()?;
        whole.then(|| Self { pack, blocks, records: records.to_vec() })
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len() / RECORD
    }

    pub(crate) fn record(&self, index: usize) -> PackRecord {
        let bytes = &self.records[index * RECORD..][..RECORD];
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[..32]);
        PackRecord { digest: Digest(digest), block: number(32), offset: number(36), size: number(40) }
    }

    /// The records in the order in which the files lie in the pack.
    pub(crate) fn in_order(&self) -> Vec<PackRecord> {
        let mut records: Vec<PackRecord> = (0..self.len()).map(|number| self.record(number)).collect();
        records.sort_unstable_by_key(|record| (record.block, record.offset));
        records
    }

    fn hash(&self, index: usize) -> &[u8] {
        &self.records[index * RECORD..][..32]
    }

    /// Finds the place of a file by its hash. Hashes are spread evenly, so one looks where it should be, and
    /// then around there.
    pub(crate) fn find(&self, digest: Digest) -> Option<PackRecord> {
        let count = self.len();
        let lead = u64::from_be_bytes(*digest.0.first_chunk()?);
        let guess = usize::try_from((u128::from(lead) * count as u128) >> 64).ok()?;
        let mut at = guess.min(count.checked_sub(1)?);
        while at > 0 && self.hash(at) >= &digest.0[..] {
            at -= 1;
        }
        while at < count && self.hash(at) < &digest.0[..] {
            at += 1;
        }
        let found = at < count && self.hash(at) == digest.0;
        let record = found.then(|| self.record(at))?;
        self.blocks
            .get(record.block as usize)
            .is_some_and(|block| block.raw <= LARGEST_BLOCK)
            .then_some(record)
    }
}

/// The packs of the store, the newest first.
#[derive(Default)]
pub(crate) struct KnownPacks {
    pub(crate) packs: Vec<PackIndex>,
}

impl KnownPacks {
    /// Loads what is not in the packs to `avoid`.
    pub(crate) fn load(layout: &Layout, avoid: &HashSet<Digest>) -> Self {
        let mut files: Vec<_> = io::files(&layout.packs())
            .unwrap_or_default()
            .into_iter()
            .filter(|file| layout::digest_of(file).is_some_and(|id| !avoid.contains(&id)))
            .filter_map(|file| Some((fs_err::metadata(&file).and_then(|meta| meta.modified()).ok()?, file)))
            .collect();
        files.sort_unstable_by(|one, other| other.cmp(one));
        let mut packs = Vec::new();
        let mut room = MOST_KNOWN;
        for (_, file) in files {
            if let Ok(pack) = PackIndex::read(&file) {
                let Some(left) = room.checked_sub(pack.records.len()) else { break };
                room = left;
                packs.push(pack);
            }
        }
        Self { packs }
    }

    /// Which pack holds a file of this hash, and where.
    pub(crate) fn find(&self, digest: Digest) -> Option<(u32, PackRecord)> {
        (0_u32..).zip(&self.packs).find_map(|(number, pack)| Some((number, pack.find(digest)?)))
    }
}

/// Reads blocks, with what it needs for that kept from one to the next.
pub(crate) struct Unpacker {
    stored: Vec<u8>,
    raw: Vec<u8>,
    decompressor: zstd::bulk::Decompressor<'static>,
}

/// The reason why a pack, or a block of it, was not read.
pub(crate) enum Unreadable {
    /// Content that is not what was written.
    Broken(Broken),
    /// Content that may be right, but that the system did not give.
    System(std::io::Error),
}

impl From<std::io::Error> for Unreadable {
    fn from(error: std::io::Error) -> Self {
        Self::System(error)
    }
}

impl Unpacker {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { stored: Vec::new(), raw: Vec::new(), decompressor: zstd::bulk::Decompressor::new()? })
    }

    /// The content of a block of the pack at `path`.
    pub(crate) fn read(&mut self, path: &Path, block: BlockAt) -> Result<&[u8], Unreadable> {
        let file = io::open(path).map_err(of_block)?.into_parts().0;
        self.stored.resize(block.stored as usize, 0);
        file.read_exact_at(&mut self.stored, block.at).map_err(of_block)?;
        if block.stored == block.raw {
            return Ok(&self.stored);
        }
        self.raw.clear();
        self.raw.reserve(block.raw as usize);
        match self.decompressor.decompress_to_buffer(&self.stored, &mut self.raw) {
            Ok(length) if length == block.raw as usize => Ok(&self.raw),
            _ => Err(Unreadable::Broken("has a block that cannot be decompressed")),
        }
    }
}

fn of_block(error: std::io::Error) -> Unreadable {
    match error.kind() {
        std::io::ErrorKind::NotFound => Unreadable::Broken("is missing"),
        std::io::ErrorKind::UnexpectedEof => Unreadable::Broken("is too short"),
        _ => Unreadable::System(error),
    }
}

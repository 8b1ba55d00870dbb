//! What an entry holds: folders, files, symlinks, and where in the store their content is.
//!
//! Paths do not occur: a folder names the folder that it is in by number, so that an entry cannot speak of
//! anything but names below its root. What is read from disk is checked by [`Manifest::decode`] before
//! anything looks at it.

use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use loom_tree::{dir, link};
use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::digest::Digest;
use crate::object::ObjectRef;
use crate::pack::{BlockAt, LARGEST_BLOCK, PackIndex, PackRecord, PackRef};

/// No manifest is longer than this when it is not compressed: some ten million files.
const LONGEST: usize = 1 << 30;
/// The level of compression: smaller than with the first, and still a matter of milliseconds.
const LEVEL: i32 = 3;

/// A tree as it was saved.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// The packs that the blocks are in, each once.
    pub(crate) packs: Vec<PackRef>,
    /// The files that lie by themselves, each once.
    pub(crate) objects: Vec<ObjectRef>,
    pub(crate) blocks: Vec<Block>,
    /// The root first, each folder after the one that it is in, those of one folder together and by name.
    pub(crate) folders: Vec<Folder>,
    /// Files and symlinks: those of a folder together and by name, in the order of the folders.
    pub(crate) items: Vec<Item>,
    names: Names,
}

/// Small files one after the other, compressed together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Block {
    /// Which of the packs.
    pub(crate) pack: u32,
    pub(crate) at: u64,
    /// Bytes in the pack; as many as `raw` if it is not compressed.
    pub(crate) stored: u32,
    /// Bytes of content.
    pub(crate) raw: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Folder {
    /// Which of the folders it is in; the root is in itself.
    pub(crate) parent: u32,
    name_length: u16,
    /// The state of the folder, if a pattern names it or what it is in; nothing for a folder on the way to
    /// such a one.
    pub(crate) meta: Option<Meta>,
    /// The number of its items.
    items: u32,
    #[serde(skip)]
    at: FolderAt,
}

/// The place of a folder, as it follows from the other folders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct FolderAt {
    name: usize,
    items: Range<usize>,
    children: Range<usize>,
}

/// Permissions and time of modification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) mode: u16,
    pub(crate) time: Time,
}

impl Meta {
    /// The state of a file; of its permissions only those in `bits`.
    pub(crate) fn of(stat: &Stat, bits: u32) -> Self {
        Self { mode: u16::try_from(stat.st_mode & bits).unwrap_or(0), time: Time::modified(stat) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    name_length: u16,
    pub(crate) meta: Meta,
    pub(crate) content: Content,
    name_at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Empty,
    Packed {
        block: u32,
        /// The place in the block's content at which it begins.
        offset: u32,
        size: u32,
        digest: Digest,
    },
    /// Which of the objects.
    Object(u32),
    /// A symlink; the target stands after its name.
    Link {
        length: u16,
    },
}

/// All names and link targets, one after the other.
#[derive(Debug, Default)]
struct Names(Vec<u8>);

impl Serialize for Names {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Names;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Names, E> {
                Ok(Names(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// The items as they are written: what is alike stands together, and what the packs say of their files is
/// left to them.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Columns {
    name_lengths: Vec<u16>,
    modes: Vec<u16>,
    /// Each as the difference to the one before.
    seconds: Vec<i64>,
    nanos: Vec<u32>,
    kinds: Vec<u8>,
    /// The blocks of files, each as the difference to the one before.
    blocks: Vec<i64>,
    offsets: Vec<u32>,
    /// Which of the objects, and how long a link's text is.
    others: Vec<u32>,
}

const EMPTY: u8 = 0;
const PACKED: u8 = 1;
const OBJECT: u8 = 2;
const LINK: u8 = 3;

impl Columns {
    fn of(manifest: &Manifest) -> Self {
        let mut columns = Self::default();
        let (mut second, mut last) = (0_i64, 0_i64);
        for item in &manifest.items {
            columns.name_lengths.push(item.name_length);
            columns.modes.push(item.meta.mode);
            columns.seconds.push(item.meta.time.seconds.wrapping_sub(second));
            second = item.meta.time.seconds;
            columns.nanos.push(item.meta.time.nanos);
            columns.kinds.push(match item.content {
                Content::Empty => EMPTY,
                Content::Packed { block, offset, .. } => {
                    columns.blocks.push(i64::from(block) - last);
                    last = i64::from(block);
                    columns.offsets.push(offset);
                    PACKED
                }
                Content::Object(object) => {
                    columns.others.push(object);
                    OBJECT
                }
                Content::Link { length } => {
                    columns.others.push(length.into());
                    LINK
                }
            });
        }
        columns
    }

    fn into_items(
        self,
        blocks: &[Block],
        packs: &[PackRef],
        pack: &mut dyn FnMut(&PackRef) -> Result<PackIndex, Invalid>,
    ) -> Result<Vec<Item>, Invalid> {
        let count = self.kinds.len();
        if [self.name_lengths.len(), self.modes.len(), self.seconds.len(), self.nanos.len()] != [count; 4] {
            return Err(Invalid::Unreadable);
        }
        let mut files = Files::new(blocks, packs, pack)?;
        let (mut placed, mut offsets) = (self.blocks.into_iter(), self.offsets.into_iter());
        let mut others = self.others.into_iter();
        let (mut second, mut block) = (0_i64, 0_i64);
        let mut items = Vec::with_capacity(count);
        for (at, kind) in self.kinds.into_iter().enumerate() {
            let mut other = || others.next().ok_or(Invalid::Unreadable);
            let content = match kind {
                EMPTY => Content::Empty,
                PACKED => {
                    block =
                        placed.next().and_then(|more| block.checked_add(more)).ok_or(Invalid::Unreadable)?;
                    let number = u32::try_from(block).map_err(|_| Invalid::Unreadable)?;
                    let offset = offsets.next().ok_or(Invalid::Unreadable)?;
                    let (size, digest) = files.find(number, offset).ok_or(Invalid::Unreadable)?;
                    Content::Packed { block: number, offset, size, digest }
                }
                OBJECT => Content::Object(other()?),
                LINK => Content::Link { length: u16::try_from(other()?).map_err(|_| Invalid::Unreadable)? },
                _ => return Err(Invalid::Unreadable),
            };
            second = second.wrapping_add(self.seconds[at]);
            let time = Time { seconds: second, nanos: self.nanos[at] };
            let meta = Meta { mode: self.modes[at], time };
            items.push(Item { name_length: self.name_lengths[at], meta, content, name_at: 0 });
        }
        let left = placed.next().is_some() || offsets.next().is_some() || others.next().is_some();
        if left { Err(Invalid::Unreadable) } else { Ok(items) }
    }
}

/// The files in the blocks of a manifest, as their packs tell them.
struct Files {
    /// For each block: its pack, and from which to which of the pack's files it holds.
    blocks: Vec<Option<(usize, Range<usize>)>>,
    /// For each pack: its files in their order.
    packs: Vec<Vec<PackRecord>>,
    /// The file that was found last: the next one is often the one after it.
    last: usize,
}

impl Files {
    fn new(
        blocks: &[Block],
        packs: &[PackRef],
        pack: &mut dyn FnMut(&PackRef) -> Result<PackIndex, Invalid>,
    ) -> Result<Self, Invalid> {
        let mut files = Self { blocks: vec![None; blocks.len()], packs: Vec::new(), last: 0 };
        let mut of_pack: Vec<Vec<usize>> = vec![Vec::new(); packs.len()];
        for (number, block) in blocks.iter().enumerate() {
            of_pack.get_mut(block.pack as usize).ok_or(Invalid::Unreadable)?.push(number);
        }
        for (number, (reference, wanted)) in packs.iter().zip(of_pack).enumerate() {
            let index = pack(reference)?;
            let records = index.in_order();
            for block in wanted {
                let Block { at, stored, raw, .. } = blocks[block];
                let there = index.blocks.iter().position(|there| *there == BlockAt { at, stored, raw });
                let there = there.and_then(|there| u32::try_from(there).ok()).ok_or(Invalid::Unreadable)?;
                let first = records.partition_point(|record| record.block < there);
                let end = records.partition_point(|record| record.block <= there);
                files.blocks[block] = Some((number, first..end));
            }
            files.packs.push(records);
        }
        Ok(files)
    }

    /// The size and the hash of the file that begins at `offset` in a block.
    fn find(&mut self, block: u32, offset: u32) -> Option<(u32, Digest)> {
        let (pack, range) = self.blocks.get(block as usize)?.clone()?;
        let records = &self.packs[pack];
        let next = self.last + 1;
        let at = if range.contains(&next) && records[next].offset == offset {
            next
        } else {
            range.start + records[range].binary_search_by_key(&offset, |record| record.offset).ok()?
        };
        self.last = at;
        Some((records[at].size, records[at].digest))
    }
}

/// The part of a manifest that tells which content it needs: enough to collect what no entry needs.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Needs {
    pub(crate) packs: Vec<PackRef>,
    pub(crate) objects: Vec<ObjectRef>,
}

/// The reason why bytes are not a manifest that may be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// Bytes that are not what was written.
    Unreadable,
    /// Something of it breaks a rule: what, and how.
    Refused(PathBuf, &'static str),
    /// A pack that it needs is not as it should be: which, and the end of a sentence.
    Pack(PathBuf, &'static str),
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable => f.write_str("cannot be read"),
            Self::Pack(_, why) => f.write_str(why),
            Self::Refused(path, why) => write!(f, "holds `{}`, which {why}", path.display()),
        }
    }
}

impl Manifest {
    /// The bytes on disk: the length of [`Needs`] in four bytes, [`Needs`], then the length of the rest in
    /// four bytes, and the rest compressed.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        // Into memory, of plain types: encoding cannot fail.
        let needs = postcard::to_stdvec(&(&self.packs, &self.objects)).unwrap_or_default();
        let columns = Columns::of(self);
        let body =
            postcard::to_stdvec(&(&self.blocks, &self.folders, &columns, &self.names)).unwrap_or_default();
        let compressed = zstd::bulk::compress(&body, LEVEL).unwrap_or_default();
        [&length(&needs)[..], &needs, &length(&body), &compressed].concat()
    }

    /// Reads what [`Self::encode`] wrote. Every rule that restoring relies on holds for what is returned.
    /// `pack` reads what a pack holds.
    pub(crate) fn decode(
        bytes: &[u8],
        pack: &mut dyn FnMut(&PackRef) -> Result<PackIndex, Invalid>,
    ) -> Result<Self, Invalid> {
        let (needs, body) = split(bytes).ok_or(Invalid::Unreadable)?;
        let Needs { packs, objects } = postcard::from_bytes(needs).map_err(|_| Invalid::Unreadable)?;
        let (length, compressed) = body.split_first_chunk().ok_or(Invalid::Unreadable)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|&length| length <= LONGEST);
        let body = zstd::bulk::decompress(compressed, length.ok_or(Invalid::Unreadable)?);
        let body = body.map_err(|_| Invalid::Unreadable)?;
        let (blocks, folders, columns, names): (_, _, Columns, _) =
            postcard::from_bytes(&body).map_err(|_| Invalid::Unreadable)?;
        let mut manifest = Self { packs, objects, blocks, folders, items: Vec::new(), names };
        manifest.items = columns.into_items(&manifest.blocks, &manifest.packs, pack)?;
        manifest.place()?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Puts together what was walked. `folders` and `items` are in the order that [`Manifest`] asks for, each
    /// with its name, links with their targets.
    pub(crate) fn build<'a>(
        packs: Vec<PackRef>,
        objects: Vec<ObjectRef>,
        blocks: Vec<Block>,
        folders: impl IntoIterator<Item = (u32, &'a [u8], Option<Meta>, usize)>,
        items: impl IntoIterator<Item = (&'a [u8], Meta, Stored<'a>)>,
    ) -> Self {
        let mut names = Names::default();
        let mut length = |bytes: &[u8]| {
            names.0.extend_from_slice(bytes);
            u16::try_from(bytes.len()).unwrap_or(u16::MAX)
        };
        let folders = folders
            .into_iter()
            .map(|(parent, name, meta, items)| Folder {
                parent,
                name_length: length(name),
                meta,
                items: u32::try_from(items).unwrap_or(u32::MAX),
                at: FolderAt::default(),
            })
            .collect();
        let items = items
            .into_iter()
            .map(|(name, meta, stored)| {
                let name_length = length(name);
                let content = match stored {
                    Stored::Content(content) => content,
                    Stored::Link(target) => Content::Link { length: length(target) },
                };
                Item { name_length, meta, content, name_at: 0 }
            })
            .collect();
        Self { packs, objects, blocks, folders, items, names }
    }

    /// A tree with nothing in it.
    pub(crate) fn nothing() -> Self {
        Self::build(Vec::new(), Vec::new(), Vec::new(), [(0, &b""[..], None, 0)], [])
    }

    pub(crate) fn folder_name(&self, folder: usize) -> &[u8] {
        let Folder { name_length, at, .. } = &self.folders[folder];
        &self.names.0[at.name..at.name + usize::from(*name_length)]
    }

    pub(crate) fn name(&self, item: usize) -> &[u8] {
        let Item { name_at, name_length, .. } = self.items[item];
        &self.names.0[name_at..name_at + usize::from(name_length)]
    }

    /// The target of a symlink; empty for what is none.
    pub(crate) fn target(&self, item: usize) -> &[u8] {
        let Item { name_at, name_length, content, .. } = self.items[item];
        match content {
            Content::Link { length } => {
                &self.names.0[name_at + usize::from(name_length)..][..usize::from(length)]
            }
            _ => b"",
        }
    }

    /// The size and the hash of a file; nothing for a symlink.
    pub(crate) fn data(&self, item: usize) -> Option<(u64, Digest)> {
        match self.items[item].content {
            Content::Empty => Some((0, empty())),
            Content::Packed { size, digest, .. } => Some((size.into(), digest)),
            Content::Object(object) => {
                self.objects.get(object as usize).map(|object| (object.size, object.digest))
            }
            Content::Link { .. } => None,
        }
    }

    pub(crate) fn items_of(&self, folder: usize) -> Range<usize> {
        self.folders[folder].at.items.clone()
    }

    pub(crate) fn children_of(&self, folder: usize) -> Range<usize> {
        self.folders[folder].at.children.clone()
    }

    /// The item of this name in a folder.
    pub(crate) fn item(&self, folder: usize, name: &[u8]) -> Option<usize> {
        search(self.items_of(folder), name, |item| self.name(item))
    }

    /// The folder of this name in a folder.
    pub(crate) fn child(&self, folder: usize, name: &[u8]) -> Option<usize> {
        search(self.children_of(folder), name, |child| self.folder_name(child))
    }

    /// Below the root, which is empty.
    pub(crate) fn path(&self, mut folder: usize) -> Vec<u8> {
        let mut names = Vec::new();
        while folder != 0 {
            names.push(self.folder_name(folder));
            folder = self.folders[folder].parent as usize;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Whether both hold the same folders, files and symlinks, wherever the store has their content.
    pub(crate) fn is_same_tree(&self, other: &Self) -> bool {
        let folder = |folder: &Folder| (folder.parent, folder.name_length, folder.meta, folder.items);
        let item = |of: &Self, item: usize| {
            let Item { name_length, meta, content, .. } = of.items[item];
            let link = match content {
                Content::Link { length } => Some(length),
                _ => None,
            };
            (name_length, meta, link, of.data(item))
        };
        self.names.0 == other.names.0
            && self.items.len() == other.items.len()
            && self.folders.iter().map(folder).eq(other.folders.iter().map(folder))
            && (0..self.items.len()).all(|at| item(self, at) == item(other, at))
    }

    /// The sizes of all files in sum.
    pub(crate) fn bytes(&self) -> u64 {
        (0..self.items.len()).filter_map(|item| self.data(item)).map(|(size, _)| size).sum()
    }

    /// Finds the place of every name, child and item.
    fn place(&mut self) -> Result<(), Invalid> {
        let (mut name, mut item) = (0_usize, 0_usize);
        for index in 0..self.folders.len() {
            let parent = self.folders[index].parent as usize;
            if index == 0 && parent != 0 || index > 0 && parent >= index {
                return Err(Invalid::Unreadable);
            }
            let folder = &mut self.folders[index];
            let items = item..item + folder.items as usize;
            (folder.at.name, folder.at.items) = (name, items.clone());
            (name, item) = (name + usize::from(folder.name_length), items.end);
            if index > 0 {
                let children = &mut self.folders[parent].at.children;
                if children.start == 0 {
                    children.start = index;
                } else if children.end != index {
                    return Err(Invalid::Unreadable);
                }
                children.end = index + 1;
            }
        }
        for item in &mut self.items {
            item.name_at = name;
            name += usize::from(item.name_length);
            if let Content::Link { length } = item.content {
                name += usize::from(length);
            }
        }
        if self.folders.is_empty() || item != self.items.len() || name != self.names.0.len() {
            return Err(Invalid::Unreadable);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Invalid> {
        let broken = self.blocks.iter().any(|block| block.raw > LARGEST_BLOCK || block.stored > block.raw);
        if broken || !self.folder_name(0).is_empty() {
            return Err(Invalid::Unreadable);
        }
        for folder in 0..self.folders.len() {
            let refused = |name: &[u8], why| {
                let path = dir::join(&self.path(folder), name);
                Err(Invalid::Refused(PathBuf::from(OsString::from_vec(path)), why))
            };
            let mut last: &[u8] = b"";
            for child in self.children_of(folder) {
                let name = self.folder_name(child);
                if let Err(why) = link::check_name(name) {
                    return refused(name, why);
                }
                if name <= last {
                    return refused(name, "occurs twice or out of order");
                }
                last = name;
            }
            last = b"";
            for item in self.items_of(folder) {
                let name = self.name(item);
                if let Err(why) = link::check_name(name) {
                    return refused(name, why);
                }
                if name <= last {
                    return refused(name, "occurs twice or out of order");
                }
                if self.child(folder, name).is_some() {
                    return refused(name, "is both a file and a folder");
                }
                if let Content::Link { .. } = self.items[item].content
                    && let Err(why) = link::check_text(self.target(item))
                {
                    return refused(name, why);
                }
                if !self.is_stored(item) {
                    return Err(Invalid::Unreadable);
                }
                last = name;
            }
        }
        Ok(())
    }

    /// Whether the content of an item is within what the manifest says of blocks and objects.
    fn is_stored(&self, item: usize) -> bool {
        match self.items[item].content {
            Content::Empty | Content::Link { .. } => true,
            Content::Packed { block, offset, size, .. } => self
                .blocks
                .get(block as usize)
                .is_some_and(|block| offset.checked_add(size).is_some_and(|end| end <= block.raw)),
            Content::Object(object) => (object as usize) < self.objects.len(),
        }
    }
}

/// The content of an item for [`Manifest::build`].
pub(crate) enum Stored<'a> {
    /// Anything but a link.
    Content(Content),
    /// A symlink to this target.
    Link(&'a [u8]),
}

impl Needs {
    /// Reads them from the first bytes of a manifest; the number of bytes that it takes if these are too few.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, usize> {
        let (needs, _) = split(bytes).ok_or_else(|| match bytes.first_chunk() {
            Some(length) => (u32::from_le_bytes(*length) as usize).saturating_add(4),
            None => 4,
        })?;
        postcard::from_bytes(needs).map_err(|_| 0)
    }
}

/// The hash of nothing.
pub(crate) fn empty() -> Digest {
    Digest::of(b"")
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

fn search<'a>(range: Range<usize>, name: &[u8], name_of: impl Fn(usize) -> &'a [u8]) -> Option<usize> {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        match name_of(middle).cmp(name) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => return Some(middle),
        }
    }
    None
}

#[cfg(test)]
mod tests;

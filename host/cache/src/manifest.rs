//! What an entry holds: folders, files, symlinks, and where in the store their content is.
//!
//! Paths do not occur: a folder names the folder that it is in by number, so that an entry cannot speak of anything but
//! names below its root. What is read from disk is checked by [`Manifest::decode`] before anything looks at it.

use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use loom_tree::{dir, link};
use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::digest::Digest;

/// No block is larger: what a damaged manifest may make a restore allocate.
pub(crate) const LARGEST_BLOCK: u32 = 4 << 20;

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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackRef {
    pub(crate) id: Digest,
    /// Its length in bytes, by which a torn one is noticed before anything is restored.
    pub(crate) len: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ObjectRef {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
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
    /// As it was, if a pattern names it or what it is in; nothing for a folder on the way to such a one.
    pub(crate) meta: Option<Meta>,
    /// How many items it has.
    items: u32,
    #[serde(skip)]
    at: FolderAt,
}

/// What follows from the other folders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct FolderAt {
    name: usize,
    items: Range<usize>,
    children: Range<usize>,
    depth: usize,
}

/// Permissions and time of modification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) mode: u16,
    pub(crate) time: Time,
}

impl Meta {
    /// As a file has it; of its permissions only those in `bits`.
    pub(crate) fn of(stat: &Stat, bits: u32) -> Self {
        Self { mode: u16::try_from(stat.st_mode & bits).unwrap_or(0), time: Time::modified(stat) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    name_length: u16,
    pub(crate) meta: Meta,
    pub(crate) content: Content,
    #[serde(skip)]
    name_at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Content {
    Empty,
    Packed {
        block: u32,
        /// Where in the block's content it begins.
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

/// What of a manifest tells which content it needs: enough to collect what no entry needs.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Needs {
    pub(crate) packs: Vec<PackRef>,
    pub(crate) objects: Vec<ObjectRef>,
}

/// Why bytes are not a manifest that may be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// They are not what was written.
    Unreadable,
    /// Something of it breaks a rule: what, and how.
    Refused(PathBuf, &'static str),
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable => f.write_str("cannot be read"),
            Self::Refused(path, why) => write!(f, "holds `{}`, which {why}", path.display()),
        }
    }
}

impl Manifest {
    /// The bytes on disk: the length of [`Needs`] in four bytes, [`Needs`], then the rest.
    pub(crate) fn encode(&self) -> Vec<u8> {
        // Into memory, of plain types: encoding cannot fail.
        let needs = postcard::to_stdvec(&(&self.packs, &self.objects)).unwrap_or_default();
        let room = needs.len() + self.items.len() * 64 + self.folders.len() * 16 + self.names.0.len();
        let mut bytes = Vec::with_capacity(room + 64);
        bytes.extend_from_slice(&u32::try_from(needs.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&needs);
        postcard::to_extend(&(&self.blocks, &self.folders, &self.items, &self.names), bytes)
            .unwrap_or_default()
    }

    /// Reads what [`Self::encode`] wrote. Every rule that restoring relies on holds for what is returned.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let (needs, body) = split(bytes).ok_or(Invalid::Unreadable)?;
        let Needs { packs, objects } = postcard::from_bytes(needs).map_err(|_| Invalid::Unreadable)?;
        let (blocks, folders, items, names) = postcard::from_bytes(body).map_err(|_| Invalid::Unreadable)?;
        let mut manifest = Self { packs, objects, blocks, folders, items, names };
        manifest.place()?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Puts together what was walked. `folders` and `items` are in the order that [`Manifest`] asks for, each with its
    /// name, links with their targets.
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

    /// Where a symlink points to; empty for what is none.
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
            let depth = if index == 0 { 0 } else { self.folders[parent].at.depth + 1 };
            let folder = &mut self.folders[index];
            let items = item..item + folder.items as usize;
            (folder.at.name, folder.at.items, folder.at.depth) = (name, items.clone(), depth);
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
        let broken = self.blocks.iter().any(|block| {
            block.pack as usize >= self.packs.len() || block.raw > LARGEST_BLOCK || block.stored > block.raw
        });
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
                    && let Err(why) = link::check_target(self.target(item), self.folders[folder].at.depth)
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

    /// Its content is within what the manifest says of blocks and objects.
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

/// What [`Manifest::build`] is told of an item.
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

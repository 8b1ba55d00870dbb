//! What a walk found, put together as a manifest.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::walk::{BlockRef, NewContent, SeenFolder, SeenItem, Walked};
use crate::Warning;
use crate::digest::Digest;
use crate::index::{Index, Seen};
use crate::manifest::{Block, Content, Manifest, Meta, Stored};
use crate::object::ObjectRef;
use crate::pack::{BlockAt, KnownPacks, PackRef, Packed};

/// A tree that was walked, and what of its content is new to the store.
pub(super) struct Assembled {
    /// The manifest; none if the tree is as it was before.
    pub(super) new: Option<Manifest>,
    /// The state in which each of its items was seen.
    pub(super) seen: Vec<Option<Seen>>,
    pub(super) packs: Vec<(PathBuf, PackRef)>,
    pub(super) objects: HashMap<Digest, u64>,
}

/// Puts together what was walked; nothing if nothing was found.
pub(super) fn assemble(walked: Walked, base: &Index) -> (Option<Assembled>, Vec<Warning>) {
    let Walked { folders, same, parts, packed, mut objects, known, warnings } = walked;
    let warnings = warnings.into_list(Warning::More);
    if is_base(&folders, &same, &parts, base) {
        let assembled = Assembled { new: None, seen: Vec::new(), packs: Vec::new(), objects: HashMap::new() };
        return (Some(assembled), warnings);
    }
    let tree = TreeBuilder::new(&folders, same, parts, base);
    if tree.folders.len() == 1 && tree.items.is_empty() {
        return (None, warnings);
    }
    let manifest = tree.manifest(&known, &packed);
    let seen = tree.items.iter().map(|item| seen(item, base)).collect();
    // Not those of files that changed while they were taken.
    objects.retain(|digest, _| manifest.objects.binary_search_by_key(digest, |object| object.digest).is_ok());
    (Some(Assembled { new: Some(manifest), seen, packs: packed.packs, objects }), warnings)
}

/// The tree is as it was before: every folder and every item of it was seen, and nothing else.
fn is_base(folders: &[SeenFolder], same: &[u32], parts: &[(u32, Vec<SeenItem>)], base: &Index) -> bool {
    let manifest = &base.manifest;
    let is_nothing = manifest.items.is_empty() && manifest.folders.len() == 1;
    let mut others = parts.iter().flat_map(|(_, items)| items);
    if is_nothing || others.any(|item| matches!(item, SeenItem::New(_))) {
        return false;
    }
    let mut before: HashMap<u32, usize> = HashMap::with_capacity(folders.len());
    for (at, folder) in (0..).zip(folders) {
        match folder.base {
            Some(base) if manifest.folders[base].meta == folder.meta => {
                before.insert(at, base);
            }
            // One on the way, to nothing as it seems.
            None if folder.meta.is_none() => {}
            _ => return false,
        }
    }
    let items = same.iter().filter_map(|id| before.get(id)).map(|&base| manifest.items_of(base).len());
    let items = items.sum::<usize>() + parts.iter().map(|(_, items)| items.len()).sum::<usize>();
    before.len() == manifest.folders.len() && items == manifest.items.len()
}

/// Folders and items in the order of a manifest.
struct TreeBuilder<'a> {
    folders: Vec<PlacedFolder<'a>>,
    items: Vec<SeenItem>,
    base: &'a Index,
}

struct PlacedFolder<'a> {
    parent: u32,
    name: &'a [u8],
    meta: Option<Meta>,
    items: usize,
}

impl<'a> TreeBuilder<'a> {
    fn new(
        folders: &'a [SeenFolder],
        same: Vec<u32>,
        parts: Vec<(u32, Vec<SeenItem>)>,
        base: &'a Index,
    ) -> Self {
        let mut items: Vec<Vec<SeenItem>> = Vec::new();
        items.resize_with(folders.len(), Vec::new);
        for (id, mut part) in parts {
            items[id as usize].append(&mut part);
        }
        for id in same {
            let before = folders[id as usize].base.into_iter();
            let before = before.flat_map(|folder| base.manifest.items_of(folder));
            items[id as usize].extend(before.map(SeenItem::Base));
        }
        // A folder on the way is kept if it leads to something.
        let mut kept: Vec<bool> = folders
            .iter()
            .zip(&items)
            .map(|(folder, items)| folder.meta.is_some() || !items.is_empty())
            .collect();
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); folders.len()];
        for id in (1..folders.len()).rev() {
            if kept[id] {
                let parent = folders[id].parent as usize;
                kept[parent] = true;
                children[parent].push(id);
            }
        }
        let mut tree = Self { folders: Vec::new(), items: Vec::new(), base };
        let mut order = vec![(0, 0)];
        let mut next = 0;
        while let Some(&(id, parent)) = order.get(next) {
            let itself = u32::try_from(next).unwrap_or(u32::MAX);
            let mut below = std::mem::take(&mut children[id]);
            below.sort_unstable_by_key(|&child| &folders[child].name);
            order.extend(below.into_iter().map(|child| (child, itself)));
            let mut items = std::mem::take(&mut items[id]);
            items.sort_unstable_by(|one, other| name(one, base).cmp(name(other, base)));
            tree.folders.push(PlacedFolder {
                parent,
                name: &folders[id].name,
                meta: folders[id].meta,
                items: items.len(),
            });
            tree.items.append(&mut items);
            next += 1;
        }
        tree
    }

    fn manifest(&self, known: &KnownPacks, packed: &Packed) -> Manifest {
        // In the order of packs, so that trees of the same content have the same manifest.
        let mut blocks = BTreeMap::new();
        let mut numbers = Numbers::new(&self.base.manifest, known, packed);
        let mut objects = BTreeMap::new();
        for item in &self.items {
            match self.content(item) {
                ContentRef::Packed(at, ..) => {
                    if numbers.of(at).replace(0).is_none() {
                        let (pack, block) = self.block(at, known, packed);
                        blocks.entry((pack.id, block.at)).or_insert((pack, block, Vec::new())).2.push(at);
                    }
                }
                ContentRef::Object(object) => {
                    objects.insert(object.digest, object.size);
                }
                ContentRef::Empty | ContentRef::Link(_) => {}
            }
        }
        let mut packs: Vec<PackRef> = Vec::new();
        let mut list = Vec::new();
        for (pack, BlockAt { at, stored, raw }, names) in blocks.into_values() {
            if packs.last().is_none_or(|last| last.id != pack.id) {
                packs.push(pack.clone());
            }
            for name in names {
                *numbers.of(name) = Some(number(list.len()));
            }
            list.push(Block { pack: number(packs.len() - 1), at, stored, raw });
        }
        let objects: Vec<ObjectRef> =
            objects.into_iter().map(|(digest, size)| ObjectRef { digest, size }).collect();
        let items = self.items.iter().map(|item| {
            let stored = match self.content(item) {
                ContentRef::Empty => Stored::Content(Content::Empty),
                ContentRef::Packed(at, offset, size, digest) => {
                    let block = numbers.of(at).unwrap_or(u32::MAX);
                    Stored::Content(Content::Packed { block, offset, size, digest })
                }
                ContentRef::Object(object) => {
                    let at = objects.binary_search_by_key(&object.digest, |object| object.digest);
                    Stored::Content(Content::Object(number(at.unwrap_or(usize::MAX))))
                }
                ContentRef::Link(target) => Stored::Link(target),
            };
            (name(item, self.base), self.meta(item), stored)
        });
        let folders =
            self.folders.iter().map(|folder| (folder.parent, folder.name, folder.meta, folder.items));
        Manifest::build(packs, objects.clone(), list, folders, items)
    }

    fn content<'b>(&'b self, item: &'b SeenItem) -> ContentRef<'b> {
        match item {
            SeenItem::New(new) => match &new.content {
                NewContent::Empty => ContentRef::Empty,
                NewContent::Packed { at, offset, size, digest } => {
                    ContentRef::Packed(*at, *offset, *size, *digest)
                }
                NewContent::Object(object) => ContentRef::Object(object),
                NewContent::Link(target) => ContentRef::Link(target),
            },
            &SeenItem::Base(item) => match self.base.manifest.items[item].content {
                Content::Empty => ContentRef::Empty,
                Content::Packed { block, offset, size, digest } => {
                    ContentRef::Packed(BlockRef::Base(block), offset, size, digest)
                }
                Content::Object(object) => ContentRef::Object(&self.base.manifest.objects[object as usize]),
                Content::Link { .. } => ContentRef::Link(self.base.manifest.target(item)),
            },
        }
    }

    fn meta(&self, item: &SeenItem) -> Meta {
        match item {
            SeenItem::New(new) => new.meta,
            &SeenItem::Base(item) => self.base.manifest.items[item].meta,
        }
    }

    /// Asks whoever knows of the block where it is.
    fn block<'b>(
        &'b self,
        at: BlockRef,
        known: &'b KnownPacks,
        packed: &'b Packed,
    ) -> (&'b PackRef, BlockAt) {
        match at {
            BlockRef::Base(block) => {
                let Block { pack, at, stored, raw } = self.base.manifest.blocks[block as usize];
                (&self.base.manifest.packs[pack as usize], BlockAt { at, stored, raw })
            }
            BlockRef::Known(pack, block) => {
                let pack = &known.packs[pack as usize];
                (&pack.pack, pack.blocks[block as usize])
            }
            BlockRef::New(block) => {
                let (pack, at) = packed.blocks[block as usize];
                (&packed.packs[pack as usize].1, at)
            }
        }
    }
}

/// The numbers that blocks get in the new manifest.
struct Numbers {
    base: Vec<Option<u32>>,
    known: Vec<Vec<Option<u32>>>,
    new: Vec<Option<u32>>,
}

impl Numbers {
    fn new(base: &Manifest, known: &KnownPacks, packed: &Packed) -> Self {
        Self {
            base: vec![None; base.blocks.len()],
            known: known.packs.iter().map(|pack| vec![None; pack.blocks.len()]).collect(),
            new: vec![None; packed.blocks.len()],
        }
    }

    fn of(&mut self, at: BlockRef) -> &mut Option<u32> {
        match at {
            BlockRef::Base(block) => &mut self.base[block as usize],
            BlockRef::Known(pack, block) => &mut self.known[pack as usize][block as usize],
            BlockRef::New(block) => &mut self.new[block as usize],
        }
    }
}

/// The place of an item's content.
enum ContentRef<'a> {
    Empty,
    Packed(BlockRef, u32, u32, Digest),
    Object(&'a ObjectRef),
    Link(&'a [u8]),
}

fn name<'a>(item: &'a SeenItem, base: &'a Index) -> &'a [u8] {
    match item {
        SeenItem::New(new) => &new.name,
        &SeenItem::Base(item) => base.manifest.name(item),
    }
}

fn seen(item: &SeenItem, base: &Index) -> Option<Seen> {
    match item {
        SeenItem::New(new) => new.seen,
        &SeenItem::Base(item) => base.seen(item),
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

//! Manifests that nobody would write: none of them gets as far as a restore.

use std::path::Path;

use fs_err as fs;
use proptest::prelude::*;

use super::*;
use crate::pointer::{Origin, Pointer};
use crate::store::Store;
use crate::{Warning, sealed};

const META: Meta = Meta { mode: 0o644, time: Time { seconds: 1, nanos: 0 } };

type Files<'a> = Vec<(u32, &'a [u8], Stored<'a>)>;

/// Folders by parent and name, after the root; files and links by folder and name.
fn evil(folders: &[(u32, &[u8])], files: Files<'_>) -> Vec<u8> {
    let all = std::iter::once((0, &b""[..])).chain(folders.iter().copied());
    let folders = all.enumerate().map(|(index, (parent, name))| {
        let items = files.iter().filter(|(folder, ..)| *folder as usize == index).count();
        (parent, name, Some(META), items)
    });
    let folders: Vec<_> = folders.collect();
    let items = files.into_iter().map(|(_, name, stored)| (name, META, stored));
    Manifest::build(Vec::new(), Vec::new(), Vec::new(), folders, items).encode()
}

fn file(folder: u32, name: &[u8]) -> (u32, &[u8], Stored<'_>) {
    (folder, name, Stored::Content(Content::Empty))
}

fn link<'a>(folder: u32, name: &'a [u8], target: &'a [u8]) -> (u32, &'a [u8], Stored<'a>) {
    (folder, name, Stored::Link(target))
}

/// Decodes a manifest where no pack holds anything.
fn decode(bytes: &[u8]) -> Result<Manifest, Invalid> {
    Manifest::decode(bytes, &mut |pack| {
        Ok(PackIndex { pack: pack.clone(), blocks: Vec::new(), records: Vec::new() })
    })
}

/// Each with the path that the refusal must name.
fn refused() -> Vec<(Vec<u8>, &'static str)> {
    let deps: &[(u32, &[u8])] = &[(0, b"deps")];
    vec![
        (evil(deps, vec![file(1, b"..")]), "deps/.."),
        (evil(deps, vec![file(1, b".")]), "deps/."),
        (evil(deps, vec![file(1, b"")]), "deps/"),
        (evil(deps, vec![file(1, b"/etc/passwd")]), "deps//etc/passwd"),
        (evil(deps, vec![file(1, b"a/../../b")]), "deps/a/../../b"),
        (evil(deps, vec![file(1, b"a\0b")]), "deps/a\0b"),
        (evil(&[(0, b"deps"), (1, b"..")], vec![file(2, b"x")]), "deps/.."),
        (evil(&[(0, b"/tmp")], vec![file(1, b"x")]), "/tmp"),
        (evil(deps, vec![file(1, b"a"), file(1, b"a")]), "deps/a"),
        (evil(deps, vec![file(1, b"b"), file(1, b"a")]), "deps/a"),
        (evil(&[(0, b"deps"), (1, b"a"), (1, b"a")], vec![]), "deps/a"),
        (evil(&[(0, b"deps"), (1, b"a")], vec![file(1, b"a")]), "deps/a"),
        (evil(&[(0, b"deps"), (1, b"a")], vec![link(1, b"a", b"b")]), "deps/a"),
        (evil(deps, vec![link(1, b"a", b"b\0c")]), "deps/a"),
        (evil(deps, vec![link(1, b"a", b"")]), "deps/a"),
    ]
}

#[test]
fn names_and_links_that_lead_elsewhere_are_refused_by_path() {
    for (bytes, named) in refused() {
        match decode(&bytes) {
            Err(Invalid::Refused(path, why)) => assert_eq!(path, Path::new(named), "{why}"),
            other => panic!("{named}: {other:?}"),
        }
    }
}

#[test]
fn trees_that_are_none_and_places_that_are_not_there_are_refused() {
    let deps: &[(u32, &[u8])] = &[(0, b"deps")];
    let digest = empty();
    let far = Stored::Content(Content::Packed { block: 0, offset: 0, size: 1, digest });
    let broken = [
        // A folder in itself, in a later one, apart from its siblings.
        evil(&[(1, b"deps")], vec![]),
        evil(&[(2, b"a"), (0, b"b")], vec![]),
        evil(&[(0, b"a"), (1, b"b"), (0, b"c")], vec![]),
        evil(deps, vec![(1, b"a", far)]),
        evil(deps, vec![(1, b"a", Stored::Content(Content::Object(0)))]),
        Vec::new(),
        b"\xff\xff\xff\xff".to_vec(),
    ];
    for (number, bytes) in broken.iter().enumerate() {
        assert_eq!(decode(bytes).unwrap_err(), Invalid::Unreadable, "{number}");
    }
}

#[test]
fn places_in_packs_that_cannot_be_are_refused() {
    let digest = empty();
    let good = Block { pack: 0, at: 0, stored: 10, raw: 10 };
    // A manifest with one file, and a pack that says the same of its block and of its file.
    let read = |block: &Block, offset: u32, size: u32, known: &Block, at: u32| {
        let pack = PackRef { id: digest, len: 10 };
        let stored = Stored::Content(Content::Packed { block: 0, offset, size, digest });
        let items = [(&b"a"[..], META, stored)];
        let folders = [(0, &b""[..], None, 1)];
        let manifest = Manifest::build(vec![pack], Vec::new(), vec![block.clone()], folders, items);
        let Block { at: place, stored, raw, .. } = *known;
        let record = [&digest.0[..], &0_u32.to_le_bytes(), &at.to_le_bytes(), &size.to_le_bytes()].concat();
        Manifest::decode(&manifest.encode(), &mut |pack| {
            let blocks = vec![BlockAt { at: place, stored, raw }];
            Ok(PackIndex { pack: pack.clone(), blocks, records: record.clone() })
        })
    };
    let manifest = read(&good, 2, 8, &good, 2).unwrap();
    assert_eq!(manifest.items[0].content, Content::Packed { block: 0, offset: 2, size: 8, digest });
    // Blocks too large to be true, in packs that are not named, files beyond the end of theirs.
    let large = Block { pack: 0, at: 0, stored: 10, raw: LARGEST_BLOCK + 1 };
    let grown = Block { pack: 0, at: 0, stored: 11, raw: 10 };
    let nowhere = Block { pack: 1, at: 0, stored: 10, raw: 10 };
    let elsewhere = Block { pack: 0, at: 1, stored: 10, raw: 10 };
    for (number, result) in [
        read(&large, 0, 1, &large, 0),
        read(&grown, 0, 1, &grown, 0),
        read(&nowhere, 0, 1, &nowhere, 0),
        read(&good, 5, 6, &good, 5),
        read(&good, u32::MAX, 2, &good, u32::MAX),
        // What the pack does not have.
        read(&elsewhere, 0, 1, &good, 0),
        read(&good, 3, 1, &good, 2),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(result.unwrap_err(), Invalid::Unreadable, "{number}");
    }
}

#[test]
fn an_entry_with_such_a_tree_is_a_miss_that_names_the_path() {
    for (bytes, named) in refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.create().unwrap();
        let digest = Digest::of(&bytes);
        let layout = store.layout();
        fs::write(layout.manifest(digest), bytes).unwrap();
        let pointer = Pointer::new("n", "k", digest, (1, 1), &Origin::default());
        fs::create_dir_all(layout.entries_of("n")).unwrap();
        fs::write(layout.entry("n", "k"), sealed::encode(&pointer)).unwrap();
        let found = store.find("n", "k").unwrap();
        assert!(found.entry.is_none(), "{named}");
        let [Warning::Damaged { why, .. }] = &found.warnings[..] else { panic!("{:?}", found.warnings) };
        assert!(why.contains(&format!("`{named}`")), "{named}: {why}");
        assert!(!layout.manifest(digest).exists(), "{named}: not set aside");
    }
}

#[test]
fn what_is_encoded_is_decoded() {
    let bytes = evil(
        &[(0, b"a"), (0, b"b"), (1, b"c")],
        vec![file(1, b"x"), file(2, b"y"), link(3, b"l", b"../x"), file(3, b"z")],
    );
    let manifest = decode(&bytes).unwrap();
    assert_eq!(manifest.encode(), bytes);
    let names: Vec<_> = (0..manifest.folders.len())
        .flat_map(|folder| {
            let path = manifest.path(folder);
            let name = |item| String::from_utf8(dir::join(&path, manifest.name(item))).unwrap();
            manifest.items_of(folder).map(name).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(names, ["a/x", "b/y", "a/c/l", "a/c/z"]);
    assert_eq!((manifest.child(1, b"c"), manifest.child(2, b"c")), (Some(3), None));
    assert_eq!(manifest.item(3, b"z").map(|item| manifest.name(item)), Some(&b"z"[..]));
    assert_eq!(manifest.target(manifest.item(3, b"l").unwrap()), b"../x");
}

proptest! {
    /// Whatever the bytes are: an answer, and no tree that breaks a rule.
    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..300), flips in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4)) {
        let _ = decode(&bytes);
        let _ = Needs::decode(&bytes);
        bytes = evil(&[(0, b"a"), (1, b"c")], vec![file(1, b"x"), link(2, b"l", b"../x")]);
        for (at, byte) in flips {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(manifest) = decode(&bytes) {
            for folder in 1..manifest.folders.len() {
                prop_assert!(link::check_name(manifest.folder_name(folder)).is_ok());
            }
            for item in 0..manifest.items.len() {
                prop_assert!(link::check_name(manifest.name(item)).is_ok());
            }
        }
    }
}

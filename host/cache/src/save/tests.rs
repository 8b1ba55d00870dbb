//! Saves beside collections, one step after the other: what a save relies on goes between its walk and its
//! publication.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use fs_err as fs;
use tempfile::TempDir;

use super::{Save, Saved};
use crate::io;
use crate::layout::Layout;
use crate::pointer::Origin;
use crate::store::Store;
use crate::tracked::Tracked;

/// A point that every save comes to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Before anything has been looked at.
    Walk,
    /// All is written and nothing is published.
    Publish,
}

type Hook = Box<dyn FnMut(&Layout, Moment)>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Called by every save of this thread.
pub(super) fn reached(layout: &Layout, moment: Moment) {
    HOOK.with_borrow_mut(|hook| {
        if let Some(hook) = hook {
            hook(layout, moment);
        }
    });
}

/// A store with one entry of small files and a big one, and a tree that holds the same and one more.
struct World {
    dir: TempDir,
    store: Store,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let world = Self { dir, store };
        for tree in ["one", "two"] {
            for file in 0..20_u8 {
                world.write(tree, &file.to_string(), &[file; 3000]);
            }
            world.write(tree, "big", &vec![7; 2 << 20]);
        }
        world.write("two", "more", b"more");
        assert!(matches!(world.save("one"), Saved::Stored { .. }));
        world
    }

    fn write(&self, tree: &str, name: &str, content: &[u8]) {
        let deps = self.dir.path().join(tree).join("deps");
        fs::create_dir_all(&deps).unwrap();
        fs::write(deps.join(name), content).unwrap();
    }

    fn save(&self, tree: &str) -> Saved {
        let (patterns, origin, cancel) = (["deps".to_owned()], Origin::default(), AtomicBool::new(false));
        let tree_path = self.dir.path().join(tree);
        let save = Save {
            name: "n",
            key: tree,
            tree: &tree_path,
            patterns: &patterns,
            tracked: &Tracked::default(),
            origin: &origin,
            cancel: &cancel,
        };
        self.store.save(&save).unwrap()
    }

    /// Saves the other tree, with `hook` called at each moment of each try, and answers how many tries that
    /// took; what is restored must be the tree.
    fn save_with(&self, mut hook: impl FnMut(&Layout, Moment, u32) + 'static) -> u32 {
        let tries = Rc::new(Cell::new(0));
        let counted = Rc::clone(&tries);
        HOOK.set(Some(Box::new(move |layout, moment| {
            counted.set(counted.get() + u32::from(moment == Moment::Walk));
            hook(layout, moment, counted.get());
        })));
        let saved = self.save("two");
        HOOK.set(None);
        assert!(matches!(saved, Saved::Stored { files: 22, .. }), "{saved:?}");
        let found = self.store.find("n", "two").unwrap();
        assert_eq!(found.warnings, []);
        let fresh = self.dir.path().join("fresh");
        fs::create_dir(&fresh).unwrap();
        let restored = found
            .entry
            .unwrap()
            .restore(&fresh, &["deps".to_owned()], &Tracked::default(), &AtomicBool::new(false))
            .unwrap();
        assert_eq!((restored.files, restored.warnings), (22, vec![]));
        for file in ["0", "19", "big", "more"] {
            let of = |tree: &Path| fs::read(tree.join("deps").join(file)).unwrap();
            assert!(of(&fresh) == of(&self.dir.path().join("two")), "{file}");
        }
        tries.get()
    }
}

fn only(folder: &Path) -> PathBuf {
    let [file] = &io::files(folder).unwrap()[..] else { panic!("one file in {}", folder.display()) };
    file.clone()
}

#[test]
fn a_save_whose_pack_goes_begins_anew() {
    let tries = World::new().save_with(|layout, moment, tries| {
        if moment == Moment::Publish && tries == 1 {
            fs::remove_file(only(&layout.packs())).unwrap();
        }
    });
    assert_eq!(tries, 2);
}

#[test]
fn a_save_whose_object_goes_begins_anew() {
    let tries = World::new().save_with(|layout, moment, tries| {
        if moment == Moment::Publish && tries == 1 {
            fs::remove_file(only(&layout.objects())).unwrap();
        }
    });
    assert_eq!(tries, 2);
}

#[test]
fn a_save_whose_pack_is_torn_begins_anew() {
    let tries = World::new().save_with(|layout, moment, tries| {
        if moment == Moment::Publish && tries == 1 {
            let pack = fs::OpenOptions::new().write(true).open(only(&layout.packs())).unwrap();
            pack.set_len(100).unwrap();
        }
    });
    assert_eq!(tries, 2);
}

#[test]
fn a_save_that_collections_overtake_again_and_again_keeps_them_out() {
    let world = World::new();
    // What each try relies on.
    let keep = world.dir.path().join("keep");
    fs::create_dir(&keep).unwrap();
    for folder in [world.store.layout().packs(), world.store.layout().objects()] {
        let file = only(&folder);
        fs::copy(&file, keep.join(file.file_name().unwrap())).unwrap();
    }
    let tries = world.save_with(move |layout, moment, tries| {
        let folders = [layout.packs(), layout.objects()];
        if moment == Moment::Walk {
            // Another save has stored the same.
            for file in io::files(&keep).unwrap() {
                let is_big = fs::metadata(&file).unwrap().len() == 2 << 20;
                fs::copy(&file, folders[usize::from(is_big)].join(file.file_name().unwrap())).unwrap();
            }
            return;
        }
        // A collection waits for whoever has the lock.
        let lock = fs::OpenOptions::new().write(true).open(layout.lock()).unwrap();
        assert_eq!(lock.try_lock().is_err(), tries == 3);
        if tries < 3 {
            folders.iter().for_each(|folder| fs::remove_file(only(folder)).unwrap());
        }
    });
    assert_eq!(tries, 3);
}

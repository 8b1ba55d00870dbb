//! What saves and restores cost. `benches/cache/run` compares them with other programs.
//!
//! Everything happens below the system's temporary folder: `TMPDIR=/dev/shm cargo bench -p loom-cache`.

#![expect(clippy::unwrap_used, reason = "a measurement whose ground is missing has to end")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use divan::Bencher;
use divan::counter::ItemsCount;
use fs_err as fs;
use loom_cache::{Origin, Restored, Save, Saved, Store, Tracked, key};
use tempfile::TempDir;

fn main() {
    divan::main();
}

/// Files of 1 to 8 kB, ten to a folder: `(files)`.
const SIZES: [usize; 2] = [100, 10_000];

/// Into a store that has nothing.
#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn save_first(bencher: Bencher<'_, '_>, files: usize) {
    let ground = Ground::of(files);
    bencher
        .counter(ItemsCount::new(files))
        .with_inputs(|| Ground::store(&ground.fresh()))
        .bench_local_values(|store| ground.save(&store));
}

/// Under a new key, as it was under an earlier one.
#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn save_unchanged(bencher: Bencher<'_, '_>, files: usize) {
    let ground = Ground::of(files);
    let store = Ground::store(&ground.fresh());
    ground.save(&store);
    bencher.counter(ItemsCount::new(files)).bench_local(|| ground.save(&store));
}

/// With nothing known of the tree: everything is read, nothing is written.
#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn save_known_content(bencher: Bencher<'_, '_>, files: usize) {
    let ground = Ground::of(files);
    let root = ground.fresh();
    let store = Ground::store(&root);
    ground.save(&store);
    bencher
        .counter(ItemsCount::new(files))
        .with_inputs(|| fs::remove_dir_all(root.join("index")).unwrap())
        .bench_local_values(|()| ground.save(&store));
}

#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn restore_cold(bencher: Bencher<'_, '_>, files: usize) {
    let ground = Ground::of(files);
    let store = Ground::store(&ground.fresh());
    let key = ground.save(&store);
    bencher
        .counter(ItemsCount::new(files))
        .with_inputs(|| ground.fresh())
        .bench_local_values(|tree| restore(&store, &key, &tree));
}

#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn restore_warm(bencher: Bencher<'_, '_>, files: usize) {
    let ground = Ground::of(files);
    let store = Ground::store(&ground.fresh());
    let key = ground.save(&store);
    let tree = ground.fresh();
    restore(&store, &key, &tree);
    bencher.counter(ItemsCount::new(files)).bench_local(|| restore(&store, &key, &tree));
}

#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn hash_key_files(bencher: Bencher<'_, '_>, files: usize) {
    let ground = Ground::of(files);
    bencher
        .counter(ItemsCount::new(files))
        .bench_local(|| key::hash_files(&ground.tree, &ground.paths).unwrap());
}

/// A tree, and room for stores and other trees.
struct Ground {
    dir: TempDir,
    tree: PathBuf,
    paths: Vec<PathBuf>,
    keys: AtomicU64,
}

impl Ground {
    fn of(files: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        let paths: Vec<PathBuf> = (0..files)
            .map(|index| {
                PathBuf::from(format!(
                    "deps/{}/{}/{}/file-{index}",
                    index / 1000,
                    index / 100 % 10,
                    index / 10 % 10
                ))
            })
            .collect();
        for (index, path) in paths.iter().enumerate() {
            let lines = "a line of source code as there are many\n".repeat(25 + index * 7919 % 180);
            fs::create_dir_all(tree.join(path).parent().unwrap()).unwrap();
            fs::write(tree.join(path), format!("// {index}\n{lines}")).unwrap();
        }
        Self { dir, tree, paths, keys: AtomicU64::new(0) }
    }

    fn fresh(&self) -> PathBuf {
        tempfile::tempdir_in(self.dir.path()).unwrap().keep()
    }

    fn store(root: &Path) -> Store {
        Store::open(root).unwrap()
    }

    /// Saves the tree under a key that was not used before, and returns that.
    fn save(&self, store: &Store) -> String {
        let key = self.keys.fetch_add(1, Ordering::Relaxed).to_string();
        let patterns = ["deps".to_owned()];
        let (origin, cancel) = (Origin::default(), AtomicBool::new(false));
        let save = Save {
            name: "n",
            key: &key,
            tree: &self.tree,
            patterns: &patterns,
            tracked: &Tracked::default(),
            origin: &origin,
            cancel: &cancel,
        };
        assert!(matches!(store.save(&save).unwrap(), Saved::Stored { .. }));
        key
    }
}

fn restore(store: &Store, key: &str, tree: &Path) -> Restored {
    let entry = store.find("n", key).unwrap().entry.unwrap();
    entry.restore(tree, &["deps".to_owned()], &Tracked::default(), &AtomicBool::new(false)).unwrap()
}

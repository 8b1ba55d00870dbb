//! What it costs to collect 10,000 small files, or a few big ones, and to place them; beside `cp -a` and `tar cz`, which
//! together do what collecting does.
//!
//! Everything happens below the system's temporary folder: `TMPDIR=/dev/shm cargo bench -p loom-tree`.

#![expect(clippy::unwrap_used, reason = "a measurement whose ground is missing has to end")]
#![expect(clippy::disallowed_methods, reason = "other programs are measured, too")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use divan::Bencher;
use fs_err as fs;
use loom_tree::{Collect, Collected, collect, place};
use tempfile::TempDir;

fn main() {
    divan::main();
}

/// How many files of how many bytes.
const SIZES: [(usize, usize); 3] = [(10_000, 1 << 10), (10_000, 8 << 10), (8, 16 << 20)];

#[divan::bench(args = SIZES, sample_count = 10, sample_size = 1)]
fn collect_files(bencher: Bencher<'_, '_>, size: (usize, usize)) {
    let ground = Ground::of(size);
    bencher.with_inputs(|| ground.clear()).bench_local_values(|()| ground.collect());
}

#[divan::bench(args = SIZES, sample_count = 10, sample_size = 1)]
fn place_files(bencher: Bencher<'_, '_>, size: (usize, usize)) {
    let ground = Ground::of(size);
    let files = ground.collect().files;
    let tree = ground.path("other");
    bencher
        .with_inputs(|| {
            let _ = fs::remove_dir_all(&tree);
            fs::create_dir(&tree).unwrap();
        })
        .bench_local_values(|()| {
            place(&ground.path("into"), &files, &tree, &AtomicBool::new(false)).unwrap()
        });
}

#[divan::bench(args = SIZES, sample_count = 10, sample_size = 1)]
fn cp_a(bencher: Bencher<'_, '_>, size: (usize, usize)) {
    let ground = Ground::of(size);
    let (from, to) = (ground.path("tree"), ground.path("into"));
    bencher
        .with_inputs(|| ground.clear())
        .bench_local_values(|()| run(Command::new("cp").arg("-a").args([&from, &to])));
}

/// As fast as it can: `gzip -1`, as in the archive of what is collected.
#[divan::bench(args = SIZES, sample_count = 10, sample_size = 1)]
fn tar_cz(bencher: Bencher<'_, '_>, size: (usize, usize)) {
    let ground = Ground::of(size);
    let (tree, archive) = (ground.path("tree"), ground.path("archive.tar.gz"));
    bencher.bench_local(|| {
        run(Command::new("tar").args(["-I", "gzip -1", "-cf"]).arg(&archive).arg("-C").arg(&tree).arg("."));
    });
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success());
}

/// A tree of files of words as in source text, 100 in a folder.
struct Ground {
    dir: TempDir,
}

impl Ground {
    fn of((files, size): (usize, usize)) -> Self {
        const WORDS: [&str; 8] = ["fn ", "let ", "match ", "self.", "path", "(", "\n", "0x"];
        let ground = Self { dir: tempfile::tempdir().unwrap() };
        let mut state = 1_u32;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as usize
        };
        for index in 0..files {
            let folder = ground.path("tree/out").join((index / 100).to_string());
            fs::create_dir_all(&folder).unwrap();
            let mut content = String::with_capacity(size + 8);
            while content.len() < size {
                content.push_str(WORDS[next() % 8]);
                content.push(char::from(b'a' + (next() % 26) as u8));
            }
            content.truncate(size);
            fs::write(folder.join(format!("{index}.txt")), content).unwrap();
        }
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn clear(&self) {
        let _ = fs::remove_dir_all(self.path("into"));
    }

    fn collect(&self) -> Collected {
        let what = Collect {
            tree: &self.path("tree"),
            paths: &["**/*.txt".to_owned()],
            exclude: &[],
            into: &self.path("into"),
            refuse: &|_| false,
            cancel: &AtomicBool::new(false),
        };
        collect(&what).unwrap()
    }
}

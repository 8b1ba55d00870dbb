//! What a snapshot costs, beside `cp -a` of the same tree.
//!
//! Everything happens below the system's temporary folder: `TMPDIR=/dev/shm cargo bench -p loom-workspace`.

#![expect(clippy::unwrap_used, reason = "a measurement whose ground is missing has to end")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use divan::Bencher;
use loom_tree::remove;
use loom_workspace::{Aside, Patterns, Slot, create, update};
use tempfile::TempDir;

fn main() {
    divan::main();
}

/// A repository of so many files, ten to a folder, of 1 to 8 kB each: `(files)`.
const SIZES: [usize; 2] = [20, 20_000];

#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn snapshot(bencher: Bencher<'_, '_>, files: usize) {
    let repository = Repository::of(files);
    let cancel = AtomicBool::new(false);
    bencher.with_inputs(|| remove(&repository.copy).unwrap()).bench_local_values(|()| {
        create(&repository.root, &repository.copy, |path| std::fs::create_dir(path), &cancel).unwrap()
    });
}

/// A slot that is up to date but for so many files of the repository in a thousand, and what a job left.
#[divan::bench(args = [(20_000, 100, 0), (20_000, 100, 10), (200_000, 100, 0)], sample_count = 20, sample_size = 1)]
fn update_slot(bencher: Bencher<'_, '_>, (files, to_a_folder, changed): (usize, usize, usize)) {
    let repository = Repository::new(files, to_a_folder);
    let beside = |name: &str| repository.root.with_file_name(name);
    let (dir, record) = (beside("slot"), beside("slot.record"));
    for folder in [&dir, &beside("slot.aside")] {
        fs_err::create_dir(folder).unwrap();
    }
    let aside = Aside::open(&beside("slot.aside")).unwrap();
    let kept = Patterns::none();
    let cancel = AtomicBool::new(false);
    let slot = Slot { dir: &dir, record: &record, aside: &aside, kept: &kept, stay: true, resumed: false };
    // Twice: what was written a moment before the first is in doubt.
    for _ in 0..2 {
        update(&repository.root, &slot, &cancel).unwrap();
        std::thread::sleep(std::time::Duration::from_secs(2));
    }
    let mut round = 0_usize;
    bencher
        .with_inputs(|| {
            aside.empty().unwrap();
            round += 1;
            for index in (0..files).filter(|index| index * changed % 1000 < changed) {
                fs_err::write(repository.file(index), format!("round {round}")).unwrap();
            }
            fs_err::create_dir_all(dir.join("made/by/job")).unwrap();
        })
        .bench_local_values(|()| update(&repository.root, &slot, &cancel).unwrap());
}

#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn cp_a(bencher: Bencher<'_, '_>, files: usize) {
    let repository = Repository::of(files);
    bencher
        .with_inputs(|| remove(&repository.copy).unwrap())
        .bench_local_values(|()| run(Path::new("/"), "cp", &["-a", repository.root(), repository.copy()]));
}

#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn remove_snapshot(bencher: Bencher<'_, '_>, files: usize) {
    let repository = Repository::of(files);
    let cancel = AtomicBool::new(false);
    bencher
        .with_inputs(|| {
            drop(
                create(&repository.root, &repository.copy, |path| std::fs::create_dir(path), &cancel)
                    .unwrap(),
            )
        })
        .bench_local_values(|()| remove(&repository.copy).unwrap());
}

#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn rm_rf(bencher: Bencher<'_, '_>, files: usize) {
    let repository = Repository::of(files);
    let cancel = AtomicBool::new(false);
    bencher
        .with_inputs(|| {
            drop(
                create(&repository.root, &repository.copy, |path| std::fs::create_dir(path), &cancel)
                    .unwrap(),
            )
        })
        .bench_local_values(|()| run(Path::new("/"), "rm", &["-rf", repository.copy()]));
}

struct Repository {
    _dir: TempDir,
    root: PathBuf,
    copy: PathBuf,
    to_a_folder: usize,
}

impl Repository {
    fn of(files: usize) -> Self {
        Self::new(files, 10)
    }

    /// `to_a_folder`: so many files are in each.
    fn new(files: usize, to_a_folder: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (root, copy) = (dir.path().join("root"), dir.path().join("copy"));
        let repository = Self { _dir: dir, root, copy, to_a_folder };
        for index in 0..files {
            let file = repository.file(index);
            fs_err::create_dir_all(file.parent().unwrap()).unwrap();
            let lines = "a line of source code as there are many\n".repeat(25 + index * 7919 % 180);
            fs_err::write(file, format!("// {index}\n{lines}")).unwrap();
        }
        let root = &repository.root;
        // Its git folder elsewhere, so that `cp` copies what the snapshot does; no cleaning in the background.
        run(root, "git", &["init", "-q", "--separate-git-dir", "../git"]);
        run(root, "git", &["config", "gc.auto", "0"]);
        run(root, "git", &["add", "."]);
        run(root, "git", &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "all"]);
        repository
    }

    fn file(&self, index: usize) -> PathBuf {
        let folder = index / self.to_a_folder;
        self.root.join(format!("{}/{}/{}/file-{index}.rs", folder / 100, folder / 10 % 10, folder % 10))
    }

    fn root(&self) -> &str {
        self.root.to_str().unwrap()
    }

    fn copy(&self) -> &str {
        self.copy.to_str().unwrap()
    }
}

fn run(folder: &Path, program: &str, args: &[&str]) {
    #[expect(clippy::disallowed_methods, reason = "what is measured against")]
    let status = Command::new(program).args(args).current_dir(folder).status().unwrap();
    assert!(status.success());
}

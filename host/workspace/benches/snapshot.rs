//! What a snapshot costs, beside `cp -a` of the same tree.
//!
//! Everything happens below the system's temporary folder: `TMPDIR=/dev/shm cargo bench -p loom-workspace`.

#![expect(clippy::unwrap_used, reason = "a measurement whose ground is missing has to end")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use divan::Bencher;
use loom_tree::remove;
use loom_workspace::create;
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
}

impl Repository {
    fn of(files: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (root, copy) = (dir.path().join("root"), dir.path().join("copy"));
        for index in 0..files {
            let folder = root.join(format!("{}/{}/{}", index / 1000, index / 100 % 10, index / 10 % 10));
            fs_err::create_dir_all(&folder).unwrap();
            let lines = "a line of source code as there are many\n".repeat(25 + index * 7919 % 180);
            fs_err::write(folder.join(format!("file-{index}.rs")), format!("// {index}\n{lines}")).unwrap();
        }
        // Its git folder elsewhere, so that `cp` copies what the snapshot does; no cleaning in the background.
        run(&root, "git", &["init", "-q", "--separate-git-dir", "../git"]);
        run(&root, "git", &["config", "gc.auto", "0"]);
        run(&root, "git", &["add", "."]);
        run(&root, "git", &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "all"]);
        Self { _dir: dir, root, copy }
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

//! A repository in a temporary folder, and a snapshot of it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use loom_workspace::{Error, Snapshot, create};
use tempfile::TempDir;

pub(crate) struct Fixture {
    dir: TempDir,
    root: PathBuf,
}

impl Fixture {
    /// A folder that is no git repository.
    pub(crate) fn plain() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Where the temporary folder itself stands behind a symlink, git names the real one.
        let root = dir.path().canonicalize().unwrap().join("origin");
        fs_err::create_dir(&root).unwrap();
        Self { dir, root }
    }

    /// A git repository without commits.
    pub(crate) fn empty() -> Self {
        let fixture = Self::plain();
        fixture.git(["init", "-q", "-b", "main"]);
        fixture
    }

    /// A git repository with one commit of `files`, each of which holds its own name.
    pub(crate) fn with<const N: usize>(files: [&str; N]) -> Self {
        let fixture = Self::empty();
        for file in files {
            fixture.write(file, file);
        }
        fixture.commit_all("first");
        fixture
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path beside the repository.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.root.with_file_name(name)
    }

    pub(crate) fn base(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, file: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        write(&self.root.join(file), content);
    }

    pub(crate) fn commit_all(&self, message: &str) {
        self.git(["add", "--all"]);
        self.git(["commit", "-q", "--allow-empty", "-m", message]);
    }

    pub(crate) fn git<const N: usize>(&self, args: [&str; N]) -> String {
        git(&self.root, args)
    }

    /// The copy of the repository, beside it.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.snapshot_of(&self.root)
    }

    pub(crate) fn snapshot_of(&self, root: &Path) -> Snapshot {
        self.try_snapshot_of(root).unwrap()
    }

    pub(crate) fn try_snapshot_of(&self, root: &Path) -> Result<Snapshot, Error> {
        create(root, &self.beside("copies/run"), |path| std::fs::create_dir(path), &AtomicBool::new(false))
    }
}

pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, content).unwrap();
}

/// What git writes to its stdout in `folder`; it must succeed.
pub(crate) fn git<const N: usize>(folder: &Path, args: [&str; N]) -> String {
    let output = git_output(folder, args);
    assert!(
        output.status.success(),
        "git {args:?} in {}: {}",
        folder.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn git_output<const N: usize>(folder: &Path, args: [&str; N]) -> Output {
    let mut git = command("git");
    git.current_dir(folder)
        .args(["-c", "user.name=Someone", "-c", "user.email=someone@example.org"])
        .args(["-c", "protocol.file.allow=always", "-c", "gc.auto=0"])
        .args(args)
        .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")]);
    loom_deadlines::output(&mut git).unwrap()
}

pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "tests need git, and themselves in another environment")]
    Command::new(program)
}

/// Everything below `root` but what is in a `.git`, as relative paths; folders end in `/`.
pub(crate) fn files(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() == ".git" {
                continue;
            }
            let path = entry.path();
            let mut shown =
                path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
            if entry.file_type().unwrap().is_dir() {
                shown.push('/');
                folders.push(path);
            }
            found.insert(shown);
        }
    }
    found
}

pub(crate) fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// What must be the same in the copy as in the original, whatever state they are in.
pub(crate) fn assert_same_to_git(original: &Path, copy: &Path) {
    for args in [
        &["status", "--porcelain=v2", "--untracked-files=all"][..],
        &["diff", "HEAD"],
        &["diff", "--cached", "-M", "--stat"],
        &["ls-files", "--stage"],
        &["log", "-1", "--format=%H %s"],
    ] {
        let run = |folder| {
            let mut git = command("git");
            git.current_dir(folder)
                .args(args)
                .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")]);
            let output = loom_deadlines::output(&mut git).unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
        };
        assert_eq!(run(copy), run(original), "git {args:?}");
    }
}

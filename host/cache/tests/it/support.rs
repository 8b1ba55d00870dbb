//! A store and trees in a folder of the test's own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use fs_err as fs;
use loom_cache::{Entry, Error, Origin, Restored, Save, Saved, Store, Tracked, Warning};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
use tempfile::TempDir;

pub(crate) const NAME: &str = "deps";

/// A store, and a tree to save.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) store: Store,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let world = Self { dir, store };
        world.folder("tree");
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn store_dir(&self) -> PathBuf {
        self.path("store")
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    /// A folder beside the tree, empty if it is new.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Writes a file of the tree, with the folders that it is in.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        write(&self.tree(), path, content)
    }

    pub(crate) fn save(&self, key: &str, patterns: &[&str]) -> Saved {
        self.try_save(&self.tree(), key, patterns).unwrap()
    }

    pub(crate) fn try_save(&self, tree: &Path, key: &str, patterns: &[&str]) -> Result<Saved, Error> {
        save(&self.store, tree, key, patterns)
    }

    /// Saves everything below `deps`, where nothing is to be left out, and returns how much the store grew by.
    pub(crate) fn save_all(&self, key: &str) -> u64 {
        match self.save(key, &["deps"]) {
            Saved::Stored { stored_bytes, warnings, .. } => {
                assert_eq!(warnings, []);
                stored_bytes
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn entry(&self, key: &str) -> Entry {
        let found = self.store.find(NAME, key).unwrap();
        assert_eq!(found.warnings, []);
        found.entry.unwrap_or_else(|| panic!("{key} is a miss"))
    }

    pub(crate) fn restore(&self, key: &str, tree: &Path, patterns: &[&str]) -> Result<Restored, Error> {
        restore(&self.entry(key), tree, patterns)
    }

    /// Restores `deps` to a new folder and returns that.
    pub(crate) fn restore_fresh(&self, key: &str) -> PathBuf {
        let tree = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        self.restore(key, &tree, &["deps"]).unwrap();
        tree
    }

    /// All files of the store in a folder of it.
    pub(crate) fn files_in(&self, folder: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.store_dir().join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { &mut folders } else { &mut files }.push(path);
            }
        }
        files.sort();
        files
    }

    /// Runs the example that drives a store.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let test = std::env::current_exe().unwrap();
        let program = test.parent().and_then(Path::parent).unwrap().join("examples/store");
        assert!(program.exists(), "`cargo test -p loom-cache` builds `{}`", program.display());
        #[expect(clippy::disallowed_methods, reason = "processes that are killed are what is tested")]
        let mut command = Command::new(program);
        command.arg(self.store_dir()).args(args);
        command
    }
}

impl Drop for World {
    fn drop(&mut self) {
        open_up(self.dir.path());
    }
}

pub(crate) fn save(store: &Store, tree: &Path, key: &str, patterns: &[&str]) -> Result<Saved, Error> {
    save_untracked(store, tree, key, patterns, &[])
}

/// Saves what `patterns` name and is not among the files `tracked`.
pub(crate) fn save_untracked(
    store: &Store,
    tree: &Path,
    key: &str,
    patterns: &[&str],
    tracked: &[&str],
) -> Result<Saved, Error> {
    let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    let (origin, cancel) = (Origin::default(), AtomicBool::new(false));
    let tracked = &Tracked::new(tracked);
    let patterns = &patterns;
    store.save(&Save { name: NAME, key, tree, patterns, tracked, origin: &origin, cancel: &cancel })
}

pub(crate) fn restore(entry: &Entry, tree: &Path, patterns: &[&str]) -> Result<Restored, Error> {
    restore_untracked(entry, tree, patterns, &[])
}

/// Restores what is not among the files `tracked`.
pub(crate) fn restore_untracked(
    entry: &Entry,
    tree: &Path,
    patterns: &[&str],
    tracked: &[&str],
) -> Result<Restored, Error> {
    let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    entry.restore(tree, &patterns, &Tracked::new(tracked), &AtomicBool::new(false))
}

pub(crate) fn write(root: &Path, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

pub(crate) fn link(root: &Path, path: &str, target: &str) -> PathBuf {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, &path).unwrap();
    path
}

/// What was stored, and the warnings.
pub(crate) fn warnings(saved: Saved) -> Vec<Warning> {
    match saved {
        Saved::Stored { warnings, .. } | Saved::Nothing { warnings } => warnings,
        Saved::Unchanged => panic!("unchanged"),
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn set_time(path: &Path, seconds: i64, nanos: u32) {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos.into() },
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// What there is of a path that users can tell apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Folder { mode: u32, time: (i64, i64) },
    File { mode: u32, time: (i64, i64), content: Vec<u8> },
    Link { time: (i64, i64), target: PathBuf },
    Other,
}

/// Everything below `root`, by path.
pub(crate) fn look(root: &Path) -> BTreeMap<PathBuf, Node> {
    let mut nodes = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            let meta = fs::symlink_metadata(entry.path()).unwrap();
            let (mode, time) = (meta.mode() & 0o7777, (meta.mtime(), meta.mtime_nsec()));
            let node = if meta.is_dir() {
                folders.push(path.clone());
                Node::Folder { mode, time }
            } else if meta.is_symlink() {
                Node::Link { time, target: fs::read_link(entry.path()).unwrap() }
            } else if meta.is_file() {
                Node::File { mode, time, content: fs::read(entry.path()).unwrap() }
            } else {
                Node::Other
            };
            nodes.insert(path, node);
        }
    }
    nodes
}

/// Compares two trees and says only where they differ: contents are long.
pub(crate) fn assert_same(one: &Path, other: &Path) {
    assert_equal(&look(one), &look(other));
}

pub(crate) fn assert_equal(one: &BTreeMap<PathBuf, Node>, other: &BTreeMap<PathBuf, Node>) {
    let paths = one.keys().chain(other.keys());
    let differ: Vec<_> = paths
        .filter(|&path| one.get(path) != other.get(path))
        .map(|path| (path, one.get(path).map(short), other.get(path).map(short)))
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

fn short(node: &Node) -> String {
    let mut text = format!("{node:?}");
    text.truncate(200);
    text
}

pub(crate) fn bytes(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Runs a program of the system; nothing if that is not possible here.
pub(crate) fn run(program: &str, args: &[&str]) -> Option<Output> {
    #[expect(clippy::disallowed_methods, reason = "mounting is no function of the standard library")]
    let output = loom_deadlines::output(Command::new(program).args(args)).ok()?;
    output.status.success().then_some(output)
}

/// A file system in memory, of a size; nothing where this user may not mount.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// A file system of `size`, which may be followed by other options.
    pub(crate) fn new(path: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let options = format!("size={size}");
        if run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", path.to_str().unwrap()]).is_none() {
            println!("skipped: this user may not mount a file system");
            return None;
        }
        Some(Self(path.to_owned()))
    }

    pub(crate) fn make_read_only(&self) {
        run("mount", &["-o", "remount,ro", self.0.to_str().unwrap()]).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

/// Gives the owner all rights to every folder, so that it can be removed.
fn open_up(folder: &Path) {
    set_mode(folder, 0o700);
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        // Deep ones are as the test made them, and go with what is above them.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.path().as_os_str().len() < 3000 {
            open_up(&entry.path());
        }
    }
}

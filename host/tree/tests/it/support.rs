//! A tree to collect from, and what came of it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use flate2::read::GzDecoder;
use fs_err as fs;
use loom_tree::{Collect, Collected, Error, LeftOut, Placed, Warning};
use tempfile::TempDir;

pub(crate) static NEVER: AtomicBool = AtomicBool::new(false);

pub(crate) struct Fixture {
    dir: TempDir,
    tree: PathBuf,
    into: PathBuf,
}

/// What is at a path: a file or a symlink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    File { content: Vec<u8>, mode: u32, seconds: i64 },
    Link { target: Vec<u8>, seconds: i64 },
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let tree = root.join("tree");
        fs::create_dir(&tree).unwrap();
        Self { dir, tree, into: root.join("jobs/one/artifacts") }
    }

    /// With files each of which holds its own name.
    pub(crate) fn with(files: &[&str]) -> Self {
        let fixture = Self::new();
        for file in files {
            fixture.write(file, file);
        }
        fixture
    }

    pub(crate) fn tree(&self) -> &Path {
        &self.tree
    }

    /// Where it is collected to.
    pub(crate) fn out(&self) -> &Path {
        &self.into
    }

    /// A path beside the tree.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, path: impl AsRef<OsStr>, content: impl AsRef<[u8]>) {
        write(&self.tree.join(path.as_ref()), content);
    }

    pub(crate) fn link(&self, path: &str, target: impl AsRef<Path>) {
        let path = self.tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::os::unix::fs::symlink(target, path).unwrap();
    }

    pub(crate) fn collect(&self, paths: &[&str]) -> Collected {
        self.try_collect(paths, &[]).unwrap()
    }

    pub(crate) fn collect_except(&self, paths: &[&str], exclude: &[&str]) -> Collected {
        self.try_collect(paths, exclude).unwrap()
    }

    pub(crate) fn try_collect(&self, paths: &[&str], exclude: &[&str]) -> Result<Collected, Error> {
        self.collect_unless(paths, exclude, &|_| false)
    }

    /// Collects, and holds what is there afterwards to what is promised of it.
    pub(crate) fn collect_unless(
        &self,
        paths: &[&str],
        exclude: &[&str],
        refuse: &(dyn Fn(&Path) -> bool + Sync),
    ) -> Result<Collected, Error> {
        let own = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<String>>();
        let (paths, exclude) = (own(paths), own(exclude));
        let existed = self.into.exists();
        let collected = loom_tree::collect(&Collect {
            tree: &self.tree,
            paths: &paths,
            exclude: &exclude,
            into: &self.into,
            refuse,
            cancel: &NEVER,
        })?;
        let Some(archive) = &collected.archive else {
            assert_eq!((&collected.files[..], collected.bytes), (&[][..], 0));
            assert_eq!(self.into.exists(), existed);
            return Ok(collected);
        };
        assert_eq!(*archive, self.into.join("artifacts.tar.gz"));
        let packed = unpack(archive);
        let names: Vec<&PathBuf> = packed.iter().map(|(name, _)| name).collect();
        assert_eq!(names, collected.files.iter().collect::<Vec<_>>());
        assert!(names.is_sorted_by_key(|name| name.as_os_str().as_bytes()));
        let mut bytes = 0;
        for (name, item) in &packed {
            assert!(Some(item) == self.collected(name).as_ref(), "{name:?} in the archive is not the same");
            bytes += if let Item::File { content, .. } = item { content.len() as u64 } else { 0 };
        }
        assert_eq!(collected.bytes, bytes);
        if !existed {
            let mut there = items(&self.into);
            there.remove(Path::new("artifacts.tar.gz"));
            assert_eq!(there.keys().collect::<Vec<_>>(), {
                let mut files: Vec<_> = collected.files.iter().collect();
                files.sort();
                files
            });
        }
        Ok(collected)
    }

    /// What was collected under this name.
    pub(crate) fn collected(&self, name: impl AsRef<Path>) -> Option<Item> {
        item(&self.into.join(name))
    }

    pub(crate) fn place(&self, from: &Self, files: &[PathBuf]) -> Result<Placed, Error> {
        loom_tree::place(&from.into, files, &self.tree, &NEVER)
    }
}

pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap()
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

pub(crate) fn item(path: &Path) -> Option<Item> {
    let meta = fs::symlink_metadata(path).ok()?;
    let seconds = meta.mtime();
    if meta.is_symlink() {
        let target = fs::read_link(path).unwrap().into_os_string().into_vec();
        return Some(Item::Link { target, seconds });
    }
    assert!(meta.is_file(), "{path:?}");
    Some(Item::File { content: fs::read(path).unwrap(), mode: meta.mode() & 0o7777, seconds })
}

/// All files and symlinks below a folder.
pub(crate) fn items(folder: &Path) -> BTreeMap<PathBuf, Item> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(folder.join(&at)).unwrap() {
            let entry = entry.unwrap();
            let path = at.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else {
                found.insert(path, item(&entry.path()).unwrap());
            }
        }
    }
    found
}

/// What is in an archive, in its order. It says nothing of who made it.
pub(crate) fn unpack(archive: &Path) -> Vec<(PathBuf, Item)> {
    let mut unzipped = Vec::new();
    GzDecoder::new(fs::File::open(archive).unwrap()).read_to_end(&mut unzipped).unwrap();
    let mut tar = tar::Archive::new(&*unzipped);
    let mut items = Vec::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        assert_eq!((header.username_bytes().unwrap(), header.groupname_bytes().unwrap()), (&[][..], &[][..]));
        let seconds = i64::try_from(header.mtime().unwrap()).unwrap();
        let mode = header.mode().unwrap();
        let path = PathBuf::from(OsString::from_vec(entry.path_bytes().into_owned()));
        let item = match entry.link_name_bytes() {
            Some(target) => Item::Link { target: target.into_owned(), seconds },
            None => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                Item::File { content, mode, seconds }
            }
        };
        items.push((path, item));
    }
    items
}

/// A program that is not there is not asked.
pub(crate) fn is_installed(program: &str) -> bool {
    let found = loom_deadlines::output(Command::new(program).arg("--version")).is_ok();
    if !found {
        println!("skipped: no {program}");
    }
    found
}

pub(crate) fn files(collected: &Collected) -> Vec<&str> {
    collected.files.iter().map(|file| file.to_str().unwrap()).collect()
}

/// The names that were left out, with the reason.
pub(crate) fn left_out<'w>(warnings: &'w [Warning]) -> Vec<(&'w str, &'w LeftOut)> {
    let left_out = |warning: &'w Warning| match warning {
        Warning::LeftOut { path, why } => (path.to_str().unwrap(), why),
        other => panic!("{other}"),
    };
    warnings.iter().map(left_out).collect()
}

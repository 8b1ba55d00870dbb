//! Removal of whole trees.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use loom_tree::remove;

/// A folder that is to be removed, and what is beside it.
struct Fixture {
    dir: tempfile::TempDir,
    root: PathBuf,
}

impl Fixture {
    fn plain() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        fs_err::create_dir(&root).unwrap();
        Self { dir, root }
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, file: impl AsRef<Path>) {
        write(&self.root.join(file));
    }
}

fn write(path: &Path) {
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, "").unwrap();
}

#[test]
fn a_path_that_is_gone_is_fine() {
    let folder = Fixture::plain();
    remove(&folder.beside("nothing")).unwrap();
    remove(&folder.beside("nothing/below/it")).unwrap();
}

#[test]
fn read_only_and_closed_folders_go_too() {
    let folder = Fixture::plain();
    for (path, mode) in [("read-only/a/file", 0o555), ("closed/b/file", 0o000), ("blind/c/file", 0o300)] {
        let file = folder.root().join(path);
        write(&file);
        let mode = std::fs::Permissions::from_mode(mode);
        let inner = file.parent().unwrap();
        fs_err::set_permissions(inner, mode.clone()).unwrap();
        fs_err::set_permissions(inner.parent().unwrap(), mode).unwrap();
    }
    fs_err::set_permissions(folder.root(), std::fs::Permissions::from_mode(0o000)).unwrap();
    remove(folder.root()).unwrap();
    assert!(!folder.root().exists());
}

#[test]
fn symlinks_are_removed_and_not_followed() {
    let folder = Fixture::plain();
    let kept = folder.beside("kept");
    write(&kept.join("file"));
    symlink(&kept, folder.root().join("link")).unwrap();
    remove(folder.root()).unwrap();
    assert!(kept.join("file").exists());

    let link = folder.beside("link-to-kept");
    symlink(&kept, &link).unwrap();
    remove(&link).unwrap();
    assert!(fs_err::symlink_metadata(&link).is_err());
    assert!(kept.join("file").exists());
}

#[test]
fn many_folders_and_files() {
    let folder = Fixture::plain();
    for index in 0..3000 {
        folder.write(format!("{}/{}/{}/{index}", index % 5, index % 31, index % 171));
    }
    remove(folder.root()).unwrap();
    assert!(!folder.root().exists());
}

#[test]
fn a_folder_that_is_filled_meanwhile_is_an_error_or_goes() {
    let folder = Fixture::plain();
    for index in 0..500 {
        folder.write(format!("{index}/file"));
    }
    let root = folder.root().to_owned();
    let writer = std::thread::spawn(move || {
        for index in 0..500 {
            if std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .open(root.join(format!("{index}/new")))
                .is_err()
            {
                break;
            }
        }
    });
    let removed = remove(folder.root());
    writer.join().unwrap();
    assert_eq!(removed.is_ok(), !folder.root().exists());
    remove(folder.root()).unwrap();
    assert!(!folder.root().exists());
}

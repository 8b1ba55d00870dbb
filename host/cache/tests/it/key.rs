//! Keys from files: the recipe, by values that must never change, and which files a glob means.

use std::path::{Path, PathBuf};

use fs_err as fs;
use loom_cache::key::{hash_files, select};
use loom_cache::{Error, FileError};

use crate::support::{World, link, write};

fn hex(root: &Path, paths: &[&str]) -> String {
    hash_files(root, paths).unwrap().hex
}

#[test]
fn the_recipe_gives_the_same_hashes_for_ever() {
    let world = World::new();
    let root = world.tree();
    world.write("a.lock", "one\n");
    world.write("dir/b.lock", "");
    world.write("dir/c", [0, 255, 10]);
    // Computed by other means: sha256 over (length, path, length, content), lengths as 64-bit little-endian numbers.
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(hex(&root, &[]), nothing);
    assert_eq!(hex(&root, &["a.lock"]), "a6d4d71214e053889afe244b12d1985e4cf113af5f02e38ff5ca512a3c787774");
    assert_eq!(
        hex(&root, &["a.lock", "dir/b.lock", "dir/c"]),
        "e5005c499db166fe8290605d8888fd495320e0052e21d1762b71ebc54216d44a"
    );
    let hashed = hash_files(&root, &["dir/c", "a.lock"]).unwrap();
    let files: Vec<_> =
        hashed.files.iter().map(|(path, hash)| (path.to_str().unwrap(), hash.as_str())).collect();
    assert_eq!(
        files,
        [
            ("a.lock", "2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806"),
            ("dir/c", "712450d3c4a79eea9509e75dc1dacdeff58034df538536cfae2da882bd8a0c50")
        ]
    );
}

#[test]
fn order_repetition_and_times_do_not_matter_and_everything_else_does() {
    let world = World::new();
    let root = world.tree();
    world.write("a", "1");
    world.write("b", "2");
    let first = hex(&root, &["a", "b"]);
    assert_eq!(hex(&root, &["b", "a", "b"]), first);
    crate::support::set_time(&root.join("a"), 1, 1);
    crate::support::set_mode(&root.join("a"), 0o755);
    assert_eq!(hex(&root, &["a", "b"]), first);
    assert_ne!(hex(&root, &["a"]), first);
    // The same bytes in a row, cut elsewhere.
    world.write("a", "12");
    world.write("b", "");
    assert_ne!(hex(&root, &["a", "b"]), first);
    world.write("a", "1");
    world.write("b", "2");
    assert_eq!(hex(&root, &["a", "b"]), first);
    fs::rename(root.join("b"), root.join("c")).unwrap();
    assert_ne!(hex(&root, &["a", "c"]), first);
}

#[test]
fn what_is_not_there_is_passed_over_and_a_symlink_is_its_target() {
    let world = World::new();
    let root = world.tree();
    world.write("a", "1");
    world.folder("tree/folder");
    assert_eq!(hex(&root, &["a", "missing", "folder", "a/below"]), hex(&root, &["a"]));
    link(&root, "l", "a");
    let linked = hex(&root, &["l"]);
    fs::remove_file(root.join("l")).unwrap();
    world.write("l", "a");
    assert_eq!(hex(&root, &["l"]), linked);
}

#[test]
fn nothing_outside_the_workspace_is_read() {
    let world = World::new();
    let root = world.tree();
    write(&world.path("outside"), "secret", "secret");
    link(&root, "out", "../outside");
    world.write("in/x", "");
    write(&world.path("outside"), "deeper/secret", "secret");
    for path in ["../outside/secret", "in/../../outside/secret", "/etc/hostname"] {
        let error = hash_files(&root, &[path]).unwrap_err();
        assert!(matches!(error, Error::File(FileError::Read { .. })), "{path}: {error}");
    }
    assert_eq!(hash_files(&root, &["out/secret", "out/deeper/secret"]).unwrap().files, []);
}

#[test]
fn globs_choose_among_the_paths_that_are_given() {
    let paths = [
        "go.sum",
        "apps/a/go.sum",
        "apps/a/sub/go.sum",
        "apps/b/package.json",
        ".ci/x.lock",
        "lib/deep/er/f",
        "GO.SUM",
    ];
    let chosen = |globs: &[&str]| -> Vec<PathBuf> {
        select(&paths, globs).unwrap().into_iter().map(Path::to_owned).collect()
    };
    let as_paths = |paths: &[&str]| -> Vec<PathBuf> { paths.iter().map(PathBuf::from).collect() };
    assert_eq!(chosen(&["go.sum"]), as_paths(&["go.sum"]));
    assert_eq!(chosen(&["**/go.sum"]), as_paths(&["go.sum", "apps/a/go.sum", "apps/a/sub/go.sum"]));
    assert_eq!(chosen(&["apps/*/go.sum"]), as_paths(&["apps/a/go.sum"]));
    assert_eq!(chosen(&["lib", "*/*.lock"]), as_paths(&[".ci/x.lock", "lib/deep/er/f"]));
    assert_eq!(chosen(&["apps/{a,b}/*.{sum,json}"]), as_paths(&["apps/a/go.sum", "apps/b/package.json"]));
    assert_eq!(chosen(&["nothing"]), as_paths(&[]));
    assert!(matches!(select(&paths, &["a[", "b"]), Err(Error::Pattern { pattern, .. }) if pattern == "a["));
    assert!(matches!(select(&paths, &["../x"]), Err(Error::Pattern { .. })));
}

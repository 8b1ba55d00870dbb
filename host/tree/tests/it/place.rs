//! Files of one job, put into the tree of another.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use fs_err as fs;
use loom_tree::{Error, LeftOut, place};

use crate::support::{Fixture, item, items, left_out, read, set_mode, write};

fn paths(files: &[&str]) -> Vec<PathBuf> {
    files.iter().map(PathBuf::from).collect()
}

#[test]
fn what_was_collected_is_there_again() {
    let from = Fixture::with(&["out/app", "out/sub/lib", "out/private/key"]);
    set_mode(&from.tree().join("out/app"), 0o755);
    set_mode(&from.tree().join("out/sub/lib"), 0o444);
    set_mode(&from.tree().join("out/private"), 0o700);
    from.link("out/link", "sub/lib");
    let collected = from.collect(&["out"]);
    let to = Fixture::with(&["out/other"]);
    let placed = to.place(&from, &collected.files).unwrap();
    assert_eq!((placed.files, placed.bytes, &placed.warnings[..]), (4, collected.bytes, &[][..]));
    let mut there = items(to.tree());
    assert!(there.remove(Path::new("out/other")).is_some());
    assert!(there == items(from.tree()));
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(to.tree().join("out/private")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn only_what_is_named_is_placed() {
    let from = Fixture::with(&["a", "b"]);
    from.collect(&["."]);
    let to = Fixture::new();
    assert_eq!(to.place(&from, &paths(&["b", "b"])).unwrap().files, 1);
    assert_eq!(items(to.tree()).into_keys().collect::<Vec<_>>(), paths(&["b"]));
    assert_eq!(to.place(&from, &[]).unwrap().files, 0);
}

#[test]
fn what_is_there_is_replaced_and_nothing_is_written_through_it() {
    let from = Fixture::with(&["plain", "read-only", "linked", "hard", "link"]);
    fs::remove_file(from.tree().join("link")).unwrap();
    from.link("link", "plain");
    let collected = from.collect(&["."]);

    let to = Fixture::with(&["plain", "read-only", "link"]);
    to.write("plain", "old");
    set_mode(&to.tree().join("read-only"), 0o400);
    write(&to.beside("outside"), "outside");
    to.link("linked", to.beside("outside"));
    fs::hard_link(to.beside("outside"), to.tree().join("hard")).unwrap();
    to.place(&from, &collected.files).unwrap();
    assert!(items(to.tree()) == items(from.tree()));
    assert_eq!(read(to.beside("outside")), "outside");
}

#[test]
fn a_link_where_a_folder_must_be_is_not_followed() {
    let from = Fixture::with(&["out/deep/file"]);
    let collected = from.collect(&["."]);
    for (link, inside) in [("out", false), ("out", true), ("out/deep", false)] {
        let to = Fixture::with(&["real/x"]);
        let outside = to.beside("outside");
        fs::create_dir_all(outside.join("deep")).unwrap();
        to.link(link, if inside { Path::new("real") } else { &outside });
        let error = to.place(&from, &collected.files).unwrap_err();
        let at = to.tree().join(link);
        assert!(matches!(&error, Error::InTheWay { path, what: "a symlink" } if *path == at), "{error}");
        assert_eq!(items(&outside).len(), 0);
        assert_eq!(items(&to.tree().join("real")).len(), 1);
    }
}

#[test]
fn a_file_where_a_folder_must_be_and_the_other_way_round_are_named() {
    let from = Fixture::with(&["out/file"]);
    let collected = from.collect(&["."]);
    let to = Fixture::with(&["out"]);
    let error = to.place(&from, &collected.files).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot place `{}`: there is a file in its way", to.tree().join("out").display())
    );
    assert_eq!(read(to.tree().join("out")), "out");

    let to = Fixture::with(&["out/file/x"]);
    let error = to.place(&from, &collected.files).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot place `{}`: there is a folder in its way", to.tree().join("out/file").display())
    );
    assert_eq!(items(to.tree()).into_keys().collect::<Vec<_>>(), paths(&["out/file/x"]));
}

#[test]
fn nothing_is_placed_outside_the_tree_or_into_its_git_folder() {
    let from = Fixture::with(&["a"]);
    from.collect(&["a"]);
    let to = Fixture::new();
    for path in ["../a", "/a", "", ".", "a/../../a", "./a", "a/", ".git", ".git/hooks/pre-commit"] {
        let error = to.place(&from, &paths(&["a", path])).unwrap_err();
        assert!(matches!(&error, Error::Refused { path: named, .. } if named == Path::new(path)), "{path}");
    }
    assert_eq!(items(to.tree()).len(), 0);
}

#[test]
fn what_is_gone_or_leads_out_is_left_out() {
    let from = Fixture::with(&["a", "b"]);
    from.collect(&["."]);
    fs::remove_file(from.out().join("b")).unwrap();
    fs_err::os::unix::fs::symlink("../../x", from.out().join("c")).unwrap();
    let to = Fixture::new();
    let placed = to.place(&from, &paths(&["a", "b", "c"])).unwrap();
    assert_eq!(placed.files, 1);
    let warnings = left_out(&placed.warnings);
    assert_eq!(warnings[0], ("b", &LeftOut::Vanished));
    assert!(matches!(warnings[1], ("c", LeftOut::Link { .. })), "{warnings:?}");
}

#[test]
fn who_cancels_gets_nothing_more() {
    let from = Fixture::with(&["a"]);
    let collected = from.collect(&["."]);
    let to = Fixture::new();
    let placed = place(from.out(), &collected.files, to.tree(), &AtomicBool::new(true));
    assert!(matches!(placed, Err(Error::Cancelled)));
    assert_eq!(item(&to.tree().join("a")), None);
}

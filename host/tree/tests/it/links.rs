//! Symlinks: those that stay in the tree are kept, no other is, and none is followed.

use std::path::Path;

use fs_err as fs;
use loom_tree::LeftOut;

use crate::support::{Fixture, Item, files, left_out, write};

fn target(tree: &Fixture, name: &str) -> Option<String> {
    match tree.collected(name)? {
        Item::Link { target, .. } => Some(String::from_utf8(target).unwrap()),
        Item::File { .. } => panic!("{name} is a file"),
    }
}

#[test]
fn a_link_that_stays_in_the_tree_is_kept() {
    let tree = Fixture::with(&["out/file", "lib/deep/x", "real/inner/y"]);
    let long = "long/".repeat(60) + "way";
    let kept = [
        ("out/near", "file"),
        ("out/not-collected", "../lib/deep/x"),
        ("out/folder", "../lib"),
        ("out/root", ".."),
        ("out/dangles", "nowhere/at/all"),
        ("out/itself", "itself"),
        ("out/far", &long),
        // Down and up again, but it can be seen where that leads.
        ("out/around", "../lib/deep/../deep/x"),
        // Through another link, which is kept or not.
        ("out/through", "folder/deep/x"),
        ("out/turn", "../alias/../x"),
    ];
    tree.link("alias", "real/inner");
    tree.write("real/x", "");
    for (name, target) in kept {
        tree.link(name, target);
    }
    let collected = tree.collect(&["out"]);
    assert_eq!(collected.warnings, []);
    for (name, to) in kept {
        assert_eq!(target(&tree, name).as_deref(), Some(to), "{name}");
    }
}

#[test]
fn a_link_that_leads_out_is_left_out_and_named() {
    let tree = Fixture::with(&["out/file", "lib/x"]);
    let outside = tree.beside("outside");
    write(&outside.join("secret"), "s3cret");
    let absolute = tree.tree().join("out/file").to_str().unwrap().to_owned();
    let out = [
        ("out/absolute", "/etc/passwd"),
        ("out/absolute-inside", &absolute),
        ("out/above", "../../outside/secret"),
        ("out/folder", "../../outside"),
        ("out/via", "../hop/secret"),
        ("out/via-up", "../up/../outside/secret"),
        ("out/unseen", "nowhere/../x"),
    ];
    tree.link("hop", &outside);
    tree.link("up", "..");
    for (name, target) in out {
        tree.link(name, target);
    }
    let collected = tree.collect(&["out"]);
    assert_eq!(files(&collected), ["out/file"]);
    let mut expected: Vec<(&str, &str)> = out.to_vec();
    expected.sort_unstable();
    let mut found: Vec<(&str, &str)> = left_out(&collected.warnings)
        .into_iter()
        .map(|(name, why)| match why {
            LeftOut::Link { target, .. } => (name, target.to_str().unwrap()),
            other => panic!("{name}: {other}"),
        })
        .collect();
    found.sort_unstable();
    assert_eq!(found, expected);
    let words: Vec<String> = collected.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        words[0],
        "`out/above` was left out: it is a symlink to `../../outside/secret`, which leads outside the workspace"
    );
    assert!(words.contains(
        &"`out/via` was left out: it is a symlink to `../hop/secret`, which leads outside the workspace through \
          another symlink"
            .to_owned()
    ));
}

#[test]
fn nothing_behind_a_link_is_collected() {
    let tree = Fixture::with(&["real/a.txt"]);
    let outside = tree.beside("outside");
    write(&outside.join("b.txt"), "");
    tree.link("inside", "real");
    tree.link("outside", &outside);
    tree.link("plain", "real/a.txt");
    let collected = tree.collect(&["inside/*.txt", "outside/b.txt", "plain/x", "**/*.txt"]);
    assert_eq!(files(&collected), ["real/a.txt"]);
    assert_eq!(collected.unmatched, ["inside/*.txt", "outside/b.txt", "plain/x"]);
    // Only those that a pattern leads through and that have something behind them.
    assert_eq!(left_out(&collected.warnings), [("inside", &LeftOut::Behind), ("outside", &LeftOut::Behind)]);
}

#[test]
fn a_folder_that_becomes_a_link_is_not_followed() {
    let tree = Fixture::with(&["out/secret"]);
    let outside = tree.beside("outside");
    write(&outside.join("secret"), "s3cret");
    // When the folder has been listed, and the file not yet been read.
    let swap = |path: &Path| {
        if path == Path::new("out/secret") {
            fs::rename(tree.tree().join("out"), tree.beside("was")).unwrap();
            tree.link("out", &outside);
        }
        false
    };
    let collected = tree.collect_unless(&["out"], &[], &swap).unwrap();
    assert_eq!(files(&collected), [""; 0]);
    assert_eq!(left_out(&collected.warnings), [("out/secret", &LeftOut::Vanished)]);
}

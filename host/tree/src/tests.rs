//! Failing I/O: whatever call fails, no file is torn and none of another is lost, the error names the path,
//! and the next act works.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use fs_err as fs;
use loom_faults::{Failing, Fault, fail_each};
use rustix::io::Errno;

use crate::{
    Aside, Collect, Copied, Error, FileError, Kept, Outline, Over, Part, Patterns, ReplicateError,
    Replicator, collect, place, remove,
};

static GO: AtomicBool = AtomicBool::new(false);

/// The ways in which calls fail here: one of them for want of space, one by itself, and all from one on.
const FAILING: [Failing; 3] =
    [Failing::Once(Errno::NOSPC), Failing::Once(Errno::IO), Failing::FromThenOn(Errno::IO)];

/// The content of a tree, by path: the content of a file, or the target of a symlink.
type Content = BTreeMap<PathBuf, Vec<u8>>;

fn content(root: &Path) -> Content {
    let mut found = Content::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let content = match path.symlink_metadata().unwrap().file_type() {
                kind if kind.is_symlink() => {
                    fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
                }
                kind if kind.is_dir() => {
                    folders.push(path);
                    continue;
                }
                _ => fs::read(&path).unwrap(),
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), content);
        }
    }
    found
}

/// A tree of files, one of them in a folder and one big, and a symlink.
fn fill(root: &Path, seed: u8) {
    fs::create_dir_all(root.join("folder/below")).unwrap();
    for name in ["a", "folder/b", "folder/below/c"] {
        fs::write(root.join(name), [seed; 3000]).unwrap();
    }
    fs::write(root.join("big"), vec![seed; (1 << 20) + 10]).unwrap();
    symlink(format!("folder/{seed}"), root.join("link")).unwrap();
}

/// An error must say which file it was, and that the disk is full where it is.
fn check_error(error: &FileError, failing: Failing, root: &Path, fault: &Fault<'_>) {
    assert!(error.to_string().contains(root.to_str().unwrap()), "{error} {:?}", fault.hit());
    let is_full = matches!(error, FileError::NoSpace { .. } | FileError::Read { .. });
    assert!(is_full || failing != Failing::Once(Errno::NOSPC), "{error} {:?}", fault.hit());
}

#[test]
fn a_replication_of_which_a_call_fails_is_whole_or_an_error() {
    for failing in FAILING {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fill(&from, 1);
        let before = content(&from);
        let replicate = || -> Result<(), ReplicateError> {
            let mut outline = Outline::default();
            for path in before.keys() {
                outline.add(path.as_os_str().as_encoded_bytes());
            }
            // A umask that makes every mode be set.
            let replicator = Replicator::new(&GO, 0o777, None);
            assert_eq!(replicator.copy(&outline, &from, &to, Part::WHOLE)?, [""; 0].map(PathBuf::from));
            assert_eq!(replicator.finish()?.files, 5);
            Ok(())
        };
        let calls = fail_each(dir.path(), failing, |fault| {
            fs::create_dir(&to).unwrap();
            match fault.during(replicate) {
                Ok(()) => assert!(content(&to) == before, "{:?}", fault.hit()),
                Err(ReplicateError::File(error)) => check_error(&error, failing, dir.path(), fault),
                Err(ReplicateError::Cancelled) => panic!("nobody cancelled"),
            }
            assert!(content(&from) == before, "{:?}", fault.hit());
            remove(&to).unwrap();
        });
        assert!(calls > 20, "{calls}");
    }
}

#[test]
fn a_replication_over_an_older_copy_of_which_a_call_fails_is_put_right_by_the_next() {
    for failing in FAILING {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (from, to, record) = (at("from"), at("to"), at("record"));
        for folder in [&to, &at("aside")] {
            fs::create_dir(folder).unwrap();
        }
        let aside = Aside::open(&at("aside")).unwrap();
        let none = Patterns::none();
        let replicate = || -> Result<u64, ReplicateError> {
            let copied = Copied::load(&record);
            Copied::forget(&record)?;
            let now = content(&from);
            let mut outline = Outline::default();
            for path in now.keys() {
                outline.add(path.as_os_str().as_encoded_bytes());
            }
            let kept = Kept { patterns: &none, below: b"" };
            let replicator = Replicator::new(
                &GO,
                0o022,
                Some(Over { copied: &copied, aside: &aside, kept, resumed: false }),
            );
            replicator.copy(&outline, &from, &to, Part::WHOLE)?;
            let totals = replicator.finish()?;
            totals.recording.store(&record)?;
            Ok(totals.copied)
        };
        let mut round = 0_u8;
        let calls = fail_each(dir.path(), failing, |fault| {
            round += 1;
            remove(&from).unwrap();
            fill(&from, round % 2);
            // What a job does: a folder for a file, a file for a folder, one more of each, and a change.
            let _ = remove(&to.join("a"));
            fs::create_dir_all(to.join("a/made")).unwrap();
            let _ = remove(&to.join("folder/below"));
            fs::create_dir_all(to.join("folder")).unwrap();
            fs::write(to.join("folder/below"), "made").unwrap();
            fs::write(to.join("made"), "made").unwrap();
            if let Err(ReplicateError::File(error)) = fault.during(replicate) {
                check_error(&error, failing, dir.path(), fault);
            }
            replicate().unwrap();
            assert_eq!(content(&to), content(&from), "{:?}", fault.hit());
            assert_eq!(replicate().unwrap(), 0);
            aside.empty().unwrap();
        });
        assert!(calls > 20, "{calls}");
    }
}

#[test]
fn of_files_that_are_placed_each_is_the_old_or_the_new_one_whichever_call_fails() {
    for failing in FAILING {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fill(&from, 1);
        let new = content(&from);
        let files: Vec<PathBuf> = new.keys().cloned().collect();
        let calls = fail_each(dir.path(), failing, |fault| {
            fs::create_dir_all(to.join("folder")).unwrap();
            fs::write(to.join("a"), "old").unwrap();
            fs::write(to.join("mine"), "the user's").unwrap();
            symlink("elsewhere", to.join("link")).unwrap();
            let old = content(&to);
            let placed = fault.during(|| place(&from, &files, &to, &GO));
            match &placed {
                Ok(placed) => assert_eq!(placed.warnings, []),
                Err(Error::File(error)) => check_error(error, failing, dir.path(), fault),
                Err(error) => panic!("{error}"),
            }
            let there = content(&to);
            for (path, there) in &there {
                let known = [old.get(path), new.get(path)].contains(&Some(there));
                assert!(known, "{} {:?}", path.display(), fault.hit());
            }
            // What was there is, whole.
            assert!(old.keys().all(|path| there.contains_key(path)), "{:?}", fault.hit());
            assert_eq!(fs::read(to.join("mine")).unwrap(), b"the user's");
            place(&from, &files, &to, &GO).unwrap();
            assert!(new.iter().all(|(path, new)| content(&to).get(path) == Some(new)), "{:?}", fault.hit());
            remove(&to).unwrap();
        });
        assert!(calls > 12, "{calls}");
    }
}

#[test]
fn what_is_collected_is_whole_and_so_is_its_archive_whichever_call_fails() {
    for failing in FAILING {
        let dir = tempfile::tempdir().unwrap();
        let (tree, into) = (dir.path().join("tree"), dir.path().join("into"));
        fill(&tree, 1);
        let before = content(&tree);
        let paths = [".".to_owned()];
        let what = Collect {
            tree: &tree,
            paths: &paths,
            exclude: &[],
            into: &into,
            refuse: &|_| false,
            cancel: &GO,
        };
        let collected = || {
            let mut files = content(&into);
            (files.remove(Path::new("artifacts.tar.gz")), files)
        };
        collect(&what).unwrap();
        let (archive, _) = collected();
        assert!(archive.is_some());
        remove(&into).unwrap();
        let calls = fail_each(dir.path(), failing, |fault| {
            let result = fault.during(|| collect(&what));
            let (there, files) = if into.exists() { collected() } else { (None, Content::new()) };
            match &result {
                Ok(collected) if collected.warnings.is_empty() => {
                    assert!(there == archive && files == before, "{:?}", fault.hit());
                }
                Ok(_) => {}
                Err(Error::File(error)) => {
                    check_error(error, failing, dir.path(), fault);
                    assert!(there.is_none(), "{:?}", fault.hit());
                }
                Err(error) => panic!("{error}"),
            }
            assert!(files.iter().all(|(path, there)| before.get(path) == Some(there)), "{:?}", fault.hit());
            assert!(content(&tree) == before, "{:?}", fault.hit());
            collect(&what).unwrap();
            assert!(collected() == (archive.clone(), before.clone()), "{:?}", fault.hit());
            remove(&into).unwrap();
        });
        assert!(calls > 20, "{calls}");
    }
}

#[test]
fn a_removal_of_which_a_call_fails_says_so_and_removes_the_rest() {
    for failing in FAILING {
        let dir = tempfile::tempdir().unwrap();
        let (tree, beside) = (dir.path().join("tree"), dir.path().join("beside"));
        fill(&beside, 2);
        symlink(&beside, dir.path().join("link")).unwrap();
        let others = content(&beside);
        let calls = fail_each(dir.path(), failing, |fault| {
            fill(&tree, 1);
            symlink(&beside, tree.join("out")).unwrap();
            let removed = fault.during(|| remove(&tree));
            assert_eq!(removed.is_err(), fault.hit().is_some() && tree.exists(), "{:?}", fault.hit());
            if let Err(error) = removed {
                assert!(error.to_string().contains(tree.to_str().unwrap()), "{error}");
                assert!(matches!(error, Error::Remove { .. }), "{error}");
            }
            assert!(content(&beside) == others, "{:?}", fault.hit());
            remove(&tree).unwrap();
            assert!(!tree.exists());
        });
        assert!(calls > 8, "{calls}");
    }
}

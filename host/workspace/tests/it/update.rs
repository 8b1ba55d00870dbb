//! A copy that stays is, once it was brought up to date, what a new one would be: whatever became of the
//! repository and whatever jobs did in the copy.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use fs_err as fs;
use loom_workspace::{Aside, Error, Patterns, Slot, Snapshot, create, update};

use crate::support::{Fixture, assert_same_to_git, git, write};

static GO: AtomicBool = AtomicBool::new(false);

/// A slot beside a repository.
struct Place {
    dir: PathBuf,
    record: PathBuf,
    aside: Aside,
    kept: Patterns,
}

impl Place {
    fn beside(repo: &Fixture, kept: &[&str]) -> Self {
        let at = |name: &str| repo.beside("slots").join(name);
        fs::create_dir_all(at("0")).unwrap();
        fs::create_dir(at("0.aside")).unwrap();
        let aside = Aside::open(&at("0.aside")).unwrap();
        Self { dir: at("0"), record: at("0.record"), aside, kept: Patterns::new(kept).unwrap() }
    }

    fn try_update(&self, root: &Path, cancel: &AtomicBool) -> Result<Snapshot, Error> {
        let Self { dir, record, aside, kept } = self;
        update(root, &Slot { dir, record, aside, kept, stay: true, resumed: false }, cancel)
    }

    /// Brings over only what was edited since the last time.
    fn resume(&self, root: &Path) -> Snapshot {
        let Self { dir, record, aside, kept } = self;
        assert!(loom_workspace::is_known(record));
        let slot = Slot { dir, record, aside, kept, stay: true, resumed: true };
        let snapshot = update(root, &slot, &GO).unwrap();
        self.aside.empty().unwrap();
        snapshot
    }

    fn update(&self, root: &Path) -> Snapshot {
        let snapshot = self.try_update(root, &GO).unwrap();
        self.aside.empty().unwrap();
        snapshot
    }
}

/// Everything in a tree, its git folder too: kinds, permissions, times of files, content.
fn everything(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        let is_git = name == ".git" || name.starts_with(".git/") || name.contains("/.git");
        let what = if meta.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            format!("folder {:o}", meta.mode())
        } else if meta.is_symlink() {
            format!("link {}", fs::read_link(&path).unwrap().display())
        } else {
            let time = if is_git { 0 } else { meta.mtime() * 1_000_000_000 + meta.mtime_nsec() };
            let content = fs::read(&path).unwrap();
            format!("file {:o} {} {time} {}", meta.mode(), meta.nlink(), content.escape_ascii())
        };
        found.insert(name, what);
    }
    found
}

/// The slot is what a new copy is.
fn assert_as_new(place: &Place, root: &Path, after: &str) {
    let (is, should) = (everything(&place.dir), as_new(place, root));
    for name in is.keys().chain(should.keys()) {
        assert_eq!(is.get(name), should.get(name), "`{name}` {after}");
    }
}

/// What a new copy would be.
fn as_new(place: &Place, root: &Path) -> BTreeMap<String, String> {
    let new = place.dir.with_file_name("new");
    create(root, &new, |path| fs::create_dir(path), &GO).unwrap();
    let found = everything(&new);
    loom_tree::remove(&new).unwrap();
    found
}

/// What was edited of the repository since it was `before` is in the slot, and nothing else of the slot, which `was`, has changed.
fn assert_resumed(
    place: &Place,
    root: &Path,
    before: &BTreeMap<String, String>,
    was: &BTreeMap<String, String>,
    after: &str,
) {
    let (now, is) = (as_new(place, root), everything(&place.dir));
    let is_file = |what: Option<&String>| what.is_none_or(|what| !what.starts_with("folder"));
    let in_git = |name: &str| name == ".git" || name.starts_with(".git/") || name.contains("/.git");
    for name in before.keys().chain(now.keys()).chain(was.keys()).filter(|name| !in_git(name)) {
        let (old, new, had, has) = (before.get(name), now.get(name), was.get(name), is.get(name));
        if old != new && is_file(old) && is_file(new) {
            let is_below =
                |other: &String| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
            // A folder that others made where a file is gone stays.
            let stays = new.is_none() && was.keys().any(is_below);
            assert!(has == new || stays, "`{name}` was edited {after}: {has:?} instead of {new:?}");
        }
        let around = |tree: &BTreeMap<String, String>| {
            Path::new(name).ancestors().skip(1).all(|above| {
                tree.get(&*above.to_string_lossy()).is_none_or(|what| what.starts_with("folder"))
            })
        };
        if old.is_none() && new.is_none() && is_file(had) && had.is_some() && around(&now) {
            let in_the_way = now
                .keys()
                .any(|other| other.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('/')));
            assert!(has == had || in_the_way, "`{name}` is a job's {after}: {has:?} instead of {had:?}");
        }
    }
}

/// Numbers that look random: the same ones for the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        // xorshift64*, from Vigna's paper of 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % end
    }

    fn one_of<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }
}

/// Names of which some are folders at one time and files at another, and some differ in case alone.
const NAMES: [&str; 14] = [
    "a",
    "A",
    "b",
    "b/c",
    "b/c/d",
    "b/x",
    "x.log",
    "b/y.log",
    "target",
    "target/out",
    "link",
    "run.sh",
    "deep/er/est",
    "ü",
];

/// Takes whatever is at `path` out of the way, and makes the folders above it.
fn clear(root: &Path, name: &str) -> PathBuf {
    let path = root.join(name);
    let mut above = root.to_owned();
    for part in Path::new(name).parent().unwrap().iter() {
        above.push(part);
        if fs::symlink_metadata(&above).is_ok_and(|meta| !meta.is_dir()) {
            fs::remove_file(&above).unwrap();
        }
        if !above.exists() {
            fs::create_dir(&above).unwrap();
        }
    }
    loom_tree::remove(&path).unwrap();
    path
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// One of the things that users do in a work tree, and jobs in a copy.
fn act(root: &Path, numbers: &mut Numbers, round: usize) -> String {
    let name = numbers.one_of(&NAMES);
    let there = || fs::symlink_metadata(root.join(name)).ok();
    let is_file = there().is_some_and(|meta| meta.is_file());
    match numbers.below(9) {
        0 | 1 => write(&clear(root, name), format!("content {}", numbers.below(3))),
        2 if there().is_some() => loom_tree::remove(&root.join(name)).unwrap(),
        3 => symlink(numbers.one_of(&["a", "nowhere", "/etc"]), clear(root, name)).unwrap(),
        4 if there().is_some_and(|meta| !meta.is_symlink()) => {
            let mode = [0o644, 0o755, 0o600, 0o444, 0o777][numbers.below(5)];
            let is_dir = there().is_some_and(|meta| meta.is_dir());
            set_mode(&root.join(name), if is_dir { mode | 0o700 } else { mode });
        }
        5 if there().is_some() => {
            let to = numbers.one_of(&NAMES);
            if !Path::new(to).starts_with(name) && !Path::new(name).starts_with(to) {
                fs::rename(root.join(name), clear(root, to)).unwrap();
            }
        }
        6 if is_file => {
            // As long as before, and with the same time.
            let path = root.join(name);
            let (length, time) = (there().unwrap().len(), there().unwrap().modified().unwrap());
            set_mode(&path, 0o644);
            fs::write(
                &path,
                vec![b'a' + u8::try_from(round % 26).unwrap(); usize::try_from(length).unwrap()],
            )
            .unwrap();
            fs::File::options().write(true).open(&path).unwrap().into_parts().0.set_modified(time).unwrap();
        }
        7 => fs::create_dir_all(clear(root, name).join("empty")).unwrap(),
        8 if is_file => {
            let other = clear(root, "hard");
            if root.join(name).exists() {
                fs::hard_link(root.join(name), other).unwrap();
            }
        }
        _ => {}
    }
    name.to_owned()
}

/// What jobs do to the copy's git folder.
fn vandalise_git(copy: &Path, numbers: &mut Numbers) {
    let git_dir = copy.join(".git");
    match numbers.below(8) {
        0 => loom_tree::remove(&git_dir).unwrap(),
        1 => {
            loom_tree::remove(&git_dir).unwrap();
            fs::write(&git_dir, "gitdir: /nowhere").unwrap();
        }
        2 => drop(git(copy, ["commit", "-q", "--allow-empty", "-am", "of a job"])),
        3 => drop(git(copy, ["config", "core.fsmonitor", "true"])),
        4 => write(&git_dir.join("hooks/post-checkout"), "#!/bin/sh\nfalse\n"),
        5 => write(&git_dir.join("index.lock"), ""),
        6 => write(&git_dir.join("HEAD"), "ref: refs/heads/nothing\n"),
        _ => {}
    }
}

fn history(seed: u64, has_git: bool) {
    let mut numbers = Numbers(seed | 1);
    let repo = if has_git { Fixture::with(["a", "b/c/d", "run.sh"]) } else { Fixture::plain() };
    repo.write(".gitignore", "*.log\n/target\n");
    let place = Place::beside(&repo, &[]);
    for round in 0..25 {
        let after = format!("after round {round} of seed {seed}");
        for _ in 0..numbers.below(4) {
            act(repo.root(), &mut numbers, round);
        }
        if has_git {
            match numbers.below(8) {
                0 => drop(git(repo.root(), ["add", "--all"])),
                1 => repo.commit_all("a round"),
                2 => drop(git(repo.root(), ["add", "--all", "--force"])),
                3 => drop(git(repo.root(), ["rm", "-q", "-r", "--cached", "--ignore-unmatch", "b", "x.log"])),
                4 => repo.write(".gitignore", numbers.one_of(&["*.log\n/target\n", "/b\n", "/a\n", ""])),
                _ => {}
            }
        }
        let snapshot = place.update(repo.root());
        assert_as_new(&place, repo.root(), &after);
        assert_eq!(place.update(repo.root()).copied, 0, "nothing changed {after}");
        assert!(snapshot.copied <= snapshot.files);
        for _ in 0..numbers.below(5) {
            act(&place.dir, &mut numbers, round);
        }
        if has_git {
            vandalise_git(&place.dir, &mut numbers);
        }
        if round % 2 == 0 {
            let before = as_new(&place, repo.root());
            for _ in 0..numbers.below(4) {
                act(repo.root(), &mut numbers, round);
            }
            let was = everything(&place.dir);
            place.resume(repo.root());
            assert_resumed(&place, repo.root(), &before, &was, &after);
            assert_eq!(place.resume(repo.root()).copied, 0, "nothing was edited {after}");
        }
    }
}

#[test]
fn whatever_happens_a_slot_is_what_a_new_copy_is() {
    std::thread::scope(|scope| {
        for seed in 1..=6_u64 {
            scope.spawn(move || history(seed * 0x9E37_79B9, seed % 3 != 0));
        }
    });
}

#[test]
fn only_what_changed_is_copied() {
    let repo = Fixture::with(["a", "b/c", "b/d"]);
    let place = Place::beside(&repo, &[]);
    assert_eq!(place.update(repo.root()).copied, 3);
    let inode = |name: &str| fs::metadata(place.dir.join(name)).unwrap().ino();
    let before = [inode("a"), inode("b/c"), inode("b/d")];
    repo.write("b/d", "changed");
    repo.write("new", "");
    let snapshot = place.update(repo.root());
    assert_eq!((snapshot.copied, snapshot.files), (2, 4));
    assert_eq!([inode("a"), inode("b/c")], before[..2]);
    assert_ne!(inode("b/d"), before[2]);
    assert_same_to_git(repo.root(), &place.dir);
}

/// What is done right after a copy was made, within one tick of the clock, is found too.
#[test]
fn a_change_in_the_same_instant_is_found() {
    let repo = Fixture::with(["a"]);
    let place = Place::beside(&repo, &[]);
    for round in 0..200_usize {
        let text = format!("{:03}", round);
        let there = repo.root().join("a");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        fs::write(&there, &text).unwrap();
        fs::File::options().write(true).open(&there).unwrap().into_parts().0.set_modified(time).unwrap();
        place.update(repo.root());
        assert_eq!(fs::read_to_string(place.dir.join("a")).unwrap(), text);
        let copy = place.dir.join("a");
        fs::write(&copy, "job").unwrap();
        fs::File::options().write(true).open(&copy).unwrap().into_parts().0.set_modified(time).unwrap();
        place.update(repo.root());
        assert_eq!(fs::read_to_string(place.dir.join("a")).unwrap(), text);
    }
}

#[test]
fn nothing_is_written_through_what_jobs_left() {
    let repo = Fixture::with(["a", "folder/b"]);
    let place = Place::beside(&repo, &[]);
    place.update(repo.root());
    let victim = repo.beside("victim");
    write(&victim.join("b"), "precious");
    fs::remove_file(place.dir.join("a")).unwrap();
    fs::hard_link(victim.join("b"), place.dir.join("a")).unwrap();
    loom_tree::remove(&place.dir.join("folder")).unwrap();
    symlink(&victim, place.dir.join("folder")).unwrap();
    symlink(&victim, place.dir.join("more")).unwrap();
    place.update(repo.root());
    assert_eq!(fs::read_to_string(victim.join("b")).unwrap(), "precious");
    assert_as_new(&place, repo.root(), "after links");
}

#[test]
fn folders_that_jobs_closed_are_opened() {
    let repo = Fixture::with(["a", "folder/b", "closed/c"]);
    set_mode(&repo.root().join("closed"), 0o555);
    let place = Place::beside(&repo, &[]);
    for _ in 0..2 {
        place.update(repo.root());
        assert_as_new(&place, repo.root(), "after closed folders");
        write(&place.dir.join("made/by/job"), "");
        for folder in ["made/by", "made", "folder", ".git/refs", ".git", ""] {
            set_mode(&place.dir.join(folder), 0o000);
        }
    }
    place.update(repo.root());
    assert_as_new(&place, repo.root(), "after closed folders");
    set_mode(&repo.root().join("closed"), 0o755);
    set_mode(&place.dir.join("closed"), 0o755);
}

#[test]
fn a_repository_below_the_top_of_a_work_tree_and_what_is_nested() {
    let inner = Fixture::with(["inner-file"]);
    let repo = Fixture::with(["top", "sub/a", "sub/b"]);
    repo.git(["submodule", "--quiet", "add", inner.root().to_str().unwrap(), "sub/lib"]);
    repo.commit_all("submodule");
    fs::create_dir_all(repo.root().join("sub/nested")).unwrap();
    git(&repo.root().join("sub/nested"), ["init", "-q"]);
    repo.write("sub/nested/n", "n");
    for root in [repo.root().to_owned(), repo.root().join("sub")] {
        let place = Place { ..Place::beside(&repo, &[]) };
        place.update(&root);
        for copy in [
            place.dir.clone(),
            place.dir.join("sub"),
            place.dir.join("sub/lib"),
            place.dir.join("sub/nested"),
        ] {
            write(&copy.join("of-a-job"), "x");
            write(&copy.join("of-a-job-too/x"), "x");
        }
        write(&place.dir.join("sub/lib/inner-file"), "x");
        loom_tree::remove(&place.dir.join("sub/nested/.git")).unwrap();
        place.update(&root);
        assert_as_new(&place, &root, "with nested repositories");
        assert_eq!(place.update(&root).copied, 0);
        // A submodule that is not there any more, with all that jobs made of it.
        fs::rename(repo.root().join("sub/lib"), repo.beside("lib")).unwrap();
        fs::create_dir(repo.root().join("sub/lib")).unwrap();
        place.update(&root);
        assert_as_new(&place, &root, "without the submodule");
        fs::remove_dir(repo.root().join("sub/lib")).unwrap();
        fs::rename(repo.beside("lib"), repo.root().join("sub/lib")).unwrap();
        place.update(&root);
        assert_as_new(&place, &root, "with the submodule again");
        loom_tree::remove(&repo.beside("slots")).unwrap();
    }
}

#[test]
fn a_record_that_is_damaged_is_as_good_as_none() {
    let repo = Fixture::with(["a", "b"]);
    let place = Place::beside(&repo, &[]);
    place.update(repo.root());
    let record = fs::read(&place.record).unwrap();
    for at in [0, 31, 32, record.len() / 2, record.len() - 1] {
        let mut damaged = record.clone();
        damaged[at] ^= 1;
        fs::write(&place.record, damaged).unwrap();
        assert_eq!(place.update(repo.root()).copied, 2, "byte {at}");
    }
    for length in [0, 10, record.len() - 1] {
        fs::write(&place.record, &record[..length]).unwrap();
        assert_eq!(place.update(repo.root()).copied, 2, "{length} bytes");
    }
    assert_eq!(place.update(repo.root()).copied, 0);
}

#[test]
fn an_update_that_is_cancelled_anywhere_is_mended_by_the_next() {
    let repo = Fixture::plain();
    for index in 0..2000 {
        repo.write(format!("{}/{index}", index % 40), "content");
    }
    let place = Place::beside(&repo, &[]);
    for round in 0..12_u64 {
        repo.write(format!("{round}/{round}"), format!("round {round}"));
        write(&place.dir.join(format!("{round}/of-a-job")), "x");
        let cancel = AtomicBool::new(false);
        let cancelled = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(round * 3));
                cancel.store(true, Ordering::Relaxed);
            });
            place.try_update(repo.root(), &cancel)
        });
        assert!(matches!(cancelled, Ok(_) | Err(Error::Cancelled)));
        if round % 3 == 0 {
            place.update(repo.root());
            assert_as_new(&place, repo.root(), "after an update that was cancelled");
        }
    }
}

#[test]
fn kept_folders_stay_and_nothing_else() {
    let repo = Fixture::with([".gitignore", "a", "packages/x/file"]);
    repo.write(".gitignore", "target\nnode_modules\n");
    let place = Place::beside(&repo, &["target", "packages/*/node_modules"]);
    place.update(repo.root());
    for path in ["target/out", "node_modules/x", "packages/x/node_modules/y", "packages/gone/node_modules/z"]
    {
        write(&place.dir.join(path), path);
    }
    for _ in 0..2 {
        place.update(repo.root());
        let is_there = |path: &str| place.dir.join(path).exists();
        assert!(is_there("target/out") && is_there("packages/x/node_modules/y"));
        assert!(!is_there("node_modules") && !is_there("packages/gone"));
        // Nor does a record that is lost take them away.
        fs::remove_file(&place.record).unwrap();
    }
}

//! Ledgers: what they prove, and what is none.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use loom_contract::id::RunId;
use loom_ownership::{Ledger, Object, ObjectKind, PrivateFolder, Runs};
use proptest::prelude::*;
use tempfile::TempDir;

struct Ground {
    root: TempDir,
    runs: Runs,
}

impl Ground {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let runs = Runs::open(&PrivateFolder::open_or_make(root.path()).unwrap()).unwrap();
        Self { root, runs }
    }

    fn register(&self, number: u32) -> Ledger {
        self.runs.register(&run_id(number), Path::new("/repo")).unwrap()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// As if the process had been killed.
    fn dies(&self, ledger: Ledger) {
        let path = ledger.path();
        let text = fs::read_to_string(&path).unwrap();
        // This process goes on, so that the ledger must be of another one.
        let own = format!("\"pid\":{}", std::process::id());
        assert!(text.contains(&own));
        drop(ledger);
        if path.exists() {
            // In place: it is still the same file.
            fs::write(&path, text.replace(&own, "\"pid\":4194304")).unwrap();
        }
    }

    fn ledgers(&self) -> usize {
        fs::read_dir(self.at("runs")).unwrap().count()
    }
}

fn run_id(number: u32) -> RunId {
    RunId::new(&format!("loom-run-local-{:019}", 1_700_000_000_000_000_000_u64 + u64::from(number))).unwrap()
}

fn object(name: &str, id: Option<&str>) -> Object {
    Object {
        daemon: "unix:///x".to_owned(),
        kind: ObjectKind::Volume,
        name: name.to_owned(),
        id: id.map(str::to_owned),
    }
}

#[test]
fn a_run_lives_as_long_as_its_ledger_and_what_it_left_is_known_afterwards() {
    let ground = Ground::new();
    let ledger = ground.register(1);
    ledger.make_folder(&ground.at("ws"), 0o755).unwrap();
    fs::write(ground.at("ws/file"), "x").unwrap();
    ledger.note(object("vol", None)).unwrap();
    ledger.note(object("vol", Some("id"))).unwrap();
    assert!(ground.runs.is_alive(run_id(1).as_str()));
    assert!(!ground.runs.is_alive(run_id(2).as_str()));
    assert!(ground.runs.not_alive().is_empty());
    let mark = ledger.mark().clone();
    ground.dies(ledger);
    assert!(!ground.runs.is_alive(run_id(1).as_str()));
    let mut found = ground.runs.not_alive();
    assert_eq!(found.len(), 1);
    let run = &mut found[0];
    assert_eq!((run.run_id(), run.repo_root(), run.ended()), (&run_id(1), Path::new("/repo"), false));
    assert_eq!(run.mark(), Some(&mark));
    assert_eq!(run.objects(), [object("vol", Some("id"))]);
    assert!(run.has_made(&ground.at("ws")));
    assert!(!run.has_made(ground.root.path()));
    run.remove_folder(&ground.at("ws")).unwrap();
    assert!(!ground.at("ws").exists());
    run.forget(ObjectKind::Volume, "vol");
    found.pop().unwrap().close().unwrap();
    assert_eq!(ground.ledgers(), 0);
}

#[test]
fn one_entry_at_a_time_and_none_where_nothing_was_made() {
    let ground = Ground::new();
    drop(ground.register(1));
    assert_eq!(ground.ledgers(), 0);
    let ledger = ground.register(2);
    ledger.make_folder(&ground.at("kept"), 0o700).unwrap();
    ledger.end().unwrap();
    // It does not count as alive any more, though its process does.
    let held = ground.runs.not_alive();
    assert_eq!((held.len(), held[0].ended(), held[0].mark()), (1, true, None));
    assert!(ground.runs.not_alive().is_empty(), "somebody else looks at it");
    drop(held);
    assert_eq!(ground.runs.not_alive().len(), 1);
}

/// Whatever stands where a folder was made, and is not that folder, stays.
#[test]
fn only_the_very_folder_is_removed() {
    type Plant = fn(&Path);
    let foreign: [(&str, Plant); 6] = [
        ("a folder of the same name", |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("precious"), "").unwrap();
        }),
        ("a link to a folder", |path| {
            let target = path.with_file_name("target");
            fs::create_dir_all(&target).unwrap();
            fs::write(target.join("precious"), "").unwrap();
            symlink(&target, path).unwrap();
        }),
        ("a copy", |path| {
            let made = path.with_file_name("moved");
            assert!(
                std::process::Command::new("cp").arg("-a").args([&made, path]).status().unwrap().success()
            );
        }),
        ("a file", |path| fs::write(path, "precious").unwrap()),
        ("a dangling link", |path| symlink("/nowhere", path).unwrap()),
        ("nothing", |_| {}),
    ];
    for (what, plant) in foreign {
        let ground = Ground::new();
        let ledger = ground.register(1);
        let path = ground.at("ws");
        ledger.make_folder(&path, 0o700).unwrap();
        fs::write(path.join("precious"), "").unwrap();
        ground.dies(ledger);
        fs::rename(&path, ground.at("moved")).unwrap();
        plant(&path);
        let before = listing(ground.root.path());
        let mut run = ground.runs.not_alive().pop().unwrap();
        assert!(!run.has_made(&path), "{what}");
        run.remove_folder(&path).unwrap();
        run.close().unwrap();
        assert_eq!(listing(ground.root.path()), before, "{what}");
        assert_eq!(ground.ledgers(), 0, "{what}");
    }
}

fn listing(root: &Path) -> Vec<String> {
    let output =
        std::process::Command::new("find").arg(root).args(["-not", "-path", "*/runs*"]).output().unwrap();
    let mut lines: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_folder_that_exists_is_not_made_and_never_becomes_the_runs() {
    let ground = Ground::new();
    let ledger = ground.register(1);
    fs::create_dir(ground.at("theirs")).unwrap();
    fs::write(ground.at("theirs/precious"), "").unwrap();
    assert!(ledger.make_folder(&ground.at("theirs"), 0o700).is_err());
    ledger.remove_folder(&ground.at("theirs")).unwrap();
    assert!(ground.at("theirs/precious").exists());
    ledger.ensure_folder(&ground.at("mine"), 0o700).unwrap();
    ledger.ensure_folder(&ground.at("mine"), 0o700).unwrap();
    ledger.remove_folder(&ground.at("mine")).unwrap();
    assert!(!ground.at("mine").exists());
}

/// Killed between the two words of a ledger: what may have been made is removed only while nothing is in it.
#[test]
fn an_intention_proves_nothing_but_an_empty_folder() {
    for (is_empty, stays) in [(true, false), (false, true)] {
        let ground = Ground::new();
        let ledger = ground.register(1);
        ledger.make_folder(&ground.at("ws"), 0o700).unwrap();
        let path = ledger.path();
        ground.dies(ledger);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("\"folder\"") && lines[2].contains("\"folder_made\""), "{text}");
        fs::write(&path, format!("{}\n{}\n{}", lines[0], lines[1], &lines[2][..9])).unwrap();
        if !is_empty {
            fs::write(ground.at("ws/precious"), "").unwrap();
        }
        ground.runs.not_alive().pop().unwrap().remove_folder(&ground.at("ws")).unwrap();
        assert_eq!(ground.at("ws").exists(), stays);
    }
}

/// What a folder of ledgers may hold that is none: it is neither believed nor touched, and nobody waits for it.
#[test]
fn what_only_looks_like_a_ledger_is_left_alone() {
    let ground = Ground::new();
    let ledger = ground.register(1);
    ledger.make_folder(&ground.at("ws"), 0o700).unwrap();
    let path = ledger.path();
    let text = fs::read_to_string(&path).unwrap();
    let runs = ground.at("runs");
    let named = |number: u32| runs.join(format!("{}.0123abcd", run_id(number)));
    // A copy by name, one with another run's name, torn, of another format, empty, no JSON, huge, no file at all.
    fs::copy(&path, named(1)).unwrap();
    fs::copy(&path, named(2)).unwrap();
    fs::write(named(3), &text[..text.len() / 3]).unwrap();
    fs::write(named(4), text.replace("\"format\":1", "\"format\":2")).unwrap();
    fs::write(named(5), "").unwrap();
    fs::write(named(6), "precious\n").unwrap();
    fs::File::create(named(7)).unwrap().set_len(1 << 40).unwrap();
    fs::create_dir(named(8)).unwrap();
    symlink(&path, named(9)).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, named(10), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    fs::write(runs.join("README"), "precious").unwrap();
    let before = listing(&runs);
    assert!(ground.runs.not_alive().is_empty());
    for number in 2..=10 {
        assert!(!ground.runs.is_alive(run_id(number).as_str()), "{number}");
    }
    ground.dies(ledger);
    assert_eq!(ground.runs.not_alive().len(), 1);
    assert_eq!(listing(&runs), before);
    // Nothing is unlocked or removed by a copy, also where its original is gone.
    fs::remove_file(&path).unwrap();
    assert!(ground.runs.not_alive().is_empty());
    assert!(ground.at("ws").exists());
}

#[test]
fn a_parent_where_others_may_write_is_no_place_for_a_folder() {
    let ground = Ground::new();
    let ledger = ground.register(1);
    let shared = ground.at("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(ledger.make_folder(&shared.join("x"), 0o700).is_err());
    assert!(!shared.join("x").exists());
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
    ledger.make_folder(&shared.join("x"), 0o700).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A ledger that was cut anywhere is read as far as it goes, or not at all; never more is believed than was written.
    #[test]
    fn a_ledger_cut_anywhere_proves_no_more_than_the_whole(cut in 0_usize..2000) {
        let ground = Ground::new();
        let ledger = ground.register(1);
        for name in ["a", "b", "c"] {
            ledger.make_folder(&ground.at(name), 0o700).unwrap();
            ledger.note(object(name, Some(name))).unwrap();
        }
        ledger.remove_folder(&ground.at("b")).unwrap();
        let path = ledger.path();
        ground.dies(ledger);
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..cut.min(text.len())]).unwrap();
        for run in ground.runs.not_alive() {
            for folder in run.folders() {
                prop_assert!(["a", "b", "c"].map(|name| ground.at(name)).contains(&folder));
            }
            prop_assert!(run.objects().len() <= 3);
        }
    }
}

//! Slots: one run's at a time, and no folder of others.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use fs_err as fs;
use loom_contract::id::RunId;
use loom_ownership::{PrivateFolder, SlotEnd, Slots};

fn slots(dir: &Path) -> Slots {
    fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    Slots::new(PrivateFolder::open_or_make(&dir.join("copies")).unwrap())
}

fn run(number: u32) -> RunId {
    RunId::new(&format!("loom-run-local-170000000000000000{number}")).unwrap()
}

#[test]
fn each_is_one_runs_at_a_time_and_the_lowest_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let slots = slots(dir.path());
    let mut first = slots.take().unwrap();
    let second = slots.take().unwrap();
    assert_eq!((first.number(), second.number()), (0, 1));
    assert!(slots.take_number(0).unwrap().is_none());
    assert_eq!(slots.numbers(), [0; 0], "nothing was made in them");
    first.begin(&run(1), None).unwrap();
    fs::write(first.path().join("file"), "").unwrap();
    drop(second);
    first.end(SlotEnd::Failed).unwrap();
    drop(first);
    let mut again = slots.take().unwrap();
    let last = again.last().unwrap();
    assert_eq!((again.number(), &last.run_id, last.ended), (0, &run(1), Some(SlotEnd::Failed)));
    assert!(again.has_copy() && again.path().join("file").exists());
    again.begin(&run(2), None).unwrap();
    assert_eq!(slots.last(0).unwrap().ended, None);
    again.remove().unwrap();
    assert_eq!(fs::read_dir(dir.path().join("copies")).unwrap().count(), 1, "the lock of the second");
}

#[test]
fn a_renewed_slot_is_empty_and_at_the_same_place() {
    let dir = tempfile::tempdir().unwrap();
    let slots = slots(dir.path());
    let mut slot = slots.take().unwrap();
    slot.begin(&run(1), Some("a")).unwrap();
    slot.keep("a").unwrap();
    for round in 0..3 {
        fs::write(slot.path().join("file"), "").unwrap();
        fs::write(slot.record(), "").unwrap();
        slot.renew().unwrap();
        assert_eq!(fs::read_dir(slot.path()).unwrap().count(), 0);
        assert!(!slot.record().exists() && slot.kept().is_none());
        assert_eq!(fs::read_dir(slot.aside()).unwrap().count(), round + 1);
    }
    drop(slot);
    assert!(slots.take().unwrap().has_copy());
}

#[test]
fn the_key_of_kept_folders_counts_only_when_what_another_filled_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let slots = slots(dir.path());
    let mut slot = slots.take().unwrap();
    slot.begin(&run(1), Some("a")).unwrap();
    assert_eq!(slot.kept(), None, "nothing is known of them yet");
    slot.keep("a").unwrap();
    drop(slot);
    let mut slot = slots.take().unwrap();
    slot.begin(&run(2), Some("a")).unwrap();
    assert_eq!(slot.kept(), Some("a"));
    slot.begin(&run(3), Some("b")).unwrap();
    drop(slot);
    // Killed here, whatever was filled under `a` may still be there.
    let mut slot = slots.take().unwrap();
    slot.begin(&run(4), Some("b")).unwrap();
    assert_eq!(slot.kept(), None);
}

#[test]
fn what_is_none_of_ours_is_passed_over_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let slots = slots(dir.path());
    let at = |name: &str| dir.path().join("copies").join(name);
    fs::create_dir(dir.path().join("victim")).unwrap();
    fs::create_dir(at("0")).unwrap();
    fs::write(at("1.lock"), "precious").unwrap();
    fs::write(at("2.json"), "precious").unwrap();
    symlink(dir.path().join("victim"), at("3")).unwrap();
    symlink(dir.path().join("victim"), at("4.aside")).unwrap();
    symlink("nowhere", at("5.lock")).unwrap();
    fs::write(at("6.record"), "precious").unwrap();
    let mut slot = slots.take().unwrap();
    assert_eq!(slot.number(), 7);
    slot.begin(&run(1), None).unwrap();
    slot.end(SlotEnd::Passed).unwrap();
    drop(slot);
    // Another folder in the place of a copy, and a copy of everything.
    fs::rename(at("7"), at("mine")).unwrap();
    fs::create_dir(at("7")).unwrap();
    fs::write(at("7/precious"), "").unwrap();
    assert_eq!(slots.take().unwrap().number(), 8);
    assert!(slots.take_number(7).unwrap().is_none());
    assert!(at("7/precious").exists());
    fs::remove_file(at("7/precious")).unwrap();
    fs::remove_dir(at("7")).unwrap();
    fs::rename(at("mine"), at("7")).unwrap();
    assert!(slots.take_number(7).unwrap().unwrap().has_copy(), "it is back");
}

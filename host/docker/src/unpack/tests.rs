use std::os::unix::fs::{MetadataExt as _, PermissionsExt};

use fs_err as fs;
use tar::Header;

use super::*;

enum What<'a> {
    File(&'a str),
    Folder(u32),
    Symlink(&'a str),
    Link(&'a str),
    Other(EntryType),
}

fn archive(entries: &[(&str, What<'_>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, what) in entries {
        let mut header = Header::new_gnu();
        let (kind, mode, target, content) = match what {
            What::File(text) => (EntryType::Regular, 0o4755, "", *text),
            What::Folder(mode) => (EntryType::Directory, *mode, "", ""),
            What::Symlink(target) => (EntryType::Symlink, 0o777, *target, ""),
            What::Link(target) => (EntryType::Link, 0o644, *target, ""),
            What::Other(kind) => (*kind, 0o666, "", ""),
        };
        // Names that the crate refuses to write.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// A folder in another one, of which everything but this folder must stay as it is.
fn ground() -> (tempfile::TempDir, PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let into = outer.path().join("into");
    fs::create_dir(&into).unwrap();
    fs::write(outer.path().join("precious"), "as it was").unwrap();
    (outer, into)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn nothing_is_written_outside() {
    use What::{File, Link, Symlink};
    let hostile: &[&[(&str, What<'_>)]] = &[
        &[("../precious", File("gone"))],
        &[("a/../../precious", File("gone"))],
        &[("/etc/loom-test", File("gone"))],
        &[("stolen", Link("../precious"))],
        &[("stolen", Link("/etc/passwd"))],
        &[("here", Symlink(".")), ("here/x", File("through a link"))],
        &[("a/up", Symlink("..")), ("a/up/x", File("through a link"))],
        &[("a/..", What::Folder(0o777))],
    ];
    for entries in hostile {
        let (outer, into) = ground();
        let unpacked = unpack(&mut &*archive(entries), &into);
        assert!(unpacked.is_err(), "{unpacked:?}");
        assert_eq!(names(outer.path()), ["into", "precious"]);
        assert_eq!(fs::read_to_string(outer.path().join("precious")).unwrap(), "as it was");
        assert!(!into.join("stolen").exists() && !into.join("x").exists());
    }
}

#[test]
fn what_is_not_wanted_is_left_out_and_named() {
    use What::{File, Link, Other, Symlink};
    let (_outer, into) = ground();
    let entries = [
        ("null", Other(EntryType::Char)),
        ("disk", Other(EntryType::Block)),
        ("fifo", Other(EntryType::Fifo)),
        ("again", Link("null")),
        ("nowhere", Symlink("")),
        ("fine", File("x")),
    ];
    let unpacked = unpack(&mut &*archive(&entries), &into).unwrap();
    assert_eq!((names(&into), unpacked.files), (vec!["fine".to_owned()], 1));
    let left: Vec<_> = unpacked.left_out.iter().map(|(path, _)| &**path).collect();
    assert_eq!(left, ["null", "disk", "fifo", "again", "nowhere"]);
}

#[test]
fn links_are_kept_as_their_text_and_nothing_goes_through_them() {
    use What::{File, Link, Symlink};
    let links = [
        ("passwd", "/etc/passwd"),
        ("up", "../precious"),
        ("out", ".."),
        ("gone", "/nowhere"),
        ("in", "fine"),
    ];
    for (name, target) in links {
        let (outer, into) = ground();
        let entries = [("fine", File("x")), (name, Symlink(target)), ("same", Link(name))];
        let unpacked = unpack(&mut &*archive(&entries), &into).unwrap();
        assert_eq!((unpacked.files, unpacked.left_out.len()), (3, 0));
        for link in [name, "same"] {
            assert_eq!(fs::read_link(into.join(link)).unwrap(), Path::new(target));
        }
        // What comes later does not follow it.
        let below = format!("{name}/precious");
        let later = [(&*below, File("gone"))];
        assert!(unpack(&mut &*archive(&later), &into).is_err(), "{name}");
        unpack(&mut &*archive(&[(name, File("gone"))]), &into).unwrap();
        assert_eq!(fs::read_to_string(into.join(name)).unwrap(), "gone");
        assert_eq!(names(outer.path()), ["into", "precious"]);
        assert_eq!(fs::read_to_string(outer.path().join("precious")).unwrap(), "as it was");
    }
}

#[test]
fn permissions_and_times_are_those_of_the_archive_and_folders_may_be_closed() {
    use What::{File, Folder, Link};
    let (_outer, into) = ground();
    let entries = [
        ("closed", Folder(0o555)),
        ("closed/file", File("one")),
        ("closed/same", Link("closed/file")),
        ("not/said/file", File("x")),
    ];
    for content in ["one", "one"] {
        unpack(&mut &*archive(&entries), &into).unwrap();
        assert_eq!(fs::read_to_string(into.join("closed/same")).unwrap(), content);
        let (folder, file) =
            (fs::metadata(into.join("closed")).unwrap(), fs::metadata(into.join("closed/file")).unwrap());
        assert_eq!((folder.mode() & 0o7777, folder.mtime()), (0o555, 1_700_000_000));
        assert_eq!((file.mode() & 0o7777, file.mtime(), file.nlink()), (0o755, 1_700_000_000, 2));
    }
    fs::set_permissions(into.join("closed"), PermissionsExt::from_mode(0o755)).unwrap();
}

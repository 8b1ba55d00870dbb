//! The copy's own `.git`: it borrows the original's objects and holds nothing that could unlock or start
//! anything.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use loom_tree::{Kept, Part, Replicator, dir};

use crate::fault::fault;
use crate::git::{self, Head, WorkTree};
use crate::{Error, listing};

/// A file longer than this, in bytes, is no `HEAD` of ours.
const LONGEST_HEAD: u64 = 4096;

/// Makes `top`, a folder without one, a repository that stands where `original` does. Returns the folder
/// whose objects it borrows.
pub(crate) fn create(
    top: &Path,
    original: &WorkTree,
    folder: &Path,
    replicator: &Replicator<'_>,
    cancel: &AtomicBool,
) -> Result<PathBuf, Error> {
    let git_dir = top.join(".git");
    for name in ["objects/info", "objects/pack", "refs", "info"] {
        let path = git_dir.join(name);
        let created = fault("create", &path).and_then(|()| DirBuilder::new().recursive(true).create(&path));
        created.map_err(|error| Error::write(path, error))?;
    }
    let objects = original.common_dir.join("objects");
    write(git_dir.join("objects/info/alternates"), &alternates_line(&objects))?;
    write(git_dir.join("config"), &config(&original.config))?;
    write(git_dir.join("HEAD"), &head(original))?;

    for name in ["shallow", "info/exclude", "info/attributes"] {
        copy_if_there(&original.common_dir.join(name), &git_dir.join(name))?;
    }
    if original.common_dir.join("reftable").is_dir() {
        write(git_dir.join("packed-refs"), &git::refs_as_packed(folder, cancel)?)?;
    } else {
        // Loose refs first: git packs a ref before it deletes the loose one.
        let refs = original.common_dir.join("refs");
        let listing = listing::walk(&refs, cancel)?;
        // Refs do not count as files of the repository.
        let aside = replicator.apart();
        aside.copy(&listing::outline(&listing, true), &refs, &git_dir.join("refs"), Part::WHOLE)?;
        aside.finish()?;
        copy_if_there(&original.common_dir.join("packed-refs"), &git_dir.join("packed-refs"))?;
    }
    copy_index(&original.git_dir, &git_dir)?;
    Ok(objects)
}

/// Whether `top` has a repository that [`create`] has made there, with the HEAD that it would make now.
pub(crate) fn stands(top: &Path, original: &WorkTree) -> bool {
    let git_dir = top.join(".git");
    let is_real = |path: &Path, is: fn(&std::fs::Metadata) -> bool| {
        std::fs::symlink_metadata(path).is_ok_and(|found| is(&found))
    };
    let is_small_file = |found: &std::fs::Metadata| found.is_file() && found.len() < LONGEST_HEAD;
    is_real(&git_dir, std::fs::Metadata::is_dir)
        && is_real(&git_dir.join("HEAD"), is_small_file)
        && fs_err::read(git_dir.join("HEAD")).is_ok_and(|found| found == head(original))
}

/// Gives the repository at `top`, which [`stands`], the index of the original. Returns the folder whose objects
/// it borrows.
pub(crate) fn renew_index(top: &Path, original: &WorkTree) -> Result<PathBuf, Error> {
    let git_dir = top.join(".git");
    let entries = std::fs::read_dir(&git_dir).map_err(|error| Error::read(&git_dir, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Error::read(&git_dir, error))?;
        let name = entry.file_name();
        if name == "index" || name == "index.lock" || name.as_bytes().starts_with(b"sharedindex.") {
            let removed = fault("remove", &entry.path()).and_then(|()| fs_err::remove_file(entry.path()));
            removed.map_err(|error| Error::write(entry.path(), error))?;
        }
    }
    copy_index(&original.git_dir, &git_dir)?;
    Ok(original.common_dir.join("objects"))
}

fn head(original: &WorkTree) -> Vec<u8> {
    match &original.head {
        Head::Commit { sha, .. } => format!("{sha}\n").into_bytes(),
        Head::Unborn { name } => format!("ref: {name}\n").into_bytes(),
    }
}

/// Keeps folders that are the copy's own out of git's sight, whatever the repository ignores.
pub(crate) fn exclude(top: &Path, kept: &Kept<'_>) -> Result<(), Error> {
    if kept.patterns.is_empty() {
        return Ok(());
    }
    let path = top.join(".git/info/exclude");
    let mut text = b"\n".to_vec();
    for pattern in kept.patterns.given() {
        let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
        let from_top =
            if kept.below.is_empty() { pattern.into() } else { dir::join(kept.below, pattern.as_bytes()) };
        text.extend_from_slice(&[b"/", &from_top[..], b"/\n"].concat());
    }
    fault("write", &path)
        .and_then(|()| OpenOptions::new().append(true).create(true).open(&path))
        .and_then(|mut file| file.write_all(&text))
        .map_err(|error| Error::write(path, error))
}

/// The index keeps the times of the files it was compared with, and so does the copy. But what has changed in
/// the very second in which the index was written must be looked at again; as the copy compares whole seconds
/// only, the index's own time is set back to the start of its second.
fn copy_index(from: &Path, to: &Path) -> Result<(), Error> {
    let index = from.join("index");
    if !copy_if_there(&index, &to.join("index"))? {
        return Ok(());
    }
    let written = std::fs::metadata(&index).and_then(|meta| meta.modified());
    let written = written.map_err(|error| Error::read(&index, error))?;
    let copied = to.join("index");
    fault("set the time of", &copied)
        .and_then(|()| OpenOptions::new().write(true).open(&copied))
        .and_then(|file| file.set_modified(start_of_second(written)))
        .map_err(|error| Error::write(&copied, error))?;

    // A split index is a small one on top of a big one.
    let entries = fault("list", from)
        .and_then(|()| std::fs::read_dir(from))
        .map_err(|error| Error::read(from, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Error::read(from, error))?;
        if entry.file_name().as_bytes().starts_with(b"sharedindex.") {
            copy_if_there(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn start_of_second(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// One line of `objects/info/alternates`, quoted as git reads it where it has to be.
fn alternates_line(objects: &Path) -> Vec<u8> {
    let path = objects.as_os_str().as_bytes();
    let mut line = Vec::with_capacity(path.len() + 3);
    if path.contains(&b'\n') {
        line.push(b'"');
        push_quoted(&mut line, path);
        line.push(b'"');
    } else {
        line.extend_from_slice(path);
    }
    line.push(b'\n');
    line
}

/// Adds `bytes` as they stand between quotes in git's own files.
fn push_quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            _ => out.push(byte),
        }
    }
}

fn config(kept: &[(String, Vec<u8>)]) -> Vec<u8> {
    let has_extension = kept.iter().any(|(key, _)| key.starts_with("extensions."));
    let mut text = format!("[core]\n\trepositoryformatversion = {}\n", u8::from(has_extension)).into_bytes();
    text.extend_from_slice(b"\tbare = false\n");
    // The files have the times of the originals, but not their inodes, which git would compare as well and
    // then read every file again. A daemon that watches files would outlive the run.
    text.extend_from_slice(b"\tcheckStat = minimal\n\ttrustctime = false\n\tfsmonitor =\n");
    for (key, value) in kept {
        let (Some((section, _)), Some((middle, name))) = (key.split_once('.'), key.rsplit_once('.')) else {
            continue;
        };
        let header = match middle.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')) {
            Some(quoted) => format!("{section} \"{}\"", quoted.replace('\\', "\\\\").replace('"', "\\\"")),
            None => section.to_owned(),
        };
        text.extend_from_slice(format!("[{header}]\n\t{name} = \"").as_bytes());
        push_quoted(&mut text, value);
        text.extend_from_slice(b"\"\n");
    }
    text
}

fn write(path: PathBuf, bytes: &[u8]) -> Result<(), Error> {
    create_file(&path).and_then(|mut file| file.write_all(bytes)).map_err(|error| Error::write(path, error))
}

/// Copies a file as it is now; false if there is none.
fn copy_if_there(from: &Path, to: &Path) -> Result<bool, Error> {
    let opened = fault("open", from).and_then(|()| OpenOptions::new().read(true).open(from));
    let mut source = match opened {
        Ok(source) => source,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::read(from, error)),
    };
    let copied = create_file(to).and_then(|mut target| {
        fault("write", to)?;
        io::copy(&mut source, &mut target)
    });
    copied.map_err(|error| Error::write(to, error))?;
    Ok(true)
}

fn create_file(path: &Path) -> io::Result<File> {
    fault("create", path)?;
    OpenOptions::new().write(true).create_new(true).open(path)
}

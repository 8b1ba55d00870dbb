//! The folders under `.loom/.runtime`, which a repository may have brought along: links that lead out of it
//! are refused.

use std::io::{Error, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use fs_err as fs;
use loom_contract::layout::{LOOM_DIR, RuntimeDir};
use rustix::fs::{AtFlags, CWD, Gid, Uid, chownat};

use crate::RecordError;
use crate::fault::fault;

/// Makes the runtime folder of the repository at `repo_root` with what every record needs: its folders, and
/// the `.gitignore` that keeps them out of the repository.
///
/// # Errors
/// One of them is a link that leads out of the repository, or cannot be made.
pub(crate) fn make(repo_root: &Path) -> Result<RuntimeDir, RecordError> {
    let runtime = RuntimeDir::of_repo(repo_root);
    let root = fs::canonicalize(repo_root).map_err(|e| RecordError::new("find", repo_root, e))?;
    let logs = runtime.logs_dir();
    let receipts = runtime.receipts_dir();
    for folder in [&repo_root.join(LOOM_DIR), runtime.path(), &receipts, &logs] {
        make_inside(&root, folder)?;
    }
    ignore_in_git(&root, &runtime)?;
    Ok(runtime)
}

fn make_inside(root: &Path, folder: &Path) -> Result<(), RecordError> {
    let failed = |e: Error| RecordError::new("make the folder", folder, e);
    match fault("make", folder).and_then(|()| fs::create_dir(folder)) {
        Ok(()) => return give_to_owner(root, folder).map_err(failed),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let real = fs::canonicalize(folder).map_err(|e| RecordError::new("find", folder, e))?;
    if !real.starts_with(root) {
        let why = Error::new(ErrorKind::PermissionDenied, "it is a link that leads out of the repository");
        return Err(RecordError::new("write to", folder, why));
    }
    if !real.is_dir() {
        return Err(failed(ErrorKind::NotADirectory.into()));
    }
    Ok(())
}

/// Never through a link: what is there already stays as it is.
fn ignore_in_git(root: &Path, runtime: &RuntimeDir) -> Result<(), RecordError> {
    use std::io::Write as _;
    let path = runtime.path().join(".gitignore");
    let make = || std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
    let written = fault("create", &path).and_then(|()| make()).and_then(|mut file| {
        fault("write", &path)?;
        file.write_all(b"*\n")?;
        give_to_owner(root, &path)
    });
    match written {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(RecordError::new("write", path, error)),
        _ => Ok(()),
    }
}

/// Gives `path`, which was just made, to whom the repository belongs: a run as root must not keep its owner
/// from the next.
pub(crate) fn give_to_owner(root: &Path, path: &Path) -> std::io::Result<()> {
    let Some((user, group)) = other_owner(root) else { return Ok(()) };
    Ok(chownat(CWD, path, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// To whom the repository belongs, where this is root and it belongs to somebody else.
pub(crate) fn other_owner(root: &Path) -> Option<(Uid, Gid)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let found = fs::metadata(root).ok()?;
    (found.uid() != 0).then(|| (Uid::from_raw(found.uid()), Gid::from_raw(found.gid())))
}

use std::collections::BTreeSet;
use std::os::unix::ffi::{OsStrExt, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use loom_contract::layout::LOOM_DIR;
use loom_tree::{MOST_PRINTS, Print, Prints, dir};

use crate::{Error, git, listing};

/// The root of the repository that `from` belongs to: the nearest folder at or above it that holds `.loom/`,
/// else the top level of its git work tree, else none.
pub fn find_repo_root(from: &Path) -> Option<PathBuf> {
    let from = fs_err::canonicalize(from).or_else(|_| std::path::absolute(from)).ok()?;
    from.ancestors()
        .find(|folder| folder.join(LOOM_DIR).is_dir())
        .map(Path::to_owned)
        .or_else(|| git::top_level(&from))
}

/// The folder for all copies of the repository at `repo_root`: `<base>/<name>-<8 hex digits>`, named so that
/// a person recognises it and two repositories of one name stay apart.
pub fn repo_workspaces_dir(base: &Path, repo_root: &Path) -> PathBuf {
    let root = std::path::absolute(repo_root).unwrap_or_else(|_| repo_root.to_owned());
    named_after(base, &root, &[])
}

/// The folder for the cache of the repository at `repo_root`, named in the same way. All work trees of one
/// git repository have the same, as far as the repository knows of them. Another repository at the same path
/// has another one.
pub fn repo_cache_dir(base: &Path, repo_root: &Path) -> PathBuf {
    let root = fs_err::canonicalize(repo_root).unwrap_or_else(|_| repo_root.to_owned());
    let shared = git::common_dir(&root).and_then(|(common_dir, prefix)| {
        let common_dir = fs_err::canonicalize(common_dir).ok()?;
        // `<repository>/.git`, but for a repository without a work tree.
        let repository = if common_dir.ends_with(".git") { common_dir.parent()? } else { &common_dir };
        let place = repository.join(prefix).components().collect::<PathBuf>();
        Some((place, identity(&common_dir)))
    });
    let (place, identity) = shared.unwrap_or_else(|| (root.clone(), identity(&root)));
    named_after(base, &place, &identity)
}

/// The identity of the folder at `path`, which another one that is made there later does not have: its inode
/// and the time of its birth.
fn identity(path: &Path) -> Vec<u8> {
    let Ok(metadata) = fs_err::metadata(path) else { return Vec::new() };
    let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born = born.map_or(0, |born| born.as_nanos());
    [&metadata.ino().to_le_bytes()[..], &born.to_le_bytes()].concat()
}

fn named_after(base: &Path, root: &Path, identity: &[u8]) -> PathBuf {
    let name: String = root
        .file_name()
        .map_or(&b"root"[..], OsStrExt::as_bytes)
        .iter()
        .take(64)
        .map(|&byte| if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) { byte as char } else { '-' })
        .collect();
    let mut hasher = blake3::Hasher::new();
    hasher.update(root.as_os_str().as_bytes());
    if !identity.is_empty() {
        // Behind a byte that no path has.
        hasher.update(&[0]).update(identity);
    }
    let hash = hasher.finalize().to_hex();
    base.join(format!("{name}-{}", &hash[..8]))
}

/// The branch that the repository at `repo_root` is on, as in `main` or `feature/x`; none where it is on no branch, or there
/// is no git.
pub fn branch(repo_root: &Path) -> Option<String> {
    git::branch(repo_root)
}

/// The URL of the git remote `origin` of the repository at `repo_root`, where it has one.
pub fn origin(repo_root: &Path) -> Option<String> {
    git::origin(repo_root)
}

/// The files below `workspace` as git sees them, tracked and untracked but not ignored; where it is in no git
/// repository, all of them. Relative paths, each once.
///
/// # Errors
/// Git fails, or a folder cannot be read.
pub fn list_files(workspace: &Path, cancel: &AtomicBool) -> Result<Vec<PathBuf>, Error> {
    let listing = match git::files(workspace, cancel)? {
        Some(listing) => listing,
        None => listing::walk(workspace, cancel)?,
    };
    let paths = listing.split(|&byte| byte == 0).filter(|path| !path.is_empty() && !path.ends_with(b"/"));
    let paths: BTreeSet<&[u8]> = paths.collect();
    Ok(paths.into_iter().map(dir::to_path).collect())
}

/// The files below `workspace` that git tracks; of `below` only, paths relative to it, where that is not
/// empty. Relative paths, also of files that are not there any more; none where it is in no git repository.
///
/// # Errors
/// Git fails.
pub fn list_tracked(workspace: &Path, below: &[PathBuf], cancel: &AtomicBool) -> Result<Vec<PathBuf>, Error> {
    let listing = git::tracked(workspace, below, cancel)?.unwrap_or_default();
    let paths = listing.split(|&byte| byte == 0).filter(|path| !path.is_empty());
    let paths = paths.map(dir::to_path);
    // A submodule that is not there stands as a file, and is a folder.
    Ok(paths.filter(|path| !workspace.join(path).is_dir() || workspace.join(path).is_symlink()).collect())
}

/// Everything below `workspace` but what is git's own and Loom's runtime folder: files, symbolic links and
/// whatever else, folders left out. Relative paths.
///
/// # Errors
/// A folder cannot be read.
pub fn list_everything(workspace: &Path, cancel: &AtomicBool) -> Result<Vec<PathBuf>, Error> {
    let listing = listing::walk(workspace, cancel)?;
    let kept = |path: &&[u8]| !path.is_empty() && !path.ends_with(b"/") && !is_own(path);
    let paths = listing.split(|&byte| byte == 0).filter(kept);
    Ok(paths.map(dir::to_path).collect())
}

/// Whether the file at the relative `path` is git's own, or of Loom's runtime folder.
pub fn is_own(path: &[u8]) -> bool {
    path.starts_with(b".git/") || listing::is_runtime(path)
}

/// The prints of the files that [`list_everything`] lists.
///
/// # Errors
/// As there; a file cannot be read; there are more than [`MOST_PRINTS`].
pub fn prints(workspace: &Path, cancel: &AtomicBool) -> Result<Prints, Error> {
    let listed = list_everything(workspace, cancel)?;
    if listed.len() > MOST_PRINTS {
        let many = std::io::Error::other(format!("there are more than {MOST_PRINTS} files"));
        return Err(Error::read(workspace, many));
    }
    let mut prints = Prints::new();
    for path in listed {
        let file = workspace.join(&path);
        let print = Print::of(&file, cancel);
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if let Some(print) = print.map_err(|error| Error::read(&file, error))? {
            prints.insert(path.into_os_string().into_vec(), print);
        }
    }
    Ok(prints)
}

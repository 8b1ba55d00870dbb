use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use loom_contract::layout::LOOM_DIR;

use crate::git;

/// The root of the repository that `from` belongs to: the nearest folder at or above it that holds `.loom/`, else the
/// top level of its git work tree, else none.
pub fn find_repo_root(from: &Path) -> Option<PathBuf> {
    let from = fs_err::canonicalize(from).or_else(|_| std::path::absolute(from)).ok()?;
    from.ancestors()
        .find(|folder| folder.join(LOOM_DIR).is_dir())
        .map(Path::to_owned)
        .or_else(|| git::top_level(&from))
}

/// The folder for all copies of the repository at `repo_root`: `<base>/<name>-<8 hex digits>`, named so that a person
/// recognises it and two repositories of one name stay apart.
pub fn repo_workspaces_dir(base: &Path, repo_root: &Path) -> PathBuf {
    let root = std::path::absolute(repo_root).unwrap_or_else(|_| repo_root.to_owned());
    let name: String = root
        .file_name()
        .map_or(&b"root"[..], OsStrExt::as_bytes)
        .iter()
        .take(64)
        .map(|&byte| if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) { byte as char } else { '-' })
        .collect();
    let hash = blake3::hash(root.as_os_str().as_bytes()).to_hex();
    base.join(format!("{name}-{}", &hash[..8]))
}

/// The URL of the git remote `origin` of the repository at `repo_root`, where it has one.
pub fn origin(repo_root: &Path) -> Option<String> {
    git::origin(repo_root)
}

//! The folders that a workflow keeps from run to run: whether they can be, and what they depend on.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use loom_contract::error::{ErrorInfo, code};
use loom_contract::graph_ir::KeptFolders;
use loom_workflow::{Diagnostics, Plan};
use loom_workspace::Patterns;

/// Errors for what of `plan` cannot be kept of the repository at `repo_root`.
pub(super) fn refused(plan: &Plan, repo_root: &Path) -> Diagnostics {
    plan.not_to_be_kept(|pattern| {
        if let Err(bad) = Patterns::new(&[pattern]) {
            return Some(format!("correct the pattern: {bad}"));
        }
        // Where git fails, a run says so.
        let base = Some(loom_tree::glob_base(pattern)).filter(|base| !base.as_os_str().is_empty());
        let below: Vec<PathBuf> = base.into_iter().collect();
        let tracked = loom_workspace::list_tracked(repo_root, &below, &AtomicBool::new(false));
        let tracked = tracked.unwrap_or_default();
        let covered = loom_cache::key::select(&tracked, &[pattern]).unwrap_or_default();
        let first = covered.first()?;
        Some(format!("name only folders that git ignores: git tracks `{}`", first.display()))
    })
}

/// What the content of `kept` depends on, as a text: that of the key files of the repository at `repo_root`.
///
/// # Errors
/// A file cannot be read, or git fails.
pub(super) fn key(kept: &KeptFolders, repo_root: &Path, cancel: &AtomicBool) -> Result<String, ErrorInfo> {
    let failed =
        |text: String| ErrorInfo::new(code::WORKSPACE_FAILED, format!("the key of workspace.keep: {text}"));
    let Some(key) = &kept.key else { return Ok(String::new()) };
    let is_plain = |file: &String| !file.contains(['*', '?', '[', '{', '\\']);
    let files: Vec<PathBuf> = if key.files.iter().all(is_plain) {
        // Git need not be asked for them.
        let files = key.files.iter().map(|file| PathBuf::from(file.trim_start_matches("./")));
        files.filter(|file| repo_root.join(file).is_file()).collect()
    } else {
        let listing =
            loom_workspace::list_files(repo_root, cancel).map_err(|error| failed(error.to_string()))?;
        let files =
            loom_cache::key::select(&listing, &key.files).map_err(|error| failed(error.to_string()))?;
        files.into_iter().map(Path::to_owned).collect()
    };
    let hash = loom_cache::key::hash_files(repo_root, &files).map_err(|error| failed(error.to_string()))?;
    Ok(hash.hex)
}

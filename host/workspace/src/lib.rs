//! The run's own copy of the repository: where the repository is, what belongs to it, how the copy is made.
//!
//! ```text
//! <base>/<repo>/<slot>/      a copy, brought up to date by `update`
//!   .git/                    its own, made anew: detached HEAD, objects borrowed from the original
//!   <the work tree as git sees it: tracked and untracked files, not the ignored ones>
//! <base>/<repo>/<slot>.*     what is known of it, and what is on its way out (`Slot`)
//! ```
//!
//! Reading order: `locate` (the root), `snapshot` (the whole act), `git` (what git is asked), `listing` (what
//! is to be copied), `git_dir` (the copy's own `.git`). How files are copied is in `loom-tree`: `Replicator`.

mod error;
mod fault;
mod git;
mod git_dir;
mod listing;
mod locate;
mod snapshot;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use git::is_git_repository_variable;
pub use locate::{
    branch, find_repo_root, is_own, list_everything, list_files, list_tracked, origin, prints,
    repo_cache_dir, repo_workspaces_dir,
};
pub use loom_tree::{Aside, Patterns, Print, Prints};
pub use snapshot::{Method, Slot, Snapshot, check_outside, create, is_known, update};

//! Files of a tree: found by patterns, copied out, packed, put in; and whole trees, replicated and removed.
//!
//! ```text
//!  collect:    patterns ──> walk ──> names ──> copy ──> the folder ──> archive (tar, gzip)
//!  place:                            names ──> copy ──> the tree
//!  replicate:  an outline: folders and names ──> copy ──> a folder: new, or an older copy (copied, aside)
//! ```
//!
//! A tree is what a job has worked in, so anything may be there, and be changed by somebody meanwhile: names
//! of any bytes, paths longer than the system takes, symlinks to anywhere, fifos that never answer. All is
//! reached from one open folder to the next and never through a symlink; nothing is opened that could wait.
//!
//! The crate knows paths and patterns; it knows no jobs and no runs, and prints nothing.
//!
//! Reading order: `collect`, `place`, `replicate`; then what they are made of: `pattern`, `walk`, `copy`,
//! `outline`, `file`, `archive`, `gzip`, `print`; at the bottom `descent`, `dir`, `link` and `error`, on
//! which the workspace and the cache stand too.

mod archive;
mod aside;
mod collect;
mod copied;
mod copy;
mod descent;
pub mod dir;
mod error;
mod fault;
mod file;
mod gzip;
pub mod link;
mod outline;
mod pattern;
mod place;
mod print;
mod remove;
mod replicate;
mod resume;
mod size;
#[cfg(test)]
mod tests;
mod walk;

pub use aside::Aside;
pub use collect::{Collect, Collected, collect};
pub use copied::{Copied, Recording};
pub use descent::{Child, Descent, Open};
pub use error::{Error, FileError, FirstError, LeftOut, ReplicateError, Warning, WarningList};
pub use outline::{Outline, OutlineFolder};
pub use pattern::{BadPattern, Patterns, glob_base};
pub use place::{Placed, place};
pub use print::{MOST_PRINTS, Print, Prints};
pub use remove::{remove, remove_in};
pub use replicate::{Kept, Over, Part, Replicator, Totals};
pub use resume::remove_gone;
pub use size::{disk_size, size};
pub use walk::{Closed, Visit, WalkEntry, WalkFolder, Wanted, walk};

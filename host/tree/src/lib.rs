//! Files of a tree: found by patterns, copied out, packed, put in; and whole trees, removed.
//!
//! ```text
//!  collect:  patterns ──> walk ──> names ──> copy ──> the folder ──> archive (tar, gzip)
//!  place:                          names ──> copy ──> the tree
//! ```
//!
//! A tree is what a job has worked in, so anything may be there, and be changed by somebody meanwhile: names of any bytes,
//! paths longer than the system takes, symlinks to anywhere, fifos that never answer. All is reached from one open folder
//! to the next and never through a symlink; nothing is opened that could wait.
//!
//! The crate knows paths and patterns; it knows no jobs and no runs, and prints nothing.
//!
//! Reading order: `collect`, `place`; then what they are made of: `pattern`, `walk`, `copy`, `data`, `archive`, `gzip`, `print`;
//! at the bottom `descent`, `dir` and `link`.

mod archive;
mod collect;
mod copy;
mod data;
mod descent;
pub mod dir;
mod error;
mod gzip;
pub mod link;
mod pattern;
mod place;
mod print;
mod remove;
mod size;
mod walk;

pub use collect::{Collect, Collected, collect};
pub use descent::{Child, Descent, Open};
pub use error::{Error, LeftOut, Warning};
pub use pattern::{BadPattern, Patterns};
pub use place::{Placed, place};
pub use print::{MOST_PRINTS, Print, Prints};
pub use remove::{remove, remove_in};
pub use size::{size, taken};
pub use walk::{Closed, Entry, Folder, Visit, Wanted, walk};

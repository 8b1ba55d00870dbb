//! What may be deleted or killed: proofs that it was made by this program, and that its run has ended.
//!
//! No name, label, path or mark says that something is Loom's: anybody can make those, and copies have them too. Two things
//! do:
//!
//! - **A ledger** per run, in a folder that is the user's alone. What is to be made is written there first, under a name with
//!   a random part; when it was made, what the kernel or the daemon knows it by is added: inode and time of birth of a folder,
//!   the id of a container. What differs from that is not what was made, whatever it is called.
//! - **A lock** on that ledger, which the kernel frees when the process that made it ends. A ledger says in its first line
//!   which file it is, so that a copy of it proves nothing.
//!
//! ```text
//!  <cacheDir>/                 PrivateFolder: the user's alone, as is everything above it, or sticky
//!    runs/<run>.<random>       Ledger of a run that lives (locked), Entry of one that does not
//!    repositories/…            Notes: whose repository a folder is for that is named after one
//!    workspaces/<repo>/<n>      Slot: a copy that stays, with its Stamp in a file beside it
//!    staging/…                 OwnedFolder: listed in a ledger, with its Stamp
//! ```

mod entry;
mod error;
mod folder;
mod json_file;
mod ledger;
mod line;
mod notes;
mod remove;
mod runs;
mod slot;
mod stamp;
mod system;

pub use entry::Entry;
pub use error::Error;
pub use folder::PrivateFolder;
pub use ledger::Ledger;
pub use line::{Mark, Object, ObjectKind};
pub use notes::{HeldFor, Note, Notes};
pub use runs::Runs;
pub use slot::{LastRun, Slot, SlotEnd, Slots};
pub use stamp::Stamp;
pub use system::boot_id;

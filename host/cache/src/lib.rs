//! A content-addressed store: what jobs save, restored as it was.
//!
//! ```text
//!  save:     walk ──> stat index vouches? ──yes──> what the earlier entry says
//!              │               └─no─> read, hash ──known──> where it is
//!              │                          └─new─> block of a pack, or an object of its own
//!              └──> manifest ──> publish (under the lock: packs, objects, manifest, pointer last)
//!
//!  restore:  pointer ──> manifest ──> compare with the tree ──> remove, write, set times ──> stat index
//! ```
//!
//! An entry is found by its cache's name and its key, and is replaced where the tree that is saved is another
//! one. Small files lie together in packs, in blocks that are compressed where it pays; files of a mebibyte
//! and more lie by themselves as they are, and share their data with the tree where the file system can.
//! Content is stored once, whichever entry, key or cache it belongs to, and is checked by its blake3 hash
//! whenever it is read.
//!
//! The crate knows paths, patterns and keys; it knows no jobs, providers or runs, prints nothing, and never
//! writes outside the patterns that it is given, whatever an entry says.
//!
//! Reading order: `store` (what a store is), `layout` (its files), `save`, `restore`, `collect`; then what
//! these are made of: `entry`, `pointer`, `manifest`, `pack`, `object`, `index`; at the bottom `io` (how
//! files of the store are read and written), `lock` and `lease`. How files of a tree are found and reached is
//! in `loom-tree`.

/// The folder of git's, at the root of a tree. Whatever the patterns, it is not saved, and a restore leaves
/// it alone: `**/target` names a branch of that name too.
const GIT: &str = ".git";

mod clock;
mod collect;
mod damage;
mod digest;
mod entry;
mod error;
mod evictions;
mod index;
mod io;
pub mod key;
mod layout;
mod lease;
mod linked;
mod lock;
mod manifest;
mod manifest_file;
mod object;
mod pack;
mod pointer;
mod publish;
mod quarantine;
mod read;
mod remove;
mod restore;
mod save;
mod sealed;
mod staging;
mod store;
#[cfg(test)]
mod tests;
mod tracked;
mod verify;

pub use collect::GcReport;
pub use entry::{Entry, FileInfo, Kind};
pub use error::{Error, Warning};
pub use evictions::{Cause, Eviction};
pub use loom_tree::{FileError, LeftOut};
pub use pointer::{Info, Origin};
pub use quarantine::{Quarantined, Reason};
pub use restore::Restored;
pub use save::{Save, Saved};
pub use store::{Found, Listed, Opened, Store};
pub use tracked::Tracked;
pub use verify::Verified;

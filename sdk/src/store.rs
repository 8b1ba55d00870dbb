//! What jobs keep for later runs. The host moves the bytes.

use std::fmt;

use crate::bindings::loom::workspace::store;
use crate::error::{Error, Result};

/// A hash over the content of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesHash {
    /// sha256, in hex.
    pub digest: String,
    /// How many files.
    pub files: u32,
}

/// The hash of all files of the job's workspace, as git sees it, that `globs` match. No file at all has a hash too.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for what is no glob or leads out of the workspace.
pub fn hash_files(globs: &[String]) -> Result<FilesHash> {
    let hash = store::hash_files(globs).map_err(Error::from_host)?;
    Ok(FilesHash { digest: hash.digest, files: hash.files })
}

/// How an entry is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// Under exactly this key.
    Exact,
    /// Under any key that begins so; of several, the one that was saved last.
    Prefix,
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The key that it was saved under.
    pub key: String,
    /// Files and symbolic links.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Bytes that the store grew by, for a save; those that had to be written into the workspace, for a restore.
    pub stored_bytes: u64,
}

/// How a restore ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// The workspace holds the entry now, and under the cache's paths nothing else.
    Hit(Content),
    /// There is no such entry.
    Miss,
    /// An earlier job of the run has restored this entry into the same workspace, and may have changed it since.
    Already(Content),
    /// A job that runs uses the same paths of the workspace for another key.
    Busy,
}

/// How a save ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// It is a new entry, or takes the place of another one.
    Stored(Content),
    /// The key's entry holds the same already.
    Unchanged,
    /// The paths name nothing that is there.
    Nothing,
}

/// A cache of the job. As long as the job runs, no other job restores anything else into its paths of a workspace that they
/// share.
pub struct Cache(store::Cache);

impl Cache {
    /// A cache whose entries `name` keeps apart from those of others. `paths` are globs, relative to the workspace.
    pub fn new(name: &str, key: &str, paths: &[String]) -> Self {
        Self(store::Cache::new(name, key, paths))
    }

    /// Why its key is in quarantine; none where it is not.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn quarantined(&self) -> Result<Option<String>> {
        self.0.quarantined().map_err(Error::from_host)
    }

    /// Restores an entry. A damaged one is a miss.
    ///
    /// # Errors
    /// The store cannot be read, or the workspace cannot be written.
    pub fn restore(&self, key: &str, by: Lookup) -> Result<Restored> {
        let by = match by {
            Lookup::Exact => store::Lookup::Exact,
            Lookup::Prefix => store::Lookup::Prefix,
        };
        Ok(match self.0.restore(key, by).map_err(Error::from_host)? {
            store::Restored::Hit(entry) => Restored::Hit(content(entry)),
            store::Restored::Miss => Restored::Miss,
            store::Restored::Already(entry) => Restored::Already(content(entry)),
            store::Restored::Busy => Restored::Busy,
        })
    }

    /// Saves what stands under the cache's paths as the entry of its key, all at once. An entry that holds something else is
    /// replaced.
    ///
    /// # Errors
    /// The workspace cannot be read, or the store cannot be written.
    pub fn save(&self) -> Result<Saved> {
        Ok(match self.0.save().map_err(Error::from_host)? {
            store::Saved::Stored(entry) => Saved::Stored(content(entry)),
            store::Saved::Unchanged => Saved::Unchanged,
            store::Saved::Nothing => Saved::Nothing,
        })
    }
}

fn content(content: store::Content) -> Content {
    let store::Content { key, files, bytes, stored_bytes } = content;
    Content { key, files, bytes, stored_bytes }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

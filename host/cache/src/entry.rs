//! An entry: what was saved under a key, by whom and when.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use loom_tree::dir;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::layout::{from_millis, millis};
use crate::manifest::{Content, Manifest};
use crate::store::Store;

/// Who saved an entry, and what its key was made of. The store keeps it and does not look at it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The run.
    pub run: String,
    /// The job.
    pub job: String,
    /// The files that the key was computed from: path and hash.
    pub inputs: Vec<(String, String)>,
    /// How the key was written down before it was filled in.
    pub recipe: String,
}

/// What is known of an entry without looking at its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The cache's name.
    pub name: String,
    /// The entry's key.
    pub key: String,
    /// How many files and symlinks it holds.
    pub files: u64,
    /// Their size in bytes, as they were in the tree.
    pub bytes: u64,
    /// When it was saved.
    pub saved: SystemTime,
    /// When it was last restored, or saved if it never was.
    pub used: SystemTime,
    /// The hash of its tree: equal in entries whose trees are equal and share their content in the store.
    pub tree: String,
    /// Who saved it.
    pub origin: Origin,
}

/// One file of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Below the workspace.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Its permissions.
    pub mode: u32,
}

/// What a file of an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file.
    File {
        /// In bytes.
        size: u64,
        /// The blake3 hash of its content, in hex.
        hash: String,
    },
    /// A symlink.
    Symlink {
        /// Where it points to, from its own folder.
        target: PathBuf,
    },
}

/// An entry of the store, found and whole: everything that it needs was there.
#[derive(Debug)]
pub struct Entry {
    pub(crate) store: Store,
    pub(crate) info: Info,
    pub(crate) digest: Digest,
    pub(crate) manifest: Arc<Manifest>,
}

impl Entry {
    /// What is known of it.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Everything that it holds: the folders that declared paths name, the files and the symlinks.
    pub fn files(&self) -> impl Iterator<Item = FileInfo> + '_ {
        let manifest = &self.manifest;
        (0..manifest.folders.len()).flat_map(move |folder| {
            let path = manifest.path(folder);
            let itself = manifest.folders[folder].meta.map(|meta| FileInfo {
                path: to_path(&path),
                kind: Kind::Folder,
                mode: meta.mode.into(),
            });
            itself.into_iter().chain(manifest.items_of(folder).map(move |item| FileInfo {
                path: to_path(&dir::join(&path, manifest.name(item))),
                kind: match (manifest.items[item].content, manifest.data(item)) {
                    (Content::Link { .. }, _) | (_, None) => {
                        Kind::Symlink { target: to_path(manifest.target(item)) }
                    }
                    (_, Some((size, digest))) => Kind::File { size, hash: digest.to_string() },
                },
                mode: manifest.items[item].meta.mode.into(),
            }))
        })
    }
}

pub(crate) fn to_path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes)).to_owned()
}

/// The file that makes an entry exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pointer {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) manifest: Digest,
    /// In milliseconds since 1970.
    saved: u64,
    files: u64,
    bytes: u64,
    origin: Origin,
}

impl Pointer {
    pub(crate) fn new(
        name: &str,
        key: &str,
        manifest: Digest,
        (files, bytes): (u64, u64),
        origin: &Origin,
    ) -> Self {
        Self {
            name: name.to_owned(),
            key: key.to_owned(),
            manifest,
            saved: millis(SystemTime::now()),
            files,
            bytes,
            origin: origin.clone(),
        }
    }

    pub(crate) fn saved(&self) -> SystemTime {
        from_millis(self.saved)
    }

    pub(crate) fn into_info(self, used: SystemTime) -> Info {
        Info {
            saved: self.saved(),
            name: self.name,
            key: self.key,
            files: self.files,
            bytes: self.bytes,
            used,
            tree: self.manifest.to_string(),
            origin: self.origin,
        }
    }
}

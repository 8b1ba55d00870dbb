//! An entry of the store, opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use loom_tree::dir::{self, to_path};

use crate::damage::{Damage, set_aside};
use crate::digest::Digest;
use crate::layout::Layout;
use crate::manifest::{Content, Manifest};
use crate::manifest_file::{ManifestFile, read_manifest};
use crate::pointer::{self, Info};
use crate::{Error, Warning};

/// One file of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Below the workspace.
    pub path: PathBuf,
    /// The kind of file.
    pub kind: Kind,
    /// The permissions.
    pub mode: u32,
}

/// The kind of a file of an entry.
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
        /// The target, from the link's own folder.
        target: PathBuf,
    },
}

/// An entry of the store, found and whole: everything that it needs was there.
#[derive(Debug)]
pub struct Entry {
    pub(crate) layout: Layout,
    pub(crate) info: Info,
    pub(crate) digest: Digest,
    pub(crate) manifest: Arc<Manifest>,
}

impl Entry {
    /// Opens the entry whose pointer is at `path`, if there is one. A damaged one is set aside.
    ///
    /// # Errors
    /// The system does not let it be read.
    pub(crate) fn open(
        layout: &Layout,
        path: &Path,
        warnings: &mut Vec<Warning>,
    ) -> Result<Option<Self>, Error> {
        let Some((pointer, bytes)) = pointer::read(layout, path, warnings)? else { return Ok(None) };
        match read_manifest(layout, pointer.manifest)? {
            ManifestFile::Whole(manifest) => {
                let used = pointer::used(path).unwrap_or_else(|_| pointer.saved());
                Ok(Some(Self {
                    layout: layout.clone(),
                    digest: pointer.manifest,
                    info: pointer.into_info(used),
                    manifest: Arc::new(manifest),
                }))
            }
            ManifestFile::Damaged(damage) => {
                let whose = (&*pointer.name, &*pointer.key);
                warnings.extend(set_aside(layout, path, |now| now == bytes, Some(whose), damage));
                Ok(None)
            }
        }
    }

    /// The error that content of the entry is damaged: the file of the store, and the end of a sentence about
    /// it.
    pub(crate) fn damaged(&self, what: PathBuf, why: impl Into<String>) -> Error {
        Error::Damaged { name: self.info.name.clone(), key: self.info.key.clone(), what, why: why.into() }
    }

    /// Sets the entry aside if that is what the error means.
    pub(crate) fn set_aside_if_damaged(&self, error: Error) -> Error {
        if let Error::Damaged { what, why, .. } = &error {
            let Self { layout, info, .. } = self;
            let damage = Damage { what: what.clone(), why: why.clone() };
            let place = layout.entry(&info.name, &info.key);
            let still = |bytes: &[u8]| pointer::points_to(bytes, self.digest);
            set_aside(layout, &place, still, Some((&info.name, &info.key)), damage);
        }
        error
    }

    /// The facts about the entry.
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

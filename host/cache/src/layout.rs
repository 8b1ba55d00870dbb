//! The files of a store, and the only place that spells their paths.
//!
//! ```text
//! <root>/
//!   format                          the number of this layout
//!   lock                            held to publish an entry, to begin a restore and to collect; never while bytes move
//!   entries/<name>/<key>            the pointer: who saved what and when; an entry exists when its pointer does
//!   entries/<name>/<key>.quarantine why the entry is not to be used
//!   manifests/<hash>                the tree of an entry, or of several
//!   packs/<hash>                    blocks of small files
//!   objects/<hash>                  a file of a mebibyte or more, as it is
//!   index/<tree and name>           what was last seen of a tree
//!   leases/<random>                 a restore under way, locked while it is, holding the manifest's hash
//!   tmp/<random>/                   a save under way, locked while it is
//!   damaged/<time>-<file>           what was set aside
//!   evictions                       which entries were removed, when and why
//! ```
//!
//! A name or key becomes a file name by its hash; its text is in the pointer.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use loom_tree::Patterns;

use crate::Error;
use crate::digest::Digest;

/// The number of this layout. A change that an older Loom would misread raises it.
pub(crate) const FORMAT: u32 = 2;

pub(crate) const QUARANTINE: &str = "quarantine";

/// The size in bytes from which on a file lies by itself; smaller ones are packed.
pub(crate) const BIG: u64 = 1 << 20;

/// The paths of a store.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
    real: Arc<OnceLock<PathBuf>>,
}

impl Layout {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, real: Arc::default() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The root without symlinks, asked for once the store is there.
    pub(crate) fn real_root(&self) -> &Path {
        self.real.get_or_init(|| real(&self.root))
    }

    pub(crate) fn format(&self) -> PathBuf {
        self.root.join("format")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn entries(&self) -> PathBuf {
        self.root.join("entries")
    }

    /// The pointers of one cache.
    pub(crate) fn entries_of(&self, name: &str) -> PathBuf {
        self.entries().join(Digest::of(name.as_bytes()).to_string())
    }

    pub(crate) fn entry(&self, name: &str, key: &str) -> PathBuf {
        self.entries_of(name).join(Digest::of(key.as_bytes()).to_string())
    }

    pub(crate) fn quarantine(&self, name: &str, key: &str) -> PathBuf {
        self.entry(name, key).with_extension(QUARANTINE)
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    pub(crate) fn manifest(&self, digest: Digest) -> PathBuf {
        self.manifests().join(digest.to_string())
    }

    pub(crate) fn packs(&self) -> PathBuf {
        self.root.join("packs")
    }

    pub(crate) fn pack(&self, id: Digest) -> PathBuf {
        self.packs().join(id.to_string())
    }

    pub(crate) fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    pub(crate) fn object(&self, digest: Digest) -> PathBuf {
        self.objects().join(digest.to_string())
    }

    pub(crate) fn indexes(&self) -> PathBuf {
        self.root.join("index")
    }

    pub(crate) fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn damaged(&self) -> PathBuf {
        self.root.join("damaged")
    }

    pub(crate) fn evictions(&self) -> PathBuf {
        self.root.join("evictions")
    }

    /// Makes sure that what the patterns name below `tree`, a path without symlinks, is not the store, or a
    /// part of it.
    pub(crate) fn check_outside(&self, tree: &Path, patterns: &Patterns) -> Result<(), Error> {
        let Ok(below) = self.real_root().strip_prefix(tree) else { return Ok(()) };
        // Any file of each folder, as `packs/**` names them and not the folder.
        let files = self.folders().map(|folder| below.join(folder.file_name().unwrap_or_default()).join("0"));
        if files.iter().any(|file| patterns.cover(file.as_os_str().as_bytes())) {
            return Err(Error::StoreWithin { root: self.root.clone() });
        }
        Ok(())
    }

    /// The folders that hold files by hash, or by chance.
    pub(crate) fn folders(&self) -> [PathBuf; 8] {
        [
            self.entries(),
            self.manifests(),
            self.packs(),
            self.objects(),
            self.indexes(),
            self.leases(),
            self.tmp(),
            self.damaged(),
        ]
    }
}

/// A path without symlinks, as far as that can be told.
pub(crate) fn real(path: &Path) -> PathBuf {
    fs_err::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// The hash that a file of the store is named after.
pub(crate) fn digest_of(file: &Path) -> Option<Digest> {
    Digest::from_hex(file.file_name()?.to_str()?)
}

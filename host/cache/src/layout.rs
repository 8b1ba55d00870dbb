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

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::fs::OFlags;

use crate::digest::Digest;

/// The number of this layout. A change that an older Loom would misread raises it.
pub(crate) const FORMAT: u32 = 2;

pub(crate) const QUARANTINE: &str = "quarantine";

/// Where a store keeps what.
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

    /// Moves a file of the store to where damaged ones are kept.
    pub(crate) fn set_aside(&self, file: &Path) -> io::Result<()> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        fs_err::rename(file, self.damaged().join(format!("{}-{name}", millis(SystemTime::now()))))
    }
}

/// How files of the store are opened. It may stand in a folder that somebody else has filled: nothing is waited
/// for.
pub(crate) fn options() -> fs_err::OpenOptions {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let mut options = fs_err::OpenOptions::new();
    options.custom_flags(i32::try_from(flags).unwrap_or_default());
    options
}

/// Makes sure that a file of the store is one that ends.
pub(crate) fn regular(file: &fs_err::File) -> io::Result<()> {
    match file.metadata()?.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// Opens a file of the store to read it.
pub(crate) fn open(path: &Path) -> io::Result<fs_err::File> {
    let file = options().read(true).open(path)?;
    regular(&file)?;
    Ok(file)
}

/// Reads a small file of the store, or a manifest.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    /// More than the manifest of any tree that can be saved in a day.
    const MOST: u64 = 1 << 30;
    let file = open(path)?;
    if file.metadata()?.len() > MOST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {MOST} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The same as text.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
}

/// A path without symlinks, as far as that can be told.
pub(crate) fn real(path: &Path) -> PathBuf {
    fs_err::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// The names of the files in a folder of the store, none if it is not there.
pub(crate) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs_err::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// The hash that a file of the store is named after.
pub(crate) fn digest_of(file: &Path) -> Option<Digest> {
    Digest::from_hex(file.file_name()?.to_str()?)
}

/// Since 1970.
pub(crate) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn from_millis(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

/// A name that nobody else uses at this moment.
pub(crate) fn random_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    // Seeded by the system once a process, and never twice the same.
    format!("{}-{:016x}", std::process::id(), RandomState::new().hash_one(SystemTime::now()))
}

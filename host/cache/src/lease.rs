//! Leases: what restores under way read is not collected.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;

use crate::digest::Digest;
use crate::io::{self, Sync, random_name};
use crate::layout::Layout;
use crate::lock::lock_store;
use crate::{Error, pointer};

/// A file that is locked as long as a restore lives, and that names the manifest which it reads.
pub(crate) struct Lease {
    path: PathBuf,
    _file: fs::File,
}

impl Lease {
    /// Takes a lease on the entry of a key, which is to have the manifest `digest`, and notes the use of the
    /// entry. A store that cannot be written is not collected either: none then.
    ///
    /// # Errors
    /// The entry is no longer there, or has become another one.
    pub(crate) fn take(
        layout: &Layout,
        name: &str,
        key: &str,
        digest: Digest,
    ) -> Result<Option<Self>, Error> {
        let Ok(_lock) = lock_store(layout) else { return Ok(None) };
        let place = layout.entry(name, key);
        if !io::read(&place).is_ok_and(|bytes| pointer::points_to(&bytes, digest)) {
            return Err(Error::Gone { name: name.to_owned(), key: key.to_owned() });
        }
        let touched =
            fs::File::open(&place).and_then(|pointer| pointer.into_parts().0.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            tracing::debug!("cache: the use of an entry was not noted: {error}");
        }
        let path = layout.leases().join(random_name());
        if io::write_new(&path, digest.to_string().as_bytes(), Sync::No).is_err() {
            return Ok(None);
        }
        let file = fs::File::open(&path).and_then(|file| {
            file.lock()?;
            Ok(file)
        });
        Ok(file.ok().map(|file| Self { path, _file: file }))
    }

    /// The manifest that a lease protects; a lease that nobody holds any more is removed.
    fn read(path: &Path) -> std::io::Result<Option<Digest>> {
        let file = io::open(path)?;
        if file.try_lock().is_ok() {
            let _ = fs::remove_file(path);
            return Ok(None);
        }
        Ok(Digest::from_hex(io::read_text(path)?.trim()))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The manifests that restores under way read from.
///
/// # Errors
/// A lease is there, and the system does not let it be read.
pub(crate) fn leased(layout: &Layout) -> Result<HashSet<Digest>, Error> {
    let leases = layout.leases();
    let mut leased = HashSet::new();
    for path in io::files(&leases).map_err(|error| Error::read(leases, error))? {
        match Lease::read(&path) {
            Ok(digest) => leased.extend(digest),
            Err(error) if io::is_no_file_of_ours(&error) => {}
            Err(error) => return Err(Error::read(path, error)),
        }
    }
    Ok(leased)
}

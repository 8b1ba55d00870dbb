//! What a file comes to for who compares trees: short, and equal where the files are.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;

/// Files by their path below the tree.
pub type Prints = BTreeMap<Vec<u8>, Print>;

/// The number of files of one tree that are compared at most: their prints are held in memory.
pub const MOST_PRINTS: usize = 1_000_000;

/// A fingerprint of a file. Times and owners do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Print {
    /// A file.
    File {
        /// The permissions.
        mode: u32,
        /// The blake3 hash of its content.
        hash: [u8; 32],
    },
    /// A file that this user may not read.
    Closed {
        /// The permissions.
        mode: u32,
        /// In bytes.
        size: u64,
    },
    /// A symlink.
    Link {
        /// The text of the link.
        target: Vec<u8>,
    },
    /// A fifo, a socket or a device.
    Other,
}

impl Print {
    /// The print of the file at `path`; none where there is none, or a folder. A link is not followed,
    /// nothing is waited for.
    ///
    /// # Errors
    /// It cannot be read, or `cancel` is set meanwhile.
    pub fn of(path: &Path, cancel: &AtomicBool) -> io::Result<Option<Self>> {
        let stat = match std::fs::symlink_metadata(path) {
            Ok(stat) => stat,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        if stat.is_dir() {
            return Ok(None);
        }
        if stat.is_symlink() {
            return Ok(Some(Self::Link { target: std::fs::read_link(path)?.into_os_string().into_vec() }));
        }
        if !stat.is_file() {
            return Ok(Some(Self::Other));
        }
        let mode = stat.mode() & 0o7777;
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
        let mut options = std::fs::OpenOptions::new();
        options.read(true).custom_flags(i32::try_from(flags).unwrap_or_default());
        match options.open(path) {
            Ok(file) => Ok(Some(Self::of_content(mode, &mut Until { file, cancel })?)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Ok(Some(Self::Closed { mode, size: stat.len() }))
            }
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The print of a file with the permissions `mode` and this content, which is read to its end and not
    /// kept.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of_content(mode: u32, content: &mut impl Read) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => return Ok(Self::File { mode, hash: *hasher.finalize().as_bytes() }),
                Ok(count) => drop(hasher.update(&buffer[..count])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The difference to `other`, which stands where this does: the end of a sentence. None where they are
    /// equal.
    pub fn differs(&self, other: &Self) -> Option<&'static str> {
        match (self, other) {
            _ if self == other => None,
            (Self::File { hash: one, .. }, Self::File { hash: other, .. }) if one == other => {
                Some("other permissions")
            }
            (Self::File { .. }, Self::File { .. }) | (Self::Closed { .. }, Self::Closed { .. }) => {
                Some("other content")
            }
            (Self::Link { .. }, Self::Link { .. }) => Some("leads elsewhere"),
            _ => Some("of another kind"),
        }
    }
}

/// A file that is read as long as nobody cancels.
struct Until<'a> {
    file: std::fs::File,
    cancel: &'a AtomicBool,
}

impl Read for Until<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self.cancel.load(Ordering::Relaxed) {
            true => Err(io::Error::other("cancelled")),
            false => self.file.read(to),
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    static GO: AtomicBool = AtomicBool::new(false);

    #[test]
    fn what_a_file_is_counts_and_when_it_was_made_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [("a", "1"), ("same", "1"), ("other", "2"), ("mode", "1")] {
            fs_err::write(at(name), text).unwrap();
        }
        fs_err::set_permissions(at("mode"), std::fs::Permissions::from_mode(0o755)).unwrap();
        fs_err::File::open(at("same")).unwrap().into_parts().0.set_modified(std::time::UNIX_EPOCH).unwrap();
        symlink("a", at("link")).unwrap();
        symlink("b", at("elsewhere")).unwrap();
        let print = |name: &str| Print::of(&at(name), &GO).unwrap().unwrap();
        for (one, other, how) in [
            ("a", "same", None),
            ("a", "other", Some("other content")),
            ("a", "mode", Some("other permissions")),
            ("a", "link", Some("of another kind")),
            ("link", "elsewhere", Some("leads elsewhere")),
        ] {
            assert_eq!(print(one).differs(&print(other)), how, "{one} {other}");
        }
        assert_eq!(Print::of(&at("nothing"), &GO).unwrap(), None);
        assert_eq!(Print::of(folder.path(), &GO).unwrap(), None);
    }
}

//! Files of the store: opened, read and written. Whatever fails here fails for the store as a whole.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::Error;

/// The reason why a file of a tree was not read.
pub(crate) enum ReadError {
    /// Something is the matter with the file itself.
    File(Errno),
    /// Something else failed.
    Other(Error),
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// The place of a call to the system, which a unit test may let fail; in any other build nothing.
pub(crate) fn fault(doing: &'static str, path: &Path) -> io::Result<()> {
    #[cfg(test)]
    loom_faults::point(doing, path)?;
    let _ = (doing, path);
    Ok(())
}

/// The options to open a file of the store. It may stand in a folder that somebody else has filled: nothing
/// is waited for.
pub(crate) fn options() -> fs::OpenOptions {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let mut options = fs::OpenOptions::new();
    options.custom_flags(i32::try_from(flags).unwrap_or_default());
    options
}

/// Makes sure that a file of the store is one that ends.
pub(crate) fn regular(file: &fs::File) -> io::Result<()> {
    match file.metadata()?.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// Opens a file of the store to read it.
pub(crate) fn open(path: &Path) -> io::Result<fs::File> {
    fault("open", path)?;
    let file = options().read(true).open(path)?;
    regular(&file)?;
    Ok(file)
}

/// Whether the error means that there is no file, or one that the store has not written. Anything else may be
/// otherwise at the next try.
pub(crate) fn is_no_file_of_ours(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::NotFound
            | Kind::NotADirectory
            | Kind::IsADirectory
            | Kind::InvalidInput
            | Kind::InvalidData
            | Kind::FileTooLarge
            | Kind::UnexpectedEof
    )
}

/// Reads a small file of the store, or a manifest.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    /// The longest file that is read, in bytes: longer than the manifest of any tree that can be saved in a
    /// day.
    const MOST: u64 = 1 << 30;
    let file = open(path)?;
    if file.metadata()?.len() > MOST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {MOST} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a small file of the store as text.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
}

/// The names of the files in a folder of the store, none if it is not there.
pub(crate) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fault("list", folder)?;
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Creates a file that is the store's own.
pub(crate) fn new_file(path: &Path) -> Result<File, Error> {
    let new = || fs::OpenOptions::new().write(true).create_new(true).open(path);
    let created = fault("create", path).and_then(|()| new());
    created.map(|file| file.into_parts().0).map_err(|error| Error::write(path, error))
}

/// The durability of a file: whether it is on the disk when it has been written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    Yes,
    No,
}

/// Writes a new file; an error leaves none.
pub(crate) fn write_new(path: &Path, bytes: &[u8], sync: Sync) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        fault("create", path)?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
        if let Err(error) = fault("write", path) {
            // As a disk does that has no more room.
            file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        file.write_all(bytes)?;
        if sync == Sync::Yes {
            fault("sync", path)?;
            file.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|error| {
        let _ = fs::remove_file(path);
        Error::write(path, error)
    })
}

/// Puts a file in its place whole: readers see the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8], sync: Sync) -> Result<(), Error> {
    let beside = path.with_added_extension(format!("{}.tmp", random_name()));
    write_new(&beside, bytes, sync)?;
    rename(&beside, path).map_err(|error| {
        let _ = fs::remove_file(&beside);
        Error::write(path, error)
    })?;
    if sync == Sync::Yes { sync_folder(path.parent().unwrap_or(path)) } else { Ok(()) }
}

/// Makes a folder of the store, and those above it.
pub(crate) fn create_folders(folder: &Path) -> Result<(), Error> {
    let created = fault("create", folder).and_then(|()| fs::create_dir_all(folder));
    created.map_err(|error| Error::write(folder, error))
}

/// Moves a file of the store.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fault("rename", to)?;
    fs::rename(from, to)
}

/// Removes a file of the store.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    fault("remove", path)?;
    fs::remove_file(path)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Error> {
    let sync = || -> io::Result<()> { fs::File::open(folder)?.sync_all() };
    let synced = fault("sync", folder).and_then(|()| sync());
    synced.map_err(|error| Error::write(folder, error))
}

/// A name that nobody else uses at this moment.
pub(crate) fn random_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    // Seeded by the system once a process, and never twice the same.
    format!("{}-{:016x}", std::process::id(), RandomState::new().hash_one(SystemTime::now()))
}

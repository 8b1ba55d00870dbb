//! The cache of machine code, so that a plugin is compiled once per machine and version of Loom.
//!
//! Machine code is trusted code: whoever can change a file here runs code as the user. So the folder must be the user's
//! alone, and each file carries a keyed hash over what it is and what it holds, made with a random key that lies beside it
//! and is readable by the user only. Whatever is not as it was written, for whatever reason, is compiled again, in silence.
//!
//! A file is 32 bytes of keyed hash, then the code. Its name is the digest of the component and of everything in the engine
//! that decides whether code fits it.

use std::hash::{Hash as _, Hasher};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Length of a key, of a keyed hash and of a digest.
const HASH: usize = blake3::OUT_LEN;
const KEY_FILE: &str = "key";
const CODE_SUFFIX: &str = ".cwasm";
/// Code that was written this long ago is compiled again when it is needed: plugins and versions of Loom come and go.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Where a plugin's machine code came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was compiled now.
    Compiled,
    /// It was in the cache.
    Cached,
}

/// The cache, if there is one that can be trusted.
pub(crate) struct CompiledCache {
    dir: Option<TrustedDir>,
    /// Digest of what in the engine decides whether code fits it.
    engine: [u8; HASH],
}

impl CompiledCache {
    /// The cache in the folder `path`, which is made where it does not exist. Where it cannot be used, everything is
    /// compiled.
    pub(crate) fn open(path: Option<&Path>, engine: &Engine) -> Self {
        let dir = path.and_then(|path| match TrustedDir::open(path) {
            Ok(dir) => Some(dir),
            Err(error) => {
                tracing::warn!(
                    "plugins are compiled anew, the cache in {} is not used: {error}",
                    path.display()
                );
                None
            }
        });
        let mut hasher = EngineHasher(blake3::Hasher::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self { dir, engine: *hasher.0.finalize().as_bytes() }
    }

    /// The component `wasm`, whose digest is `digest`.
    pub(crate) fn component(
        &self,
        engine: &Engine,
        wasm: &[u8],
        digest: blake3::Hash,
    ) -> wasmtime::Result<(Component, Origin)> {
        let Some(dir) = &self.dir else {
            return Ok((Component::new(engine, wasm)?, Origin::Compiled));
        };
        let identity = Identity { digest, engine: self.engine };
        if let Some(code) = dir.read(&identity) {
            #[expect(
                unsafe_code,
                reason = "wasmtime cannot prove that machine code is machine code; see below"
            )]
            // SAFETY: `deserialize` asks for bytes that `serialize` made, unchanged, with an engine like this one. `read`
            // has found the keyed hash over exactly these bytes in memory, this component's digest and this engine's; its
            // key is 32 random bytes in a file that only this user can read or replace, and `write` is the only code that
            // makes such a hash, over what `serialize` returned. So who could forge them could already run code as this
            // user.
            let component = unsafe { Component::deserialize(engine, &code) };
            match component {
                Ok(component) => return Ok((component, Origin::Cached)),
                Err(error) => tracing::debug!("cached code does not load: {error}"),
            }
        }
        let component = Component::new(engine, wasm)?;
        if let Err(error) =
            component.serialize().map_err(io::Error::other).and_then(|code| dir.write(&identity, &code))
        {
            tracing::debug!("machine code is not kept in {}: {error}", dir.path.display());
        }
        Ok((component, Origin::Compiled))
    }
}

/// What a piece of machine code is for.
struct Identity {
    digest: blake3::Hash,
    engine: [u8; HASH],
}

impl Identity {
    fn file_name(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.digest.as_bytes()).update(&self.engine);
        format!("{}{CODE_SUFFIX}", hasher.finalize().to_hex())
    }

    fn authenticate(&self, key: &[u8; HASH], code: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher
            .update(b"loom machine code v1")
            .update(self.digest.as_bytes())
            .update(&self.engine)
            .update(code);
        hasher.finalize()
    }
}

/// A folder that nobody but this user can change, held open so that it cannot be exchanged.
struct TrustedDir {
    path: PathBuf,
    fd: OwnedFd,
    key: [u8; HASH],
}

impl TrustedDir {
    fn open(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent)?;
        }
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("the folder belongs to another user"));
        }
        if writable_by_others(&stat) {
            return Err(io::Error::other("other users can write to the folder"));
        }
        let key = match read_key(&fd)? {
            Some(key) => key,
            None => make_key(&fd)?,
        };
        Ok(Self { path: path.to_owned(), fd, key })
    }

    /// The code for `identity`, if the file is there and is as it was written.
    fn read(&self, identity: &Identity) -> Option<Vec<u8>> {
        let mut file = open_own_file(&self.fd, &identity.file_name()).ok().flatten()?;
        let mut mac = [0; HASH];
        file.read_exact(&mut mac).ok()?;
        let mut code = Vec::new();
        file.read_to_end(&mut code).ok()?;
        // Compared in constant time.
        (identity.authenticate(&self.key, &code) == blake3::Hash::from_bytes(mac)).then_some(code)
    }

    fn write(&self, identity: &Identity, code: &[u8]) -> io::Result<()> {
        self.prune();
        let mac = identity.authenticate(&self.key, code);
        place(&self.fd, &identity.file_name(), &[mac.as_bytes(), code], RenameFlags::empty())
    }

    /// Removes what is too old to be of use, half-written files included.
    fn prune(&self) {
        let Some(oldest) = SystemTime::now().checked_sub(MAX_AGE) else {
            return;
        };
        let Some(oldest) = oldest.duration_since(SystemTime::UNIX_EPOCH).ok() else {
            return;
        };
        let Ok(entries) = Dir::read_from(&self.fd) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.to_bytes() == KEY_FILE.as_bytes() {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if u64::try_from(stat.st_mtime).is_ok_and(|mtime| mtime < oldest.as_secs()) {
                let _ = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
            }
        }
    }
}

/// The key in the folder; none where there is none that can be trusted.
fn read_key(dir: &OwnedFd) -> io::Result<Option<[u8; HASH]>> {
    let Some(mut file) = open_own_file(dir, KEY_FILE)? else {
        return Ok(None);
    };
    let mut key = Vec::new();
    file.read_to_end(&mut key)?;
    Ok(key.try_into().ok())
}

/// Makes a key, or takes the one that another Loom has made at the same moment.
fn make_key(dir: &OwnedFd) -> io::Result<[u8; HASH]> {
    let key = random::<HASH>()?;
    // Replaced only where there is one that cannot be trusted.
    for _ in 0..2 {
        match place(dir, KEY_FILE, &[&key], RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(key),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if let Some(key) = read_key(dir)? {
                    return Ok(key);
                }
                rustix::fs::unlinkat(dir, KEY_FILE, AtFlags::empty())?;
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("the key file changes all the time"))
}

/// Puts the file `name` in its place, whole: it holds the `parts` and only this user can read it.
fn place(dir: &OwnedFd, name: &str, parts: &[&[u8]], flags: RenameFlags) -> io::Result<()> {
    // A name of its own: no thread of this process has it, and no process of the same number in another container.
    let unfinished = format!("{name}.{:016x}.part", u64::from_ne_bytes(random()?));
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(rustix::fs::openat(dir, &unfinished, new, Mode::RUSR | Mode::WUSR)?);
    let placed = parts
        .iter()
        .try_for_each(|part| file.write_all(part))
        .and_then(|()| Ok(rustix::fs::renameat_with(dir, &unfinished, dir, name, flags)?));
    if placed.is_err() {
        let _ = rustix::fs::unlinkat(dir, &unfinished, AtFlags::empty());
    }
    placed
}

fn random<const LENGTH: usize>() -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    fs_err::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The file `name`, if it is a plain file of this user that no other can read or write.
fn open_own_file(dir: &OwnedFd, name: &str) -> io::Result<Option<std::fs::File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::ACCESS) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let stat = rustix::fs::fstat(&fd)?;
    let plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let own = stat.st_uid == rustix::process::geteuid().as_raw();
    let private = stat.st_mode & 0o077 == 0;
    Ok((plain && own && private).then(|| fd.into()))
}

fn writable_by_others(stat: &Stat) -> bool {
    stat.st_mode & 0o022 != 0
}

/// Collects what an engine hashes of itself.
struct EngineHasher(blake3::Hasher);

impl Hasher for EngineHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash = self.0.finalize();
        hash.as_bytes().iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
    }
}

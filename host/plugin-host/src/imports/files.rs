//! `loom:workspace/files`.

use std::io::{self, Read as _, Write as _};

use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;

use crate::bindings::loom::host::types::{Error, ErrorKind};
use crate::bindings::loom::workspace::files::Host;
use crate::grant;
use crate::guest::Guest;
use crate::imports::types::error;
use crate::manifest::Access;

/// Bytes that are read at most.
const READ: u64 = 256 << 20;

impl Host for Guest {
    async fn exists(&mut self, path: String) -> wasmtime::Result<Result<bool, Error>> {
        self.file(path, Access::Read, |path| Ok(path.try_exists()?)).await
    }

    async fn read(&mut self, path: String) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        self.file(path, Access::Read, read).await
    }

    async fn write(&mut self, path: String, content: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        self.file(path, Access::Write, move |path| Ok(write(path, &content)?)).await
    }
}

impl Guest {
    /// Does `work` with a file that is granted.
    async fn file<T: Send + 'static>(
        &mut self,
        path: String,
        access: Access,
        work: impl FnOnce(&Path) -> Result<T, Error> + Send + 'static,
    ) -> wasmtime::Result<Result<T, Error>> {
        match grant::file(&self.plugin, &self.config, &path, access) {
            Ok(path) => Ok(tokio::task::spawn_blocking(move || work(&path)).await?),
            Err(denied) => Ok(Err(denied)),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let file = fs::OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    let unfit = |what| Err(error(ErrorKind::Invalid, "FILE_UNFIT", format!("{} {what}", path.display())));
    if !metadata.is_file() {
        return unfit("is no regular file");
    }
    if metadata.len() > READ {
        return unfit("is larger than 256 MiB");
    }
    let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.take(READ).read_to_end(&mut content)?;
    Ok(content)
}

/// What is opened may be a pipe that nobody writes to.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// Beside it, then over it; a symbolic link stays one.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let path = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let mut beside = PathBuf::from(folder);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    beside.push(format!(".{name}.{}", std::process::id()));
    let put = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    put().inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

impl From<io::Error> for Error {
    fn from(cause: io::Error) -> Self {
        let kind = match cause.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Unavailable,
        };
        error(kind, "FILE", cause.to_string())
    }
}

//! `loom:workspace/files`.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;

use wasmtime::component::{HasData, Linker};

use self::wit::loom::workspace::files::{self, Host};
use crate::config::PluginConfig;
use crate::grant;
use crate::guest::Guest;
use crate::info::PluginInfo;
use crate::manifest::Access;
use crate::types::{Error, ErrorKind, Failure, error};

mod wit {
    wasmtime::component::bindgen!({
        path: "../../wit",
        interfaces: "import loom:workspace/files@0.1.0;",
        imports: { default: async | trappable },
        with: { "loom:host/types": crate::types::wit },
        trappable_error_type: { "loom:host/types.error" => crate::types::Failure },
    });
}

/// Bytes that are read at most.
const READ: u64 = 256 << 20;

/// The part of a guest that the functions work on.
pub(crate) struct View<'a> {
    plugin: &'a PluginInfo,
    config: &'a PluginConfig,
}

struct Files;

impl HasData for Files {
    type Data<'a> = View<'a>;
}

/// Offers the interface to guests.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    files::add_to_linker::<_, Files>(linker, |guest| View { plugin: &guest.plugin, config: &guest.config })
}

impl Host for View<'_> {
    async fn exists(&mut self, path: String) -> Result<bool, Failure> {
        self.file(path, Access::Read, |path| Ok(path.try_exists()?)).await
    }

    async fn read(&mut self, path: String) -> Result<Vec<u8>, Failure> {
        self.file(path, Access::Read, read).await
    }

    async fn write(&mut self, path: String, content: Vec<u8>) -> Result<(), Failure> {
        self.file(path, Access::Write, move |path| Ok(write(path, &content)?)).await
    }
}

impl View<'_> {
    /// Does `work` with a file that is granted.
    async fn file<T: Send + 'static>(
        &mut self,
        path: String,
        access: Access,
        work: impl FnOnce(&Path) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Failure> {
        let path = grant::file(self.plugin, self.config, &path, access)?;
        Ok(tokio::task::spawn_blocking(move || work(&path)).await??)
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

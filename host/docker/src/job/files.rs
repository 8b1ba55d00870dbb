//! The files of a job that works in a volume.

use std::path::{Path, PathBuf};

use loom_tree::Prints;

use crate::job::inputs::WORKSPACE;
use crate::{Container, Error, ExecSpec, Ids, Unpacked};

/// Paths that one command is given.
const MOST_PATHS: usize = 500;

/// The files of a job that works in a volume.
#[derive(Debug)]
pub struct VolumeFiles {
    pub(crate) container: Container,
    pub(crate) owner: Ids,
}

impl VolumeFiles {
    /// Copies `path`, relative to the workspace, with all that is in it, to where it belongs in the folder `into`, which has
    /// the folders above it. The empty path means everything. Nothing is copied where there is no such path.
    ///
    /// # Errors
    /// As [`Container::download`].
    pub async fn fetch(&self, path: &Path, into: &Path) -> Result<Unpacked, Error> {
        let (from, to) = match path.parent() {
            Some(parent) => (format!("{WORKSPACE}/{}", path.to_string_lossy()), into.join(parent)),
            None => (format!("{WORKSPACE}/."), into.to_owned()),
        };
        match self.container.download(&from, &to).await {
            Err(error) if error.is_not_found() => Ok(Unpacked::default()),
            unpacked => unpacked,
        }
    }

    /// Removes `removed`, paths relative to the workspace, then puts everything that is in the folder `from` in.
    ///
    /// # Errors
    /// `from` cannot be read; what the daemon says.
    pub async fn put(&self, from: &Path, removed: &[PathBuf]) -> Result<(), Error> {
        for removed in removed.chunks(MOST_PATHS) {
            let script = "cd \"$0\" && rm -f -- \"$@\"";
            let mut command: Vec<String> = ["sh", "-c", script, WORKSPACE].map(str::to_owned).into();
            command.extend(removed.iter().map(|path| path.to_string_lossy().into_owned()));
            let spec = ExecSpec { command, user: Some("0:0".to_owned()), ..ExecSpec::default() };
            self.container.exec(&spec).await?.exit().await?;
        }
        self.container.upload(from, WORKSPACE, self.owner).await.map(drop)
    }

    /// What all of them come to.
    ///
    /// # Errors
    /// As [`Container::prints`].
    pub async fn prints(&self) -> Result<Prints, Error> {
        self.container.prints(WORKSPACE).await
    }
}

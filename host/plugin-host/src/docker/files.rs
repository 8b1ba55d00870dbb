//! The files of a job that works in a volume, for the engine.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use loom_contract::error::{ErrorInfo, code};
use loom_docker::VolumeFiles;
use loom_engine::port::{JobFiles, Prints};

use super::error::error_info;

/// The files of a job that works in a volume.
#[derive(Debug)]
pub(crate) struct WorkspaceFiles(pub(crate) VolumeFiles);

#[async_trait]
impl JobFiles for WorkspaceFiles {
    async fn fetch(&self, patterns: &[String], into: &Path) -> Result<Vec<String>, ErrorInfo> {
        let mut roots: Vec<PathBuf> = patterns.iter().map(|pattern| loom_tree::glob_base(pattern)).collect();
        roots.sort();
        roots.dedup_by(|below, above| below.starts_with(above));
        let mut left_out = Vec::new();
        for root in roots {
            let above = root.parent().map_or_else(|| into.to_owned(), |parent| into.join(parent));
            let failed = |cause: std::io::Error| ErrorInfo::new(code::WORKSPACE_FAILED, cause.to_string());
            fs_err::create_dir_all(above).map_err(failed)?;
            let unpacked = self.0.fetch(&root, into).await.map_err(|error| error_info(&error))?;
            let paths = unpacked.left_out.iter();
            left_out.extend(paths.map(|(path, why)| format!("`{path}` is left out: it {why}")));
        }
        Ok(left_out)
    }

    async fn put(&self, from: &Path, removed: &[PathBuf]) -> Result<(), ErrorInfo> {
        self.0.put(from, removed).await.map_err(|error| error_info(&error))
    }

    async fn prints(&self) -> Result<Prints, ErrorInfo> {
        self.0.prints().await.map_err(|error| error_info(&error))
    }
}

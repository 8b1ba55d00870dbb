//! System sections: the folders under `jobs/<job>/system/` and the phase that each belongs to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::phase::PhaseCode;
use crate::redacted::Redact;

/// A piece of work that Loom does for a job outside its steps.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, Redact,
)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// The provider is chosen and prepared; also where failures of secrets are told.
    Provider,
    /// Service containers are started.
    Services,
    /// The job's image is built.
    ImageBuild,
    /// Caches are restored.
    CacheRestore,
    /// Caches are saved.
    CacheSave,
    /// Artifacts are extracted. Its phase is named `job.artifact_restore` although it runs after execution.
    ArtifactExtract,
    /// What the job used is given back.
    Cleanup,
}

impl Section {
    /// Every section.
    pub const ALL: [Self; 7] = [
        Self::Provider,
        Self::Services,
        Self::ImageBuild,
        Self::CacheRestore,
        Self::CacheSave,
        Self::ArtifactExtract,
        Self::Cleanup,
    ];

    /// The folder's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Services => "services",
            Self::ImageBuild => "image_build",
            Self::CacheRestore => "cache_restore",
            Self::CacheSave => "cache_save",
            Self::ArtifactExtract => "artifact_extract",
            Self::Cleanup => "cleanup",
        }
    }

    /// The phase that a reader should reason about.
    pub fn phase_code(self) -> PhaseCode {
        match self {
            Self::Provider | Self::Services | Self::ImageBuild => PhaseCode::JobProviderPrepare,
            Self::CacheRestore => PhaseCode::JobCacheRestore,
            Self::CacheSave => PhaseCode::JobCacheSave,
            Self::ArtifactExtract => PhaseCode::JobArtifactRestore,
            Self::Cleanup => PhaseCode::JobCleanup,
        }
    }
}

impl std::fmt::Display for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_section_has_its_documented_phase() {
        let table = [
            ("provider", "job.provider_prepare"),
            ("services", "job.provider_prepare"),
            ("image_build", "job.provider_prepare"),
            ("cache_restore", "job.cache_restore"),
            ("cache_save", "job.cache_save"),
            ("artifact_extract", "job.artifact_restore"),
            ("cleanup", "job.cleanup"),
        ];
        let ours = Section::ALL.map(|s| (s.as_str(), s.phase_code().as_str()));
        assert_eq!(ours, table);
        for section in Section::ALL {
            assert_eq!(serde_json::to_value(section).ok(), Some(section.as_str().into()));
        }
    }
}

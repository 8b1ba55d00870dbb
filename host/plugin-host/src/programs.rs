//! Where the programs are that a plugin may start: found once, when it is loaded, on the `PATH` of Loom itself.
//!
//! Whoever writes a workflow decides on the `PATH` of its jobs and on the files of the workspace. Neither must decide what
//! the name means that a plugin was granted.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::config::PluginConfig;
use crate::manifest::{Capabilities, PATH};

/// Where Loom has no `PATH`.
const USUAL: &str = "/usr/bin:/bin";

/// The files of a plugin's programs, and what it finds other programs by.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    found: BTreeMap<String, PathBuf>,
    path: std::ffi::OsString,
}

impl Programs {
    /// Looks for all that `capabilities` name.
    pub(crate) fn find(capabilities: &Capabilities, config: &PluginConfig) -> Self {
        if capabilities.exec.is_empty() {
            return Self::default();
        }
        let path = config.variable(PATH).filter(|path| !path.is_empty());
        let path = path.map_or_else(|| USUAL.into(), Clone::clone);
        let repository = config.repository.as_deref().and_then(|folder| folder.canonicalize().ok());
        let find = |name: &str| Some((name.to_owned(), find(name, &path, repository.as_deref())?));
        let found = capabilities.exec.iter().filter_map(|grant| find(&grant.program)).collect();
        Self { found, path }
    }

    /// The real, absolute path of `program`; none where this machine does not have it.
    pub(crate) fn get(&self, program: &str) -> Option<&Path> {
        self.found.get(program).map(PathBuf::as_path)
    }

    /// The `PATH` that they were found on.
    pub(crate) fn path(&self) -> &OsStr {
        &self.path
    }
}

/// The file that `name` means, outside of `repository`: what is in there, whoever wrote the workflow may have written too.
fn find(name: &str, path: &OsStr, repository: Option<&Path>) -> Option<PathBuf> {
    // An absolute path takes the folder's place. What is relative depends on where Loom was started.
    let places =
        std::env::split_paths(path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(name));
    let real = places.filter_map(|place| place.canonicalize().ok());
    real.filter(|file| !repository.is_some_and(|repository| file.starts_with(repository)))
        .find(|file| file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_program_is_a_real_file_outside_of_the_repository() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for folder in ["repo/bin", "plain", "real", "links"] {
            fs_err::create_dir_all(root.join(folder)).unwrap();
        }
        for (file, mode) in [("repo/bin/tool", 0o755), ("plain/tool", 0o644), ("real/tool-1.2", 0o755)] {
            fs_err::write(root.join(file), "").unwrap();
            fs_err::set_permissions(root.join(file), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        fs_err::create_dir(root.join("real/folder")).unwrap();
        fs_err::os::unix::fs::symlink(root.join("real/tool-1.2"), root.join("links/tool")).unwrap();
        fs_err::os::unix::fs::symlink(root.join("repo/bin/tool"), root.join("links/inner")).unwrap();
        let repository = root.join("repo");
        let found = |name: &str, folders: &[&str]| {
            let path = std::env::join_paths(folders.iter().map(|folder| root.join(folder))).unwrap();
            find(name, &path, Some(&repository))
        };
        assert_eq!(found("tool", &["repo/bin"]), None);
        assert_eq!(found("tool", &["plain"]), None);
        assert_eq!(found("inner", &["links"]), None);
        assert_eq!(found("folder", &["real"]), None);
        let all = ["absent", "repo/bin", "plain", "links"];
        assert_eq!(found("tool", &all), Some(root.join("real/tool-1.2")));
        let absolute = root.join("links/tool");
        assert_eq!(found(absolute.to_str().unwrap(), &["plain"]), Some(root.join("real/tool-1.2")));
        for path in ["", ".", "bin:.", ":"] {
            assert_eq!(find("sh", OsStr::new(path), None), None, "{path}");
        }
    }
}

//! The only reader of the environment. Variables that Loom reads:
//!
//! | variable | for |
//! |---|---|
//! | `XDG_CACHE_HOME`, else `HOME` | the user's cache folder: workspaces, compiled plugins |
//! | `XDG_CONFIG_HOME`, else `HOME` | the user's config file |
//! | `LOOM_DOCKER_WORKSPACE_MOUNT` | `runtime.docker.workspaceMount` |
//! | `LOOM_KEEPASS_DB_<KEY>_PATH`, `…_PASSWORD_ENV`, `…_KEYFILE_ENV` | `providers.keepass.aliases.<alias>` |
//! | `OP_CONNECT_HOST`, `OP_CONNECT_TOKEN` | the 1Password Connect server of `op://` references |
//! | what references and the configuration name | secrets, and what unlocks vaults |
//! | `XDG_RUNTIME_DIR` | a folder in memory for the files of secrets; sockets of rootless daemons |
//! | `DOCKER_HOST`, `DOCKER_TLS_VERIFY`, `DOCKER_CERT_PATH`, `DOCKER_CONTEXT` | the Docker daemon |
//! | `DOCKER_DEFAULT_PLATFORM` | the platform of images where the workflow names none |
//! | `DOCKER_CONFIG`, else `HOME` | Docker's contexts, logins and certificates; `PATH` for the helpers that it names |
//! | `LOOM_MASK` | the file into which `loom mask` writes |
//! | `SHELL` | the shell of `loom shell` |
//! | `NO_COLOR`, `CLICOLOR_FORCE`, `TERM` | colour (read by `anstream`) |
//! | `LOOM_LOG` | what Loom's own developers want to see, as a `tracing` filter |
//!
//! The whole environment is passed on to jobs on the host, but for what unlocks vaults, what `env://` references name, and
//! what git says of its own repository.

#![expect(clippy::disallowed_methods, reason = "this is the module that reads the environment")]

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use loom_contract::error::ErrorInfo;
use loom_ownership::{Ledger, Runs};
use loom_plugin_host::DockerConfig;

use crate::config::{self, Effective, Error, Flags, Inputs, Machine, Text};
use crate::files;

/// The repository's config file, relative to its root.
const REPO_CONFIG: &str = ".loom/config.yml";
/// The longest config file, in bytes.
const LONGEST: u64 = 1 << 20;

/// What holds for a run in the repository at `repo_root`, or outside of any, when the command line says `flags`.
///
/// # Errors
/// A config file cannot be read or breaks a rule, a variable does, or two KeePass aliases have one KEY.
pub(crate) fn effective(repo_root: Option<&Path>, flags: Flags) -> Result<Effective, ErrorInfo> {
    let merged = || {
        let variables: Vec<_> = std::env::vars_os().collect();
        let inputs = Inputs {
            user: user_config().map_or(Ok(None), read)?,
            repo: repo_root.map(repo_config).map_or(Ok(None), read)?,
            variables: &variables,
            // Where it is gone, a relative path of the environment means nothing either way.
            current_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            flags,
        };
        config::effective(&machine(), &inputs)
    };
    merged().map_err(|error| error.to_info())
}

/// What holds where neither config files nor the environment say anything and the command line says `flags`.
pub(crate) fn built_in(flags: Flags) -> Effective {
    Effective::built_in(&machine(), flags)
}

/// The config file of the repository at `repo_root`.
pub(crate) fn repo_config(repo_root: &Path) -> PathBuf {
    repo_root.join(REPO_CONFIG)
}

/// The user's config file; `None` where the user has no home.
pub(crate) fn user_config() -> Option<PathBuf> {
    home_folder("XDG_CONFIG_HOME", ".config").map(|base| base.join("loom/config.yml"))
}

/// Loom's own environment.
pub(crate) fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

/// The environment that jobs start from: Loom's own, without the variables `hidden` and without those that belong to the
/// repository of a git that started Loom.
pub(crate) fn environment_of_jobs(hidden: &[&str]) -> Vec<(OsString, OsString)> {
    let mut environment = environment();
    environment.retain(|(name, _)| {
        !hidden.iter().any(|hidden| name == hidden) && !loom_workspace::is_git_repository_variable(name)
    });
    environment
}

/// Where a run may put the files of secrets, the best first: the user's own folder in memory, everybody's, a disk.
pub(crate) fn secret_bases() -> Vec<PathBuf> {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    own.into_iter().chain([PathBuf::from("/dev/shm"), std::env::temp_dir()]).collect()
}

/// Where the Docker daemon is, as Docker's own programs find it, for a run of the repository at `repo_root`.
///
/// `alone`: no job works elsewhere than in a container; `workspace_is_immutable`: nor in the run's copy itself.
pub(crate) fn docker(
    repo_root: &Path,
    alone: bool,
    workspace_is_immutable: bool,
    runs: Runs,
    ledger: Ledger,
) -> DockerConfig {
    let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let own = || path("DOCKER_CONFIG").or_else(|| Some(path("HOME")?.join(".docker")));
    let tls = path("DOCKER_TLS_VERIFY").and_then(|_| path("DOCKER_CERT_PATH").or_else(own));
    DockerConfig {
        host: std::env::var("DOCKER_HOST").ok(),
        context: std::env::var("DOCKER_CONTEXT").ok(),
        certificates: tls,
        runtime_dir: path("XDG_RUNTIME_DIR"),
        folder: own(),
        helpers_path: std::env::var_os("PATH"),
        repo: repo_root.to_string_lossy().into_owned(),
        workspace_is_immutable,
        alone,
        default_platform: std::env::var("DOCKER_DEFAULT_PLATFORM").ok().filter(|it| !it.is_empty()),
        runs,
        ledger,
    }
}

/// The file into which the job that this is a part of writes what is to be masked.
pub(crate) fn mask_file() -> Option<PathBuf> {
    std::env::var_os(loom_engine::mask::VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The user's shell; the system's where none is set.
pub(crate) fn shell() -> OsString {
    let own = std::env::var_os("SHELL").filter(|shell| Path::new(shell).is_absolute());
    own.unwrap_or_else(|| "sh".into())
}

/// A filter for `tracing`, where a developer set one.
pub(crate) fn log_filter() -> Option<String> {
    std::env::var("LOOM_LOG").ok().filter(|filter| !filter.is_empty())
}

/// What this machine says: as many jobs as processors that this process may use, `loom` in the user's cache folder.
fn machine() -> Machine {
    Machine {
        processors: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        cache_dir: home_folder("XDG_CACHE_HOME", ".cache").map(|base| own_cache(base).join("loom")),
    }
}

/// `base`; but for root in the home of somebody else, as under `sudo -E`, the system's own cache folder: what root keeps
/// must not be where others can change it, and theirs must not become root's.
fn own_cache(base: PathBuf) -> PathBuf {
    use std::os::unix::fs::MetadataExt as _;
    let existing = base.ancestors().find_map(|folder| fs_err::metadata(folder).ok());
    let is_foreign = existing.is_some_and(|found| found.uid() != 0);
    if rustix::process::geteuid().is_root() && is_foreign { PathBuf::from("/var/cache") } else { base }
}

/// The folder that `variable` names, else `below` in the user's home. Relative ones are as if they were not set.
fn home_folder(variable: &str, below: &str) -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| Some(absolute("HOME")?.join(below)))
}

/// The config file at `path`, where there is one.
fn read(path: PathBuf) -> Result<Option<Text>, Error> {
    match files::read_text(&path, LONGEST) {
        Ok(text) => Ok(Some(Text { path, text })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        // Something on the way there is a file: nobody can have meant it.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(Error::Unreadable { path, message: error.to_string() }),
    }
}

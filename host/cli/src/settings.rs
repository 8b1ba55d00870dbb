//! The only reader of the environment. Variables that Loom reads:
//!
//! | variable | for |
//! |---|---|
//! | `XDG_CACHE_HOME`, else `HOME` | the user's cache folder: workspaces, compiled plugins |
//! | `NO_COLOR`, `CLICOLOR_FORCE`, `TERM` | colour (read by `anstream`) |
//! | `LOOM_LOG` | what Loom's own developers want to see, as a `tracing` filter |
//!
//! The whole environment is passed on to jobs on the host.

#![expect(clippy::disallowed_methods, reason = "this is the module that reads the environment")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folder for what can be made again, `<user's cache>/loom`; `None` where the user has no home.
pub(crate) fn cache_dir() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    base.map(|base| base.join("loom"))
}

/// Where snapshots of the repositories stand, below [`cache_dir`].
pub(crate) fn workspaces_dir(cache_dir: &Path) -> PathBuf {
    cache_dir.join("workspaces")
}

/// Workspaces of failed runs that are kept for a look, per repository.
pub(crate) const KEEP_RUNS: usize = 5;

/// The environment that jobs start from.
pub(crate) fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

/// A filter for `tracing`, where a developer set one.
pub(crate) fn log_filter() -> Option<String> {
    std::env::var("LOOM_LOG").ok().filter(|filter| !filter.is_empty())
}

/// Jobs that may run at once unless the command line says otherwise: the processors that this process may use.
pub(crate) fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

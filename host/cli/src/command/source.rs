//! Where the repository is and which workflow is meant.

use std::path::{Path, PathBuf};

use fs_err as fs;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::layout;
use loom_workflow::{Diagnostics, LoadError, Loaded, Loader};

use crate::args::Workflow;
use crate::files::{inside, normal, read_text};
use crate::terminal::Terminal;
use crate::text::Text;

/// A repository and its workflow file.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The repository's root, absolute, without symbolic links.
    pub(crate) repo_root: PathBuf,
    /// The workflow file, absolute.
    pub(crate) workflow_path: PathBuf,
    /// The workflow file as the user knows it: relative to the current folder where it is below it.
    pub(crate) shown: String,
}

impl Source {
    /// Finds the repository: the one that the workflow is in. A workflow in no repository, as one that several share, and the
    /// default one, are for the repository of the current folder.
    ///
    /// # Errors
    /// There is none, or the current folder is gone.
    pub(crate) fn find(args: &Workflow) -> Result<Self, ErrorInfo> {
        let cwd = super::current_dir()?;
        let named = args.workflow.as_ref().map(|path| in_real_folder(&cwd.join(path)));
        let of_workflow = |path: &PathBuf| loom_workspace::find_repo_root(path.parent()?);
        let found = named.as_ref().and_then(of_workflow).or_else(|| loom_workspace::find_repo_root(&cwd));
        let Some(repo_root) = found else { return Err(no_repository(&cwd, named.as_deref())) };
        let workflow_path = named.unwrap_or_else(|| repo_root.join(layout::DEFAULT_WORKFLOW));
        let below = workflow_path.strip_prefix(&cwd).ok().filter(|path| !path.as_os_str().is_empty());
        let shown = below.unwrap_or(&workflow_path).display().to_string();
        Ok(Self { repo_root, workflow_path, shown })
    }

    /// The workflow's path as jobs are told: relative to the repository where it is in it.
    pub(crate) fn in_repo(&self) -> String {
        self.workflow_path.strip_prefix(&self.repo_root).unwrap_or(&self.workflow_path).display().to_string()
    }

    /// Reads and judges the workflow.
    ///
    /// # Errors
    /// The file cannot be read. What is wrong inside it is in the result.
    pub(crate) fn load(&self) -> Result<Loaded, ErrorInfo> {
        // What somebody names outside of the repository is his own.
        let own = self.workflow_path.starts_with(&self.repo_root);
        let inside = if own { inside(&self.repo_root, &self.workflow_path) } else { Ok(()) };
        let text = inside.and_then(|()| read_text(&self.workflow_path, LONGEST)).map_err(|error| {
            let info =
                ErrorInfo::new(code::WORKFLOW_UNREADABLE, format!("cannot read {}: {error}", self.shown));
            match error.kind() {
                std::io::ErrorKind::NotFound => {
                    info.with_hint("write it, as `loom init` does, or name another one with --workflow")
                }
                std::io::ErrorKind::InvalidFilename => {
                    info.with_hint("put the file itself there, or name the one that is meant with --workflow")
                }
                _ => info,
            }
        })?;
        Ok(loom_workflow::load(&self.shown, &text, &Files { root: &self.repo_root }))
    }
}

/// The file at `path`, in its folder without symbolic links; as it is written where there is no such folder.
fn in_real_folder(path: &Path) -> PathBuf {
    let real = path.parent().zip(path.file_name()).and_then(|(folder, name)| {
        let folder = fs::canonicalize(folder).ok()?;
        Some(folder.join(name))
    });
    real.unwrap_or_else(|| normal(path))
}

fn no_repository(cwd: &Path, workflow: Option<&Path>) -> ErrorInfo {
    let none = "no `.loom` folder and no git";
    let message = match workflow {
        Some(path) => format!(
            "no repository at {} or {}, nor above them: {none}",
            path.parent().unwrap_or(path).display(),
            cwd.display()
        ),
        None => format!("no repository at {} or above it: {none}", cwd.display()),
    };
    let hint =
        format!("write {} at the root of the repository, as `loom init` does", layout::DEFAULT_WORKFLOW);
    ErrorInfo::new(code::WORKFLOW_UNREADABLE, message).with_hint(hint)
}

/// What stands in the way of a run of the repository at `repo_root`: plugins that it asks for by a file of its own, which this
/// version does not read. Better no run than one without them.
pub(crate) fn plugin_set(repo_root: &Path) -> Option<ErrorInfo> {
    let is_there = |name: &&str| fs::symlink_metadata(repo_root.join(name)).is_ok();
    let file = [".loom/plugins.yml", ".loom/plugins.lock"].into_iter().find(is_there)?;
    let message = format!("{file} asks for plugins, which is not yet supported: only the bundled ones are");
    let hint = format!("remove {file} to run with the bundled plugins alone");
    Some(ErrorInfo::new(code::PLUGIN_INCOMPATIBLE, message).with_hint(hint))
}

/// Warns of what `loom run` will refuse.
pub(crate) fn warn_of_plugin_set(repo_root: &Path, terminal: Terminal) {
    if let Some(error) = plugin_set(repo_root) {
        terminal.say(format!("warning: `loom run` refuses this repository: {}\n", error.message));
    }
}

/// The longest file that is read, in bytes. The language allows less and says so itself; this is for files without end.
const LONGEST: u64 = 64 << 20;

/// The system's own words, without the path that `fs_err` adds: the workflow's error names it.
fn cause(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        kind => std::io::Error::from(kind).to_string(),
    }
}

/// The repository's files, for includes.
struct Files<'a> {
    root: &'a Path,
}

impl Loader for Files<'_> {
    fn load(&self, path: &str) -> Result<String, LoadError> {
        let path = fs::canonicalize(self.root.join(path)).map_err(|error| LoadError::new(cause(&error)))?;
        let text = inside(self.root, &path).and_then(|()| read_text(&path, LONGEST));
        text.map_err(|error| LoadError::new(error.to_string()))
    }
}

/// Shows `diagnostics`: with excerpts on a terminal, else one line each.
pub(crate) fn show(diagnostics: &Diagnostics, terminal: Terminal) {
    if terminal.interactive {
        let mut text = Text::default();
        text.coloured(&diagnostics.render_excerpt(terminal.color));
        terminal.say(text);
    } else {
        terminal.say(diagnostics.render_short());
    }
}

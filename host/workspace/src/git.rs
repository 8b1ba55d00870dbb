//! What git is asked, and how: read-only commands, side by side, that a cancelled run ends.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use rustix::io::Errno;

use self::run::{Output, RunError, run_together};
use self::variables::OF_REPOSITORY;
use crate::Error;

mod config;
mod run;
mod variables;

pub use self::variables::is_git_repository_variable;

/// A work tree as git sees it.
pub(crate) struct WorkTree {
    /// The git folder of this work tree alone, absolute.
    pub(crate) git_dir: PathBuf,
    /// The git folder that it shares with the repository's other work trees, absolute.
    pub(crate) common_dir: PathBuf,
    /// From the top of the work tree to the folder that was asked about: empty, or ending in `/`.
    pub(crate) prefix: PathBuf,
    pub(crate) head: Head,
    /// Settings that a copy needs too, as `(key, value)`.
    pub(crate) config: Vec<(String, Vec<u8>)>,
    /// All tracked and all untracked but not ignored files, each relative to the folder and ended by a NUL.
    pub(crate) listing: Vec<u8>,
    /// The files that git could not look at, in its own words, a line each: they are missing from the
    /// listing.
    pub(crate) warnings: Vec<String>,
}

/// The position of HEAD.
pub(crate) enum Head {
    /// At a commit, on a branch (its short name) or on none.
    Commit { sha: String, branch: Option<String> },
    /// At a ref that has no commit yet.
    Unborn { name: String },
}

/// A word that `git rev-parse` repeats as it is, so that paths with line breaks can be told apart.
const SEPARATOR: &str = "--loom-next";

/// Asks git about the work tree that `folder` is in. `None`: it is in none.
pub(crate) fn inspect(folder: &Path, cancel: &AtomicBool) -> Result<Option<WorkTree>, Error> {
    let mut facts = git(folder);
    facts.args(["rev-parse", "--absolute-git-dir", SEPARATOR, "--git-common-dir", SEPARATOR]);
    facts.args(["--show-prefix", SEPARATOR, "--revs-only", "HEAD", "--symbolic-full-name", "HEAD"]);
    let mut files = git(folder);
    files.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);

    let outputs = match run_together(&mut [files, facts], cancel) {
        Ok(outputs) => outputs,
        Err(RunError::Cancelled) => return Err(Error::Cancelled),
        Err(RunError::Io(source)) => {
            // To the system a missing folder and a missing git are the same.
            fs_err::metadata(folder).map_err(|_| Error::read(folder, Errno::NOENT))?;
            return match (marker(folder), source.kind()) {
                (None, _) => Ok(None),
                (Some(marker), std::io::ErrorKind::NotFound) => Err(Error::GitMissing { marker }),
                (Some(_), _) => Err(Error::GitStart { root: folder.to_owned(), source }),
            };
        }
    };
    let [files, facts] = &outputs[..] else {
        return Ok(None);
    };
    // `rev-parse` first: what it says of a repository that it cannot open is the same, but shorter.
    for (command, output) in [("rev-parse", facts), ("ls-files", files)] {
        if !output.status.success() {
            return match marker(folder) {
                None => Ok(None),
                Some(_) => Err(failed(folder, command, output)),
            };
        }
    }
    let Some(fields) = Fields::parse(&facts.stdout) else {
        return Err(failed(folder, "rev-parse", facts));
    };
    let head = match fields.commit {
        Some((sha, name)) => {
            Head::Commit { sha, branch: name.strip_prefix("refs/heads/").map(str::to_owned) }
        }
        None => Head::Unborn { name: unborn_name(folder, cancel)? },
    };
    let common_dir = folder.join(fields.common_dir);
    let top = folder.ancestors().nth(fields.prefix.components().count()).unwrap_or(folder);
    let [files, _] = <[Output; 2]>::try_from(outputs).unwrap_or_default();
    Ok(Some(WorkTree {
        git_dir: folder.join(fields.git_dir),
        config: config::kept(folder, top, &common_dir, cancel)?,
        common_dir,
        prefix: fields.prefix,
        head,
        listing: files.stdout,
        warnings: lines(&files.stderr),
    }))
}

/// The top level of the work tree that `folder` is in.
pub(crate) fn top_level(folder: &Path) -> Option<PathBuf> {
    let answer = ask(folder, &["rev-parse", "--show-toplevel"])?;
    let path = answer.strip_suffix(b"\n").filter(|path| !path.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

/// All tracked and all untracked but not ignored files below `folder`, each ended by a NUL; none where it is
/// in no work tree.
pub(crate) fn files(folder: &Path, cancel: &AtomicBool) -> Result<Option<Vec<u8>>, Error> {
    if marker(folder).is_none() {
        return Ok(None);
    }
    let mut command = git(folder);
    command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    run_one(command, folder, "ls-files", cancel).map(Some)
}

/// All tracked files below `folder`, those of its submodules too, of `below` only where that is not empty,
/// each ended by a NUL; none where it is in no work tree.
pub(crate) fn tracked(
    folder: &Path,
    below: &[PathBuf],
    cancel: &AtomicBool,
) -> Result<Option<Vec<u8>>, Error> {
    if marker(folder).is_none_or(|git_dir| waits(&git_dir)) {
        return Ok(None);
    }
    let list = |of: &[&str]| {
        let mut command = git(folder);
        command.args(["--literal-pathspecs", "ls-files", "-z", "--cached"]).args(of).arg("--").args(below);
        run_one(command, folder, "ls-files", cancel)
    };
    match list(&["--recurse-submodules"]) {
        // A submodule that git cannot open is no reason to know nothing of the others.
        Err(Error::Git { .. }) => list(&[]),
        listed => listed,
    }
    .map(Some)
}

/// The git folder that all work trees of the repository share, and the way from the top of the work tree to
/// `folder`.
pub(crate) fn common_dir(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let answer = ask(folder, &["rev-parse", "--git-common-dir", SEPARATOR, "--show-prefix"])?;
    let separator = format!("\n{SEPARATOR}\n");
    let at = memchr::memmem::find(&answer, separator.as_bytes())?;
    let (common_dir, prefix) = (&answer[..at], &answer[at + separator.len()..]);
    let prefix = prefix.strip_suffix(b"\n").unwrap_or(prefix);
    let found = (folder.join(OsStr::from_bytes(common_dir)), PathBuf::from(OsStr::from_bytes(prefix)));
    is_linked_back(folder).then_some(found)
}

/// Whether the repository that the `.git` of `folder` names knows of it: a file can name any repository, a
/// folder is one.
fn is_linked_back(folder: &Path) -> bool {
    let Some(marker) = marker(folder) else { return true };
    if !fs_err::symlink_metadata(&marker).is_ok_and(|meta| meta.is_file()) {
        return !marker.is_symlink();
    }
    let Some(answer) = ask(folder, &["rev-parse", "--absolute-git-dir"]) else { return false };
    let git_dir = PathBuf::from(OsStr::from_bytes(answer.strip_suffix(b"\n").unwrap_or(&answer)));
    let is_same = |path: PathBuf, other: &Path| {
        fs_err::canonicalize(path)
            .is_ok_and(|path| fs_err::canonicalize(other).is_ok_and(|other| path == other))
    };
    // Of a linked work tree, the repository notes the path of its `.git`; of a submodule, that of its work
    // tree.
    let noted = fs_err::read_to_string(git_dir.join("gitdir")).unwrap_or_default();
    if is_same(git_dir.join(noted.trim_end()), &marker) {
        return true;
    }
    let Some(config) = git_dir.join("config").to_str().map(str::to_owned) else { return false };
    let work_tree = ask(folder, &["config", "--file", &config, "--get", "core.worktree"]).unwrap_or_default();
    let work_tree = PathBuf::from(OsStr::from_bytes(work_tree.strip_suffix(b"\n").unwrap_or(&work_tree)));
    !work_tree.as_os_str().is_empty()
        && marker.parent().is_some_and(|top| is_same(git_dir.join(work_tree), top))
}

/// The short name of the branch that is checked out, also where it has no commit.
pub(crate) fn branch(folder: &Path) -> Option<String> {
    let answer = ask(folder, &["symbolic-ref", "--quiet", "--short", "HEAD"])?;
    String::from_utf8(answer).ok().map(|name| name.trim_end().to_owned())
}

/// The URL of the remote `origin`.
pub(crate) fn origin(folder: &Path) -> Option<String> {
    let answer = ask(folder, &["config", "--get", "remote.origin.url"])?;
    String::from_utf8(answer).ok().map(|url| url.trim_end().to_owned())
}

/// Whether git waits for ever when it opens `git_dir`, for the other end of a pipe.
fn waits(git_dir: &Path) -> bool {
    let is_no_file = |name: &&str| fs_err::metadata(git_dir.join(name)).is_ok_and(|meta| !meta.is_file());
    ["HEAD", "config", "commondir"].iter().any(is_no_file)
}

/// Git's answer about `folder`; `None` where it has no answer.
fn ask(folder: &Path, args: &[&str]) -> Option<Vec<u8>> {
    // Nobody can cancel this.
    if marker(folder).is_some_and(|git_dir| waits(&git_dir)) {
        return None;
    }
    let mut command = git(folder);
    command.args(args);
    let outputs = run_together(&mut [command], &AtomicBool::new(false)).ok()?;
    outputs.into_iter().next().filter(|output| output.status.success()).map(|output| output.stdout)
}

/// All refs as the lines of a `packed-refs` file, for a repository that keeps them in another format.
pub(crate) fn refs_as_packed(folder: &Path, cancel: &AtomicBool) -> Result<Vec<u8>, Error> {
    let mut command = git(folder);
    command.args(["for-each-ref", "--format=%(objectname) %(refname)"]);
    run_one(command, folder, "for-each-ref", cancel)
}

/// Tells the index of the repository at `top` that only what is under `prefix` is in its work tree.
pub(crate) fn skip_outside(top: &Path, prefix: &Path, cancel: &AtomicBool) -> Result<(), Error> {
    let mut command = git(top);
    command.args(["ls-files", "-z", "--stage"]);
    let listing = run_one(command, top, "ls-files", cancel)?;
    let mut outside = Vec::new();
    for entry in listing.split(|&byte| byte == 0) {
        // `<mode> <object> <stage>\t<path>`; a path with a conflict (stages 1 to 3) cannot be marked.
        let Some(tab) = entry.iter().position(|&byte| byte == b'\t') else {
            continue;
        };
        let (head, path) = (&entry[..tab], &entry[tab + 1..]);
        if head.ends_with(b" 0") && !path.starts_with(prefix.as_os_str().as_bytes()) {
            outside.extend_from_slice(path);
            outside.push(0);
        }
    }
    if outside.is_empty() {
        return Ok(());
    }
    let start_error = |source| Error::GitStart { root: top.to_owned(), source };
    let mut command = git(top);
    command.args(["update-index", "-z", "--skip-worktree", "--stdin"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(start_error)?;
    // It writes nothing before its input ends, so neither side can wait for the other. Where it ends early,
    // its own words say more than the broken pipe.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(&outside);
    }
    let output = child.wait_with_output().map_err(start_error)?;
    if output.status.success() {
        return Ok(());
    }
    let output = Output { status: output.status, stdout: output.stdout, stderr: output.stderr };
    Err(failed(top, "update-index", &output))
}

/// A git that reads `folder` and nothing else that its caller's environment names, as a hook of git would
/// have it.
fn git(folder: &Path) -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "git is asked what belongs to the repository before there is a run whose processes the engine keeps"
    )]
    let mut command = Command::new("git");
    // A group of its own: an interrupt from the terminal reaches Loom, which ends git and says why.
    command
        .process_group(0)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Settings that stand in numbered variables are nobody's without `GIT_CONFIG_COUNT`.
    for name in OF_REPOSITORY {
        command.env_remove(name);
    }
    // Reading must not write: no refreshed index, no daemon that outlives the question.
    command.env("GIT_OPTIONAL_LOCKS", "0");
    // Empty, because older gits take `false` for the name of a program.
    command.args(["-c", "core.fsmonitor="]);
    command
}

/// The `.git` of the nearest folder at or above `folder` that has one, on the same file system, as git looks
/// for it.
fn marker(folder: &Path) -> Option<PathBuf> {
    let device = fs_err::metadata(folder).ok()?.dev();
    folder
        .ancestors()
        .take_while(|ancestor| fs_err::metadata(ancestor).is_ok_and(|meta| meta.dev() == device))
        .map(|ancestor| ancestor.join(".git"))
        .find(|marker| fs_err::symlink_metadata(marker).is_ok())
}

/// The ref that HEAD names while it has no commit.
fn unborn_name(folder: &Path, cancel: &AtomicBool) -> Result<String, Error> {
    let mut command = git(folder);
    command.args(["symbolic-ref", "HEAD"]);
    let name = run_one(command, folder, "symbolic-ref", cancel)?;
    Ok(String::from_utf8_lossy(&name).trim_end().to_owned())
}

/// The answer of `git rev-parse`.
struct Fields {
    git_dir: PathBuf,
    common_dir: PathBuf,
    prefix: PathBuf,
    /// Object name and full name of HEAD, where it has a commit.
    commit: Option<(String, String)>,
}

impl Fields {
    fn parse(text: &[u8]) -> Option<Self> {
        let separator = format!("{SEPARATOR}\n");
        let mut rest = text;
        let mut path = || {
            let at = rest.windows(separator.len()).position(|window| window == separator.as_bytes())?;
            let field = rest[..at].strip_suffix(b"\n").unwrap_or(&rest[..at]);
            rest = &rest[at + separator.len()..];
            Some(PathBuf::from(OsStr::from_bytes(field)))
        };
        let (git_dir, common_dir, prefix) = (path()?, path()?, path()?);
        let mut lines = std::str::from_utf8(rest).ok()?.lines();
        let commit = match (lines.next(), lines.next()) {
            (Some(sha), name) => Some((sha.to_owned(), name.unwrap_or("HEAD").to_owned())),
            (None, _) => None,
        };
        Some(Self { git_dir, common_dir, prefix, commit })
    }
}

fn lines(text: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(text).lines().map(str::to_owned).collect()
}

fn failed(folder: &Path, command: &'static str, output: &Output) -> Error {
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let words = if words.is_empty() { output.status.to_string() } else { words };
    Error::Git { root: folder.to_owned(), command, words }
}

fn run_one(
    command: Command,
    folder: &Path,
    name: &'static str,
    cancel: &AtomicBool,
) -> Result<Vec<u8>, Error> {
    let outputs = run_together(&mut [command], cancel).map_err(|error| match error {
        RunError::Cancelled => Error::Cancelled,
        RunError::Io(source) => Error::GitStart { root: folder.to_owned(), source },
    })?;
    match outputs.into_iter().next() {
        Some(output) if output.status.success() => Ok(output.stdout),
        Some(output) => Err(failed(folder, name, &output)),
        None => Ok(Vec::new()),
    }
}

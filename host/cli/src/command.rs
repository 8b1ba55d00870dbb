//! The commands.

mod cache;
mod check;
mod clean;
mod compile;
mod config;
mod init;
mod kept;
mod mask;
mod named;
mod run;
mod runs;
mod schema;
mod secrets;
mod source;

use std::path::{Path, PathBuf};

use loom_contract::error::{ErrorInfo, code};
use loom_contract::exit;
use loom_ownership::PrivateFolder;
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Command, Config, Secrets};
use crate::config::{CONFIG_INVALID, Effective, Flags};
use crate::terminal::{self, Log, Terminal};
use crate::text::Text;
use crate::{failure, files, settings};

/// Does what the command line asks. Returns the exit code. This is where errors are told; what a run that
/// has begun ended with is told by the run itself, below its receipt.
pub(crate) fn run(args: Args) -> i32 {
    let terminal = Terminal::new(args.color);
    if let Some(filter) = settings::log_filter() {
        let subscriber = tracing_subscriber::fmt().with_writer(move || Log(terminal)).with_ansi(false);
        match EnvFilter::try_new(filter) {
            Ok(filter) => subscriber.with_env_filter(filter).init(),
            Err(error) => terminal.say(format!("warning: LOOM_LOG is no filter: {error}\n")),
        }
    }
    let (name, done) = match args.command {
        Command::Run(args) => ("run", run::run(&args, terminal)),
        Command::Shell(args) => ("shell", run::shell(&args, terminal)),
        Command::Check(args) => ("check", check::check(&args, terminal)),
        Command::Compile(args) => ("compile", compile::compile(&args, terminal)),
        Command::Config(Config::Show) => ("config show", config::show()),
        Command::Config(Config::Init { user }) => ("config init", config::init(user, terminal)),
        Command::Cache(args) => ("cache", cache::cache(&args, terminal)),
        Command::Runs(args) => ("runs", runs::runs(&args, terminal)),
        Command::Clean(args) => ("clean", clean::clean(&args, terminal)),
        Command::Secrets(Secrets::Keepass(args)) => ("secrets keepass", secrets::keepass(&args, terminal)),
        Command::Mask { whole } => ("mask", mask::mask(whole, terminal)),
        Command::Schema { format } => ("schema", schema::schema(format)),
        Command::Init { print } => ("init", init::init(print, terminal)),
        Command::Version => ("version", print(format!("loom {}\n", env!("CARGO_PKG_VERSION")))),
        Command::Guard { ledger, secrets_dir } => {
            loom_engine::guard::watch(&ledger, &secrets_dir, std::io::stdin());
            ("guard", Ok(exit::SUCCESS))
        }
    };
    let exit_code = done.unwrap_or_else(|error| {
        terminal.say(failure::told(name, &error));
        exit::FAILURE
    });
    // A run's words are written by a thread, which ends with this process.
    terminal::drain();
    exit_code
}

/// The exit code of a command, or the error that ended it.
type Done = Result<i32, ErrorInfo>;

/// Prints what was asked for.
fn print(text: impl Into<Text>) -> Done {
    terminal::print(text).map(|()| exit::SUCCESS)
}

/// What holds in the repository at `repo_root` when the command line says `flags`.
///
/// # Errors
/// As of [`settings::effective`]; or the repository's config file is a link that leads out of it.
fn effective(repo_root: &Path, flags: Flags) -> Result<Effective, ErrorInfo> {
    let file = settings::repo_config(repo_root);
    files::inside(repo_root, &file).map_err(|error| {
        let message = format!("cannot read {}: {error}", file.display());
        ErrorInfo::new(CONFIG_INVALID, message).with_hint("put the file itself there")
    })?;
    settings::effective(Some(repo_root), flags)
}

/// The command line, word by word.
fn command_line() -> Vec<String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The current folder, without symbolic links.
fn current_dir() -> Result<PathBuf, ErrorInfo> {
    std::env::current_dir().and_then(fs_err::canonicalize).map_err(|error| {
        let message = format!("cannot find the current folder: {error}");
        ErrorInfo::new(code::WORKFLOW_UNREADABLE, message)
    })
}

/// Where the caches of all repositories are in the cache folder.
const CACHES: &str = "cache";

/// The folder for the caches of the repository at `repo_root`, below `cache_dir`; made where it does not exist.
///
/// # Errors
/// Somebody else could write there.
fn cache_store(cache_dir: &PrivateFolder, repo_root: &Path) -> Result<PrivateFolder, loom_ownership::Error> {
    let own = loom_workspace::repo_cache_dir(Path::new(""), repo_root);
    cache_dir.folder(CACHES)?.folder(&own.to_string_lossy())
}

/// The same for who only looks: nothing is made.
///
/// # Errors
/// As there.
fn known_cache_store(cache_dir: &Path, repo_root: &Path) -> Result<PathBuf, loom_ownership::Error> {
    let own = loom_workspace::repo_cache_dir(Path::new(""), repo_root);
    if cache_dir.is_dir()
        && let Some(stores) = PrivateFolder::open_or_make(cache_dir)?.existing(CACHES)?
        && let Some(store) = stores.existing(&own.to_string_lossy())?
    {
        return Ok(store.path().to_owned());
    }
    Ok(cache_dir.join(CACHES).join(own))
}

fn ownership_error(code: &'static str, error: &loom_ownership::Error) -> ErrorInfo {
    let info = ErrorInfo::new(code, error.to_string());
    match error.hint() {
        Some(hint) => info.with_hint(hint),
        None => info,
    }
}

fn cache_error(error: &loom_cache::Error) -> ErrorInfo {
    let info = ErrorInfo::new(code::CACHE_FAILED, error.to_string());
    match error.hint() {
        Some(hint) => info.with_hint(hint),
        None => info,
    }
}

/// The root of the current folder's repository; the current folder itself where it is in none.
fn repo_root_or_here() -> Result<PathBuf, ErrorInfo> {
    let here = current_dir()?;
    Ok(loom_workspace::find_repo_root(&here).unwrap_or(here))
}

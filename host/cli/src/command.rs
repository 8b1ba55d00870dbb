//! The commands.

mod cache;
mod check;
mod compile;
mod config;
mod init;
mod mask;
mod run;
mod schema;
mod secrets;
mod source;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use loom_contract::error::{ErrorInfo, code};
use loom_contract::exit;
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Command};
use crate::settings;
use crate::terminal::{self, Terminal};

/// Does what the command line asks. Returns the exit code.
pub(crate) fn run(args: Args) -> i32 {
    if let Some(filter) = settings::log_filter() {
        let subscriber = tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_env_filter(EnvFilter::new(filter));
        subscriber.init();
    }
    let terminal = Terminal::new(args.color);
    match args.command {
        Command::Run(args) => run::run(&args, terminal),
        Command::Check(args) => check::check(&args, terminal),
        Command::Compile(args) => compile::compile(&args, terminal),
        Command::Config(args) => config::config(&args, terminal),
        Command::Cache(args) => cache::cache(&args, terminal),
        Command::Secrets(args) => secrets::secrets(&args, terminal),
        Command::Mask { whole } => mask::mask(whole, terminal),
        Command::Schema { format } => schema::schema(format),
        Command::Init => init::init(terminal),
        Command::Version => print(format!("loom {}\n", env!("CARGO_PKG_VERSION")).as_bytes()),
        Command::Guard { run_id, secrets_dir } => {
            loom_engine::guard::watch(&run_id, &secrets_dir, std::io::stdin());
            exit::SUCCESS
        }
    }
}

/// Prints what was asked for. A reader that stops reading early (`| head`) has what it wanted.
fn print(text: &[u8]) -> i32 {
    match terminal::print(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => exit::FAILURE,
        _ => exit::SUCCESS,
    }
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

/// The folder for the caches of the repository at `repo_root`.
fn cache_store(cache_dir: &Path, repo_root: &Path) -> PathBuf {
    loom_workspace::repo_cache_dir(&cache_dir.join("cache"), repo_root)
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

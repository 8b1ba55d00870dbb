//! The commands.

mod check;
mod compile;
mod run;
mod source;

use std::io::IsTerminal as _;

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
        Command::Version => print(format!("loom {}\n", env!("CARGO_PKG_VERSION")).as_bytes()),
        Command::Guard { run_id } => {
            loom_engine::guard::watch(&run_id, std::io::stdin());
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

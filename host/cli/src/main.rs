//! The `loom` command: words, flags, wiring. The only part of Loom that prints, reads the environment or exits.

mod args;
mod command;
mod config;
mod failure;
mod files;
mod plugins;
mod report;
mod settings;
mod terminal;
mod text;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser as _;
use loom_contract::exit;

fn main() -> ExitCode {
    // Before anything else: the environment, which may hold what unlocks vaults, is in it from the start.
    loom_engine::secrets::keep_memory_private();
    std::panic::set_hook(Box::new(terminal::panicked));
    // A write beyond the limit of file sizes is an error like any other, which says which file it was.
    let beyond = Arc::new(AtomicBool::new(false));
    if let Err(error) = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, beyond) {
        tracing::error!(%error, "a file that grows beyond the limit will end this process");
    }
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to stdout with code 0; a wrong command line to stderr with code 2.
            let code = if error.use_stderr() { exit::USAGE } else { exit::SUCCESS };
            terminal::show_usage(&error);
            return exit_code(code);
        }
    };
    exit_code(command::run(args))
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

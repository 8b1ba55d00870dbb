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

use clap::Parser as _;
use loom_contract::exit;

fn main() -> ExitCode {
    // Before anything else: the environment, which may hold what unlocks vaults, is in it from the start.
    loom_engine::secrets::keep_memory_private();
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

//! `loom config show` and `loom config init`.

use loom_contract::error::ErrorInfo;
use loom_contract::exit;

use crate::args::Config;
use crate::config::{self, Flags};
use crate::files;
use crate::terminal::Terminal;
use crate::{failure, settings};

pub(crate) fn config(args: &Config, terminal: Terminal) -> i32 {
    let (name, result) = match args {
        Config::Show => ("show", show()),
        Config::Init { user } => ("init", init(*user, terminal)),
    };
    result.unwrap_or_else(|error| {
        terminal.say(&format!("loom config {name}: {}\n", failure::words(&error)));
        exit::FAILURE
    })
}

fn show() -> Result<i32, ErrorInfo> {
    let repo_root = loom_workspace::find_repo_root(&super::current_dir()?);
    let effective = settings::effective(repo_root.as_deref(), Flags::default())?;
    Ok(super::print(config::show(&effective).as_bytes()))
}

fn init(user: bool, terminal: Terminal) -> Result<i32, ErrorInfo> {
    let path = if user {
        settings::user_config().ok_or_else(|| {
            ErrorInfo::new(
                config::CONFIG_INVALID,
                "no place for the user's config file: neither XDG_CONFIG_HOME nor HOME is set",
            )
            .with_hint("set one of them to an absolute path")
        })?
    } else {
        settings::repo_config(&super::repo_root_or_here()?)
    };
    files::write_new(&path, config::STARTER)?;
    terminal.say(&format!("wrote {}\n", path.display()));
    Ok(exit::SUCCESS)
}

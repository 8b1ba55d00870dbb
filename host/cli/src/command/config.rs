//! `loom config show` and `loom config init`.

use loom_contract::error::ErrorInfo;
use loom_contract::exit;

use crate::command::Done;
use crate::config::{self, Flags};
use crate::terminal::Terminal;
use crate::{files, settings};

/// `loom config show`
pub(crate) fn show() -> Done {
    let repo_root = loom_workspace::find_repo_root(&super::current_dir()?);
    let effective = match repo_root {
        Some(root) => super::effective(&root, Flags::default()),
        None => settings::effective(None, Flags::default()),
    };
    super::print(config::show(&effective?))
}

/// `loom config init`
pub(crate) fn init(user: bool, terminal: Terminal) -> Done {
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
    terminal.say(format!("wrote {}\n", path.display()));
    Ok(exit::SUCCESS)
}

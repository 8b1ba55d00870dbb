//! `loom runs`: the records of runs.

use std::fmt::Write as _;
use std::path::Path;

use loom_contract::error::{ErrorInfo, code};
use loom_contract::exit;
use loom_contract::id::RunId;
use loom_contract::visible::on_one_line;

use crate::args::Runs;
use crate::command::Done;
use crate::terminal::Terminal;

/// The word for the newest run.
const LATEST: &str = "latest";
/// Runs that are listed where none is meant.
const LISTED: usize = 5;

pub(crate) fn runs(args: &Runs, terminal: Terminal) -> Done {
    let repo_root = super::repo_root_or_here()?;
    let (name, act, done, nothing_to_do): (_, fn(&Path, &RunId) -> _, _, _) = match args {
        Runs::Pin(name) => (name, loom_record::pin, "pinned", "was pinned before"),
        Runs::Unpin(name) => (name, loom_record::unpin, "not pinned any more", "was not pinned"),
    };
    let id = find(&repo_root, &name.run)?;
    let changed = act(&repo_root, &id).map_err(|error| error.to_info())?;
    terminal.say(format!("{id}: {}\n", if changed { done } else { nothing_to_do }));
    Ok(exit::SUCCESS)
}

/// The one run of the repository at `repo_root` that `name` means.
fn find(repo_root: &Path, name: &str) -> Result<RunId, ErrorInfo> {
    let receipts = loom_record::read::receipts(repo_root);
    let ids: Vec<RunId> =
        receipts.iter().filter_map(|path| RunId::new(path.file_stem()?.to_str()?).ok()).collect();
    let meant: Vec<&RunId> = match name {
        LATEST => ids.first().into_iter().collect(),
        _ => ids.iter().filter(|id| !name.is_empty() && id.as_str().ends_with(name)).collect(),
    };
    let (message, runs) = match meant.as_slice() {
        [only] => return Ok((*only).clone()),
        [] if ids.is_empty() => {
            (format!("there is no run `{}`: no run has left a record here", on_one_line(name)), Vec::new())
        }
        [] => {
            let message = format!("no run has an id that ends in `{}`; the newest are", on_one_line(name));
            (message, ids.iter().take(LISTED).collect())
        }
        several => {
            (format!("the ids of {} runs end in `{}`", several.len(), on_one_line(name)), several.to_vec())
        }
    };
    let mut text = message;
    for id in runs.iter().take(LISTED) {
        let _ = write!(text, "\n  {id}");
    }
    Err(ErrorInfo::new(code::RECORD_FAILED, text))
}

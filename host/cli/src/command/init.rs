//! `loom init`: looks at what the repository has, and writes a first workflow that runs it.
//!
//! ```text
//! files --ecosystem--> checks of Cargo, Node, Go, Python --+
//! files --tasks------> checks of make, task, just ---------+--choose--> Draft --page--> YAML
//! ```

mod ecosystem;
mod page;
mod tasks;

use std::collections::BTreeSet;
use std::path::Path;

use loom_contract::{exit, layout};

use crate::command::Done;
use crate::files;
use crate::terminal::Terminal;

/// The longest file that is looked at, in bytes.
const LONGEST: u64 = 4 << 20;

pub(crate) fn init(terminal: Terminal) -> Done {
    let root = super::repo_root_or_here()?;
    let (draft, warnings) = look(&Repo { root: &root });
    let path = root.join(layout::DEFAULT_WORKFLOW);
    files::write_new(&path, &page::page(&draft))?;
    let mut words: String = warnings.iter().map(|words| format!("warning: {words}\n")).collect();
    words.push_str(&format!("wrote {}\n", path.display()));
    if draft.jobs.is_empty() {
        words.push_str("nothing was recognised to run; the workflow says hello\n");
    } else {
        let names: Vec<&str> = draft.jobs.iter().map(|job| job.name.as_str()).collect();
        words.push_str(&format!("jobs: {}\n", names.join(", ")));
    }
    words.push_str("next: loom run --local\n");
    terminal.say(words);
    Ok(exit::SUCCESS)
}

/// What a job is for. The order is that of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Install,
    Format,
    Lint,
    Types,
    Check,
    Build,
    Test,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Format => "format",
            Self::Lint => "lint",
            Self::Types => "types",
            Self::Check => "check",
            Self::Build => "build",
            Self::Test => "test",
        }
    }

    fn stage(self) -> &'static str {
        match self {
            Self::Install => "prepare",
            Self::Format | Self::Lint | Self::Types | Self::Check => "check",
            Self::Build => "build",
            Self::Test => "test",
        }
    }
}

/// Something that the repository can be asked to do.
#[derive(Debug)]
struct Check {
    kind: Kind,
    /// Steps, as typed in a shell; nothing in them needs YAML's quotes.
    script: Vec<String>,
    /// Why it is there, for a comment.
    because: String,
    /// Whether something in the repository asks for it. If not, it becomes a comment.
    asked: bool,
}

/// All that one tool offers.
#[derive(Debug)]
struct Offer {
    /// The tool, as it stands in the names of jobs.
    tool: &'static str,
    checks: Vec<Check>,
    /// What its checks do besides, since they run other tasks.
    besides: Vec<Kind>,
}

/// A workflow that is to be written.
#[derive(Debug, Default)]
struct Draft {
    jobs: Vec<Job>,
    /// Jobs that nothing asks for.
    suggestions: Vec<Job>,
}

#[derive(Debug)]
struct Job {
    name: String,
    check: Check,
}

/// The repository's files.
struct Repo<'a> {
    root: &'a Path,
}

impl Repo<'_> {
    /// The text of the first of `names` that exists, with its name.
    ///
    /// # Errors
    /// It cannot be read; in words.
    fn first<'n>(&self, names: &[&'n str]) -> Result<Option<(&'n str, String)>, String> {
        let Some(name) = names.iter().find(|name| self.has(name)) else {
            return Ok(None);
        };
        match files::read_text(&self.root.join(name), LONGEST) {
            Ok(text) => Ok(Some((name, text))),
            Err(error) => Err(format!("cannot read {name}, which is passed over: {error}")),
        }
    }

    /// The text of the file `name`, where there is one that can be read.
    fn text(&self, name: &str) -> Option<String> {
        files::read_text(&self.root.join(name), LONGEST).ok()
    }

    fn has(&self, name: &str) -> bool {
        self.root.join(name).is_file()
    }
}

/// What one tool offers, where the repository uses it; else which of its files could not be looked at, in words.
type Look = fn(&Repo<'_>) -> Result<Option<Offer>, String>;

/// The repository's own tasks.
const TASKS: [Look; 3] = [tasks::make, tasks::task, tasks::just];
/// The languages.
const ECOSYSTEMS: [Look; 4] = [ecosystem::cargo, ecosystem::node, ecosystem::go, ecosystem::python];

/// What `repo` can be asked to do, and what could not be looked at.
fn look(repo: &Repo<'_>) -> (Draft, Vec<String>) {
    let mut warnings = Vec::new();
    let mut offers = |looks: &[Look]| -> Vec<Offer> {
        let offers = looks.iter().map(|look| look(repo));
        offers
            .filter_map(|offer| {
                offer.unwrap_or_else(|words| {
                    warnings.push(words);
                    None
                })
            })
            .collect()
    };
    let tasks = offers(&TASKS);
    let ecosystems = offers(&ECOSYSTEMS);
    (choose(tasks, ecosystems), warnings)
}

/// One job for each thing to do. A task of the repository's own wins over what its language would do for the same
/// thing, since it most likely does just that.
fn choose(tasks: Vec<Offer>, ecosystems: Vec<Offer>) -> Draft {
    let mut draft = Draft::default();
    let mut done = BTreeSet::new();
    for offer in tasks {
        for check in offer.checks {
            if done.insert(check.kind) {
                draft.jobs.push(Job { name: check.kind.name().to_owned(), check });
            }
        }
        done.extend(offer.besides);
    }
    let several = ecosystems.iter().filter(|offer| !offer.checks.is_empty()).count() > 1;
    for offer in ecosystems {
        for check in offer.checks {
            if done.contains(&check.kind) {
                continue;
            }
            let kind = check.kind.name();
            let name = if several { format!("{}-{kind}", offer.tool) } else { kind.to_owned() };
            let jobs = if check.asked { &mut draft.jobs } else { &mut draft.suggestions };
            jobs.push(Job { name, check });
        }
    }
    // Installing what nothing uses is no check.
    if draft.jobs.iter().all(|job| job.check.kind == Kind::Install) {
        draft.jobs.clear();
    }
    draft.jobs.sort_by_key(|job| job.check.kind);
    draft
}

//! `loom init`: looks at what the repository has, and writes a first workflow that runs it.
//!
//! ```text
//! files --stacks, ecosystem, python--> checks of languages and their tools --+
//! files --tasks----------------------> checks of make, task, just, mise -----+--choose--> Draft --page--> YAML
//! folders with such files -----------> the same for each of them ------------+
//! ```

mod ecosystem;
mod elsewhere;
mod page;
mod python;
mod stacks;
mod tasks;
mod tools;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use loom_contract::{exit, layout};

use crate::command::Done;
use crate::files;
use crate::terminal::{self, Terminal};

/// The longest file that is looked at, in bytes.
const LONGEST: u64 = 4 << 20;
/// Folders that are looked into, at most.
const MOST_FOLDERS: usize = 50;
/// The longest name of such a folder: with the words of its jobs it is one of theirs.
const LONGEST_NAME: usize = 40;
/// Folders that belong to others, where somebody tracks them.
const NOT_LOOKED_INTO: [&str; 3] = ["node_modules", "third_party", "vendor"];

pub(crate) fn init(prints: bool, terminal: Terminal) -> Done {
    let root = super::repo_root_or_here()?;
    let (draft, warnings) = look(&root);
    let text = page::page(&draft);
    let mut words: String = warnings.iter().map(|words| format!("warning: {words}\n")).collect();
    if prints {
        terminal::print(&text)?;
    } else {
        let path = root.join(layout::DEFAULT_WORKFLOW);
        files::write_new(&path, &text)?;
        words.push_str(&format!("wrote {}\n", path.display()));
        // What is there is most likely the same, and may be somebody's own.
        let schema = path.with_file_name(page::SCHEMA);
        if schema.symlink_metadata().is_err() {
            files::write_new(&schema, &terminal::json(&loom_workflow::json_schema()))?;
            words.push_str(&format!("wrote {}, with which editors complete and check\n", schema.display()));
        }
    }
    if draft.jobs.is_empty() {
        words.push_str("nothing was recognised to run; the workflow says hello\n");
    } else {
        let names: Vec<&str> = draft.jobs.iter().map(|job| job.name.as_str()).collect();
        words.push_str(&format!("jobs: {}\n", names.join(", ")));
    }
    for (program, job, step) in tools::missing(&draft, &root) {
        let place = page::line_of(&text, step).map(|line| format!("{}:{line}: ", layout::DEFAULT_WORKFLOW));
        let place = place.unwrap_or_default();
        words.push_str(&format!("warning: {place}`{program}` is not on the PATH; job `{job}` needs it\n"));
    }
    for found in elsewhere::found(&root) {
        words.push_str(&format!("note: {found} is not converted: compare it with what was written\n"));
    }
    if !prints {
        words.push_str("next: loom run --local\n");
    }
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

    /// Whether later jobs work with what one of this kind leaves.
    fn is_for_others(self) -> bool {
        matches!(self, Self::Install | Self::Build)
    }
}

/// Something that the repository can be asked to do.
#[derive(Debug, Clone)]
struct Check {
    kind: Kind,
    /// How the job is called, where that is not by its kind.
    name: Option<&'static str>,
    /// Steps, as typed in a shell; nothing in them needs YAML's quotes.
    script: Vec<String>,
    variables: Vec<(&'static str, &'static str)>,
    cache: Option<Cache>,
    /// Why it is there, for a comment.
    because: String,
    /// Whether something in the repository asks for it. If not, it becomes a comment.
    asked: bool,
}

impl Check {
    fn new<S: AsRef<str>>(kind: Kind, script: &[S], because: impl Into<String>) -> Self {
        Self {
            kind,
            name: None,
            script: script.iter().map(|step| step.as_ref().to_owned()).collect(),
            variables: Vec::new(),
            cache: None,
            because: because.into(),
            asked: true,
        }
    }

    fn asked(mut self, asked: bool) -> Self {
        self.asked = asked;
        self
    }

    fn cached(mut self, cache: Cache) -> Self {
        self.cache = Some(cache);
        self
    }
}

/// Folders of the workspace that are worth keeping from run to run.
#[derive(Debug, Clone)]
struct Cache {
    /// What its key begins with.
    prefix: String,
    /// The files that say what is in the folders.
    files: Vec<String>,
    paths: Vec<String>,
    /// Whether an entry of other files is better than none.
    falls_back: bool,
}

impl Cache {
    fn new(prefix: &str, files: &[&str], paths: &[&str]) -> Self {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Self { prefix: prefix.to_owned(), files: texts(files), paths: texts(paths), falls_back: false }
    }

    /// Of what a tool brings up to date by itself.
    fn or_older(mut self) -> Self {
        self.falls_back = true;
        self
    }
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

fn offer(tool: &'static str, checks: Vec<Check>) -> Option<Offer> {
    Some(Offer { tool, checks, besides: Vec::new() })
}

/// A workflow that is to be written.
#[derive(Debug, Default)]
struct Draft {
    jobs: Vec<Job>,
    /// Jobs that nothing asks for.
    suggestions: Vec<Job>,
}

impl Draft {
    fn names(&self) -> impl Iterator<Item = &String> {
        self.jobs.iter().chain(&self.suggestions).map(|job| &job.name)
    }
}

#[derive(Debug)]
struct Job {
    name: String,
    check: Check,
    needs: Vec<String>,
}

/// A folder with a project in it: the repository, or one below.
struct Repo {
    root: PathBuf,
}

impl Repo {
    /// The text of the first of `names` that exists, with its name.
    ///
    /// # Errors
    /// It cannot be read; in words.
    fn first<'n>(&self, names: &[&'n str]) -> Result<Option<(&'n str, String)>, String> {
        let Some(name) = self.first_name(names) else {
            return Ok(None);
        };
        match files::read_text(&self.root.join(name), LONGEST) {
            Ok(text) => Ok(Some((name, text))),
            Err(error) => Err(format!("cannot read {name}, which is passed over: {error}")),
        }
    }

    /// The first of `names` that exists.
    fn first_name<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().copied().find(|name| self.has(name))
    }

    /// Those of `names` that exist.
    fn those<'n>(&self, names: &[&'n str]) -> Vec<&'n str> {
        names.iter().copied().filter(|name| self.has(name)).collect()
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
type Look = fn(&Repo) -> Result<Option<Offer>, String>;

/// The repository's own tasks.
const TASKS: [Look; 4] = [tasks::make, tasks::task, tasks::just, tasks::mise];
/// The languages and their tools; those of the table `stacks::STACKS` besides.
const ECOSYSTEMS: [Look; 5] =
    [ecosystem::cargo, ecosystem::node, ecosystem::go, python::python, ecosystem::ruby];

/// What the repository at `root` can be asked to do, and what could not be looked at.
fn look(root: &Path) -> (Draft, Vec<String>) {
    let mut warnings = Vec::new();
    let repo = Repo { root: root.to_owned() };
    let tasks = offers(&repo, &TASKS, &mut warnings);
    let mut ecosystems = offers(&repo, &ECOSYSTEMS, &mut warnings);
    ecosystems.extend(stacks::look(&repo));
    // What the root has, it has for the folders below, too, as workspaces do.
    let known: BTreeSet<&str> = tasks.iter().chain(&ecosystems).map(|offer| offer.tool).collect();
    let below = folders(root).unwrap_or_else(|words| {
        warnings.push(words);
        Vec::new()
    });
    let mut drafts = Vec::new();
    for (folder, repo) in below {
        let mut unread = Vec::new();
        let tasks = if tasks.is_empty() { offers(&repo, &TASKS, &mut unread) } else { Vec::new() };
        let mut ecosystems = offers(&repo, &ECOSYSTEMS, &mut unread);
        ecosystems.extend(stacks::look(&repo));
        ecosystems.retain(|offer| !known.contains(offer.tool));
        drafts.push((choose(tasks, ecosystems, Some(&folder)), folder.clone()));
        warnings.extend(unread.into_iter().map(|words| format!("in {folder}: {words}")));
    }
    let mut draft = choose(tasks, ecosystems, None);
    let mut names: BTreeSet<String> = draft.names().cloned().collect();
    for (more, folder) in drafts {
        let before = names.len();
        names.extend(more.names().cloned());
        if names.len() < before + more.names().count() {
            warnings.push(format!("{folder} is passed over: its jobs would be called like others"));
            continue;
        }
        draft.jobs.extend(more.jobs);
        draft.suggestions.extend(more.suggestions);
    }
    draft.jobs.sort_by_key(|job| job.check.kind);
    (draft, warnings)
}

fn offers(repo: &Repo, looks: &[Look], warnings: &mut Vec<String>) -> Vec<Offer> {
    let offers = looks.iter().map(|look| look(repo));
    let found = offers.filter_map(|offer| {
        offer.unwrap_or_else(|words| {
            warnings.push(words);
            None
        })
    });
    found.collect()
}

/// The folders right below `root` that are in a run's copy of it, and whose names can be those of jobs and need no quotes
/// anywhere.
///
/// # Errors
/// It cannot be said which files there are; in words.
fn folders(root: &Path) -> Result<Vec<(String, Repo)>, String> {
    let files = loom_workspace::list_files(root, &AtomicBool::new(false))
        .map_err(|error| format!("folders below are not looked into: {error}"))?;
    let is_plain = |name: &&str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        name.len() <= LONGEST_NAME
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(plain)
            && !NOT_LOOKED_INTO.contains(name)
    };
    let folder = |file: &PathBuf| {
        let mut parts = file.iter();
        let name = parts.next().and_then(OsStr::to_str).filter(is_plain);
        parts.next().and(name).map(str::to_owned)
    };
    let names: BTreeSet<String> = files.iter().filter_map(folder).collect();
    let names = names.into_iter().take(MOST_FOLDERS);
    Ok(names.map(|name| (name.clone(), Repo { root: root.join(name) })).collect())
}

/// One job for each thing to do. A task of the repository's own wins over what its language would do for the same
/// thing, since it most likely does just that.
fn choose(tasks: Vec<Offer>, ecosystems: Vec<Offer>, folder: Option<&str>) -> Draft {
    let mut draft = Draft::default();
    let mut done = BTreeSet::new();
    let takes_names = |offer: &&Offer| offer.checks.iter().any(|check| check.name.is_none());
    let several = ecosystems.iter().filter(takes_names).count() > 1;
    let named = |tool: &str, check: &Check, several: bool| {
        let name = match check.name {
            Some(name) => name.to_owned(),
            None if several => format!("{tool}-{}", check.kind.name()),
            None => check.kind.name().to_owned(),
        };
        match folder {
            Some(folder) => format!("{}-{name}", folder.to_ascii_lowercase().replace('.', "-")),
            None => name,
        }
    };
    let own: Vec<(Check, String)> = tasks
        .into_iter()
        .flat_map(|offer| {
            let checks: Vec<Check> =
                offer.checks.into_iter().filter(|check| done.insert(check.kind)).collect();
            done.extend(offer.besides);
            checks.into_iter().map(|check| (named("", &check, false), check)).collect::<Vec<_>>()
        })
        .map(|(name, check)| (check, name))
        .collect();
    // Who needs what: within a tool, what comes before; tasks need whatever is installed.
    let mut installs = Vec::new();
    let mut add = |check: Check, name: String, needs: Vec<String>| {
        let check = match folder {
            Some(folder) => in_folder(check, folder),
            None => check,
        };
        let jobs = if check.asked { &mut draft.jobs } else { &mut draft.suggestions };
        jobs.push(Job { name, check, needs });
    };
    for offer in ecosystems {
        let mut for_others: Vec<String> = Vec::new();
        let mut checks = offer.checks;
        checks.sort_by_key(|check| check.kind);
        for check in checks {
            if check.name.is_none() && done.contains(&check.kind) {
                continue;
            }
            let name = named(offer.tool, &check, several);
            let needs = for_others.clone();
            if check.asked && check.kind.is_for_others() {
                for_others.push(name.clone());
                if check.kind == Kind::Install {
                    installs.push(name.clone());
                }
            }
            add(check, name, needs);
        }
    }
    for (check, name) in own {
        add(check, name, installs.clone());
    }
    // Installing what nothing uses is no check.
    if draft.jobs.iter().all(|job| job.check.kind == Kind::Install) {
        draft.jobs.clear();
    }
    draft.jobs.sort_by_key(|job| job.check.kind);
    draft
}

/// `check`, of a project in `folder`, as it is done from the root.
fn in_folder(mut check: Check, folder: &str) -> Check {
    for step in &mut check.script {
        let then = if step.contains('\n') { "\n" } else { " && " };
        *step = format!("cd {folder}{then}{step}");
    }
    if let Some(cache) = &mut check.cache {
        cache.prefix = format!("{folder}-{}", cache.prefix);
        let lists = cache.files.iter_mut().chain(&mut cache.paths);
        lists.for_each(|path| *path = format!("{folder}/{path}"));
    }
    check.because = format!("{folder}: {}", check.because);
    check
}

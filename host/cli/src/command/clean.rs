//! `loom clean`: removes what is not needed any more.
//!
//! What a folder is for, and whether it is Loom's, is known from the ledgers of runs and from the notes beside the folders that
//! are named after repositories; records say themselves what they are. What nothing is known of stays, and is named.

use std::fmt::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use loom_cache::Store;
use loom_contract::exit;
use loom_contract::id::RunIds;
use loom_contract::layout::RuntimeDir;
use loom_contract::visible::on_one_line;
use loom_contract::words::counted;
use loom_engine::clock::Clock;
use loom_ownership::{Entry, HeldFor, Note, Slots};
use loom_record::Retention;

use super::cache::size;
use super::run::traces::{self, Folders};
use crate::args::Clean;
use crate::command::{CACHES, Done};
use crate::config::{Effective, Flags};
use crate::settings;
use crate::terminal::Terminal;

pub(crate) fn clean(args: &Clean, terminal: Terminal) -> Done {
    let repo_root = super::repo_root_or_here()?;
    let config = super::effective(&repo_root, Flags::default())?;
    let folders = Folders::existing(&config, &repo_root)?;
    let mut cleaning = Cleaning {
        dry_run: args.dry_run,
        all: args.all,
        repo_root,
        text: String::new(),
        kinds: Kind::ALL.map(|_| Sizes::default()),
        left: Vec::new(),
        failures: Vec::new(),
    };
    if let Some(folders) = &folders {
        cleaning.measure(folders);
        cleaning.dead_runs(folders);
        cleaning.workspaces(folders);
        cleaning.caches(folders, &config);
        cleaning.unknown(folders);
    }
    cleaning.records(folders.as_ref(), &config);
    cleaning.tell(terminal)
}

/// What is cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Records,
    Workspaces,
    Caches,
    Components,
    Staging,
    Secrets,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Records, Self::Workspaces, Self::Caches, Self::Components, Self::Staging, Self::Secrets];

    fn word(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Workspaces => "workspaces",
            Self::Caches => "caches",
            Self::Components => "components",
            Self::Staging => "staging",
            Self::Secrets => "secrets",
        }
    }
}

/// Bytes of one kind.
#[derive(Debug, Clone, Copy, Default)]
struct Sizes {
    before: u64,
    gone: u64,
}

struct Cleaning {
    dry_run: bool,
    all: bool,
    repo_root: PathBuf,
    /// What was done.
    text: String,
    kinds: [Sizes; 6],
    /// What stays although it may not be needed, and why.
    left: Vec<(PathBuf, String)>,
    failures: Vec<String>,
}

impl Cleaning {
    fn of(&mut self, kind: Kind) -> &mut Sizes {
        &mut self.kinds[kind as usize]
    }

    /// What the user's folders take before anything is done: of this repository, or of all, and what they share.
    fn measure(&mut self, folders: &Folders) {
        let cache_dir = folders.cache_dir.path();
        let own_cache = super::known_cache_store(cache_dir, &self.repo_root).ok();
        let own = |folder: Option<PathBuf>| folder.filter(|_| !self.all);
        let all_workspaces = folders.workspaces.parent().unwrap_or(cache_dir).to_owned();
        let parts = [
            (Kind::Workspaces, own(Some(folders.workspaces.clone())).unwrap_or(all_workspaces)),
            (Kind::Caches, own(own_cache).unwrap_or_else(|| cache_dir.join(CACHES))),
            (Kind::Components, cache_dir.join("components")),
            (Kind::Staging, folders.staging.clone()),
        ];
        for (kind, folder) in parts {
            self.of(kind).before = size_of(&folder);
        }
    }

    fn kind_of(folder: &Path, folders: &Folders) -> Kind {
        if folder.starts_with(&folders.staging) {
            Kind::Staging
        } else if folder.to_string_lossy().ends_with("-secrets") {
            Kind::Secrets
        } else {
            Kind::Workspaces
        }
    }

    /// Says that `what` is gone, or would be.
    fn gone(&mut self, kind: Kind, what: &Path, bytes: u64) {
        let sizes = self.of(kind);
        sizes.gone = sizes.gone.saturating_add(bytes);
        if kind == Kind::Secrets {
            // What is there of a run under way is none of this.
            sizes.before = sizes.gone;
        }
        let word = if self.dry_run { "would remove" } else { "removed" };
        let _ = writeln!(self.text, "{word} {} ({})", on_one_line(&what.to_string_lossy()), size(bytes));
    }

    /// What killed runs have left, of whatever repository, as the next run would remove it.
    fn dead_runs(&mut self, folders: &Folders) {
        let entries = folders.runs.not_alive();
        let were = entries
            .iter()
            .flat_map(|entry| if entry.ended() { traces::left_by_mistake(entry) } else { entry.folders() });
        let were: Vec<(PathBuf, u64)> =
            were.filter(|folder| folder.exists()).map(|folder| (folder.clone(), size_of(&folder))).collect();
        let with_objects =
            entries.iter().filter(|entry| !entry.ended() && !entry.objects().is_empty()).count();
        drop(entries);
        if !self.dry_run {
            for root in self.roots(folders) {
                traces::clean_after_the_dead(&root, &folders.runs);
            }
        }
        for (folder, bytes) in were {
            if self.dry_run || !folder.exists() {
                self.gone(Self::kind_of(&folder, folders), &folder, bytes);
            }
        }
        if with_objects > 0 && self.dry_run {
            let _ = writeln!(self.text, "would remove what {with_objects} killed runs left with Docker");
        } else if with_objects > 0 {
            self.docker(folders);
        }
    }

    /// Containers, networks and volumes of killed runs.
    fn docker(&mut self, folders: &Folders) {
        let sweep = || -> Result<_, String> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| format!("cannot start the runtime: {error}"))?;
            let own = RunIds::from_stamp(Clock::start().started_at().unix_nanos());
            let ledger = folders.runs.register(&own.run_id, &self.repo_root);
            let ledger = ledger.map_err(|error| error.to_string())?;
            let docker = settings::docker(&self.repo_root, false, false, folders.runs.clone(), ledger);
            runtime.block_on(docker.sweep())
        };
        match sweep() {
            Ok((removed, left)) => {
                for thing in removed {
                    let _ = writeln!(self.text, "removed {}", on_one_line(&thing));
                }
                self.failures.extend(left);
            }
            Err(error) => self.failures.push(format!("what killed runs left with Docker stays: {error}")),
        }
    }

    /// The repositories that are asked for, as far as they are there.
    fn roots(&self, folders: &Folders) -> Vec<PathBuf> {
        let mut roots = vec![self.repo_root.clone()];
        if self.all {
            for note in folders.notes().all() {
                roots.extend(note.roots().iter().filter(|root| root.is_dir()).cloned());
            }
            roots.sort_unstable();
            roots.dedup();
        }
        roots
    }

    /// Copies of repositories that no run has, and folders that ended runs could not remove.
    fn workspaces(&mut self, folders: &Folders) {
        let is_asked = |run: &Entry| run.ended() && (self.all || run.repo_root() == self.repo_root);
        let ended: Vec<Entry> = folders.runs.not_alive().into_iter().filter(is_asked).collect();
        for mut run in ended {
            for folder in run.folders() {
                let (was, bytes) = (folder.exists(), size_of(&folder));
                if !self.dry_run
                    && let Err(error) = run.remove_folder(&folder)
                {
                    self.failures.push(error.to_string());
                } else if was && !self.dry_run && folder.exists() {
                    self.left.push((folder, "another folder stands where a run's was".to_owned()));
                } else if was {
                    self.gone(Self::kind_of(&folder, folders), &folder, bytes);
                }
            }
            if !self.dry_run {
                traces::close(run);
            }
        }
        if let Some(slots) = folders.existing_slots() {
            self.slots(&slots);
        }
        if !self.all {
            return;
        }
        for note in folders.notes().all() {
            if note.held() != HeldFor::Workspaces {
                continue;
            }
            match note.open() {
                Ok(Some(folder)) if folder.path() != folders.workspaces => self.slots(&Slots::new(folder)),
                Ok(_) => {}
                Err(error) => self.failures.push(error.to_string()),
            }
            if !self.dry_run && !is_used(&note) && !is_alive(&note, folders) {
                self.forget_workspaces(folders, &note);
            }
        }
    }

    /// The slots of one repository that nobody uses.
    fn slots(&mut self, slots: &Slots) {
        for number in slots.numbers() {
            let path = slots.path(number);
            match slots.take_number(number) {
                Ok(None) => {
                    let is_used = slots.last(number).is_some_and(|last| last.ended.is_none());
                    let why =
                        if is_used { "a run uses it" } else { "another folder stands where a copy was" };
                    self.left.push((path, why.to_owned()));
                }
                Ok(Some(slot)) => {
                    let bytes = slots.folders(number).iter().map(|folder| size_of(folder)).sum();
                    if !self.dry_run
                        && let Err(error) = slot.remove()
                    {
                        self.failures.push(error.to_string());
                    } else {
                        self.gone(Kind::Workspaces, &path, bytes);
                    }
                }
                Err(error) => self.failures.push(error.to_string()),
            }
        }
    }

    /// The repository of `note` is gone, and with it goes the folder for its copies, which were removed.
    fn forget_workspaces(&mut self, folders: &Folders, note: &Note) {
        traces::forget(folders, note);
        for path in entries_of(note.folder()) {
            self.left.push((path, "it is none of what a run has made there".to_owned()));
        }
    }

    fn note_result(&mut self, result: Result<(), loom_ownership::Error>) {
        if let Err(error) = result {
            self.failures.push(error.to_string());
        }
    }

    fn caches(&mut self, folders: &Folders, config: &Effective) {
        let own = super::known_cache_store(folders.cache_dir.path(), &self.repo_root);
        match own {
            Ok(own) => self.shrink(&own, config.cache_max_bytes.value),
            Err(error) => return self.failures.push(error.to_string()),
        }
        if !self.all {
            return;
        }
        for note in folders.notes().all() {
            if note.held() != HeldFor::Cache {
                continue;
            }
            match note.open() {
                Err(error) => self.failures.push(error.to_string()),
                Ok(None) => {
                    if !self.dry_run && !note.folder().exists() {
                        self.note_result(folders.notes().remove(&note));
                    }
                }
                Ok(Some(_)) if is_used(&note) => {
                    let root = note.roots().iter().rev().find(|root| holds(&note, root));
                    let limit = root.and_then(|root| super::effective(root, Flags::default()).ok());
                    if let Some(limit) = limit {
                        self.shrink(note.folder(), limit.cache_max_bytes.value);
                    }
                }
                Ok(Some(_)) if is_alive(&note, folders) => {
                    self.left.push((note.folder().to_owned(), "a run that uses it is under way".to_owned()));
                }
                Ok(Some(_)) => self.remove_cache(folders, &note),
            }
        }
    }

    /// The cache of a repository that is gone.
    fn remove_cache(&mut self, folders: &Folders, note: &Note) {
        let bytes = size_of(note.folder());
        if self.dry_run {
            return self.gone(Kind::Caches, note.folder(), bytes);
        }
        match Store::open(note.folder()).and_then(Store::remove) {
            Ok(left) if left.is_empty() => {
                self.gone(Kind::Caches, note.folder(), bytes);
                self.note_result(folders.notes().remove(note));
            }
            Ok(left) => {
                let remain = size_of(note.folder());
                self.gone(Kind::Caches, note.folder(), bytes.saturating_sub(remain));
                self.left
                    .extend(left.into_iter().map(|path| (path, "it is no part of the cache".to_owned())));
            }
            Err(error) => self.failures.push(error.to_string()),
        }
    }

    /// Makes a cache as small as it may be.
    fn shrink(&mut self, store: &Path, max_bytes: u64) {
        if !store.is_dir() {
            return;
        }
        if self.dry_run {
            let surplus = size_of(store).saturating_sub(max_bytes);
            if surplus > 0 {
                self.gone(Kind::Caches, store, surplus);
            }
            return;
        }
        match Store::open(store).and_then(|store| store.gc(max_bytes, &[])) {
            Ok(collected) if collected.freed > 0 => self.gone(Kind::Caches, store, collected.freed),
            Ok(_) => {}
            Err(error) => self.failures.push(error.to_string()),
        }
    }

    /// Names what nothing is known of.
    fn unknown(&mut self, folders: &Folders) {
        if !self.all {
            return;
        }
        let cache_dir = folders.cache_dir.path();
        let own_cache = super::known_cache_store(cache_dir, &self.repo_root).ok();
        let notes = folders.notes().all();
        let known: Vec<&Path> = notes
            .iter()
            .map(Note::folder)
            .chain(own_cache.as_deref())
            .chain([folders.workspaces.as_path()])
            .collect();
        let above = folders.workspaces.parent().unwrap_or(cache_dir).to_owned();
        for folder in [cache_dir.join(CACHES), above] {
            for path in entries_of(&folder) {
                if !known.contains(&path.as_path()) {
                    self.left.push((path, "nothing says whose it is".to_owned()));
                }
            }
        }
        let listed = folders.runs.not_alive();
        for path in entries_of(&folders.staging) {
            let run = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_listed = listed.iter().any(|entry| entry.folders().contains(&path));
            if !is_listed && !folders.runs.is_alive(&run) {
                self.left.push((path, "no run has listed it".to_owned()));
            }
        }
    }

    /// Records beyond what is kept.
    fn records(&mut self, folders: Option<&Folders>, config: &Effective) {
        let roots = folders.map_or_else(|| vec![self.repo_root.clone()], |folders| self.roots(folders));
        for root in roots {
            let other = (root != self.repo_root).then(|| super::effective(&root, Flags::default()));
            let limits = match &other {
                None => traces::limits(config),
                Some(Ok(config)) => traces::limits(config),
                Some(Err(error)) => {
                    self.failures.push(error.to_string());
                    continue;
                }
            };
            let how = Retention {
                limits,
                now: Clock::start().started_at(),
                time: None,
                just_ended: None,
                dry_run: self.dry_run,
            };
            let is_alive = |run_id: &loom_contract::id::RunId| {
                folders.is_some_and(|folders| folders.runs.is_alive(run_id.as_str()))
            };
            match loom_record::retain(&root, &how, is_alive) {
                Ok(retained) => {
                    let sizes = self.of(Kind::Records);
                    sizes.before = sizes.before.saturating_add(retained.bytes);
                    if retained.removed > 0 {
                        let what = format!("{} of {}", counted(retained.removed, "record"), root.display());
                        self.gone(Kind::Records, Path::new(&what), retained.freed);
                    }
                    if retained.pinned > 0 {
                        let path = RuntimeDir::of_repo(&root).path().to_owned();
                        self.left.push((path, counted(retained.pinned, "pinned run")));
                    }
                    let why = "no receipt of a run belongs to it";
                    self.left.extend(retained.left.into_iter().map(|path| (path, why.to_owned())));
                }
                Err(error) => self.failures.push(error.to_string()),
            }
        }
    }

    fn tell(mut self, terminal: Terminal) -> Done {
        let words = if self.dry_run { ["now", "would go", "left"] } else { ["before", "gone", "now"] };
        let [before, gone, after] = words;
        let _ = writeln!(self.text, "{:<11} {before:>11} {gone:>11} {after:>11}", "");
        for kind in Kind::ALL {
            let Sizes { before, gone } = *self.of(kind);
            if kind == Kind::Secrets && gone == 0 {
                continue;
            }
            let after = size(before.saturating_sub(gone));
            let _ = writeln!(
                self.text,
                "{:<11} {:>11} {:>11} {after:>11}",
                kind.word(),
                size(before),
                size(gone)
            );
        }
        for (path, why) in &self.left {
            terminal.say(format!("left alone: {}: {why}\n", on_one_line(&path.to_string_lossy())));
        }
        for failure in &self.failures {
            terminal.say(format!("warning: {}\n", on_one_line(failure)));
        }
        let printed = super::print(self.text)?;
        Ok(if self.failures.is_empty() { printed } else { exit::FAILURE })
    }
}

/// Whether a repository is still there that the folder of `note` is for.
fn is_used(note: &Note) -> bool {
    note.roots().iter().any(|root| holds(note, root))
}

/// Whether the folder of `note` is what the repository at `root` uses today.
fn holds(note: &Note, root: &Path) -> bool {
    let name = match note.held() {
        HeldFor::Cache => loom_workspace::repo_cache_dir,
        HeldFor::Workspaces => loom_workspace::repo_workspaces_dir,
    };
    root.is_dir() && note.folder().file_name() == name(Path::new(""), root).file_name()
}

/// Whether a run is under way that may use the folder of `note`.
fn is_alive(note: &Note, folders: &Folders) -> bool {
    folders.runs.living_roots().iter().any(|root| note.roots().contains(root))
}

/// What a folder takes on the disk, in bytes; nothing where it is none.
fn size_of(folder: &Path) -> u64 {
    let is_folder = fs_err::symlink_metadata(folder).is_ok_and(|found| found.is_dir());
    let opened = is_folder.then(|| loom_tree::dir::open_root(folder).ok()).flatten();
    opened.map_or(0, |folder| loom_tree::size(folder.as_fd()))
}

/// What is in a folder, by name.
fn entries_of(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths
}

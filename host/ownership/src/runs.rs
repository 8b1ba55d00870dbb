//! The runs of this user: those that live, and what others have left.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use loom_contract::id::RunId;
use rustix::fs::{Dir, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat};
use rustix::io::Errno;

use crate::entry::Entry;
use crate::line::{self, FORMAT, Head, State};
use crate::system::{boot_id, pid_namespace, random_word, started};
use crate::{Error, Ledger, Mark, PrivateFolder, Stamp};

/// A ledger longer than this, in bytes, is none of ours.
const LONGEST: u64 = 64 << 20;
const FOLDER: &str = "runs";
/// How long a ledger is waited for whose process is gone, and that somebody else looks at.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The ledgers of all runs that keep their things in one folder. Clones are of the same.
#[derive(Debug, Clone)]
pub struct Runs {
    folder: PrivateFolder,
}

/// What a look at a ledger found.
pub(crate) enum Found {
    /// Its run lives, of the repository at this root.
    Alive(PathBuf),
    /// Its run does not, and nobody else looks at it meanwhile.
    Dead(Box<Entry>),
}

impl Runs {
    /// The ledgers in the folder `runs` of `cache_dir`.
    ///
    /// # Errors
    /// It is not the user's alone, or cannot be made.
    pub fn open(cache_dir: &PrivateFolder) -> Result<Self, Error> {
        Ok(Self { folder: cache_dir.folder(FOLDER)? })
    }

    /// Begins the ledger of the run `run_id` of the repository at `repo_root`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn register(&self, run_id: &RunId, repo_root: &Path) -> Result<Ledger, Error> {
        let io =
            |source| Error::Io { doing: "make a ledger in", path: self.folder.path().to_owned(), source };
        let word = random_word();
        let name = format!("{run_id}.{}", word.get(..8).unwrap_or_default());
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::APPEND
            | OFlags::CLOEXEC
            | OFlags::NOFOLLOW;
        let begin = || -> std::io::Result<(Head, File)> {
            let mut file = File::from(openat(self.folder.fd(), &name, flags, Mode::RUSR | Mode::WUSR)?);
            // Waits for no one for long: who looks at a ledger holds its lock for a moment. Only then there is a head, so
            // that whoever sees one and gets the lock knows that this process is gone.
            flock(&file, FlockOperation::LockExclusive)?;
            let pid = std::process::id();
            let head = Head {
                format: FORMAT,
                own: Stamp::of(&file)?,
                run_id: run_id.clone(),
                mark: Mark { word: word.clone(), started: started(pid).unwrap_or_default() },
                pid,
                boot_id: boot_id(),
                pid_namespace: pid_namespace(),
                repo_root: repo_root.to_owned(),
            };
            file.write_all(&line::text(&head)?)?;
            Ok((head, file))
        };
        let (head, file) = begin().map_err(io)?;
        Ok(Ledger::new(self.folder.clone(), name, head, file))
    }

    /// Whether the run `run_id` lives, of whatever repository.
    pub fn is_alive(&self, run_id: &str) -> bool {
        self.names(run_id).iter().any(|name| matches!(self.look(name), Some(Found::Alive(_))))
    }

    /// The ledgers of runs that do not live any more, the oldest first. Each is locked as long as its entry lives.
    pub fn not_alive(&self) -> Vec<Entry> {
        let found = self.names("").into_iter().filter_map(|name| match self.look(&name)? {
            Found::Dead(entry) => Some(*entry),
            Found::Alive(_) => None,
        });
        found.collect()
    }

    /// The roots of the repositories in which a run lives, each as often as runs do.
    pub fn living_roots(&self) -> Vec<PathBuf> {
        let found = self.names("").into_iter().filter_map(|name| match self.look(&name)? {
            Found::Alive(repo_root) => Some(repo_root),
            Found::Dead(_) => None,
        });
        found.collect()
    }

    /// The ledger at `path`, which [`Ledger::path`] has told, once its run does not live any more.
    ///
    /// # Errors
    /// The folder is not the user's alone.
    pub fn entry_at(path: &Path) -> Result<Option<Entry>, Error> {
        let Some((folder, name)) = path.parent().zip(path.file_name().and_then(|name| name.to_str())) else {
            return Ok(None);
        };
        let runs = Self { folder: PrivateFolder::open_or_make(folder)? };
        Ok(match runs.look(name) {
            Some(Found::Dead(entry)) => Some(*entry),
            _ => None,
        })
    }

    /// The names of ledgers that begin with `run_id`, in order: run ids are stamps of one length.
    fn names(&self, run_id: &str) -> Vec<String> {
        let listed = Dir::read_from(self.folder.fd()).into_iter().flatten().flatten();
        let mut names: Vec<String> = listed
            .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned))
            .filter(|name| {
                let id = name.split_once('.').map(|(id, _)| id);
                id.is_some_and(|id| RunId::new(id).is_ok() && (run_id.is_empty() || id == run_id))
            })
            .collect();
        names.sort_unstable();
        names
    }

    /// What is in the ledger `name`; `None` where it is none of ours: another kind of file, somebody else's, a copy, a torn
    /// or an unknown one. Such a file is never touched.
    fn look(&self, name: &str) -> Option<Found> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(openat(self.folder.fd(), name, flags, Mode::empty()).ok()?);
        let stat = fstat(&file).ok()?;
        let is_own = stat.st_uid == rustix::process::geteuid().as_raw();
        if !is_own || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        let deadline = Instant::now() + WAIT_FOR_OTHERS;
        let (head, state) = loop {
            // First the lock, then the text: a run that ends in between has its last word in it.
            let is_free = match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => true,
                Err(Errno::WOULDBLOCK) => false,
                Err(_) => return None,
            };
            file.rewind().ok()?;
            let (head, state) = read(&mut file)?;
            let is_itself = Stamp::of(&file).is_ok_and(|stamp| stamp == head.own);
            if !is_itself || name.split_once('.').is_none_or(|(id, _)| id != head.run_id.as_str()) {
                return None;
            }
            match (is_free, head.process_runs()) {
                // Its guard, or another run, cleans up.
                (false, Some(false)) if Instant::now() < deadline => std::thread::sleep(LOOK_AGAIN),
                (false, _) => return Some(Found::Alive(head.repo_root)),
                // Two signs of life: where a file system forgets locks, the process itself is one.
                (true, Some(true)) if !state.ended => return Some(Found::Alive(head.repo_root)),
                (true, _) => break (head, state),
            }
        };
        Some(Found::Dead(Box::new(Entry::new(self.folder.clone(), name.to_owned(), head, state, file))))
    }
}

fn read(file: &mut File) -> Option<(Head, State)> {
    let mut text = Vec::new();
    std::io::Read::by_ref(file).take(LONGEST + 1).read_to_end(&mut text).ok()?;
    if u64::try_from(text.len()).is_ok_and(|length| length > LONGEST) {
        return None;
    }
    line::read(&text)
}

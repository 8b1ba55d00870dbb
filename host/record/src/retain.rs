//! What keeps the records of a repository few: old ones are removed, but for the newest.
//!
//! A record is removed only where it says itself that it is one, and that its run is over: by a receipt of
//! the contract's shape that is called after the run. Its log folder must not be locked. Everything is done
//! by open folders, through no link; whatever else is there stays.

mod sizes;

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use loom_contract::id::RunId;
use loom_contract::layout::{self, LOOM_DIR, RuntimeDir};
use loom_contract::status::RunStatus;
use loom_contract::time::Timestamp;
use loom_contract::version;
use loom_tree::dir;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat, statat, unlinkat};
use rustix::io::Errno;
use serde::Deserialize;

use crate::RecordError;
use sizes::{Size, Sizes};

/// The longest receipt that is read, in bytes: more than that of a run of 100,000 jobs.
const MOST_RECEIPT: u64 = 64 << 20;
/// The number of records that are removed even where there is no time for it, so that there are ever fewer.
const LEAST: u64 = 8;
/// Receipts of checks that stay. No config file says how many: checks read none.
const CHECKS: usize = 500;
/// The time for which a check looks for older ones.
const TIME_OF_CHECK: Duration = Duration::from_millis(20);

/// The number of records that may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Records.
    pub count: u64,
    /// The size of all of them in bytes; `None` for no limit.
    pub bytes: Option<u64>,
    /// Their age; `None` for no limit.
    pub age: Option<Duration>,
}

/// The way in which records are retained.
#[derive(Debug, Clone)]
pub struct Retention {
    /// The limits for what may stay.
    pub limits: Limits,
    /// Now.
    pub now: Timestamp,
    /// The time that it may take, about; `None` for as long as it takes.
    pub time: Option<Duration>,
    /// A run whose record stays whatever its age: it has just ended, and who started it may want to read on.
    pub just_ended: Option<RunId>,
    /// Whether nothing is to be removed.
    pub dry_run: bool,
}

/// The records that there were, and what was done with them, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retained {
    /// Records of runs that there were.
    pub records: u64,
    /// Bytes that they took, of those that were measured.
    pub bytes: u64,
    /// Records that were removed.
    pub removed: u64,
    /// Bytes that those took.
    pub freed: u64,
    /// Records that are pinned: they stay, and no limit counts them.
    pub pinned: u64,
    /// Files that are called like a record and are none that can be known for one; they stay.
    pub left: Vec<PathBuf>,
}

/// Removes what is more than `how` says, of the repository at `repo_root`: first what is too old, then the
/// oldest records of runs that passed, then those of runs that did not. The newest always stays, and what is
/// pinned. `is_alive` says of a run whether it lives.
///
/// # Errors
/// The folders are there but cannot be read, or a record cannot be removed.
pub fn retain(
    repo_root: &Path,
    how: &Retention,
    is_alive: impl Fn(&RunId) -> bool,
) -> Result<Retained, RecordError> {
    let Some(place) = Place::open(repo_root)? else { return Ok(Retained::default()) };
    let found = place.list()?;
    let pass = Pass { place, how, is_alive, begun: Instant::now(), done: Retained::default() };
    if !how.dry_run {
        pass.place.remove_checks(&found.checks, pass.begun, how.time.map(|time| time / 2))?;
    }
    pass.runs(found)
}

/// Removes all receipts of checks but for the newest, of the repository at `repo_root`.
///
/// # Errors
/// As of [`retain`].
pub(crate) fn retain_checks(repo_root: &Path) -> Result<(), RecordError> {
    let Some(place) = Place::open(repo_root)? else { return Ok(()) };
    let checks = place.list()?.checks;
    place.remove_checks(&checks, Instant::now(), Some(TIME_OF_CHECK))
}

/// The open folders of a repository's records.
pub(crate) struct Place {
    path: RuntimeDir,
    runtime: OwnedFd,
    logs: OwnedFd,
    pub(crate) receipts: OwnedFd,
}

/// The content of the folders of records.
#[derive(Default)]
struct Scan {
    /// The runs by their time; two names can say the same.
    runs: BTreeMap<(u128, RunId), Run>,
    /// Those that are pinned.
    pinned: HashSet<RunId>,
    /// Names of receipts of checks.
    checks: Vec<String>,
}

#[derive(Default)]
struct Run {
    has_receipt: bool,
    /// Whether the receipt is not the last word.
    is_open: bool,
}

/// The beginning of a receipt, of whatever version of the contract.
#[derive(Deserialize)]
struct Receipt {
    kind: String,
    status: RunStatus,
    logs_dir: String,
}

impl Place {
    /// `None` where there is none, or a link in its place.
    pub(crate) fn open(repo_root: &Path) -> Result<Option<Self>, RecordError> {
        let path = RuntimeDir::of_repo(repo_root);
        let open = || -> Result<Self, Errno> {
            let root = dir::open_root(repo_root)?;
            let loom = dir::open_child(root.as_fd(), LOOM_DIR.as_bytes())?;
            let name = path.path().file_name().unwrap_or_default();
            let runtime = dir::open_child(loom.as_fd(), name.as_encoded_bytes())?;
            let logs = open_named(runtime.as_fd(), &path.logs_dir())?;
            let receipts = open_named(runtime.as_fd(), &path.receipts_dir())?;
            Ok(Self { path: path.clone(), runtime, logs, receipts })
        };
        match open() {
            Ok(place) => Ok(Some(place)),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(RecordError::new("open", path.path(), errno)),
        }
    }

    fn list(&self) -> Result<Scan, RecordError> {
        let mut found = Scan::default();
        let unreadable = |path: PathBuf| move |errno: Errno| RecordError::new("read", path, errno);
        let listed = dir::for_each_entry(self.receipts.as_fd(), |name, _| {
            let Ok(name) = std::str::from_utf8(name) else { return };
            if is_check(name) {
                found.checks.push(name.to_owned());
            }
            if let Some(id) = name.strip_suffix(layout::PINNED_SUFFIX) {
                found.pinned.extend(RunId::new(id));
            }
            let (id, is_open) = match name.strip_suffix(layout::PARTIAL_SUFFIX) {
                Some(name) => (name.strip_suffix(".json"), true),
                None => (name.strip_suffix(".json"), false),
            };
            if let Some(run) = id.and_then(|id| found.run(id)) {
                run.has_receipt |= !is_open;
                run.is_open |= is_open;
            }
        });
        listed.map_err(unreadable(self.path.receipts_dir()))?;
        let listed = dir::for_each_entry(self.logs.as_fd(), |name, _| {
            std::str::from_utf8(name).ok().and_then(|name| found.run(name));
        });
        listed.map_err(unreadable(self.path.logs_dir()))?;
        found.checks.sort_unstable();
        Ok(found)
    }

    /// The receipt of the run `id`, where it is one.
    fn receipt_of(&self, id: &RunId) -> Option<Receipt> {
        let bytes = read(self.receipts.as_fd(), &format!("{id}.json"), MOST_RECEIPT)?;
        let receipt: Receipt = serde_json::from_slice(&bytes).ok()?;
        let is_its_own = Path::new(&receipt.logs_dir).file_name() == Some(OsStr::new(id.as_str()));
        (receipt.kind == version::KIND_RUN_RECEIPT && is_its_own).then_some(receipt)
    }

    /// The size of the record of `id` on the disk, in bytes.
    fn measure(&self, id: &RunId) -> u64 {
        let name = format!("{id}.json");
        let receipt = statat(&self.receipts, &name, AtFlags::SYMLINK_NOFOLLOW);
        let logs = dir::open_child(self.logs.as_fd(), id.as_str().as_bytes());
        receipt.map_or(0, |stat| loom_tree::disk_size(&stat))
            + logs.map_or(0, |logs| loom_tree::size(logs.as_fd()))
    }

    /// Removes the record of `id`; says whether it did. One that somebody holds stays.
    fn remove(&self, id: &RunId, is_alive: impl Fn(&RunId) -> bool) -> Result<bool, RecordError> {
        let path = self.path.run_dir(id);
        let _lock = match dir::open_child(self.logs.as_fd(), id.as_str().as_bytes()) {
            Ok(folder) => match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => Some(folder),
                Err(_) => return Ok(false),
            },
            Err(Errno::NOENT) => None,
            // Something else is called so.
            Err(_) => return Ok(false),
        };
        if is_alive(id) {
            return Ok(false);
        }
        loom_tree::remove_in(self.logs.as_fd(), OsStr::new(id.as_str()), &path)
            .map_err(|error| RecordError::new("remove", &path, std::io::Error::other(error)))?;
        self.unlink(&format!("{id}{}", layout::CACHE_DIFF_SUFFIX))?;
        // Last: as long as it is there, what is left of the rest is known for what it is.
        self.unlink(&format!("{id}.json"))?;
        Ok(true)
    }

    /// Removes receipts of checks, of which `names` are all, the oldest first.
    fn remove_checks(
        &self,
        names: &[String],
        begun: Instant,
        time: Option<Duration>,
    ) -> Result<(), RecordError> {
        let surplus = names.len().saturating_sub(CHECKS);
        for name in &names[..surplus] {
            if time.is_some_and(|time| begun.elapsed() > time) {
                break;
            }
            if self.is_check(name) {
                self.unlink(name)?;
            }
        }
        Ok(())
    }

    fn is_check(&self, name: &str) -> bool {
        /// The part of a document that says what it is.
        #[derive(Deserialize)]
        struct Check {
            kind: String,
        }
        let check = read(self.receipts.as_fd(), name, MOST_RECEIPT);
        let check = check.and_then(|bytes| serde_json::from_slice::<Check>(&bytes).ok());
        check.is_some_and(|check| check.kind == version::KIND_CHECK_RECEIPT)
    }

    fn unlink(&self, receipt: &str) -> Result<(), RecordError> {
        match unlinkat(&self.receipts, receipt, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(RecordError::new("remove", self.path.receipts_dir().join(receipt), errno)),
        }
    }
}

impl Scan {
    fn run(&mut self, id: &str) -> Option<&mut Run> {
        let id = RunId::new(id).ok()?;
        Some(self.runs.entry((stamp(&id)?, id)).or_default())
    }
}

/// One look at the records of a repository.
struct Pass<'a, F> {
    place: Place,
    how: &'a Retention,
    is_alive: F,
    begun: Instant,
    done: Retained,
}

impl<F: Fn(&RunId) -> bool> Pass<'_, F> {
    fn has_time(&self, share: u32) -> bool {
        self.how.time.is_none_or(|time| self.begun.elapsed() < time / share)
    }

    fn runs(mut self, found: Scan) -> Result<Retained, RecordError> {
        let Limits { count, bytes: most_bytes, age } = self.how.limits;
        let mut sizes = Sizes::read(self.place.runtime.as_fd());
        let mut all = 0;
        // The oldest first.
        let mut ended: Vec<(RunId, Option<Size>, bool)> = Vec::new();
        let there: HashSet<RunId> = found.runs.keys().map(|(_, id)| id.clone()).collect();
        let newest = found.runs.iter().rev().find(|(_, run)| run.has_receipt && !run.is_open);
        let newest = newest.map(|((_, id), _)| id.clone());
        for ((stamp, id), run) in found.runs {
            if !run.has_receipt && !run.is_open {
                self.done.left.push(self.place.path.run_dir(&id));
                continue;
            }
            if run.is_open {
                all += 1;
                continue;
            }
            if found.pinned.contains(&id) {
                self.done.pinned += 1;
                continue;
            }
            let mut size = sizes.get(&id);
            // What was never looked at is looked at now, as far as there is time.
            if size.is_none() && self.has_time(2) {
                let Some(receipt) = self.place.receipt_of(&id) else {
                    self.done.left.push(self.place.path.receipt(&id));
                    continue;
                };
                let passed = receipt.status == RunStatus::Success;
                let looked_at = Size { bytes: self.place.measure(&id), passed };
                sizes.put(&id, looked_at);
                size = Some(looked_at);
            }
            all += 1;
            let nanos = u128::from(self.how.now.unix_nanos());
            let is_old = age.is_some_and(|age| nanos.saturating_sub(stamp) > age.as_nanos());
            self.done.bytes = self.done.bytes.saturating_add(size.map_or(0, |size| size.bytes));
            if newest.as_ref() != Some(&id) && self.how.just_ended.as_ref() != Some(&id) {
                ended.push((id, size, is_old));
            }
        }
        self.done.records = all;
        let known = |wanted: fn(&Size, bool) -> bool| {
            ended.iter().filter_map(move |(id, size, is_old)| {
                let size = (*size)?;
                wanted(&size, *is_old).then_some((id, size, *is_old))
            })
        };
        let in_turn = known(|_, is_old| is_old)
            .chain(known(|size, is_old| !is_old && size.passed))
            .chain(known(|size, is_old| !is_old && !size.passed));
        let (mut left, mut left_bytes) = (self.done.records, self.done.bytes);
        let mut result = Ok(());
        for (id, size, is_old) in in_turn {
            let is_too_much = left > count || most_bytes.is_some_and(|most| left_bytes > most);
            if !is_old && !is_too_much {
                break;
            }
            if self.done.removed >= LEAST && !self.has_time(1) {
                break;
            }
            // What is written down may be wrong: the receipt itself says what it is.
            let removed = self.place.receipt_of(id).is_some()
                && (self.how.dry_run
                    || match self.place.remove(id, &self.is_alive) {
                        Ok(removed) => removed,
                        Err(error) => {
                            result = Err(error);
                            false
                        }
                    });
            if removed {
                left -= 1;
                left_bytes = left_bytes.saturating_sub(size.bytes);
                self.done.removed += 1;
                self.done.freed = self.done.freed.saturating_add(size.bytes);
                sizes.forget(id);
            }
        }
        if !self.how.dry_run {
            sizes.write(self.place.runtime.as_fd(), |id| there.contains(id));
        }
        result.map(|()| self.done)
    }
}

/// The folder at `path`, which is in `folder`.
fn open_named(folder: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    dir::open_child(folder, path.file_name().unwrap_or_default().as_encoded_bytes())
}

/// `20260307T064000Z-check-123.json`
fn is_check(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_suffix(".json").and_then(|name| name.split_once("Z-check-")).is_some_and(|(time, pid)| {
        digits(pid)
            && time
                .split_once('T')
                .is_some_and(|(day, time)| day.len() == 8 && time.len() == 6 && digits(day) && digits(time))
    })
}

/// The time at which a run began, in nanoseconds since 1970.
fn stamp(id: &RunId) -> Option<u128> {
    id.as_str().rsplit('-').next()?.parse().ok()
}

/// The bytes of the regular file `name` in `folder`, at most `most`. Nothing is waited for, and no link is
/// followed.
fn read(folder: BorrowedFd<'_>, name: &str, most: u64) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // A device may act on being opened.
    let is_file = |mode| FileType::from_raw_mode(mode) == FileType::RegularFile;
    if !is_file(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?.st_mode) {
        return None;
    }
    let file = File::from(openat(folder, name, flags, Mode::empty()).ok()?);
    if !is_file(fstat(&file).ok()?.st_mode) {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= most).then_some(bytes)
}

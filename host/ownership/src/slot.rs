//! Places for copies of a repository that stay from run to run: numbered, each held by one run at a time.
//!
//! ```text
//!  <workspaces>/<repo>-<hash>/
//!    <n>           the copy
//!    <n>.lock      locked by the kernel as long as a run has the slot
//!    <n>.json      what the slot's folders are known by, and who had it last
//!    <n>.record    what is known of the copy's files
//!    <n>.aside     folders that were in the copy, and are on their way out
//! ```
//!
//! Whose a copy is, `<n>.json` says: a folder that has another stamp than the one in there is none of ours, and the slot is
//! passed over as if it were taken.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use loom_contract::id::RunId;
use loom_tree::Aside;
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, openat, renameat, statat,
    unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::ledger::gone;
use crate::line::OwnedFolder;
use crate::{Error, PrivateFolder, Stamp, json_file, remove};

const FORMAT: u32 = 1;
/// More runs of one repository than this at once there are not.
const MOST: u32 = 10_000;

const LOCK: &str = "lock";
const STATE: &str = "json";
const RECORD: &str = "record";
const ASIDE: &str = "aside";

/// The slots of one repository.
#[derive(Debug, Clone)]
pub struct Slots {
    folder: PrivateFolder,
}

/// A slot that nobody else has as long as this value lives.
#[derive(Debug)]
pub struct Slot {
    folder: PrivateFolder,
    number: u32,
    text: Text,
    /// Locked.
    #[expect(dead_code, reason = "held")]
    lock: File,
}

/// The run that had a slot last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// Which run it was.
    pub run_id: RunId,
    /// How it ended; none where it has not: it is under way, or was killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<SlotEnd>,
}

/// How a run ended that had a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotEnd {
    /// All its jobs did what they were to do.
    Passed,
    /// It failed, or was cancelled.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Text {
    format: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    copy: Option<Made>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aside: Option<Made>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<LastRun>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<String>,
}

/// A folder that was made, or is about to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Made {
    Begun,
    Is(Stamp),
}

impl Slots {
    /// The slots in `folder`, which is named after the repository.
    pub fn new(folder: PrivateFolder) -> Self {
        Self { folder }
    }

    /// Takes the lowest slot that is free.
    ///
    /// # Errors
    /// There is none, or what the system says.
    pub fn take(&self) -> Result<Slot, Error> {
        self.take_where(|_| true)
    }

    /// Takes the lowest slot that is free and has no copy yet.
    ///
    /// # Errors
    /// There is none, or what the system says.
    pub fn take_new(&self) -> Result<Slot, Error> {
        self.take_where(|slot| !slot.has_copy())
    }

    fn take_where(&self, wanted: impl Fn(&Slot) -> bool) -> Result<Slot, Error> {
        for number in 0..MOST {
            if let Some(slot) = self.take_number(number)?.filter(&wanted) {
                return Ok(slot);
            }
        }
        Err(Error::io("find a free place for a copy in", self.folder.path(), Errno::BUSY))
    }

    /// Takes the slot `number`; `None` where somebody else has it, or something stands there that is none of ours.
    ///
    /// # Errors
    /// What the system says.
    pub fn take_number(&self, number: u32) -> Result<Option<Slot>, Error> {
        if !self.exists(number, STATE) && [RECORD, ASIDE, ""].iter().any(|part| self.exists(number, part)) {
            return Ok(None);
        }
        let Some(lock) = self.lock(number)? else { return Ok(None) };
        let text = match self.read(number) {
            Ok(text) => text,
            Err(()) => return Ok(None),
        };
        let new = Text { format: FORMAT, copy: None, aside: None, last: None, kept: None };
        let mut slot = Slot { folder: self.folder.clone(), number, text: text.unwrap_or(new), lock };
        let is_ours = slot.settle("", slot.text.copy) && slot.settle(ASIDE, slot.text.aside);
        if !is_ours {
            return Ok(None);
        }
        if !slot.exists("") {
            slot.text.copy = None;
        }
        if !slot.exists(ASIDE) {
            slot.text.aside = None;
        }
        Ok(Some(slot))
    }

    /// The numbers of all slots that there are, whoever has them; in order.
    pub fn numbers(&self) -> Vec<u32> {
        let listed = Dir::read_from(self.folder.fd()).into_iter().flatten().flatten();
        let mut numbers: Vec<u32> = listed
            .filter_map(|entry| {
                let name = entry.file_name().to_str().ok()?.strip_suffix(".json")?.to_owned();
                name.parse().ok().filter(|number: &u32| number.to_string() == name)
            })
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// The run that has the slot `number`, or had it last.
    pub fn last(&self, number: u32) -> Option<LastRun> {
        self.read(number).ok().flatten().and_then(|text| text.last)
    }

    /// Where the copy of the slot `number` is.
    pub fn path(&self, number: u32) -> PathBuf {
        self.folder.path().join(name(number, ""))
    }

    /// The folders of the slot `number`: the copy, and what has left it.
    pub fn folders(&self, number: u32) -> [PathBuf; 2] {
        ["", ASIDE].map(|part| self.folder.path().join(name(number, part)))
    }

    /// The lock of the slot `number`; `None` where somebody else has it, or it is no file of ours.
    fn lock(&self, number: u32) -> Result<Option<File>, Error> {
        let name = name(number, LOCK);
        let path = self.folder.path().join(&name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        loop {
            let file = match openat(self.folder.fd(), &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => File::from(file),
                Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::NODEV | Errno::ACCESS) => {
                    return Ok(None);
                }
                Err(errno) => return Err(Error::io("make", &path, errno)),
            };
            let stat = fstat(&file).map_err(Error::doing("look at", &path))?;
            let is_own = stat.st_uid == rustix::process::geteuid().as_raw();
            // There is never anything in it.
            let is_empty =
                FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0;
            if !is_own || !is_empty {
                return Ok(None);
            }
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => return Err(Error::io("lock", &path, errno)),
            }
            // Who removes a slot removes its lock, too: then this is the lock of nothing.
            let there = statat(self.folder.fd(), &name, AtFlags::SYMLINK_NOFOLLOW);
            if there.is_ok_and(|there| (there.st_ino, there.st_dev) == (stat.st_ino, stat.st_dev)) {
                return Ok(Some(file));
            }
        }
    }

    /// What is noted of the slot `number`; an error where something else is called so.
    fn read(&self, number: u32) -> Result<Option<Text>, ()> {
        let text: Option<Text> = json_file::read(self.folder.fd(), &name(number, STATE))?;
        if text.as_ref().is_none_or(|text| text.format == FORMAT) { Ok(text) } else { Err(()) }
    }

    fn exists(&self, number: u32, part: &str) -> bool {
        statat(self.folder.fd(), name(number, part), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }
}

impl Slot {
    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Where its copy is.
    pub fn path(&self) -> PathBuf {
        self.part("")
    }

    /// Where it is said what is known of the copy's files.
    pub fn record(&self) -> PathBuf {
        self.part(RECORD)
    }

    /// Where folders go that are to leave the copy, and are removed later.
    pub fn aside(&self) -> PathBuf {
        self.part(ASIDE)
    }

    /// The run that had it last.
    pub fn last(&self) -> Option<&LastRun> {
        self.text.last.as_ref()
    }

    /// The key under which its kept folders were filled; none where that is not known.
    pub fn kept(&self) -> Option<&str> {
        self.text.kept.as_deref()
    }

    /// Notes the key under which its kept folders are filled from now on: what another key has filled is gone.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep(&mut self, key: &str) -> Result<(), Error> {
        self.text.kept = Some(key.to_owned());
        self.write()
    }

    /// Whether it has a copy of whatever state.
    pub fn has_copy(&self) -> bool {
        self.text.copy.is_some()
    }

    /// Notes that the run `run_id` has it, and makes its folders where they do not exist. What stood in it is not what another
    /// run has left any more; its kept folders are what they were where `kept` is the key that they were filled under.
    ///
    /// # Errors
    /// What the system says.
    pub fn begin(&mut self, run_id: &RunId, kept: Option<&str>) -> Result<(), Error> {
        self.text.last = Some(LastRun { run_id: run_id.clone(), ended: None });
        if self.kept() != kept {
            self.text.kept = None;
        }
        if self.text.copy.is_some() && self.text.aside.is_some() {
            return self.write();
        }
        let (copy, aside) = (self.text.copy, self.text.aside);
        self.text.copy = copy.or(Some(Made::Begun));
        self.text.aside = aside.or(Some(Made::Begun));
        self.write()?;
        if copy.is_none() {
            self.text.copy = Some(Made::Is(self.make("", Mode::from_raw_mode(0o777))?));
        }
        if aside.is_none() {
            self.text.aside = Some(Made::Is(self.make(ASIDE, Mode::RWXU)?));
        }
        self.write()
    }

    /// Notes how the run ended that has it.
    ///
    /// # Errors
    /// What the system says.
    pub fn end(&mut self, end: SlotEnd) -> Result<(), Error> {
        if let Some(last) = &mut self.text.last {
            last.ended = Some(end);
        }
        self.write()
    }

    /// Gives up the copy, with everything in it, and makes an empty folder in its place.
    ///
    /// # Errors
    /// What the system says.
    pub fn renew(&mut self) -> Result<(), Error> {
        // The record first: what it speaks of goes.
        unlinkat(self.folder.fd(), name(self.number, RECORD), AtFlags::empty())
            .or_else(gone)
            .map_err(Error::doing("remove", &self.record()))?;
        if let Some(Made::Is(stamp)) = self.text.copy
            && self.stands("", stamp)
        {
            let aside = Aside::open(&self.aside()).map_err(Error::doing("open the folder", &self.aside()))?;
            aside
                .take(self.folder.fd(), name(self.number, "").as_bytes())
                .map_err(Error::doing("move aside", &self.path()))?;
        }
        self.text.copy = Some(Made::Begun);
        self.text.kept = None;
        self.write()?;
        self.text.copy = Some(Made::Is(self.make("", Mode::from_raw_mode(0o777))?));
        self.write()
    }

    /// Removes it with everything that belongs to it. What stands in the place of its folders and is not them stays.
    ///
    /// # Errors
    /// Something in it stays.
    pub fn remove(mut self) -> Result<(), Error> {
        for (part, made) in [(ASIDE, self.text.aside), ("", self.text.copy)] {
            if let Some(Made::Is(stamp)) = made {
                remove::folder(&OwnedFolder { path: self.part(part), stamp: Some(stamp) })?;
            }
        }
        self.text.copy = None;
        for part in [RECORD, "record.new", STATE, LOCK] {
            unlinkat(self.folder.fd(), name(self.number, part), AtFlags::empty())
                .or_else(gone)
                .map_err(Error::doing("remove", &self.part(part)))?;
        }
        Ok(())
    }

    fn part(&self, part: &str) -> PathBuf {
        self.folder.path().join(name(self.number, part))
    }

    fn exists(&self, part: &str) -> bool {
        statat(self.folder.fd(), name(self.number, part), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Whether what is called `part` is nothing, or what is noted; one that may have been made goes if it is empty.
    fn settle(&self, part: &str, made: Option<Made>) -> bool {
        match made {
            _ if !self.exists(part) => true,
            None => false,
            Some(Made::Is(stamp)) => self.stands(part, stamp),
            Some(Made::Begun) => {
                unlinkat(self.folder.fd(), name(self.number, part), AtFlags::REMOVEDIR).is_ok()
            }
        }
    }

    fn stands(&self, part: &str, stamp: Stamp) -> bool {
        self.stamp(part).is_ok_and(|found| found == stamp)
    }

    fn stamp(&self, part: &str) -> Result<Stamp, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Stamp::of(openat(self.folder.fd(), name(self.number, part), flags, Mode::empty())?)
    }

    fn make(&self, part: &str, mode: Mode) -> Result<Stamp, Error> {
        let made = mkdirat(self.folder.fd(), name(self.number, part), mode).and_then(|()| self.stamp(part));
        made.map_err(Error::doing("make the folder", &self.part(part)))
    }

    fn write(&self) -> Result<(), Error> {
        let (state, temporary) = (name(self.number, STATE), name(self.number, "json.new"));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let write = || -> std::io::Result<()> {
            let mut file = File::from(openat(self.folder.fd(), &temporary, flags, Mode::RUSR | Mode::WUSR)?);
            file.write_all(&serde_json::to_vec(&self.text)?)?;
            Ok(renameat(self.folder.fd(), &temporary, self.folder.fd(), &state)?)
        };
        write().map_err(|error| {
            let _ = unlinkat(self.folder.fd(), &temporary, AtFlags::empty());
            Error::io("write", &self.part(STATE), error)
        })
    }
}

/// What is called `part` of the slot `number`; the copy is called nothing.
fn name(number: u32, part: &str) -> String {
    if part.is_empty() { number.to_string() } else { format!("{number}.{part}") }
}

//! Control groups: what the processes of a job may use together, and how all of them are ended.
//!
//! A process is in its job's group before it is what was to be started: a shell goes there and becomes it. What it starts
//! is born there and cannot leave without being asked for it by name, whatever it does with its session, its parents and
//! its environment. Only where somebody asks for it: the shell costs 0.7 ms for each process, and the move itself some ten
//! where none was made for a while, since the kernel waits until every processor has seen that one is under way.
//!
//! ```text
//!  <a group that this process may use>/
//!    <run>.<random>/          in the run's ledger, so that it is known whose it is when Loom is killed
//!      job-1/  job-2/  …      one for each attempt at a job, in each hierarchy that is needed
//! ```
//!
//! A hierarchy of version 2 ends a group in one go (`cgroup.kill`). What it cannot limit is limited in one of version 1,
//! where there is one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fs_err as fs;
use loom_contract::error::{ErrorInfo, code};
use loom_ownership::{Entry, Ledger};
use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use self::hierarchy::{Controller, Place, Version};

mod hierarchy;

/// How long a group is waited for that was killed: what is in it may be in the middle of writing to a disk.
const PATIENCE: Duration = Duration::from_secs(5);
/// No machine has more processes, and the kernel refuses a higher limit.
const MOST_PIDS: u64 = 4 << 20;
/// Has the shell go into the groups whose files it is given, up to a word like its own name, and become what follows.
pub(super) const ENTER: &str =
    "until [ \"$1\" = \"$0\" ]; do echo 0 >\"$1\" || exit 126; shift; done; shift; exec \"$@\"";

/// What the processes of a job may use together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobLimits {
    /// Bytes of memory, without swap.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// What is asked of the control groups of a run.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// What a job may use.
    pub limits: JobLimits,
    /// Whether a job has a group also without limits.
    pub groups: bool,
    /// Where groups are written down before they are made. Without, none is made.
    pub ledger: Option<Ledger>,
}

/// What a job has used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UsedUp {
    /// Its memory: a process was killed.
    Memory,
    /// Its processes: another one was refused.
    Processes,
}

impl UsedUp {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Memory => code::STEP_OUT_OF_MEMORY,
            Self::Processes => code::STEP_OUT_OF_PROCESSES,
        }
    }

    /// What happened to a job that has these limits.
    pub(crate) fn words(self, limits: JobLimits) -> String {
        match (self, limits) {
            (Self::Memory, JobLimits { memory: Some(most), .. }) => {
                format!(
                    "the job used up the {} of memory that it may have, and a process of it was killed",
                    Bytes(most)
                )
            }
            (Self::Memory, _) => "memory was used up, and a process of the job was killed for it".to_owned(),
            (Self::Processes, JobLimits { pids: Some(most), .. }) => {
                format!(
                    "the job had the {most} processes and threads that it may have, and more were refused"
                )
            }
            (Self::Processes, _) => "the job had as many processes and threads as it may have".to_owned(),
        }
    }

    /// What to do about it.
    pub(crate) fn hint(self, limits: JobLimits) -> &'static str {
        match (self, limits) {
            (Self::Memory, JobLimits { memory: Some(_), .. }) => {
                "let the job use less memory at once, or raise `runtime.limits.memory`"
            }
            (Self::Memory, _) => {
                "let the job use less memory at once, or give this machine or its Docker more"
            }
            (Self::Processes, _) => "let the job start fewer at once, or raise `runtime.limits.pids`",
        }
    }
}

/// A number of bytes for people, in the largest unit of which it is a whole number.
#[derive(Debug, Clone, Copy)]
pub struct Bytes(pub u64);

impl Bytes {
    /// What a number may have behind it, and how many bytes that is.
    pub const UNITS: [(&'static str, u64); 4] =
        [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = Self::UNITS.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        match whole {
            Some((name, unit)) => write!(f, "{} {name}", self.0 / unit),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

/// The groups of a run.
#[derive(Debug)]
pub(crate) struct RunGroups {
    /// One in each hierarchy that is needed. The folder is the run's own.
    roots: Vec<Place>,
    /// What it is called in all of them.
    name: PathBuf,
    limits: JobLimits,
    ledger: Ledger,
    next: AtomicUsize,
}

impl RunGroups {
    /// Finds the places for what is asked, and makes the run's groups there. Says in sentences what cannot be had.
    pub(crate) fn open(asked: &Asked) -> (Option<Self>, Vec<String>) {
        let limits = asked.limits;
        let mut wanted = Vec::new();
        wanted.extend(limits.memory.map(|_| Controller::Memory));
        wanted.extend(limits.pids.map(|_| Controller::Pids));
        let (Some(ledger), true) = (&asked.ledger, asked.groups || !wanted.is_empty()) else {
            return (None, Vec::new());
        };
        // It has the run's id in it, and a random part.
        let name = ledger.path().file_name().map(PathBuf::from).unwrap_or_default();
        let mut groups =
            Self { roots: Vec::new(), name, limits, ledger: ledger.clone(), next: AtomicUsize::new(1) };
        let mut said = Vec::new();
        let own = hierarchy::own();
        // Version 2 first: what it can limit needs no other hierarchy.
        for version in [Version::Two, Version::One] {
            for own in own.iter().filter(|own| own.version == version) {
                let missing = groups.missing(&wanted);
                let is_needed =
                    version == Version::Two || missing.iter().any(|it| own.controllers.contains(it));
                let Some(place) = is_needed.then(|| own.place(&missing)).flatten() else { continue };
                if let Err(error) = groups.add(place) {
                    said.push(format!("a control group cannot be made: {error}"));
                }
            }
        }
        if let Err(why) = groups.try_out() {
            groups.remove();
            groups.roots.clear();
            said.push(format!("control groups cannot be used: {why}"));
        }
        let missing = groups.missing(&wanted);
        if !missing.is_empty() {
            let names: Vec<&str> = missing.iter().map(|controller| controller.name()).collect();
            said.push(format!(
                "runtime.limits: {} of jobs on this machine cannot be limited, since Loom finds no control group with that \
                 which it may use; start it in one that is delegated to you, as by `systemd-run --user --scope --property \
                 Delegate=yes loom …`",
                names.join(" and ")
            ));
        }
        if asked.groups && groups.roots.is_empty() {
            said.push(
                "runtime.controlGroups: jobs have no control groups, since Loom finds none in which it may make its own; \
                 what they leave behind is ended as without"
                    .to_owned(),
            );
        }
        ((!groups.roots.is_empty()).then_some(groups), said)
    }

    /// Has a process enter a group, since more can be against that than is seen from here. Where no process was moved for a
    /// while, this one waits for the kernel in place of the first step.
    fn try_out(&self) -> Result<(), String> {
        if self.roots.is_empty() {
            return Ok(());
        }
        let group = self.of_job().map_err(|error| error.to_string())?;
        let tried = super::runs_in(&group).map_err(|error| error.to_string());
        let ended = group.end().map_err(|error| error.to_string());
        if tried? { ended } else { Err("no process may be moved into one".to_owned()) }
    }

    fn missing(&self, wanted: &[Controller]) -> Vec<Controller> {
        let has =
            |controller: &Controller| self.roots.iter().any(|root| root.controllers.contains(controller));
        wanted.iter().filter(|controller| !has(controller)).copied().collect()
    }

    /// Makes the run's group in `place`.
    fn add(&mut self, place: Place) -> Result<(), loom_ownership::Error> {
        let folder = place.folder.join(&self.name);
        self.ledger.make_folder(&folder, 0o755)?;
        let mut controllers = place.controllers;
        if place.version == Version::Two {
            controllers.retain(|controller| hierarchy::enable(&folder, *controller));
        }
        self.roots.push(Place { folder, controllers, ..place });
        Ok(())
    }

    /// Makes the group of an attempt at a job.
    ///
    /// # Errors
    /// What the system says: then there is none.
    pub(crate) fn of_job(&self) -> io::Result<ControlGroup> {
        let own = format!("job-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let mut group =
            ControlGroup { places: Vec::new(), name: self.name.join(&own), seen: Mutex::default() };
        for root in &self.roots {
            let folder = root.folder.join(&own);
            let made = fs::create_dir(&folder).and_then(|()| {
                group.places.push(Place { folder, ..root.clone() });
                group.places.iter().try_for_each(|place| set_limits(place, self.limits))
            });
            if let Err(error) = made {
                let _ = group.end();
                return Err(error);
            }
        }
        Ok(group)
    }

    /// Ends whatever is in them, and removes them.
    pub(crate) fn remove(&self) {
        for root in &self.roots {
            let ended = end(&root.folder, &self.name, PATIENCE);
            let removed = ended
                .map_err(|error| error.to_string())
                .and_then(|()| self.ledger.remove_folder(&root.folder).map_err(|error| error.to_string()));
            if let Err(error) = removed {
                tracing::warn!(%error, "a control group stays");
            }
        }
    }
}

fn set_limits(place: &Place, limits: JobLimits) -> io::Result<()> {
    let set = |file: &str, value: u64| fs::write(place.folder.join(file), value.to_string());
    // Swap is not counted everywhere.
    let set_if_there =
        |file: &str, value| if place.folder.join(file).exists() { set(file, value) } else { Ok(()) };
    for controller in &place.controllers {
        match (controller, place.version) {
            (Controller::Memory, Version::Two) => {
                limits.memory.map_or(Ok(()), |most| set("memory.max", most))?;
                limits.memory.map_or(Ok(()), |_| set_if_there("memory.swap.max", 0))?;
            }
            (Controller::Memory, Version::One) => {
                limits.memory.map_or(Ok(()), |most| set("memory.limit_in_bytes", most))?;
                limits.memory.map_or(Ok(()), |most| set_if_there("memory.memsw.limit_in_bytes", most))?;
            }
            (Controller::Pids, _) => {
                limits.pids.map_or(Ok(()), |most| set("pids.max", most.min(MOST_PIDS)))?;
            }
        }
    }
    Ok(())
}

/// The group of a job.
#[derive(Debug)]
pub(crate) struct ControlGroup {
    places: Vec<Place>,
    /// What its path ends in, in all hierarchies. Nobody else's does: there is a random word in it.
    name: PathBuf,
    /// How often something had been used up when that was asked last.
    seen: Mutex<[u64; 2]>,
}

impl ControlGroup {
    /// The files by which a process enters it.
    pub(super) fn entrances(&self) -> impl Iterator<Item = PathBuf> {
        self.places.iter().map(|place| place.folder.join("cgroup.procs"))
    }

    /// Whether the process `pid` is in it, or below.
    pub(super) fn holds(&self, pid: Pid) -> bool {
        is_in(pid, &self.name)
    }

    /// Kills all that is in it.
    pub(super) fn kill(&self) {
        for place in &self.places {
            kill(&place.folder, &self.name);
        }
    }

    /// What was used up since this was asked last.
    pub(super) fn used_up(&self) -> Vec<UsedUp> {
        let count = |controller: Controller| {
            let place = self.places.iter().find(|place| place.controllers.contains(&controller))?;
            let (file, key) = match (controller, place.version) {
                (Controller::Memory, Version::Two) => ("memory.events", "oom_kill"),
                (Controller::Memory, Version::One) => ("memory.oom_control", "oom_kill"),
                (Controller::Pids, _) => ("pids.events", "max"),
            };
            let text = fs::read_to_string(place.folder.join(file)).ok()?;
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
        };
        let now = Controller::ALL.map(|controller| count(controller).unwrap_or_default());
        let before = std::mem::replace(&mut *self.seen.lock(), now);
        let all = [UsedUp::Memory, UsedUp::Processes].into_iter().zip(now).zip(before);
        all.filter(|((_, now), before)| now > before).map(|((used, _), _)| used).collect()
    }

    /// Kills all that is in it, and removes it.
    ///
    /// # Errors
    /// Something in it does not end.
    pub(super) fn end(&self) -> io::Result<()> {
        self.places.iter().try_for_each(|place| end(&place.folder, &self.name, PATIENCE))
    }
}

/// Ends what is in the groups of a run that does not live any more, as far as its ledger proves that they are its own.
pub fn end_groups_of(run: &Entry) {
    for folder in run.folders().iter().filter(|folder| hierarchy::is_group(folder) && run.has_made(folder)) {
        let name = folder.file_name().map(PathBuf::from).unwrap_or_default();
        if let Err(error) = end(folder, &name, PATIENCE) {
            tracing::warn!(%error, "a control group of a dead run stays");
        }
    }
}

/// Kills all that is in the group at `folder`, whose path ends in `name`, and removes it.
fn end(folder: &Path, name: &Path, patience: Duration) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        // Mostly nothing is in it any more.
        match remove(folder) {
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => kill(folder, name),
            done => return done,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Removes the group at `folder` with those below, if nothing is in them.
fn remove(folder: &Path) -> io::Result<()> {
    let removed = below(folder).iter().rev().try_for_each(fs::remove_dir);
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The group at `folder` and those below, each behind the one that it is in.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let mut at = 0;
    while let Some(next) = found.get(at) {
        let entries = fs::read_dir(next).into_iter().flatten().flatten();
        let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        let inner: Vec<PathBuf> = entries.filter(is_folder).map(|entry| entry.path()).collect();
        found.extend(inner);
        at += 1;
    }
    found
}

fn kill(folder: &Path, name: &Path) {
    // Version 2, from Linux 5.14 on: at once, and nothing that is just being started is missed.
    let file = folder.join("cgroup.kill");
    if file.exists() && fs::write(file, "1").is_ok() {
        return;
    }
    for group in below(folder) {
        let list = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        for pid in list.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            // The number may be somebody else's by now; what was opened is not.
            if let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
                && is_in(pid, name)
            {
                let _ = pidfd_send_signal(process, Signal::KILL);
            }
        }
    }
}

/// Whether the process `pid` is in a group whose path ends in `name`, or below one.
fn is_in(pid: Pid, name: &Path) -> bool {
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).unwrap_or_default();
    let mut paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.any(|path| Path::new(path).ancestors().any(|group| group.ends_with(name)))
}

/// `error` of a step that failed, of a job with these limits that has used something up.
pub(crate) fn explained(error: ErrorInfo, used: UsedUp, limits: JobLimits) -> ErrorInfo {
    let message = format!("{}: {}", error.message, used.words(limits));
    ErrorInfo::new(used.code(), message).with_hint(used.hint(limits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_said_in_whole_units() {
        for (bytes, words) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1536, "1536 bytes"),
            (100 << 20, "100 MiB"),
            (2 << 30, "2 GiB"),
            (1536 << 20, "1536 MiB"),
            (1 << 40, "1 TiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), words);
        }
    }
}

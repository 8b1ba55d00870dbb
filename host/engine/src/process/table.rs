//! The system's table of processes, as far as Loom needs it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use loom_ownership::Mark;
use rustix::process::{Pid, Signal};

use super::MARK;

/// A process, as the system describes it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) pid: Pid,
    /// None where it is one of another world of processes.
    pub(super) session: Option<Pid>,
    parent: Option<Pid>,
    state: u8,
    /// In clock ticks since boot: with the pid it names a process for good.
    started: u64,
}

impl Entry {
    /// Reads `/proc/<pid>/stat`; `None` where the process is gone.
    pub(super) fn read(pid: Pid) -> Option<Self> {
        let stat = fs_err::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        // The second field is the program's name in brackets, which may hold anything.
        let after_name = &stat[memchr::memrchr(b')', &stat)? + 1..];
        let mut fields = std::str::from_utf8(after_name).ok()?.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let parent = Pid::from_raw(fields.next()?.parse().ok()?);
        // Behind the process group.
        let session = Pid::from_raw(fields.nth(1)?.parse().ok()?);
        let started = fields.nth(15)?.parse().ok()?;
        Some(Self { pid, session, parent, state, started })
    }

    pub(super) fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    /// The mark that its environment bears.
    pub(super) fn mark(&self) -> Option<Vec<u8>> {
        let environ = fs_err::read(format!("/proc/{}/environ", self.pid.as_raw_nonzero())).ok()?;
        environ
            .split(|b| *b == 0)
            .find_map(|variable| Some(variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"=")?.to_owned()))
    }

    /// Its command line, arguments parted by spaces; `None` for one that is ending.
    pub(super) fn command_line(&self) -> Option<String> {
        let words = fs_err::read(format!("/proc/{}/cmdline", self.pid.as_raw_nonzero())).ok()?;
        let line = words.split(|b| *b == 0).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
        Some(line.trim_end().to_owned()).filter(|line| !line.is_empty())
    }

    /// As [`Entry::command_line`], also of one that is at this moment becoming another program: it has none either.
    pub(super) fn settled_command_line(&self) -> Option<String> {
        for _ in 0..10 {
            let line = self.command_line();
            if line.is_some() || !self.is_alive() {
                return line;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        None
    }

    /// Whether this is still the same process.
    fn is_alive(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.started == self.started && !now.is_zombie())
    }
}

/// The children of this process.
pub(super) fn children() -> Vec<Pid> {
    children_of(rustix::process::getpid())
}

/// The children of `pid`; a child belongs to the thread that made it.
fn children_of(pid: Pid) -> Vec<Pid> {
    let Ok(tasks) = fs_err::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())) else {
        return Vec::new();
    };
    let mut children = Vec::new();
    for task in tasks.flatten() {
        // Empty where the thread is gone.
        let list = fs_err::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(list.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    }
    children
}

/// Adds everything below `entry` to `found`, deepest first.
pub(super) fn descendants(entry: &Entry, found: &mut Vec<Entry>) {
    let mut open = children_of(entry.pid);
    let start = found.len();
    // Bounded against a tree that grows while it is walked; the next look finds the rest.
    while let Some(pid) = open.pop() {
        if found.len() - start > 10_000 {
            break;
        }
        if let Some(child) = Entry::read(pid)
            && !child.is_zombie()
        {
            open.extend(children_of(pid));
            found.push(child);
        }
    }
    found[start..].reverse();
}

/// Kills every process that one of `marks` is of, and all below them, and goes on until none is left or `patience` is
/// over. Returns how many it killed.
///
/// This is for what a Loom that was itself killed has left behind. A process is known by the run's random word in its
/// environment, by its being younger than the run, and by its session, in which nothing is older either: who copies a
/// job's environment into a shell of their own has not made that shell a job's.
pub fn kill_marked(marks: &[&Mark], patience: Duration) -> usize {
    if marks.is_empty() {
        return 0;
    }
    let deadline = Instant::now() + patience;
    let mut killed = 0;
    loop {
        let marked = marked(marks);
        if marked.is_empty() {
            return killed;
        }
        for entry in &marked {
            if entry.is_alive() && rustix::process::kill_process(entry.pid, Signal::KILL).is_ok() {
                killed += 1;
            }
        }
        if Instant::now() >= deadline {
            return killed;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The live processes that one of `marks` is of, and those below them; never this process or one above it.
fn marked(marks: &[&Mark]) -> Vec<Entry> {
    let Ok(proc) = fs_err::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = proc.flatten().filter_map(|e| Pid::from_raw(e.file_name().to_str()?.parse().ok()?));
    let table: HashMap<Pid, Entry> = pids.filter_map(|pid| Some((pid, Entry::read(pid)?))).collect();
    let mut above = Some(rustix::process::getpid());
    let mut spared = Vec::new();
    while let Some(pid) = above
        && !spared.contains(&pid)
    {
        spared.push(pid);
        above = table.get(&pid).and_then(|e| e.parent);
    }
    let mut found = Vec::new();
    for entry in table.values().filter(|e| !e.is_zombie() && !spared.contains(&e.pid)) {
        let word = entry.mark().and_then(|mark| Some(mark.rsplit(|b| *b == b'/').next()?.to_owned()));
        let Some(mark) = marks.iter().find(|mark| word.as_deref() == Some(mark.word.as_bytes())) else {
            continue;
        };
        if entry.started >= mark.started && !is_in_older_session(entry, mark, &table) {
            descendants(entry, &mut found);
            found.push(entry.clone());
        }
    }
    found.retain(|entry| !spared.contains(&entry.pid));
    found
}

/// Whether the session of `entry` is older than the run: a step begins one of its own. Its leader may be gone, so every
/// process in it counts; and one that was begun where this process cannot see it (a container's entry) is no step's.
fn is_in_older_session(entry: &Entry, mark: &Mark, table: &HashMap<Pid, Entry>) -> bool {
    entry.session.is_none_or(|session| {
        table.values().any(|other| other.session == Some(session) && other.started < mark.started)
    })
}

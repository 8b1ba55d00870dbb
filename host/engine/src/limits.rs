//! The system's limits on this process, looked at before anything is run: what fits into them, and an error where nothing
//! does. Without this a run ends in the middle where it cannot start a thread or open a file.

use std::io;
use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread::Builder;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that Loom has whatever runs: the record, the runtime, sockets, a guard, a folder that is being copied.
const FILES_OF_LOOM: u64 = 40;
/// Open files of each job that runs: its streams of events, both ends of its process's output, the process.
const FILES_OF_JOB: u64 = 12;

/// The soft limit of open files that this process was started with, where it has raised its own since.
static FILES_OF_CHILDREN: OnceLock<u64> = OnceLock::new();

/// Lets this process open as many files as `jobs` jobs at once need, as far as the system allows. Returns for how many
/// jobs that is enough: at least one. What is started later is given the limit that this process had before.
pub fn make_room(jobs: NonZeroUsize) -> NonZeroUsize {
    let Rlimit { current: Some(soft), maximum: hard } = getrlimit(Resource::Nofile) else { return jobs };
    let needed = u64::try_from(jobs.get()).unwrap_or(u64::MAX).saturating_mul(FILES_OF_JOB);
    let needed = needed.saturating_add(FILES_OF_LOOM);
    if needed <= soft {
        return jobs;
    }
    let wanted = hard.map_or(needed, |hard| needed.min(hard));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: hard }).is_ok();
    if raised {
        let _ = FILES_OF_CHILDREN.set(soft);
    }
    let has = if raised { wanted } else { soft };
    let fit = has.saturating_sub(FILES_OF_LOOM) / FILES_OF_JOB;
    let fit = usize::try_from(fit).ok().and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN);
    fit.min(jobs)
}

/// The soft limit of open files for what this process starts; none where it has that of this process.
pub(crate) fn files_of_children() -> Option<u64> {
    FILES_OF_CHILDREN.get().copied()
}

/// How many files this process may open at most, where that is limited.
pub fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// Bytes of memory that this process may map, where that is limited.
pub fn address_space() -> Option<u64> {
    getrlimit(Resource::As).current
}

/// Starts `count` threads at once, and ends them again.
///
/// # Errors
/// The system does not allow so many: it has no more processes for this user, in this control group, or no more memory.
pub fn try_threads(count: usize) -> io::Result<()> {
    let (end, over) = mpsc::channel::<()>();
    let over = parking_lot::Mutex::new(over);
    std::thread::scope(|scope| {
        let started = (0..count).try_for_each(|_| {
            // Nothing is ever sent: they wait for the end.
            let wait = || {
                let _ = over.lock().recv();
            };
            Builder::new().spawn_scoped(scope, wait).map(drop)
        });
        drop(end);
        started
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_tried_and_end() {
        let threads = || fs_err::read_dir("/proc/self/task").unwrap().count();
        try_threads(50).unwrap();
        // Other tests run beside this one.
        assert!(threads() < 50, "{}", threads());
    }
}

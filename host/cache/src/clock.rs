//! Times of files, and the clock that a file system takes them from.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, fstat, futimens, openat};
use serde::{Deserialize, Serialize};

/// A point in time as file systems keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Time {
    /// Seconds since 1970.
    pub(crate) seconds: i64,
    /// The nanoseconds, fewer than a second has.
    pub(crate) nanos: u32,
}

#[expect(clippy::unnecessary_cast, reason = "the types of the fields differ between architectures")]
impl Time {
    pub(crate) fn modified(stat: &Stat) -> Self {
        Self { seconds: stat.st_mtime as i64, nanos: stat.st_mtime_nsec as u32 }
    }

    pub(crate) fn changed(stat: &Stat) -> Self {
        Self { seconds: stat.st_ctime as i64, nanos: stat.st_ctime_nsec as u32 }
    }
}

impl Time {
    /// The times that set this as a file's time of modification.
    pub(crate) fn to_set(self) -> Timestamps {
        Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: self.seconds, tv_nsec: self.nanos.into() },
        }
    }

    /// The time that has passed since `earlier`, in nanoseconds; less than nothing if that is in the future.
    pub(crate) fn since(self, earlier: Self) -> i128 {
        let nanos = |time: Self| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
        nanos(self) - nanos(earlier)
    }

    fn back(self, seconds: i64) -> Self {
        Self { seconds: self.seconds.saturating_sub(seconds), ..self }
    }
}

/// The milliseconds since 1970.
pub(crate) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The time so many milliseconds after 1970.
pub(crate) fn from_millis(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

/// The clock of the file system that a tree is on.
///
/// A file's time of change moves in ticks: milliseconds where the kernel keeps it, a second or two on some
/// file systems. A file that was looked at within the tick of its last change may change again and look the
/// same. Only what was last changed before the clock's present tick can be told from what it will be.
pub(crate) struct FsClock {
    /// A file without a name on that file system.
    probe: Option<OwnedFd>,
}

/// In seconds: how far behind the system's clock a file system's is assumed to be where it cannot be asked.
const COARSEST_TICK: i64 = 2;
/// In nanoseconds: what is further in the future is not so by a coarse clock, but because a clock was set
/// back.
pub(crate) const FUTURE: i128 = 3_000_000_000;

impl FsClock {
    pub(crate) fn of(tree: BorrowedFd<'_>) -> Self {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        Self { probe: openat(tree, c".", flags, Mode::RUSR | Mode::WUSR).ok() }
    }

    /// The present tick: what changes from now on has this time of change or a later one.
    pub(crate) fn now(&self) -> Time {
        let touch = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        };
        let asked = self.probe.as_ref().and_then(|probe| {
            futimens(probe, &touch).ok()?;
            fstat(probe).ok()
        });
        match asked {
            Some(stat) => Time::changed(&stat),
            None => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
                Time { seconds, nanos: since.subsec_nanos() }.back(COARSEST_TICK)
            }
        }
    }

    /// Waits until the present tick is later than `time`, `limit` at most; says whether it is.
    pub(crate) fn wait_past(&self, time: Time, limit: Duration) -> bool {
        let started = Instant::now();
        loop {
            let now = self.now();
            if now > time {
                return true;
            }
            if now.since(time) < -FUTURE || started.elapsed() >= limit {
                return false;
            }
            sleep(Duration::from_millis(1));
        }
    }
}

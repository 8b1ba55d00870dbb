//! Files of a tree that others may be writing to, read so that what is read is what the file held at one
//! moment.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use loom_tree::{LeftOut, dir};
use parking_lot::Mutex;
use rustix::fs::{FileType, Stat, fstat};
use rustix::io::{Errno, pread};

use crate::Error;
use crate::clock::{FUTURE, FsClock, Time};
use crate::index::Seen;
use crate::io::ReadError;
use crate::layout::BIG;

/// A call that writes to a small file is over after this time, and one that writes to a large file after this
/// and a second for each [`SLOWEST`] bytes. The time of change is set when such a call begins.
const WRITE: Duration = Duration::from_millis(50);
const SLOWEST: u64 = 100 << 20;
/// The time that a whole save or restore waits for files to come to rest.
const QUIESCE_TIMEOUT: Duration = Duration::from_secs(3);

/// Tells files at rest from those that may still be written to.
///
/// A file whose time of change is the present tick of the clock may change again and look the same; and a
/// call that began to write a moment ago may not be over. Neither can be of one that was last changed some
/// time ago.
pub(crate) struct Quiescence {
    clock: FsClock,
    /// The time at which the act began.
    since: Time,
    /// The time that was waited.
    waited: Mutex<Duration>,
}

impl Quiescence {
    pub(crate) fn new(clock: FsClock) -> Self {
        let since = clock.now();
        Self { clock, since, waited: Mutex::default() }
    }

    /// The time until a file of this size that was last changed at `time` is at rest.
    fn left(&self, time: Time, size: u64) -> Option<Duration> {
        let enough = WRITE + Duration::from_nanos(size.saturating_mul(1_000_000_000 / SLOWEST));
        let enough = i128::try_from(enough.as_nanos()).unwrap_or(i128::MAX);
        if self.since.since(time) >= enough {
            return None;
        }
        let passed = self.clock.now().since(time);
        // A change to one from the future would give it the present time: that shows.
        if passed < -FUTURE || passed >= enough {
            return None;
        }
        Some(Duration::from_nanos(u64::try_from(enough - passed).unwrap_or(u64::MAX)))
    }

    /// The clock has been at `time`, so that no change will have that time again.
    fn is_over(&self, time: Time) -> bool {
        time < self.since || time < self.clock.now()
    }

    /// Waits, unless that has taken too long already.
    fn wait(&self, time: Duration) -> bool {
        let mut waited = self.waited.lock();
        if *waited + time > QUIESCE_TIMEOUT {
            return false;
        }
        *waited += time;
        drop(waited);
        std::thread::sleep(time);
        true
    }
}

/// The content of a file at one moment, with what vouches for it later: nothing where a change would not
/// show.
pub(crate) struct StableFile<T> {
    pub(crate) value: T,
    pub(crate) stat: Stat,
    pub(crate) seen: Option<Seen>,
}

/// The reason why a file was passed over.
pub(crate) enum Skipped {
    /// A file that is to be left out.
    LeftOut(LeftOut),
    /// A file that has more bytes than were asked for.
    Large,
    /// The system does not let it be read.
    Unread(Errno),
    Failed(Error),
}

impl From<Error> for Skipped {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Errno> for Skipped {
    fn from(errno: Errno) -> Self {
        Self::Unread(errno)
    }
}

/// Reads the file `name` with `read`, if it has no more than `most` bytes, and once more if the file changed
/// meanwhile. `read` returns nothing where the file is not as long as it should be, and the same for the same
/// content.
pub(crate) fn read_stable<T: PartialEq>(
    folder: BorrowedFd<'_>,
    name: &[u8],
    most: u64,
    quiescence: &Quiescence,
    mut read: impl FnMut(BorrowedFd<'_>, &Stat) -> Result<Option<T>, ReadError>,
) -> Result<StableFile<T>, Skipped> {
    for _ in 0..2 {
        match attempt(folder, name, most, quiescence, &mut read) {
            Ok(Attempt::Stable(file)) => return Ok(file),
            Ok(Attempt::TooLarge) => return Err(Skipped::Large),
            Ok(Attempt::Changed) => {}
            Err(ReadError::File(errno)) => return Err(errno.into()),
            Err(ReadError::Other(error)) => return Err(error.into()),
        }
    }
    Err(Skipped::LeftOut(LeftOut::Changing))
}

/// An attempt to read a file.
enum Attempt<T> {
    Stable(StableFile<T>),
    /// A file that has more bytes than were asked for.
    TooLarge,
    /// A file that changed meanwhile, or may have.
    Changed,
}

fn attempt<T: PartialEq>(
    folder: BorrowedFd<'_>,
    name: &[u8],
    most: u64,
    quiescence: &Quiescence,
    read: &mut impl FnMut(BorrowedFd<'_>, &Stat) -> Result<Option<T>, ReadError>,
) -> Result<Attempt<T>, ReadError> {
    let file = match dir::open_file(folder, name) {
        Ok(file) => file,
        // Not what it was when its folder was listed.
        Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Ok(Attempt::Changed),
        Err(errno) => return Err(ReadError::File(errno)),
    };
    let stat = || fstat(&file).map_err(ReadError::File);
    let mut before = stat()?;
    if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
        return Ok(Attempt::Changed);
    }
    let size = |stat: &Stat| u64::try_from(stat.st_size).unwrap_or(0);
    if size(&before) > most {
        return Ok(Attempt::TooLarge);
    }
    if let Some(left) = quiescence.left(Time::changed(&before), size(&before).min(BIG)) {
        if !quiescence.wait(left) {
            return Ok(Attempt::Changed);
        }
        before = stat()?;
        if quiescence.left(Time::changed(&before), size(&before).min(BIG)).is_some() {
            return Ok(Attempt::Changed);
        }
    }
    let at_rest = quiescence.left(Time::changed(&before), size(&before)).is_none();
    let same = |other: &Stat| {
        Seen::of(other) == Seen::of(&before)
            && other.st_size == before.st_size
            && Time::modified(other) == Time::modified(&before)
    };
    let Some(value) = read(file.as_fd(), &before)? else { return Ok(Attempt::Changed) };
    // A large file may take its writer longer than one likes to wait. Read twice, some time apart, it shows.
    if !at_rest {
        let second = if quiescence.wait(WRITE) { read(file.as_fd(), &before)? } else { None };
        if second.as_ref() != Some(&value) {
            return Ok(Attempt::Changed);
        }
    }
    if !same(&stat()?) {
        return Ok(Attempt::Changed);
    }
    let seen = (at_rest && quiescence.is_over(Time::changed(&before))).then(|| Seen::of(&before));
    Ok(Attempt::Stable(StableFile { value, stat: before, seen }))
}

/// Reads a whole file that should have `size` bytes after what `buffer` holds; false if it is shorter.
pub(crate) fn append(file: BorrowedFd<'_>, size: usize, buffer: &mut Vec<u8>) -> Result<bool, Errno> {
    let start = buffer.len();
    buffer.resize(start + size, 0);
    let mut at = 0;
    while at < size {
        match pread(file, &mut buffer[start + at..], at as u64) {
            Ok(0) => return Ok(false),
            Ok(got) => at += got,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

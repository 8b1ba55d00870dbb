//! Files of a tree that others may be writing to, read so that what is read is what the file held at one moment.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::{Errno, pread};

use crate::clock::{FUTURE, FsClock, Time};
use crate::index::Seen;
use crate::pack::BIG;
use crate::shared::Shared;
use crate::{Error, LeftOut};

/// A call that writes to a small file is over after this time, and one that writes to a large file after this and a
/// second for each [`SLOWEST`] bytes. The time of change is set when such a call begins.
const WRITE: Duration = Duration::from_millis(50);
const SLOWEST: u64 = 100 << 20;
/// So long a whole save or restore waits for files to come to rest.
const PATIENCE: Duration = Duration::from_secs(3);

/// Tells files at rest from those that may still be written to.
///
/// A file whose time of change is the present tick of the clock may change again and look the same; and a call that began
/// to write a moment ago may not be over. Neither can be of one that was last changed some time ago.
pub(crate) struct Rest {
    clock: FsClock,
    /// When it began.
    since: Time,
    /// How long was waited.
    waited: Shared<Duration>,
}

impl Rest {
    pub(crate) fn new(clock: FsClock) -> Self {
        let since = clock.now();
        Self { clock, since, waited: Shared::default() }
    }

    /// How long it is until a file of this size that was last changed at `time` is at rest.
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
        if *waited + time > PATIENCE {
            return false;
        }
        *waited += time;
        drop(waited);
        std::thread::sleep(time);
        true
    }
}

/// Why a file was not read: what is the matter with it, or with something else.
pub(crate) enum Trouble {
    File(Errno),
    Else(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Else(error)
    }
}

/// What was read, with what vouches for it later: nothing where a change would not show.
pub(crate) struct Taken<T> {
    pub(crate) value: T,
    pub(crate) stat: Stat,
    pub(crate) seen: Option<Seen>,
}

/// Why a file was not taken.
pub(crate) enum NotTaken {
    /// It is to be left out.
    LeftOut(LeftOut),
    /// It has more bytes than were asked for.
    Large,
    /// The system does not let it be read.
    Unread(Errno),
    Failed(Error),
}

impl From<Error> for NotTaken {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Errno> for NotTaken {
    fn from(errno: Errno) -> Self {
        Self::Unread(errno)
    }
}

/// Calls `take` with the open file `name`, if it has no more than `most` bytes, and once more if the file changed
/// meanwhile. `take` returns nothing where the file is not as long as it should be, and the same for the same content.
pub(crate) fn take<T: PartialEq>(
    folder: BorrowedFd<'_>,
    name: &[u8],
    most: u64,
    rest: &Rest,
    mut take: impl FnMut(BorrowedFd<'_>, &Stat) -> Result<Option<T>, Trouble>,
) -> Result<Taken<T>, NotTaken> {
    for _ in 0..2 {
        match once(folder, name, most, rest, &mut take) {
            Ok(Some(Some(taken))) => return Ok(taken),
            Ok(Some(None)) => return Err(NotTaken::Large),
            Ok(None) => {}
            Err(Trouble::File(errno)) => return Err(errno.into()),
            Err(Trouble::Else(error)) => return Err(error.into()),
        }
    }
    Err(NotTaken::LeftOut(LeftOut::Changing))
}

/// Takes a file; nothing if it changed meanwhile, or may have; nothing of it if it is too large.
fn once<T: PartialEq>(
    folder: BorrowedFd<'_>,
    name: &[u8],
    most: u64,
    rest: &Rest,
    take: &mut impl FnMut(BorrowedFd<'_>, &Stat) -> Result<Option<T>, Trouble>,
) -> Result<Option<Option<Taken<T>>>, Trouble> {
    // Without NONBLOCK a fifo would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => file,
        // Not what it was when its folder was listed.
        Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Ok(None),
        Err(errno) => return Err(Trouble::File(errno)),
    };
    let stat = || fstat(&file).map_err(Trouble::File);
    let mut before = stat()?;
    if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let size = |stat: &Stat| u64::try_from(stat.st_size).unwrap_or(0);
    if size(&before) > most {
        return Ok(Some(None));
    }
    if let Some(left) = rest.left(Time::changed(&before), size(&before).min(BIG)) {
        if !rest.wait(left) {
            return Ok(None);
        }
        before = stat()?;
        if rest.left(Time::changed(&before), size(&before).min(BIG)).is_some() {
            return Ok(None);
        }
    }
    let at_rest = rest.left(Time::changed(&before), size(&before)).is_none();
    let same = |other: &Stat| {
        Seen::of(other) == Seen::of(&before)
            && other.st_size == before.st_size
            && Time::modified(other) == Time::modified(&before)
    };
    let Some(value) = take(file.as_fd(), &before)? else { return Ok(None) };
    // A large file may take its writer longer than one likes to wait. Read twice, some time apart, it shows.
    if !at_rest {
        let second = if rest.wait(WRITE) { take(file.as_fd(), &before)? } else { None };
        if second.as_ref() != Some(&value) {
            return Ok(None);
        }
    }
    if !same(&stat()?) {
        return Ok(None);
    }
    let seen = (at_rest && rest.is_over(Time::changed(&before))).then(|| Seen::of(&before));
    Ok(Some(Some(Taken { value, stat: before, seen })))
}

/// What to say of `path`, a file or folder that the system does not let us read; an error where that is no matter of this
/// file alone: a disk that fails, or too many open files.
pub(crate) fn left_out(path: &Path, errno: Errno) -> Result<LeftOut, Error> {
    match errno {
        Errno::NOENT => Ok(LeftOut::Vanished),
        Errno::ACCESS | Errno::PERM => Ok(LeftOut::Unreadable(std::io::Error::from(errno).to_string())),
        _ => Err(Error::read(path, errno)),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_files_own_matter_leaves_a_file_out() {
        let of = |errno| left_out(Path::new("a/b"), errno);
        assert_eq!(of(Errno::NOENT).unwrap(), LeftOut::Vanished);
        for errno in [Errno::ACCESS, Errno::PERM] {
            assert!(matches!(of(errno).unwrap(), LeftOut::Unreadable(_)));
        }
        for errno in [Errno::IO, Errno::MFILE, Errno::NOMEM, Errno::STALE, Errno::NOTCONN, Errno::TIMEDOUT] {
            let error = of(errno).unwrap_err().to_string();
            assert!(error.contains("`a/b`") || error.contains("a/b: "), "{error}");
        }
    }
}

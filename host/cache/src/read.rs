//! Files of a tree that others may be writing to, read so that what is read is what the file held at one moment.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::{Errno, pread};

use crate::clock::{FsClock, Time};
use crate::index::Seen;
use crate::{Error, LeftOut};

/// Longer than the coarsest tick of a file system's clock.
const LONGEST_TICK: Duration = Duration::from_secs(3);

/// Tells files that changed just now from those at rest.
pub(crate) struct Rest {
    clock: FsClock,
    /// A tick that the clock has reached.
    reached: Mutex<Time>,
}

impl Rest {
    pub(crate) fn new(clock: FsClock) -> Self {
        let reached = Mutex::new(clock.now());
        Self { clock, reached }
    }

    /// Waits until a change to a file that was last changed at `time` would show, a few seconds at most.
    fn wait(&self, time: Time) -> Wait {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        if time < *reached {
            return Wait::NotNeeded;
        }
        let past = self.clock.wait_past(time, LONGEST_TICK);
        *reached = (*reached).max(self.clock.now());
        if past { Wait::Over } else { Wait::InVain }
    }
}

#[derive(PartialEq, Eq)]
enum Wait {
    NotNeeded,
    Over,
    InVain,
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

/// Calls `take` with the open file `name`, and once more if the file changed meanwhile. `take` returns nothing where the
/// file is not as long as it should be.
pub(crate) fn take<T>(
    folder: BorrowedFd<'_>,
    name: &[u8],
    rest: &Rest,
    mut take: impl FnMut(BorrowedFd<'_>, &Stat) -> Result<Option<T>, Trouble>,
) -> Result<Result<Taken<T>, LeftOut>, Error> {
    // Without NONBLOCK a fifo would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut once = || -> Result<Option<Taken<T>>, Trouble> {
        let file = match openat(folder, name, flags, Mode::empty()) {
            Ok(file) => file,
            // Not what it was when its folder was listed.
            Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Ok(None),
            Err(errno) => return Err(Trouble::File(errno)),
        };
        let mut before = fstat(&file).map_err(Trouble::File)?;
        if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let waited = rest.wait(Time::changed(&before));
        if waited != Wait::NotNeeded {
            before = fstat(&file).map_err(Trouble::File)?;
        }
        let Some(value) = take(file.as_fd(), &before)? else { return Ok(None) };
        let after = fstat(&file).map_err(Trouble::File)?;
        let seen = Seen::of(&before);
        if Seen::of(&after) != seen
            || after.st_size != before.st_size
            || modified(&after) != modified(&before)
        {
            return Ok(None);
        }
        // A change while we waited may be of the present tick again.
        let at_rest = waited == Wait::NotNeeded || rest.wait(Time::changed(&before)) == Wait::NotNeeded;
        Ok(Some(Taken { value, stat: before, seen: at_rest.then_some(seen) }))
    };
    for _ in 0..2 {
        match once() {
            Ok(Some(taken)) => return Ok(Ok(taken)),
            Ok(None) => {}
            Err(Trouble::File(errno)) => return left_out(errno).map(Err),
            Err(Trouble::Else(error)) => return Err(error),
        }
    }
    Ok(Err(LeftOut::Changing))
}

/// What to say of a file or folder that the system does not let us read; an error where that is no matter of this file.
pub(crate) fn left_out(errno: Errno) -> Result<LeftOut, Error> {
    match errno {
        Errno::NOENT => Ok(LeftOut::Vanished),
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => Err(Error::read("(any file)", errno)),
        _ => Ok(LeftOut::Unreadable(std::io::Error::from(errno).to_string())),
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

fn modified(stat: &Stat) -> Time {
    Time::modified(stat)
}

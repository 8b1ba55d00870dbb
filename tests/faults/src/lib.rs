//! Failing I/O for tests.
//!
//! A crate calls [`point`] right before each call to the system that may fail, in its unit tests only. A test
//! lets the first of these calls fail, then the second, and so on, until what it does passes without reaching
//! the one that would fail: [`fail_each`]. Whatever fails, nothing may be torn or lost, the error must name
//! the path, and the next act must work.
//!
//! Which calls are meant is said by a folder, so that tests do not get in each other's way.

#![expect(clippy::panic, reason = "a harness of tests reports by panicking")]

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustix::io::Errno;

/// More calls than any act of a test makes.
const MOST: usize = 10_000;

type Hook = Box<dyn FnMut(&'static str, &Path) -> io::Result<()> + Send>;

struct Hooked {
    id: u64,
    root: PathBuf,
    hook: Hook,
}

static HOOKS: Mutex<Vec<Hooked>> = Mutex::new(Vec::new());
static COUNT: AtomicUsize = AtomicUsize::new(0);
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The place of a call to the system that does `doing` to `path`. Fails where a test wants that call to fail.
///
/// # Errors
/// Those that the test wants.
pub fn point(doing: &'static str, path: &Path) -> io::Result<()> {
    if COUNT.load(Ordering::Acquire) == 0 {
        return Ok(());
    }
    let mut hooks = HOOKS.lock();
    let below = hooks.iter_mut().filter(|hooked| path.starts_with(&hooked.root));
    below.map(|hooked| (hooked.hook)(doing, path)).fold(Ok(()), io::Result::and)
}

/// Has `hook` called at each [`point`] below `root` until the guard is dropped; an error of it is that of the
/// call. It must not reach such a point itself.
#[must_use]
pub fn intercept(
    root: &Path,
    hook: impl FnMut(&'static str, &Path) -> io::Result<()> + Send + 'static,
) -> Intercepted {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    HOOKS.lock().push(Hooked { id, root: root.to_owned(), hook: Box::new(hook) });
    COUNT.fetch_add(1, Ordering::Release);
    Intercepted(id)
}

/// Calls that are intercepted as long as this lives.
pub struct Intercepted(u64);

impl Drop for Intercepted {
    fn drop(&mut self) {
        HOOKS.lock().retain(|hooked| hooked.id != self.0);
        COUNT.fetch_sub(1, Ordering::Release);
    }
}

/// How calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// One call does.
    Once(Errno),
    /// One call does, and each one after it: the disk is gone, or the process as good as dead.
    FromThenOn(Errno),
}

/// One call that is to fail.
pub struct Fault<'a> {
    root: &'a Path,
    failing: Failing,
    nth: usize,
    hit: RefCell<Option<Hit>>,
}

/// The call that failed.
#[derive(Clone, PartialEq, Eq)]
pub struct Hit {
    /// What it was to do.
    pub doing: &'static str,
    /// To which file or folder.
    pub path: PathBuf,
}

impl fmt::Debug for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.doing, self.path.display())
    }
}

impl Fault<'_> {
    /// Does `act` with the call failing.
    pub fn during<T>(&self, act: impl FnOnce() -> T) -> T {
        let hit: Arc<Mutex<Option<Hit>>> = Arc::default();
        let (noted, failing, mut left) = (hit.clone(), self.failing, self.nth);
        let guard = intercept(self.root, move |doing, path| {
            left = left.saturating_sub(1);
            let mut hit = noted.lock();
            let errno = match failing {
                _ if left > 0 => return Ok(()),
                Failing::Once(_) if hit.is_some() => return Ok(()),
                Failing::Once(errno) | Failing::FromThenOn(errno) => errno,
            };
            hit.get_or_insert(Hit { doing, path: path.to_owned() });
            Err(errno.into())
        });
        let value = act();
        drop(guard);
        if let Some(hit) = hit.lock().take() {
            self.hit.replace(Some(hit));
        }
        value
    }

    /// The call that failed; nothing where the act did not come to it.
    pub fn hit(&self) -> Option<Hit> {
        self.hit.borrow().clone()
    }
}

/// Calls `round` with the first call below `root` that fails, then the second, and so on, until no call was
/// reached. Returns how many were.
pub fn fail_each(root: &Path, failing: Failing, mut round: impl FnMut(&Fault<'_>)) -> usize {
    for nth in 1..MOST {
        let fault = Fault { root, failing, nth, hit: RefCell::default() };
        round(&fault);
        if fault.hit().is_none() {
            return nth - 1;
        }
    }
    panic!("after {MOST} rounds there still is a call that fails")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(root: &Path) -> io::Result<()> {
        ["one", "two", "three"].iter().try_for_each(|name| point("act on", &root.join(name)))
    }

    #[test]
    fn each_call_fails_once_and_only_below_the_folder() {
        let root = Path::new("/some/folder");
        let mut seen = Vec::new();
        let calls = fail_each(root, Failing::Once(Errno::IO), |fault| {
            let result = fault.during(|| (act(Path::new("/another")), act(root)));
            assert!(result.0.is_ok());
            assert_eq!(result.1.is_err(), fault.hit().is_some());
            seen.extend(fault.hit().map(|hit| hit.path));
            act(root).unwrap();
        });
        assert_eq!((calls, seen), (3, ["one", "two", "three"].map(|name| root.join(name)).to_vec()));
    }

    #[test]
    fn all_later_calls_fail_where_that_is_wanted() {
        let root = Path::new("/a/disk");
        fail_each(root, Failing::FromThenOn(Errno::IO), |fault| {
            let failed = fault.during(|| (0..4).filter(|_| point("write", root).is_err()).count());
            assert!(failed > 0 || fault.hit().is_none());
            assert!(point("write", root).is_ok());
        });
    }
}

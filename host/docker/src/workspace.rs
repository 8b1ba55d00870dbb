//! Who has the run's copy of the repository while containers have it mounted as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::Ids;

/// The copy, for all jobs of a run: those for whose users it is as it is share it; one whose user it has to be given to has
/// it alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedWorkspace(Arc<RwLock<()>>);

/// A job's hold on it.
#[derive(Debug)]
pub(crate) struct WorkspaceLease {
    /// To whom it is given, and whether it was.
    to: Option<(Ids, AtomicBool)>,
    _guard: Guard,
}

#[derive(Debug)]
enum Guard {
    Shared(#[expect(dead_code, reason = "held")] OwnedRwLockReadGuard<()>),
    Alone(#[expect(dead_code, reason = "held")] OwnedRwLockWriteGuard<()>),
}

impl SharedWorkspace {
    /// Waits until a job may have it whose processes are root's, or the user's own.
    pub(crate) async fn share(&self) -> WorkspaceLease {
        WorkspaceLease { to: None, _guard: Guard::Shared(Arc::clone(&self.0).read_owned().await) }
    }

    /// Waits until a job may have it whose processes are those of `user`.
    pub(crate) async fn give_to(&self, user: Ids) -> WorkspaceLease {
        let guard = Guard::Alone(Arc::clone(&self.0).write_owned().await);
        WorkspaceLease { to: Some((user, AtomicBool::new(false))), _guard: guard }
    }
}

impl WorkspaceLease {
    /// To whom it is still to be given.
    pub(crate) fn to_be_given(&self) -> Option<Ids> {
        let (ids, is_given) = self.to.as_ref()?;
        (!is_given.swap(true, Ordering::Relaxed)).then_some(*ids)
    }
}

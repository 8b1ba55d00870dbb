use std::marker::PhantomData;

use crate::bindings::loom::host::{job, types};
use crate::bindings::provider::exports::loom::plugin::provider as exports;
use crate::error::{Error, Result};
use crate::job::{Job, Step};
use crate::process::Exit;

/// Runs jobs. Loom makes a value with [`Default`] for each job and calls, one at a time: [`Provider::prepare`], then
/// [`Provider::run_step`] for each step until one does not succeed, then always [`Provider::cleanup`].
///
/// Registered with [`export_provider!`](crate::export_provider).
pub trait Provider: Default {
    /// Gets ready for the job's steps.
    ///
    /// # Errors
    /// It cannot; the job fails before any step runs.
    fn prepare(&mut self, job: Job<'_>) -> Result<()> {
        let _ = job;
        Ok(())
    }

    /// Runs one step, and says how its command ended.
    ///
    /// # Errors
    /// The step could not be run to an end of its own.
    fn run_step(&mut self, job: Job<'_>, step: Step<'_>) -> Result<Exit>;

    /// Gives back what the job used. Called whatever happened before. Where a call panicked or was stopped, `self` is a
    /// new value; [`state`](crate::state) has what was kept. It must cope with a job that was prepared half or not at
    /// all.
    ///
    /// # Errors
    /// Something could not be given back.
    fn cleanup(&mut self, job: Job<'_>, reason: CleanupReason) -> Result<()> {
        let _ = (job, reason);
        Ok(())
    }
}

/// Why a job is cleaned up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CleanupReason {
    /// All its steps succeeded.
    Done,
    /// A step, or something before, failed.
    Failed,
    /// The run was cancelled.
    Cancelled,
}

/// Makes the component a provider of the given type, which implements [`Provider`].
#[macro_export]
macro_rules! export_provider {
    ($provider:ty) => {
        impl $crate::__private::Instance for $provider {
            fn with<R>(call: impl FnOnce(&mut Self) -> R) -> R {
                ::std::thread_local! {
                    static INSTANCE: ::core::cell::RefCell<$provider> =
                        ::core::cell::RefCell::new(::core::default::Default::default());
                }
                INSTANCE.with_borrow_mut(call)
            }
        }

        const _: () = $crate::__private::registered::<$provider>();
        // Elsewhere there is no host; the crate builds all the same, so that its own tests run.
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Component = $crate::__private::Exported<$provider>;
    $crate::bindings::provider::export!(Component with_types_in $crate::bindings::provider);
        };
    };
}

/// Makes sure on every target that `P` can be exported.
pub const fn registered<P: Instance>() {}

/// The one value of a component's provider.
pub trait Instance: Provider {
    /// Calls `call` with it.
    fn with<R>(call: impl FnOnce(&mut Self) -> R) -> R;
}

/// What the component exports for the provider `P`.
#[derive(Debug)]
pub struct Exported<P>(PhantomData<P>);

impl<P: Instance> exports::Guest for Exported<P> {
    fn prepare(job: &job::Job) -> Result<(), types::Error> {
        P::with(|provider| provider.prepare(Job(job))).map_err(Error::into_host)
    }

    fn run_step(job: &job::Job, step: &job::Step) -> Result<types::Exit, types::Error> {
        P::with(|provider| provider.run_step(Job(job), Step(step)))
            .map(Exit::into_host)
            .map_err(Error::into_host)
    }

    fn cleanup(job: &job::Job, reason: exports::CleanupReason) -> Result<(), types::Error> {
        let reason = match reason {
            exports::CleanupReason::Done => CleanupReason::Done,
            exports::CleanupReason::Failed => CleanupReason::Failed,
            exports::CleanupReason::Cancelled => CleanupReason::Cancelled,
        };
        P::with(|provider| provider.cleanup(Job(job), reason)).map_err(Error::into_host)
    }
}

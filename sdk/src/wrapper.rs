use std::marker::PhantomData;

use crate::bindings::loom::host::{job, types};
use crate::bindings::wrapper::exports::loom::plugin::wrapper as exports;
use crate::error::{Error, Result};
use crate::job::Job;

/// Works around a provider. Loom makes a value with [`Default`] for each job that uses the wrapper's keyword.
///
/// Registered with [`export_wrapper!`](crate::export_wrapper).
pub trait Wrapper: Default {
    /// Called when the provider is ready, before the first step.
    ///
    /// # Errors
    /// It cannot go on; the job fails before any step runs.
    fn before(&mut self, job: Job<'_>) -> Result<()>;

    /// Called after the last step that ran; not for a run that was cancelled. `self` may be a new value; then
    /// [`state`](crate::state) has what was kept.
    ///
    /// # Errors
    /// Something went wrong. It is told, and leaves the job's result as it is.
    fn after(&mut self, job: Job<'_>, outcome: Outcome) -> Result<()>;
}

/// How a job's steps ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of them succeeded.
    Success,
    /// One did not.
    Failed,
}

/// Makes the component a wrapper of the given type, which implements [`Wrapper`].
#[macro_export]
macro_rules! export_wrapper {
    ($wrapper:ty) => {
        impl $crate::__private::WrapperInstance for $wrapper {
            fn with<R>(call: impl FnOnce(&mut Self) -> R) -> R {
                ::std::thread_local! {
                    static INSTANCE: ::core::cell::RefCell<$wrapper> =
                        ::core::cell::RefCell::new(::core::default::Default::default());
                }
                INSTANCE.with_borrow_mut(call)
            }
        }

        const _: () = $crate::__private::registered_wrapper::<$wrapper>();
        // Elsewhere there is no host; the crate builds all the same, so that its own tests run.
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Component = $crate::__private::ExportedWrapper<$wrapper>;
    $crate::bindings::wrapper::export!(Component with_types_in $crate::bindings::wrapper);
        };
    };
}

/// Makes sure on every target that `W` can be exported.
pub const fn registered_wrapper<W: WrapperInstance>() {}

/// The one value of a component's wrapper.
pub trait WrapperInstance: Wrapper {
    /// Calls `call` with it.
    fn with<R>(call: impl FnOnce(&mut Self) -> R) -> R;
}

/// What the component exports for the wrapper `W`.
#[derive(Debug)]
pub struct ExportedWrapper<W>(PhantomData<W>);

impl<W: WrapperInstance> exports::Guest for ExportedWrapper<W> {
    fn before(job: &job::Job) -> Result<(), types::Error> {
        W::with(|wrapper| wrapper.before(Job(job))).map_err(Error::into_host)
    }

    fn after(job: &job::Job, outcome: exports::Outcome) -> Result<(), types::Error> {
        let outcome = match outcome {
            exports::Outcome::Success => Outcome::Success,
            exports::Outcome::Failed => Outcome::Failed,
        };
        W::with(|wrapper| wrapper.after(Job(job), outcome)).map_err(Error::into_host)
    }
}

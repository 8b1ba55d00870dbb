//! The crate as its callers see it, with real trees.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test whose ground is missing fails")]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests ask the system's tar, remove with its rm, and say what they skip"
)]

mod collect;
mod hostile;
mod links;
mod pattern;
mod place;
mod remove;
mod support;
mod walk;

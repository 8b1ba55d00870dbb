//! The crate as its callers see it, with real git repositories.

#![expect(clippy::unwrap_used, reason = "a test whose ground is missing fails")]

mod content;
mod failure;
mod git_state;
mod layout;
mod locate;
mod support;
mod update;

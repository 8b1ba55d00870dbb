//! What proves that something is ours, with what others could have put in its place.

#![expect(clippy::unwrap_used, reason = "a test whose ground is missing fails")]

mod folders;
mod ledgers;

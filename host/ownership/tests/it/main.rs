//! What proves that something is ours, with what others could have put in its place.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test whose ground is missing fails")]
#![expect(clippy::disallowed_methods, reason = "tests make what others could")]

mod folders;
mod ledgers;
mod slots;

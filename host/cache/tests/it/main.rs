//! The store as its users see it: what is saved is what is restored, whatever happens in between.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test whose ground is missing has to end, and one that is skipped says so"
)]

mod changes;
mod collect;
mod damage;
mod find;
mod identity;
mod key;
mod kill;
mod limits;
mod paths;
mod reuse;
mod support;
mod together;

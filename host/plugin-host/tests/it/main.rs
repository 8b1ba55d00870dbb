//! Plugins that do what they must not, and what becomes of it.

#![expect(clippy::unwrap_used, reason = "tests")]

mod calls;
mod compiled;
mod faults;
mod load;
mod processes;
mod resolver;
mod support;

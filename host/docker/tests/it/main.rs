//! The whole of the crate against a real daemon. Without one the tests say that they were skipped; with
//! `LOOM_TESTS_NEED_DOCKER` set they fail.

#![expect(clippy::unwrap_used, reason = "a test whose ground is missing fails")]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests start daemons of their own, and say what they skip"
)]

mod build;
mod container;
mod exec;
mod files;
mod leftovers;
mod loss;
mod registry;
mod service;
mod support;
mod tls;

//! The whole of the crate against a real daemon. Without one the tests say that they were skipped; with
//! `LOOM_TESTS_NEED_DOCKER` set they fail.
#![expect(clippy::unwrap_used, reason = "a test may")]
#![expect(clippy::panic, reason = "a test may")]

mod container;
mod exec;
mod support;

//! A text and the files that it includes: `cargo +nightly fuzz run resolver -- -dict=workflow.dict`.

#![no_main]

#[path = "../entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::resolver(data));

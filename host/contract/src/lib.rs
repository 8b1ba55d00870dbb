//! The words and files that Loom promises.
//!
//! This crate has no I/O. It holds the types that a run leaves on disk, their names and where they stand, so that the
//! recorder, the tests and any other reader share one source:
//!
//! ```text
//! .loom/.runtime/
//!   receipts/loom-run-local-<ns>.json             receipt        one page on the whole run
//!   receipts/loom-run-local-<ns>.cache-diff.json  cache_diff     what a comparison with a run without caches found
//!   logs/loom-run-local-<ns>/
//!     events.jsonl  summary.json  phase-report.json
//!     pipeline/{summary,manifest}.json  events.jsonl             which job failed
//!     jobs/<job>/{summary,manifest}.json  events.jsonl           which step or section failed
//!     jobs/<job>/user/execution/events.jsonl                     all steps, in order
//!     jobs/<job>/user/execution/script/<NN>/{summary.json,events.jsonl}
//!     jobs/<job>/system/<section>/{summary.json,events.jsonl}
//! ```
//!
//! Reading order: [`id`], [`phase`], [`section`], [`status`], [`event`] (what happens), then the documents that are
//! folded from events: [`summary`], [`manifest`], [`phase_report`], [`receipt`], [`cache_diff`]. [`graph_ir`] is what a workflow
//! compiles to, [`layout`] spells every path, [`schema`] prints JSON Schemas of all of it;
//! [`visible`] is how any text is shown to people, [`redacted`] the type of what may leave Loom.

pub mod cache_diff;
pub mod error;
pub mod event;
pub mod exit;
pub mod graph_ir;
pub mod id;
pub mod layout;
pub mod manifest;
pub mod phase;
pub mod phase_report;
pub mod receipt;
pub mod redacted;
pub mod schema;
pub mod section;
pub mod source_line;
pub mod status;
pub mod summary;
pub mod time;
pub mod version;
pub mod visible;
pub mod words;

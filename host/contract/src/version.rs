//! Versions and kinds of the documents.

/// `schema_version` of event streams, pipeline and job documents.
pub const LOGS: &str = "loom.runtime.logs.v2";
/// `schema_version` of the run's summary, the phase report and the receipts.
pub const V1: &str = "v1";
/// `kind` of a run's `summary.json`.
pub const KIND_RUN_SUMMARY: &str = "loom-run-local-logs";
/// `kind` of `phase-report.json`.
pub const KIND_PHASE_REPORT: &str = "loom-run-local-phase-report";
/// `kind` of a run's receipt.
pub const KIND_RUN_RECEIPT: &str = "loom-run-local";
/// `kind` of the document of a comparison of runs without caches and with them.
pub const KIND_CACHE_DIFF: &str = "loom-cache-diff";
/// `kind` of a check's receipt.
pub const KIND_CHECK_RECEIPT: &str = "loom-check";
/// `schema` of what a workflow compiles to.
pub const GRAPH_IR: &str = "loom.graph-ir.v1";

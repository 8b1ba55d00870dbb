//! JSON Schemas (2020-12) of everything that Loom writes, made from the types that write it.

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};

use crate::cache_diff::CacheDiff;
use crate::event::EventLine;
use crate::graph_ir::GraphIr;
use crate::manifest::{JobManifest, PipelineManifest};
use crate::phase_report::PhaseReport;
use crate::receipt::{CheckReceipt, RunReceipt};
use crate::summary::{JobSummary, PipelineSummary, RunSummary, SectionSummary, StepSummary};

/// A format that has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One line of an `events.jsonl`.
    Events,
    /// `summary.json` of a run.
    RunSummary,
    /// `pipeline/summary.json`.
    PipelineSummary,
    /// `pipeline/manifest.json`.
    PipelineManifest,
    /// `jobs/<job>/summary.json`.
    JobSummary,
    /// `jobs/<job>/manifest.json`.
    JobManifest,
    /// A step's `summary.json`.
    StepSummary,
    /// A section's `summary.json`.
    SectionSummary,
    /// `phase-report.json`.
    PhaseReport,
    /// The receipt of a run.
    Receipt,
    /// The receipt of a check.
    CheckReceipt,
    /// What `--cache-diff` found.
    CacheDiff,
    /// What `loom compile` prints.
    GraphIr,
}

/// The JSON Schema of `format`.
pub fn of(format: Format) -> Schema {
    match format {
        Format::Events => root::<EventLine>(),
        Format::RunSummary => root::<RunSummary>(),
        Format::PipelineSummary => root::<PipelineSummary>(),
        Format::PipelineManifest => root::<PipelineManifest>(),
        Format::JobSummary => root::<JobSummary>(),
        Format::JobManifest => root::<JobManifest>(),
        Format::StepSummary => root::<StepSummary>(),
        Format::SectionSummary => root::<SectionSummary>(),
        Format::PhaseReport => root::<PhaseReport>(),
        Format::Receipt => root::<RunReceipt>(),
        Format::CheckReceipt => root::<CheckReceipt>(),
        Format::CacheDiff => root::<CacheDiff>(),
        Format::GraphIr => root::<GraphIr>(),
    }
}

fn root<T: JsonSchema>() -> Schema {
    SchemaGenerator::new(SchemaSettings::draft2020_12()).into_root_schema_for::<T>()
}

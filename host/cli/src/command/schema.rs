//! `loom schema`.

use loom_contract::schema;

use crate::args::Format;
use crate::config;

pub(crate) fn schema(format: Format) -> i32 {
    let schema = match format {
        Format::Config => config::json_schema(),
        Format::GraphIr => schema::of(schema::Format::GraphIr),
        Format::Events => schema::of(schema::Format::Events),
        Format::Receipt => schema::of(schema::Format::Receipt),
        Format::CheckReceipt => schema::of(schema::Format::CheckReceipt),
        Format::RunSummary => schema::of(schema::Format::RunSummary),
        Format::PipelineSummary => schema::of(schema::Format::PipelineSummary),
        Format::PipelineManifest => schema::of(schema::Format::PipelineManifest),
        Format::JobSummary => schema::of(schema::Format::JobSummary),
        Format::JobManifest => schema::of(schema::Format::JobManifest),
        Format::StepSummary => schema::of(schema::Format::StepSummary),
        Format::SectionSummary => schema::of(schema::Format::SectionSummary),
        Format::PhaseReport => schema::of(schema::Format::PhaseReport),
    };
    // A schema is made of texts and numbers: serialising cannot fail.
    let mut text = serde_json::to_vec_pretty(&schema).unwrap_or_default();
    text.push(b'\n');
    super::print(&text)
}

//! `loom schema`.

use loom_contract::schema;
use serde_json::Value;

use crate::args::Format;
use crate::config;

pub(crate) fn schema(format: Format) -> i32 {
    let schema = match format {
        Format::Workflow => loom_workflow::json_schema(),
        Format::Config => config::json_schema().to_value(),
        Format::GraphIr => contract(schema::Format::GraphIr),
        Format::Events => contract(schema::Format::Events),
        Format::Receipt => contract(schema::Format::Receipt),
        Format::CheckReceipt => contract(schema::Format::CheckReceipt),
        Format::RunSummary => contract(schema::Format::RunSummary),
        Format::PipelineSummary => contract(schema::Format::PipelineSummary),
        Format::PipelineManifest => contract(schema::Format::PipelineManifest),
        Format::JobSummary => contract(schema::Format::JobSummary),
        Format::JobManifest => contract(schema::Format::JobManifest),
        Format::StepSummary => contract(schema::Format::StepSummary),
        Format::SectionSummary => contract(schema::Format::SectionSummary),
        Format::PhaseReport => contract(schema::Format::PhaseReport),
    };
    // A schema is made of texts and numbers: serialising cannot fail.
    let mut text = serde_json::to_vec_pretty(&schema).unwrap_or_default();
    text.push(b'\n');
    super::print(&text)
}

fn contract(format: schema::Format) -> Value {
    schema::of(format).to_value()
}

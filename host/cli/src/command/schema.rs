//! `loom schema`.

use loom_contract::{exit, schema};
use serde_json::Value;

use crate::args::Format;
use crate::command::Done;
use crate::{config, terminal};

pub(crate) fn schema(format: Format) -> Done {
    let schema = match format {
        Format::Workflow => loom_workflow::json_schema(),
        Format::Config => config::json_schema().to_value(),
        Format::GraphIr => contract(schema::Format::GraphIr),
        Format::Events => contract(schema::Format::Events),
        Format::Receipt => contract(schema::Format::Receipt),
        Format::CheckReceipt => contract(schema::Format::CheckReceipt),
        Format::CacheDiff => contract(schema::Format::CacheDiff),
        Format::RunSummary => contract(schema::Format::RunSummary),
        Format::PipelineSummary => contract(schema::Format::PipelineSummary),
        Format::PipelineManifest => contract(schema::Format::PipelineManifest),
        Format::JobSummary => contract(schema::Format::JobSummary),
        Format::JobManifest => contract(schema::Format::JobManifest),
        Format::StepSummary => contract(schema::Format::StepSummary),
        Format::SectionSummary => contract(schema::Format::SectionSummary),
        Format::PhaseReport => contract(schema::Format::PhaseReport),
    };
    terminal::print_json(&schema).map(|()| exit::SUCCESS)
}

fn contract(format: schema::Format) -> Value {
    schema::of(format).to_value()
}

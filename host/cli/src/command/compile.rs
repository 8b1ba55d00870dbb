//! `loom compile`.

use loom_contract::error::{ErrorInfo, code};
use loom_contract::exit;
use loom_contract::visible::on_one_line;
use loom_workflow::Origin;

use crate::args::Compile;
use crate::command::Done;
use crate::command::named::{Kind, unknown};
use crate::command::source::{self, Source};
use crate::terminal::{self, Terminal};

pub(crate) fn compile(args: &Compile, terminal: Terminal) -> Done {
    let source = Source::find(&args.workflow)?;
    source::warn_of_plugin_set(&source.repo_root, terminal);
    let loaded = source.load()?;
    source::show(&loaded.diagnostics, terminal);
    let invalid = || ErrorInfo::new(code::WF_SCHEMA_V1, "the workflow is not valid");
    let plan = loaded.plan.ok_or_else(invalid)?;
    if let Some(job) = &args.explain {
        let unknown = || unknown(Kind::Job, job, plan.jobs.iter().map(|job| job.id.as_str()));
        return super::print(table(&plan.explain(job).ok_or_else(unknown)?));
    }
    terminal::print_json(&plan.graph_ir()).map(|()| exit::SUCCESS)
}

/// One line a value: the keyword, who says it, where, and the first line of what is written there.
fn table(origins: &[Origin]) -> String {
    let rows: Vec<[String; 4]> = origins
        .iter()
        .map(|origin| {
            let place = format!("{}:{}:{}", origin.file, origin.line, origin.column);
            [&origin.key, &origin.from, &place, &origin.written].map(|cell| on_one_line(cell).into_owned())
        })
        .collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let (key, from, at) = (width(0), width(1), width(2));
    let line = |row: &[String; 4]| {
        let [name, origin, place, written] = row;
        format!("{name:key$}  {origin:from$}  {place:at$}  {written}\n")
    };
    rows.iter().map(line).collect()
}

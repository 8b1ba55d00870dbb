//! `loom compile`.

use loom_contract::exit;
use loom_workflow::Origin;

use crate::args::Compile;
use crate::command::source::{self, Source};
use crate::failure;
use crate::terminal::Terminal;

pub(crate) fn compile(args: &Compile, terminal: Terminal) -> i32 {
    let load = |source: Source| {
        source::warn_of_plugin_set(&source.repo_root, terminal);
        source.load()
    };
    let loaded = match Source::find(&args.workflow).and_then(load) {
        Ok(loaded) => loaded,
        Err(error) => {
            terminal.say(&format!("loom compile: {}\n", failure::words(&error)));
            return exit::FAILURE;
        }
    };
    source::show(&loaded.diagnostics, terminal);
    let Some(plan) = loaded.plan else {
        terminal.say("loom compile: the workflow is not valid\n");
        return exit::FAILURE;
    };
    if let Some(job) = &args.explain {
        return match plan.explain(job) {
            Some(origins) => super::print(table(&origins).as_bytes()),
            None => {
                terminal.say(&format!("loom compile: no job is named `{job}`\n"));
                exit::FAILURE
            }
        };
    }
    // The type's keys are texts: serialising cannot fail.
    let mut text = serde_json::to_vec_pretty(&plan.graph_ir()).unwrap_or_default();
    text.push(b'\n');
    super::print(&text)
}

/// One line a value: the keyword, who says it, where, and the first line of what is written there.
fn table(origins: &[Origin]) -> String {
    let place = |origin: &Origin| format!("{}:{}:{}", origin.file, origin.line, origin.column);
    let width = |of: &dyn Fn(&Origin) -> usize| origins.iter().map(of).max().unwrap_or(0);
    let key = width(&|origin| origin.key.len());
    let from = width(&|origin| origin.from.len());
    let at = width(&|origin| place(origin).len());
    let line = |origin: &Origin| {
        format!("{:key$}  {:from$}  {:at$}  {}\n", origin.key, origin.from, place(origin), origin.written)
    };
    origins.iter().map(line).collect()
}

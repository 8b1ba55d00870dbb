//! `loom compile`.

use loom_contract::exit;

use crate::args::Workflow;
use crate::command::source::{self, Source};
use crate::failure;
use crate::terminal::Terminal;

pub(crate) fn compile(args: &Workflow, terminal: Terminal) -> i32 {
    let loaded = match Source::find(args).and_then(|source| source.load()) {
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
    // The type's keys are texts: serialising cannot fail.
    let mut text = serde_json::to_vec_pretty(&plan.graph_ir()).unwrap_or_default();
    text.push(b'\n');
    super::print(&text)
}

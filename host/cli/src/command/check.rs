//! `loom check`.

use std::borrow::Cow;

use loom_contract::error::code;
use loom_contract::exit;
use loom_contract::receipt::{CheckReceipt, WorkflowCheck, WorkflowError};
use loom_contract::status::RunStatus;
use loom_contract::version;
use loom_contract::visible::on_one_line;
use loom_engine::clock::Clock;

use crate::args::Workflow;
use crate::command::Done;
use crate::command::source::{self, Source};
use crate::failure;
use crate::terminal::Terminal;

pub(crate) fn check(args: &Workflow, terminal: Terminal) -> Done {
    let source = Source::find(args)?;
    let errors = match source.load() {
        Ok(loaded) => {
            source::show(&loaded.diagnostics, terminal);
            loaded.diagnostics.to_contract()
        }
        Err(error) => {
            terminal.say(failure::words(&error));
            vec![WorkflowError {
                code: code::WORKFLOW_UNREADABLE.to_owned(),
                pointer: "/".to_owned(),
                hint: error.message,
                file: source.shown.clone(),
                line: 1,
                column: 1,
            }]
        }
    };
    let exit_code = if errors.is_empty() { exit::SUCCESS } else { exit::FAILURE };
    let receipt = CheckReceipt {
        schema_version: Cow::Borrowed(version::V1),
        kind: Cow::Borrowed(version::KIND_CHECK_RECEIPT),
        loom_version: env!("CARGO_PKG_VERSION").to_owned(),
        command: super::command_line(),
        exit_code,
        status: RunStatus::of_exit_code(exit_code),
        workflow_schema_v1: WorkflowCheck {
            workflow_path: source.workflow_path.to_string_lossy().into_owned(),
            valid: errors.is_empty(),
            errors,
        },
    };
    let now = Clock::start().started_at();
    let receipt = loom_record::write_check_receipt(&source.repo_root, now, &receipt);
    let receipt = receipt.map_err(|error| error.to_info())?;
    let receipt = format!("receipt: {}", on_one_line(&receipt.to_string_lossy()));
    if exit_code == exit::SUCCESS {
        terminal.say(format!("loom check passed\n{receipt}\n"));
    } else {
        terminal.say(format!("\n{receipt}\nloom check failed (exit code {exit_code})\n"));
    }
    Ok(exit_code)
}

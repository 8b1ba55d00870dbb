//! `loom check`.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use loom_contract::error::code;
use loom_contract::exit;
use loom_contract::receipt::{CheckReceipt, WorkflowCheck, WorkflowError};
use loom_contract::redacted::Redacted;
use loom_contract::status::RunStatus;
use loom_contract::version;
use loom_contract::visible::on_one_line;
use loom_engine::clock::Clock;
use loom_engine::redact::Redactor;
use loom_workflow::Plan;

use crate::args::Workflow;
use crate::command::source::{self, Source};
use crate::command::{Done, kept};
use crate::failure;
use crate::terminal::Terminal;

pub(crate) fn check(args: &Workflow, terminal: Terminal) -> Done {
    let source = Source::find(args)?;
    source::warn_of_plugin_set(&source.repo_root, terminal);
    let errors = match source.load() {
        Ok(loaded) => {
            source::show(&loaded.diagnostics, terminal);
            let mut errors = loaded.diagnostics.to_contract();
            if let Some(plan) = &loaded.plan {
                warn_of_tracked(plan, &source.repo_root, terminal);
                let refused = kept::refused(plan, &source.repo_root);
                source::show(&refused, terminal);
                errors.extend(refused.to_contract());
            }
            errors
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
    // A check resolves no secret.
    let receipt = Redacted::new(receipt, &Redactor::default());
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

/// So many files are named.
const NAMED: usize = 5;

/// Warns where the paths of a cache cover files that git tracks, once for the same paths.
fn warn_of_tracked(plan: &Plan, repo_root: &Path, terminal: Terminal) {
    let entries = plan.jobs.iter().flat_map(|job| {
        let entries = job.cache.iter().flat_map(|cache| cache.entries());
        entries.filter(|entry| !entry.disabled).map(move |entry| (&job.name, &entry.paths))
    });
    let mut tracked = None;
    let mut warned = BTreeSet::new();
    for (job, paths) in entries {
        if !warned.insert(paths) {
            continue;
        }
        // Git is asked where there is something to ask for; where it fails, a run says so.
        let tracked = tracked.get_or_insert_with(|| {
            loom_workspace::list_tracked(repo_root, &[], &AtomicBool::new(false)).unwrap_or_default()
        });
        let covered = loom_cache::key::select(tracked, paths).unwrap_or_default();
        if covered.is_empty() {
            continue;
        }
        let names: Vec<String> =
            covered.iter().take(NAMED).map(|path| format!("`{}`", path.display())).collect();
        let more = match covered.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        terminal.say(format!(
            "warning: job `{job}`: its cache leaves alone what git tracks under `{}`: {}{more}\n",
            paths.join("`, `"),
            names.join(", ")
        ));
    }
}

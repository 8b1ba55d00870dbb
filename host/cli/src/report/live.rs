//! The live view: one line per running job below what has been said, gone without a trace when the run ends.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use loom_contract::id::{JobId, StepIndex};

/// Redraws per second.
const RATE: u8 = 10;

/// The view; nothing where stderr is no terminal.
pub(super) struct Live {
    view: Option<MultiProgress>,
    jobs: HashMap<JobId, ProgressBar>,
    style: ProgressStyle,
}

impl Live {
    pub(super) fn new(on: bool) -> Self {
        let view = on.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(RATE)));
        let style = ProgressStyle::with_template("{spinner} {prefix}  {wide_msg} {elapsed}");
        Self { view, jobs: HashMap::new(), style: style.unwrap_or_else(|_| ProgressStyle::default_spinner()) }
    }

    pub(super) fn started(&mut self, job_id: &JobId) {
        if let Some(view) = &self.view {
            let bar = view.add(ProgressBar::new_spinner());
            bar.set_style(self.style.clone());
            bar.set_prefix(job_id.to_string());
            bar.enable_steady_tick(Duration::from_millis(1000 / u64::from(RATE)));
            self.jobs.insert(job_id.clone(), bar);
        }
    }

    pub(super) fn step(&self, job_id: &JobId, step: StepIndex, command: &str) {
        if let Some(bar) = self.jobs.get(job_id) {
            let first_line = command.lines().next().unwrap_or_default();
            bar.set_message(format!("{step} {}", super::line::shown(first_line.as_bytes())));
        }
    }

    pub(super) fn finished(&mut self, job_id: &JobId) {
        if let Some(bar) = self.jobs.remove(job_id) {
            bar.finish_and_clear();
            if let Some(view) = &self.view {
                view.remove(&bar);
            }
        }
    }

    /// Lets `write` write to stderr while the view is out of the way.
    pub(super) fn around(&self, write: impl FnOnce()) {
        match &self.view {
            // It panics where it cannot clear a terminal that has gone away.
            Some(view) if std::io::stderr().is_terminal() => view.suspend(write),
            _ => write(),
        }
    }

    pub(super) fn clear(&mut self) {
        for (_, bar) in self.jobs.drain() {
            bar.finish_and_clear();
        }
        if let Some(view) = &self.view {
            // A terminal that has gone away needs no clearing.
            let _ = view.clear();
        }
    }
}

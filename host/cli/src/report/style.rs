//! The colours, by what they mean. Everything can be understood without them.

use anstyle::{AnsiColor, Style as Ansi};
use loom_contract::id::JobId;

/// The table of colours, or none of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    color: bool,
}

impl Style {
    pub(super) fn new(color: bool) -> Self {
        Self { color }
    }

    /// Something began.
    pub(super) fn started(self, text: &str) -> String {
        self.paint(Ansi::new().dimmed(), text)
    }

    /// Something went well.
    pub(super) fn passed(self, text: &str) -> String {
        self.paint(AnsiColor::Green.on_default().bold(), text)
    }

    /// Something went wrong.
    pub(super) fn failed(self, text: &str) -> String {
        self.paint(AnsiColor::Red.on_default().bold(), text)
    }

    /// Something was left out.
    pub(super) fn skipped(self, text: &str) -> String {
        self.paint(Ansi::new().dimmed(), text)
    }

    /// Something to look at.
    pub(super) fn warning(self, text: &str) -> String {
        self.paint(AnsiColor::Yellow.on_default().bold(), text)
    }

    /// The job in front of a line.
    pub(super) fn job(self, job_id: &JobId) -> String {
        self.paint(AnsiColor::Cyan.on_default(), &format!("{job_id} |"))
    }

    fn paint(self, style: Ansi, text: &str) -> String {
        if self.color { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

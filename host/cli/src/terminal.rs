//! The two ends of the terminal: words for people on stderr, what a command was asked to print on stdout.

use std::io::{IsTerminal as _, Write as _};

use anstream::ColorChoice;

use crate::args::Color;

/// How to speak to the user.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    /// Whether stderr shows colour.
    pub(crate) color: bool,
    /// Whether stderr is a terminal.
    pub(crate) interactive: bool,
}

impl Terminal {
    pub(crate) fn new(color: Color) -> Self {
        let interactive = std::io::stderr().is_terminal();
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => anstream::AutoStream::choice(&std::io::stderr()) != ColorChoice::Never,
        };
        Self { color, interactive }
    }

    /// Writes `text`, whole lines, to stderr. A reader that has gone away does not end a run.
    pub(crate) fn say(self, text: &str) {
        let choice = if self.color { ColorChoice::AlwaysAnsi } else { ColorChoice::Never };
        let _ = anstream::AutoStream::new(std::io::stderr().lock(), choice).write_all(text.as_bytes());
    }
}

/// Writes what a command was asked for to stdout. Says whether it got there.
pub(crate) fn print(text: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text)?;
    stdout.flush()
}

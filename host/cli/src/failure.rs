//! Errors in words: what happened, then what to do about it, never the other way round.

use std::fmt::Write as _;

use loom_contract::error::ErrorInfo;

use crate::text::Text;

/// The lines with which the command `name` ends in `error`.
pub(crate) fn told(name: &str, error: &ErrorInfo) -> Text {
    let mut text = Text::from(format!("loom {name}: "));
    text.append(words(error));
    text
}

/// `error` as lines for people.
pub(crate) fn words(error: &ErrorInfo) -> Text {
    let mut text = Text::default();
    // Writing to a text cannot fail.
    let _ = writeln!(text, "{}", error.message);
    if let Some(hint) = &error.hint {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

/// The word for signal `signal`.
pub(crate) fn signal_name(signal: i32) -> String {
    match signal {
        1 => "SIGHUP".to_owned(),
        2 => "SIGINT".to_owned(),
        15 => "SIGTERM".to_owned(),
        other => format!("signal {other}"),
    }
}

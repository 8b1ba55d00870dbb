//! Errors in words.

use loom_contract::error::ErrorInfo;

/// `error` as lines for people: what happened, then what to do.
pub(crate) fn words(error: &ErrorInfo) -> String {
    match &error.hint {
        Some(hint) => format!("{}\nhint: {hint}", error.message),
        None => error.message.clone(),
    }
}

/// Adds to `text` what to do about `error`, and returns what happened, for the line that ends a run.
pub(crate) fn hint_first(text: &mut String, error: &ErrorInfo) -> String {
    if let Some(hint) = &error.hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    error.message.clone()
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

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
    if let Some(hint) = error.hint.as_deref().or_else(|| for_system(&error.message)) {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

/// What to do where `message` ends in the system's refusal, in the words of the standard library.
fn for_system(message: &str) -> Option<&'static str> {
    const HINTS: [(&str, &str); 9] = [
        (
            "(os error 7)",
            "shorten the command or its variables: together they have more bytes than the system allows",
        ),
        ("(os error 11)", "raise the limit of processes (`ulimit -u`, or that of the container)"),
        ("(os error 12)", "raise the limit of memory (`ulimit -v`, or that of the container)"),
        ("(os error 23)", "too many files are open on this machine: end what holds them open"),
        ("(os error 24)", "raise the limit of open files (`ulimit -n`)"),
        ("(os error 27)", "raise the limit of file sizes (`ulimit -f`)"),
        ("(os error 28)", "the disk is full: free some space and run again"),
        (
            "(os error 30)",
            "the file system is read-only: use another folder, or mount it so that it can be written",
        ),
        ("(os error 122)", "your quota on this disk is used up: free some space and run again"),
    ];
    HINTS.iter().find(|(words, _)| message.contains(words)).map(|(_, hint)| *hint)
}

/// The name of signal `signal` on Linux: `SIGKILL`.
pub(crate) fn signal_name(signal: i32) -> String {
    const NAMES: [(i32, &str); 20] = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (5, "SIGTRAP"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (10, "SIGUSR1"),
        (11, "SIGSEGV"),
        (12, "SIGUSR2"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
        (16, "SIGSTKFLT"),
        (24, "SIGXCPU"),
        (25, "SIGXFSZ"),
        (29, "SIGIO"),
        (31, "SIGSYS"),
    ];
    match NAMES.iter().find(|(number, _)| *number == signal) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("signal {signal}"),
    }
}

//! What an exit code means, in words.

use crate::failure::signal_name;

/// Exit codes of a shell whose command was ended by a signal. Others of the kind are not counted: programs use them for
/// themselves, as git does 129.
const OF_SIGNALS: [i32; 13] = [130, 131, 132, 133, 134, 135, 136, 137, 139, 141, 143, 152, 153];

/// `exit code 137 (SIGKILL: out of memory, or killed by hand)`: `code`, which `signal` has led to where it is known.
pub(super) fn exit_in_words(code: i32, signal: Option<i32>) -> String {
    let signal = signal.or_else(|| OF_SIGNALS.contains(&code).then_some(code - 128));
    let words = match (code, signal) {
        (_, Some(signal)) => match meaning(signal) {
            Some(meaning) => format!("{}: {meaning}", signal_name(signal)),
            None => signal_name(signal),
        },
        (126, None) => "not executable".to_owned(),
        (127, None) => "command not found".to_owned(),
        _ => return format!("exit code {code}"),
    };
    format!("exit code {code} ({words})")
}

fn meaning(signal: i32) -> Option<&'static str> {
    Some(match signal {
        2 => "interrupted",
        4 => "invalid instruction",
        6 => "the program aborted",
        7 | 11 => "invalid memory access",
        8 => "invalid arithmetic",
        9 => "out of memory, or killed by hand",
        13 => "nobody reads what it writes",
        15 => "asked to end",
        24 => "out of processor time",
        25 => "the file got too large",
        31 => "forbidden system call",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_signals_have_words() {
        for (code, signal, words) in [
            (1, None, "exit code 1"),
            (126, None, "exit code 126 (not executable)"),
            (127, None, "exit code 127 (command not found)"),
            (129, None, "exit code 129"),
            (129, Some(1), "exit code 129 (SIGHUP)"),
            (137, None, "exit code 137 (SIGKILL: out of memory, or killed by hand)"),
            (137, Some(9), "exit code 137 (SIGKILL: out of memory, or killed by hand)"),
            (139, Some(11), "exit code 139 (SIGSEGV: invalid memory access)"),
            (143, None, "exit code 143 (SIGTERM: asked to end)"),
            (192, Some(64), "exit code 192 (signal 64)"),
            (255, None, "exit code 255"),
        ] {
            assert_eq!(exit_in_words(code, signal), words);
        }
    }
}

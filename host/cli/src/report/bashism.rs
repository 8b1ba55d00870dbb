//! What to do where a step has failed because it is written for bash and ran in another shell.

/// A construct of bash: how a command has it, how a shell without it complains of it, and what to write instead.
struct Construct {
    written: &'static [&'static str],
    complaint: &'static str,
    instead: &'static str,
}

/// What shells say where their grammar ends, in small letters.
const SYNTAX: &str = "syntax error";
const SUBSTITUTION: &str = "bad substitution";

const CONSTRUCTS: [Construct; 18] = [
    of(&["[["], "[[: not found", "`[ … ]`, with `=` for `==`"),
    of(&["source "], "source: not found", "`. ./file`"),
    of(&["pushd ", "popd"], "pushd: not found", "`(cd folder && …)`"),
    of(&["popd"], "popd: not found", "`(cd folder && …)`"),
    of(&["shopt "], "shopt: not found", ""),
    of(&["declare "], "declare: not found", "`NAME=value`"),
    of(&["typeset "], "typeset: not found", "`NAME=value`"),
    of(&["let "], "let: not found", "`NAME=$((…))`"),
    of(&["mapfile ", "readarray "], "mapfile: not found", "`while read -r line; do …; done`"),
    of(&["readarray "], "readarray: not found", "`while read -r line; do …; done`"),
    of(&["function "], "function: not found", "`name() { …; }`"),
    of(&["pipefail"], "pipefail", ""),
    of(&["<("], SYNTAX, "a file between both commands"),
    of(&[">("], SYNTAX, "a file between both commands"),
    of(&["<<<"], SYNTAX, "`printf '%s\\n' … | command`"),
    of(&["=("], SYNTAX, "`set -- a b` and `\"$@\"`"),
    of(&["function "], SYNTAX, "`name() { …; }`"),
    of(&["${"], SUBSTITUTION, "`sed`, or `${NAME#prefix}` and `${NAME%suffix}`"),
];

const fn of(written: &'static [&'static str], complaint: &'static str, instead: &'static str) -> Construct {
    Construct { written, complaint, instead }
}

/// The way out for `command`, which ended with `exit_code`, where one of its last lines of output is a shell's complaint.
pub(super) fn way_out<'l>(
    exit_code: i32,
    command: &str,
    lines: impl DoubleEndedIterator<Item = &'l [u8]>,
) -> Option<String> {
    // 127: there is no such command; 2: the shell itself gave up.
    if !matches!(exit_code, 2 | 127) {
        return None;
    }
    lines.rev().find_map(|line| {
        let line = String::from_utf8_lossy(line).to_lowercase();
        // `sh: 1: `, `sh: `, `/bin/sh: line 1: `.
        let (shell, complaint) = line.split_once(": ")?;
        if !matches!(shell.rsplit('/').next(), Some("sh" | "dash" | "ash")) {
            return None;
        }
        let fits = |construct: &&Construct| complaint.contains(construct.complaint);
        let (construct, written) = CONSTRUCTS.iter().filter(fits).find_map(|construct| {
            let written = construct.written.iter().find(|written| command.contains(**written))?;
            Some((construct, written.trim()))
        })?;
        let instead = match construct.instead {
            "" => String::new(),
            instead => format!("write {instead}, or "),
        };
        Some(format!(
            "`{written}` is of bash, and steps run in `sh`: {instead}call bash, as in `bash -euo pipefail -c '…'`, where it is \
             installed"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_of_shells_name_the_construct() {
        for (code, command, line, says) in [
            (
                127,
                "[[ -f x ]]",
                "sh: 1: [[: not found",
                "`[[` is of bash, and steps run in `sh`: write `[ … ]`",
            ),
            (127, "source env", "sh: 1: source: not found", "`source` is of bash"),
            (127, "pushd x", "/bin/sh: pushd: not found", "`pushd` is of bash"),
            (2, "a=(1 2)", "sh: 1: Syntax error: \"(\" unexpected", "`=(` is of bash"),
            (2, "diff <(a) <(b)", "sh: syntax error: unexpected \"(\"", "`<(` is of bash"),
            (2, "cat <<< x", "sh: 1: Syntax error: redirection unexpected", "`<<<` is of bash"),
            (2, "echo ${A//a/b}", "sh: 1: Bad substitution", "`${` is of bash"),
            (
                2,
                "set -o pipefail",
                "sh: 1: set: Illegal option -o pipefail",
                "`pipefail` is of bash, and steps run in `sh`: call",
            ),
        ] {
            let hint = way_out(code, command, [line.as_bytes()].into_iter()).unwrap_or_default();
            assert!(hint.starts_with(says), "{command}: {hint:?}");
        }
    }

    #[test]
    fn what_others_say_is_not_taken_for_it() {
        for (code, command, line) in [
            (1, "[[ -f x ]]", "sh: 1: [[: not found"),
            (127, "make", "sh: 1: make: not found"),
            (127, "make", "sh: 1: [[: not found"),
            (2, "python x.py <(a)", "x.py: 1: syntax error"),
            (2, "echo ${A}", "sh: 1: Syntax error: end of file unexpected"),
        ] {
            assert_eq!(way_out(code, command, [line.as_bytes()].into_iter()), None, "{command}");
        }
    }
}

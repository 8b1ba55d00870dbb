//! Chunks of output as lines, durations, lists of names, and how lines of a report begin.

use crate::text::{Style, Text};

/// The lines of a chunk of output, without their terminators.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    whole.split(|b| *b == b'\n').filter(move |_| !bytes.is_empty())
}

/// `12ms`, `1.2s`, `3m05s`: a duration of `millis` milliseconds.
pub(super) fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}.{}s", millis % 1000 / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// `a`, `a and b`, `a, b and c`; of more than `most`, that there are more: `a, b and 5 more`.
pub(super) fn listed(names: &[impl AsRef<str>], most: usize) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match (names.split_at_checked(most), names.as_slice()) {
        (Some((shown, rest)), _) if !rest.is_empty() => {
            format!("{} and {} more", shown.join(", "), rest.len())
        }
        (_, [first @ .., last]) if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        (_, names) => names.concat(),
    }
}

/// A line that begins with a word that says what happened.
pub(super) fn word(style: Style, word: &str, rest: &str) -> Text {
    let mut text = Text::default();
    text.styled(style, word);
    text.push(" ");
    text.push(rest);
    text
}

/// Adds a line that belongs to what stands above it.
pub(super) fn quote(text: &mut Text, line: &[u8]) {
    text.push("\n  ");
    text.styled(Style::Dim, "|");
    text.push(" ");
    text.output(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_its_lines() {
        let of = |bytes: &'static [u8]| lines(bytes).collect::<Vec<_>>();
        assert_eq!(of(b"a\n\nb\n"), [&b"a"[..], b"", b"b"]);
        assert_eq!(of(b"a\nb"), [&b"a"[..], b"b"]);
        assert!(of(b"").is_empty());
    }

    #[test]
    fn names_are_listed() {
        let of = |names: &[&str]| listed(names, 3);
        assert_eq!(of(&[]), "");
        assert_eq!(of(&["a"]), "a");
        assert_eq!(of(&["a", "b", "c"]), "a, b and c");
        assert_eq!(of(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(12), "12ms");
        assert_eq!(duration(1_280), "1.2s");
        assert_eq!(duration(185_000), "3m05s");
        assert_eq!(duration(3_900_000), "1h05m");
    }
}

//! Lines as a terminal may show them.

/// The lines of a chunk of output, without their terminators.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    whole.split(|b| *b == b'\n').filter(move |_| !bytes.is_empty())
}

/// `line` with its colours, but without whatever else could move the cursor, ring or change the terminal: other control
/// characters are shown as `^X`. A carriage return at the end is dropped.
pub(super) fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut rest = text.strip_suffix('\r').unwrap_or(&text);
    let mut shown = String::with_capacity(rest.len());
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
        shown.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(colour) = colour(rest) {
            shown.push_str(colour);
            rest = &rest[colour.len()..];
            continue;
        }
        let mut characters = rest.chars();
        if let Some(control) = characters.next() {
            match u8::try_from(u32::from(control)) {
                Ok(byte) if byte < 0x20 => shown.extend(['^', char::from(byte + b'@')]),
                Ok(0x7f) => shown.push_str("^?"),
                _ => shown.push(char::REPLACEMENT_CHARACTER),
            }
        }
        rest = characters.as_str();
    }
    shown.push_str(rest);
    shown
}

/// The sequence that sets a colour or style with which `text` begins.
fn colour(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':')?;
    parameters[end..].starts_with('m').then(|| &text[..2 + end + 1])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_and_the_rest_is_harmless() {
        assert_eq!(shown(b"\x1b[1;31mred\x1b[0m\t."), "\x1b[1;31mred\x1b[0m\t.");
        assert_eq!(shown(b"\x1b[2Jgone\x07\x7f\r"), "^[[2Jgone^G^?");
        assert_eq!(shown("\u{9b}2J".as_bytes()), "\u{fffd}2J");
        assert_eq!(shown(b"\x1b["), "^[[");
        assert_eq!(shown(b"50%\r100%\r"), "50%^M100%");
    }

    #[test]
    fn a_chunk_is_its_lines() {
        let of = |bytes: &'static [u8]| lines(bytes).collect::<Vec<_>>();
        assert_eq!(of(b"a\n\nb\n"), [&b"a"[..], b"", b"b"]);
        assert_eq!(of(b"a\nb"), [&b"a"[..], b"b"]);
        assert!(of(b"").is_empty());
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(12), "12ms");
        assert_eq!(duration(1_280), "1.2s");
        assert_eq!(duration(185_000), "3m05s");
        assert_eq!(duration(3_900_000), "1h05m");
    }
}

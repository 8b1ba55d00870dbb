//! Chunks of output as lines, and durations.

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
    fn durations_read_well() {
        assert_eq!(duration(12), "12ms");
        assert_eq!(duration(1_280), "1.2s");
        assert_eq!(duration(185_000), "3m05s");
        assert_eq!(duration(3_900_000), "1h05m");
    }
}

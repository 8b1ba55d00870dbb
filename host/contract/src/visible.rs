//! What steers a terminal, or is not seen on one, written out so that it does neither.
//!
//! Control characters become `^X` (`^[` is escape), all others their number: `\u{202e}`. This is the only
//! filter: texts of workflows, jobs, caches and old records, names, paths and errors all go through it
//! before they are shown.

use std::borrow::Cow;

/// `text` as it may be shown: whatever is hidden in it is written out, but for line breaks and tabs.
pub fn visible(text: &str) -> Cow<'_, str> {
    replaced(text, |out, c| match c {
        '\n' | '\t' => out.push(c),
        _ => write_out(out, c),
    })
}

/// `text` as it may be shown within a line: line breaks and tabs are written out too, as `\n` and `\t`.
pub fn on_one_line(text: &str) -> Cow<'_, str> {
    replaced(text, |out, c| match c {
        '\n' | '\r' | '\t' => out.extend(c.escape_default()),
        _ => write_out(out, c),
    })
}

/// `json`, a JSON text, with whatever is hidden in its texts as `\uXXXX`: the same data.
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    replaced(json, |out, c| match c {
        '\n' | '\t' => out.push(c),
        _ => out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
    })
}

/// Whether `c`, by itself, is not seen, or changes how other characters are seen.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Unicode's Default_Ignorable_Code_Point.
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
            // Line and paragraph separators, annotations.
            | '\u{2028}'..='\u{2029}' | '\u{fff9}'..='\u{fffb}')
}

fn replaced(text: &str, write: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut before = None;
    while let Some(c) = characters.next() {
        let kept = !is_hidden(c) || joins(before, c, characters.peek().copied());
        if kept {
            out.push(c);
        } else {
            write(&mut out, c);
        }
        before = Some(c).filter(|_| kept);
    }
    Cow::Owned(out)
}

/// Whether `c` only makes one emoji of others: a joiner between two, or the choice of how one looks.
fn joins(before: Option<char>, c: char, after: Option<char>) -> bool {
    let emoji = |c: char| {
        matches!(c, '\u{a9}' | '\u{ae}' | '\u{203c}' | '\u{2049}' | '\u{2122}' | '\u{2139}'
            | '\u{2190}'..='\u{2bff}'
            | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}' | '\u{1f000}'..='\u{1faff}')
    };
    match c {
        '\u{200d}' => before.is_some_and(|c| emoji(c) || c == '\u{fe0f}') && after.is_some_and(emoji),
        '\u{fe0e}' | '\u{fe0f}' => {
            let keycap = after == Some('\u{20e3}');
            before.is_some_and(|c| emoji(c) || keycap && (c.is_ascii_digit() || "#*".contains(c)))
        }
        _ => false,
    }
}

fn write_out(out: &mut String, c: char) {
    match u8::try_from(c) {
        Ok(control) if control < 0x20 => out.extend(['^', char::from(control + b'@')]),
        Ok(0x7f) => out.push_str("^?"),
        _ => out.extend(c.escape_unicode()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_written_out() {
        let table = [
            ("plain\ttext\n", "plain\ttext\n"),
            ("\x1b[2Jgone\x07\x7f\r", "^[[2Jgone^G^?^M"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{202e}b\u{2066}c\u{200f}", "a\\u{202e}b\\u{2066}c\\u{200f}"),
            ("\u{e0041}\u{200b}\u{feff}\u{ad}\u{2028}", "\\u{e0041}\\u{200b}\\u{feff}\\u{ad}\\u{2028}"),
            ("größer 日本語 ع", "größer 日本語 ع"),
        ];
        for (text, shown) in table {
            assert_eq!(visible(text), shown);
        }
        assert_eq!(on_one_line("a\nb\tc\r\x1b"), "a\\nb\\tc\\r^[");
    }

    #[test]
    fn emoji_stay_whole() {
        for emoji in ["👩\u{200d}💻", "❤\u{fe0f}\u{200d}🔥", "1\u{fe0f}\u{20e3}", "👍🏽", "⚠\u{fe0f}"]
        {
            assert_eq!(visible(emoji), emoji);
        }
        // Nothing is hidden in what looks like one.
        assert_eq!(visible("👩\u{200d}a"), "👩\\u{200d}a");
        assert_eq!(visible("⚠\u{fe0f}\u{fe0f}"), "⚠\u{fe0f}\\u{fe0f}");
        assert_eq!(visible("a\u{fe0f}"), "a\\u{fe0f}");
        assert_eq!(visible("👩\u{200d}\u{200d}💻"), "👩\\u{200d}\\u{200d}💻");
    }

    #[test]
    fn nothing_that_is_shown_is_hidden() {
        let joining = ['\u{200d}', '\u{fe0e}', '\u{fe0f}'];
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            let text = format!("a{c}b");
            let hidden = |shown: &str| shown.contains(|c: char| is_hidden(c) && !['\n', '\t'].contains(&c));
            assert!(!hidden(&visible(&text)), "{c:?}");
            assert!(!on_one_line(&text).contains(is_hidden), "{c:?}");
            assert!(!joining.contains(&c) || visible(&text) != text, "{c:?}");
            assert_eq!(visible(&text) == text, !is_hidden(c) || ['\n', '\t'].contains(&c), "{c:?}");
        }
    }

    #[test]
    fn escaped_json_is_the_same_data() {
        let value = serde_json::json!({ "k\u{9b}\x1b": "a\u{202e}\u{e0041}\u{7f}\n👩\u{200d}💻" });
        let json = serde_json::to_string_pretty(&value).unwrap();
        let escaped = escaped_json(&json);
        assert!(escaped.contains("\\u202e\\udb40\\udc41\\u007f\\n"), "{escaped}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }
}

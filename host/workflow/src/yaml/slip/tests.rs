use super::find;

/// The first line, column and hint for a text that breaks where `failed_at` is first found.
fn slip(text: &str, failed_at: &str) -> Option<(usize, usize, String)> {
    let slip = find(text, text.find(failed_at).unwrap_or(text.len()))?;
    let before = &text[..slip.at.start];
    let line = before.matches('\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1;
    assert!(slip.at.end <= text.len() && text.is_char_boundary(slip.at.end), "{text}");
    Some((line, column, slip.hint))
}

#[test]
fn nothing_is_found_in_what_is_right() {
    for text in [
        include_str!("../../../../../examples/stage0/.loom/workflow.yml"),
        "a: 1\nb:\n- x\n- y: 1\n  z: [a,\n b]\nc: |\n  x: y: z\n   [\nd: \"a: b\n  c\"\ne: 'it''s'\nf: a\n  b\n",
        "a:\n  - - x\n    - y\n  -\n    b: c\n  - \"x\": y\n  - echo a:b c # d: e: f\n\"k: v\": {a: b, c: 'd: e'}\n",
        "%YAML 1.2\n---\na:\n  text\n  goes on\nb: x#y\nc: \"a\\tb\\\n  c\"\n...\n",
    ] {
        assert_eq!(slip(text, "\u{0}"), None, "{text}");
    }
}

#[test]
fn what_is_looked_at_may_be_anything() {
    for text in [
        "",
        "\n",
        "-",
        "- -",
        ":",
        "a:",
        "ä: \"",
        "'",
        "[",
        "- [",
        "\"\\",
        "- \"\\ä\"",
        "{]",
        "|",
        "- >x",
        "a\n:",
        "\r\n\r",
    ] {
        for at in (0..=text.len() + 1).filter(|at| *at > text.len() || text.is_char_boundary(*at)) {
            let _ = find(text, at);
        }
    }
}

#[test]
fn slips_are_told_where_they_were_made() {
    let head = "version: v1\nstages: [s]\na:\n  stage: s\n  target: linux\n";
    for (rest, failed_at, line, column, hint) in [
        ("  script:\n    - [ -f x ] || true\n", "|| true", 7, 7, "quote the entry, or write `|`"),
        (
            "  script:\n    - (printf 'P: ' > t; x)\n    - next\n",
            "- next",
            7,
            7,
            "quote the entry, or write `|`",
        ),
        ("  script:\n    - echo a: b: c\n", ": c", 7, 7, "quote the entry, or write `|`"),
        ("  script:\n    - \"$X/y\" --z\n    - true\n", "--z", 7, 7, "quote all of the entry"),
        ("  script:\n    - echo 'x'\n    - 'a' && 'b'\n", "&& 'b'", 8, 7, "quote all of the entry"),
        ("  script:\n    - @echo x\n", "@echo", 7, 7, "quote the entry: YAML lets no"),
        ("  script:\n    - %x\n    - `x`\n", "`x`", 7, 7, "quote the entry: YAML lets no"),
        ("  script:\n    - `x`\n", "`x`", 7, 7, "quote the entry: YAML lets no"),
        ("  script:\n    - *.sh x\n", "*.sh", 7, 7, "quote the entry: YAML takes `*`"),
        ("  script:\n    - | grep x\n", "grep", 7, 7, "quote the entry: YAML takes `|`"),
        ("  script:\n    - >file\n", "file", 7, 7, "quote the entry: YAML takes `>`"),
        ("  script:\n    - { x; } && y\n", "&& y", 7, 7, "quote the entry, or write `|`"),
        ("  script:\n    - \"grep \\d x\"\n", "\\d", 7, 13, "write `\\\\d`, or single quotes"),
        ("  script:\n    - x\n   - y\n", "- y", 8, 4, "indent this line by 4 spaces like line 7"),
        ("  script:\n    - x\n      y: z\n", ": z", 8, 7, "quote the whole text"),
        ("  image: a: b\n", ": b", 6, 10, "quote the value of `image`"),
        ("  image: \"a\n  timeout: 1m\n", "timeout", 6, 10, "close the quote `\"` that opens here"),
        ("  image: 'a\n", "\u{0}", 6, 10, "close the quote `'` that opens here"),
        ("  needs: [a, b\n  timeout: 1m\n", ": 1m", 6, 10, "close the bracket `[` that opens here"),
        ("  image: {name: a\n", "\u{0}", 6, 10, "close the bracket `{` that opens here"),
        ("   script:\n     - x\n", "script", 6, 4, "indent `script` by 2 spaces like line 5"),
        (" script:\n     - x\n", "script", 6, 2, "indent `script` by 2 spaces like line 5"),
        ("  image:a\n  timeout: 1m\n", "timeout", 6, 3, "put a space behind the colon: `image: a`"),
        ("  image = a\n  timeout: 1m\n", "timeout", 6, 3, "write `image: a`: YAML has no `=`"),
        ("  image a\n  timeout: 1m\n", "timeout", 6, 3, "put a colon behind the key, as in `image: a`"),
        ("  script\n    - x\n  timeout: 1m\n", "timeout", 6, 3, "write `key: value`"),
    ] {
        let text = format!("{head}{rest}");
        let found = slip(&text, failed_at);
        let Some((at, at_column, said)) = found else { panic!("nothing was found in {rest:?}") };
        assert_eq!((at, at_column), (line, column), "{rest:?}: {said}");
        assert!(said.starts_with(hint), "{rest:?}: {said}");
    }
}

#[test]
fn what_comes_after_the_place_is_not_to_blame() {
    assert_eq!(slip("a: b\n? x\nc: 'd\n", "? x"), None);
}

//! The fuzz targets over damaged fixtures, for a bounded time: what a fuzzer with coverage finds in an hour takes longer,
//! what it finds in a second is found here.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(clippy::allow_attributes, reason = "the targets are shared")]

use std::path::Path;

#[path = "../fuzz/entry.rs"]
mod entry;

/// How often a text is damaged and read.
const ROUNDS: usize = 4000;

/// Always the same numbers: xorshift64*.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap() % most.max(1)
    }
}

/// Every fixture, with the files that it includes behind it.
fn corpus() -> Vec<Vec<u8>> {
    let top = Path::new("../../tests/fixtures");
    let mut texts = Vec::new();
    for folder in ["ok", "bad"] {
        let mut paths: Vec<_> =
            fs_err::read_dir(top.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "yml"));
        paths.sort();
        for path in paths {
            let mut text = fs_err::read(&path).unwrap();
            // Most mutants of a large text are read alike.
            if text.len() > 8192 {
                continue;
            }
            if let Ok(files) = fs_err::read_dir(path.with_extension("").join(".loom/templates")) {
                let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
                files.retain(|path| path.is_file());
                files.sort();
                let mut root = String::from_utf8_lossy(&text).into_owned();
                for (number, file) in files.iter().enumerate() {
                    let name = file.file_name().unwrap().to_str().unwrap();
                    root = root.replace(name, &format!("{number}.yml"));
                }
                text = root.into_bytes();
                for file in files {
                    text.push(0xff);
                    text.extend(fs_err::read(file).unwrap());
                }
            }
            texts.push(text);
        }
    }
    texts
}

/// What a workflow is made of: keys from the schema, and marks.
fn pieces() -> Vec<String> {
    fn keys(schema: &serde_json::Value, found: &mut Vec<String>) {
        match schema {
            serde_json::Value::Object(map) => {
                let properties = map.get("properties").and_then(serde_json::Value::as_object);
                found.extend(properties.into_iter().flatten().map(|(key, _)| format!("{key}: ")));
                map.values().for_each(|value| keys(value, found));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }
    let marks = [
        "\n",
        "\n  ",
        "\n    - ",
        "- ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "\"",
        "'",
        "|\n",
        ">-\n",
        "#",
        "&a ",
        "*a",
        "!a ",
        "<<: ",
        "---\n",
        "? ",
        "$A",
        "${A}",
        "${",
        "$$",
        "\t",
        "\0",
        "\u{feff}",
        "\u{85}",
        "\r\n",
        "ä",
        "🦀",
        "~",
        "null",
        "true",
        "1",
        "0x1f",
        "5m",
        "v1",
        ".t",
        "job",
        ".loom/templates/0.yml",
        "env://A",
        "../",
        "\u{1b}",
    ];
    let mut pieces: Vec<String> = marks.iter().map(|mark| (*mark).to_owned()).collect();
    keys(&loom_workflow::json_schema(), &mut pieces);
    pieces
}

fn damage(text: &mut Vec<u8>, corpus: &[Vec<u8>], pieces: &[String], numbers: &mut Numbers) {
    let at = numbers.below(text.len() + 1);
    let end = (at + numbers.below(12)).min(text.len());
    match numbers.below(6) {
        0 => drop(text.drain(at..end)),
        1 => text.truncate(at),
        2 => {
            let piece = &pieces[numbers.below(pieces.len())];
            drop(text.splice(at..at, piece.bytes()));
        }
        3 => {
            // A line from elsewhere.
            let other = &corpus[numbers.below(corpus.len())];
            let lines: Vec<&[u8]> = other.split_inclusive(|byte| *byte == b'\n').collect();
            let line = lines.get(numbers.below(lines.len())).copied().unwrap_or_default().to_vec();
            let start = text[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |before| before + 1);
            drop(text.splice(start..start, line));
        }
        4 => {
            let copy = text[at..(at + numbers.below(80)).min(text.len())].to_vec();
            let to = numbers.below(text.len() + 1);
            drop(text.splice(to..to, copy));
        }
        _ => {
            if let Some(byte) = text.get_mut(at) {
                *byte = b' ' + u8::try_from(numbers.below(95)).unwrap();
            }
        }
    }
}

#[test]
fn the_fixtures_bear_it() {
    for text in corpus() {
        entry::reader(&text);
        entry::resolver(&text);
    }
}

#[test]
fn damaged_fixtures_bear_it() {
    let (corpus, pieces) = (corpus(), pieces());
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    for round in 0..ROUNDS {
        let mut text = corpus[round % corpus.len()].clone();
        for _ in 0..=numbers.below(4) {
            damage(&mut text, &corpus, &pieces, &mut numbers);
        }
        let copy = text.clone();
        let result = std::panic::catch_unwind(move || {
            entry::reader(&text);
            entry::resolver(&text);
        });
        assert!(result.is_ok(), "round {round}:\n{}", String::from_utf8_lossy(&copy));
    }
}

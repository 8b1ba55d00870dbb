use std::collections::HashMap;
use std::path::Path;

use fs_err as fs;
use loom_cache::{Kind, Store};
use serde_json::Value;

/// A line of a value is a form of its own from this length on, in characters. From the contract.
const LINE: usize = 8;
/// Bytes by which the beginning of a form is found.
const START: usize = 4;

/// Values that were planted, in all forms in which they must not be found.
///
/// This is no part of the program under test, and shares nothing with its redactor: each form is made here again, and
/// looked for byte by byte.
#[derive(Default)]
pub(crate) struct Canaries {
    forms: Vec<Form>,
    /// Numbers of the forms that begin with these bytes.
    starts: HashMap<[u8; START], Vec<usize>>,
    /// Whether two bytes are the first of these; for most bytes of a file they are not.
    pairs: Vec<bool>,
}

struct Form {
    name: String,
    /// How the value is written.
    how: &'static str,
    bytes: Vec<u8>,
}

/// What of a file or a folder is looked at, besides its own name.
pub(crate) enum Extent {
    Content,
    /// The names of what is in it.
    Names,
    /// A store of caches: everything but the content of files, and where `names` is false but their names.
    Store {
        /// Whether the names of files are looked at.
        names: bool,
    },
    Nothing,
}

impl Canaries {
    pub(crate) fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// Plants `value`, called `name` where it is found. Forms of less than four bytes are found everywhere, so they are
    /// left out.
    pub(crate) fn plant(&mut self, name: &str, value: &[u8]) {
        for (how, bytes) in forms(value) {
            let Some(start) = bytes.first_chunk::<START>() else { continue };
            self.pairs.resize(1 << 16, false);
            self.pairs[pair(start)] = true;
            let known = self.starts.entry(*start).or_default();
            if known.iter().all(|number| self.forms[*number].bytes != bytes) {
                known.push(self.forms.len());
                self.forms.push(Form { name: name.to_owned(), how, bytes });
            }
        }
    }

    /// Panics if a planted value is in `bytes`, which are those of `place`; also where line breaks part it.
    pub(crate) fn are_not_in(&self, bytes: &[u8], place: &str) {
        if let Some((form, at)) = self.find(bytes) {
            let around = &bytes[at.saturating_sub(80)..bytes.len().min(at + form.bytes.len().min(200) + 80)];
            let around = String::from_utf8_lossy(around);
            panic!("{place} holds the value of `{}`, {}, in: {around}", form.name, form.how);
        }
    }

    /// Panics if a planted value is in a document or a stream, as it stands or in what it says, or in any other file.
    pub(crate) fn are_not_in_file(&self, file: &Path) {
        let place = file.display().to_string();
        let bytes = fs::read(file).unwrap();
        self.are_not_in(&bytes, &place);
        let Ok(text) = std::str::from_utf8(&bytes) else { return };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("json") => {
                let document: Value = serde_json::from_str(text).unwrap();
                strings(&document, &mut |text| self.are_not_in(text.as_bytes(), &place));
            }
            // Readers drop a torn last line.
            Some("jsonl") => self.are_not_in_events(text.lines().flat_map(serde_json::from_str), &place),
            _ => {}
        }
    }

    /// Looks at each word of each event, and at what each stream says as a whole.
    fn are_not_in_events(&self, events: impl Iterator<Item = Value>, place: &str) {
        let (mut both, mut streams) = (String::new(), HashMap::<String, String>::new());
        for event in events {
            strings(&event, &mut |text| self.are_not_in(text.as_bytes(), place));
            let (Some(stream), Some(line)) = (event["stream"].as_str(), event["line"].as_str()) else {
                continue;
            };
            let end = if event["partial"] == true { "" } else { "\n" };
            for text in [&mut both, streams.entry(stream.to_owned()).or_default()] {
                text.push_str(line);
                text.push_str(end);
            }
        }
        for text in streams.values().chain([&both]) {
            self.are_not_in(text.as_bytes(), place);
            self.are_not_in(&without_breaks(text.as_bytes()), place);
        }
    }

    /// Panics if a planted value is in what was written to a terminal.
    pub(crate) fn are_not_in_terminal(&self, text: &[u8], place: &str) {
        self.are_not_in(text, place);
        // What it says of a job's output, without the job's name and the bar in front.
        let text = String::from_utf8_lossy(text);
        let lines = text.lines().map(|line| line.split_once("| ").map_or(line, |(_, line)| line));
        let text = lines.collect::<Vec<_>>().join("\n");
        self.are_not_in(text.as_bytes(), place);
        self.are_not_in(&without_breaks(text.as_bytes()), place);
    }

    /// Panics if a planted value is in the name of what is in `folder`, or in a file's content. `extent` says how far to
    /// look.
    pub(crate) fn are_not_in_folder(&self, folder: &Path, extent: &dyn Fn(&Path) -> Extent) {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let entry = entry.unwrap();
            let path = entry.path();
            let name = std::os::unix::ffi::OsStrExt::as_bytes(&*entry.file_name()).to_vec();
            self.are_not_in(&name, &format!("the name of {}", path.display()));
            match (entry.file_type().unwrap(), extent(&path)) {
                (_, Extent::Nothing) => {}
                (kind, Extent::Store { names }) if kind.is_dir() => self.are_not_in_store(&path, names),
                (kind, _) if kind.is_dir() => self.are_not_in_folder(&path, extent),
                (kind, Extent::Content) if kind.is_file() => self.are_not_in_file(&path),
                _ => {}
            }
        }
    }

    /// Panics if a planted value is in what the store of caches in `folder` says of its entries, or, with `names`, in the
    /// names of their files. What these files hold is the job's own.
    fn are_not_in_store(&self, folder: &Path, names: bool) {
        let extent = |path: &Path| match path.strip_prefix(folder).unwrap().to_str() {
            Some("packs" | "objects" | "tmp") => Extent::Nothing,
            Some("manifests" | "index") if !names => Extent::Nothing,
            _ => Extent::Content,
        };
        self.are_not_in_folder(folder, &extent);
        // As its reader has it too: what is packed and encoded cannot be seen in the bytes.
        let place = format!("the store {}", folder.display());
        let look = |text: &[u8]| self.are_not_in(text, &place);
        let Ok(store) = Store::open(folder) else { return };
        for info in store.list().unwrap().entries {
            let origin = &info.origin;
            let inputs = origin.inputs.iter().flat_map(|(path, hash)| [path, hash]);
            let texts = [&info.name, &info.key, &origin.run, &origin.job, &origin.recipe];
            texts.into_iter().chain(inputs).for_each(|text| look(text.as_bytes()));
            let Some(entry) = store.find(&info.name, &info.key).unwrap().entry else { continue };
            for file in entry.files().filter(|_| names) {
                look(file.path.as_os_str().as_encoded_bytes());
                if let Kind::Symlink { target } = &file.kind {
                    look(target.as_os_str().as_encoded_bytes());
                }
            }
        }
        for quarantined in store.quarantined().unwrap().0 {
            let reason = &quarantined.reason;
            let texts = [&quarantined.name, &quarantined.key, &reason.run, &reason.job];
            texts.into_iter().chain(&reason.differences).for_each(|text| look(text.as_bytes()));
        }
        for eviction in store.evictions().unwrap() {
            [&eviction.name, &eviction.key].into_iter().for_each(|text| look(text.as_bytes()));
        }
    }

    fn find(&self, bytes: &[u8]) -> Option<(&Form, usize)> {
        if self.is_empty() {
            return None;
        }
        let begins = |(_, start): &(usize, &[u8])| self.pairs[pair(start)];
        bytes.windows(START).enumerate().filter(begins).find_map(|(at, start)| {
            let numbers = self.starts.get(start)?;
            let found = numbers.iter().find(|number| bytes[at..].starts_with(&self.forms[**number].bytes))?;
            Some((&self.forms[*found], at))
        })
    }
}

fn pair(start: &[u8]) -> usize {
    usize::from(start[0]) << 8 | usize::from(start[1])
}

fn without_breaks(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect()
}

fn strings(value: &Value, found: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => found(text),
        Value::Array(values) => values.iter().for_each(|value| strings(value, found)),
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            found(key);
            strings(value, found);
        }),
        Value::Number(number) => found(&number.to_string()),
        Value::Null | Value::Bool(_) => {}
    }
}

/// All forms of `value`, each with its name. Of what is no text, those that stand for bytes.
fn forms(value: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let trimmed = value.strip_suffix(b"\n").unwrap_or(value);
    let mut forms = vec![("as it is", value.to_vec()), ("as it is", trimmed.to_vec())];
    for bytes in [value, trimmed] {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        forms.push(("in hex", digits.to_uppercase().into()));
        forms.push(("in hex", digits.into()));
        for skipped in 0..3 {
            let standard = base64_middle(bytes, skipped);
            let for_urls = standard.replace('+', "-").replace('/', "_");
            forms.push(("in base64", standard.into()));
            forms.push(("in base64 for URLs", for_urls.into()));
        }
    }
    let Ok(value) = std::str::from_utf8(value) else {
        forms.push(("as the text that it is not", String::from_utf8_lossy(value).into_owned().into()));
        return forms;
    };
    let lines = value.lines().filter(|line| line.chars().count() >= LINE);
    for text in [value, value.trim_end_matches('\n')].into_iter().chain(lines) {
        forms.push(("as it is", text.into()));
        for kept in ["", "-_.~", "-_.~/", "-_.~!*'()"] {
            for space in ["%20", "+"] {
                let upper = percent(text, kept, space);
                forms.push(("percent-encoded", lower_digits(&upper).into()));
                forms.push(("percent-encoded", upper.into()));
            }
        }
        let quoted = serde_json::to_string(text).unwrap();
        let escaped = &quoted[1..quoted.len() - 1];
        forms.push(("in JSON", ascii(escaped).into()));
        forms.push(("in JSON", escaped.replace('/', "\\/").into()));
        forms.push(("in JSON", escaped.into()));
        for quote in [r"'\''", r#"'"'"'"#] {
            forms.push(("quoted for a shell", text.replace('\'', quote).into()));
        }
    }
    forms
}

/// What stands for `bytes` in the base64 of a text in which `skipped` bytes (of any value) precede them, without the
/// characters that also depend on a neighbour.
fn base64_middle(bytes: &[u8], skipped: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    // So many bits of `bytes` belong to a character that begins before them.
    let before = [0, 4, 2][skipped];
    let whole = bits.get(before..).unwrap_or_default().chunks_exact(6);
    let character =
        |bits: &[u8]| ALPHABET[bits.iter().fold(0, |number, bit| number << 1 | usize::from(*bit))];
    whole.map(|bits| char::from(character(bits))).collect()
}

/// `text` with all but letters, digits and `kept` as `%` and two digits, in upper case. With nothing kept, letters and
/// digits are encoded too.
fn percent(text: &str, kept: &str, space: &str) -> String {
    let byte = |byte: u8| match char::from(byte) {
        ' ' if !kept.is_empty() => space.to_owned(),
        c if !kept.is_empty() && (c.is_ascii_alphanumeric() || kept.contains(c)) => c.to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// `encoded` with the digits after each `%` in lower case.
fn lower_digits(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (digits, rest) = part.split_at(2);
        text + "%" + &digits.to_lowercase() + rest
    })
}

/// `escaped` with all that is not ASCII as `\u` and four digits.
fn ascii(escaped: &str) -> String {
    let unit = |unit: u16| match u8::try_from(unit) {
        Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
        _ => format!("\\u{unit:04x}"),
    };
    escaped.encode_utf16().map(unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(value: &[u8], text: &str) -> bool {
        let mut canaries = Canaries::default();
        canaries.plant("X", value);
        canaries.find(text.as_bytes()).is_some()
    }

    #[test]
    fn each_form_is_found() {
        let value = "it's <\"é\"> 100%\n";
        for text in [
            "so it's <\"é\"> 100% and",
            // `base64` of the value behind nothing, `x` and `xx`, and `-w0 | tr +/ -_`.
            "aXQncyA8IsOpIj4gMTAwJQo=",
            "eGl0J3MgPCLDqSI+IDEwMCUK",
            "eHhpdCdzIDwiw6kiPiAxMDAlCg==",
            "eGl0J3MgPCLDqSI-IDEwMCUK",
            "69742773203c22c3a9223e20313030250a",
            "69742773203C22C3A9223E2031303025",
            "it%27s%20%3C%22%C3%A9%22%3E%20100%25",
            "it%27s+%3c%22%c3%a9%22%3e+100%25",
            "it's%20%3C%22%C3%A9%22%3E%20100%25",
            "%69%74%27%73%20%3c%22%c3%a9%22%3e%20%31%30%30%25",
            r#"it's <\"é\"> 100%\n"#,
            r#"it's <\"\u00e9\"> 100%"#,
            r#"'it'\''s <"é"> 100%'"#,
        ] {
            assert!(found(value.as_bytes(), text), "{text}");
        }
        assert!(!found(value.as_bytes(), "it's <\"é\"> 10%"));
        assert!(found(b"short\nlong enough\n", "so long enough it is"));
        assert!(!found(b"short\nlong enough\n", "short"));
        assert!(found(b"\xff\0\xfe\x01", "ff00fe01"));
    }

    #[test]
    fn lines_and_streams_are_put_together() {
        let mut canaries = Canaries::default();
        canaries.plant("X", b"a value of some length");
        let line = |stream: &str, line: &str| serde_json::json!({ "stream": stream, "line": line });
        let wrapped = [
            line("stdout", "YSB2YWx1ZSBvZi"),
            line("stderr", "between"),
            line("stdout", "Bzb21lIGxlbmd0aA=="),
        ];
        let caught = std::panic::catch_unwind(|| canaries.are_not_in_events(wrapped.into_iter(), "here"));
        assert!(caught.is_err());
        let caught = std::panic::catch_unwind(|| {
            canaries.are_not_in_terminal(b"job | YSB2YWx1ZSBvZi\njob | Bzb21lIGxlbmd0aA==", "here")
        });
        assert!(caught.is_err());
    }
}

//! The key of a cache.

use std::collections::BTreeMap;

use loom_sdk::{Error, ErrorKind, Result};

use crate::settings::{CacheSettings, Key};

/// A key, and what it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) key: String,
    /// In words, for who reads the run.
    pub(crate) from: String,
    /// Whether it was to be made from files, and there are none.
    pub(crate) no_files: bool,
}

/// The sha256 of files, in hex, and how many these are.
pub(crate) type Hashed = Result<(String, u32)>;

/// Makes the key of `cache`, whose texts are filled in. `hash` hashes all files that globs match.
pub(crate) fn make(
    cache: &CacheSettings,
    variables: &BTreeMap<String, String>,
    hash: &dyn Fn(&[String]) -> Hashed,
) -> Result<Made> {
    let made = |key: String, from: String| Ok(Made { key, from, no_files: false });
    let (prefix, files) = match &cache.key {
        None => return made("default".to_owned(), "nothing: no key is given".to_owned()),
        Some(Key::Template(template)) | Some(Key::Parts { template: Some(template), .. }) => {
            return made(fill(template, variables)?, format!("`{template}`"));
        }
        Some(Key::Parts { prefix, files, .. }) => (prefix, files),
    };
    let prefix = prefix.as_ref().map(|prefix| fill(prefix, variables)).transpose()?;
    if files.is_empty() {
        let key = prefix.unwrap_or_else(|| "default".to_owned());
        return made(key, "its prefix alone".to_owned());
    }
    let (digest, count) = hash(files)?;
    let from = format!(
        "{count} {} {}",
        if count == 1 { "file that matches" } else { "files that match" },
        files.join(", ")
    );
    let key = match prefix {
        Some(prefix) => format!("{prefix}-{digest}"),
        None => digest,
    };
    Ok(Made { key, from, no_files: count == 0 })
}

/// `template` with its references filled in: `$NAME` and `${NAME}`; `$$` is a dollar sign, and so is one that no name
/// follows.
///
/// # Errors
/// A name is unknown.
pub(crate) fn fill(template: &str, variables: &BTreeMap<String, String>) -> Result<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            text.push('$');
            rest = after;
            continue;
        }
        let braced = rest.strip_prefix('{').and_then(|braced| braced.split_once('}'));
        let (name, length) =
            match braced.filter(|(name, _)| !name.is_empty() && name_length(name) == name.len()) {
                Some((name, _)) => (name, name.len() + 2),
                None => (&rest[..name_length(rest)], name_length(rest)),
            };
        match variables.get(name) {
            _ if name.is_empty() => text.push('$'),
            Some(value) => text.push_str(value),
            None => return Err(unknown(name, template, variables)),
        }
        rest = &rest[length..];
    }
    text.push_str(rest);
    Ok(text)
}

/// The length of the name at the start of `text`, 0 without one.
fn name_length(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}

fn unknown(name: &str, template: &str, variables: &BTreeMap<String, String>) -> Error {
    let known: Vec<&str> = variables.keys().map(String::as_str).collect();
    let message = format!("`{template}` in `cache` refers to `{name}`, which is no variable of the job");
    Error::new(ErrorKind::Invalid, "CACHE_VARIABLE_UNKNOWN", message)
        .with_hint(format!("write `$$` for a dollar sign, or name one of: {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> BTreeMap<String, String> {
        [("job_name", "build"), ("OS", "linux"), ("EMPTY", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn references_are_filled_in() {
        for (template, filled) in [
            ("a", "a"),
            ("$job_name", "build"),
            ("${job_name}x", "buildx"),
            ("$job_name-$OS.1", "build-linux.1"),
            ("[$EMPTY]", "[]"),
            ("$$job_name $", "$job_name $"),
            ("$1 ${ ${} ${a b}", "$1 ${ ${} ${a b}"),
            ("ä$OSä", "älinuxä"),
        ] {
            assert_eq!(fill(template, &variables()).as_deref(), Ok(filled), "{template}");
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_those_that_are_known() {
        for (template, name) in [("$job_namex", "job_namex"), ("a-${none}-$OS", "none"), ("x $_", "_")] {
            let error = fill(template, &variables()).unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "CACHE_VARIABLE_UNKNOWN"));
            let text = error.to_string();
            assert!(text.contains(&format!("`{name}`")) && text.contains(&format!("`{template}`")), "{text}");
            assert!(format!("{error:?}").contains("EMPTY, OS, job_name"), "{error:?}");
        }
    }

    #[test]
    fn a_key_is_made_as_the_table_says() {
        let key = |key: &str| {
            let cache = format!(r#"{{"paths": ["x"], "policy": "pull-push", "when": "always"{key}}}"#);
            let cache: CacheSettings = serde_json::from_str(&cache).ok()?;
            let hash = |files: &[String]| {
                Ok((format!("sha256-{}", files.join("+")), if files == ["none"] { 0 } else { 2 }))
            };
            make(&cache, &variables(), &hash).ok().map(|made| (made.key, made.no_files))
        };
        for (given, made, no_files) in [
            ("", "default", false),
            (r#", "key": "$job_name-x""#, "build-x", false),
            (r#", "key": {"template": "t-$OS"}"#, "t-linux", false),
            (r#", "key": {"prefix": "p"}"#, "p", false),
            (r#", "key": {"prefix": "$OS-p"}"#, "linux-p", false),
            (r#", "key": {"prefix": "${OS}", "files": ["a"]}"#, "linux-sha256-a", false),
            (r#", "key": {"files": ["a", "b/**"]}"#, "sha256-a+b/**", false),
            (r#", "key": {"prefix": "p", "files": ["a"]}"#, "p-sha256-a", false),
            (r#", "key": {"prefix": "p", "files": ["none"]}"#, "p-sha256-none", true),
        ] {
            assert_eq!(key(given), Some((made.to_owned(), no_files)), "{given}");
        }
    }
}

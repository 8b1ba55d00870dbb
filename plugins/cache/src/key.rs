//! The key of a cache.

use loom_sdk::Result;

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

/// Makes the key of `cache`. `variable` gives the values of references; `hash` hashes all files that
/// globs match.
pub(crate) fn make(
    cache: &CacheSettings,
    variable: &dyn Fn(&str) -> Option<String>,
    hash: &dyn Fn(&[String]) -> Hashed,
) -> Result<Made> {
    let made = |key: String, from: String| Ok(Made { key, from, no_files: false });
    let (prefix, files) = match &cache.key {
        None => return made("default".to_owned(), "nothing: no key is given".to_owned()),
        Some(Key::Template(template)) => return made(fill(template, variable), format!("`{template}`")),
        Some(Key::Parts { template: Some(template), .. }) => {
            return made(fill(template, variable), format!("`{template}`"));
        }
        Some(Key::Parts { prefix, files, .. }) => (prefix, files),
    };
    if files.is_empty() {
        let key = prefix.clone().unwrap_or_else(|| "default".to_owned());
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

/// `template` with its references filled in: `$NAME` and `${NAME}`; `$$` is a dollar sign. What has no value stays as it is
/// written.
pub(crate) fn fill(template: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
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
        let (name, whole) = match rest.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            Some((name, _)) => (name, &rest[..name.len() + 2]),
            None => {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let name = &rest[..rest.find(|c| !word(c)).unwrap_or(rest.len())];
                let name = if name.starts_with(|c: char| c.is_ascii_digit()) { "" } else { name };
                (name, name)
            }
        };
        match variable(name) {
            Some(value) if !name.is_empty() => text.push_str(&value),
            _ => {
                text.push('$');
                text.push_str(whole);
            }
        }
        rest = &rest[whole.len()..];
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        match name {
            "job_name" => Some("build".to_owned()),
            "OS" => Some("linux".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn references_are_filled_in() {
        for (template, filled) in [
            ("a", "a"),
            ("$job_name", "build"),
            ("${job_name}x", "buildx"),
            ("$job_name-$OS.1", "build-linux.1"),
            ("$job_namex", "$job_namex"),
            ("${none}-$none", "${none}-$none"),
            ("[$EMPTY]", "[]"),
            ("$$job_name $", "$job_name $"),
            ("$1 ${", "$1 ${"),
            ("ä$OSä", "älinuxä"),
        ] {
            assert_eq!(fill(template, &variable), filled, "{template}");
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
            make(&cache, &variable, &hash).ok().map(|made| (made.key, made.no_files))
        };
        for (given, made, no_files) in [
            ("", "default", false),
            (r#", "key": "$job_name-x""#, "build-x", false),
            (r#", "key": {"template": "t-$OS"}"#, "t-linux", false),
            (r#", "key": {"prefix": "p"}"#, "p", false),
            (r#", "key": {"files": ["a", "b/**"]}"#, "sha256-a+b/**", false),
            (r#", "key": {"prefix": "p", "files": ["a"]}"#, "p-sha256-a", false),
            (r#", "key": {"prefix": "p", "files": ["none"]}"#, "p-sha256-none", true),
        ] {
            assert_eq!(key(given), Some((made.to_owned(), no_files)), "{given}");
        }
    }
}

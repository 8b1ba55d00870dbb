//! The settings that a copy of a work tree needs too: those that decide how files are compared with the
//! index.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::{git, run_one};
use crate::Error;

/// The settings that are kept. None of them can hold a credential or start a program. In lower case, as git
/// prints them.
const KEPT: [&str; 9] = [
    "core.filemode",
    "core.symlinks",
    "core.ignorecase",
    "core.precomposeunicode",
    "core.autocrlf",
    "core.eol",
    "core.excludesfile",
    "core.attributesfile",
    "extensions.objectformat",
];

/// The kept settings of the repository that `folder` is in, as `(key, value)`, each key once.
pub(super) fn kept(
    folder: &Path,
    common_dir: &Path,
    cancel: &AtomicBool,
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let file = common_dir.join("config");
    // A third git would take as long as the other two together.
    if let Some(settings) = fs_err::read(file).ok().and_then(|text| read_plain(&text)) {
        return Ok(settings);
    }
    let mut command = git(folder);
    // All of it, because asking for what is not set is a failure.
    command.args(["config", "-z", "--list"]);
    Ok(read_list(&run_one(command, folder, "config", cancel)?))
}

/// Reads a config file as git itself writes it. `None` for what needs git to be understood: included files,
/// settings of one work tree, quoted values, values over several lines, comments behind values.
fn read_plain(text: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut settings = Vec::new();
    let mut section = None;
    for line in text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii) {
        if line.is_empty() || line.starts_with(b"#") || line.starts_with(b";") {
            continue;
        }
        if line.ends_with(b"\\") {
            return None;
        }
        if let Some(rest) = line.strip_prefix(b"[") {
            section = Some(section_key(rest.strip_suffix(b"]")?)?);
            continue;
        }
        let section = section.as_deref()?;
        if section != "core" && section != "extensions" && !section.starts_with("submodule.") {
            continue;
        }
        let equals = line.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (line[..equals].trim_ascii(), line[equals + 1..].trim_ascii());
        let key = format!("{section}.{}", String::from_utf8_lossy(name).to_ascii_lowercase());
        if key == "extensions.worktreeconfig" || value.iter().any(|byte| b"\"\\#;".contains(byte)) {
            return None;
        }
        keep(&mut settings, key, value);
    }
    Some(settings)
}

/// The text between the brackets, as the first part of a key: `core`, or `submodule.a/Name` for
/// `submodule "a/Name"`.
fn section_key(header: &[u8]) -> Option<String> {
    let header = std::str::from_utf8(header).ok()?;
    let (section, name) = match header.split_once(" \"") {
        Some((section, name)) => (section, Some(name.strip_suffix('"')?)),
        None => (header, None),
    };
    let section = section.to_ascii_lowercase();
    if section.starts_with("include") || section.contains(']') || header.contains('\\') {
        return None;
    }
    Some(name.map_or(section.clone(), |name| format!("{section}.{name}")))
}

/// Reads what `git config -z --list` writes: `<key>\n<value>\0`, where a key without a value means true.
fn read_list(text: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut settings = Vec::new();
    for entry in text.split(|&byte| byte == 0).filter(|entry| !entry.is_empty()) {
        let (key, value) = match entry.iter().position(|&byte| byte == b'\n') {
            Some(at) => (&entry[..at], &entry[at + 1..]),
            None => (entry, &b"true"[..]),
        };
        keep(&mut settings, String::from_utf8_lossy(key).into_owned(), value);
    }
    settings
}

/// Keeps a setting; of a key that occurs twice the last one counts.
fn keep(settings: &mut Vec<(String, Vec<u8>)>, key: String, value: &[u8]) {
    // To git a submodule is in use if it has a URL. The URL may hold a password, so this is said in the other
    // way.
    let (key, value) = match key.strip_prefix("submodule.").and_then(|rest| rest.strip_suffix(".url")) {
        Some(name) => (format!("submodule.{name}.active"), &b"true"[..]),
        None => (key, value),
    };
    if KEPT.contains(&&*key) || (key.starts_with("submodule.") && key.ends_with(".active")) {
        settings.retain(|(known, _)| *known != key);
        settings.push((key, value.to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Option<Vec<(String, String)>> {
        let settings = read_plain(text.as_bytes())?;
        Some(settings.into_iter().map(|(key, value)| (key, String::from_utf8(value).unwrap())).collect())
    }

    fn setting(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn what_git_writes_is_read_without_git() {
        let text = "[core]\n\trepositoryformatversion = 0\n\tfileMode = true\n\tbare = false\n[remote \"origin\"]\n\
                    \turl = https://someone:secret@example.org/x.git\n# note\n[Core]\n  filemode=false\n\
                    [submodule \"libs/X.y\"]\n\turl = https://someone:secret@example.org/y.git\n\
                    [branch \"a]b\"]\n\tmerge = refs/heads/x ; a note\n[extensions]\nobjectformat = sha256\n";
        assert_eq!(
            plain(text),
            Some(vec![
                setting("core.filemode", "false"),
                setting("submodule.libs/X.y.active", "true"),
                setting("extensions.objectformat", "sha256")
            ])
        );
        assert_eq!(plain(""), Some(vec![]));
    }

    #[test]
    fn what_only_git_understands_is_left_to_git() {
        for text in [
            "[include]\n\tpath = other\n",
            "[includeIf \"gitdir:x\"]\n\tpath = other\n",
            "[core] filemode = true\n",
            "[core]\n\tfilemode\n",
            "[core]\n\teol = \"lf\"\n",
            "[core]\n\teol = lf # note\n",
            "[alias]\n\tx = a \\\n[core]\n\tfilemode = false\n",
            "[extensions]\n\tworktreeConfig = true\n",
            "\u{feff}[core]\n\tfilemode = false\n",
        ] {
            assert_eq!(plain(text), None, "{text}");
        }
    }

    #[test]
    fn the_list_that_git_prints() {
        assert_eq!(
            read_list(
                b"core.eol\nlf\0core.symlinks\0user.name\nx\0core.eol\ncrlf\0core.excludesfile\na\nb\0"
            ),
            [
                ("core.symlinks".to_owned(), b"true".to_vec()),
                ("core.eol".to_owned(), b"crlf".to_vec()),
                ("core.excludesfile".to_owned(), b"a\nb".to_vec()),
            ]
        );
    }
}

//! The settings that a copy of a work tree needs too: those that decide how files are compared with the
//! index and shown, and where what a partial clone does not have is fetched from.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::{git, run_one};
use crate::Error;

/// The settings that are kept. None of them can hold a credential; filters start programs, but only for a git
/// that a job calls: none that Loom calls looks into files. In lower case, as git prints them.
const KEPT: [&str; 12] = [
    "core.filemode",
    "core.symlinks",
    "core.ignorecase",
    "core.precomposeunicode",
    "core.autocrlf",
    "core.eol",
    "core.excludesfile",
    "core.attributesfile",
    "core.quotepath",
    "extensions.objectformat",
    "extensions.partialclone",
    "status.showuntrackedfiles",
];
/// The same for those of which there is one for each remote or filter.
const KEPT_OF_EACH: [(&str, &[&str]); 2] = [
    ("remote", &["url", "fetch", "tagopt", "promisor", "partialclonefilter"]),
    ("filter", &["clean", "smudge", "process", "required"]),
];
/// In the place of a URL to push to; git says it when it cannot find that.
const NO_PUSH: &str = "(the workspace is a copy of the repository, push from your own work tree)";

/// The kept settings of the repository that `folder` is in, whose work tree is at `top`, as `(key, value)`. Its
/// remotes can be fetched from and not pushed to.
pub(super) fn kept(
    folder: &Path,
    top: &Path,
    common_dir: &Path,
    cancel: &AtomicBool,
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let file = common_dir.join("config");
    // A third git would take as long as the other two together.
    let mut settings = match fs_err::read(file).ok().and_then(|text| read_plain(&text)) {
        Some(settings) => settings,
        None => {
            let mut command = git(folder);
            // All of it, because asking for what is not set is a failure.
            command.args(["config", "-z", "--list"]);
            read_list(&run_one(command, folder, "config", cancel)?)
        }
    };
    let mut no_push = Vec::new();
    for (key, value) in &mut settings {
        let Some(remote) = key.strip_prefix("remote.").and_then(|rest| rest.strip_suffix(".url")) else {
            continue;
        };
        *value = url(value, top);
        no_push.push((format!("remote.{remote}.pushurl"), NO_PUSH.as_bytes().to_vec()));
    }
    no_push.dedup();
    settings.append(&mut no_push);
    Ok(settings)
}

/// The URL `given` of a remote, without user and password where these are no more than that, and as it is
/// understood from elsewhere than `top`.
fn url(given: &[u8], top: &Path) -> Vec<u8> {
    let scheme_end = given.windows(3).position(|three| three == b"://");
    let Some(scheme_end) = scheme_end else {
        // With a colon it is the path on a host; `<helper>::<address>` has one too.
        let is_relative = !given.starts_with(b"/") && !given.contains(&b':');
        return match is_relative {
            true => [top.as_os_str().as_bytes(), b"/", given].concat(),
            false => given.to_vec(),
        };
    };
    let (scheme, rest) = given.split_at(scheme_end + 3);
    let host_end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    let Some(at) = rest[..host_end].iter().rposition(|&byte| byte == b'@') else { return given.to_vec() };
    // The user of SSH is part of the address.
    let user = match scheme.to_ascii_lowercase().ends_with(b"ssh://") {
        true => rest[..at].split(|&byte| byte == b':').next().unwrap_or_default(),
        false => b"",
    };
    let at = if user.is_empty() { at + 1 } else { at };
    [scheme, user, &rest[at..]].concat()
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
        let (first, has_name) = section.split_once('.').map_or((section, false), |(first, _)| (first, true));
        match first {
            "core" | "extensions" | "status" => {}
            "submodule" | "remote" | "filter" if has_name => {}
            _ => continue,
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

/// Keeps a setting; of a key that occurs twice the last one counts, but for what is fetched.
fn keep(settings: &mut Vec<(String, Vec<u8>)>, key: String, value: &[u8]) {
    // To git a submodule is in use if it has a URL. The URL may hold a password, so this is said in the other
    // way.
    let (key, value) = match key.strip_prefix("submodule.").and_then(|rest| rest.strip_suffix(".url")) {
        Some(name) => (format!("submodule.{name}.active"), &b"true"[..]),
        None => (key, value),
    };
    let (section, name) = key.split_once('.').unwrap_or_default();
    let (_, name) = name.rsplit_once('.').unwrap_or_default();
    let is_of_each = KEPT_OF_EACH.iter().any(|(of, names)| *of == section && names.contains(&name));
    if KEPT.contains(&&*key) || is_of_each || (section == "submodule" && name == "active") {
        // Of a remote all refs that are fetched count.
        if (section, name) != ("remote", "fetch") {
            settings.retain(|(known, _)| *known != key);
        }
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
                setting("remote.origin.url", "https://someone:secret@example.org/x.git"),
                setting("core.filemode", "false"),
                setting("submodule.libs/X.y.active", "true"),
                setting("extensions.objectformat", "sha256")
            ])
        );
        assert_eq!(plain(""), Some(vec![]));
        let text = "[remote \"a.b\"]\n\turl = /x\n\tfetch = one\n\tfetch = two\n\tpromisor = true\n\tproxy = p\n\
                    [remotes]\n\ta = b\n[filter \"lfs\"]\n\tclean = git-lfs clean -- %f\n\tother = x\n";
        assert_eq!(
            plain(text),
            Some(vec![
                setting("remote.a.b.url", "/x"),
                setting("remote.a.b.fetch", "one"),
                setting("remote.a.b.fetch", "two"),
                setting("remote.a.b.promisor", "true"),
                setting("filter.lfs.clean", "git-lfs clean -- %f"),
            ])
        );
    }

    #[test]
    fn the_url_of_a_remote_holds_no_password_and_means_the_same_elsewhere() {
        for (given, kept) in [
            ("https://someone:secret@example.org/x.git", "https://example.org/x.git"),
            ("https://token@example.org", "https://example.org"),
            ("https://example.org/a@b", "https://example.org/a@b"),
            ("HTTP://a:b@c@example.org:8080/x?y", "HTTP://example.org:8080/x?y"),
            ("ssh://git@example.org:22/x", "ssh://git@example.org:22/x"),
            ("ssh://git:secret@example.org/x", "ssh://git@example.org/x"),
            ("git+ssh://git:secret@example.org/x", "git+ssh://git@example.org/x"),
            ("git@example.org:x.git", "git@example.org:x.git"),
            ("file:///srv/x.git", "file:///srv/x.git"),
            ("/srv/x.git", "/srv/x.git"),
            ("../x.git", "/top/../x.git"),
        ] {
            assert_eq!(String::from_utf8(url(given.as_bytes(), Path::new("/top"))).unwrap(), kept, "{given}");
        }
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

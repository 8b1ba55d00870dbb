//! What a plugin may do: asked for in its manifest, and given by the user's configuration. The one gate for `loom:exec`,
//! `loom:credentials`, `loom:workspace/files` and `loom:net`.

use std::path::{Component, Path, PathBuf};

use loom_contract::error::code;
use ureq::http::Uri;

use crate::config::PluginConfig;
use crate::info::PluginInfo;
use crate::manifest::{Access, CONFIG, ExecGrant, REFERENCES};
use crate::types::{Error, ErrorKind, error};

fn denied(plugin: &PluginInfo, what: &str, capability: &str, granted: &[String]) -> Error {
    let message = format!("the plugin `{}` may not {what}", plugin.reference.name);
    let granted = match granted {
        [] => "nothing".to_owned(),
        granted => granted.join(", "),
    };
    let hint =
        format!("its manifest and the configuration grant under `capabilities.{capability}`: {granted}");
    Error { hint: Some(hint), ..error(ErrorKind::Denied, code::PLUGIN_DENIED, message) }
}

/// Whether `plugin` may have the credential `slot`.
pub(crate) fn credential(plugin: &PluginInfo, slot: &str) -> Result<(), Error> {
    let granted = &plugin.manifest.capabilities.credentials;
    if granted.iter().any(|granted| granted == slot) {
        return Ok(());
    }
    Err(denied(plugin, &format!("have the credential `{slot}`"), "credentials", &quoted(granted)))
}

/// Whether `plugin` may read the variable `name`.
pub(crate) fn variable(plugin: &PluginInfo, config: &PluginConfig, name: &str) -> Result<(), Error> {
    let granted: Vec<String> = plugin
        .manifest
        .capabilities
        .env
        .iter()
        .flat_map(|granted| match granted.as_str() {
            REFERENCES => config.referenced.clone(),
            granted => vec![granted.to_owned()],
        })
        .collect();
    if granted.iter().any(|granted| granted == name) {
        return Ok(());
    }
    Err(denied(plugin, &format!("read the environment variable `{name}`"), "env", &quoted(&granted)))
}

/// The file at `path`, where `plugin` may use it so.
pub(crate) fn file(
    plugin: &PluginInfo,
    config: &PluginConfig,
    path: &str,
    access: Access,
) -> Result<PathBuf, Error> {
    let asked = Path::new(path);
    let straight = asked.is_absolute() && !asked.components().any(|part| part == Component::ParentDir);
    let grants = &plugin.manifest.capabilities.files;
    let allowed =
        grants.iter().filter(|grant| grant.access >= access).any(|grant| match grant.root.as_str() {
            CONFIG => config.files.iter().any(|file| file == asked),
            root => below(Path::new(root), asked),
        });
    if straight && allowed {
        return Ok(asked.to_owned());
    }
    let granted: Vec<String> = grants
        .iter()
        .flat_map(|grant| {
            let how = if grant.access == Access::Write { "" } else { " to read" };
            match grant.root.as_str() {
                CONFIG => config.files.iter().map(|file| format!("`{}`{how}", file.display())).collect(),
                root => vec![format!("`{root}`{how}")],
            }
        })
        .collect();
    let verb = if access == Access::Write { "write" } else { "read" };
    Err(denied(plugin, &format!("{verb} `{path}`"), "files", &granted))
}

/// Whether `asked` is `root` or in it, also after all symbolic links are followed.
fn below(root: &Path, asked: &Path) -> bool {
    // A file that is yet to be written is where its folder is.
    let real = asked.canonicalize().or_else(|_| asked.parent().unwrap_or(asked).canonicalize());
    asked.starts_with(root)
        && root.canonicalize().is_ok_and(|root| real.is_ok_and(|real| real.starts_with(root)))
}

/// Whether `plugin` may send a request to `url`.
pub(crate) fn request(
    plugin: &PluginInfo,
    config: &PluginConfig,
    method: &str,
    url: &Uri,
) -> Result<(), Error> {
    let grants = &plugin.manifest.capabilities.http;
    let asked = origin(url);
    let granted: Vec<(String, &Vec<String>)> = grants
        .iter()
        .flat_map(|grant| match grant.origin.as_str() {
            CONFIG => config.origins.iter().map(|origin| (origin.clone(), &grant.methods)).collect(),
            origin => vec![(origin.to_owned(), &grant.methods)],
        })
        .collect();
    let allowed = granted.iter().any(|(granted, methods)| {
        granted.parse().is_ok_and(|granted: Uri| origin(&granted) == asked)
            && methods.iter().any(|granted| granted == method)
    });
    if allowed && matches!(url.scheme_str(), Some("http" | "https")) {
        return Ok(());
    }
    let granted: Vec<String> =
        granted.iter().map(|(origin, methods)| format!("{} `{origin}`", methods.join(", "))).collect();
    let place = format!("{}://{}", url.scheme_str().unwrap_or_default(), authority(url));
    Err(denied(plugin, &format!("send {method} to `{place}`"), "http", &granted))
}

/// Scheme, name and port, by which two URLs lead to the same server.
fn origin(url: &Uri) -> (Option<&str>, Option<String>, Option<u16>) {
    let usual = match url.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    };
    (url.scheme_str(), url.host().map(str::to_ascii_lowercase), url.port_u16().or(usual))
}

/// Name and port of a URL, without what may be a password in front of them.
pub(crate) fn authority(url: &Uri) -> String {
    let host = url.host().unwrap_or_default();
    url.port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn quoted(names: &[String]) -> Vec<String> {
    names.iter().map(|name| format!("`{name}`")).collect()
}

/// Whether `plugin` may give what it starts the job's environment.
pub(crate) fn job_env(plugin: &PluginInfo) -> Result<(), Error> {
    if plugin.manifest.capabilities.job_env {
        return Ok(());
    }
    let message = format!(
        "the plugin `{}` may not start anything with the job's environment, secrets included",
        plugin.reference.name
    );
    let hint = "its manifest needs `job_env = true` under `[capabilities]`, which means that it can read the job's secrets";
    Err(Error { hint: Some(hint.to_owned()), ..error(ErrorKind::Denied, code::PLUGIN_DENIED, message) })
}

/// Whether `plugin` may start `program` with `args`, and set the variables `names` for it.
pub(crate) fn process<'n>(
    plugin: &PluginInfo,
    program: &str,
    args: &[String],
    mut names: impl Iterator<Item = &'n str>,
) -> Result<(), Error> {
    let name = &plugin.reference.name;
    let denied = |what: String, hint: String| {
        let message = format!("the plugin `{name}` may not {what}");
        Err(Error { hint: Some(hint), ..error(ErrorKind::Denied, code::PLUGIN_DENIED, message) })
    };
    let grants = &plugin.manifest.capabilities.exec;
    let allowed: Vec<&ExecGrant> = grants.iter().filter(|grant| grant.allows(program, args)).collect();
    if allowed.is_empty() {
        let asked: Vec<String> =
            std::iter::once(program).chain(args.iter().map(String::as_str)).map(shortened).collect();
        let granted: Vec<String> = grants.iter().map(|grant| format!("`{grant}`")).collect();
        let hint = format!(
            "its manifest grants under `capabilities.exec`: {}; a pattern that begins with a single `*` takes nothing that \
             begins with `-`",
            granted.join(", ")
        );
        return denied(format!("start `{}`", asked.join(" ")), hint);
    }
    match names.find(|name| !allowed.iter().any(|grant| grant.env.iter().any(|granted| granted == name))) {
        None => Ok(()),
        Some(refused) => {
            let granted: Vec<String> = allowed.iter().flat_map(|grant| &grant.env).cloned().collect();
            let granted = if granted.is_empty() { "nothing".to_owned() } else { quoted(&granted).join(", ") };
            let hint = format!("its manifest grants as `env` of this program: {granted}");
            denied(format!("set `{}` for a process", refused.escape_debug()), hint)
        }
    }
}

/// For an error: a step's command may be long.
fn shortened(word: &str) -> String {
    match word.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &word[..cut]),
        None => word.to_owned(),
    }
}

/// Further arguments.
const REST: &str = "...";
/// What it begins with takes an argument also where that begins with `-`.
const ANY: &str = "**";

impl ExecGrant {
    /// Whether it allows `program` with `args`.
    fn allows(&self, program: &str, args: &[String]) -> bool {
        if self.program != program {
            return false;
        }
        let (patterns, rest) = match self.args.split_last() {
            Some((last, before)) if last == REST => (before, Some("*")),
            Some((last, before)) if last.strip_prefix(ANY) == Some(REST) => (before, Some(ANY)),
            _ => (self.args.as_slice(), None),
        };
        let Some((named, further)) = args.split_at_checked(patterns.len()) else { return false };
        let further_fit = match rest {
            Some(pattern) => further.iter().all(|arg| takes(pattern, arg)),
            None => further.is_empty(),
        };
        further_fit && patterns.iter().zip(named).all(|(pattern, arg)| takes(pattern, arg))
    }
}

/// Whether `pattern` takes the argument `arg`: what may be anything is no option where the pattern does not say so.
fn takes(pattern: &str, arg: &str) -> bool {
    let is_open = pattern.starts_with('*') && !pattern.starts_with(ANY);
    !(is_open && arg.starts_with('-')) && matches(pattern, arg)
}

impl std::fmt::Display for ExecGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.program)?;
        self.args.iter().try_for_each(|arg| write!(f, " {arg}"))
    }
}

/// Whether `text` is `pattern`, in which `*` stands for any text, line ends and nothing included.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    // Of the parts in the middle, the leftmost match leaves most for those that follow.
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The granted program and its patterns, the program asked for and its arguments, whether that is allowed.
    type Row = (&'static str, &'static [&'static str], &'static str, &'static [&'static str], bool);

    #[test]
    fn a_program_is_allowed_with_matching_arguments_only() {
        let table: [Row; 29] = [
            ("sh", &["-c", "*"], "sh", &["-c", "echo\nx"], true),
            ("sh", &["-c", "*"], "sh", &["-c", ""], true),
            ("sh", &["-c", "*"], "sh", &["-c"], false),
            ("sh", &["-c", "*"], "sh", &["-c", "x", "y"], false),
            ("sh", &["-c", "*"], "sh", &["-e", "x"], false),
            ("sh", &["-c", "*"], "/bin/sh", &["-c", "x"], false),
            ("sh", &["-c", "*"], "bash", &["-c", "x"], false),
            ("id", &[], "id", &[], true),
            ("id", &[], "id", &["-u"], false),
            ("git", &["show", "..."], "git", &["show"], true),
            ("git", &["show", "..."], "git", &["show", "a", "b"], true),
            ("git", &["show", "..."], "git", &["push"], false),
            // What begins with a dash is an option: only where the pattern says so.
            ("git", &["show", "*"], "git", &["show", "--output=/x"], false),
            ("git", &["show", "*"], "git", &["show", "-"], false),
            ("git", &["show", "*"], "git", &["show", "a--output=/x"], true),
            ("git", &["show", "-*"], "git", &["show", "--stat"], true),
            ("git", &["show", "--format=*"], "git", &["show", "--format=-x"], true),
            ("git", &["show", "**"], "git", &["show", "--output=/x"], true),
            ("git", &["show", "**.rs"], "git", &["show", "-x.rs"], true),
            ("git", &["show", "*.rs"], "git", &["show", "-x.rs"], false),
            ("git", &["show", "..."], "git", &["show", "a", "--output=/x"], false),
            ("git", &["show", "**..."], "git", &["show", "a", "--output=/x"], true),
            ("git", &["show", "**..."], "git", &[], false),
            ("sh", &["-c", "*"], "sh", &["-c", "-x"], false),
            ("git", &["...", "show"], "git", &["x", "show"], false),
            ("op", &["read", "op://*/*"], "op", &["read", "op://a/b"], true),
            ("op", &["read", "op://*/*"], "op", &["read", "op://a"], false),
            ("op", &["--*=ab*ab"], "op", &["--x=ab"], false),
            ("op", &["--*=ab*ab"], "op", &["--x=abab"], true),
        ];
        for (program, patterns, asked, args, allowed) in table {
            let patterns = patterns.iter().map(|&p| p.into()).collect();
            let grant = ExecGrant { program: program.into(), args: patterns, env: Vec::new() };
            let args: Vec<String> = args.iter().map(|&a| a.into()).collect();
            assert_eq!(grant.allows(asked, &args), allowed, "`{grant}` for `{asked}` {args:?}");
        }
    }
}

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

/// Further arguments of any kind.
const REST: &str = "...";

impl ExecGrant {
    /// Whether it allows `program` with `args`.
    pub(crate) fn allows(&self, program: &str, args: &[String]) -> bool {
        if self.program != program {
            return false;
        }
        let (patterns, open) = match self.args.split_last() {
            Some((last, before)) if last == REST => (before, true),
            _ => (self.args.as_slice(), false),
        };
        let enough = if open { args.len() >= patterns.len() } else { args.len() == patterns.len() };
        enough && patterns.iter().zip(args).all(|(pattern, arg)| matches(pattern, arg))
    }
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
        let table: [Row; 17] = [
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
            ("git", &["...", "show"], "git", &["x", "show"], false),
            ("op", &["read", "op://*/*"], "op", &["read", "op://a/b"], true),
            ("op", &["read", "op://*/*"], "op", &["read", "op://a"], false),
            ("op", &["--*=ab*ab"], "op", &["--x=ab"], false),
            ("op", &["--*=ab*ab"], "op", &["--x=abab"], true),
        ];
        for (program, patterns, asked, args, allowed) in table {
            let grant =
                ExecGrant { program: program.into(), args: patterns.iter().map(|&p| p.into()).collect() };
            let args: Vec<String> = args.iter().map(|&a| a.into()).collect();
            assert_eq!(grant.allows(asked, &args), allowed, "`{grant}` for `{asked}` {args:?}");
        }
    }
}

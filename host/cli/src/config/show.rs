//! The effective configuration as a config file, with the source of every value beside it.

use std::fmt;
use std::path::Path;

use loom_contract::visible::{escaped_json, on_one_line};

use super::{Effective, Source, Vault};

/// The column in which sources stand, where the value before it leaves room.
const COLUMN: usize = 56;

/// `effective` as YAML. What is printed is itself a valid config file; it holds names of variables, never their values.
pub(crate) fn show(effective: &Effective) -> String {
    let mut page = Page::default();
    page.open(0, "runtime");
    page.value(1, "jobs", effective.jobs.value, &effective.jobs.source);
    match &effective.cache_dir {
        Some(dir) => page.value(1, "cacheDir", path(&dir.value), &dir.source),
        None => page.comment(1, "cacheDir: not known; neither XDG_CACHE_HOME nor HOME is set"),
    }
    match &effective.workspace_dir {
        Some(dir) => page.value(1, "workspaceDir", path(&dir.value), &dir.source),
        None => page.comment(1, "workspaceDir: not known, without cacheDir"),
    }
    let keep = &effective.keep_runs;
    page.value(1, "keepRuns", keep.value, &keep.source);
    let most = &effective.cache_max_bytes;
    page.value(1, "cacheMaxBytes", most.value, &most.source);
    let records = [
        ("keepRecords", &effective.keep_records),
        ("recordsMaxBytes", &effective.records_max_bytes),
        ("recordsMaxDays", &effective.records_max_days),
    ];
    for (key, limit) in records {
        page.value(1, key, limit.value, &limit.source);
    }
    let output = &effective.output_max_bytes;
    page.value(1, "outputMaxBytes", output.value, &output.source);
    page.open(1, "limits");
    page.value(2, "memory", effective.memory.value, &effective.memory.source);
    page.value(2, "pids", effective.pids.value, &effective.pids.source);
    let groups = &effective.control_groups;
    page.value(1, "controlGroups", groups.value, &groups.source);
    page.open(1, "docker");
    let mount = &effective.workspace_mount;
    page.value(2, "workspaceMount", mount.value.name(), &mount.source);
    page.open(0, "providers");
    if !effective.vaults.is_empty() {
        page.open(1, "keepass");
        page.open(2, "aliases");
    }
    for (alias, vault) in &effective.vaults {
        if *vault == Vault::default() {
            // Nothing but its name is set.
            page.line(3, &format!("{}: {{}}", plain(alias)));
            continue;
        }
        page.open(3, &plain(alias));
        if let Some(file) = &vault.path {
            page.value(4, "path", path(&file.value), &file.source);
        }
        for (key, name) in [("passwordEnv", &vault.password_env), ("keyfileEnv", &vault.keyfile_env)] {
            if let Some(name) = name {
                page.value(4, key, name.value.as_str(), &name.source);
            }
        }
    }
    for (key, vault) in &effective.vaults_by_key {
        page.comment(1, &format!("the alias with the key {key}, known to the environment alone:"));
        if let Some(file) = &vault.path {
            page.comment(1, &format!("  path: {} ({})", path(&file.value), file.source));
        }
        for (word, name) in [("passwordEnv", &vault.password_env), ("keyfileEnv", &vault.keyfile_env)] {
            if let Some(name) = name {
                page.comment(1, &format!("  {word}: {} ({})", name.value.as_str(), name.source));
            }
        }
    }
    page.open(1, "op");
    let token = &effective.op_token_env;
    page.value(2, "serviceAccountTokenEnv", token.value.as_str(), &token.source);
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, depth: usize, line: &str) {
        self.text.push_str(&"  ".repeat(depth));
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn open(&mut self, depth: usize, key: &str) {
        self.line(depth, &format!("{key}:"));
    }

    fn comment(&mut self, depth: usize, words: &str) {
        self.line(depth, &format!("# {}", on_one_line(words)));
    }

    fn value(&mut self, depth: usize, key: &str, shown: impl fmt::Display, source: &Source) {
        let line = format!("{key}: {shown}");
        let width = COLUMN.saturating_sub(2 * depth);
        self.line(depth, &format!("{line:width$} # {}", on_one_line(&source.to_string())));
    }
}

fn path(path: &Path) -> String {
    plain(&path.to_string_lossy())
}

/// `text` as YAML reads it back as the same text: as it is where that is safe, else in JSON's quotes, which are YAML's.
fn plain(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "/._-@+".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| word.eq_ignore_ascii_case(text));
    if starts && !word && text.chars().all(harmless) {
        text.to_owned()
    } else {
        escaped_json(&serde_json::Value::from(text).to_string()).into_owned()
    }
}

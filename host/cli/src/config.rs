//! What can be set, and which of five places wins: built-in < user's file < repository's file < environment < flag.
//!
//! ```text
//! ConfigFile (typed text) --values--> Values --+
//! variables --------------------------values---+--over--> Effective (each value with its source) --show--> YAML
//! Flags ------------------------------values---+
//! ```
//!
//! Nothing here reads a file or the environment: [`crate::settings`] does, and hands in what it found.

mod file;
mod show;
mod starter;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use loom_contract::error::ErrorInfo;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{Schema, SchemaGenerator};

pub(crate) use file::{Memory, VariableName, WorkspaceMount};
pub(crate) use show::show;
pub(crate) use starter::STARTER;

use crate::files::normal;
use file::{ConfigFile, Scalar as _};

/// The stable code of every error of the configuration.
pub(crate) const CONFIG_INVALID: &str = "CONFIG_INVALID";

/// Workspaces of failed runs that are kept for a look, per repository.
const KEEP_RUNS: u64 = 5;
/// The size at which the cache starts to forget, in bytes: 10 GiB.
const CACHE_MAX_BYTES: u64 = 10 << 30;
/// Records of runs that are kept, per repository.
const KEEP_RECORDS: u64 = 500;
/// What they may take, in bytes: 4 GiB.
const RECORDS_MAX_BYTES: u64 = 4 << 30;
/// Their age, in days.
const RECORDS_MAX_DAYS: u64 = 90;
/// Bytes of a step's output that are recorded: 256 MiB.
const OUTPUT_MAX_BYTES: u64 = 256 << 20;
/// The variable for `runtime.docker.workspaceMount`.
const MOUNT_ENV: &str = "LOOM_DOCKER_WORKSPACE_MOUNT";
/// What the variables of KeePass databases begin with.
const KEEPASS_ENV: &str = "LOOM_KEEPASS_DB_";
/// The variable for the address of a 1Password Connect server. 1Password's own name for it.
pub(crate) const OP_CONNECT_HOST: &str = "OP_CONNECT_HOST";
/// The variable for the token of a 1Password Connect server. 1Password's own name for it.
pub(crate) const OP_CONNECT_TOKEN: &str = "OP_CONNECT_TOKEN";

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nobody set it.
    BuiltIn,
    /// The user's config file.
    UserFile(PathBuf),
    /// The repository's config file.
    RepoFile(PathBuf),
    /// The environment variable of this name.
    Variable(String),
    /// The flag of this name.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::UserFile(path) | Self::RepoFile(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) source: Source,
}

/// What holds for this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effective {
    /// How Docker jobs see the workspace.
    pub(crate) workspace_mount: Setting<WorkspaceMount>,
    /// Jobs that may run at once.
    pub(crate) jobs: Setting<NonZeroUsize>,
    /// The folder for what can be made again; `None` where the user has no home and nobody named one.
    pub(crate) cache_dir: Option<Setting<PathBuf>>,
    /// Where the runs' copies of repositories stand; `None` as above.
    pub(crate) workspace_dir: Option<Setting<PathBuf>>,
    /// Workspaces of failed runs that are kept for a look, per repository.
    pub(crate) keep_runs: Setting<u64>,
    /// The size at which the cache starts to forget, in bytes.
    pub(crate) cache_max_bytes: Setting<u64>,
    /// Records of runs that are kept, per repository.
    pub(crate) keep_records: Setting<u64>,
    /// What they may take, in bytes; 0 for any number.
    pub(crate) records_max_bytes: Setting<u64>,
    /// How old they may be, in days; 0 for any age.
    pub(crate) records_max_days: Setting<u64>,
    /// Bytes of output of each step that are recorded; 0 for any number.
    pub(crate) output_max_bytes: Setting<u64>,
    /// Memory that a job may use.
    pub(crate) memory: Setting<Memory>,
    /// Processes and threads that it may have; 0 for any number.
    pub(crate) pids: Setting<u64>,
    /// Whether each job on this machine has a control group.
    pub(crate) control_groups: Setting<bool>,
    /// KeePass databases by alias.
    pub(crate) vaults: BTreeMap<String, Vault>,
    /// KeePass databases that only the environment knows, by the KEY of their alias.
    pub(crate) vaults_by_key: BTreeMap<String, Vault>,
    /// The variable that holds the 1Password token.
    pub(crate) op_token_env: Setting<VariableName>,
}

/// A KeePass database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Vault {
    /// Its file, absolute.
    pub(crate) path: Option<Setting<PathBuf>>,
    /// The variable that holds its password.
    pub(crate) password_env: Option<Setting<VariableName>>,
    /// The variable that holds its key file.
    pub(crate) keyfile_env: Option<Setting<VariableName>>,
}

/// What the command line says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flags {
    /// `--jobs`
    pub(crate) jobs: Option<NonZeroUsize>,
    /// `--docker-workspace-mount`
    pub(crate) workspace_mount: Option<WorkspaceMount>,
}

/// What built-in values are taken from.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// Processors that this process may use.
    pub(crate) processors: NonZeroUsize,
    /// Loom's folder in the user's cache folder, where the user has a home.
    pub(crate) cache_dir: Option<PathBuf>,
}

/// A config file that exists.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// Where it stands, absolute.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) text: String,
}

/// Everything that a value can come from but the built-in ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs<'a> {
    /// The user's config file.
    pub(crate) user: Option<Text>,
    /// The repository's config file.
    pub(crate) repo: Option<Text>,
    /// The environment; variables that are not Loom's are passed over.
    pub(crate) variables: &'a [(OsString, OsString)],
    /// The folder that paths of the environment are relative to, absolute.
    pub(crate) current_dir: PathBuf,
    /// The command line.
    pub(crate) flags: Flags,
}

/// Why there is no configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A file breaks a rule.
    #[error("{}:{line}:{column}: {message}", path.display())]
    File { path: PathBuf, line: u64, column: u64, message: String, hint: Option<String> },
    /// A file could not be read.
    #[error("cannot read {}: {message}", path.display())]
    Unreadable { path: PathBuf, message: String },
    /// A variable holds what it must not.
    #[error("{name} must hold {wanted}")]
    Variable { name: String, wanted: &'static str },
    /// Two aliases would be set by the same variables.
    #[error(
        "the KeePass aliases `{first}` ({first_source}) and `{second}` ({second_source}) have one key: {key}"
    )]
    OneKey { first: String, first_source: String, second: String, second_source: String, key: String },
}

impl Error {
    /// The error as documents carry it.
    pub(crate) fn to_info(&self) -> ErrorInfo {
        let info = ErrorInfo::new(CONFIG_INVALID, self.to_string());
        match self {
            Self::File { hint: Some(hint), .. } => info.with_hint(hint),
            Self::File { .. } | Self::Unreadable { .. } => info,
            Self::Variable { name, .. } => info.with_hint(format!("set {name} so, or unset it")),
            Self::OneKey { key, .. } => {
                info.with_hint(format!("rename one of them: {KEEPASS_ENV}{key}_PATH would set both"))
            }
        }
    }
}

/// The JSON Schema of a config file.
pub(crate) fn json_schema() -> Schema {
    // A key that is not there sets nothing; a default of null would say no more.
    let no_null_defaults = RecursiveTransform(|schema: &mut Schema| {
        if schema.get("default").is_some_and(serde_json::Value::is_null) {
            schema.remove("default");
        }
    });
    let settings = SchemaSettings::draft2020_12().with_transform(no_null_defaults);
    SchemaGenerator::new(settings).into_root_schema_for::<ConfigFile>()
}

/// Merges what all places say.
///
/// # Errors
/// A file or a variable breaks a rule, or two aliases have one KEY.
pub(crate) fn effective(machine: &Machine, inputs: &Inputs<'_>) -> Result<Effective, Error> {
    let mut values = Values::default();
    if let Some(text) = &inputs.user {
        values = Values::of_file(text, Source::UserFile(text.path.clone()))?.over(values);
    }
    if let Some(text) = &inputs.repo {
        values = Values::of_file(text, Source::RepoFile(text.path.clone()))?.over(values);
    }
    let mut from_environment = from_environment(inputs.variables, &inputs.current_dir)?;
    let mut keys: BTreeMap<String, (&String, &Vault)> = BTreeMap::new();
    for (alias, vault) in &values.vaults {
        if let Some((first, first_vault)) = keys.insert(key_of(alias), (alias, vault)) {
            return Err(Error::OneKey {
                first: first.clone(),
                first_source: first_vault.sources(),
                second: alias.clone(),
                second_source: vault.sources(),
                key: key_of(alias),
            });
        }
    }
    for (alias, vault) in &mut values.vaults {
        if let Some(upper) = from_environment.vaults.remove(&key_of(alias)) {
            *vault = upper.over(std::mem::take(vault));
        }
    }
    let vaults_by_key = std::mem::take(&mut from_environment.vaults);
    let values = Values::of_flags(inputs.flags).over(from_environment).over(values);
    Ok(values.settle(vaults_by_key, machine))
}

impl Effective {
    /// What holds where only the command line says anything.
    pub(crate) fn built_in(machine: &Machine, flags: Flags) -> Self {
        Values::of_flags(flags).settle(BTreeMap::new(), machine)
    }

    /// Names of the variables that unlock vaults: no job may see them.
    pub(crate) fn unlocking_variables(&self) -> Vec<&str> {
        let vaults = self.vaults.values().chain(self.vaults_by_key.values());
        vaults
            .flat_map(|vault| [&vault.password_env, &vault.keyfile_env])
            .flatten()
            .chain([&self.op_token_env])
            .map(|name| name.value.as_str())
            .chain([OP_CONNECT_TOKEN])
            .collect()
    }

    /// The vault that is called `alias`, by a file or by the environment.
    pub(crate) fn vault(&self, alias: &str) -> Option<&Vault> {
        self.vaults.get(alias).or_else(|| self.vaults_by_key.get(&key_of(alias)))
    }
}

impl Vault {
    fn over(self, lower: Self) -> Self {
        Self {
            path: self.path.or(lower.path),
            password_env: self.password_env.or(lower.password_env),
            keyfile_env: self.keyfile_env.or(lower.keyfile_env),
        }
    }

    /// Who says something about it.
    fn sources(&self) -> String {
        let path = self.path.as_ref().map(|set| set.source.to_string());
        let names = [&self.password_env, &self.keyfile_env];
        let names = names.into_iter().flatten().map(|set| set.source.to_string());
        let mut sources: Vec<String> = path.into_iter().chain(names).collect();
        sources.sort_unstable();
        sources.dedup();
        if sources.is_empty() { "without any value".to_owned() } else { sources.join(", ") }
    }
}

/// What variables with the alias `alias` in them have in its place.
pub(crate) fn key_of(alias: &str) -> String {
    let upper = |c: char| {
        if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }
    };
    alias.chars().map(upper).collect()
}

/// What one place says, or several merged.
#[derive(Debug, Default)]
struct Values {
    workspace_mount: Option<Setting<WorkspaceMount>>,
    jobs: Option<Setting<NonZeroUsize>>,
    cache_dir: Option<Setting<PathBuf>>,
    workspace_dir: Option<Setting<PathBuf>>,
    keep_runs: Option<Setting<u64>>,
    cache_max_bytes: Option<Setting<u64>>,
    keep_records: Option<Setting<u64>>,
    records_max_bytes: Option<Setting<u64>>,
    records_max_days: Option<Setting<u64>>,
    output_max_bytes: Option<Setting<u64>>,
    memory: Option<Setting<Memory>>,
    pids: Option<Setting<u64>>,
    control_groups: Option<Setting<bool>>,
    /// By alias, or (from the environment) by KEY.
    vaults: BTreeMap<String, Vault>,
    op_token_env: Option<Setting<VariableName>>,
}

impl Values {
    fn of_file(text: &Text, source: Source) -> Result<Self, Error> {
        let file = ConfigFile::parse(&text.path, &text.text)?;
        let folder = text.path.parent().unwrap_or(Path::new("/"));
        let path_from = |value: Option<PathBuf>| from(&source, value.map(|path| normal(&folder.join(path))));
        let runtime = file.runtime.unwrap_or_default();
        let folders = [("cacheDir", &runtime.cache_dir), ("workspaceDir", &runtime.workspace_dir)];
        for (key, placed) in folders {
            // A repository is input: what Loom makes and removes on this machine is for its user to place.
            if let (Source::RepoFile(_), Some(placed)) = (&source, placed) {
                return Err(Error::File {
                    path: text.path.clone(),
                    line: placed.line,
                    column: placed.column,
                    message: format!(
                        "a repository may not say where folders of its user are: `runtime.{key}`"
                    ),
                    hint: Some(
                        "move it to your own config file (`loom config init --user` writes one)".to_owned(),
                    ),
                });
            }
        }
        let limits = runtime.limits.unwrap_or_default();
        let providers = file.providers.unwrap_or_default();
        let aliases = providers.keepass.unwrap_or_default().aliases.unwrap_or_default();
        let vaults = aliases.into_iter().map(|(alias, vault)| {
            let vault = vault.unwrap_or_default();
            let vault = Vault {
                path: path_from(vault.path),
                password_env: from(&source, vault.password_env),
                keyfile_env: from(&source, vault.keyfile_env),
            };
            (alias.into_string(), vault)
        });
        Ok(Self {
            workspace_mount: from(&source, runtime.docker.unwrap_or_default().workspace_mount),
            jobs: from(&source, runtime.jobs),
            cache_dir: path_from(runtime.cache_dir.map(|placed| placed.value)),
            workspace_dir: path_from(runtime.workspace_dir.map(|placed| placed.value)),
            keep_runs: from(&source, runtime.keep_runs),
            cache_max_bytes: from(&source, runtime.cache_max_bytes),
            keep_records: from(&source, runtime.keep_records),
            records_max_bytes: from(&source, runtime.records_max_bytes),
            records_max_days: from(&source, runtime.records_max_days),
            output_max_bytes: from(&source, runtime.output_max_bytes),
            memory: from(&source, limits.memory),
            pids: from(&source, limits.pids),
            control_groups: from(&source, runtime.control_groups),
            vaults: vaults.collect(),
            op_token_env: from(&source, providers.op.unwrap_or_default().service_account_token_env),
        })
    }

    fn of_flags(flags: Flags) -> Self {
        Self {
            jobs: from(&Source::Flag("--jobs"), flags.jobs),
            workspace_mount: from(&Source::Flag("--docker-workspace-mount"), flags.workspace_mount),
            ..Self::default()
        }
    }

    /// These values, and `lower`'s where there are none. Vaults merge field by field.
    fn over(self, lower: Self) -> Self {
        let mut vaults = lower.vaults;
        for (alias, vault) in self.vaults {
            let below = vaults.remove(&alias).unwrap_or_default();
            vaults.insert(alias, vault.over(below));
        }
        Self {
            workspace_mount: self.workspace_mount.or(lower.workspace_mount),
            jobs: self.jobs.or(lower.jobs),
            cache_dir: self.cache_dir.or(lower.cache_dir),
            workspace_dir: self.workspace_dir.or(lower.workspace_dir),
            keep_runs: self.keep_runs.or(lower.keep_runs),
            cache_max_bytes: self.cache_max_bytes.or(lower.cache_max_bytes),
            keep_records: self.keep_records.or(lower.keep_records),
            records_max_bytes: self.records_max_bytes.or(lower.records_max_bytes),
            records_max_days: self.records_max_days.or(lower.records_max_days),
            output_max_bytes: self.output_max_bytes.or(lower.output_max_bytes),
            memory: self.memory.or(lower.memory),
            pids: self.pids.or(lower.pids),
            control_groups: self.control_groups.or(lower.control_groups),
            vaults,
            op_token_env: self.op_token_env.or(lower.op_token_env),
        }
    }

    /// These values, and the built-in ones where there are none.
    fn settle(self, vaults_by_key: BTreeMap<String, Vault>, machine: &Machine) -> Effective {
        let cache_dir = self.cache_dir.or_else(|| from(&Source::BuiltIn, machine.cache_dir.clone()));
        let workspace_dir = self.workspace_dir.or_else(|| {
            let cache_dir = cache_dir.as_ref()?;
            // Nobody named it: it follows the cache folder, whoever named that.
            Some(Setting { value: cache_dir.value.join("workspaces"), source: cache_dir.source.clone() })
        });
        Effective {
            workspace_mount: or_built_in(self.workspace_mount, WorkspaceMount::EphemeralVolume),
            jobs: or_built_in(self.jobs, machine.processors),
            cache_dir,
            workspace_dir,
            keep_runs: or_built_in(self.keep_runs, KEEP_RUNS),
            cache_max_bytes: or_built_in(self.cache_max_bytes, CACHE_MAX_BYTES),
            keep_records: or_built_in(self.keep_records, KEEP_RECORDS),
            records_max_bytes: or_built_in(self.records_max_bytes, RECORDS_MAX_BYTES),
            records_max_days: or_built_in(self.records_max_days, RECORDS_MAX_DAYS),
            output_max_bytes: or_built_in(self.output_max_bytes, OUTPUT_MAX_BYTES),
            memory: or_built_in(self.memory, Memory::ANY),
            pids: or_built_in(self.pids, 0),
            control_groups: or_built_in(self.control_groups, false),
            vaults: self.vaults,
            vaults_by_key,
            op_token_env: or_built_in(self.op_token_env, VariableName::OP_TOKEN),
        }
    }
}

fn from<T>(source: &Source, value: Option<T>) -> Option<Setting<T>> {
    value.map(|value| Setting { value, source: source.clone() })
}

fn or_built_in<T>(setting: Option<Setting<T>>, value: T) -> Setting<T> {
    setting.unwrap_or(Setting { value, source: Source::BuiltIn })
}

/// What the environment says. Its vaults are by KEY. Empty values say nothing.
fn from_environment(variables: &[(OsString, OsString)], current_dir: &Path) -> Result<Values, Error> {
    let mut values = Values::default();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|_| !value.is_empty()) else {
            continue;
        };
        let wrong = |wanted| Error::Variable { name: name.to_owned(), wanted };
        let source = Source::Variable(name.to_owned());
        if name == MOUNT_ENV {
            let mount = value
                .to_str()
                .and_then(WorkspaceMount::of_name)
                .ok_or_else(|| wrong(WorkspaceMount::WANTED))?;
            values.workspace_mount = from(&source, Some(mount));
            continue;
        }
        let Some(rest) = name.strip_prefix(KEEPASS_ENV) else {
            continue;
        };
        let variable = || {
            let name = value.to_str().and_then(VariableName::of);
            name.ok_or_else(|| wrong(VariableName::WANTED))
        };
        let vault_of = |key: &str| (!key.is_empty() && key_of(key) == key).then(|| key.to_owned());
        if let Some(key) = rest.strip_suffix("_PASSWORD_ENV").and_then(vault_of) {
            values.vaults.entry(key).or_default().password_env = from(&source, Some(variable()?));
        } else if let Some(key) = rest.strip_suffix("_KEYFILE_ENV").and_then(vault_of) {
            values.vaults.entry(key).or_default().keyfile_env = from(&source, Some(variable()?));
        } else if let Some(key) = rest.strip_suffix("_PATH").and_then(vault_of) {
            let path = normal(&current_dir.join(value));
            values.vaults.entry(key).or_default().path = from(&source, Some(path));
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests;

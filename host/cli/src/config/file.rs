//! A config file as typed text. The types are read with serde, and the file's JSON Schema is made from them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use loom_engine::process::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, Unexpected, Visitor};
use serde_saphyr::{
    DuplicateKeyPolicy, MergeKeyPolicy, MessageFormatter as _, Spanned, UserMessageFormatter,
};

use super::Error;

/// The settings of a user (`~/.config/loom/config.yml`) or of a repository (`.loom/config.yml`).
///
/// The repository's file is above the user's; the environment and flags are above both.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Loom config")]
pub(crate) struct ConfigFile {
    /// How runs are made.
    pub(super) runtime: Option<Runtime>,
    /// What plugins that run jobs or read secrets need to know.
    pub(super) providers: Option<Providers>,
}

/// How runs are made.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Runtime {
    /// How Docker jobs are run.
    pub(super) docker: Option<Docker>,
    /// Jobs that may run at once. Default: the number of processors. The flag `--jobs` is above it.
    #[serde(default, deserialize_with = "scalar")]
    pub(super) jobs: Option<NonZeroUsize>,
    /// The folder for what can be made again (caches, compiled plugins, copies of repositories): absolute, or relative
    /// to the folder of this file. Default: `loom` in the user's cache folder.
    /// Only in the user's file.
    #[serde(default, deserialize_with = "placed")]
    #[schemars(with = "Option<PathBuf>", length(min = 1))]
    pub(super) cache_dir: Option<Placed<PathBuf>>,
    /// The folder for the runs' copies of repositories: absolute, or relative to the folder of this file; not inside a
    /// repository. Default: `workspaces` in `cacheDir`. Only in the user's file.
    #[serde(default, deserialize_with = "placed")]
    #[schemars(with = "Option<PathBuf>", length(min = 1))]
    pub(super) workspace_dir: Option<Placed<PathBuf>>,
    /// Copies of a repository that stay when their runs are over, for the next ones and for a look. Default: 5.
    #[serde(default, deserialize_with = "scalar")]
    pub(super) keep_runs: Option<u64>,
    /// The size in bytes at which the cache forgets what was used longest ago. Default: 10737418240, which is 10 GiB.
    #[serde(default, deserialize_with = "scalar")]
    pub(super) cache_max_bytes: Option<u64>,
    /// Records of runs that are kept, per repository: of more, the oldest go, of failed runs last. The newest always stays.
    /// Default: 500.
    #[serde(default, deserialize_with = "scalar")]
    pub(super) keep_records: Option<u64>,
    /// The bytes that they may take. 0 for any number. Default: 4294967296, which is 4 GiB.
    #[serde(default, deserialize_with = "scalar")]
    pub(super) records_max_bytes: Option<u64>,
    /// How old they may be, in days. 0 for any age. Default: 90.
    #[serde(default, deserialize_with = "scalar")]
    pub(super) records_max_days: Option<u64>,
    /// The bytes of output of each step that are recorded: of more, the beginning and the end. 0 for all of it. Default:
    /// 268435456, which is 256 MiB.
    #[serde(default, deserialize_with = "scalar")]
    pub(super) output_max_bytes: Option<u64>,
    /// What the processes of a job may use together, on this machine as in a container. What cannot be limited here is told
    /// in a warning.
    pub(super) limits: Option<Limits>,
    /// Whether each job on this machine has a control group, so that nothing that it starts can outlive it, also where it
    /// sets no limits; with limits it has one anyway. It makes each step about 1 ms slower, and up to some 15 ms where steps
    /// are few. Default: false.
    #[serde(default, deserialize_with = "scalar")]
    pub(super) control_groups: Option<bool>,
}

/// What the processes of a job may use together.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Limits {
    /// Memory without swap, in bytes or as in `2GiB`: at least 6 MiB. What needs more is killed, and named. 0 for any amount,
    /// which is the default.
    #[serde(default, deserialize_with = "scalar")]
    pub(super) memory: Option<Memory>,
    /// Processes and threads. More are refused. 0 for any number, which is the default.
    #[serde(default, deserialize_with = "scalar")]
    pub(super) pids: Option<u64>,
}

/// Bytes of memory; 0 for any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory(u64);

impl Memory {
    /// Any amount.
    pub(super) const ANY: Self = Self(0);
    /// What Docker gives a container at least.
    const LEAST: u64 = 6 << 20;

    fn of_bytes(bytes: u64) -> Option<Self> {
        (bytes == 0 || bytes >= Self::LEAST).then_some(Self(bytes))
    }

    /// The limit, where there is one.
    pub(crate) fn limit(self) -> Option<u64> {
        (self.0 > 0).then_some(self.0)
    }
}

/// As the file has it.
impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Bytes::UNITS.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl JsonSchema for Memory {
    fn schema_name() -> Cow<'static, str> {
        "Memory".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Bytes of memory: a number, or one with its unit.",
            "oneOf": [
                { "const": 0 },
                { "type": "integer", "minimum": Self::LEAST },
                { "type": "string", "pattern": "^[0-9]+ ?(KiB|MiB|GiB|TiB)$" },
            ],
        })
    }
}

/// How Docker jobs are run.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Docker {
    /// How a container sees the workspace. Default: `ephemeral_volume`. The environment variable
    /// `LOOM_DOCKER_WORKSPACE_MOUNT` and the flag `--docker-workspace-mount` are above it.
    #[serde(default, deserialize_with = "scalar")]
    pub(super) workspace_mount: Option<WorkspaceMount>,
}

/// How a container sees the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, ValueEnum)]
#[schemars(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum WorkspaceMount {
    /// As a volume that is filled from the workspace and removed after the job
    EphemeralVolume,
    /// As the workspace's own folder
    BindMount,
}

/// What plugins need to know.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Providers {
    /// KeePass databases.
    pub(super) keepass: Option<Keepass>,
    /// 1Password.
    pub(super) op: Option<Op>,
}

/// KeePass databases.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Keepass {
    /// The databases by alias: what stands before the `#` of a `keepass://<alias>#<entry>:<field>` reference.
    #[schemars(extend("propertyNames" = { "pattern": "^[^#]+$" }))]
    pub(super) aliases: Option<BTreeMap<Alias, Option<Vault>>>,
}

/// The name of a KeePass database. Any text without `#`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub(super) struct Alias(String);

impl Alias {
    pub(super) fn into_string(self) -> String {
        self.0
    }
}

impl TryFrom<String> for Alias {
    type Error = &'static str;

    fn try_from(alias: String) -> Result<Self, Self::Error> {
        if alias.is_empty() || alias.contains('#') {
            Err("an alias is a text without `#`")
        } else {
            Ok(Self(alias))
        }
    }
}

/// A KeePass database. At least one of `passwordEnv` and `keyfileEnv` unlocks it.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Vault {
    /// The database file: absolute, or relative to the folder of this file. The environment variable
    /// `LOOM_KEEPASS_DB_<KEY>_PATH` is above it, where KEY is the alias in upper case with `_` for every character that
    /// is neither letter nor digit.
    #[serde(default, deserialize_with = "scalar")]
    #[schemars(length(min = 1))]
    pub(super) path: Option<PathBuf>,
    /// The name of the environment variable that holds the password. `LOOM_KEEPASS_DB_<KEY>_PASSWORD_ENV` is above it.
    #[serde(default, deserialize_with = "scalar")]
    pub(super) password_env: Option<VariableName>,
    /// The name of the environment variable that holds the path of the key file.
    /// `LOOM_KEEPASS_DB_<KEY>_KEYFILE_ENV` is above it.
    #[serde(default, deserialize_with = "scalar")]
    pub(super) keyfile_env: Option<VariableName>,
}

/// 1Password.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Op {
    /// The name of the environment variable that holds the token of the service account. Default:
    /// `OP_SERVICE_ACCOUNT_TOKEN`.
    #[serde(default, deserialize_with = "scalar")]
    pub(super) service_account_token_env: Option<VariableName>,
}

/// The name of an environment variable, never its value.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
pub(crate) struct VariableName(#[schemars(regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))] Cow<'static, str>);

impl VariableName {
    /// The one that 1Password's own tools read.
    pub(super) const OP_TOKEN: Self = Self(Cow::Borrowed("OP_SERVICE_ACCOUNT_TOKEN"));

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn of(text: &str) -> Option<Self> {
        let mut chars = text.chars();
        let starts = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        let goes_on = chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
        (starts && goes_on).then(|| Self(Cow::Owned(text.to_owned())))
    }
}

impl WorkspaceMount {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EphemeralVolume => "ephemeral_volume",
            Self::BindMount => "bind_mount",
        }
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        [Self::EphemeralVolume, Self::BindMount].into_iter().find(|mount| mount.name() == name)
    }
}

/// A value that is one text or one number.
pub(super) trait Scalar: Sized {
    /// What it must be, for people.
    const WANTED: &'static str;
    /// Whether an error must not repeat the text: somebody may have written the secret instead of where it is.
    const HIDDEN: bool = false;

    fn of_text(_text: &str) -> Option<Self> {
        None
    }

    fn of_number(_number: u64) -> Option<Self> {
        None
    }

    fn of_bool(_is: bool) -> Option<Self> {
        None
    }
}

impl Scalar for bool {
    const WANTED: &'static str = "`true` or `false`";

    fn of_bool(is: bool) -> Option<Self> {
        Some(is)
    }
}

impl Scalar for Memory {
    const WANTED: &'static str =
        "bytes of memory: 0 for any number, else at least 6 MiB, as in `2GiB` (units: KiB, MiB, GiB, TiB)";

    fn of_text(text: &str) -> Option<Self> {
        let (name, unit) = Bytes::UNITS.iter().find(|(name, _)| text.ends_with(name))?;
        let number = text.strip_suffix(name)?;
        let number = number.strip_suffix(' ').unwrap_or(number);
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        Self::of_bytes(number.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(*unit)?)
    }

    fn of_number(number: u64) -> Option<Self> {
        Self::of_bytes(number)
    }
}

impl Scalar for NonZeroUsize {
    const WANTED: &'static str = "a whole number of jobs, at least 1";

    fn of_number(number: u64) -> Option<Self> {
        usize::try_from(number).ok().and_then(Self::new)
    }
}

impl Scalar for u64 {
    const WANTED: &'static str = "a whole number, 0 or more";

    fn of_number(number: u64) -> Option<Self> {
        Some(number)
    }
}

impl Scalar for PathBuf {
    const WANTED: &'static str =
        "a path, absolute or relative to the folder of this file (`~` is not filled in)";

    fn of_text(text: &str) -> Option<Self> {
        let tilde = text == "~" || text.starts_with("~/");
        (!text.is_empty() && !tilde && !text.contains('\0')).then(|| text.into())
    }
}

impl Scalar for WorkspaceMount {
    const WANTED: &'static str = "`ephemeral_volume` or `bind_mount`";

    fn of_text(text: &str) -> Option<Self> {
        Self::of_name(text)
    }
}

impl Scalar for VariableName {
    const WANTED: &'static str =
        "the name of an environment variable (letters, digits and `_`), not the secret itself";
    const HIDDEN: bool = true;

    fn of_text(text: &str) -> Option<Self> {
        Self::of(text)
    }
}

/// Reads a scalar, so that an error says what is wanted. Null is as if the key was not there: people comment out values.
fn scalar<'de, D: Deserializer<'de>, T: Scalar>(deserializer: D) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_any(ScalarVisitor(PhantomData))
}

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) line: u64,
    pub(super) column: u64,
}

/// As [`scalar`], with the place.
fn placed<'de, D: Deserializer<'de>, T: Scalar>(deserializer: D) -> Result<Option<Placed<T>>, D::Error> {
    struct Plain<T>(Option<T>);
    impl<'de, T: Scalar> Deserialize<'de> for Plain<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            scalar(deserializer).map(Self)
        }
    }
    let read = Spanned::<Plain<T>>::deserialize(deserializer)?;
    let (line, column) = (read.referenced.line(), read.referenced.column());
    Ok(read.value.0.map(|value| Placed { value, line, column }))
}

struct ScalarVisitor<T>(PhantomData<T>);

impl<T: Scalar> Visitor<'_> for ScalarVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WANTED)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        let shown = if T::HIDDEN { Unexpected::Other("another text") } else { Unexpected::Str(text) };
        T::of_text(text).map(Some).ok_or_else(|| E::invalid_value(shown, &self))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        let shown = if T::HIDDEN { Unexpected::Other("a number") } else { Unexpected::Unsigned(number) };
        T::of_number(number).map(Some).ok_or_else(|| E::invalid_value(shown, &self))
    }

    fn visit_bool<E: de::Error>(self, is: bool) -> Result<Self::Value, E> {
        let shown = if T::HIDDEN { Unexpected::Other("a boolean") } else { Unexpected::Bool(is) };
        T::of_bool(is).map(Some).ok_or_else(|| E::invalid_value(shown, &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        let shown = if T::HIDDEN { Unexpected::Other("a number") } else { Unexpected::Signed(number) };
        Err(E::invalid_value(shown, &self))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        let shown = if T::HIDDEN { Unexpected::Other("a number") } else { Unexpected::Float(number) };
        Err(E::invalid_value(shown, &self))
    }
}

impl ConfigFile {
    /// Reads `text`, the file at `path`. A file that says nothing sets nothing.
    ///
    /// # Errors
    /// The first rule that it breaks, with its place.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let options = serde_saphyr::options! {
            // A config file is small and flat, and says each thing once.
            budget: serde_saphyr::budget! {
                max_depth: 16,
                max_nodes: 10_000,
                max_events: 30_000,
                max_anchors: 0,
                max_aliases: 0,
            },
            duplicate_keys: DuplicateKeyPolicy::Error,
            merge_keys: MergeKeyPolicy::Error,
            strict_booleans: true,
            strict_indentation: true,
            reject_unsupported_tags: true,
            reject_tagged_field_names: true,
            underscored_numbers_as_strings: true,
            leading_zero_numbers_as_strings: true,
            // It would quote the file, and so perhaps a secret that stands where its variable's name should.
            with_snippet: false,
        };
        let file: Result<Option<Self>, _> = serde_saphyr::from_str_with_options(text, options);
        file.map(Option::unwrap_or_default).map_err(|error| refused(path, error.without_snippet()))
    }
}

fn refused(path: &Path, error: &serde_saphyr::Error) -> Error {
    use serde_saphyr::Error as E;
    let (message, hint) = match error {
        E::SerdeUnknownField { field, expected, .. } => {
            let known = expected.join(", ");
            let hint = nearest(field, expected).map_or_else(
                || format!("known keys here: {known}"),
                |near| format!("did you mean `{near}`? known keys here: {known}"),
            );
            (format!("unknown key `{field}`"), Some(hint))
        }
        E::SerdeInvalidType { unexpected, expected, .. }
        | E::SerdeInvalidValue { unexpected, expected, .. } => {
            (format!("{unexpected} is not {expected}"), None)
        }
        E::DuplicateMappingKey { key: Some(key), .. } => (
            format!("the key `{key}` stands here for the second time"),
            Some("remove one of them".to_owned()),
        ),
        E::Budget { .. } => {
            ("too much for a config file, or an anchor or alias, which it cannot have".to_owned(), None)
        }
        other => (UserMessageFormatter.format_message(other).into_owned(), None),
    };
    let place = error.location();
    Error::File {
        path: path.to_owned(),
        line: place.map_or(1, |place| place.line()),
        column: place.map_or(1, |place| place.column()),
        message,
        hint,
    }
}

/// The known key that somebody who wrote `field` may have meant.
fn nearest<'a>(field: &str, known: &[&'a str]) -> Option<&'a str> {
    if field.len() > 64 {
        return None;
    }
    let distance = |key: &str| strsim::damerau_levenshtein(&field.to_lowercase(), &key.to_lowercase());
    let near = known.iter().min_by_key(|key| distance(key))?;
    (distance(near) <= 2.max(field.len() / 3)).then_some(near)
}

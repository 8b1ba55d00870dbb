//! What a plugin says of itself: `loom-plugin.toml`, in the component's custom section `loom-plugin`, so that one digest
//! covers code and claims.

use std::path::Path;

use loom_engine::process::MARK;
use semver::Version;
use serde::Deserialize;

/// The custom section.
pub(crate) const SECTION: &str = "loom-plugin";
/// The variable that programs are found by.
pub(crate) const PATH: &str = "PATH";
/// Bytes of a manifest that are read at most.
pub(crate) const SIZE_LIMIT: usize = 64 * 1024;

/// A plugin's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its name: a letter, then letters, digits and `-`, all in lower case, at most 64 of them.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// What it offers.
    pub kind: Kind,
    /// The URI schemes that it resolves; for a secret resolver, at least one.
    #[serde(default)]
    pub schemes: Vec<String>,
    /// The keyword of a job that it serves; for a wrapper.
    #[serde(default)]
    pub keyword: Option<String>,
    /// What it is for, in a sentence.
    pub description: String,
    /// The oldest Loom that it works with.
    pub loom: Version,
    /// What it may use up.
    #[serde(default)]
    pub limits: Limits,
    /// What it may do.
    #[serde(default)]
    pub capabilities: Capabilities,
}

/// What a plugin offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It runs jobs.
    Provider,
    /// It works around providers.
    Wrapper,
    /// It finds the values of secrets.
    SecretResolver,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Provider, Self::Wrapper, Self::SecretResolver];

    /// The kind as a word, for messages.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Wrapper => "wrapper",
            Self::SecretResolver => "secret resolver",
        }
    }
}

/// What a plugin asks to be allowed to use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// MiB of memory, from 1; 128 where it does not say.
    pub memory_mib: u32,
    /// Milliseconds of CPU time for each call into it, from 1; 10 000 where it does not say.
    pub cpu_ms: u32,
    /// Milliseconds that each call into it may take that runs no step, from 1, not counting what it waits for on behalf of the
    /// job: processes, containers, images, caches. 60 000 where it does not say, or as many as of CPU time where those are
    /// more.
    pub wall_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_mib: 128, cpu_ms: 10_000, wall_ms: 60_000 }
    }
}

/// What a plugin may ask its host to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capabilities {
    /// The programs that it may start.
    pub exec: Vec<ExecGrant>,
    /// What it may have the user's Docker daemon do.
    pub docker: Vec<DockerRight>,
    /// Whether it may start things with the job's environment. What runs in there can tell the plugin of it: so the plugin
    /// can read the job's secrets.
    pub job_env: bool,
    /// Whether it may look at the job's workspace.
    pub workspace: bool,
    /// Whether it may keep what jobs make for later runs.
    pub store: bool,
    /// The slots of the credentials that it may have.
    pub credentials: Vec<String>,
    /// The variables of Loom's environment that it may read; `$references` stands for those that the plan refers to.
    pub env: Vec<String>,
    /// The files that it may use.
    pub files: Vec<FileGrant>,
    /// The servers that it may ask.
    pub http: Vec<HttpGrant>,
}

/// What the user's configuration of the plugin names, instead of one name that the manifest could know.
pub(crate) const CONFIG: &str = "$config";
/// What the run's references name.
pub(crate) const REFERENCES: &str = "$references";

/// Files, and what may be done with them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileGrant {
    /// The absolute path of a file, or of a folder with all that is in it; or `$config`.
    pub root: String,
    /// What may be done.
    pub access: Access,
}

/// What may be done with files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// They may be read.
    Read,
    /// They may be written too.
    Write,
}

/// A server, and what it may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpGrant {
    /// Its scheme, name and port where that is not the scheme's own, as in `https://api.example.com`; or `$config`.
    pub origin: String,
    /// The methods, in capitals.
    pub methods: Vec<String>,
}

/// What a plugin may have the Docker daemon do for its jobs. Privileges, devices, the host's namespaces and files are never
/// to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DockerRight {
    /// Fetch images.
    Pull,
    /// Build images.
    Build,
    /// Run containers.
    Run,
}

/// A program with the arguments that it may be given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecGrant {
    /// The program, exactly as it is asked for: an absolute path, or a name that is looked up on the `PATH` of Loom itself
    /// when the plugin is loaded.
    pub program: String,
    /// One pattern for each argument, in which `*` stands for any text. One that begins with `*` takes no argument that
    /// begins with `-`, which the program would take for an option; one that begins with `**` does. `...` at the end stands
    /// for any further arguments that `*` takes, `**...` for any further ones that `**` takes. Without, it gets no
    /// arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// The variables that the plugin may set for it; none without.
    #[serde(default)]
    pub env: Vec<String>,
}

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("larger than {SIZE_LIMIT} bytes")]
    TooLarge,
    #[error("not UTF-8")]
    NotText,
    #[error("{}", .0.to_string().trim_end())]
    Toml(#[from] toml::de::Error),
    #[error(
        "`name`: `{0}` is not a lower-case letter followed by up to 63 lower-case letters, digits and `-`"
    )]
    Name(String),
    #[error("`limits.{0}` is 0")]
    Zero(&'static str),
    #[error("`schemes`: a secret resolver names at least one, anything else none")]
    Schemes,
    #[error("`keyword`: a wrapper names one, anything else none")]
    Keyword,
    #[error("`capabilities.exec`: `{0}` is neither an absolute path nor the mere name of a program")]
    Program(String),
    #[error("`capabilities.exec`: `{0}` cannot be the name of a variable")]
    Variable(String),
    #[error("`capabilities.exec`: `{0}` decides which code is run, or whose it is; no plugin may set it")]
    Reserved(String),
}

impl Manifest {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > SIZE_LIMIT {
            return Err(ManifestError::TooLarge);
        }
        let text = str::from_utf8(bytes).map_err(|_| ManifestError::NotText)?;
        let manifest: Self = toml::from_str(text)?;
        if !is_name(&manifest.name) {
            return Err(ManifestError::Name(manifest.name));
        }
        if manifest.limits.memory_mib == 0 {
            return Err(ManifestError::Zero("memory_mib"));
        }
        if manifest.limits.cpu_ms == 0 {
            return Err(ManifestError::Zero("cpu_ms"));
        }
        if manifest.limits.wall_ms == 0 {
            return Err(ManifestError::Zero("wall_ms"));
        }
        if manifest.schemes.is_empty() == (manifest.kind == Kind::SecretResolver) {
            return Err(ManifestError::Schemes);
        }
        if manifest.keyword.is_none() == (manifest.kind == Kind::Wrapper) {
            return Err(ManifestError::Keyword);
        }
        manifest.capabilities.exec.iter().try_for_each(ExecGrant::check)?;
        Ok(manifest)
    }
}

impl ExecGrant {
    fn check(&self) -> Result<(), ManifestError> {
        let program = Path::new(&self.program);
        let is_name = program.file_name() == Some(program.as_os_str());
        if !(is_name || program.is_absolute()) || self.program.contains('\0') {
            return Err(ManifestError::Program(self.program.clone()));
        }
        for name in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(ManifestError::Variable(name.clone()));
            }
            if [PATH, MARK].contains(&name.as_str()) || name.starts_with("LD_") {
                return Err(ManifestError::Reserved(name.clone()));
            }
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str =
        "name = \"x\"\nversion = \"1.0.0\"\nkind = \"provider\"\ndescription = \"\"\nloom = \"0.1.0\"\n";

    #[test]
    fn what_is_not_said_is_not_granted() {
        let manifest = Manifest::parse(SMALLEST.as_bytes()).unwrap();
        assert_eq!(manifest.capabilities, Capabilities::default());
        assert_eq!(manifest.limits, Limits { memory_mib: 128, cpu_ms: 10_000, wall_ms: 60_000 });
    }

    #[test]
    fn a_mistake_is_named() {
        let table = [
            ("name = \"X\"", "`X` is not a lower-case letter"),
            ("version = \"1\"", "version"),
            ("kind = \"service\"", "unknown variant `service`"),
            ("kind = \"wrapper\"", "a wrapper names one"),
            ("keyword = \"x\"", "anything else none"),
            ("capabilities.podman = true", "unknown field `podman`"),
            ("capabilities.docker = [\"privileged\"]", "unknown variant `privileged`"),
            ("capabilities.exec = [\"sh\"]", "exec"),
            ("capabilities.exec = [{ program = \"\" }]", "`` is neither an absolute path nor"),
            ("capabilities.exec = [{ program = \"./sh\" }]", "`./sh` is neither an absolute path nor"),
            ("capabilities.exec = [{ program = \"bin/sh\" }]", "`bin/sh` is neither an absolute path nor"),
            ("capabilities.exec = [{ program = \"..\" }]", "`..` is neither an absolute path nor"),
            ("capabilities.exec = [{ program = \"sh\", env = [\"A=B\"] }]", "`A=B` cannot be the name"),
            ("capabilities.exec = [{ program = \"sh\", env = [\"PATH\"] }]", "`PATH` decides which code"),
            (
                "capabilities.exec = [{ program = \"sh\", env = [\"LD_PRELOAD\"] }]",
                "`LD_PRELOAD` decides which",
            ),
            ("limits.cpu_ms = 0", "`limits.cpu_ms` is 0"),
            ("limits.wall_ms = 0", "`limits.wall_ms` is 0"),
            ("limits.memory_mib = -1", "memory_mib"),
            ("kind = \"secret-resolver\"", "names at least one"),
            ("schemes = [\"x\"]", "anything else none"),
            ("capabilities.files = [{ root = \"/x\", access = \"all\" }]", "unknown variant `all`"),
        ];
        for (line, expected) in table {
            let key = line.split_once(' ').unwrap().0;
            let kept: Vec<_> = SMALLEST.lines().filter(|l| !l.starts_with(&format!("{key} "))).collect();
            let text = format!("{}\n{line}\n", kept.join("\n"));
            let error = Manifest::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}

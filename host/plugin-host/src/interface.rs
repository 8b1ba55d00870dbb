//! What a component imports and exports, read before anything of it is compiled.

use semver::Version;
use wasmparser::{BinaryReaderError, Encoding, Parser, Payload};

use crate::manifest::{self, Capabilities, Kind, Manifest};

/// What can be read off a component without compiling it.
pub(crate) struct Interface {
    /// The names of its imports.
    pub(crate) imports: Vec<String>,
    /// The names of its exports.
    pub(crate) exports: Vec<String>,
    /// The contents of its manifest sections.
    pub(crate) manifests: Vec<Vec<u8>>,
}

/// What Loom offers under one name.
pub(crate) struct Offer {
    /// Package and interface.
    pub(crate) name: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
    /// What it takes to get it.
    pub(crate) needs: Needs,
    /// Who has any use for it.
    pub(crate) kinds: &'static [Kind],
}

impl Offer {
    /// Whether a plugin with this manifest gets it.
    pub(crate) fn reaches(&self, manifest: &Manifest) -> bool {
        self.kinds.contains(&manifest.kind) && self.needs.granted(&manifest.capabilities)
    }
}

/// What it takes to get an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    Exec,
    Docker,
    Workspace,
    Store,
    Credentials,
    Files,
    Env,
    Http,
}

impl Needs {
    /// Whether `capabilities` have it.
    fn granted(self, capabilities: &Capabilities) -> bool {
        match self {
            Self::Nothing => true,
            Self::Exec => !capabilities.exec.is_empty(),
            Self::Docker => !capabilities.docker.is_empty(),
            Self::Workspace => capabilities.workspace,
            Self::Store => capabilities.store,
            Self::Credentials => !capabilities.credentials.is_empty(),
            Self::Files => !capabilities.files.is_empty(),
            Self::Env => !capabilities.env.is_empty(),
            Self::Http => !capabilities.http.is_empty(),
        }
    }

    /// The key of the manifest.
    fn key(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Exec => "exec",
            Self::Docker => "docker",
            Self::Workspace => "workspace",
            Self::Store => "store",
            Self::Credentials => "credentials",
            Self::Files => "files",
            Self::Env => "env",
            Self::Http => "http",
        }
    }
}

const ANY: &[Kind] = &[Kind::Provider, Kind::Wrapper, Kind::SecretResolver];
const WITH_JOBS: &[Kind] = &[Kind::Provider, Kind::Wrapper];
const PROVIDERS: &[Kind] = &[Kind::Provider];
const WRAPPERS: &[Kind] = &[Kind::Wrapper];
const RESOLVERS: &[Kind] = &[Kind::SecretResolver];
const CONFIGURED: &[Kind] = &[Kind::Provider, Kind::SecretResolver];

const fn offer(name: &'static str, needs: Needs, kinds: &'static [Kind]) -> Offer {
    Offer { name, version: "0.1.0", needs, kinds }
}

pub(crate) const OFFERS: [Offer; 15] = [
    offer("loom:host/types", Needs::Nothing, ANY),
    offer("loom:host/log", Needs::Nothing, ANY),
    offer("loom:host/config", Needs::Nothing, CONFIGURED),
    offer("loom:host/events", Needs::Nothing, WITH_JOBS),
    offer("loom:host/section", Needs::Nothing, WRAPPERS),
    offer("loom:host/context", Needs::Nothing, WITH_JOBS),
    offer("loom:host/job", Needs::Nothing, WITH_JOBS),
    offer("loom:exec/process", Needs::Exec, PROVIDERS),
    offer("loom:docker/engine", Needs::Docker, PROVIDERS),
    offer("loom:workspace/workspace", Needs::Workspace, PROVIDERS),
    offer("loom:workspace/store", Needs::Store, WRAPPERS),
    offer("loom:workspace/files", Needs::Files, RESOLVERS),
    offer("loom:credentials/credentials", Needs::Credentials, RESOLVERS),
    offer("loom:net/env", Needs::Env, RESOLVERS),
    offer("loom:net/http", Needs::Http, RESOLVERS),
];

/// What a plugin of this kind exports at least.
pub(crate) fn export(kind: Kind) -> &'static str {
    match kind {
        Kind::Provider => "loom:plugin/provider@0.1.0",
        Kind::Wrapper => "loom:plugin/wrapper@0.1.0",
        Kind::SecretResolver => "loom:plugin/secret-resolver@0.1.0",
    }
}

/// What a resolver exports that manages vaults.
pub(crate) const VAULT_ADMIN: &str = "loom:plugin/vault-admin@0.1.0";

/// The parts of WASI 0.2 that standard libraries need to start.
const WASI: [&str; 18] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// Why bytes are no component.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAComponent {
    #[error("it is a core module; build it for the target `wasm32-wasip2`")]
    Module,
    #[error("{0}")]
    Invalid(#[from] BinaryReaderError),
}

/// Why an import is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("`{import}`, which no plugin gets")]
    NeverGranted { import: String },
    #[error("`{import}` without the capability `{capability}` in its manifest")]
    NotDeclared { import: String, capability: &'static str },
    #[error("`{import}`, which no {kind} gets")]
    OtherKind { import: String, kind: &'static str },
    #[error("`{import}`; this Loom offers version {offered}")]
    OtherVersion { import: String, offered: &'static str },
    #[error("`{import}`, which this Loom does not know")]
    Unknown { import: String },
}

impl Interface {
    /// Reads it from `bytes`.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, NotAComponent> {
        let mut interface = Self { imports: Vec::new(), exports: Vec::new(), manifests: Vec::new() };
        // How many modules and components we are in; only the outermost one counts.
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                    return Err(NotAComponent::Module);
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        interface.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        interface.exports.push(export?.name.name.to_owned());
                    }
                }
                Payload::CustomSection(section) if depth == 0 && section.name() == manifest::SECTION => {
                    interface.manifests.push(section.data().to_vec());
                }
                _ => {}
            }
        }
        Ok(interface)
    }

    /// The imports that a plugin of this kind with these capabilities does not get.
    pub(crate) fn refused(&self, kind: Kind, capabilities: &Capabilities) -> Vec<Refusal> {
        self.imports.iter().filter_map(|import| refusal(import, kind, capabilities)).collect()
    }
}

fn refusal(import: &str, kind: Kind, capabilities: &Capabilities) -> Option<Refusal> {
    let owned = || import.to_owned();
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    if WASI.contains(&name) {
        let fits = Version::parse(version).is_ok_and(|v| (v.major, v.minor) == (0, 2));
        return (!fits).then(|| Refusal::OtherVersion { import: owned(), offered: "0.2" });
    }
    if let Some(offer) = OFFERS.iter().find(|offer| offer.name == name) {
        if offer.version != version {
            return Some(Refusal::OtherVersion { import: owned(), offered: offer.version });
        }
        if !offer.kinds.contains(&kind) {
            return Some(Refusal::OtherKind { import: owned(), kind: kind.words() });
        }
        return (!offer.needs.granted(capabilities))
            .then(|| Refusal::NotDeclared { import: owned(), capability: offer.needs.key() });
    }
    Some(if name.starts_with("loom:") {
        Refusal::Unknown { import: owned() }
    } else {
        Refusal::NeverGranted { import: owned() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::ExecGrant;

    #[test]
    fn what_is_offered_is_what_the_interface_files_hold() {
        let wit = std::path::Path::new("../../wit");
        let world = fs_err::read_to_string(wit.join("plugin.wit")).unwrap();
        let line =
            |line: &str| line.trim().strip_prefix("import ").map(|l| l.trim_end_matches(';').to_owned());
        let imports = |name: &str| -> Vec<String> {
            let at = world.find(&format!("world {name} {{")).unwrap();
            world[at..].lines().take_while(|l| *l != "}").filter_map(line).collect()
        };
        let offered = |kind: Option<Kind>| -> Vec<String> {
            let offers = OFFERS.iter().filter(|offer| kind.is_none_or(|kind| offer.kinds.contains(&kind)));
            offers.map(|offer| format!("{}@{}", offer.name, offer.version)).collect()
        };
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        assert_eq!(imports("host-offers"), offered(None));
        assert_eq!(imports("provider-plugin"), offered(Some(Kind::Provider)));
        assert_eq!(imports("wrapper-plugin"), offered(Some(Kind::Wrapper)));
        let resolver = Some(Kind::SecretResolver);
        assert_eq!(sorted(imports("secret-resolver-plugin")), sorted(offered(resolver)));
        let readme = fs_err::read_to_string(wit.join("README.md")).unwrap();
        for offer in OFFERS.iter().filter(|offer| offer.needs != Needs::Nothing) {
            assert!(readme.contains(&format!("| `{}` |", offer.needs.key())), "{} in README.md", offer.name);
        }
        let exports = [Kind::Provider, Kind::Wrapper, Kind::SecretResolver].map(export);
        for export in exports.into_iter().chain([VAULT_ADMIN]) {
            let name = export.strip_prefix("loom:plugin/").and_then(|e| e.strip_suffix("@0.1.0")).unwrap();
            assert!(world.contains(&format!("  export {name};")), "{name}");
        }
        assert!(world.contains("package loom:plugin@0.1.0;"));
    }

    #[test]
    fn an_import_needs_its_capability() {
        let nothing = Capabilities::default();
        let exec = vec![ExecGrant { program: "sh".into(), args: vec![] }];
        let everything = Capabilities { exec, workspace: true, ..Capabilities::default() };
        let table = [
            ("loom:host/log@0.1.0", true, true),
            ("loom:exec/process@0.1.0", false, true),
            ("loom:workspace/workspace@0.1.0", false, true),
            ("loom:host/log@0.2.0", false, false),
            ("loom:host/log", false, false),
            ("loom:docker/engine@0.1.0", false, false),
            ("loom:credentials/credentials@0.1.0", false, false),
            ("wasi:io/streams@0.2.6", true, true),
            ("wasi:io/streams@0.2.99", true, true),
            ("wasi:io/streams@0.3.0", false, false),
            ("wasi:filesystem/types@0.2.6", false, false),
            ("wasi:sockets/tcp@0.2.6", false, false),
            ("wasi:http/outgoing-handler@0.2.6", false, false),
            ("some:other/thing", false, false),
            ("open", false, false),
        ];
        for (import, without, with) in table {
            assert_eq!(refusal(import, Kind::Provider, &nothing).is_none(), without, "{import}");
            assert_eq!(refusal(import, Kind::Provider, &everything).is_none(), with, "{import}");
        }
        let refused = refusal("loom:exec/process@0.1.0", Kind::Provider, &nothing).unwrap().to_string();
        assert_eq!(refused, "`loom:exec/process@0.1.0` without the capability `exec` in its manifest");
        let refused = refusal("loom:exec/process@0.1.0", Kind::SecretResolver, &everything).unwrap();
        assert_eq!(refused.to_string(), "`loom:exec/process@0.1.0`, which no secret resolver gets");
    }
}

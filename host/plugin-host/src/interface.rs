//! What a component imports and exports, read before anything of it is compiled.

use semver::Version;
use wasmparser::{BinaryReaderError, Encoding, Parser, Payload};

use crate::imports::OFFERS;
use crate::manifest::{self, Capabilities, Kind};

/// What can be read off a component without compiling it.
pub(crate) struct Interface {
    /// The names of its imports.
    pub(crate) imports: Vec<String>,
    /// The names of its exports.
    pub(crate) exports: Vec<String>,
    /// The contents of its manifest sections.
    pub(crate) manifests: Vec<Vec<u8>>,
}

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
        let missing = offer.capability.filter(|capability| !capability.is_in(capabilities));
        return missing
            .map(|capability| Refusal::NotDeclared { import: owned(), capability: capability.key });
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
    fn an_import_needs_its_capability() {
        let nothing = Capabilities::default();
        let exec = vec![ExecGrant { program: "sh".into(), args: vec![], env: vec![] }];
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

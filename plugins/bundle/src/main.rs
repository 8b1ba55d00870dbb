//! Builds the bundled components, or proves that the committed ones come from their sources.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for who works on Loom")]

mod build;
mod lock;
mod sources;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::lock::{Lock, Locked, Toolchain};

/// A component of the bundle.
struct Component {
    /// Its name in the lock.
    name: &'static str,
    /// The package that it is built from.
    package: &'static str,
    /// That package's folder, relative to the workspace.
    folder: &'static str,
    /// The committed file, relative to this package.
    file: &'static str,
}

const COMPONENTS: [Component; 8] = [
    Component {
        name: "host",
        package: "loom-plugin-host-shell",
        folder: "plugins/host",
        file: "components/host.wasm",
    },
    Component {
        name: "docker",
        package: "loom-plugin-docker",
        folder: "plugins/docker",
        file: "components/docker.wasm",
    },
    Component {
        name: "cache",
        package: "loom-plugin-cache",
        folder: "plugins/cache",
        file: "components/cache.wasm",
    },
    Component { name: "env", package: "loom-plugin-env", folder: "plugins/env", file: "components/env.wasm" },
    Component {
        name: "keepass",
        package: "loom-plugin-keepass",
        folder: "plugins/keepass",
        file: "components/keepass.wasm",
    },
    Component { name: "op", package: "loom-plugin-op", folder: "plugins/op", file: "components/op.wasm" },
    Component {
        name: "guests/resolver",
        package: "loom-guest-resolver",
        folder: "host/plugin-host/tests/guests/resolver",
        file: "components/guests/resolver.wasm",
    },
    Component {
        name: "guests/misbehaving",
        package: "loom-guest-misbehaving",
        folder: "host/plugin-host/tests/guests/misbehaving",
        file: "components/guests/misbehaving.wasm",
    },
];

/// This package's folder, relative to the workspace.
const BUNDLE: &str = "plugins/bundle";

const USAGE: &str = "usage: cargo run -p loom-plugin-bundle -- build | verify";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["build"] => build::workspace_root().and_then(|root| build_all(&root)),
        ["verify"] => build::workspace_root().and_then(|root| verify_all(&root)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Builds each component, puts it in place and writes the lock.
fn build_all(root: &Path) -> Result<ExitCode, build::Error> {
    let toolchain = Toolchain::of_this_machine()?;
    let mut components = Vec::new();
    for component in &COMPONENTS {
        let bytes = build::component(root, &root.join("target/bundle"), component)?;
        let file = root.join(BUNDLE).join(component.file);
        write(&file, &bytes)?;
        let locked = Locked {
            name: component.name.to_owned(),
            file: component.file.to_owned(),
            blake3: blake3::hash(&bytes).to_string(),
            sources: sources::digest(root, component)?,
        };
        println!("{}: {} bytes, {}", component.name, bytes.len(), locked.blake3);
        components.push(locked);
    }
    Lock { toolchain, components }.write(&lock_file(root))?;
    Ok(ExitCode::SUCCESS)
}

/// Builds each component in a fresh folder and compares it with the committed one.
fn verify_all(root: &Path) -> Result<ExitCode, build::Error> {
    let lock = Lock::read(&lock_file(root))?;
    let same_toolchain = lock.toolchain == Toolchain::of_this_machine()?;
    if !same_toolchain {
        println!(
            "this toolchain is not the one that built the committed components, so that bytes may differ; it was:\n{}",
            lock.toolchain
        );
    }
    let target = tempfile::tempdir()?;
    let mut sound = true;
    for component in &COMPONENTS {
        let committed = fs_err::read(root.join(BUNDLE).join(component.file))?;
        let verdict = match lock.component(component.name) {
            None => Verdict::NotInLock,
            Some(locked) if blake3::hash(&committed).to_string() != locked.blake3 => Verdict::NotAsLocked,
            Some(locked) if sources::digest(root, component)? != locked.sources => Verdict::SourcesChanged,
            Some(_) => {
                let rebuilt = build::component(root, target.path(), component)?;
                if rebuilt == committed {
                    Verdict::Same
                } else if same_toolchain {
                    Verdict::Differs
                } else if build::interface(&rebuilt)? == build::interface(&committed)? {
                    Verdict::SameInterface
                } else {
                    Verdict::InterfaceDiffers
                }
            }
        };
        println!("{}: {}", component.name, verdict.as_str());
        sound &= verdict.is_sound();
    }
    if sound {
        return Ok(ExitCode::SUCCESS);
    }
    println!("`cargo run -p loom-plugin-bundle -- build` builds them anew");
    Ok(ExitCode::FAILURE)
}

enum Verdict {
    Same,
    SameInterface,
    NotInLock,
    NotAsLocked,
    SourcesChanged,
    Differs,
    InterfaceDiffers,
}

impl Verdict {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Same => "built again, byte for byte the same",
            Self::SameInterface => {
                "built again with another toolchain, a valid component with the same imports and exports"
            }
            Self::NotInLock => "bundle.lock does not name it",
            Self::NotAsLocked => "the committed file is not the one that bundle.lock names",
            Self::SourcesChanged => "its sources have changed since it was built",
            Self::Differs => "built again with the same toolchain, the bytes differ",
            Self::InterfaceDiffers => "built again with another toolchain, its imports or exports differ",
        }
    }

    fn is_sound(&self) -> bool {
        matches!(self, Self::Same | Self::SameInterface)
    }
}

fn lock_file(root: &Path) -> PathBuf {
    root.join(BUNDLE).join("bundle.lock")
}

/// Replaces `file` as a whole.
fn write(file: &Path, bytes: &[u8]) -> Result<(), build::Error> {
    let part = file.with_extension("part");
    fs_err::write(&part, bytes)?;
    Ok(fs_err::rename(&part, file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REBUILD: &str = "run `cargo run -p loom-plugin-bundle -- build` and commit what it writes";

    /// The top of the repository: tests run in their package's folder. The one that they were compiled in may be gone,
    /// where a target folder outlives it.
    fn root() -> PathBuf {
        PathBuf::from("../..")
    }

    #[test]
    fn the_lock_names_exactly_the_committed_components() {
        let lock = Lock::read(&lock_file(&root())).unwrap();
        let named: Vec<_> = lock.components.iter().map(|locked| locked.name.as_str()).collect();
        assert_eq!(named, COMPONENTS.map(|component| component.name), "{REBUILD}");
        for locked in &lock.components {
            let bytes = fs_err::read(root().join(BUNDLE).join(&locked.file)).unwrap();
            assert_eq!(blake3::hash(&bytes).to_string(), locked.blake3, "{}: {REBUILD}", locked.name);
        }
        assert_eq!(blake3::hash(loom_plugin_bundle::HOST).to_string(), lock.components[0].blake3);
    }

    #[test]
    fn the_components_were_built_from_these_sources() {
        let lock = Lock::read(&lock_file(&root())).unwrap();
        for component in &COMPONENTS {
            let locked = lock.component(component.name).unwrap();
            let digest = sources::digest(&root(), component).unwrap();
            assert_eq!(digest, locked.sources, "{}: its sources have changed; {REBUILD}", component.name);
        }
    }

    #[test]
    fn a_component_carries_its_manifest() {
        for component in &COMPONENTS {
            let bytes = fs_err::read(root().join(BUNDLE).join(component.file)).unwrap();
            let manifest = fs_err::read(root().join(component.folder).join("loom-plugin.toml")).unwrap();
            let embedded: Vec<_> = wasmparser::Parser::new(0)
                .parse_all(&bytes)
                .filter_map(|payload| match payload.unwrap() {
                    wasmparser::Payload::CustomSection(section)
                        if section.name() == build::MANIFEST_SECTION =>
                    {
                        Some(section.data().to_vec())
                    }
                    _ => None,
                })
                .collect();
            assert_eq!(embedded, [manifest], "{}", component.name);
        }
    }
}

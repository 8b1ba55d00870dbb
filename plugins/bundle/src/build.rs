//! Building a component so that its bytes depend on sources and toolchain alone.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Component;

pub(crate) const TARGET: &str = "wasm32-wasip2";
/// The custom section that holds the manifest, so that one digest covers code and claims.
pub(crate) const MANIFEST_SECTION: &str = "loom-plugin";

/// Something failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("cannot start `{program}`: {source}")]
    Spawn { program: String, source: io::Error },
    #[error("`{command}` failed")]
    Failed { command: String },
    #[error("{}: {source}", file.display())]
    Toml { file: PathBuf, source: toml::de::Error },
    #[error(transparent)]
    TomlOut(#[from] toml::ser::Error),
    #[error("no standard library for {TARGET} in {}; `rustup target add {TARGET}` installs it", folder.display())]
    NoTarget { folder: PathBuf },
    #[error("not a valid component: {0}")]
    Component(#[from] wasmparser::BinaryReaderError),
    #[error("{} already has a section `{MANIFEST_SECTION}`", file.display())]
    SectionTaken { file: PathBuf },
}

/// The folder of the workspace that the current folder is in.
pub(crate) fn workspace_root() -> Result<PathBuf, Error> {
    let manifest = output("cargo", &["locate-project", "--workspace", "--message-format", "plain"])?;
    Ok(Path::new(manifest.trim_end()).parent().map(Path::to_path_buf).unwrap_or_default())
}

/// The component, built below `target_dir`, with its manifest in it.
pub(crate) fn component(root: &Path, target_dir: &Path, component: &Component) -> Result<Vec<u8>, Error> {
    let mut cargo = command("cargo");
    cargo.current_dir(root);
    cargo.args(["build", "--locked", "--profile", "component", "--target", TARGET, "-p", component.package]);
    cargo.arg("--target-dir").arg(target_dir);
    // Where things lie must not be seen in the bytes, for example in the text of a panic.
    let remaps = [(root.to_path_buf(), "/loom"), (sysroot()?, "/rust"), (cargo_home()?, "/cargo")];
    let flags: Vec<String> =
        remaps.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect();
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    run(&mut cargo)?;

    let name = format!("{}.wasm", component.package.replace('-', "_"));
    let built = target_dir.join(TARGET).join("component").join(name);
    let mut bytes = fs_err::read(&built)?;
    if sections(&bytes)?.iter().any(|section| section == MANIFEST_SECTION) {
        return Err(Error::SectionTaken { file: built });
    }
    append_section(&mut bytes, &fs_err::read(root.join(component.folder).join("loom-plugin.toml"))?);
    wasmparser::Validator::new().validate_all(&bytes)?;
    Ok(bytes)
}

/// The names of all that a component imports and exports.
pub(crate) fn interface(bytes: &[u8]) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    let mut depth = 0;
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        match payload? {
            wasmparser::Payload::ModuleSection { .. } | wasmparser::Payload::ComponentSection { .. } => {
                depth += 1
            }
            wasmparser::Payload::End(_) if depth > 0 => depth -= 1,
            wasmparser::Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    names.push(format!("import {}", import?.name.name));
                }
            }
            wasmparser::Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    names.push(format!("export {}", export?.name.name));
                }
            }
            _ => {}
        }
    }
    names.sort();
    Ok(names)
}

/// What `rustc` says to `arguments`.
pub(crate) fn rustc(arguments: &[&str]) -> Result<String, Error> {
    output("rustc", arguments)
}

/// The folder of the toolchain.
pub(crate) fn sysroot() -> Result<PathBuf, Error> {
    Ok(rustc(&["--print", "sysroot"])?.trim_end().into())
}

fn cargo_home() -> Result<PathBuf, Error> {
    #[expect(clippy::disallowed_methods, reason = "cargo's own settings")]
    let [cargo_home, home] = ["CARGO_HOME", "HOME"].map(std::env::var_os);
    Ok(cargo_home.map_or_else(|| PathBuf::from(home.unwrap_or_default()).join(".cargo"), PathBuf::from))
}

fn command(program: &str) -> Command {
    #[expect(clippy::disallowed_methods, reason = "a tool of its own, outside of any run")]
    Command::new(program)
}

fn run(command: &mut Command) -> Result<(), Error> {
    let status = command.status().map_err(|source| Error::Spawn { program: "cargo".into(), source })?;
    if status.success() { Ok(()) } else { Err(Error::Failed { command: format!("{command:?}") }) }
}

fn output(program: &str, arguments: &[&str]) -> Result<String, Error> {
    let output = command(program)
        .args(arguments)
        .output()
        .map_err(|source| Error::Spawn { program: program.into(), source })?;
    if !output.status.success() {
        return Err(Error::Failed { command: format!("{program} {}", arguments.join(" ")) });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn sections(bytes: &[u8]) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        if let wasmparser::Payload::CustomSection(section) = payload? {
            names.push(section.name().to_owned());
        }
    }
    Ok(names)
}

/// Appends a custom section: id 0, size, length of the name, name, content.
fn append_section(bytes: &mut Vec<u8>, content: &[u8]) {
    let mut section = Vec::new();
    push_leb128(&mut section, MANIFEST_SECTION.len());
    section.extend_from_slice(MANIFEST_SECTION.as_bytes());
    section.extend_from_slice(content);
    bytes.push(0);
    push_leb128(bytes, section.len());
    bytes.extend_from_slice(&section);
}

fn push_leb128(bytes: &mut Vec<u8>, mut value: usize) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(byte);
            return;
        }
        bytes.push(byte | 0x80);
    }
}

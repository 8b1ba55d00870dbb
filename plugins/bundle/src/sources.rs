//! What a component is built from, as one digest: its own files, the SDK's, the interface's, the crates of the lock file
//! that it reaches, and the workspace's settings that reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::Component;
use crate::build::Error;

/// The digest of everything that decides about the bytes of `component` but the toolchain.
pub(crate) fn digest(root: &Path, component: &Component) -> Result<String, Error> {
    let mut hasher = blake3::Hasher::new();
    hash_folder(&mut hasher, root, &root.join("wit"), &|path| path.extension().is_some_and(|e| e == "wit"))?;
    for folder in ["sdk", component.folder] {
        let sources = root.join(folder);
        hash_folder(&mut hasher, root, &sources.join("src"), &|_| true)?;
        for file in ["Cargo.toml", "loom-plugin.toml"] {
            if sources.join(file).exists() {
                hash_file(&mut hasher, root, &sources.join(file))?;
            }
        }
    }
    let crates = reached_crates(&root.join("Cargo.lock"), component.package)?;
    hash_settings(&mut hasher, &root.join("Cargo.toml"), &crates)?;
    Ok(hasher.finalize().to_string())
}

/// Adds each file below `folder` that `takes`, by its path relative to `base` and its content, in order of path. Says
/// how many these were.
pub(crate) fn hash_folder(
    hasher: &mut blake3::Hasher,
    base: &Path,
    folder: &Path,
    takes: &dyn Fn(&Path) -> bool,
) -> Result<usize, Error> {
    if !folder.is_dir() {
        return Ok(0);
    }
    let mut entries =
        fs_err::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    entries.sort();
    let mut count = 0;
    for path in entries {
        if path.is_dir() {
            count += hash_folder(hasher, base, &path, takes)?;
        } else if takes(&path) {
            hash_file(hasher, base, &path)?;
            count += 1;
        }
    }
    Ok(count)
}

fn hash_file(hasher: &mut blake3::Hasher, base: &Path, file: &Path) -> Result<(), Error> {
    let name = file.strip_prefix(base).unwrap_or(file).to_string_lossy().into_owned();
    hash_text(hasher, &name);
    hasher.update(blake3::hash(&fs_err::read(file)?).as_bytes());
    Ok(())
}

/// With its length, so that no two lists of texts look alike.
fn hash_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

#[derive(Deserialize)]
struct CargoLock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// The crates of the lock file that `package` reaches: name to version and checksum. A crate with two versions counts
/// with both.
fn reached_crates(file: &Path, package: &str) -> Result<BTreeMap<String, BTreeSet<String>>, Error> {
    let text = fs_err::read_to_string(file)?;
    let lock: CargoLock =
        toml::from_str(&text).map_err(|source| Error::Toml { file: file.into(), source })?;
    let mut reached: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // A dependency is `name`, or `name version` where the name alone is not enough.
    let mut ahead = vec![package.to_owned()];
    while let Some(dependency) = ahead.pop() {
        let mut words = dependency.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        for found in lock.package.iter().filter(|p| p.name == name && version.is_none_or(|v| v == p.version))
        {
            let identity =
                format!("{} {}", found.version, found.checksum.as_deref().unwrap_or("of this workspace"));
            if reached.entry(found.name.clone()).or_default().insert(identity) {
                ahead.extend(found.dependencies.iter().cloned());
            }
        }
    }
    Ok(reached)
}

/// Adds the crates, and what the workspace says about packages, profiles and these crates.
fn hash_settings(
    hasher: &mut blake3::Hasher,
    file: &Path,
    crates: &BTreeMap<String, BTreeSet<String>>,
) -> Result<(), Error> {
    let text = fs_err::read_to_string(file)?;
    let manifest: toml::Table =
        toml::from_str(&text).map_err(|source| Error::Toml { file: file.into(), source })?;
    let at = |path: &[&str]| {
        let mut value = manifest.get(*path.first()?)?;
        for key in &path[1..] {
            value = value.get(key)?;
        }
        Some(value.to_string())
    };
    let settings: [&[&str]; 3] =
        [&["workspace", "package"], &["profile", "release"], &["profile", "component"]];
    for path in settings {
        hash_text(hasher, &at(path).unwrap_or_default());
    }
    for (name, identities) in crates {
        hash_text(hasher, name);
        for identity in identities {
            hash_text(hasher, identity);
        }
        hash_text(hasher, &at(&["workspace", "dependencies", name]).unwrap_or_default());
    }
    Ok(())
}

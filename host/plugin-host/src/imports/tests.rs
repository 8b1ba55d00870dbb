//! Whatever else names the interfaces is held against the table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::*;

fn top() -> &'static Path {
    Path::new("../..")
}

fn read(file: impl AsRef<Path>) -> String {
    fs_err::read_to_string(top().join(file.as_ref())).unwrap()
}

/// The files of a folder of the repository.
fn files(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(top().join(folder.as_ref())).unwrap();
    entries.map(|entry| folder.as_ref().join(entry.unwrap().file_name())).collect()
}

/// Capabilities that give no interface, but a part of what others do, and the kinds of plugins that have any use for them.
const FURTHER: &[(Capability, &[Kind])] =
    &[(Capability { key: "job_env", declared: |c| c.job_env }, PROVIDERS)];

/// All capabilities, and whose they are.
fn capabilities_of() -> impl Iterator<Item = (Capability, &'static [Kind])> {
    let of_interfaces = OFFERS.iter().filter_map(|offer| Some((offer.capability?, offer.kinds)));
    of_interfaces.chain(FURTHER.iter().copied())
}

fn keys() -> BTreeSet<&'static str> {
    capabilities_of().map(|(capability, _)| capability.key).collect()
}

fn world_of(kind: Kind) -> String {
    format!("{}-plugin", kind.words().replace(' ', "-"))
}

fn full_name(offer: &Offer) -> String {
    format!("{}@{}", offer.name, offer.version)
}

#[test]
fn the_worlds_import_what_is_offered() {
    let text = read("wit/plugin.wit");
    let imports = |world: &str| -> Vec<String> {
        let start = text.find(&format!("world {world} {{")).unwrap();
        let body = text[start..].lines().take_while(|line| *line != "}");
        body.filter_map(|line| line.trim().strip_prefix("import ")?.strip_suffix(';'))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(imports("host-offers"), OFFERS.iter().map(full_name).collect::<Vec<_>>());
    for kind in Kind::ALL {
        let offered: BTreeSet<String> =
            OFFERS.iter().filter(|offer| offer.kinds.contains(&kind)).map(full_name).collect();
        assert_eq!(imports(&world_of(kind)).into_iter().collect::<BTreeSet<_>>(), offered, "{kind:?}");
    }
}

#[test]
fn each_interface_of_the_packages_is_offered_in_its_version() {
    let mut found = BTreeSet::new();
    for package in files("wit/deps") {
        for file in files(&package) {
            let text = read(&file);
            let package =
                text.lines().find_map(|line| line.strip_prefix("package ")?.strip_suffix(';')).unwrap();
            let (package, version) = package.split_once('@').unwrap();
            let interfaces =
                text.lines().filter_map(|line| line.strip_prefix("interface ")?.strip_suffix(" {"));
            found.extend(interfaces.map(|interface| format!("{package}/{interface}@{version}")));
        }
    }
    assert_eq!(found, OFFERS.iter().map(full_name).collect());
}

#[test]
fn the_readme_of_the_interfaces_has_the_table() {
    let mut table = String::from(
        "| Interface | Capability in the manifest | Provider | Wrapper | Secret resolver |\n|---|---|---|---|---|\n",
    );
    for offer in OFFERS {
        let capability =
            offer.capability.map_or("–".to_owned(), |capability| format!("`{}`", capability.key));
        let kinds = Kind::ALL.map(|kind| if offer.kinds.contains(&kind) { "yes" } else { "–" });
        table += &format!("| `{}` | {capability} | {} |\n", offer.name, kinds.join(" | "));
    }
    let readme = read("wit/README.md");
    assert!(readme.contains(&table), "wit/README.md lacks this table:\n{table}");
}

#[test]
fn the_manifest_knows_each_capability_and_no_other() {
    let text = "name = \"x\"\nversion = \"1.0.0\"\nkind = \"provider\"\ndescription = \"\"\nloom = \"0.1.0\"\n\
                capabilities.unheard-of = true\n";
    let error = Manifest::parse(text.as_bytes()).unwrap_err().to_string();
    let (_, known) = error.split_once("expected one of ").unwrap();
    let known: BTreeSet<&str> = known.split('`').skip(1).step_by(2).collect();
    assert_eq!(known, keys());
}

#[test]
fn a_capability_is_in_the_manifests_that_declare_it() {
    let folders = ["plugins", "host/plugin-host/tests/guests"].map(files).into_iter().flatten();
    let manifests =
        folders.map(|folder| folder.join("loom-plugin.toml")).filter(|file| top().join(file).exists());
    let mut declared = BTreeSet::new();
    for file in manifests {
        let text = read(&file);
        let raw: BTreeMap<String, toml::Value> = toml::from_str(&text).unwrap();
        let capabilities = Manifest::parse(text.as_bytes()).unwrap().capabilities;
        for Capability { key, declared: is_declared } in capabilities_of().map(|(capability, _)| capability) {
            let stands = raw.get("capabilities").is_some_and(|table| table.get(key).is_some());
            assert_eq!(is_declared(&capabilities), stands, "`{key}` in {}", file.display());
            declared.extend(stands.then_some(key));
        }
    }
    assert_eq!(declared, keys(), "a plugin of the repository declares each");
}

#[test]
fn the_sdk_has_a_module_for_each_interface() {
    let texts: Vec<String> =
        files("sdk/src").into_iter().filter(|file| !file.ends_with("lib.rs")).map(read).collect();
    let words = |text: &str| -> Vec<String> {
        let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        text.split(ends).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let texts: Vec<_> = texts.iter().map(|text| words(text)).collect();
    for offer in OFFERS {
        let (package, interface) = offer.name.strip_prefix("loom:").unwrap().split_once('/').unwrap();
        let uses = |words: &Vec<String>| {
            words.windows(2).any(|pair| pair == ["loom", package])
                && words.iter().any(|word| word == interface)
        };
        assert!(texts.iter().any(uses), "no file of sdk/src offers `{}` to plugins", offer.name);
    }
}

#[test]
fn the_sdk_names_each_capability_and_whose_it_is() {
    let text = read("sdk/src/lib.rs");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | `")?.strip_suffix(" |"));
    let named: Vec<(&str, &str)> =
        rows.map(|row| (row.split('`').next().unwrap(), row.rsplit(" | ").next().unwrap())).collect();
    let offered: Vec<(&str, String)> = capabilities_of()
        .map(|(capability, kinds)| {
            (capability.key, kinds.iter().map(|kind| kind.words()).collect::<Vec<_>>().join(", "))
        })
        .collect();
    let offered: Vec<(&str, &str)> = offered.iter().map(|(key, kinds)| (*key, kinds.as_str())).collect();
    assert_eq!(named, offered);
}

//! The arrows between crates, and the few places that may do what others may not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::top;

/// Who may depend on whom, among the workspace's own crates. Adding an arrow is a decision: change this table with it.
const ARROWS: [(&str, &[&str]); 27] = [
    ("loom-contract", &["loom-contract-derive"]),
    ("loom-contract-derive", &[]),
    ("loom-workflow", &["loom-contract"]),
    ("loom-workspace", &["loom-contract", "loom-tree"]),
    ("loom-record", &["loom-contract", "loom-tree"]),
    ("loom-engine", &["loom-contract", "loom-ownership", "loom-tree", "loom-workflow"]),
    // No code: the features of dependencies that all packages share.
    ("loom-features", &[]),
    ("loom-tree", &[]),
    ("loom-ownership", &["loom-contract", "loom-tree"]),
    ("loom-cache", &["loom-tree"]),
    ("loom-docker", &["loom-ownership", "loom-tree"]),
    ("loom-docker-testimage", &[]),
    (
        "loom-plugin-host",
        &["loom-cache", "loom-contract", "loom-docker", "loom-engine", "loom-tree", "loom-workspace"],
    ),
    (
        "loom-cli",
        &[
            "loom-cache",
            "loom-contract",
            "loom-engine",
            "loom-features",
            "loom-ownership",
            "loom-plugin-bundle",
            "loom-plugin-host",
            "loom-record",
            "loom-tree",
            "loom-workflow",
            "loom-workspace",
        ],
    ),
    ("loom-sdk", &[]),
    ("loom-plugin-host-shell", &["loom-sdk"]),
    ("loom-plugin-docker", &["loom-sdk"]),
    ("loom-plugin-cache", &["loom-sdk"]),
    ("loom-plugin-env", &["loom-sdk"]),
    ("loom-plugin-keepass", &["loom-sdk"]),
    ("loom-plugin-op", &["loom-sdk"]),
    ("loom-guest-misbehaving", &["loom-sdk"]),
    ("loom-guest-resolver", &["loom-sdk"]),
    ("loom-plugin-bundle", &[]),
    ("loom-deadlines", &[]),
    ("loom-faults", &[]),
    ("loom-tests", &["loom-cache", "loom-contract", "loom-deadlines", "loom-record"]),
];

#[test]
fn the_arrows_are_those_of_the_table() {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(top())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let dependencies: BTreeSet<&str> = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|d| d["kind"].is_null() && d["path"].is_string())
            .map(|d| d["name"].as_str().unwrap())
            .collect();
        found.insert(package["name"].as_str().unwrap(), dependencies);
    }
    let table = ARROWS.map(|(name, to)| (name, to.iter().copied().collect())).into_iter().collect();
    assert_eq!(found, table);
}

/// What `cargo tree` says of the crates that are built, each as name, version and features.
fn built(arguments: &[&str]) -> BTreeSet<String> {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix", "none", "--format", "{p} {f}"])
        .args(arguments)
        .current_dir(top())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

#[test]
fn the_binary_alone_is_built_of_the_crates_that_all_are_built_of() {
    let alone = built(&["--package", "loom-cli", "--edges", "normal,build"]);
    let all = built(&["--workspace", "--edges", "normal,build,dev"]);
    let twice: Vec<_> = alone.difference(&all).collect();
    assert!(
        twice.is_empty(),
        "these are built twice, with and without what a test's dependency asks for: name the missing features in \
         host/features/Cargo.toml\n{twice:#?}",
    );
}

/// The licences under which we take others' work. Each alternative (`OR`) of a crate's expression counts.
const LICENCES: [&str; 13] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    // The list of certificates that browsers trust.
    "CDLA-Permissive-2.0",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that must not come back: archived, unsound, or silent about mistakes.
const BANNED: [&str; 4] = ["serde_yaml", "serde_yml", "tokio-tar", "openssl"];

#[test]
fn dependencies_are_licensed_come_from_the_registry_and_are_not_banned() {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        // What other systems need has not been downloaded.
        .args(["--filter-platform", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)])
        .current_dir(top())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut broken = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let licence =
            package["license"].as_str().unwrap_or("none").replace(['(', ')'], "").replace('/', " OR ");
        // Each part that is joined by AND must offer one that we take.
        let taken =
            licence.split(" AND ").all(|part| part.split(" OR ").any(|l| LICENCES.contains(&l.trim())));
        if !taken {
            broken.push(format!("{name}: licence {licence}"));
        }
        if package["source"].as_str().is_some_and(|source| !source.starts_with("registry+")) {
            broken.push(format!("{name}: not from the registry"));
        }
        if BANNED.contains(&name) {
            broken.push(format!("{name}: banned"));
        }
    }
    assert_eq!(broken, [""; 0]);
}

/// Paths of items that only these files may name, under whatever alias. `*` at the end of a path stands for all names that
/// begin so.
const DOORS: [(&[&str], &[&str]); 9] = [
    // By folder, since the whole crate is about it.
    (&["wasmtime*"], &["host/plugin-host/"]),
    (&["wasmtime::component::Component::deserialize*"], &["host/plugin-host/src/compiled.rs"]),
    // The processes of jobs, git, the helpers that Docker's configuration names, and cargo for the components.
    (
        &["std::process::Command", "tokio::process", "rustix::process::exec*", "nix::spawn*"],
        &[
            "host/engine/src/process/start.rs",
            "host/workspace/src/git.rs",
            "host/workspace/src/git/run.rs",
            "host/docker/src/login.rs",
            "plugins/bundle/src/build.rs",
        ],
    ),
    (
        &["std::env::var*", "std::env::set_var", "std::env::remove_var"],
        &["host/cli/src/settings.rs", "plugins/bundle/src/build.rs"],
    ),
    // The user's own shell in a container has the user's terminal.
    (
        &["std::io::stdout", "std::io::stderr", "std::print*", "std::eprint*", "std::dbg"],
        &["host/cli/src/terminal.rs", "host/docker/src/attach.rs", "plugins/bundle/src/main.rs"],
    ),
    // What is recorded and shown is masked by the redactor, and output as it is read.
    (&["loom_contract::redacted::OutputBytes::assume_masked"], &["host/engine/src/output.rs"]),
    (&["impl loom_contract::redacted::Mask"], &["host/engine/src/redact.rs"]),
    (&["unsafe"], &["host/plugin-host/src/compiled.rs"]),
    // There is one kind of lock: parking_lot's, which know no poison.
    (&["std::sync::Mutex", "std::sync::RwLock", "std::sync::Condvar", "std::sync::PoisonError"], &[]),
];

/// A text that only this file may hold: nobody else spells the names of a run's files.
const EVENTS: (&str, &str) = ("events.jsonl", "host/contract/src/layout.rs");

#[test]
fn what_is_behind_a_door_stays_there() {
    let mut broken = Vec::new();
    let mut opened = BTreeSet::new();
    for folder in ["host", "sdk/src", "plugins"] {
        visit(&top().join(folder), &mut |path, text| {
            let path = path.strip_prefix(top()).unwrap().to_str().unwrap().to_owned();
            let of_tests = ["/tests/", "/benches/", "/examples/", "/testimage/", "/tests.rs"];
            if of_tests.iter().any(|part| path.contains(part)) {
                return;
            }
            let source = Source::read(text);
            for (names, files) in DOORS {
                let found = names.iter().find(|name| source.names(name));
                let Some(name) = found else { continue };
                match files.iter().find(|file| path.starts_with(**file)) {
                    Some(file) => drop(opened.insert((names, *file))),
                    None => broken.push(format!("{path} names `{name}`")),
                }
            }
            if path != EVENTS.1 && source.texts.iter().any(|text| text.contains(EVENTS.0)) {
                broken.push(format!("{path} spells `{}`", EVENTS.0));
            }
        });
    }
    assert_eq!(broken, [""; 0]);
    let unused = DOORS.iter().flat_map(|(names, files)| files.iter().map(move |file| (*names, *file)));
    let unused: Vec<_> = unused.filter(|door| !opened.contains(door)).collect();
    assert!(unused.is_empty(), "these doors lead nowhere: {unused:?}");
}

/// What a file of the workspace names, with its tests left out.
#[derive(Default)]
struct Source {
    /// Paths that it mentions, as they are written: imports, and whatever else looks like a path.
    paths: Vec<Vec<String>>,
    /// What its imports call what they import.
    aliases: HashMap<String, Vec<String>>,
    texts: Vec<String>,
}

impl Source {
    fn read(text: &str) -> Self {
        let mut source = Self::default();
        source.walk(text.parse().unwrap());
        source
    }

    /// Whether it names what is called `wanted` in full.
    fn names(&self, wanted: &str) -> bool {
        let (wanted, open) = wanted.strip_suffix('*').map_or((wanted, false), |start| (start, true));
        self.paths.iter().any(|path| {
            let path = self.resolved(path, 0).join("::");
            let all_of_it = path
                .strip_suffix("::*")
                .is_some_and(|folder| wanted.strip_prefix(folder).is_some_and(|rest| rest.starts_with("::")));
            let rest = path.strip_prefix(wanted);
            all_of_it || rest.is_some_and(|rest| open || rest.is_empty() || rest.starts_with("::"))
        })
    }

    /// `path` with its first name replaced by what an import says that it is.
    fn resolved(&self, path: &[String], depth: usize) -> Vec<String> {
        let known = path.first().and_then(|first| self.aliases.get(first));
        match known {
            Some(full) if depth < 8 && full.first() != path.first() => {
                let full: Vec<String> = full.iter().chain(&path[1..]).cloned().collect();
                self.resolved(&full, depth + 1)
            }
            // These are the macros of the standard library.
            _ if path.len() == 1 && path[0].ends_with('!') => {
                vec!["std".to_owned(), path[0].replace('!', "")]
            }
            _ => path.iter().map(|name| name.replace('!', "")).collect(),
        }
    }

    fn walk(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if let Some((attribute, length)) = attribute_at(&tokens[at..]) {
                let text = attribute.to_string();
                at += length;
                if text == "cfg (test)" {
                    at = item_end(&tokens, at);
                } else if !text.starts_with("doc =") {
                    self.walk(attribute);
                }
                continue;
            }
            match &tokens[at] {
                TokenTree::Ident(word) if word == "use" => {
                    let end =
                        (at..tokens.len()).find(|end| is_punct(&tokens[*end], ';')).unwrap_or(tokens.len());
                    self.import(&[], &tokens[at + 1..end]);
                    at = end;
                }
                TokenTree::Ident(word) if word == "impl" => {
                    self.implementation(&tokens[at + 1..]);
                    at += 1;
                }
                TokenTree::Ident(_) => {
                    let (path, length) = path_at(&tokens[at..]);
                    self.paths.push(path);
                    at += length;
                }
                TokenTree::Group(group) => {
                    self.walk(group.stream());
                    at += 1;
                }
                TokenTree::Literal(literal) => {
                    self.texts.push(literal.to_string());
                    at += 1;
                }
                TokenTree::Punct(_) => at += 1,
            }
        }
    }

    /// The trait of an `impl … for`, as the path `impl <trait>`.
    fn implementation(&mut self, tokens: &[TokenTree]) {
        let word = |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word == "for");
        let body = |token: &TokenTree| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
        let head = tokens.iter().position(body).unwrap_or(tokens.len());
        for end in (0..head).filter(|at| word(&tokens[*at])) {
            let starts = (0..end).filter(|at| matches!(tokens[*at], TokenTree::Ident(_)));
            let whole =
                starts.map(|at| (at, path_at(&tokens[at..]))).find(|(at, (_, length))| at + length == end);
            let Some((_, (path, _))) = whole else { continue };
            let mut path = self.later(path);
            path[0] = format!("impl {}", path[0]);
            self.paths.push(path);
        }
    }

    /// Imports stand above what uses them: what they say of `path` is known already.
    fn later(&self, path: Vec<String>) -> Vec<String> {
        self.resolved(&path, 0)
    }

    /// The part `tokens` of a `use`, below `prefix`.
    fn import(&mut self, prefix: &[String], tokens: &[TokenTree]) {
        let mut path = prefix.to_vec();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Ident(word) if word == "as" => {
                    self.alias(tokens[at + 1].to_string(), path);
                    return;
                }
                TokenTree::Ident(word) if word == "self" && !path.is_empty() => {}
                TokenTree::Ident(word) => path.push(word.to_string()),
                TokenTree::Punct(star) if star.as_char() == '*' => path.push("*".to_owned()),
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    inner.split(|token| is_punct(token, ',')).for_each(|part| self.import(&path, part));
                    return;
                }
                _ => {}
            }
            at += 1;
        }
        if let Some(last) = path.last() {
            self.alias(last.clone(), path);
        }
    }

    fn alias(&mut self, name: String, path: Vec<String>) {
        self.paths.push(path.clone());
        self.aliases.insert(name, path);
    }
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

/// What is in the `#[…]` or `#![…]` with which `tokens` begin, and of how many of them that is.
fn attribute_at(tokens: &[TokenTree]) -> Option<(TokenStream, usize)> {
    match tokens {
        [hash, TokenTree::Group(group), ..] if is_punct(hash, '#') => Some((group.stream(), 2)),
        [hash, bang, TokenTree::Group(group), ..] if is_punct(hash, '#') && is_punct(bang, '!') => {
            Some((group.stream(), 3))
        }
        _ => None,
    }
}

/// Where the item ends that begins at `at`, with its other attributes.
fn item_end(tokens: &[TokenTree], mut at: usize) -> usize {
    while let Some((_, length)) = attribute_at(&tokens[at..]) {
        at += length;
    }
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        token => is_punct(token, ';') || is_punct(token, ','),
    };
    (at..tokens.len()).find(|at| ends(&tokens[*at])).map_or(tokens.len(), |end| end + 1)
}

/// The path with which `tokens` begin, and of how many of them it is. The name of a macro ends in `!`.
fn path_at(tokens: &[TokenTree]) -> (Vec<String>, usize) {
    let mut path = vec![tokens[0].to_string()];
    let mut at = 1;
    while let [one, other, TokenTree::Ident(name), ..] = &tokens[at..]
        && is_punct(one, ':')
        && is_punct(other, ':')
    {
        path.push(name.to_string());
        at += 3;
    }
    if let [bang, TokenTree::Group(_), ..] = &tokens[at..]
        && is_punct(bang, '!')
        && let Some(last) = path.last_mut()
    {
        last.push('!');
    }
    (path, at)
}

#[test]
fn a_door_is_seen_under_every_name() {
    let named = |text: &str| {
        let source = Source::read(text);
        let doors = DOORS.iter().flat_map(|(names, _)| names.iter());
        doors.filter(|name| source.names(name)).copied().collect::<Vec<_>>()
    };
    for (text, door) in [
        ("fn f() { std::process::Command::new(\"sh\"); }", "std::process::Command"),
        ("fn f() { let make = ::std::process::Command::new; }", "std::process::Command"),
        ("use std::process::Command; fn f() {}", "std::process::Command"),
        ("use std::process as p; fn f() { p::Command::new(\"sh\"); }", "std::process::Command"),
        ("use std as s; use s::process as p; fn f(c: p::Command) {}", "std::process::Command"),
        ("use std::{fs, process::{self as p, Stdio}}; type C = p::Command;", "std::process::Command"),
        ("use std::{process::Command as Run};", "std::process::Command"),
        ("use std::process::*;", "std::process::Command"),
        ("pub use std::process::{Command, Stdio};", "std::process::Command"),
        ("mod a { use std::env as e; fn f() { e::var_os(\"A\"); } }", "std::env::var*"),
        ("use std::env::vars;", "std::env::var*"),
        ("fn f() { vec![println!()]; }", "std::print*"),
        ("use std::io::{self, Write as _}; fn f() { io::stdout(); }", "std::io::stdout"),
        ("#[cfg(test)]\nmod tests;\nfn f() { unsafe { g() } }", "unsafe"),
        ("#[cfg(test)] use a::{b, c}; fn f() { unsafe { g() } }", "unsafe"),
        ("#[cfg(test)] #[path = \"x\"] mod tests { } unsafe fn f() {}", "unsafe"),
        (
            "use wasmtime::component::Component as C; fn f() { C::deserialize_file(x) }",
            "wasmtime::component::Component::deserialize*",
        ),
        (
            "use loom_contract::redacted::{self as r}; impl r::Mask for X {}",
            "impl loom_contract::redacted::Mask",
        ),
        (
            "use loom_contract::redacted::Mask as M; impl<T> M for X<T> {}",
            "impl loom_contract::redacted::Mask",
        ),
        (
            "use loom_contract::redacted::*; fn f() { OutputBytes::assume_masked(x) }",
            "loom_contract::redacted::OutputBytes::assume_masked",
        ),
    ] {
        assert!(named(text).contains(&door), "{text}: {:?}", named(text));
    }
    for text in [
        "// std::process::Command\n/// unsafe { println!() }\nfn f() { g(\"unsafe std::env::var\"); }",
        "#[cfg(test)] mod tests { use std::process::Command; fn f() { unsafe { g() } } } fn f() {}",
        "use crate::process::Command; fn f() { Command::new(\"sh\"); }",
        "use loom_contract::redacted::Mask; fn f(mask: &dyn Mask) {}",
        "use std::env; fn f() { env::current_dir(); }",
    ] {
        assert!(named(text).is_empty(), "{text}: {:?}", named(text));
    }
}

/// The crates of which some files still depend on one another in a circle.
const CIRCLES: [&str; 3] = ["host/engine", "host/workflow", "plugins/keepass"];

#[test]
fn the_files_of_a_crate_depend_on_one_another_in_one_direction() {
    let mut found = BTreeMap::new();
    let crates = ["host", "plugins"].map(|folder| std::fs::read_dir(top().join(folder)).unwrap());
    let crates = crates.into_iter().flatten().map(|entry| entry.unwrap().path()).chain([top().join("sdk")]);
    for folder in crates.filter(|folder| folder.join("src").is_dir()) {
        let circles = circles(&folder.join("src"));
        if !circles.is_empty() {
            found.insert(folder.strip_prefix(top()).unwrap().to_str().unwrap().to_owned(), circles);
        }
    }
    let new: Vec<_> = found.iter().filter(|(name, _)| !CIRCLES.contains(&&***name)).collect();
    assert!(new.is_empty(), "{new:#?}");
    let gone: Vec<_> = CIRCLES.iter().filter(|name| !found.contains_key(**name)).collect();
    assert!(gone.is_empty(), "these have none any more: {gone:?}");
}

/// The circles between the files below `src`: those that reach one another by what they name of the crate. That a file in a
/// module's folder names that module does not count, since it is a part of it.
fn circles(src: &Path) -> Vec<Vec<String>> {
    let mut sources: BTreeMap<Vec<String>, Source> = BTreeMap::new();
    visit(src, &mut |path, text| {
        let path = path.strip_prefix(src).unwrap().with_extension("");
        let module: Vec<String> = path.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
        if module.last().is_some_and(|name| name == "tests") {
            return;
        }
        let is_root = module == ["lib"] || module == ["main"];
        sources.insert(if is_root { Vec::new() } else { module }, Source::read(text));
    });
    let named = |module: &Vec<String>| -> BTreeSet<Vec<String>> {
        let named = sources[module].paths.iter().filter_map(|path| module_of(&sources, module, path, 0));
        named.filter(|other| !module.starts_with(other)).collect()
    };
    let edges: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> =
        sources.keys().map(|module| (module.clone(), named(module))).collect();
    let reached = |from: &Vec<String>| {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&Vec<String>> = edges[from].iter().collect();
        while let Some(module) = next.pop() {
            if reached.insert(module.clone()) {
                next.extend(&edges[module]);
            }
        }
        reached
    };
    let reached: BTreeMap<&Vec<String>, BTreeSet<Vec<String>>> =
        edges.keys().map(|module| (module, reached(module))).collect();
    let of = |module: &Vec<String>| -> Vec<String> {
        let others = reached[module].iter().filter(|other| reached[other].contains(module));
        others.map(|other| other.join("/")).collect()
    };
    let circles: BTreeSet<Vec<String>> = edges.keys().map(of).filter(|circle| !circle.is_empty()).collect();
    circles.into_iter().collect()
}

/// The file that holds what `path` names where it stands in `module`; what the root hands on is looked up there.
fn module_of(
    sources: &BTreeMap<Vec<String>, Source>,
    module: &[String],
    path: &[String],
    depth: usize,
) -> Option<Vec<String>> {
    let mut at = module.to_vec();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => (at, rest) = (Vec::new(), &path[1..]),
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|name| name == "super") {
                (_, rest) = (at.pop(), &rest[1..]);
            }
        }
        child => {
            at.push(child.to_owned());
            if !sources.contains_key(&at) {
                return None;
            }
            rest = &path[1..];
        }
    }
    while let Some(name) = rest.first() {
        at.push(name.clone());
        if !sources.contains_key(&at) {
            at.pop();
            break;
        }
        rest = &rest[1..];
    }
    let handed_on = rest.first().and_then(|name| sources.get(&at)?.aliases.get(name));
    match handed_on {
        Some(path) if depth < 8 => module_of(sources, &at, path, depth + 1).or(Some(at)),
        _ => Some(at),
    }
}

fn visit(folder: &Path, found: &mut dyn FnMut(&Path, &str)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                visit(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found(&path, &std::fs::read_to_string(&path).unwrap());
        }
    }
}

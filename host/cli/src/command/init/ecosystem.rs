//! What a language's own tools can check.

use serde_json::{Map, Value};
use toml::Table;

use super::{Check, Kind, Offer, Repo};

fn check(kind: Kind, script: &[&str], because: impl Into<String>) -> Check {
    Check {
        kind,
        script: script.iter().map(|step| (*step).to_owned()).collect(),
        because: because.into(),
        asked: true,
    }
}

fn offer(tool: &'static str, checks: Vec<Check>) -> Option<Offer> {
    Some(Offer { tool, checks, besides: Vec::new() })
}

/// Rust: tests always; format and lints where they are configured.
pub(super) fn cargo(repo: &Repo<'_>) -> Result<Option<Offer>, String> {
    let Some((name, text)) = repo.first(&["Cargo.toml"])? else {
        return Ok(None);
    };
    let manifest: Table = text.parse().map_err(|_| format!("{name} is not valid TOML and is passed over"))?;
    let workspace = manifest.get("workspace").and_then(toml::Value::as_table);
    let all = if workspace.is_some() { " --workspace" } else { "" };
    let has_lints = |table: Option<&Table>| table.is_some_and(|table| table.contains_key("clippy"));
    let lints = |table: &Table| has_lints(table.get("lints").and_then(toml::Value::as_table));
    let format_file = ["rustfmt.toml", ".rustfmt.toml"].into_iter().find(|file| repo.has(file));
    let lint_file = ["clippy.toml", ".clippy.toml"].into_iter().find(|file| repo.has(file));
    let lint_reason =
        lint_file.or_else(|| (lints(&manifest) || workspace.is_some_and(lints)).then_some(name));
    Ok(offer(
        "cargo",
        vec![
            Check {
                asked: format_file.is_some(),
                ..check(
                    Kind::Format,
                    &["cargo fmt --check"],
                    format!("The form that {} asks for.", format_file.unwrap_or(name)),
                )
            },
            Check {
                asked: lint_reason.is_some(),
                ..check(
                    Kind::Lint,
                    &[&format!("cargo clippy{all} --all-targets -- --deny warnings")],
                    format!("The lints that {} sets.", lint_reason.unwrap_or(name)),
                )
            },
            check(Kind::Test, &[&format!("cargo test{all}")], format!("The tests of {name}.")),
        ],
    ))
}

/// The names under which scripts of `package.json` do a thing; the first one that exists is meant.
const SCRIPTS: [(Kind, &[&str]); 6] = [
    (Kind::Format, &["format:check", "fmt:check", "format-check", "check:format", "prettier:check"]),
    (Kind::Lint, &["lint"]),
    (Kind::Types, &["typecheck", "type-check", "check:types", "types:check"]),
    (Kind::Check, &["check"]),
    (Kind::Build, &["build"]),
    (Kind::Test, &["test:ci", "test"]),
];

/// Node: the scripts that there are, after an installation of what they need.
pub(super) fn node(repo: &Repo<'_>) -> Result<Option<Offer>, String> {
    let Some((name, text)) = repo.first(&["package.json"])? else {
        return Ok(None);
    };
    let package: Map<String, Value> =
        serde_json::from_str(&text).map_err(|_| format!("{name} is not a JSON object and is passed over"))?;
    let manager = Manager::of(repo, &package);
    let mut checks = Vec::new();
    if let Some((command, because)) = manager.install(repo, &package) {
        checks.push(check(Kind::Install, &[command], because));
    }
    let no_scripts = Map::new();
    let scripts = package.get("scripts").and_then(Value::as_object).unwrap_or(&no_scripts);
    // What `npm init` writes fails on purpose.
    let body = |script: &str| {
        let body = scripts.get(script)?.as_str()?;
        (!body.trim().is_empty() && !body.contains("no test specified")).then_some(body)
    };
    let found: Vec<(Kind, &str, &str)> = SCRIPTS
        .iter()
        .filter_map(|(kind, names)| names.iter().find_map(|script| Some((*kind, *script, body(script)?))))
        .collect();
    for (kind, script, _) in &found {
        // One that another one runs would run twice.
        let ran = found.iter().any(|(_, other, body)| other != script && runs(body, script));
        if !ran {
            checks.push(check(*kind, &[&manager.run(script)], format!("The script `{script}` of {name}.")));
        }
    }
    Ok(offer("node", checks))
}

/// Whether the shell text `body` runs the script `name`.
fn runs(body: &str, name: &str) -> bool {
    let words: Vec<&str> = body
        .split(|c: char| c.is_whitespace() || ";&|()".contains(c))
        .filter(|word| !word.is_empty())
        .collect();
    words.windows(2).any(|pair| {
        pair[1] == name && ["run", "npm", "pnpm", "yarn", "run-s", "run-p", "npm-run-all"].contains(&pair[0])
    })
}

#[derive(Debug, Clone, Copy)]
enum Manager {
    Npm,
    Pnpm,
    Yarn,
}

/// Files that say exactly what is to be installed.
const NPM_LOCKS: [&str; 2] = ["package-lock.json", "npm-shrinkwrap.json"];
const PNPM_LOCK: &str = "pnpm-lock.yaml";
const YARN_LOCK: &str = "yarn.lock";

impl Manager {
    /// By the lock file, else by what `package.json` says.
    fn of(repo: &Repo<'_>, package: &Map<String, Value>) -> Self {
        let named = package.get("packageManager").and_then(Value::as_str).unwrap_or("npm");
        if repo.has(PNPM_LOCK) {
            Self::Pnpm
        } else if repo.has(YARN_LOCK) {
            Self::Yarn
        } else if NPM_LOCKS.iter().any(|lock| repo.has(lock)) {
            Self::Npm
        } else if named.starts_with("pnpm") {
            Self::Pnpm
        } else if named.starts_with("yarn") {
            Self::Yarn
        } else {
            Self::Npm
        }
    }

    /// How to install, and why; nothing where there is nothing to install.
    fn install(self, repo: &Repo<'_>, package: &Map<String, Value>) -> Option<(&'static str, String)> {
        let (lock, frozen, loose) = match self {
            Self::Npm => {
                let lock = NPM_LOCKS.into_iter().find(|lock| repo.has(lock));
                (lock, "npm ci", "npm install")
            }
            Self::Pnpm => {
                let lock = repo.has(PNPM_LOCK).then_some(PNPM_LOCK);
                (lock, "pnpm install --frozen-lockfile", "pnpm install")
            }
            Self::Yarn => {
                // The file of version 2 and later, which has another word for the same thing.
                let frozen = if repo.has(".yarnrc.yml") {
                    "yarn install --immutable"
                } else {
                    "yarn install --frozen-lockfile"
                };
                let lock = repo.has(YARN_LOCK).then_some(YARN_LOCK);
                (lock, frozen, "yarn install")
            }
        };
        if let Some(lock) = lock {
            return Some((frozen, format!("What {lock} names. The workspace is shared: once is enough.")));
        }
        let needs = ["dependencies", "devDependencies", "optionalDependencies"]
            .iter()
            .filter_map(|key| package.get(*key)?.as_object())
            .any(|names| !names.is_empty());
        needs.then(|| {
            let because = "What package.json names. With a lock file it would be the same every time.";
            (loose, because.to_owned())
        })
    }

    fn run(self, script: &str) -> String {
        match self {
            Self::Npm if script == "test" => "npm test".to_owned(),
            Self::Npm => format!("npm run {script}"),
            Self::Pnpm => format!("pnpm run {script}"),
            Self::Yarn => format!("yarn run {script}"),
        }
    }
}

/// Go: vet and tests come with the language; golangci-lint where it is configured.
pub(super) fn go(repo: &Repo<'_>) -> Result<Option<Offer>, String> {
    if !repo.has("go.mod") {
        return Ok(None);
    }
    let configured = [".golangci.yml", ".golangci.yaml", ".golangci.toml", ".golangci.json"]
        .into_iter()
        .find(|file| repo.has(file));
    let lint = match configured {
        Some(file) => check(
            Kind::Lint,
            &["go vet ./...", "golangci-lint run"],
            format!("What the compiler lets pass and should not be, and what {file} asks for."),
        ),
        None => check(Kind::Lint, &["go vet ./..."], "What the compiler lets pass and should not be."),
    };
    let test = check(Kind::Test, &["go test ./..."], "The tests of go.mod's module.");
    Ok(offer("go", vec![lint, test]))
}

/// Python: pytest and ruff where they are configured, in the way the repository installs them.
pub(super) fn python(repo: &Repo<'_>) -> Result<Option<Offer>, String> {
    let markers = ["pyproject.toml", "setup.py", "setup.cfg", "pytest.ini", "tox.ini"];
    if !markers.iter().any(|file| repo.has(file)) {
        return Ok(None);
    }
    let project: Table = match repo.first(&["pyproject.toml"])? {
        Some((name, text)) => {
            text.parse().map_err(|_| format!("{name} is not valid TOML and is passed over"))?
        }
        None => Table::new(),
    };
    let tool = |name: &str| project.get("tool").and_then(|tools| tools.get(name));
    let says = |file: &str, section: &str| {
        let text = repo.text(file).unwrap_or_default();
        text.lines().any(|line| line.trim_end() == section)
    };
    let pytest = if tool("pytest").is_some() {
        Some("pyproject.toml")
    } else if repo.has("pytest.ini") {
        Some("pytest.ini")
    } else if says("setup.cfg", "[tool:pytest]") {
        Some("setup.cfg")
    } else if says("tox.ini", "[pytest]") {
        Some("tox.ini")
    } else {
        ["conftest.py", "tests/conftest.py", "test/conftest.py"].into_iter().find(|file| repo.has(file))
    };
    let ruff = if tool("ruff").is_some() {
        Some("pyproject.toml")
    } else {
        ["ruff.toml", ".ruff.toml"].into_iter().find(|file| repo.has(file))
    };
    // Without a tool that installs, what is on the PATH is used: an active virtual environment is.
    let (install, run) = if repo.has("uv.lock") {
        (None, "uv run --locked ")
    } else if repo.has("poetry.lock") {
        (Some("poetry.lock"), "poetry run ")
    } else {
        (None, "")
    };
    let mut checks = Vec::new();
    if let Some(lock) = install {
        checks.push(check(
            Kind::Install,
            &["poetry install"],
            format!("What {lock} names. The workspace is shared: once is enough."),
        ));
    }
    if let Some(file) = ruff {
        let formats = tool("ruff").is_some_and(|ruff| ruff.get("format").is_some())
            || repo.text(file).is_some_and(|text| text.lines().any(|line| line.trim() == "[format]"));
        checks.push(Check {
            asked: formats,
            ..check(
                Kind::Format,
                &[&format!("{run}ruff format --check .")],
                format!("The form that {file} asks for."),
            )
        });
        checks.push(check(
            Kind::Lint,
            &[&format!("{run}ruff check .")],
            format!("The lints that {file} sets."),
        ));
    }
    if let Some(file) = pytest {
        let command = if run.is_empty() { "python3 -m pytest".to_owned() } else { format!("{run}pytest") };
        checks.push(check(Kind::Test, &[&command], format!("The tests that {file} sets up.")));
    }
    Ok(offer("python", checks))
}

//! What the tools of Rust, Node, Go and Ruby can check.

use serde_json::{Map, Value};
use toml::Table;

use super::{Cache, Check, Kind, Offer, Repo, offer};

/// Rust: tests always; format and lints where they are configured.
pub(super) fn cargo(repo: &Repo) -> Result<Option<Offer>, String> {
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
    let lock = repo.first_name(&["Cargo.lock"]).unwrap_or(name);
    let cache = Cache::new("cargo", &[lock], &["target"]).or_older();
    let format = format!("The form that {} asks for.", format_file.unwrap_or(name));
    let clippy = format!("cargo clippy{all} --all-targets -- --deny warnings");
    let lint = format!("The lints that {} sets.", lint_reason.unwrap_or(name));
    let test = format!("cargo test{all}");
    Ok(offer(
        "cargo",
        vec![
            Check::new(Kind::Format, &["cargo fmt --check"], format).asked(format_file.is_some()),
            Check::new(Kind::Lint, &[clippy], lint).asked(lint_reason.is_some()).cached(cache.clone()),
            Check::new(Kind::Test, &[test], format!("The tests of {name}.")).cached(cache),
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
pub(super) fn node(repo: &Repo) -> Result<Option<Offer>, String> {
    let Some((name, text)) = repo.first(&["package.json"])? else {
        return Ok(None);
    };
    let package: Map<String, Value> =
        serde_json::from_str(&text).map_err(|_| format!("{name} is not a JSON object and is passed over"))?;
    let manager = Manager::of(repo, &package);
    let mut checks = Vec::new();
    checks.extend(manager.install(repo, &package));
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
            checks.push(Check::new(
                *kind,
                &[manager.run(script)],
                format!("The script `{script}` of {name}."),
            ));
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
        pair[1] == name
            && ["run", "npm", "pnpm", "yarn", "bun", "run-s", "run-p", "npm-run-all"].contains(&pair[0])
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manager {
    Npm,
    Pnpm,
    Yarn,
    Bun,
}

/// Per manager its word in `packageManager`, the files that say exactly what is to be installed, and how that is done; without
/// such a file, how else.
const MANAGERS: [(Manager, &str, &[&str], &str, &str); 4] = [
    (Manager::Pnpm, "pnpm", &["pnpm-lock.yaml"], "pnpm install --frozen-lockfile", "pnpm install"),
    (Manager::Yarn, "yarn", &["yarn.lock"], "yarn install --frozen-lockfile", "yarn install"),
    (Manager::Bun, "bun", &["bun.lock", "bun.lockb"], "bun install --frozen-lockfile", "bun install"),
    // It removes what is there first, so it is only asked where nothing is: a file of its own says that all of it was installed.
    (
        Manager::Npm,
        "npm",
        &["package-lock.json", "npm-shrinkwrap.json"],
        "test -e node_modules/.package-lock.json || npm ci",
        "npm install",
    ),
];

impl Manager {
    /// By the lock file, else by what `package.json` says.
    fn of(repo: &Repo, package: &Map<String, Value>) -> Self {
        let named = package.get("packageManager").and_then(Value::as_str).unwrap_or_default();
        let by_lock = MANAGERS.iter().find(|(_, _, locks, ..)| repo.first_name(locks).is_some());
        let by_name = || MANAGERS.iter().find(|(_, word, ..)| named.split('@').next() == Some(word));
        by_lock.or_else(by_name).map_or(Self::Npm, |(manager, ..)| *manager)
    }

    /// How to install; nothing where there is nothing to install.
    fn install(self, repo: &Repo, package: &Map<String, Value>) -> Option<Check> {
        let (_, _, locks, frozen, loose) = MANAGERS.iter().find(|(manager, ..)| *manager == self)?;
        // The file of version 2 and later, which has another word for the same thing.
        let is_later_yarn = self == Self::Yarn && repo.has(".yarnrc.yml");
        let frozen = if is_later_yarn { "yarn install --immutable" } else { frozen };
        let has_packages = package.contains_key("workspaces") || repo.has("pnpm-workspace.yaml");
        let kept: &[&str] = if has_packages {
            &["node_modules", "*/node_modules", "*/*/node_modules"]
        } else {
            &["node_modules"]
        };
        if let Some(lock) = repo.first_name(locks) {
            let because = format!("What {lock} names. The workspace is shared: once is enough.");
            let cache = Cache::new(self.name(), &[lock], kept);
            return Some(Check::new(Kind::Install, &[frozen], because).cached(cache));
        }
        let needs = ["dependencies", "devDependencies", "optionalDependencies"]
            .iter()
            .filter_map(|key| package.get(*key)?.as_object())
            .any(|names| !names.is_empty());
        let because = "What package.json names. With a lock file it would be the same every time.";
        let cache = Cache::new(self.name(), &["package.json"], kept);
        needs.then(|| Check::new(Kind::Install, &[*loose], because).cached(cache))
    }

    fn name(self) -> &'static str {
        MANAGERS.iter().find(|(manager, ..)| *manager == self).map_or("npm", |(_, name, ..)| name)
    }

    fn run(self, script: &str) -> String {
        match self {
            Self::Npm if script == "test" => "npm test".to_owned(),
            _ => format!("{} run {script}", self.name()),
        }
    }
}

/// Go: vet and tests come with the language; golangci-lint where it is configured.
pub(super) fn go(repo: &Repo) -> Result<Option<Offer>, String> {
    if !repo.has("go.mod") {
        return Ok(None);
    }
    let configured = [".golangci.yml", ".golangci.yaml", ".golangci.toml", ".golangci.json"]
        .into_iter()
        .find(|file| repo.has(file));
    let lint = match configured {
        Some(file) => Check::new(
            Kind::Lint,
            &["go vet ./...", "golangci-lint run"],
            format!("What the compiler lets pass and should not be, and what {file} asks for."),
        ),
        None => Check::new(Kind::Lint, &["go vet ./..."], "What the compiler lets pass and should not be."),
    };
    let test = Check::new(Kind::Test, &["go test ./..."], "The tests of go.mod's module.");
    Ok(offer("go", vec![lint, test]))
}

/// Ruby: tasks of the Rakefile, with the gems that the Gemfile names.
pub(super) fn ruby(repo: &Repo) -> Result<Option<Offer>, String> {
    let Some((file, text)) = repo.first(&["Rakefile", "rakefile", "Rakefile.rb"])? else {
        return Ok(None);
    };
    let mut checks = Vec::new();
    let has_gems = repo.has("Gemfile");
    let variables = if has_gems { vec![("BUNDLE_PATH", "vendor/bundle")] } else { Vec::new() };
    if has_gems {
        let lock = repo.first_name(&["Gemfile.lock"]).unwrap_or("Gemfile");
        let because = format!("What {lock} names. The workspace is shared: once is enough.");
        let cache = Cache::new("ruby", &[lock], &["vendor/bundle"]).or_older();
        checks.push(Check::new(Kind::Install, &["bundle install"], because).cached(cache));
    }
    let tasks: Vec<String> = text.lines().filter_map(rake_task).collect();
    for (kind, names) in [(Kind::Lint, &["lint", "rubocop"][..]), (Kind::Test, &["test", "spec"])] {
        if let Some(task) = names.iter().find(|name| tasks.iter().any(|task| task == *name)) {
            let before = if has_gems { "bundle exec " } else { "" };
            let because = format!("The task `{task}` of {file}.");
            checks.push(Check::new(kind, &[format!("{before}rake {task}")], because));
        }
    }
    checks.iter_mut().for_each(|check| check.variables.clone_from(&variables));
    Ok(offer("ruby", checks))
}

/// The task that `line` of a Rakefile defines; those of namespaces stand further in.
fn rake_task(line: &str) -> Option<String> {
    const CLASSES: [(&str, &str); 3] = [
        ("Rake::TestTask.new", "test"),
        ("RSpec::Core::RakeTask.new", "spec"),
        ("RuboCop::RakeTask.new", "rubocop"),
    ];
    let of_class = CLASSES.iter().find_map(|(class, name)| Some((line.strip_prefix(class)?, Some(*name))));
    let (rest, default) = of_class.or_else(|| Some((line.strip_prefix("task")?, None)))?;
    let name = rest.trim_start_matches(['(', ' ', ':', '"', '\'']);
    if name.len() == rest.len() && default.is_none() {
        return None;
    }
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
    let is_named = rest.starts_with(['(', ' ']) && rest.contains([':', '"', '\'']);
    match (is_named && end > 0, default) {
        (true, _) => Some(name[..end].to_owned()),
        (false, default) => default.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rakefiles_name_their_tasks() {
        for (line, task) in [
            ("task :test do", Some("test")),
            ("task(:test => [:build])", Some("test")),
            ("task test: %w[build]", Some("test")),
            ("task \"lint\"", Some("lint")),
            ("Rake::TestTask.new do |t|", Some("test")),
            ("Rake::TestTask.new(:units) do |t|", Some("units")),
            ("RSpec::Core::RakeTask.new(:spec)", Some("spec")),
            ("RuboCop::RakeTask.new", Some("rubocop")),
            ("  task :inner", None),
            ("tasks = 1", None),
            ("# task :test", None),
        ] {
            assert_eq!(rake_task(line).as_deref(), task, "{line}");
        }
    }
}

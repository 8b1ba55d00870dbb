//! Python: tests and lints, with what they need in an environment of the project's own.

use toml::{Table, Value};

use super::{Cache, Check, Kind, Offer, Repo, offer};

/// Files of which a Python project has one.
const MARKERS: [&str; 9] = [
    "pyproject.toml",
    "setup.py",
    "setup.cfg",
    "pytest.ini",
    "tox.ini",
    "uv.lock",
    "poetry.lock",
    "requirements.txt",
    "requirements-dev.txt",
];
/// Lists of what is to be installed, beside those in `pyproject.toml`.
const REQUIREMENTS: [&str; 6] = [
    "requirements.txt",
    "requirements-dev.txt",
    "dev-requirements.txt",
    "requirements-test.txt",
    "test-requirements.txt",
    "requirements/dev.txt",
];
const TEST_FOLDERS: [&str; 2] = ["tests", "test"];
const PROJECT: &str = "pyproject.toml";

pub(super) fn python(repo: &Repo) -> Result<Option<Offer>, String> {
    if !MARKERS.iter().any(|file| repo.has(file)) {
        return Ok(None);
    }
    let project: Table = match repo.first(&[PROJECT])? {
        Some((name, text)) => {
            text.parse().map_err(|_| format!("{name} is not valid TOML and is passed over"))?
        }
        None => Table::new(),
    };
    let python = Python { repo, project };
    let (tests, ruff) = (python.tests(), python.ruff());
    let pytest = matches!(tests, Some(Tests::Pytest(_))).then_some("pytest");
    let wanted: Vec<&str> = pytest.into_iter().chain(ruff.map(|_| "ruff")).collect();
    let mut manager = python.manager(&wanted);
    // The environments of tox are its own affair.
    let uses_environment = ruff.is_some() || matches!(tests, Some(Tests::Pytest(_) | Tests::Unittest(_)));
    let mut checks: Vec<Check> = manager.install.take().filter(|_| uses_environment).into_iter().collect();
    let run = |kind, command: String, because| {
        let mut check = Check::new(kind, &[command], because);
        check.variables.clone_from(&manager.variables);
        check
    };
    if let Some(file) = ruff {
        let ruff = python.program(&manager, "ruff", manager.lone);
        let because = format!("The form that {file} asks for.");
        checks
            .push(run(Kind::Format, format!("{ruff} format --check ."), because).asked(python.formats(file)));
        checks.push(run(Kind::Lint, format!("{ruff} check ."), format!("The lints that {file} sets.")));
    }
    checks.extend(tests.map(|tests| match tests {
        Tests::Tox(file) => {
            Check::new(Kind::Test, &["tox run"], format!("The environments of {file}.")).cached(Cache::new(
                "tox",
                &repo.those(&["tox.ini", PROJECT, "setup.cfg"]),
                &[".tox"],
            ))
        }
        Tests::Pytest(place) => {
            let pytest = python.program(&manager, "pytest", manager.with_pytest);
            let because = match TEST_FOLDERS.contains(&place) {
                true => format!("The tests in {place}."),
                false => format!("The tests that {place} sets up."),
            };
            run(Kind::Test, pytest, because)
        }
        Tests::Unittest(folder) => {
            let command = format!("{} -m unittest discover -s {folder}", manager.interpreter);
            run(Kind::Test, command, format!("The tests in {folder}."))
        }
    }));
    Ok(offer("python", checks))
}

/// What runs the tests, and the file or folder that says so.
#[derive(Debug, Clone, Copy)]
enum Tests {
    Tox(&'static str),
    Pytest(&'static str),
    Unittest(&'static str),
}

/// How programs of the project's environment are started.
struct Manager {
    install: Option<Check>,
    variables: Vec<(&'static str, &'static str)>,
    /// What stands before the name of a program that the project lists.
    before: &'static str,
    /// What stands before that of another one, which does not need the project.
    lone: &'static str,
    /// What stands before pytest, where the project does not list it.
    with_pytest: &'static str,
    interpreter: &'static str,
}

struct Python<'a> {
    repo: &'a Repo,
    project: Table,
}

impl Python<'_> {
    /// How `manager` starts the program `name`, before whose name `other` stands where the project does not list it.
    fn program(&self, manager: &Manager, name: &str, other: &str) -> String {
        let before = if self.lists(name) { manager.before } else { other };
        format!("{before}{name}")
    }

    fn tool(&self, name: &str) -> Option<&Value> {
        self.project.get("tool")?.get(name)
    }

    /// Whether a line of `file` is `section`.
    fn says(&self, file: &str, section: &str) -> bool {
        let text = self.repo.text(file).unwrap_or_default();
        text.lines().any(|line| line.trim_end() == section)
    }

    fn tests(&self) -> Option<Tests> {
        let repo = self.repo;
        if self.says("tox.ini", "[tox]") || self.says("tox.ini", "[testenv]") {
            return Some(Tests::Tox("tox.ini"));
        }
        if self.tool("tox").is_some() {
            return Some(Tests::Tox(PROJECT));
        }
        let configured = [
            (self.tool("pytest").is_some(), PROJECT),
            (repo.has("pytest.ini"), "pytest.ini"),
            (self.says("setup.cfg", "[tool:pytest]"), "setup.cfg"),
            (self.says("tox.ini", "[pytest]"), "tox.ini"),
        ];
        let configured = configured.into_iter().find(|(is, _)| *is).map(|(_, file)| file);
        let conftest = || repo.first_name(&["conftest.py", "tests/conftest.py", "test/conftest.py"]);
        if let Some(file) = configured.or_else(conftest) {
            return Some(Tests::Pytest(file));
        }
        let folder = TEST_FOLDERS.into_iter().find(|folder| self.has_tests(folder, ""))?;
        if self.lists("pytest") {
            return Some(Tests::Pytest(folder));
        }
        self.has_tests(folder, "unittest").then_some(Tests::Unittest(folder))
    }

    /// Whether `folder` has a file with tests that holds `words`.
    fn has_tests(&self, folder: &str, words: &str) -> bool {
        let entries = std::fs::read_dir(self.repo.root.join(folder)).into_iter().flatten().flatten();
        let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.any(|name| {
            name.starts_with("test")
                && name.ends_with(".py")
                && self.repo.text(&format!("{folder}/{name}")).is_some_and(|text| text.contains(words))
        })
    }

    /// The file that asks for ruff.
    fn ruff(&self) -> Option<&'static str> {
        if self.tool("ruff").is_some() {
            return Some(PROJECT);
        }
        let file = self.repo.first_name(&["ruff.toml", ".ruff.toml"]);
        file.or_else(|| self.lists("ruff").then_some(PROJECT))
    }

    fn formats(&self, file: &str) -> bool {
        self.tool("ruff").is_some_and(|ruff| ruff.get("format").is_some())
            || self.repo.text(file).is_some_and(|text| text.lines().any(|line| line.trim() == "[format]"))
    }

    /// Whether the project lists `package` among what it needs, for itself or for those who work on it.
    fn lists(&self, package: &str) -> bool {
        let is_it = |requirement: &str| {
            let end = requirement
                .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'))
                .unwrap_or(requirement.len());
            requirement[..end].eq_ignore_ascii_case(package)
        };
        let of = |table: &Table, name: &str| table.get(name).cloned();
        let project = self.project.get("project").and_then(Value::as_table);
        let poetry = self.tool("poetry").and_then(Value::as_table);
        let places = [
            project.and_then(|project| of(project, "dependencies")),
            project.and_then(|project| of(project, "optional-dependencies")),
            of(&self.project, "dependency-groups"),
            poetry.and_then(|poetry| of(poetry, "dependencies")),
            poetry.and_then(|poetry| of(poetry, "dev-dependencies")),
            poetry.and_then(|poetry| of(poetry, "group")),
            self.tool("uv").and_then(|uv| uv.get("dev-dependencies")).cloned(),
        ];
        places.iter().flatten().any(|value| any_requirement(value, &is_it))
            || REQUIREMENTS.iter().any(|file| {
                let text = self.repo.text(file).unwrap_or_default();
                text.lines().any(|line| is_it(line.trim()))
            })
    }

    /// Who installs: the one whose lock file is there; else a virtual environment with `wanted` and what is listed.
    fn manager(&self, wanted: &[&str]) -> Manager {
        let repo = self.repo;
        if repo.has("uv.lock") || self.tool("uv").is_some() {
            let is_locked = repo.has("uv.lock");
            let file = if is_locked { "uv.lock" } else { PROJECT };
            let install = if is_locked { "uv sync --locked" } else { "uv sync" };
            let cache = Cache::new("uv", &[file], &[".venv"]).or_older();
            let install = Some(Check::new(Kind::Install, &[install], installs(file)).cached(cache));
            let variables = Vec::new();
            let lone = "uvx ";
            return match is_locked {
                true => Manager {
                    install,
                    variables,
                    before: "uv run --locked ",
                    lone,
                    with_pytest: "uv run --locked --with pytest ",
                    interpreter: "uv run --locked python",
                },
                false => Manager {
                    install,
                    variables,
                    before: "uv run ",
                    lone,
                    with_pytest: "uv run --with pytest ",
                    interpreter: "uv run python",
                },
            };
        }
        if repo.has("poetry.lock") || self.tool("poetry").is_some() {
            let file = repo.first_name(&["poetry.lock"]).unwrap_or(PROJECT);
            let cache = Cache::new("poetry", &[file], &[".venv"]).or_older();
            let mut install = Check::new(Kind::Install, &["poetry install"], installs(file)).cached(cache);
            // Else it is in the user's cache, one for each path.
            let variables = vec![("POETRY_VIRTUALENVS_IN_PROJECT", "true")];
            install.variables.clone_from(&variables);
            return Manager {
                install: Some(install),
                variables,
                before: "poetry run ",
                lone: "poetry run ",
                with_pytest: "poetry run ",
                interpreter: "poetry run python",
            };
        }
        let lists = repo.those(&REQUIREMENTS);
        let mut what: Vec<String> = lists.iter().map(|file| format!("-r {file}")).collect();
        if self.project.contains_key("build-system") || repo.has("setup.py") {
            what.push(self.itself());
        }
        let groups = self.project.get("dependency-groups").and_then(Value::as_table);
        let group = groups
            .and_then(|groups| ["dev", "test", "tests"].into_iter().find(|name| groups.contains_key(*name)));
        what.extend(group.map(|name| format!("--group {name}")));
        what.extend(wanted.iter().map(|name| (*name).to_owned()));
        if what.is_empty() {
            return Manager {
                install: None,
                variables: Vec::new(),
                before: "",
                lone: "",
                with_pytest: "",
                interpreter: "python3",
            };
        }
        let pip = ".venv/bin/python -m pip install --quiet";
        // Groups are for pip 25.1 and later.
        let newer = if group.is_some() { format!("{pip} --upgrade pip\n") } else { String::new() };
        let step = format!(
            "test -e .venv/ready && exit\npython3 -m venv .venv\n{newer}{pip} {}\ntouch .venv/ready",
            what.join(" ")
        );
        let mut files = repo.those(&["pyproject.toml", "setup.py", "setup.cfg"]);
        files.extend(lists);
        // An environment has a file of its own that says that all of it is there.
        let because = "An environment of its own, in .venv, made anew where what it is made from changes.";
        let install = Check::new(Kind::Install, &[step], because);
        let install =
            if files.is_empty() { install } else { install.cached(Cache::new("venv", &files, &[".venv"])) };
        Manager {
            install: Some(install),
            variables: Vec::new(),
            before: ".venv/bin/python -m ",
            lone: ".venv/bin/python -m ",
            with_pytest: ".venv/bin/python -m ",
            interpreter: ".venv/bin/python",
        }
    }

    /// The project itself, with what those need who work on it.
    fn itself(&self) -> String {
        let extras = self.project.get("project").and_then(|project| project.get("optional-dependencies"));
        let extras = extras.and_then(Value::as_table);
        let extra = extras
            .and_then(|extras| ["dev", "test", "tests"].into_iter().find(|name| extras.contains_key(*name)));
        match extra {
            Some(extra) => format!("-e '.[{extra}]'"),
            None => "-e .".to_owned(),
        }
    }
}

fn installs(file: &str) -> String {
    format!("What {file} names. The workspace is shared: once is enough.")
}

/// Whether a text in `value`, or a key of a mapping of poetry's, is a requirement that `is_it`.
fn any_requirement(value: &Value, is_it: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => is_it(text),
        Value::Array(values) => values.iter().any(|value| any_requirement(value, is_it)),
        Value::Table(table) => table.iter().any(|(key, value)| is_it(key) || any_requirement(value, is_it)),
        _ => false,
    }
}

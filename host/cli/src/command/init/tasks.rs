//! The repository's own tasks: of make, of task, of just, of mise. Only those whose names say that they check something.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Check, Kind, Offer, Repo};

/// The names under which tasks do a thing; the first one that exists is meant.
const NAMES: [(Kind, &[&str]); 5] = [
    (Kind::Format, &["fmt-check", "format-check", "check-fmt", "check-format", "fmt:check", "format:check"]),
    (Kind::Lint, &["lint"]),
    (Kind::Types, &["typecheck", "type-check"]),
    (Kind::Check, &["check"]),
    (Kind::Test, &["test"]),
];

/// Tasks by name, each with the tasks that it runs first.
type Tasks = BTreeMap<String, Vec<String>>;

/// The targets of a makefile, in whichever of its three places make looks first.
pub(super) fn make(repo: &Repo) -> Result<Option<Offer>, String> {
    let Some((file, text)) = repo.first(&["GNUmakefile", "makefile", "Makefile"])? else {
        return Ok(None);
    };
    Ok(Some(offer("make", "target", file, &targets(&text))))
}

/// The tasks of a Taskfile.
pub(super) fn task(repo: &Repo) -> Result<Option<Offer>, String> {
    let names = [
        "Taskfile.yml",
        "taskfile.yml",
        "Taskfile.yaml",
        "taskfile.yaml",
        "Taskfile.dist.yml",
        "taskfile.dist.yml",
        "Taskfile.dist.yaml",
        "taskfile.dist.yaml",
    ];
    let Some((file, text)) = repo.first(&names)? else {
        return Ok(None);
    };
    let value: Value =
        serde_saphyr::from_str(&text).map_err(|_| format!("{file} is not valid YAML and is passed over"))?;
    Ok(Some(offer("task", "task", file, &taskfile(&value))))
}

/// The recipes of a justfile.
pub(super) fn just(repo: &Repo) -> Result<Option<Offer>, String> {
    let Some((file, text)) = repo.first(&["justfile", "Justfile", ".justfile"])? else {
        return Ok(None);
    };
    Ok(Some(offer("just", "recipe", file, &recipes(&text))))
}

/// The tasks of mise, which runs them only where it is told to trust the file.
pub(super) fn mise(repo: &Repo) -> Result<Option<Offer>, String> {
    let names = ["mise.toml", ".mise.toml", "mise/config.toml", ".mise/config.toml", ".config/mise.toml"];
    let Some((file, text)) = repo.first(&names)? else {
        return Ok(None);
    };
    let file_of_mise: toml::Table =
        text.parse().map_err(|_| format!("{file} is not valid TOML and is passed over"))?;
    let mut tasks = Tasks::new();
    let table = file_of_mise.get("tasks").and_then(toml::Value::as_table);
    for (name, task) in table.into_iter().flatten() {
        let lists = ["depends", "run"].into_iter().filter_map(|key| task.get(key));
        let words = lists.flat_map(|value| match value {
            toml::Value::Array(values) => values.iter().filter_map(toml::Value::as_str).collect(),
            value => value.as_str().into_iter().collect::<Vec<_>>(),
        });
        tasks.insert(
            name.clone(),
            words.map(|word| word.trim_start_matches("mise run ").to_owned()).collect(),
        );
    }
    let mut offer = offer("mise run", "task", file, &tasks);
    offer.tool = "mise";
    for check in &mut offer.checks {
        check.variables.push(("MISE_TRUSTED_CONFIG_PATHS", "$CI_PROJECT_DIR"));
    }
    Ok((!offer.checks.is_empty()).then_some(offer))
}

/// A check for each task whose name is known, but for those that another one of them runs anyway. `word` is what `tool`
/// calls a task.
fn offer(tool: &'static str, word: &str, file: &str, tasks: &Tasks) -> Offer {
    let known: Vec<(Kind, &str)> = NAMES
        .iter()
        .filter_map(|(kind, names)| {
            let name = names.iter().find(|name| tasks.contains_key(**name))?;
            Some((*kind, *name))
        })
        .collect();
    let mut offer = Offer { tool, checks: Vec::new(), besides: Vec::new() };
    for (kind, name) in &known {
        if known.iter().any(|(_, other)| other != name && runs(tasks, other, name)) {
            offer.besides.push(*kind);
        } else {
            let because = format!("The {word} `{name}` of {file}.");
            offer.checks.push(Check::new(*kind, &[format!("{tool} {name}")], because));
        }
    }
    offer
}

/// Whether the task `from` runs the task `wanted`, itself or through others.
fn runs(tasks: &Tasks, from: &str, wanted: &str) -> bool {
    let mut seen = vec![from];
    let mut next = 0;
    while let Some(task) = seen.get(next) {
        next += 1;
        for first in tasks.get(*task).into_iter().flatten() {
            if first == wanted {
                return true;
            }
            if !seen.contains(&first.as_str()) {
                seen.push(first);
            }
        }
    }
    false
}

/// The explicit rules of a makefile, with their prerequisites.
fn targets(text: &str) -> Tasks {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let mut tasks = Tasks::new();
    let mut in_define = false;
    for line in joined.lines() {
        if line.starts_with("define ") {
            in_define = true;
        } else if line.trim() == "endef" {
            in_define = false;
        }
        if in_define || line.starts_with(['\t', '#', ' ']) {
            continue;
        }
        let Some((left, right)) = line.split_once(':') else {
            continue;
        };
        let right = right.strip_prefix(':').unwrap_or(right);
        let right = right.split(['#', ';']).next().unwrap_or_default();
        // An assignment, or a variable for one target alone, makes no rule.
        if left.contains(['=', '$', '#']) || right.contains('=') {
            continue;
        }
        for target in left.split_whitespace() {
            let first = right.split_whitespace().map(str::to_owned);
            tasks.entry(target.to_owned()).or_default().extend(first);
        }
    }
    tasks
}

/// The tasks that can be called from outside and need no variable to be set.
fn taskfile(file: &Value) -> Tasks {
    let mut tasks = Tasks::new();
    for (name, task) in file.get("tasks").and_then(Value::as_object).into_iter().flatten() {
        let callable = task.get("internal") != Some(&Value::Bool(true)) && task.get("requires").is_none();
        if !callable {
            continue;
        }
        let lists = [Some(task), task.get("deps"), task.get("cmds")];
        let entries = lists.into_iter().flatten().filter_map(Value::as_array).flatten();
        let deps = task.get("deps").and_then(Value::as_array).into_iter().flatten();
        let names =
            entries.filter_map(|entry| entry.get("task")?.as_str()).chain(deps.filter_map(Value::as_str));
        tasks.insert(name.clone(), names.map(str::to_owned).collect());
    }
    tasks
}

/// The recipes that can be called without arguments, with those that they depend on.
fn recipes(text: &str) -> Tasks {
    let mut tasks = Tasks::new();
    let mut private = false;
    for line in text.lines() {
        if line.starts_with('[') {
            private |= line.contains("private");
            continue;
        }
        if line.starts_with([' ', '\t', '#']) || line.trim().is_empty() {
            continue;
        }
        let hidden = std::mem::take(&mut private);
        let Some((head, dependencies)) = split_recipe(line) else {
            continue;
        };
        let mut words = head.strip_prefix('@').unwrap_or(head).split_whitespace();
        let Some(name) = words.next() else {
            continue;
        };
        let without_arguments = words.all(|word| word.starts_with('*') || word.contains('='));
        if hidden || !without_arguments {
            continue;
        }
        let dependencies = dependencies
            .split('#')
            .next()
            .unwrap_or_default()
            .split(|c: char| c.is_whitespace() || "()&".contains(c))
            .filter(|word| !word.is_empty());
        tasks.insert(name.to_owned(), dependencies.map(str::to_owned).collect());
    }
    tasks
}

/// `line` at the colon that makes it a recipe: the first one outside of quotes, not the one of `:=`.
fn split_recipe(line: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, ':') => {
                let rest = &line[at + 1..];
                return (!rest.starts_with('=')).then_some((&line[..at], rest));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(tasks: &Tasks) -> Vec<String> {
        let offer = offer("run", "task", "file", tasks);
        offer.checks.into_iter().flat_map(|check| check.script).collect()
    }

    #[test]
    fn targets_are_rules_and_nothing_else() {
        let text = "\
CHECK := a:b
lint = x : y
.PHONY: test check
test: FLAGS=-g
test other: build \\
  more # words
\tcheck: not a rule
build::
ifdef X
format-check: ; echo
endif
define lint
lint:
endef
%.o: %.c
$(X): y
";
        let tasks = targets(text);
        assert_eq!(tasks["test"], ["build", "more"]);
        assert_eq!(steps(&tasks), ["run format-check", "run test"]);
    }

    #[test]
    fn what_another_task_runs_is_left_to_it() {
        assert_eq!(steps(&targets("check: all\nall: lint test\nlint:\ntest:\n")), ["run check"]);
        assert_eq!(steps(&targets("check: test\nlint:\ntest: check\n")), ["run lint"]);
    }

    #[test]
    fn recipes_are_those_that_need_no_argument() {
        let text = "\
set shell := ['bash', '-c']
alias t := test
x := 'test:'
[private]
lint:
    echo
@test *args='a:b': (build 'x') && after
    check:
check name:
[linux]
[group('ci')]
fmt-check:
";
        let tasks = recipes(text);
        assert_eq!(tasks.keys().collect::<Vec<_>>(), ["fmt-check", "test"]);
        assert_eq!(tasks["test"], ["build", "'x'", "after"]);
    }

    #[test]
    fn tasks_are_those_that_can_be_called() {
        let file = serde_json::json!({ "version": "3", "tasks": {
            "lint": { "internal": true },
            "typecheck": { "requires": { "vars": ["X"] } },
            "check": { "deps": ["fmt:check", { "task": "unit" }] },
            "unit": [{ "task": "test" }],
            "test": "go test ./...",
            "fmt:check": { "cmds": ["gofmt"] },
        } });
        assert_eq!(steps(&taskfile(&file)), ["run check"]);
    }
}

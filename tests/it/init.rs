//! `loom init`: for each kind of repository, a first workflow that is valid, and that runs where its tools are.

use std::path::Path;
use std::process::Command;

use loom_contract::layout;
use loom_tests::{RunOutput, TestEnv};
use serde_json::Value;

use crate::LOOM;

fn repo(files: &[(&str, &str)]) -> TestEnv {
    let env = TestEnv::without_workflow(LOOM);
    for (path, text) in files {
        env.write(path, text);
    }
    env.commit_all();
    env
}

/// What `loom init` makes of the repository: each job as `stage/name: step; step`. The workflow passes `loom check`, and
/// is as its schema says.
fn jobs_of(env: &TestEnv) -> Vec<String> {
    let output = env.loom(&["init"]).output();
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let path = env.repo().join(layout::DEFAULT_WORKFLOW);
    assert!(stderr.contains(&format!("wrote {}\n", path.display())), "{stderr}");
    let check = env.loom(&["check"]).output();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(check.status.success(), "{text}\n{check:?}");
    assert!(check.stderr.starts_with(b"loom check passed\n"), "{text}\n{check:?}");
    // The schema that editors are pointed to is there, and is Loom's.
    assert!(text.starts_with("# yaml-language-server: $schema=workflow.schema.json\n"), "{text}");
    let written = std::fs::read(path.with_file_name("workflow.schema.json")).unwrap();
    assert_eq!(written, env.loom(&["schema", "workflow"]).output().stdout);
    let schema: Value = serde_json::from_slice(&written).unwrap();
    let value: Value = serde_saphyr::from_str(&text).unwrap();
    assert!(jsonschema::draft202012::is_valid(&schema, &value), "{text}");
    let compiled = env.loom(&["compile"]).output().stdout;
    let graph: Value = serde_json::from_slice(&compiled).unwrap();
    let job = |node: &Value| {
        let script: Vec<&str> = node["script"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let word = |key: &str| node[key].as_str().unwrap().to_owned();
        format!("{}/{}: {}", word("stage"), word("id"), script.join("; "))
    };
    graph["nodes"].as_array().unwrap().iter().map(job).collect()
}

fn text(env: &TestEnv) -> String {
    std::fs::read_to_string(env.repo().join(layout::DEFAULT_WORKFLOW)).unwrap()
}

/// Whether `words`, of a workflow that was just written, can be run on this machine. If not, says so.
fn available(env: &TestEnv, words: &[&str]) -> bool {
    let loom = env.loom(&[]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env_clear().current_dir(env.repo());
    command.envs(loom.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let found = loom_tests::output(&mut command).is_ok_and(|output| output.status.success());
    if !found {
        println!("not run: no `{}` here", words.join(" "));
    }
    found
}

/// Runs the workflow, with this machine's cargo first on the PATH.
fn passes(env: &TestEnv) -> RunOutput {
    let mut loom = env.loom(&["run", "--local", "--stream"]);
    let rest = loom.command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path);
    let cargo = Path::new(env!("CARGO")).parent().unwrap().to_str().unwrap().to_owned();
    let path = format!("{cargo}:{}", rest.unwrap().to_str().unwrap());
    loom.command.env("PATH", path).env("GOTOOLCHAIN", "local").env("npm_config_offline", "true");
    let run = loom.run();
    assert_eq!(run.exit_code, 0, "{}\n{}", text(env), run.stderr);
    run
}

#[test]
fn nothing_recognised_says_hello() {
    let env = repo(&[("README.md", "# Nothing\n")]);
    assert_eq!(jobs_of(&env), ["check/hello: echo \"hello from $LOOM_JOB_NAME\""]);
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 0);
    assert_eq!(run.run.output("hello", "01"), ["hello from hello"]);
}

#[test]
fn a_workflow_that_is_there_stays() {
    let env = repo(&[(".loom/workflow.yml", "mine\n"), ("Cargo.toml", "[package]\nname = \"a\"\n")]);
    let output = env.loom(&["init"]).output();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let path = env.repo().join(layout::DEFAULT_WORKFLOW);
    assert!(stderr.starts_with(&format!("loom init: {} exists already\nhint: ", path.display())), "{stderr}");
    assert_eq!(text(&env), "mine\n");
    // A link that leads nowhere is something too.
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    assert_eq!(env.loom(&["init"]).output().status.code(), Some(1));
    assert!(!env.repo().join(".loom/nowhere").exists());
}

#[test]
fn the_root_is_found_from_below_and_is_here_without_any() {
    let env = repo(&[("Makefile", "test:\n\ttrue\n"), ("sub/x", "")]);
    let mut loom = env.loom(&["init"]);
    loom.command.current_dir(env.repo().join("sub"));
    assert!(loom.output().status.success());
    assert!(text(&env).contains("make test"));

    let env = TestEnv::without_workflow(LOOM);
    env.write("Makefile", "test:\n\ttrue\n");
    assert_eq!(jobs_of(&env), ["test/test: make test"]);
}

#[test]
fn cargo() {
    let env = repo(&[
        ("Cargo.toml", "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
        ("src/lib.rs", "#[test]\nfn adds() {\n    assert_eq!(1 + 1, 2);\n}\n"),
        (".gitignore", "/target\n"),
    ]);
    assert_eq!(jobs_of(&env), ["test/test: cargo test"]);
    for suggestion in
        ["#format:\n#  stage: check\n", "#    - cargo clippy --all-targets -- --deny warnings\n"]
    {
        assert!(text(&env).contains(suggestion), "{}", text(&env));
    }
    passes(&env);
    // What is suggested is right as it stands.
    let uncovered =
        text(&env).replace("\n#format", "\nformat").replace("\n#lint", "\nlint").replace("\n#  ", "\n  ");
    env.write(".loom/workflow.yml", &uncovered);
    assert!(env.loom(&["check"]).output().status.success(), "{uncovered}");
}

#[test]
fn cargo_workspace_with_what_it_configures() {
    let env = repo(&[
        ("Cargo.toml", "[workspace]\nmembers = []\n[workspace.lints.clippy]\ntodo = \"warn\"\n"),
        (".rustfmt.toml", "max_width = 100\n"),
    ]);
    assert_eq!(
        jobs_of(&env),
        [
            "check/format: cargo fmt --check",
            "check/lint: cargo clippy --workspace --all-targets -- --deny warnings",
            "test/test: cargo test --workspace",
        ]
    );
}

#[test]
fn npm() {
    let package = r#"{ "name": "app", "version": "1.0.0", "scripts": {
        "lint": "echo linted", "test": "node -e 'process.exit(0)'", "build": "echo built", "start": "sleep 1000" } }"#;
    let lock = r#"{ "name": "app", "version": "1.0.0", "lockfileVersion": 3, "requires": true,
        "packages": { "": { "name": "app", "version": "1.0.0" } } }"#;
    let env = repo(&[("package.json", package), ("package-lock.json", lock)]);
    assert_eq!(
        jobs_of(&env),
        [
            "prepare/install: test -e node_modules/.package-lock.json || npm ci",
            "check/lint: npm run lint",
            "build/build: npm run build",
            "test/test: npm test"
        ]
    );
    if available(&env, &["npm", "--version"]) {
        passes(&env);
    }
}

#[test]
fn node_with_other_managers() {
    let scripts = r#""scripts": { "test": "x", "typecheck": "tsc", "format:check": "prettier" }"#;
    for (lock, more, install, run) in [
        ("pnpm-lock.yaml", "", Some("pnpm install --frozen-lockfile"), "pnpm run"),
        ("yarn.lock", "", Some("yarn install --frozen-lockfile"), "yarn run"),
        (
            "other",
            r#", "packageManager": "pnpm@9.0.0", "devDependencies": { "a": "1" }"#,
            Some("pnpm install"),
            "pnpm run",
        ),
        ("other", r#", "packageManager": "yarn@4.0.0""#, None, "yarn run"),
        ("bun.lockb", "", Some("bun install --frozen-lockfile"), "bun run"),
        ("bun.lock", "", Some("bun install --frozen-lockfile"), "bun run"),
    ] {
        let env = repo(&[("package.json", &format!("{{ {scripts} {more} }}")), (lock, "")]);
        let mut wanted: Vec<String> =
            install.map(|words| format!("prepare/install: {words}")).into_iter().collect();
        wanted.extend([
            format!("check/format: {run} format:check"),
            format!("check/types: {run} typecheck"),
            format!("test/test: {run} test"),
        ]);
        assert_eq!(jobs_of(&env), wanted, "{lock}");
    }
    let env = repo(&[("package.json", &format!("{{ {scripts} }}")), ("yarn.lock", ""), (".yarnrc.yml", "")]);
    assert_eq!(jobs_of(&env)[0], "prepare/install: yarn install --immutable");
}

#[test]
fn node_without_checks_or_with_one_that_runs_the_others() {
    let nothing = r#"{ "dependencies": { "a": "1" },
        "scripts": { "test": "echo \"Error: no test specified\" && exit 1", "lint": "" } }"#;
    let env = repo(&[("package.json", nothing)]);
    assert_eq!(jobs_of(&env), ["check/hello: echo \"hello from $LOOM_JOB_NAME\""]);
    let all =
        r#"{ "scripts": { "check": "npm run lint && npm test", "lint": "x", "test": "y", "build": "z" } }"#;
    let env = repo(&[("package.json", all)]);
    assert_eq!(jobs_of(&env), ["check/check: npm run check", "build/build: npm run build"]);
    let env = repo(&[("package.json", "{ nonsense"), ("Makefile", "test:\n")]);
    let output = env.loom(&["init"]).output();
    assert!(
        String::from_utf8(output.stderr).unwrap().starts_with("warning: package.json is not a JSON object")
    );
    assert!(text(&env).contains("make test"));
}

#[test]
fn go() {
    let env = repo(&[
        ("go.mod", "module example.org/app\n\ngo 1.20\n"),
        ("app.go", "package app\n\nfunc Two() int { return 2 }\n"),
    ]);
    assert_eq!(jobs_of(&env), ["check/lint: go vet ./...", "test/test: go test ./..."]);
    if available(&env, &["go", "version"]) {
        passes(&env);
    }
    let env = repo(&[("go.mod", "module example.org/app\n"), (".golangci.yml", "")]);
    assert_eq!(jobs_of(&env)[0], "check/lint: go vet ./...; golangci-lint run");
}

/// What `loom init` writes for the repository, which is valid.
fn golden(name: &str, files: &[(&str, &str)]) {
    let env = repo(files);
    jobs_of(&env);
    insta::assert_snapshot!(format!("init {name}"), text(&env));
}

#[test]
fn each_stack_has_its_workflow() {
    let package =
        r#"{ "workspaces": ["packages/*"], "scripts": { "test": "x", "lint": "y", "build": "z" } }"#;
    golden("npm workspaces", &[("package.json", package), ("package-lock.json", "{}")]);
    golden(
        "cargo",
        &[
            ("Cargo.toml", "[workspace]\nmembers = []\n[workspace.lints.clippy]\ntodo = \"warn\"\n"),
            ("Cargo.lock", "version = 4\n"),
            ("rustfmt.toml", ""),
            (".pre-commit-config.yaml", "repos: []\n"),
        ],
    );
    golden(
        "uv",
        &[
            (
                "pyproject.toml",
                "[tool.ruff.format]\n[tool.pytest]\n[dependency-groups]\ndev = [\"pytest>=8\"]\n",
            ),
            ("uv.lock", ""),
        ],
    );
    golden(
        "poetry",
        &[
            ("pyproject.toml", "[tool.poetry.group.dev.dependencies]\nruff = \"*\"\npytest = \"^8\"\n"),
            ("poetry.lock", ""),
            ("tests/test_app.py", "def test_two():\n    assert True\n"),
        ],
    );
    golden(
        "tox",
        &[("tox.ini", "[tox]\nenv_list = py312\n[testenv]\ncommands = pytest\n"), ("setup.py", "")],
    );
    golden(
        "venv",
        &[
            (
                "pyproject.toml",
                "[build-system]\nrequires = [\"setuptools\"]\n[project]\nname = \"app\"\nversion = \"1\"\n\
                 [project.optional-dependencies]\ntest = [\"pytest\"]\n[tool.ruff]\n",
            ),
            ("requirements-dev.txt", "pytest-cov\n"),
            ("tests/test_app.py", "def test_two():\n    assert True\n"),
        ],
    );
    golden("maven", &[("pom.xml", "<project/>"), ("mvnw", "")]);
    golden("gradle", &[("settings.gradle.kts", ""), ("build.gradle.kts", ""), ("gradlew", "")]);
    golden("cmake", &[("CMakeLists.txt", "project(app)\nenable_testing()\n")]);
    golden("meson", &[("meson.build", "project('app', 'c')\ntest('t', e)\n")]);
    golden("bazel", &[("MODULE.bazel", "module(name = 'app')\n")]);
    golden(
        "mise",
        &[
            ("mise.toml", "[tasks]\nlint = \"ruff check\"\n[tasks.test]\nrun = \"pytest\"\n"),
            ("package.json", r#"{ "scripts": { "build": "z" } }"#),
            ("pnpm-lock.yaml", ""),
            ("pnpm-workspace.yaml", ""),
        ],
    );
    golden(
        "rake",
        &[("Rakefile", "Rake::TestTask.new\nRuboCop::RakeTask.new\n"), ("Gemfile", ""), ("Gemfile.lock", "")],
    );
    golden(
        "folders",
        &[
            ("Cargo.toml", "[workspace]\n"),
            ("Core.Lib/Cargo.toml", "[package]\nname = \"core\"\n"),
            ("web/package.json", r#"{ "scripts": { "build": "x", "test": "y" } }"#),
            ("web/package-lock.json", "{}"),
            ("api/pyproject.toml", "[tool.pytest]\n"),
            ("api/uv.lock", ""),
            ("docs/Makefile", "lint:\n\ttrue\n"),
            ("node_modules/x/package.json", r#"{ "scripts": { "test": "x" } }"#),
            ("with space/package.json", r#"{ "scripts": { "test": "x" } }"#),
        ],
    );
}

#[test]
fn python() {
    let unit = "import unittest\n\n\nclass T(unittest.TestCase):\n    def test_two(self):\n        self.assertEqual(1 + 1, 2)\n";
    let env = repo(&[("pyproject.toml", "[project]\nname = \"app\"\n"), ("tests/test_app.py", unit)]);
    assert_eq!(jobs_of(&env), ["test/test: python3 -m unittest discover -s tests"]);
    if available(&env, &["python3", "--version"]) {
        passes(&env);
    }
    let made = |what: &str| {
        format!(
            "prepare/install: test -e .venv/ready && exit\npython3 -m venv .venv\n.venv/bin/python -m pip install --quiet {what}\ntouch .venv/ready"
        )
    };
    let pytest = "test/test: .venv/bin/python -m pytest".to_owned();
    for (files, wanted) in [
        (&[("setup.py", ""), ("pytest.ini", "[pytest]\n")][..], vec![made("-e . pytest"), pytest.clone()]),
        (&[("setup.cfg", "[metadata]\nname = x\n[tool:pytest]\n")], vec![made("pytest"), pytest.clone()]),
        (&[("setup.py", ""), ("tests/conftest.py", "")], vec![made("-e . pytest"), pytest.clone()]),
        (&[("setup.py", "")], vec!["check/hello: echo \"hello from $LOOM_JOB_NAME\"".to_owned()]),
        (
            &[("requirements.txt", "flask\npytest==8\n"), ("test/test_x.py", "")],
            vec![made("-r requirements.txt pytest"), pytest.clone()],
        ),
        (
            &[("pyproject.toml", "[dependency-groups]\ndev = [\"pytest\"]\n"), ("tests/test_a.py", "")],
            vec![made("--upgrade pip\n.venv/bin/python -m pip install --quiet --group dev pytest"), pytest],
        ),
    ] {
        assert_eq!(jobs_of(&repo(files)), wanted);
    }
}

#[test]
fn cmake_maven_and_gradle() {
    let cmake = "cmake_minimum_required(VERSION 3.10)\nproject(app NONE)\nenable_testing()\nadd_test(NAME t COMMAND true)\n";
    let pom = "<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId>\
               <artifactId>app</artifactId><version>1</version><packaging>pom</packaging></project>\n";
    for (tool, files) in [
        ("cmake", &[("CMakeLists.txt", cmake)][..]),
        ("mvn", &[("pom.xml", pom)]),
        ("gradle", &[("settings.gradle", ""), ("build.gradle", "plugins { id 'base' }\n")]),
    ] {
        let env = repo(files);
        jobs_of(&env);
        if available(&env, &[tool, "--version"]) {
            passes(&env);
        }
    }
}

#[test]
fn the_second_run_finds_what_the_first_one_built() {
    let env = repo(&[
        ("Cargo.toml", "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
        ("Cargo.lock", "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n"),
        ("src/lib.rs", "#[test]\nfn adds() {\n    assert_eq!(1 + 1, 2);\n}\n"),
        (".gitignore", "/target\n"),
    ]);
    jobs_of(&env);
    passes(&env);
    let run = passes(&env);
    let hits: Vec<bool> = run
        .run
        .receipt
        .executor_receipt
        .jobs
        .values()
        .flat_map(|job| &job.caches)
        .map(|cache| cache.hit)
        .collect();
    assert_eq!(hits, [true]);
}

#[test]
fn folders_are_those_of_the_copy_and_no_two_jobs_share_a_name() {
    let make = "test:\n\ttrue\n";
    let env = repo(&[
        (".gitignore", "/out\n"),
        ("out/Makefile", make),
        ("Web/Makefile", make),
        ("web/Makefile", make),
        ("lib/Makefile", make),
    ]);
    assert_eq!(jobs_of(&env), ["test/web-test: cd Web && make test", "test/lib-test: cd lib && make test"]);
    std::fs::remove_file(env.repo().join(layout::DEFAULT_WORKFLOW)).unwrap();
    let output = env.loom(&["init", "--print"]).output();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("warning: web is passed over: its jobs would be called like others\n"),
        "{stderr}"
    );
    if available(&env, &["make", "--version"]) {
        env.write(layout::DEFAULT_WORKFLOW, std::str::from_utf8(&output.stdout).unwrap());
        passes(&env);
    }
}

#[test]
fn printed_it_is_the_same_and_no_file() {
    let env = repo(&[("Makefile", "test:\n\ttrue\n")]);
    let printed = env.loom(&["init", "--print"]).output();
    assert!(printed.status.success() && !env.repo().join(".loom").exists(), "{printed:?}");
    jobs_of(&env);
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), text(&env));
    // A schema that is there stays as it is.
    let path = env.repo().join(".loom");
    std::fs::remove_file(path.join("workflow.yml")).unwrap();
    std::fs::write(path.join("workflow.schema.json"), "mine").unwrap();
    assert!(env.loom(&["init"]).output().status.success());
    assert_eq!(std::fs::read(path.join("workflow.schema.json")).unwrap(), b"mine");
}

#[test]
fn missing_tools_and_descriptions_for_others_are_named() {
    let env = repo(&[
        ("pom.xml", "<project/>"),
        (".gitlab-ci.yml", ""),
        (".github/workflows/a.yml", ""),
        (".github/workflows/b.yaml", ""),
    ]);
    let output = env.loom(&["init"]).env("PATH", "/nowhere").output();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let line = text(&env).lines().position(|line| line.contains("- mvn")).unwrap() + 1;
    for words in [
        &*format!("warning: .loom/workflow.yml:{line}: `mvn` is not on the PATH; job `test` needs it\n"),
        "note: .gitlab-ci.yml (GitLab CI) is not converted",
        "note: .github/workflows (2 workflows of GitHub Actions) is not converted",
    ] {
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn make_wins_over_what_the_language_would_do() {
    let makefile = "CC := cc\n.PHONY: test\nall: build\nbuild:\n\techo built\ntest: build\n\techo tested\n";
    let env = repo(&[("Makefile", makefile), ("go.mod", "module example.org/app\n")]);
    assert_eq!(jobs_of(&env), ["check/lint: go vet ./...", "test/test: make test"]);
    let env = repo(&[("Makefile", makefile), (".gitignore", "x\n")]);
    assert_eq!(jobs_of(&env), ["test/test: make test"]);
    if available(&env, &["make", "--version"]) {
        passes(&env);
    }
    // A check that runs the tests leaves nothing for the language to test.
    let env =
        repo(&[("GNUmakefile", "check: lint test\nlint:\ntest:\n"), ("go.mod", "module example.org/app\n")]);
    assert_eq!(jobs_of(&env), ["check/check: make check"]);
}

#[test]
fn task_and_just() {
    let taskfile = "version: '3'\ntasks:\n  lint: golangci-lint run\n  test:\n    cmds: [go test]\n  check:\n    internal: true\n";
    assert_eq!(
        jobs_of(&repo(&[("Taskfile.yml", taskfile)])),
        ["check/lint: task lint", "test/test: task test"]
    );
    let justfile =
        "set shell := ['sh', '-c']\n\ntest *args:\n    echo {{args}}\n\n[private]\nlint:\n    true\n";
    assert_eq!(jobs_of(&repo(&[("justfile", justfile)])), ["test/test: just test"]);
    let env = repo(&[("Taskfile.yml", "tasks: ["), ("justfile", justfile)]);
    let output = env.loom(&["init"]).output();
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("warning: Taskfile.yml is not valid YAML"));
}

#[test]
fn several_languages_share_no_name() {
    let env = repo(&[
        ("Cargo.toml", "[package]\nname = \"app\"\nversion = \"0.1.0\"\n"),
        ("package.json", r#"{ "scripts": { "test": "x", "lint": "y" } }"#),
        ("package-lock.json", "{}"),
    ]);
    assert_eq!(
        jobs_of(&env),
        [
            "prepare/node-install: test -e node_modules/.package-lock.json || npm ci",
            "check/node-lint: npm run lint",
            "test/cargo-test: cargo test",
            "test/node-test: npm test",
        ]
    );
}

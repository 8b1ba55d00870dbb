//! One rule of the language, two small files: `tests/fixtures/ok/<rule>.yml` with the Graph IR that it compiles to, and
//! `tests/fixtures/bad/<rule>.yml` with the errors that it gives. A good one that gives warnings has a `.warn` beside it.
//!
//! Files that a fixture includes stand in a folder beside it that has its name: `<rule>/.loom/templates/...`.
//! `LOOM_BLESS=1` writes what is expected instead of comparing; read the difference before you commit it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use loom_workflow::{LoadError, Loader, load};

struct Beside(PathBuf);

impl Loader for Beside {
    fn load(&self, path: &str) -> Result<String, LoadError> {
        fs_err::read_to_string(self.0.join(path)).map_err(|_| LoadError::new("no such file"))
    }
}

#[test]
fn good_workflows_compile_to_their_graph() {
    for_each("ok", "json", |name, text, loader| {
        let loaded = load(name, text, loader);
        let Some(plan) = loaded.plan else {
            return format!("no plan:\n{}", loaded.diagnostics.render_short());
        };
        serde_json::to_string_pretty(&plan.graph_ir()).unwrap() + "\n"
    });
}

#[test]
fn good_workflows_give_their_warnings() {
    for_each("ok", "warn", |name, text, loader| load(name, text, loader).diagnostics.render_short());
}

#[test]
fn bad_workflows_give_their_errors() {
    for_each("bad", "err", |name, text, loader| {
        let loaded = load(name, text, loader);
        assert_eq!(loaded.plan.is_none(), loaded.diagnostics.has_errors(), "{name}");
        assert!(!loaded.diagnostics.render_excerpt(false).is_empty(), "{name}");
        if loaded.plan.is_some() {
            return "no error\n".to_owned();
        }
        loaded.diagnostics.render_short()
    });
}

/// The example is split into files; in one file it is the fixture `stage0`.
#[test]
fn the_stage0_example_means_what_it_does_in_one_file() {
    let top = Path::new("../..");
    let example = top.join("examples/stage0");
    let text = fs_err::read_to_string(example.join(".loom/workflow.yml")).unwrap();
    let loaded = load(".loom/workflow.yml", &text, &Beside(example));
    assert_eq!(loaded.diagnostics.render_short(), "");
    let plan = loaded.plan.unwrap();
    let expected = fs_err::read_to_string(top.join("tests/fixtures/ok/stage0.json")).unwrap();
    assert_eq!(serde_json::to_string_pretty(&plan.graph_ir()).unwrap() + "\n", expected);
    assert_eq!(plan.not_executable().iter().count(), 0);
}

#[test]
fn nothing_is_wrong_with_the_examples() {
    let top = Path::new("../..");
    let examples = fs_err::read_dir(top.join("examples")).unwrap().map(|entry| entry.unwrap().path());
    for root in examples.chain([top.to_owned()]) {
        let text = fs_err::read_to_string(root.join(".loom/workflow.yml")).unwrap();
        let loaded = load(".loom/workflow.yml", &text, &Beside(root.clone()));
        assert_eq!(loaded.diagnostics.render_short(), "", "{}", root.display());
    }
}

fn for_each(folder: &str, extension: &str, show: impl Fn(&str, &str, &Beside) -> String) {
    let folder = Path::new("../../tests/fixtures").join(folder);
    let mut cases: Vec<PathBuf> = fs_err::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "no fixtures in {}", folder.display());
    let bless = option_env!("LOOM_BLESS").is_some();
    let mut wrong = String::new();
    for case in cases {
        let name = case.file_name().unwrap().to_str().unwrap();
        let text = fs_err::read_to_string(&case).unwrap();
        let shown = show(name, &text, &Beside(case.with_extension("")));
        let expected_path = case.with_extension(extension);
        if bless {
            if shown.is_empty() {
                let _ = fs_err::remove_file(&expected_path);
            } else {
                fs_err::write(&expected_path, shown).unwrap();
            }
            continue;
        }
        let expected = fs_err::read_to_string(&expected_path).unwrap_or_default();
        if expected != shown {
            let _ = writeln!(wrong, "--- {name}: expected\n{expected}--- {name}: got\n{shown}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}LOOM_BLESS=1 writes what was got");
}

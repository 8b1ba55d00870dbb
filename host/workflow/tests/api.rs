//! What callers see beside Graph IR: steps, explanations, excerpts, what cannot run yet.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use loom_workflow::{LoadError, Loaded, Loader, NoFiles, Plan, Severity, load};

fn plan(text: &str) -> Plan {
    let Loaded { plan, diagnostics, .. } = load("workflow.yml", text, &NoFiles);
    plan.ok_or_else(|| diagnostics.render_short()).expect("a plan")
}

#[test]
fn a_step_is_an_entry_without_the_line_break_at_its_end() {
    let plan = plan(
        "version: v1\nstages: [ci]\njob:\n  stage: ci\n  target: linux\n  script:\n    - one\n    - |\n      only\n    - |\n      first\n      second\n    - >-\n      folded\n      line\n    - \"a\\n\\n  \\n\"\n    - \"a\\nb\"\n",
    );
    assert_eq!(plan.jobs[0].script, ["one", "only", "first\nsecond", "folded line", "a\n\n  ", "a\nb"]);
}

#[test]
fn references_that_remain_are_filled_in_by_the_caller() {
    let plan = plan(
        "version: v1\nstages: [ci]\nvariables: {A: \"$LOOM_RUN_ID/$B\", B: \"${HOME}x$$HOME\"}\njob: {stage: ci, target: linux, script: [x]}\n",
    );
    let variable = &plan.jobs[0].variables[0];
    assert_eq!(variable.key, "A");
    let mut asked = Vec::new();
    let filled = loom_workflow::Template::fill(&variable.value, &mut |name| {
        asked.push(name.to_owned());
        (name == "HOME").then(|| "/home".to_owned())
    });
    assert_eq!(asked, ["LOOM_RUN_ID", "HOME"]);
    assert_eq!(filled, "$LOOM_RUN_ID//homex$HOME");
}

#[test]
fn every_keyword_that_cannot_run_yet_is_named_once_for_each_job() {
    let plan = plan(
        "version: v1
stages: [ci]
default: {target: linux}
plain: {stage: ci, script: [x], cache: [], timeout: 5s, retry: {max: 1}, allow_failure: true}
heavy:
  stage: ci
  script: [x]
  image: alpine
  services: [redis]
  secrets: {A: {ref: env://A}, B: {ref: env://B}}
  cache: {paths: [x]}
  artifacts: {paths: [x]}
  needs: [{job: plain, artifacts: true}]
other: {stage: ci, script: [x], provider: custom}
",
    );
    let found: Vec<_> =
        plan.not_executable().iter().map(|item| (item.line, item.code, item.hint.as_str())).collect();
    let hint = |keyword: &str, job: &str| {
        format!("remove `{keyword}` from job `{job}`: this version of Loom cannot run it yet")
    };
    assert_eq!(found, [(14, "WF_NOT_SUPPORTED", hint("provider", "other").as_str())]);
}

struct Template;

impl Loader for Template {
    fn load(&self, path: &str) -> Result<String, LoadError> {
        assert_eq!(path, ".loom/templates/t.yml");
        Ok(".t:\n  script: [from include]\n  variables:\n    B: t\n    C: t\n".to_owned())
    }
}

/// The ids of the jobs that run where `chosen` are asked for.
fn needed(plan: &Plan, chosen: &[&str]) -> Vec<String> {
    let mut flags: Vec<bool> = plan.jobs.iter().map(|job| chosen.contains(&job.id.as_str())).collect();
    plan.add_needed(&mut flags, |_| false);
    plan.jobs.iter().zip(flags).filter(|(_, chosen)| *chosen).map(|(job, _)| job.id.to_string()).collect()
}

#[test]
fn a_job_needs_what_it_names_or_else_all_earlier_stages() {
    let plan = plan(
        "version: v1
stages: [prepare, build, unused, test]
default: {target: linux}
install: {stage: prepare, script: [x]}
tools: {stage: prepare, script: [x]}
app: {stage: build, needs: [install], script: [x]}
docs: {stage: build, script: [x]}
alone: {stage: test, needs: [], script: [x]}
perhaps: {stage: test, needs: [{job: gone, optional: true}], script: [x]}
unit: {stage: test, needs: [app], script: [x]}
all: {stage: test, script: [x]}
report: {stage: test, needs: [unit, docs], script: [x]}
",
    );
    for (chosen, expected) in [
        (&["install"][..], &["install"][..]),
        (&["docs"], &["install", "tools", "docs"]),
        (&["unit"], &["install", "app", "unit"]),
        (&["alone"], &["alone"]),
        (&["perhaps"], &["perhaps"]),
        (&["all"], &["install", "tools", "app", "docs", "all"]),
        (&["report"], &["install", "tools", "app", "docs", "unit", "report"]),
        (&["alone", "app"], &["install", "app", "alone"]),
        (&[], &[]),
    ] {
        assert_eq!(needed(&plan, chosen), expected, "{chosen:?}");
    }
}

#[test]
fn an_explanation_names_who_gave_each_value_and_where() {
    let text = "version: v1
stages: [ci]
include: [{local: .loom/templates/t.yml}]
variables: {A: root}
default:
  target: linux
  cache: [{name: n, paths: [x]}]
job:
  extends: .t
  stage: ci
  variables: {C: job}
  cache: [{name: n, policy: pull}]
";
    let loaded = load("w.yml", text, &Template);
    let plan = loaded.plan.expect("a plan");
    let lines: Vec<String> = plan
        .explain("job")
        .expect("the job is there")
        .iter()
        .map(|origin| {
            format!(
                "{} = {} ({} {}:{}:{})",
                origin.key, origin.written, origin.from, origin.file, origin.line, origin.column
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            "stage = ci (job job w.yml:10:10)",
            "target = linux (default w.yml:6:11)",
            "script.0 = from include (template .t .loom/templates/t.yml:2:12)",
            "variables.A = root (workflow w.yml:4:16)",
            "variables.B = t (template .t .loom/templates/t.yml:4:8)",
            "variables.C = job (job job w.yml:11:18)",
            "cache.n.paths = [x] (default w.yml:7:28)",
            "cache.n.policy = pull (job job w.yml:12:29)",
        ]
    );
    assert_eq!(plan.explain("gone"), None);
}

#[test]
fn an_excerpt_shows_the_line_and_a_caret() {
    let text = "version: v1\nstages: [ci]\njob:\n  stage: ci\n  target: linux\n  scirpt: [x]\n  cache: {path: [x]}\n";
    let diagnostics = load("w.yml", text, &NoFiles).diagnostics;
    assert_eq!(
        diagnostics.render_excerpt(false),
        "error[WF_SCHEMA_V1]: /job/scirpt: rename unknown key `scirpt`; did you mean `script`?
 --> w.yml:6:3
  |
6 |   scirpt: [x]
  |   ^^^^^^

error[WF_SCHEMA_V1]: /job/cache/paths: add required key paths: a non-empty list of paths to keep
 --> w.yml:7:10
  |
7 |   cache: {path: [x]}
  |          ^^^^^^^^^^^

error[WF_SCHEMA_V1]: /job/cache/path: remove unknown cache key; allowed keys are name, disabled, paths, key, fallback_keys, policy, when
 --> w.yml:7:11
  |
7 |   cache: {path: [x]}
  |           ^^^^ did you mean `paths`?
"
    );
    let styled = diagnostics.render_excerpt(true);
    assert!(styled.contains("\u{1b}["), "{styled}");
}

#[test]
fn an_excerpt_of_a_long_line_is_cut_and_keeps_its_column() {
    let text = format!("version: v1\nstages: [ci]\nvariables: {{A: \"{}\", b: ä}}\n", "ä".repeat(5000));
    let excerpt = load("w.yml", &text, &NoFiles).diagnostics.render_excerpt(false);
    assert!(excerpt.contains("w.yml:3:5020"), "{excerpt}");
    assert!(excerpt.lines().all(|line| line.chars().count() < 250), "{excerpt}");
}

#[test]
fn no_name_steers_a_terminal() {
    let text = "version: v1
stages: [ci]
include: [{local: \".loom/templates/\\e.yml\"}]
\".\\e[31m\": {extends: \".\\e[31m\"}
\".mo\\tre\": {}
\"j\\n\": {stage: ci, target: linux, script: [x], services: [a], extends: .mo-re, needs: [\"j\\r\"]}
";
    let diagnostics = load("w.yml", text, &NoFiles).diagnostics;
    let short = diagnostics.render_short();
    assert!(short.contains("did you mean `.mo\\tre`?"), "{short}");
    assert!(short.contains(".^[[31m -> .^[[31m"), "{short}");
    assert_eq!(short.lines().count(), diagnostics.iter().count(), "{short}");
    let excerpt = diagnostics.render_excerpt(false);
    assert!(!(short + &excerpt).contains(|char: char| char.is_control() && char != '\n'));
}

#[test]
fn a_hint_is_no_longer_than_anybody_reads() {
    let name = "n".repeat(100_000);
    let text = format!("version: v1\nstages: [ci]\n? .{name}\n: {{extends: .{name}}}\n");
    let diagnostics = load("w.yml", &text, &NoFiles).diagnostics;
    assert!(diagnostics.has_errors());
    assert!(diagnostics.render_short().len() < 30_000);
}

#[test]
fn the_contract_gets_errors_and_no_warnings() {
    let loaded = load("w.yml", "stages: [ci]\njob: {stage: ci, target: linux}\n", &NoFiles);
    assert!(loaded.diagnostics.iter().any(|item| item.severity == Severity::Warning));
    let errors = loaded.diagnostics.to_contract();
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0].pointer.as_str(), errors[0].line, errors[0].column), ("/job/script", 2, 1));
}

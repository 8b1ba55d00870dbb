//! The workflow's text.

use super::{Draft, Job, Kind};

/// The schema's name, in the folder of the workflow.
pub(super) const SCHEMA: &str = "workflow.schema.json";

/// What the file begins with: it is for people, and for their editors.
const HEAD: &str = "\
# yaml-language-server: $schema=workflow.schema.json
# The workflow of this repository. `loom check` judges it, `loom run --local` runs it.
";

/// Says hello, where there is nothing else to do.
const HELLO: &str = r#"version: v1

# Stages run one after the other, the jobs of a stage at once.
stages: [check]

default:
  target: linux

# Each entry of `script` is a step: a shell command in a copy of the repository. Put the repository's own checks here.
hello:
  stage: check
  script:
    - echo "hello from $LOOM_JOB_NAME"
"#;

/// `draft` as a workflow file.
pub(super) fn page(draft: &Draft) -> String {
    if draft.jobs.is_empty() {
        return format!("{HEAD}{HELLO}");
    }
    let stages: Vec<&str> = [Kind::Install, Kind::Check, Kind::Build, Kind::Test]
        .into_iter()
        .map(Kind::stage)
        .filter(|stage| {
            let all = draft.jobs.iter().chain(&draft.suggestions);
            all.map(|job| job.check.kind.stage()).any(|used| used == *stage)
        })
        .collect();
    let mut text = format!(
        "{HEAD}# `loom init` wrote it from what it found; it is yours to change.\n\
         version: v1\n\n\
         # Stages run one after the other, the jobs of a stage at once.\n\
         stages: [{}]\n\n\
         default:\n  target: linux\n",
        stages.join(", ")
    );
    let has_cache = draft.jobs.iter().any(|job| job.check.cache.is_some());
    let has_needs = draft.jobs.iter().any(|job| !job.needs.is_empty());
    if has_cache || has_needs {
        text.push('\n');
    }
    if has_cache {
        text.push_str(
            "# `cache` keeps folders for the next run, under a key that is made from files; `loom cache why JOB` says what\n\
             # became of it.\n",
        );
    }
    if has_needs {
        text.push_str(
            "# `needs` is what a job cannot do without: `loom run --local --job JOB` runs that first.\n",
        );
    }
    for job in &draft.jobs {
        text.push_str(&format!("\n# {}\n", job.check.because));
        text.extend(lines(job).iter().map(|line| format!("{line}\n")));
    }
    if !draft.suggestions.is_empty() {
        text.push_str("\n# Nothing in the repository asks for what follows; without its # it is a job.\n");
    }
    for job in &draft.suggestions {
        text.extend(lines(job).iter().map(|line| format!("#{line}\n")));
    }
    text
}

/// The number of the line on which `step` stands in `text`, from 1.
pub(super) fn line_of(text: &str, step: &str) -> Option<usize> {
    let first = step.lines().next().unwrap_or_default();
    let is_it = |line: &str| line.trim_start().trim_start_matches("- ") == first;
    text.lines().position(is_it).map(|at| at + 1)
}

fn lines(job: &Job) -> Vec<String> {
    let check = &job.check;
    let mut lines = vec![format!("{}:", job.name), format!("  stage: {}", check.kind.stage())];
    if !job.needs.is_empty() {
        lines.push(format!("  needs: [{}]", job.needs.join(", ")));
    }
    if !check.variables.is_empty() {
        lines.push("  variables:".to_owned());
        lines.extend(check.variables.iter().map(|(name, value)| format!("    {name}: {}", scalar(value))));
    }
    if let Some(cache) = &check.cache {
        let list = |items: &[String]| items.iter().map(|item| scalar(item)).collect::<Vec<_>>().join(", ");
        lines.push("  cache:".to_owned());
        lines.push(format!("    key: {{ prefix: {}, files: [{}] }}", cache.prefix, list(&cache.files)));
        if cache.falls_back {
            lines.push(format!("    fallback_keys: [{}-]", cache.prefix));
        }
        lines.push(format!("    paths: [{}]", list(&cache.paths)));
    }
    lines.push("  script:".to_owned());
    for step in &check.script {
        match step.contains('\n') {
            true => {
                lines.push("    - |".to_owned());
                lines.extend(step.lines().map(|line| format!("      {line}")));
            }
            false => lines.push(format!("    - {step}")),
        }
    }
    lines
}

/// `text` as a YAML scalar, in quotes where it could be read as something else.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-');
    let is_word = ["true", "false", "null", "yes", "no", "on", "off"].contains(&text);
    if text.chars().all(plain) && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '.') && !is_word
    {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

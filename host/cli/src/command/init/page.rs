//! The workflow's text.

use super::{Draft, Job, Kind};

/// Says hello, where there is nothing else to do.
const HELLO: &str = r#"# The workflow of this repository. `loom check` judges it, `loom run --local` runs it.
version: v1

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
        return HELLO.to_owned();
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
        "# The workflow of this repository. `loom check` judges it, `loom run --local` runs it.\n\
         # `loom init` wrote it from what it found; it is yours to change.\n\
         version: v1\n\n\
         # Stages run one after the other, the jobs of a stage at once.\n\
         stages: [{}]\n\n\
         default:\n  target: linux\n",
        stages.join(", ")
    );
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

fn lines(job: &Job) -> Vec<String> {
    let mut lines = vec![
        format!("{}:", job.name),
        format!("  stage: {}", job.check.kind.stage()),
        "  script:".to_owned(),
    ];
    lines.extend(job.check.script.iter().map(|step| format!("    - {step}")));
    lines
}

//! How long a workflow takes from text to plan, and on to Graph IR as text.

use std::fmt::Write as _;

use divan::Bencher;
use divan::counter::BytesCount;
use loom_workflow::{NoFiles, load};

fn main() {
    divan::main();
}

/// A workflow of `jobs` jobs, about a kilobyte each, with what real ones have: templates, needs, caches, references.
fn workflow(jobs: usize) -> String {
    let mut text = String::from(
        "version: v1
stages: [build, test, deploy]
variables: {REGISTRY: registry.example.org, TAG: latest}
default:
  target: linux
  cache:
    - name: store
      key: {prefix: store, files: [lock.yaml, \"apps/**/lock.yaml\"]}
      paths: [.store]
  variables: {STORE: .store, STORE_CACHE: $STORE/cache}
.base:
  image: registry.example.org/tools:1
  variables: {LEVEL: info}
  retry: {max: 1}
",
    );
    for job in 0..jobs {
        let stage = ["build", "test", "deploy"][job * 3 / jobs];
        let needs = match job {
            0 => String::new(),
            _ => format!("  needs: [job-{}, {{job: job-{}, optional: true}}]\n", job - 1, job / 2 + jobs),
        };
        let _ = write!(
            text,
            "job-{job}:
  extends: .base
  stage: {stage}
{needs}  variables:
    NAME: service-{job}
    IMAGE: $REGISTRY/${{NAME}}:$TAG
    PROJECT: ${{LOOM_PROJECT_DIR}}/apps/service-{job}
  cache:
    - {{name: store, policy: pull}}
  artifacts:
    paths: [\"apps/service-{job}/dist/**\"]
    when: always
  timeout: 30m
  script:
    - echo \"building service {job}\"
    - make -C apps/service-{job} install lint test build CONFIG=release
    - |
      set -u
      for target in amd64 arm64; do
        make -C apps/service-{job} package TARGET=\"$target\"
      done
    - >-
      tar --create --file dist/service-{job}.tar
      --directory apps/service-{job} dist
    # {}
",
            "a comment as people write them ".repeat(6)
        );
    }
    text
}

#[divan::bench(args = [10, 200, 1000])]
fn check(bencher: Bencher<'_, '_>, jobs: usize) {
    let text = workflow(jobs);
    bencher.counter(BytesCount::of_str(&text)).bench(|| {
        let loaded = load("workflow.yml", &text, &NoFiles);
        assert!(loaded.plan.is_some(), "{}", loaded.diagnostics.render_short());
        loaded
    });
}

#[divan::bench(args = [10, 200, 1000])]
fn compile(bencher: Bencher<'_, '_>, jobs: usize) {
    let text = workflow(jobs);
    bencher.counter(BytesCount::of_str(&text)).bench(|| {
        let plan = load("workflow.yml", &text, &NoFiles).plan;
        plan.map(|plan| serde_json::to_string_pretty(&plan.graph_ir()))
    });
}

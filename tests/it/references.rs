//! Where variables may be referred to: a reference is filled in or refused, never silently taken as it is written.

use crate::docker::{busybox, passed};
use crate::{RunOutput, TestEnv, env};

/// Where a reference stands in a workflow, as `REF`.
struct Place {
    name: &'static str,
    /// The keywords of the job `job`.
    keywords: &'static str,
    /// What becomes of a name that nothing in the workflow sets.
    unknown: Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unknown {
    /// The check refuses it, with what is known.
    Refused,
    /// It is filled in from the environment when the job starts, and warned of where it is not set there either.
    FromEnvironment,
    /// The shell, or a program, is given it as it is written.
    AsWritten,
}

const PLACES: [Place; 23] = {
    use Unknown::{AsWritten, FromEnvironment, Refused};
    const fn place(name: &'static str, keywords: &'static str, unknown: Unknown) -> Place {
        Place { name, keywords, unknown }
    }
    [
        place("variables", "variables: {V: 'REF'}", FromEnvironment),
        place("matrix", "parallel: {matrix: [{V: ['REF']}]}", FromEnvironment),
        place(
            "services.variables",
            "image: a, services: [{name: b, variables: {V: 'REF'}}]",
            FromEnvironment,
        ),
        place("cache.key", "cache: {key: 'REF', paths: [c]}", Refused),
        place("cache.key.prefix", "cache: {key: {prefix: 'REF'}, paths: [c]}", Refused),
        place("cache.key.template", "cache: {key: {template: 'REF'}, paths: [c]}", Refused),
        place("cache.key.files", "cache: {key: {files: ['REF']}, paths: [c]}", Refused),
        place("cache.fallback_keys", "cache: {key: k, fallback_keys: ['REF'], paths: [c]}", Refused),
        place("cache.paths", "cache: {paths: ['REF']}", Refused),
        place("artifacts.paths", "artifacts: {paths: ['REF']}", Refused),
        place("artifacts.exclude", "artifacts: {paths: [a], exclude: ['REF']}", Refused),
        place("image", "image: 'REF'", Refused),
        place("image.name", "image: {name: 'REF'}", Refused),
        place("image.user", "image: {name: a, user: 'REF'}", Refused),
        place("image.platform", "image: {name: a, platform: 'REF'}", Refused),
        place("build.context", "image: {name: a, build: {context: 'REF', dockerfile: d}}", Refused),
        place("build.dockerfile", "image: {name: a, build: {context: c, dockerfile: 'REF'}}", Refused),
        place(
            "build.args",
            "image: {name: a, build: {context: c, dockerfile: d, args: {A: 'REF'}}}",
            Refused,
        ),
        place("build.target", "image: {name: a, build: {context: c, dockerfile: d, target: 'REF'}}", Refused),
        place("services", "image: a, services: ['REF']", Refused),
        place("services.name", "image: a, services: [{name: 'REF'}]", Refused),
        place("image.entrypoint", "image: {name: a, entrypoint: ['REF']}", AsWritten),
        place("services.command", "image: a, services: [{name: b, command: ['REF']}]", AsWritten),
    ]
};

#[test]
fn a_reference_is_filled_in_or_refused_wherever_it_stands() {
    let env = env("");
    for Place { name, keywords, unknown } in PLACES {
        let check = |reference: &str| {
            let keywords = keywords.replace("REF", reference);
            let set = if keywords.contains("variables: {V") { "" } else { ", variables: {JOB_SET: jobs}" };
            env.write(
                ".loom/workflow.yml",
                &format!(
                    "version: v1\nstages: [ci]\nvariables: {{SET: workflows}}\n\
                     job: {{stage: ci, target: linux, {keywords}{set}, script: [x]}}\n"
                ),
            );
            let output = env.loom(&["check"]).output();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        for known in ["$CI_JOB_NAME", "$SET", "${SET}x", "a$$b"] {
            assert_eq!(check(known).0, Some(0), "{name}: {known}: {}", check(known).1);
        }
        // The services' and the job's own variables take the place of the job's in this table.
        if !keywords.contains("variables: {V") {
            assert_eq!(check("$JOB_SET").0, Some(0), "{name}: {}", check("$JOB_SET").1);
        }
        let (code, said) = check("$NOPE");
        if unknown == Unknown::Refused {
            assert_eq!(code, Some(1), "{name}: {said}");
            assert!(said.starts_with(".loom/workflow.yml:4:"), "{name}: {said}");
            assert!(said.contains("`NOPE` in `$NOPE` is set nowhere: "), "{name}: {said}");
            for known in ["CI_COMMIT_REF_SLUG", "JOB_SET", "SET"] {
                assert!(said.contains(&format!(" {known}")), "{name}: {said}");
            }
        } else {
            assert_eq!(code, Some(0), "{name}: {said}");
        }
        // What is no reference and looks like one.
        let (code, said) = check("${NOPE:-x}");
        let read = unknown == Unknown::AsWritten;
        assert_eq!(code, Some(if read { 0 } else { 1 }), "{name}: {said}");
    }
}

/// The lines of the job's first step.
fn said(run: &RunOutput) -> Vec<String> {
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    run.run.output("job", "01")
}

#[test]
fn on_the_host_every_place_gets_the_value() {
    for (reference, value) in [("$CI_COMMIT_REF_SLUG", "feature-one"), ("$SET", "w"), ("$JOB_SET", "w-j")] {
        let env = env(&r#"version: v1
stages: [ci]
variables: {SET: w}
job:
  stage: ci
  target: linux
  variables: {JOB_SET: "$SET-j", V: "<REF>", CI_PROJECT_NAME: app}
  cache:
    - {name: key, key: "key-REF", paths: ["cached/REF"]}
    - {name: prefix, key: {prefix: "prefix-REF"}, paths: ["$CI_PROJECT_DIR/b"]}
    - {name: template, key: {template: "template-${CI_JOB_NAME}-REF"}, paths: [c]}
  artifacts: {paths: ["$CI_PROJECT_DIR/out-REF/", "a$$b"], exclude: ["out-REF/$CI_JOB_NAME"]}
  script:
    - echo "$V"; mkdir -p "out-$W" "cached/$W" b c; touch "out-$W/kept" "out-$W/job" 'a$b' "cached/$W/x" b/x c/x
"#
        .replace("REF", reference)
        .replace("$W", value));
        env.commit_all();
        let mut git = std::process::Command::new("git");
        git.args(["-C", &env.repo().to_string_lossy(), "checkout", "-q", "-b", "feature/one"]);
        assert!(loom_tests::status(&mut git).unwrap().success());
        let run = env.run(&[]);
        assert_eq!(said(&run), [format!("<{value}>")], "{reference}");
        let artifacts = run.run.job("job").artifacts.unwrap();
        let kept = |path: &str| format!("jobs/job/artifacts/{path}");
        assert_eq!(artifacts.paths, [kept("a$b"), kept(&format!("out-{value}/kept"))], "{reference}");
        let list = env.loom(&["cache", "list"]).output();
        let list = String::from_utf8(list.stdout).unwrap();
        for key in [format!("key-{value}"), format!("prefix-{value}"), format!("template-job-{value}")] {
            assert!(list.contains(&key), "{reference}: {key} in {list}");
        }
        let shown = env.loom(&["cache", "show", &format!("key-{value}")]).output();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains(&format!("cached/{value}/x")), "{reference}: {shown}");
    }
}

#[test]
fn a_path_that_comes_to_one_outside_fails_the_job() {
    let env = env(r#"version: v1
stages: [ci]
job: {stage: ci, target: linux, variables: {UP: "$HOME"}, artifacts: {paths: ["$UP/x"]}, script: ["true"]}
"#);
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 1);
    assert!(run.stderr.contains("artifacts could not be taken out: `/"), "{}", run.stderr);
}

#[test]
fn a_variable_that_refers_to_itself_means_the_one_below() {
    let env = env(r#"version: v1
stages: [ci]
variables: {PATH: "$CI_PROJECT_DIR/bin:$PATH", OUTER: "$OUTER -w", CI: "$CI-ci", UNSET: "<$UNSET>"}
default: {target: linux}
.base: {variables: {OUTER: "$OUTER -t"}}
job:
  stage: ci
  extends: .base
  variables: {PATH: "$PATH:$CI_PROJECT_DIR/more", OUTER: "$OUTER -j", FOUND: "$OUTER!"}
  script: ["mine; other; echo $OUTER; echo $FOUND; echo $CI; echo $UNSET"]
"#);
    for (path, word) in [("bin/mine", "mine"), ("more/other", "other")] {
        env.write(path, &format!("#!/bin/sh\necho {word}\n"));
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(env.repo().join(path), mode).unwrap();
    }
    let run = env.loom(&["run", "--local"]).env("OUTER", "o").run();
    assert_eq!(said(&run), ["mine", "other", "o -w -t -j", "o -w -t -j!", "true-ci", "<>"], "{}", run.stderr);
    assert!(run.stderr.contains("variable `UNSET` is referred to but not set"), "{}", run.stderr);
}

fn in_images(image: &str, job: &str) -> TestEnv {
    let (name, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
    env(&format!(
        "version: v1\nstages: [ci]\nvariables: {{TAG: '{tag}', DIR: ctx}}\ndefault: {{target: linux}}\n{}",
        job.replace("IMAGE_HERE", name)
    ))
}

#[test]
fn images_and_their_builds_get_the_value() {
    let Some(image) = busybox() else { return };
    let env = in_images(
        &image,
        r#"job:
  stage: ci
  variables: {PATH: "/tools:$PATH", WHO: "0"}
  image: {name: "IMAGE_HERE:$TAG", user: "$WHO"}
  script: ["echo $PATH; id -u; echo $CI_JOB_IMAGE"]
built:
  stage: ci
  image:
    name: "loom-test/references-$CI_JOB_NAME:$TAG"
    build: {context: $DIR, dockerfile: "$CI_PROJECT_DIR/$DIR/Dockerfile", args: {A: "v-$TAG-$CI_JOB_NAME-$CI_COMMIT_SHORT_SHA$$"}, target: "$CI_JOB_STAGE"}
  script: ["echo $A"]
"#,
    );
    env.write("ctx/Dockerfile", &format!("FROM {image} AS ci\nARG A\nENV A=$A\nFROM ci\nRUN false\n"));
    let run = passed(env.run(&[]));
    let tag = image.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let image = if image.contains(':') { image.clone() } else { format!("{image}:latest") };
    let said = run.run.output("job", "01");
    assert!(said[0].starts_with("/tools:/"), "{said:?}");
    assert_eq!(said[1..], ["0".to_owned(), image]);
    assert_eq!(run.run.output("built", "01"), [format!("v-{tag}-built-$")]);
}

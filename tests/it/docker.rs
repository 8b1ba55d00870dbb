//! Jobs in containers, on a real daemon. Where there is none, these tests say so and pass, unless
//! `LOOM_TESTS_NEED_DOCKER` is set.

use std::path::{Path, PathBuf};

use loom_contract::error::code;
use loom_contract::status::{SkipReason, Status};
use loom_docker_testimage::{self as testimage, Image, SOCKET};
use loom_tests::{RunOutput, TestEnv, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use crate::env;

/// The name of an image that has all of busybox; none where there is no daemon.
pub(crate) fn busybox() -> Option<String> {
    image(Image { name: "busybox", ..Image::default() })
}

pub(crate) fn image(wanted: Image<'_>) -> Option<String> {
    match testimage::image(wanted) {
        Ok(name) => Some(name),
        Err(why) => {
            assert!(std::env::var_os("LOOM_TESTS_NEED_DOCKER").is_none(), "{why}");
            eprintln!("skipped, since there is no Docker daemon to test with: {why}");
            None
        }
    }
}

/// A repository with `jobs`, all of which run in `image` unless they say otherwise.
pub(crate) fn in_image(image: &str, jobs: &str) -> TestEnv {
    env(&format!("version: v1\nstages: [ci, later]\ndefault: {{target: linux, image: '{image}'}}\n{jobs}"))
}

pub(crate) fn of_steps(image: &str, keys: &str, steps: &[&str]) -> TestEnv {
    let steps: String =
        steps.iter().map(|step| format!("    - {}\n", serde_json::to_string(step).unwrap())).collect();
    in_image(image, &format!("job:\n  stage: ci\n{keys}  script:\n{steps}"))
}

/// What the daemon has of a run.
pub(crate) fn left(run_id: &str) -> Vec<String> {
    left_at(SOCKET, run_id)
}

/// What the daemon that listens on `socket` has of a run.
pub(crate) fn left_at(socket: &str, run_id: &str) -> Vec<String> {
    let filters = format!("filters=%7B%22label%22%3A%5B%22loom.run_id%3D{run_id}%22%5D%7D");
    let paths = ["/containers/json?all=1&", "/networks?", "/volumes?"];
    let ask = |path: &str| testimage::request(socket, "GET", &format!("{path}{filters}"), b"").unwrap().1;
    paths.into_iter().map(ask).filter(|answer| answer.contains(run_id)).collect()
}

/// The run, of which the daemon has nothing any more.
pub(crate) fn clean(run: RunOutput) -> RunOutput {
    assert_eq!(left(&run.run.run_id()), [""; 0]);
    run
}

pub(crate) fn passed(run: RunOutput) -> RunOutput {
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    clean(run)
}

/// Waits until a step of the job `job` has printed `word`, and returns the run's folder.
pub(crate) fn wait_for_step(env: &TestEnv, word: &str) -> PathBuf {
    let mut folder = PathBuf::new();
    wait_for("the step", || {
        let Some(run) = env.run_dirs().pop() else { return false };
        let events = run.join("jobs/job/user/execution/script/01/events.jsonl");
        folder = run;
        std::fs::read_to_string(events).is_ok_and(|text| text.contains(word))
    });
    folder
}

/// The container of the job `job` of a run that goes on.
pub(crate) fn container_of(run: &Path) -> String {
    let provider = std::fs::read_to_string(run.join("jobs/job/system/provider/events.jsonl")).unwrap();
    let (_, id) = provider.split_once("\"container_id\":\"").unwrap();
    id[..64].to_owned()
}

#[test]
fn steps_run_in_the_image_each_in_a_shell_of_its_own() {
    let Some(image) = busybox() else { return };
    let env = of_steps(
        &image,
        "",
        &[
            "pwd; cat tracked; echo one > made; x=1; for link in out far root none; do readlink $link; done",
            "cat made; echo ${x-none}",
            "echo out; echo err >&2\nfalse\necho never",
        ],
    );
    env.write("tracked", "of the repository\n");
    // Links stay what they are, wherever they lead.
    for (name, target) in
        [("out", "../sibling"), ("far", "../../../../etc"), ("root", "/etc"), ("none", "absent")]
    {
        std::os::unix::fs::symlink(target, env.repo().join(name)).unwrap();
    }
    env.commit_all();
    let run = clean(env.run(&[]));
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    assert_eq!(
        run.run.output("job", "01"),
        ["/workspace", "of the repository", "../sibling", "../../../../etc", "/etc", "absent"]
    );
    assert_eq!(run.run.output("job", "02"), ["one", "none"]);
    let mut last = run.run.output("job", "03");
    last.sort();
    assert_eq!(last, ["err", "out"]);
    let job = run.run.job("job");
    assert_eq!(job.error.unwrap().code, code::STEP_EXIT_NONZERO);
    assert!(!env.repo().join("made").exists());
}

#[test]
fn variables_are_those_of_image_and_workflow_and_none_of_the_host() {
    let Some(image) =
        image(Image { name: "with-env", changes: &["ENV FROM_IMAGE=of-the-image"], ..Image::default() })
    else {
        return;
    };
    let env = of_steps(
        &image,
        "  variables: {A: '$FROM_IMAGE/$B', B: b, C: '<$HIDDEN>'}\n",
        &[
            "echo \"$A $C ${HIDDEN-none} $FROM_IMAGE $PATH\"",
            "echo \"$LOOM_JOB_IMAGE $CI_JOB_IMAGE $LOOM_PROJECT_DIR $CI_PROJECT_DIR $LOOM_JOB_ID $LOOM_PROVIDER $CI\"",
        ],
    );
    let mut loom = env.loom(&["run", "--local"]);
    loom.command.env("HIDDEN", "of the host");
    let run = passed(loom.run());
    assert_eq!(run.run.output("job", "01"), ["of-the-image/b <> none of-the-image /bin"]);
    assert_eq!(
        run.run.output("job", "02"),
        [format!("{image} {image} /workspace /workspace job docker true")]
    );
    let said = said_by_provider(&run, "job");
    assert!(said.iter().any(|text| text.contains("`HIDDEN` is referred to but not set")), "{said:?}");
    assert!(said.iter().any(|text| text.starts_with(&format!("image `{image}` was there: "))), "{said:?}");
    assert!(said.iter().any(|text| text.starts_with("container loom-job-job-")), "{said:?}");
}

#[test]
fn secrets_are_files_of_the_containers_user_alone_or_variables_and_nowhere_else() {
    let Some(image) = busybox() else { return };
    let with_user =
        self::image(Image { name: "with-user", changes: &["USER user"], ..Image::default() }).unwrap();
    let images = [
        (format!("'{image}'"), 0),
        (format!("{{name: '{image}', user: '1234'}}"), 1234),
        (format!("{{name: '{image}', user: 'user'}}"), 1000),
        (format!("'{with_user}'"), 1000),
    ];
    for (image, uid) in images {
        for mount in ["ephemeral_volume", "bind_mount"] {
            let env = env(&format!(
                "version: v1\nstages: [ci]\njob:\n  stage: ci\n  target: linux\n  image: {image}\n  secrets:\n    \
                 FILE: {{ref: env://SOURCE}}\n    VALUE: {{ref: env://OTHER, file: false}}\n  script:\n    \
                 - 'echo \"$FILE\"; cat \"$FILE\"; echo; echo \"$VALUE\"'\n    \
                 - 'echo x > \"$FILE\" || echo refused; stat -c \"%a %u\" \"$FILE\" /run/loom/secrets'\n"
            ));
            env.plant_variable("SOURCE", "what is in the file");
            env.plant_variable("OTHER", "what is in the variable");
            let run = passed(env.run(&["--docker-workspace-mount", mount]));
            assert_eq!(
                run.run.output("job", "01"),
                ["/run/loom/secrets/FILE", "[REDACTED:SECRET_FILE]", "[REDACTED:SECRET_VALUE]"]
            );
            let said = run.run.output("job", "02");
            for line in ["refused", &format!("600 {uid}"), &format!("700 {uid}")] {
                assert!(said.iter().any(|text| text == line), "{image}, {mount}: {said:?}");
            }
        }
    }
}

#[test]
fn a_volume_is_the_jobs_own_and_who_runs_it_may_write() {
    let Some(image) = busybox() else { return };
    let env = in_image(
        &image,
        &format!(
            "first: {{stage: ci, script: ['echo x > made; ls']}}\n\
             second: {{stage: later, image: {{name: '{image}', user: '1234'}}, script: ['ls; id -u; echo y > made; stat -c %u . tracked']}}\n"
        ),
    );
    env.write("tracked", "");
    let run = passed(env.run(&[]));
    assert_eq!(run.run.output("first", "01"), ["made", "tracked"]);
    assert_eq!(run.run.output("second", "01"), ["tracked", "1234", "1234", "1234"]);
}

/// What the provider of the job `job` said.
pub(crate) fn said_by_provider(run: &RunOutput, job: &str) -> Vec<String> {
    let said = run.run.events(&format!("jobs/{job}/system/provider/events.jsonl"));
    said.into_iter().filter_map(|event| event.message).collect()
}

#[test]
fn a_volume_is_a_layer_over_the_workspace_and_keeps_what_is_written() {
    let Some(image) = busybox() else { return };
    let see = "cat file folder/below; ls -A | sort";
    let jobs = format!(
        "first: {{stage: ci, script: ['{see}', 'echo other > file; mv folder moved; rm gone; ln -s file link; ls -A | sort; cat moved/below']}}\n\
         second: {{stage: later, artifacts: {{paths: ['*']}}, script: ['{see}', 'echo more >> folder/below']}}\n"
    );
    let fill = |env: &TestEnv| {
        for (path, text) in [("file", "one\n"), ("folder/below", "two\n"), ("gone", "")] {
            env.write(path, text);
        }
    };
    let as_it_was = ["one", "two", ".loom", "file", "folder", "gone"];
    let env = in_image(&image, &jobs);
    fill(&env);
    let run = passed(env.run(&[]));
    assert_eq!(run.run.output("first", "01"), as_it_was);
    assert_eq!(run.run.output("first", "02"), [".loom", "file", "link", "moved", "two"]);
    assert_eq!(run.run.output("second", "01"), as_it_was);
    let kept = run.run.dir.join("jobs/second/artifacts");
    assert_eq!(std::fs::read_to_string(kept.join("folder/below")).unwrap(), "two\nmore\n");
    let said = said_by_provider(&run, "first");
    assert!(
        said.contains(
            &"workspace mount `ephemeral_volume`: a layer over the run's copy of the repository".to_owned()
        ),
        "{said:?}"
    );

    // Where a job works in that copy itself, the others have their files sent.
    let env = in_image(
        &image,
        &format!("{jobs}host: {{stage: ci, image: '', script: ['echo by the host > file']}}\n"),
    );
    fill(&env);
    let run = passed(env.run(&["--jobs", "1"]));
    assert_eq!(run.run.output("first", "01"), as_it_was);
    assert_eq!(run.run.output("second", "01")[0], "by the host");
    let said = said_by_provider(&run, "first");
    assert!(
        said.iter().any(|text| text.starts_with("workspace mount `ephemeral_volume`: sent as 4 files, ")),
        "{said:?}"
    );
}

/// Most images' first user and most developers have the same number.
#[test]
fn a_volume_is_a_layer_also_for_the_user_whose_the_files_are() {
    use std::os::unix::fs::MetadataExt as _;
    let Some(image) = busybox() else { return };
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped, since it takes root to run Loom as another user");
        return;
    }
    let write = "script: ['cat file; echo more >> file; mkdir made; stat -c %u . file made']";
    let kept = "cache: {key: k, paths: [made]}, artifacts: {paths: [file]}";
    let job = |stage: &str, user: &str, rest: &str| {
        format!("{{stage: {stage}, image: {{name: '{image}', user: '{user}'}}, {rest}}}\n")
    };
    let jobs = [
        format!("name: {}", job("ci", "user", &format!("{kept}, {write}"))),
        format!("number: {}", job("ci", "1000:5", write)),
        format!("other: {}", job("ci", "1234", write)),
        format!(
            "again: {}",
            job("later", "user", &format!("{kept}, script: ['stat -c %u made; rmdir made']"))
        ),
    ];
    let group = std::fs::metadata(SOCKET).unwrap().gid();
    // The image's `user` is the user 1000.
    for (own, named) in [(1000, "a layer over"), (2000, "sent as")] {
        let env = in_image(&image, &jobs.concat());
        env.write("file", "text\n");
        let become_user = format!("exec setpriv --reuid {own} --regid {own} --groups {group} \"$0\" \"$@\"");
        let loom = env.loom(&["run", "--local", "--jobs", "1"]).for_user(own).after(&become_user);
        let run = passed(RunOutput::of(&env, &loom.output()));
        for (job, owner, how) in [
            ("name", "1000", named),
            ("number", "1000", named),
            ("other", "1234", "sent as"),
            ("again", "1000", named),
        ] {
            let said = said_by_provider(&run, job);
            assert!(said.iter().any(|text| text.contains(how)), "{own}, {job}: {said:?}");
            if job != "again" {
                assert_eq!(run.run.output(job, "01"), ["text", owner, owner, owner], "{own}, {job}");
            }
        }
        assert_eq!(run.run.output("again", "01"), ["1000"]);
        let kept = run.run.dir.join("jobs/name/artifacts/file");
        assert_eq!(std::fs::read_to_string(kept).unwrap(), "text\nmore\n");
    }
}

#[test]
fn a_bind_mount_is_shared_and_belongs_to_the_user_afterwards() {
    let Some(image) = busybox() else { return };
    let env = in_image(
        &image,
        "first: {stage: ci, script: ['mkdir -p made/below; echo x > made/below/file; chown -R 4321 made']}\n\
         second: {stage: later, image: '', script: ['cat made/below/file; stat -c %u made made/below made/below/file']}\n",
    );
    let run = passed(env.run(&["--docker-workspace-mount", "bind_mount"]));
    let me = rustix::process::getuid().as_raw().to_string();
    assert_eq!(run.run.output("second", "01"), ["x", &me, &me, &me]);
}

/// The image's user is not who owns the run's copy of the repository.
#[test]
fn a_bind_mount_belongs_to_the_images_user_while_the_steps_run() {
    let Some(image) = busybox() else { return };
    let user = format!("image: {{name: '{image}', user: '1234'}}");
    let jobs = format!(
        "first: {{stage: ci, {user}, artifacts: {{paths: [out]}}, cache: {{key: k, paths: [kept]}}, script: ['cat private; mkdir -p out kept; echo a > out/a; echo c > kept/c; echo more >> private', 'stat -c %u . private out/a']}}
beside: {{stage: ci, script: ['touch by-root; stat -c %u by-root']}}
second: {{stage: later, {user}, needs: [{{job: first, artifacts: true}}], cache: {{key: k, paths: [kept]}}, script: ['cat private out/a kept/c; echo b > out/b; rm -r kept/c']}}\n"
    );
    let fill = |env: &TestEnv| {
        use std::os::unix::fs::PermissionsExt as _;
        env.write("private", "of the user\n");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(env.repo().join("private"), private).unwrap();
    };
    let mount = ["--docker-workspace-mount", "bind_mount"];
    let env = in_image(&image, &jobs);
    fill(&env);
    let run = passed(env.run(&mount));
    assert!(!run.stderr.contains("warning"), "{}", run.stderr);
    assert_eq!(run.run.output("first", "01"), ["of the user"]);
    assert_eq!(run.run.output("first", "02"), ["1234"; 3]);
    assert_eq!(run.run.output("second", "01"), ["of the user", "more", "a", "c"]);
    assert_eq!(run.run.job("first").artifacts.unwrap().count, 1);
    let said = said_by_provider(&run, "first");
    let how = "workspace mount `bind_mount`: the run's copy of the repository itself";
    assert!(said.iter().any(|text| text == how), "{said:?}");

    // It cannot be given to one user where jobs on the host are at work in it.
    let env = in_image(&image, &format!("{jobs}host: {{stage: ci, image: '', script: ['true']}}\n"));
    fill(&env);
    let run = clean(env.run(&mount));
    assert!(run.stderr.contains("cannot be given to the user 1234"), "{}", run.stderr);
    assert!(run.stderr.contains("with `ephemeral_volume` instead"), "{}", run.stderr);
}

#[test]
fn caches_and_artifacts_go_in_and_come_out_of_the_volume() {
    let Some(image) = busybox() else { return };
    let env = in_image(
        &image,
        "make:
  stage: ci
  cache: {key: k, paths: [kept]}
  artifacts: {paths: ['out/**', absent], exclude: ['out/no']}
  script:
    - 'cat kept/counter || true; ls kept || true'
    - 'mkdir -p kept/sub out/deep; test -e kept/counter || echo 1 > kept/counter; echo a > out/deep/a; echo b > out/no'
    - 'test -L kept/link || ln -s counter kept/link; test -L kept/sh || ln -s /bin/sh kept/sh; kept/sh -c true'
take:
  stage: later
  needs: [{job: make, artifacts: true}]
  script: ['cat out/deep/a; ls out']
",
    );
    let first = passed(env.run(&[]));
    assert_eq!(first.run.output("take", "01"), ["a", "deep"]);
    let artifacts = first.run.job("make").artifacts.unwrap();
    assert_eq!(artifacts.count, 1);
    assert_eq!(std::fs::read_to_string(first.run.dir.join("jobs/make/artifacts/out/deep/a")).unwrap(), "a\n");
    env.write("kept/surplus", "of the repository");
    let second = passed(env.run(&[]));
    assert_eq!(second.run.output("make", "01"), ["1", "counter", "link", "sh", "sub"]);
    let sections = second.run.job("make").system_sections;
    let save = sections.iter().find(|section| section.section.as_str() == "cache_save").unwrap();
    assert_eq!((save.status, save.skip_reason), (Status::Skipped, Some(SkipReason::CacheUnchanged)));
}

#[test]
fn what_cannot_be_run_is_told_with_what_to_do() {
    let Some(_) = busybox() else { return };
    let no_shell = image(Image { name: "no-shell", programs: Some(&["true"]), ..Image::default() }).unwrap();
    let table = [
        ("loom-test/does-not-exist:1".to_owned(), "pull the image `loom-test/does-not-exist:1`", ""),
        (no_shell, "`sh`", "take an image that has `sh`"),
        ("Not/A/Name".to_owned(), "Not/A/Name", ""),
    ];
    for (image, words, hint) in table {
        let run = clean(of_steps(&image, "", &["true"]).run(&[]));
        assert_eq!(run.exit_code, 1, "{}", run.stderr);
        let job = run.run.job("job");
        // A shell that is missing may be found out only by the first step.
        let section = job.failing_section.map_or("step".to_owned(), |section| section.as_str().to_owned());
        assert!(section == "provider" || hint.contains("`sh`"), "{image}: {}", run.stderr);
        let error = job.error.unwrap();
        assert!(error.message.contains(words), "{error:?}");
        assert!(error.hint.unwrap_or_default().contains(hint), "{image}");
    }
}

#[test]
fn a_step_that_takes_too_long_is_ended_in_its_container() {
    let Some(image) = busybox() else { return };
    let env = of_steps(
        &image,
        "  timeout: {step: 1500ms}\n",
        &["trap 'echo asked; exit 1' TERM; echo begun; while :; do sleep 0.1; done"],
    );
    let run = clean(env.run(&[]));
    let output = run.run.output("job", "01");
    assert!(output[0] == "begun" && output.contains(&"asked".to_owned()), "{output:?}");
    assert_eq!(run.run.job("job").error.unwrap().code, "STEP_TIMEOUT");
}

#[test]
fn a_signal_ends_the_steps_in_containers_and_leaves_nothing() {
    let Some(image) = busybox() else { return };
    for signals in [1, 2] {
        // The second signal kills what does not want to end.
        let env = of_steps(&image, "", &["trap 'echo asked' TERM; echo begun; while :; do sleep 0.1; done"]);
        let child = env.loom(&["run", "--local"]).spawn();
        wait_for_step(&env, "begun");
        for _ in 0..signals {
            kill_process(Pid::from_child(&child), Signal::INT).unwrap();
            // That it was asked shows that the first one has arrived.
            wait_for_step(&env, "\"asked\"");
        }
        let run = clean(RunOutput::of(&env, &child.output()));
        assert_eq!(run.exit_code, 130, "{}", run.stderr);
        assert_eq!(run.run.job("job").status, Status::Cancelled);
    }
}

#[test]
fn what_a_killed_loom_has_left_is_removed_by_the_next_run() {
    let Some(image) = busybox() else { return };
    let env = of_steps(&image, "", &["echo begun; [ -e go ] || sleep 1000"]);
    let mut child = env.loom(&["run", "--local"]).spawn();
    let run_id = wait_for_step(&env, "begun").file_name().unwrap().to_str().unwrap().to_owned();
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.exit();
    assert!(!left(&run_id).is_empty());
    env.write("go", "");
    passed(env.run(&[]));
    wait_for("the end of the sweep", || left(&run_id).is_empty());
}

#[test]
fn what_a_killed_loom_has_left_is_removed_by_clean() {
    let Some(image) = busybox() else { return };
    let env = of_steps(&image, "", &["echo begun; sleep 1000"]);
    let mut child = env.loom(&["run", "--local"]).spawn();
    let run_id = wait_for_step(&env, "begun").file_name().unwrap().to_str().unwrap().to_owned();
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.exit();
    let there = left(&run_id);
    assert!(!there.is_empty());
    let said = env.loom(&["clean", "--dry-run"]).output();
    assert_eq!(said.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&said.stdout).contains("1 killed runs left with Docker"), "{said:?}");
    assert_eq!(left(&run_id).len(), there.len());
    let cleaned = env.loom(&["clean"]).output();
    assert_eq!(cleaned.status.code(), Some(0), "{cleaned:?}");
    assert!(left(&run_id).is_empty(), "{cleaned:?}");
    let ledgers = env.home().join(".cache/loom/runs");
    assert_eq!(std::fs::read_dir(ledgers).unwrap().count(), 0);
}

#[test]
fn a_container_that_is_killed_from_outside_fails_the_job_by_name() {
    let Some(image) = busybox() else { return };
    let env = of_steps(&image, "", &["echo begun; sleep 1000"]);
    let child = env.loom(&["run", "--local"]).spawn();
    let container = container_of(&wait_for_step(&env, "begun"));
    testimage::request(SOCKET, "POST", &format!("/containers/{container}/kill"), b"").unwrap();
    let run = clean(RunOutput::of(&env, &child.output()));
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    let error = run.run.job("job").error.unwrap();
    assert_eq!(error.code, "CONTAINER_GONE", "{error:?}");
}

#[test]
fn much_output_and_many_jobs_at_once_get_through() {
    let Some(image) = busybox() else { return };
    let name = "n".repeat(64);
    let env = in_image(
        &image,
        &format!(
            "{name}: {{stage: ci, script: ['yes 0123456789012345678901234567890123456789 | head -n 200000']}}\n\
             many: {{stage: ci, parallel: {{matrix: [{{N: ['1', '2', '3', '4', '5']}}]}}, script: ['echo $N']}}\n"
        ),
    );
    let run = passed(env.run(&["--jobs", "6"]));
    assert_eq!(run.run.output(&name, "01").len(), 200_000);
    assert_eq!(run.run.statuses().len(), 6);
}

#[test]
fn an_entrypoint_of_the_workflow_runs_before_the_shell_and_the_images_own_does_not() {
    let own = b"#!/bin/sh\nexport FROM_ENTRYPOINT=yes\nexec \"$@\"\n";
    let Some(image) = image(Image {
        name: "entrypoint",
        files: &[("bin/enter", own)],
        changes: &["ENTRYPOINT [\"/bin/false\"]"],
        ..Image::default()
    }) else {
        return;
    };
    passed(of_steps(&image, "", &["true"]).run(&[]));
    let env = env(&format!(
        "version: v1\nstages: [ci]\njob:\n  stage: ci\n  target: linux\n  image: {{name: '{image}', entrypoint: [/bin/enter]}}\n  \
         script: ['tr \"\\\\0\" \"\\\\n\" < /proc/1/environ | grep -c FROM_ENTRYPOINT || ps']\n"
    ));
    passed(env.run(&[]));
    env.write(
        ".loom/workflow.yml",
        &format!("version: v1\nstages: [ci]\njob: {{stage: ci, target: linux, image: {{name: '{image}', entrypoint: [/no/such]}}, script: ['true']}}\n"),
    );
    let run = clean(env.run(&[]));
    assert_eq!(run.exit_code, 1);
    assert!(run.stderr.contains("cannot start `/no/such` in the container"), "{}", run.stderr);
}

#[test]
fn an_image_is_built_with_what_the_workflow_says_and_its_log_is_kept() {
    let Some(image) = busybox() else { return };
    // New each time, so that no step comes from the daemon's cache.
    let word = format!(
        "given-{}-{:?}",
        std::process::id(),
        std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos()
    );
    let build = "{name: loom-test/built, build: {context: ctx, dockerfile: ctx/Special, args: {WORD: WORD_HERE}, target: first}}".replace("WORD_HERE", &word);
    let env = in_image(
        &image,
        &format!(
            "make: {{stage: ci, image: {build}, script: ['cat /word; ls /ctx; echo $FROM_BUILD']}}\n\
             use: {{stage: later, image: loom-test/built, script: ['cat /word']}}\n"
        ),
    );
    env.write(
        "ctx/Special",
        &format!(
            "FROM {image} AS first\nARG WORD\nENV FROM_BUILD=yes\nRUN echo the word is $WORD && echo $WORD > /word\nCOPY . /ctx\nFROM first\nRUN false\n"
        ),
    );
    env.write("ctx/.dockerignore", "ignored\n");
    env.write("ctx/kept", "");
    env.write("ctx/ignored", "");
    let run = passed(env.run(&[]));
    let output = run.run.output("make", "01");
    assert_eq!((output[0].as_str(), output.last().map(String::as_str)), (word.as_str(), Some("yes")));
    assert!(output.contains(&"kept".to_owned()) && !output.contains(&"ignored".to_owned()), "{output:?}");
    assert_eq!(run.run.output("use", "01"), [word.as_str()]);
    let log = run.run.events("jobs/make/system/image_build/events.jsonl");
    let log: Vec<String> = log.into_iter().filter_map(|event| event.line).collect();
    assert!(log.iter().any(|line| *line == format!("the word is {word}")), "{log:?}");

    env.write("ctx/Special", &format!("FROM {image} AS first\nRUN echo so && exit 7\n"));
    let run = clean(env.run(&[]));
    assert_eq!(run.exit_code, 1);
    let job = run.run.job("make");
    assert_eq!(
        job.failing_section.map(|section| section.as_str().to_owned()).as_deref(),
        Some("image_build")
    );
    let error = job.error.unwrap();
    assert_eq!(error.code, "IMAGE_BUILD_FAILED");
    assert!(error.message.contains(" RUN echo so && exit 7`"), "{error:?}");

    std::os::unix::fs::symlink("/etc", env.repo().join("link")).unwrap();
    for (context, dockerfile, words) in [
        ("link", "ctx/Special", "leads out of the workspace"),
        ("ctx", "other", "not below the context"),
        ("ctx", "ctx/absent", "absent"),
    ] {
        env.write("other", "FROM x\n");
        let build =
            format!("{{name: loom-test/built, build: {{context: '{context}', dockerfile: {dockerfile}}}}}");
        env.write(
            ".loom/workflow.yml",
            &format!("version: v1\nstages: [ci]\nmake: {{stage: ci, target: linux, image: {build}, script: ['true']}}\n"),
        );
        let run = env.run(&[]);
        assert_eq!(run.exit_code, 1, "{}", run.stderr);
        assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
    }
}

#[test]
fn the_receipt_names_the_image_of_each_job() {
    let Some(image) = busybox() else { return };
    let name = format!("loom-test/digest-{}", std::process::id());
    let env = in_image(
        &image,
        &format!(
            "local: {{stage: ci, script: ['true']}}
built: {{stage: ci, image: {{name: '{name}', build: {{context: ctx, dockerfile: ctx/Dockerfile}}}}, script: ['true']}}
host: {{stage: ci, image: '', script: ['true']}}
missing: {{stage: ci, allow_failure: true, image: 'loom-test/does-not-exist:1', script: ['true']}}\n"
        ),
    );
    env.write("ctx/Dockerfile", &format!("FROM {image}\nRUN true\n"));
    let run = passed(env.run(&[]));
    let jobs = &run.run.receipt.executor_receipt.jobs;
    let digest = |job: &str| jobs.iter().find(|(id, _)| id.as_str() == job).unwrap().1.image_digest.clone();
    for (job, image) in [("local", &image), ("built", &name)] {
        let (_, inspected) =
            testimage::request(SOCKET, "GET", &format!("/images/{image}/json"), b"").unwrap();
        let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
        assert_eq!(digest(job).as_deref(), inspected["Id"].as_str(), "{job}");
    }
    assert_eq!((digest("host"), digest("missing")), (None, None));
    testimage::request(SOCKET, "DELETE", &format!("/images/{name}"), b"").unwrap();
}

/// No program of an image gets more rights than who starts it, and no job takes all of the machine's processes.
#[test]
fn containers_have_limits() {
    let Some(image) = busybox() else { return };
    let env = in_image(
        &image,
        &format!(
            "job: {{stage: ci, services: [{{name: '{image}', alias: db, command: [sleep, '1000']}}], script: ['grep NoNewPrivs /proc/self/status; echo now; sleep 1000']}}\n"
        ),
    );
    let child = env.loom(&["run", "--local"]).spawn();
    let run = wait_for_step(&env, "now");
    let ask = |path: &str| -> serde_json::Value {
        serde_json::from_str(&testimage::request(SOCKET, "GET", path, b"").unwrap().1).unwrap()
    };
    let id = run.file_name().unwrap().to_string_lossy().into_owned();
    let listed = ask(&format!("/containers/json?filters=%7B%22label%22%3A%5B%22loom.run_id%3D{id}%22%5D%7D"));
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    for container in listed.as_array().unwrap() {
        let host =
            ask(&format!("/containers/{}/json", container["Id"].as_str().unwrap()))["HostConfig"].clone();
        assert_eq!(host["SecurityOpt"][0], "no-new-privileges", "{host}");
        assert_eq!(host["PidsLimit"], 8192, "{host}");
        assert_eq!(host["Privileged"], false, "{host}");
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let run = clean(RunOutput::of(&env, &child.output()));
    assert!(run.run.output("job", "01")[0].ends_with('1'), "{:?}", run.run.output("job", "01"));
}

/// The user goes on with an image that a run has built, as the README says: what they make of it is theirs.
#[test]
fn containers_that_the_user_makes_of_a_built_image_are_left_alone() {
    let Some(image) = busybox() else { return };
    let name = format!("loom-test/users-{}", std::process::id());
    let env = in_image(
        &image,
        &format!(
            "make: {{stage: ci, image: {{name: '{name}', build: {{context: ctx, dockerfile: ctx/Dockerfile}}}}, script: ['true']}}\n"
        ),
    );
    env.write(
        "ctx/Dockerfile",
        &format!("FROM {image}\nVOLUME /data\nCMD echo precious > /data/db; sleep 600\n"),
    );
    let ask = |method: &str, path: &str, body: &str| {
        let (status, answer) = testimage::request(SOCKET, method, path, body.as_bytes()).unwrap();
        assert!(status < 300, "{method} {path}: {answer}");
        answer
    };
    let build = || {
        passed(env.run(&[]));
        let built: serde_json::Value =
            serde_json::from_str(&ask("GET", &format!("/images/{name}/json"), "")).unwrap();
        let labels = built["Config"]["Labels"].to_string();
        assert!(!labels.contains("loom"), "{labels}");
        built["Id"].as_str().unwrap().to_owned()
    };
    let first = build();
    let container = format!("users-db-{}", std::process::id());
    ask("POST", &format!("/containers/create?name={container}"), &format!(r#"{{"Image":"{name}"}}"#));
    ask("POST", &format!("/containers/{container}/start"), "");
    // The same input is the same image, and a sweep, of this repository and of another one, finds nothing to remove.
    assert_eq!(build(), first);
    passed(of_steps(&image, "", &["true"]).run(&[]));
    let there: serde_json::Value =
        serde_json::from_str(&ask("GET", &format!("/containers/{container}/json"), "")).unwrap();
    let volume = there["Mounts"][0]["Name"].as_str().unwrap();
    ask("GET", &format!("/volumes/{volume}"), "");
    assert_eq!(there["State"]["Running"], true, "{there}");
    ask("DELETE", &format!("/containers/{container}?force=1&v=1"), "");
    ask("DELETE", &format!("/images/{name}"), "");
}
